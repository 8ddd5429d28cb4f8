"""Products with sparse factors, by the elements that these store.

Letters: m rows, k inner, n columns. Stored elements are those of all entries, with their blocks
and dense dimensions, zeros among them; entries of the same index count each.

A product of two sparse tensors depends on where their entries are: it is exact where the indices
can be read when the operator runs, else an estimate.
"""

from __future__ import annotations

from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.matmul import scaled_sum
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("sparse")

Number = int | float | complex | bool
Taken = tuple[int, ...] | None

PAIRS = "products of unknown entries are taken to be spread evenly: nnz·nnz / k"


def elements(tensor: TensorSpec) -> int:
    """How many elements a tensor stores, all of them if it is dense."""
    return tensor.numel if tensor.nnz is None else tensor.nnz


# Products


def matched_entries(left: Any, right: Any) -> tuple[int]:
    """Pairs of entries of (m, k) and (k, n) with the same inner index: each is a product.

    Raises: ValueError if not both are sparse.
    """
    if torch.strided in (left.layout, right.layout):
        raise ValueError("a dense matrix has all entries")
    columns, rows = left.to_sparse_coo()._indices()[1], right.to_sparse_coo()._indices()[0]
    inner = left.shape[1]
    per_index = columns.bincount(minlength=inner) * rows.bincount(minlength=inner)
    return (int(per_index.sum()),)


