"""Matrix products with scaled operands: 8- and 4-bit floats, and weights stored as integers.

Letters: m rows, k inner, n columns.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.matmul import Number, grouped_mm, mm, scaled_sum
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("matmul")

PACKED = getattr(torch, "float4_e2m1fn_x2", None)  # one element holds two of the inner dimension

Scales = tuple[TensorSpec, ...]


@rules.formula(*overloads("_scaled_mm.default"))
def scaled_mm(
    self: TensorSpec,
    mat2: TensorSpec,
    bias: TensorSpec | None,
    scale_result: TensorSpec | None,
    result: TensorSpec,
) -> Cost:
    """Product of low-precision matrices, each times its scale.

    Shapes: self (m, k), mat2 (k, n).
    Counts: m·n·k MACs; a mul per output for each of the two scales, and for the result's if
    there is one; an add per output for the bias.
    Ignores: that a scale may differ from block to block of the inner dimension.
    Example: (16, 32) by (32, 48) is 24,576 MACs and 1,536 muls.
    """
    scales = 2 if scale_result is None else 3
    return unpacked(mm(self, mat2), self) + rescaled(result, scales, bias)


@rules.formula(*overloads("_scaled_mm_v2.default"))
def scaled_mm_v2(
    self: TensorSpec,
    mat2: TensorSpec,
    *,
    scale_a: Scales,
    scale_b: Scales,
    bias: TensorSpec | None,
    result: TensorSpec,
) -> Cost:
    """As scaled_mm, with scales on several levels: a mul per output for each level."""
    scales = len(scale_a) + len(scale_b)
    return unpacked(mm(self, mat2), self) + rescaled(result, scales, bias)


@rules.formula(*overloads("_scaled_addmm.default"))
def scaled_addmm(
    mat1: TensorSpec,
    mat2: TensorSpec,
    *,
    scale_a: Scales,
    scale_b: Scales,
    beta: Number,
    alpha: Number,
    result: TensorSpec,
) -> Cost:
    """beta·self + alpha·(the scaled product): as scaled_mm_v2, and the scaled sum."""
    product = scaled_mm_v2(mat1, mat2, scale_a=scale_a, scale_b=scale_b, bias=None, result=result)
    return product + scaled_sum(result.numel, beta, alpha)


@rules.formula(
    *overloads("_scaled_grouped_mm.default"), estimate="every row is taken to belong to a group"
)
def scaled_grouped_mm(
    self: TensorSpec,
    mat2: TensorSpec,
    bias: TensorSpec | None,
    scale_result: TensorSpec | None,
    result: TensorSpec,
) -> Cost:
    """Products of groups, as grouped_mm, with scales, as scaled_mm."""
    scales = 2 if scale_result is None else 3
    return unpacked(grouped_mm(self, mat2, None, result), self) + rescaled(result, scales, bias)


@rules.formula(
    *overloads("_scaled_grouped_mm_v2.default"),
    estimate="every row is taken to belong to a group",
)
def scaled_grouped_mm_v2(
    self: TensorSpec,
    mat2: TensorSpec,
    *,
    scale_a: Scales,
    scale_b: Scales,
    bias: TensorSpec | None,
    result: TensorSpec,
) -> Cost:
    """As scaled_grouped_mm, with scales on several levels: a mul per output for each level."""
    scales = len(scale_a) + len(scale_b)
    return unpacked(grouped_mm(self, mat2, None, result), self) + rescaled(result, scales, bias)


def unpacked(product: Cost, factor: TensorSpec) -> Cost:
    """The product's cost, if an element of its factors holds two of the inner dimension."""
    return product * 2 if PACKED is not None and factor.dtype is PACKED else product


def rescaled(result: TensorSpec, scales: int, bias: TensorSpec | None) -> Cost:
    """A mul per output for each scale, an add per output for the bias."""
    return Cost(muls=scales * result.numel, adds=0 if bias is None else result.numel)


# Integer weights, floating activations


@rules.formula(*overloads("_weight_int8pack_mm.default"))
def weight_int8pack_mm(self: TensorSpec, result: TensorSpec) -> Cost:
    """Product with a weight of 8-bit integers that has a scale per column of the result.

    Shapes: self (m, k), mat2 (n, k), scales (n), result (m, n).
    Counts: m·n·k MACs, floating since the activations are; one mul per output.
    """
    k = self.shape[-1]
    return Cost(macs=result.numel * k, muls=result.numel)


@rules.formula(
    *overloads(
        "_weight_int4pack_mm.default",
        "_weight_int4pack_mm_for_cpu.default",
        "_weight_int4pack_mm_with_scales_and_zeros.default",
    )
)
def weight_int4pack_mm(self: TensorSpec, result: TensorSpec) -> Cost:
    """Product with a weight of 4-bit integers that has a scale and zero per group of inner.

    Shapes: self (m, k), result (m, n), the weight packed.
    Counts: each of n·k weights becomes weight·scale + zero, a mul and an add; m·n·k MACs.
    """
    k, n = self.shape[-1], result.shape[-1]
    return Cost(macs=result.numel * k, muls=n * k, adds=n * k)
