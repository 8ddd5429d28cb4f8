"""Quantizing, dequantizing, and fake quantization for training.

A number x stands for the integer q = clamp(round(x·(1/scale)) + zero point, low, high), and q
for (q − zero point)·scale. What is constant for a tensor or a channel is worked out once:
1/scale, and a scale and zero point from the range of values, a few operations that are ignored.
Between floats and integers these are floating-point operations; an operator whose operands and
result are all quantized is integer as a whole, as in integer-only inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, DIV, MUL
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("quantization")

# Per element. Rounding and the two bounds are comparisons.
QUANTIZE = MUL + ADD + 3 * COMPARISON
DEQUANTIZE = ADD + MUL

SWITCHED_ON = "what a tensor switches on or off is taken to be on"


def value_range(n: int, groups: int) -> Cost:
    """The smallest and the largest of n elements, in groups of their own.

    Counts: two comparisons an element, but for each group's first.
    """
    return 2 * COMPARISON * combined(n, groups)


def dynamically_quantized(n: int, groups: int = 1) -> Cost:
    """n elements quantized by the range of values that they happen to have, group by group."""
    return value_range(n, groups) + QUANTIZE * n


@rules.formula(
    *overloads(
        "quantize_per_tensor.default", "quantize_per_tensor.tensor_qparams",
        "quantize_per_channel.default",
    )
)  # fmt: skip
def quantize(self: TensorSpec) -> Cost:
    """Numbers to integers.

    Counts: per element a mul, an add and 3 comparisons.
    """
    return QUANTIZE * self.numel


@rules.formula(*overloads("quantize_per_tensor.tensors", "quantize_per_tensor.tensors_out"))
def quantize_all(tensors: Sequence[TensorSpec]) -> Cost:
    """Several tensors, each with a scale of its own: as `quantize`."""
    return QUANTIZE * sum(t.numel for t in tensors)


@rules.formula(*overloads("quantize_per_tensor_dynamic.default"))
def quantize_dynamic(self: TensorSpec, dtype: torch.dtype) -> Cost:
    """Numbers to integers by their own range of values; to half precision, a cast.

    Counts: the range, 2·(n − 1) comparisons; then as `quantize`.
    """
    return Cost() if dtype.is_floating_point else dynamically_quantized(self.numel)


@rules.formula(*overloads("dequantize.self"), typed=False)
def dequantize(self: TensorSpec) -> Cost:
    """Integers to numbers; a half-precision number is a cast.

    Counts: per element an add and a mul.
    """
    return Cost() if self.dtype.is_floating_point else DEQUANTIZE * self.numel


@rules.formula(*overloads("dequantize.tensors", "dequantize.tensors_out"), typed=False)
def dequantize_all(tensors: Sequence[TensorSpec]) -> Cost:
    """Several tensors: as `dequantize`."""
    return sum((dequantize(t) for t in tensors), Cost())


# Integers that get a scale are copied, casts are free.
COPIES = """
    _make_per_tensor_quantized_tensor.default _make_per_channel_quantized_tensor.default
    quantization::_FloatToBfloat16Quantized.default quantization::_Bfloat16QuantizedToFloat.default
