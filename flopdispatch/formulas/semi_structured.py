"""Products with compressed weights: two of every four elements kept, or integers of few bits.

Of a matrix compressed two to four, half of the inner dimension is there and is multiplied. Which
elements are kept is a selection, which is no arithmetic.

Letters: m rows, k inner before compression, n columns.
"""

from __future__ import annotations

from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas.matmul import Number, scaled_sum
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.ordering import ceil_log2
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, SIGMOID
from flopdispatch.formulas.quantization import dynamically_quantized
from flopdispatch.formulas.quantized import INT_MAC
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("matmul")

Tensor = TensorSpec | None

ACTIVATIONS = {None: Cost(), "none": Cost(), "relu": COMPARISON, "silu": SIGMOID}


def half(k: int, result: TensorSpec, operand: TensorSpec) -> Cost:
    """k/2 MACs per output, in the type of what is multiplied."""
    return Cost(macs=result.numel * k // 2).in_dtype(operand.dtype)


def added(each: Cost, result: TensorSpec) -> Cost:
    """So much per output, in the type of the result."""
    return (each * result.numel).in_dtype(result.dtype)


@rules.formula(*overloads("_cslt_sparse_mm.default"), typed=False)
def cslt_mm(dense_B: TensorSpec, bias: Tensor, alpha: Tensor, result: TensorSpec) -> Cost:  # noqa: N803
    """alpha·(compressed A @ B) + bias.

    Shapes: dense_B (k, n), result (m, n) or transposed.
    Counts: m·n·k/2 MACs; a mul per output for alpha, an add for the bias.
    """
    each = (Cost() if alpha is None else MUL) + (Cost() if bias is None else ADD)
    return half(dense_B.shape[0], result, dense_B) + added(each, result)


@rules.formula(*overloads("_sparse_semi_structured_mm.default"), typed=False)
def mm(mat2: TensorSpec, result: TensorSpec) -> Cost:
    """Compressed by dense: mat2 (k, n), m·n·k/2 MACs."""
    return half(mat2.shape[0], result, mat2)


@rules.formula(*overloads("_sparse_semi_structured_addmm.default"), typed=False)
def addmm(mat2: TensorSpec, alpha: Number, beta: Number, result: TensorSpec) -> Cost:
    """beta·input + alpha·(compressed @ mat2): `mm`, and the scaled sum as in `addmm`."""
    scaled = scaled_sum(result.numel, beta, alpha).in_dtype(result.dtype)
    return mm(mat2, result) + scaled


@rules.formula(*overloads("_sparse_semi_structured_linear.default"), typed=False)
def linear(input: TensorSpec, bias: Tensor, activation: str | None, result: TensorSpec) -> Cost:
    """A linear layer with a compressed weight.

    Shapes: input (..., k), result (..., n).
    Counts: k/2 MACs per output; an add for the bias; a comparison for ReLU, a sigmoid's for SiLU.
    """
    each = ACTIVATIONS[activation] + (Cost() if bias is None else ADD)
    return half(input.shape[-1], result, input) + added(each, result)


@rules.formula(
    *overloads("_sparse_semi_structured_tile.default"),
    family="ordering",
    estimate="order of magnitude: the 16 elements of each tile are sorted",
)
def tile(input: TensorSpec) -> Cost:
    """The largest elements of each tile of 4 by 4, two in each row and column.

    Counts: 4 comparisons an element.
    """
    return COMPARISON * (input.numel * ceil_log2(16))


# Compressing selects and moves. The search times kernels on copies of the operands and gives the
# number of the quickest: no result of it is used.
rules.zero(
    *overloads(
        "_cslt_compress.default", "_to_sparse_semi_structured.default",
        "_sparse_semi_structured_apply.default", "_sparse_semi_structured_apply_dense.default",
        "_cslt_sparse_mm_search.default",
    )
)  # fmt: skip


# Weights of few bits


@rules.formula(*overloads("_mixed_dtypes_linear.default"))
def mixed_linear(
    input: TensorSpec, bias: Tensor, activation: str | None, result: TensorSpec
) -> Cost:
    """A linear layer with a weight of integers, whose columns have a scale: floating.

    Shapes: input (..., k), result (..., n).
    Counts: k MACs per output; a mul for the scale, an add for the bias, the activation.
    """
    each = MUL + ACTIVATIONS[activation] + (Cost() if bias is None else ADD)
    return Cost(macs=result.numel * input.shape[-1]) + each * result.numel


@rules.formula(*overloads("_dyn_quant_matmul_4bit.default"), typed=False)
def dyn_quant_matmul(inp: TensorSpec, block_size: int, in_features: int, out_features: int) -> Cost:
    """Rows quantized by their own range, by a weight of 4-bit integers with scales by block.

    Shapes: inp (m, k).
    Counts: quantizing m rows; m·n·k integer MACs; then floating, per output a MAC for each of
    k/block_size blocks' sums with its scale, and a mul for the row's scale.
    Ignores: a bias packed with the weight.
    """
    k, n = in_features, out_features
    m = prod(inp.shape[:-1])
    blocks = Cost(macs=m * n * (k // block_size))
    rows = dynamically_quantized(m * k, m)
    return rows + INT_MAC * (m * n * k) + blocks + MUL * (m * n)


rules.zero(
    *overloads(
        "_convert_weight_to_int4pack.default", "_convert_weight_to_int4pack_for_cpu.default",
        "_dyn_quant_pack_4bit_weight.default",
    )
)  # fmt: skip