def product(left: TensorSpec, right: TensorSpec, taken: Taken) -> Cost:
    """Matrix product of which a factor is sparse, batched or not.

    Shapes: left (..., m, k), right (..., k, n).
    Counts: sparse by dense: nnz·n MACs; dense by sparse: m·nnz; sparse by sparse: one for each
    pair of entries with the same inner index.
    """
    if right.nnz is None:
        return Cost(macs=elements(left) * (right.shape[-1] if right.ndim > 1 else 1))
    if left.nnz is None:
        return Cost(macs=left.shape[-2] * right.nnz)
    if taken is not None:
        return Cost(macs=taken[0])
    return Cost(macs=left.nnz * right.nnz // max(left.shape[-1], 1))


def are_unknown(left: TensorSpec, right: TensorSpec, taken: Taken) -> bool:
    """Whether both factors are sparse and their indices weren't read."""
    return left.nnz is not None and right.nnz is not None and taken is None


def self_and_mat2_unknown(self: TensorSpec, mat2: TensorSpec, taken: Taken) -> bool:
    """`are_unknown`."""
    return are_unknown(self, mat2, taken)


def self_and_other_unknown(self: TensorSpec, other: TensorSpec, taken: Taken) -> bool:
    """`are_unknown`."""
    return are_unknown(self, other, taken)


def mat1_and_mat2_unknown(mat1: TensorSpec, mat2: TensorSpec, taken: Taken) -> bool:
    """`are_unknown`."""
    return are_unknown(mat1, mat2, taken)


def take_self_and_mat2(self: torch.Tensor, mat2: torch.Tensor) -> tuple[int]:
    """`matched_entries`."""
    return matched_entries(self, mat2)


def take_self_and_other(self: torch.Tensor, other: torch.Tensor) -> tuple[int]:
    """`matched_entries`."""
    return matched_entries(self, other)


def take_mat1_and_mat2(mat1: torch.Tensor, mat2: torch.Tensor) -> tuple[int]:
    """`matched_entries`."""
    return matched_entries(mat1, mat2)


@rules.formula(
    *overloads("mm.default", "bmm.default"),
    layout="sparse",
    estimate=PAIRS,
    estimated_if=self_and_mat2_unknown,
    takes=take_self_and_mat2,
)
def mm(self: TensorSpec, mat2: TensorSpec, taken: Taken) -> Cost:
    """Product of matrices: as `product`.

    Example: 4 entries by (3, 5) are 20 MACs.
    """
    return product(self, mat2, taken)


@rules.formula(
    *overloads("_sparse_sparse_matmul.default"),
    layout="sparse",
    estimate=PAIRS,
    estimated_if=self_and_other_unknown,
    takes=take_self_and_other,
)
def sparse_sparse_matmul(self: TensorSpec, other: TensorSpec, taken: Taken) -> Cost:
    """Product of two sparse matrices: one MAC for each pair of entries that meet."""
    return product(self, other, taken)


@rules.formula(*overloads("mv.default"), layout="sparse")
def mv(self: TensorSpec, vec: TensorSpec) -> Cost:
    """Sparse matrix by vector: nnz MACs."""
    return product(self, vec, None)


@rules.formula(*overloads("hspmm.default"), layout="sparse")
def hspmm(mat1: TensorSpec, mat2: TensorSpec) -> Cost:
    """Sparse by dense, of which the rows that aren't empty are kept: nnz·n MACs."""
    return product(mat1, mat2, None)


# Products added to something


def added(self: TensorSpec, result: TensorSpec, beta: Number, alpha: Number) -> Cost:
    """beta·self + alpha·product, as `scaled_sum`; of a sparse `self` its elements are added."""
    if self.nnz is None:
        return scaled_sum(elements(result), beta, alpha)
    scaled = Cost(muls=elements(result) if alpha != 1 else 0)
    return scaled_sum(self.nnz, beta, 1) + scaled


@rules.formula(
    *overloads("_sparse_addmm.default", "addmm.default"),
    layout="sparse",
    estimate=PAIRS,
    estimated_if=mat1_and_mat2_unknown,
    takes=take_mat1_and_mat2,
)
def addmm(
    self: TensorSpec,
    mat1: TensorSpec,
    mat2: TensorSpec,
    beta: Number,
    alpha: Number,
    result: TensorSpec,
    taken: Taken,
) -> Cost:
    """beta·self + alpha·(mat1 @ mat2).

    Counts: `product`; and for each element of a dense `self`, or stored one of a sparse, an add,
    and a mul for beta other than 1; a mul per element of the result for alpha other than 1.
    """
    return product(mat1, mat2, taken) + added(self, result, beta, alpha)


@rules.formula(*overloads("baddbmm.default"), layout="sparse")
def baddbmm(
    self: TensorSpec,
    batch1: TensorSpec,
    batch2: TensorSpec,
    beta: Number,
    alpha: Number,
    result: TensorSpec,
) -> Cost:
    """beta·self + alpha·(batch1 @ batch2): as `addmm`."""
    return addmm(self, batch1, batch2, beta, alpha, result, None)


@rules.formula(*overloads("addmv.default"), layout="sparse")
def addmv(
    self: TensorSpec,
    mat: TensorSpec,
    vec: TensorSpec,
    beta: Number,
    alpha: Number,
    result: TensorSpec,
) -> Cost:
    """beta·self + alpha·(mat @ vec): as `addmm`."""
    return addmm(self, mat, vec, beta, alpha, result, None)


@rules.formula(*overloads("sspaddmm.default", "sspaddmm.out"), layout="sparse")
def sspaddmm(
    self: TensorSpec,
    mat1: TensorSpec,
    mat2: TensorSpec,
    beta: Number,
    alpha: Number,
    result: TensorSpec,
) -> Cost:
    """beta·self + alpha·(mat1 @ mat2), the two side by side: their entries are not added up.

    Counts: nnz·n MACs; a mul per element of `self` or of the product for its factor,
    unless beta is 0.
    """
    scaled = elements(self) if beta not in (0, 1) else 0
    if alpha != 1:
        scaled += elements(result) - elements(self)
    return product(mat1, mat2, None) + Cost(muls=scaled)


@rules.formula(*overloads("sparse_sampled_addmm.default"), layout="sparse")
def sparse_sampled_addmm(self: TensorSpec, mat1: TensorSpec, beta: Number, alpha: Number) -> Cost:
    """beta·self + alpha·(mat1 @ mat2) where `self` has entries.

    Shapes: mat1 (m, k), mat2 (k, n).
    Counts: nnz·k MACs, and the scaled sum of each element.
    Example: 4 entries and k = 5 are 20 MACs and 4 adds.
    """
    return Cost(macs=elements(self) * mat1.shape[-1]) + scaled_sum(elements(self), beta, alpha)


# Products whose terms are averaged or compared


def take_rows(self: torch.Tensor) -> tuple[int]:
    """How many rows have an entry."""
    return (int((self.crow_indices().diff() > 0).sum()),)


def are_rows_unknown(reduce: str, taken: Taken) -> bool:
    """Whether the indices weren't read, and empty rows matter."""
    return reduce != "sum" and taken is None


def are_chosen_rows_unknown(reduce: str, taken: Taken) -> bool:
    """Whether the indices weren't read, and each row has one gradient a column."""
    return reduce in ("amax", "amin") and taken is None


ROWS = "of unknown entries all rows are taken to have one"


@rules.formula(
    *overloads("_sparse_mm_reduce_impl.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_rows_unknown,
    takes=take_rows,
)
def sparse_mm_reduce(self: TensorSpec, other: TensorSpec, reduce: str, taken: Taken) -> Cost:
    """The sum, mean, maximum or minimum of each row's products; 0 of an empty row.

    Shapes: self (m, k), other (k, n).
    Counts: nnz·n MACs; for rows that aren't empty, a mean divides every output; a maximum has
    nnz·n muls, and comparisons of all but each output's first.
    """
    n = other.shape[1]
    terms, out = elements(self) * n, n * (self.shape[0] if taken is None else taken[0])
    if reduce in ("amax", "amin"):
        return Cost(muls=terms, comparisons=combined(terms, out))
    return Cost(macs=terms, divs=out if reduce == "mean" else 0)


@rules.formula(
    *overloads("_sparse_mm_reduce_impl_backward.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_chosen_rows_unknown,
    takes=take_rows,
)
def sparse_mm_reduce_backward(
    self: TensorSpec,
    grad_out: TensorSpec,
    reduce: str,
    output_mask: tuple[bool, ...],
    taken: Taken,
) -> Cost:
    """The gradients of both factors of `sparse_mm_reduce`, as `output_mask` asks for.

    Shapes: self (m, k), grad_out (m, n).
    Counts, each: nnz·n MACs; of a mean a division per stored element; of a maximum a MAC for
    each output of a row that isn't empty, which has one term.
    """
    n, nnz = grad_out.shape[1], elements(self)
    if reduce in ("amax", "amin"):
        return Cost(macs=n * (self.shape[0] if taken is None else taken[0])) * sum(output_mask)
    return Cost(macs=nnz * n, divs=nnz if reduce == "mean" else 0) * sum(output_mask)


# Systems of equations


def take_triangle(A: torch.Tensor, upper: bool) -> tuple[int]:  # noqa: N803 (the schema's name)
    """How many elements a matrix stores above its diagonal, or below."""
    rows, columns = A.to_sparse_coo()._indices()[-2:]
    return (int((columns > rows if upper else columns < rows).sum()),)


def is_triangle_unknown(taken: Taken) -> bool:
    """Whether the indices weren't read."""
    return taken is None


@rules.formula(
    *overloads("triangular_solve.default"),
    layout="sparse",
    estimate="of unknown entries all are taken to be in the triangle, its diagonal among them",
    estimated_if=is_triangle_unknown,
    takes=take_triangle,
)
def triangular_solve(
    self: TensorSpec,
    A: TensorSpec,  # noqa: N803
    unitriangular: bool,
    taken: Taken,
) -> Cost:
    """The solution of A·X = self, A triangular: of its other triangle nothing is met.

    Shapes: self (m, n), A (m, m).
    Counts: for each column of X, a MAC per element that A stores in the triangle beside its
    diagonal, and a division per row unless the diagonal is ones.
    """
    m, n = self.shape[-2:]
    beside = combined(elements(A), m) if taken is None else taken[0]
    return Cost(macs=beside * n, divs=0 if unitriangular else m * n)


@rules.formula(
    *overloads("_spsolve.default"),
    layout="sparse",
    estimate="entries are taken to be spread evenly, and factors to have none more than the matrix",
)
def spsolve(
    A: TensorSpec,  # noqa: N803
    B: TensorSpec,  # noqa: N803
) -> Cost:
    """The solution of A·X = B by factors L·U of A.

    Shapes: A (m, m), B (m) or (m, n).
    Counts: a row of c = nnz/m elements meets half of them in half of the rows below: m·(c/2)² MACs
    and nnz/2 divisions; then for each column of X a MAC per element beside the diagonal, and m
    divisions.
    """
    m, nnz = A.shape[0], elements(A)
    columns = B.numel // max(m, 1)
    macs = nnz * nnz // (4 * max(m, 1)) + combined(nnz, m) * columns
    return Cost(macs=macs, divs=nnz // 2 + m * columns)