"""
rules.zero(*overloads(*COPIES.split()))
rules.zero(
    *overloads("_empty_affine_quantized.out", "_empty_per_channel_affine_quantized.out"),
    nbytes=nothing,
)


# Fake quantization: to the integer and back, and a mask of what was inside of the bounds


@rules.formula(
    *overloads(
        "fake_quantize_per_tensor_affine_cachemask.default",
        "fake_quantize_per_channel_affine_cachemask.default",
        "_fake_quantize_learnable_per_tensor_affine.default",
        "_fake_quantize_learnable_per_channel_affine.default",
    )
)
def fake_quantize(self: TensorSpec) -> Cost:
    """Numbers rounded to what their integers stand for.

    Counts: per element 2 muls, 2 adds and 3 comparisons.
    """
    return (QUANTIZE + DEQUANTIZE) * self.numel


@rules.formula(
    *overloads("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default"),
    estimate=SWITCHED_ON,
)
def fake_quantize_if_on(self: TensorSpec) -> Cost:
    """As `fake_quantize`; a tensor says whether to."""
    return fake_quantize(self)


# From the gradient g to those of x, of the scale and of the zero point, per element. The integer
# again (a mul, an add, a rounding), what it stands for (two bounds, DEQUANTIZE), g masked. Then,
# below, above or inside: outside g·(bound − zero point) and g·(−scale), inside
# g·(xq − x)·(1/scale), the constants times `grad_factor` once; the last is the costliest.
LEARNABLE_BACKWARD = (
    (MUL + ADD + COMPARISON)
    + (2 * COMPARISON + DEQUANTIZE)
    + MUL
    + (2 * COMPARISON + ADD + 2 * MUL)
)


@rules.formula(*overloads("_fake_quantize_learnable_per_tensor_affine_backward.default"))
def learnable_backward(self: TensorSpec) -> Cost:
    """Gradients of x, of one scale and of one zero point.

    Counts: per element 5 muls, 3 adds and 5 comparisons; n − 1 adds for each of two sums.
    """
    return LEARNABLE_BACKWARD * self.numel + 2 * ADD * combined(self.numel, 1)


@rules.formula(*overloads("_fake_quantize_learnable_per_channel_affine_backward.default"))
def learnable_channels_backward(self: TensorSpec, axis: int) -> Cost:
    """Gradients of x, of c scales and of c zero points.

    Counts: as `learnable_backward`; n − c adds for each of two sums.
    """
    sums = 2 * ADD * combined(self.numel, self.shape[axis])
    return LEARNABLE_BACKWARD * self.numel + sums


@rules.formula(
    *overloads(
        "_fused_moving_avg_obs_fq_helper.default",
        "_fused_moving_avg_obs_fq_helper.out",
        "_fused_moving_avg_obs_fq_helper_functional.default",
    ),
    estimate=SWITCHED_ON,
)
def observed_fake_quantize(self: TensorSpec, ch_axis: int, per_row_fake_quant: bool) -> Cost:
    """Running averages of the range of values, and fake quantization by them.

    Counts: the range of each of c channels (one without `per_row_fake_quant`), 2·(n − c)
    comparisons; average + c·(found − average), 2 adds and a mul for each end of a range; then
    as `fake_quantize`.
    """
    channels = self.shape[ch_axis] if per_row_fake_quant else 1
    averages = 2 * (2 * ADD + MUL) * channels
    return value_range(self.numel, channels) + averages + fake_quantize(self)


# Rows of an embedding's table, each with its scale and smallest value beside it


# A row's scale and its inverse: (high − low) / levels, 1 / scale.
ROW_SCALE = ADD + 2 * DIV
# An element of a row: (x − low)·(1/scale), rounded. Bytes take no bounds.
ROW_ELEMENT = ADD + MUL + COMPARISON


def row_quantized(weight: TensorSpec, bounded: bool) -> Cost:
    """Each row quantized by its range, the range given."""
    each = ROW_ELEMENT + 2 * COMPARISON if bounded else ROW_ELEMENT
    return ROW_SCALE * prod(weight.shape[:-1]) + each * weight.numel


def row_ranges(weight: TensorSpec) -> Cost:
    """The smallest and the largest element of each row."""
    return value_range(weight.numel, prod(weight.shape[:-1]))


@rules.formula(*overloads("quantized::embedding_bag_byte_prepack.default"))
def byte_rows(weight: TensorSpec) -> Cost:
    """Rows to bytes, with a scale and an offset a row.

    Counts, for a row of d: 2·(d − 1) comparisons for its range; an add and 2 divs for the scale;
    per element an add, a mul and a rounding.
    """
    return row_ranges(weight) + row_quantized(weight, bounded=False)


@rules.formula(*overloads("quantized::embedding_bag_byte_prepack_with_rowwise_min_max.default"))
def byte_rows_ranged(weight: TensorSpec) -> Cost:
    """As `byte_rows`, the ranges given."""
    return row_quantized(weight, bounded=False)


def searched(optimized_qparams: bool) -> bool:
    """Whether a better range is searched for."""
    return optimized_qparams


@rules.formula(
    *overloads(
        "quantized::embedding_bag_4bit_prepack.default",
        "quantized::embedding_bag_2bit_prepack.default",
    ),
    estimate="without the search of optimized_qparams for a better range",
    estimated_if=searched,
)
def bit_rows(weight: TensorSpec) -> Cost:
    """Rows to 4 or 2 bits, with a scale and an offset a row.

    Counts: as `byte_rows`, and two bounds an element.
    """
    return row_ranges(weight) + row_quantized(weight, bounded=True)


@rules.formula(
    *overloads(
        "quantized::embedding_bag_4bit_prepack_with_rowwise_min_max.default",
        "quantized::embedding_bag_2bit_prepack_with_rowwise_min_max.default",
    )
)
def bit_rows_ranged(weight: TensorSpec) -> Cost:
    """As `bit_rows`, the ranges given."""
    return row_quantized(weight, bounded=True)


@rules.formula(
    *overloads(
        "quantized::embedding_bag_byte_unpack.default",
        "quantized::embedding_bag_4bit_unpack.default",
        "quantized::embedding_bag_2bit_unpack.default",
    )
)
def unpacked_rows(result: TensorSpec) -> Cost:
    """Rows back to numbers, q·scale + offset.

    Counts: per element a mul and an add.
    """
    return DEQUANTIZE * result.numel
