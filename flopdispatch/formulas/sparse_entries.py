"""Operators on the entries of sparse tensors: softmax of a row's, sorting them, moving them.

Letters: e entries, n stored elements: those of all entries, with their blocks and dense
dimensions. Work on indices is left out, but for the sort of `_coalesce`.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.ordering import SORT, ceil_log2
from flopdispatch.formulas.sparse import Taken, elements
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("sparse")

ROWS = "of unknown entries each row is taken to have one"


# Softmax over the entries of a row


def take_rows(self: torch.Tensor, dim: int) -> tuple[int]:
    """How many rows along `dim` have an entry; of dense dimensions each of theirs."""
    sparse, dim = self.sparse_dim(), dim % self.dim()
    indices, values = self._indices(), self._values()
    if dim >= sparse:
        return (values.numel() // max(self.shape[dim], 1),)
    others = [d for d in range(sparse) if d != dim]
    rows = indices[others].unique(dim=1).shape[1] if others else min(indices.shape[1], 1)
    return (rows * values[0].numel() if rows else 0,)


def are_rows_unknown(taken: Taken) -> bool:
    """Whether the indices weren't read."""
    return taken is None


def rows_of(tensor: TensorSpec, dim: int, taken: Taken) -> int:
    """Rows along a dimension that have an entry: all, if it isn't known."""
    if taken is not None:
        return taken[0]
    return min(elements(tensor), tensor.numel // max(tensor.shape[dim], 1))


@rules.formula(
    *overloads("_sparse_softmax.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_rows_unknown,
    takes=take_rows,
)
def sparse_softmax(self: TensorSpec, dim: int, taken: Taken) -> Cost:
    """Softmax of each row's entries; where there is none, x is −inf and stays 0.

    Counts, for a row of n: n − 1 comparisons; n subtractions; n exp; n − 1 additions; n divisions.
    """
    n = elements(self)
    others = combined(n, rows_of(self, dim, taken))
    return Cost(comparisons=others, adds=n + others, transcendentals=n, divs=n)


@rules.formula(
    *overloads("_sparse_log_softmax.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_rows_unknown,
    takes=take_rows,
)
def sparse_log_softmax(self: TensorSpec, dim: int, taken: Taken) -> Cost:
    """The logarithm of `sparse_softmax`.

    Counts, for a row of n: n − 1 comparisons; n subtractions; n exp; n − 1 additions; one log; n
    subtractions.
    """
    n, rows = elements(self), rows_of(self, dim, taken)
    others = combined(n, rows)
    return Cost(comparisons=others, adds=2 * n + others, transcendentals=n + rows)


@rules.formula(
    *overloads("_sparse_softmax_backward_data.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_rows_unknown,
    takes=take_rows,
)
def sparse_softmax_backward(output: TensorSpec, dim: int, taken: Taken) -> Cost:
    """dx = y·(dy − Σ y·dy), for each row.

    Counts, for a row of n: n products and n − 1 additions for the sum; n subtractions; n products.
    """
    n = elements(output)
    return Cost(muls=2 * n, adds=n + combined(n, rows_of(output, dim, taken)))


@rules.formula(
    *overloads("_sparse_log_softmax_backward_data.default"),
    layout="sparse",
    estimate=ROWS,
    estimated_if=are_rows_unknown,
    takes=take_rows,
)
def sparse_log_softmax_backward(output: TensorSpec, dim: int, taken: Taken) -> Cost:
    """dx = dy − exp(y)·Σ dy, for each row.

    Counts, for a row of n: n − 1 additions; n exp; n products; n subtractions.
    """
    n = elements(output)
    return Cost(adds=n + combined(n, rows_of(output, dim, taken)), muls=n, transcendentals=n)


# Entries of the same index


def take_entries(self: torch.Tensor) -> tuple[int]:
    """How many indices a tensor stores: what is sorted."""
    return (self._indices().shape[1],)


@rules.formula(*overloads("_coalesce.default"), layout="sparse", estimate=SORT, takes=take_entries)
def coalesce(self: TensorSpec, result: TensorSpec, taken: Taken) -> Cost:
    """Entries in the order of their indices, those of the same index added up.

    Counts: e·ceil(log2 e) comparisons for e entries, and an add for each element that is gone.
    Example: 5 entries of one element, two of them of the same index, are 15 comparisons, one add.
    """
    e = elements(self) if taken is None else taken[0]
    adds = combined(elements(self), elements(result))
    return Cost(comparisons=e * ceil_log2(e), adds=adds)


@rules.formula(*overloads("_sparse_csr_prod.dim_dtype"), layout="sparse")
def sparse_csr_prod(self: TensorSpec, result: TensorSpec) -> Cost:
    """Product of the stored elements of each row or column: all but the first of each."""
    return Cost(muls=combined(elements(self), elements(result)))


# What only moves entries, or reserves memory for them.
MOVED = """
    _sparse_sum_backward.default _spdiags.default copy_sparse_to_sparse.default
    sparse_coo_tensor.size_out _sparse_coo_tensor_with_dims.out
    _sparse_coo_tensor_with_dims_and_tensors.out
"""
rules.zero(*overloads(*MOVED.split()))

# Memory that is emptied, or given as indices and values and kept as it is.
KEPT = """
    sparse_resize_and_clear.default
    sparse_compressed_tensor.comp_plain_value_size sparse_compressed_tensor.comp_plain_value
"""
rules.zero(*overloads(*KEPT.split()), nbytes=nothing)
