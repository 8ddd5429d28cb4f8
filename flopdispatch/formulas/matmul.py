"""Matrix products.

Letters: m rows, k inner, n columns, b batch.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.activation import gelu
from flopdispatch.formulas.bytes_moved import Mask, factor_gradients, weighted_gradients
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import COMPARISON
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("matmul")

Number = int | float | complex | bool


# Products


@rules.formula(*overloads("mm.default", "mm.dtype", "_int_mm.default"))
def mm(self: TensorSpec, mat2: TensorSpec) -> Cost:
    """Matrix product.

    Shapes: self (m, k), mat2 (k, n).
    Counts: m·n·k MACs.
    Example: (2, 4) by (4, 3) is 2·3·4 = 24 MACs.
    """
    (m, k), (_, n) = self.shape, mat2.shape
    return Cost(macs=m * n * k)


@rules.formula(*overloads("bmm.default", "bmm.dtype"))
def bmm(self: TensorSpec, mat2: TensorSpec) -> Cost:
    """Batched matrix product.

    Shapes: self (b, m, k), mat2 (b, k, n).
    Counts: b·m·n·k MACs.
    """
    (b, m, k), n = self.shape, mat2.shape[2]
    return Cost(macs=b * m * n * k)


@rules.formula(aten.mv.default)
def mv(self: TensorSpec) -> Cost:
    """Matrix by vector.

    Shapes: self (m, k), vec (k).
    Counts: m·k MACs.
    """
    m, k = self.shape
    return Cost(macs=m * k)


@rules.formula(aten.dot.default, aten.vdot.default)
def dot(self: TensorSpec) -> Cost:
    """Inner product of two vectors.

    Shapes: self (k).
    Counts: k MACs.
    Ignores: the conjugation in vdot, a change of sign.
    """
    (k,) = self.shape
    return Cost(macs=k)


@rules.formula(
    *overloads("_grouped_mm.default"), estimate="every row is taken to belong to a group"
)
def grouped_mm(
    self: TensorSpec, mat2: TensorSpec, bias: TensorSpec | None, result: TensorSpec
) -> Cost:
    """Products of the groups that `offs` cuts along rows, columns or the inner dimension.

    Shapes: of g groups with t rows altogether, (t, k) by (g, k, n); with t columns
    altogether, (g, m, k) by (k, t); with t inner altogether, (m, t) by (t, n). Without
    `offs`, (g, m, k) by (g, k, n).
    Counts: each row (column, inner index) belongs to one group, so t·k·n, m·k·t, m·t·n or
    g·m·k·n MACs; and one add per output for the bias.
    Ignores: `offs` may end before t; what lies behind isn't computed.
    Example: 6 rows of 2 by 3 matrices (2, 5) is 6·2·5 = 60 MACs.
    """
    (m, k), n = self.shape[-2:], mat2.shape[-1]
    products = self.shape[0] if self.ndim == 3 and mat2.ndim == 3 else 1
    return Cost(macs=products * m * k * n, adds=0 if bias is None else result.numel)


# Products added to something


def sum_bytes(
    self: TensorSpec, beta: Number, factors: tuple[TensorSpec, ...], result: TensorSpec
) -> tuple[int, int]:
    """beta = 0 skips what the product is added to; it may be memory that nothing was written to."""
    return size(factors, self if beta != 0 else None), size(result)


def addmm_bytes(
    self: TensorSpec, mat1: TensorSpec, mat2: TensorSpec, beta: Number, result: TensorSpec
) -> tuple[int, int]:
    """As `sum_bytes`."""
    return sum_bytes(self, beta, (mat1, mat2), result)


def addbmm_bytes(
    self: TensorSpec, batch1: TensorSpec, batch2: TensorSpec, beta: Number, result: TensorSpec
) -> tuple[int, int]:
    """As `sum_bytes`."""
    return sum_bytes(self, beta, (batch1, batch2), result)


def addmv_bytes(
    self: TensorSpec, mat: TensorSpec, vec: TensorSpec, beta: Number, result: TensorSpec
) -> tuple[int, int]:
    """As `sum_bytes`."""
    return sum_bytes(self, beta, (mat, vec), result)


def addr_bytes(
    self: TensorSpec, vec1: TensorSpec, vec2: TensorSpec, beta: Number, result: TensorSpec
) -> tuple[int, int]:
    """As `sum_bytes`."""
    return sum_bytes(self, beta, (vec1, vec2), result)


@rules.formula(*overloads("addmm.default", "addmm.dtype"), nbytes=addmm_bytes)
def addmm(
    mat1: TensorSpec, mat2: TensorSpec, beta: Number, alpha: Number, result: TensorSpec
) -> Cost:
    """beta·self + alpha·(mat1 @ mat2).

    Shapes: mat1 (m, k), mat2 (k, n), self broadcast to (m, n).
    Counts: the product, and the scaled sum.
    Example: (2, 4) by (4, 3) is 24 MACs and 6 adds.
    """
    return mm(mat1, mat2) + scaled_sum(result.numel, beta, alpha)


@rules.formula(*overloads("baddbmm.default", "baddbmm.dtype"), nbytes=addbmm_bytes)
def baddbmm(
    batch1: TensorSpec, batch2: TensorSpec, beta: Number, alpha: Number, result: TensorSpec
) -> Cost:
    """beta·self + alpha·(batch1 @ batch2).

    Shapes: batch1 (b, m, k), batch2 (b, k, n), self broadcast to (b, m, n).
    Counts: the products, and the scaled sum.
    """
    return bmm(batch1, batch2) + scaled_sum(result.numel, beta, alpha)


@rules.formula(aten.addbmm.default, nbytes=addbmm_bytes)
def addbmm(
    batch1: TensorSpec, batch2: TensorSpec, beta: Number, alpha: Number, result: TensorSpec
) -> Cost:
    """beta·self + alpha·(the sum of batch1 @ batch2 over the batch).

    Shapes: batch1 (b, m, k), batch2 (b, k, n), self broadcast to (m, n).
    Counts: each output is one weighted sum of b·k terms; then the scaled sum.
    """
    return bmm(batch1, batch2) + scaled_sum(result.numel, beta, alpha)


@rules.formula(aten.addmv.default, nbytes=addmv_bytes)
def addmv(mat: TensorSpec, beta: Number, alpha: Number, result: TensorSpec) -> Cost:
    """beta·self + alpha·(mat @ vec).

    Shapes: mat (m, k), vec (k), self broadcast to (m).
    Counts: the product, and the scaled sum.
    """
    return mv(mat) + scaled_sum(result.numel, beta, alpha)


@rules.formula(aten.addr.default, nbytes=addr_bytes)
def addr(beta: Number, alpha: Number, result: TensorSpec) -> Cost:
    """beta·self + alpha·(the outer product of vec1 and vec2).

    Shapes: vec1 (m), vec2 (n), self broadcast to (m, n).
    Counts: one mul per output, and the scaled sum. Nothing is summed, so there is no MAC.
    """
    return Cost(muls=result.numel) + scaled_sum(result.numel, beta, alpha)


def scaled_sum(outputs: int, beta: Number, alpha: Number) -> Cost:
    """beta·input + alpha·product per output; a factor of 1 isn't multiplied, beta = 0 skips input.

    Counts: one add per output, and one mul per output for each factor other than 1.
    """
    scaling = outputs if alpha != 1 else 0
    if beta == 0:
        return Cost(muls=scaling)
    return Cost(muls=scaling + (outputs if beta != 1 else 0), adds=outputs)


# Products with an activation in the same kernel


@rules.formula(*overloads("_addmm_activation.default"), nbytes=addmm_bytes)
def addmm_activation(
    mat1: TensorSpec,
    mat2: TensorSpec,
    *,
    beta: Number,
    alpha: Number,
    use_gelu: bool,
    result: TensorSpec,
) -> Cost:
    """ReLU, or GELU, of addmm.

    Shapes: as addmm.
    Counts: addmm, and the activation of each output: a comparison, or 3 muls, an add and an
    erf.
    Ignores: CUDA's kernel approximates GELU by tanh.
    """
    activation = gelu("none", result) if use_gelu else COMPARISON * result.numel
    return addmm(mat1, mat2, beta, alpha, result) + activation


# Linear layers that some backends keep whole


@rules.formula(*overloads("mkldnn_linear.default"))
def linear(self: TensorSpec, bias: TensorSpec | None, result: TensorSpec) -> Cost:
    """Product of each row with the weight, and the bias.

    Shapes: self (..., k), weight (n, k), bias (n), result (..., n).
    Counts: k MACs per output, and one add per output for the bias.
    """
    k = self.shape[-1]
    return Cost(macs=result.numel * k, adds=0 if bias is None else result.numel)


@rules.formula(*overloads("linear.default"))
def whole_linear(weight: TensorSpec, bias: TensorSpec | None, result: TensorSpec) -> Cost:
    """A linear layer that isn't taken apart: with `out=`, and of nested tensors.

    Shapes: input (..., k), weight (n, k), bias (n), result (..., n).
    Counts: as mkldnn_linear.
    """
    k = weight.shape[-1]
    return Cost(macs=result.numel * k, adds=0 if bias is None else result.numel)


@rules.formula(
    *overloads("linear_backward.default", "mkldnn_linear_backward.default"),
    nbytes=weighted_gradients,
)
def linear_backward(
    grad_output: TensorSpec, weight: TensorSpec, output_mask: tuple[bool, ...]
) -> Cost:
    """Gradients of a linear layer's input, weight and bias, as `output_mask` asks for.

    Shapes: grad_output (..., n), weight (n, k).
    Counts: the forward's MACs for each of input and weight; the bias sums the rows.
    """
    n, k = weight.shape
    product = Cost(macs=grad_output.numel * k)
    rows_sum = Cost(adds=folds(n, prod(grad_output.shape[:-1])))
    parts = (product, product, rows_sum)
    return sum((part for part, asked in zip(parts, output_mask) if asked), Cost())


def matmul_gradient_bytes(
    grad: TensorSpec,
    self: TensorSpec,
    other: TensorSpec,
    mask: Mask,
    result: tuple[TensorSpec | None, ...],
) -> tuple[int, int]:
    """Only what the gradients asked for need is read."""
    return factor_gradients(grad, self, other, mask, result)


@rules.formula(*overloads("matmul_backward.default"), nbytes=matmul_gradient_bytes)
def matmul_backward(grad: TensorSpec, self: TensorSpec, mask: tuple[bool, ...]) -> Cost:
    """Gradients of a matmul's factors, as `mask` asks for.

    Shapes: grad (..., m, n), self (..., m, k).
    Counts: the forward's MACs for each.
    """
    k = self.shape[-1]
    return Cost(macs=grad.numel * k) * sum(mask)


# Products of three


@rules.formula(aten._trilinear.default)
def trilinear(
    i1: TensorSpec,
    i2: TensorSpec,
    i3: TensorSpec,
    *,
    expand1: tuple[int, ...],
    expand2: tuple[int, ...],
    expand3: tuple[int, ...],
    sumdim: tuple[int, ...],
) -> Cost:
    """The sum over `sumdim` of i1·i2·i3, each without its `expand` dimensions: F.bilinear.

    Shapes: for F.bilinear i1 (b, i), i2 (o, i, j), i3 (b, j), result (b, o).
    Counts: i1·i2 is summed first, over the dimensions that i3 lacks, then times i3 over the
    others; without a dimension to sum over a product is a mul, not a MAC.
    Example: (2, 3), (5, 3, 4), (2, 4) is 2·5·3·4 + 2·5·4 = 160 MACs.
    """
    sizes = {
        **sizes_by_dimension(i1, expand1),
        **sizes_by_dimension(i2, expand2),
        **sizes_by_dimension(i3, expand3),
    }
    first = {d for d in sumdim if d in expand3}
    pairs = prod(size for d, size in sizes.items() if not (d in expand1 and d in expand2))
    triples = prod(size for d, size in sizes.items() if d not in first)
    return products(pairs, summed=bool(first)) + products(triples, summed=set(sumdim) != first)


def sizes_by_dimension(tensor: TensorSpec, expand: tuple[int, ...]) -> dict[int, int]:
    """The size of each dimension that the tensor has, once `expand` are inserted."""
    ndim = tensor.ndim + len(expand)
    return dict(zip((d for d in range(ndim) if d not in expand), tensor.shape))


def products(count: int, summed: bool) -> Cost:
    """`count` products: MACs if they are summed up, else muls."""
    return Cost(macs=count) if summed else Cost(muls=count)
