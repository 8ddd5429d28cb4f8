"""Quantization spelled out for exported programs, on plain integers.

It counts as `quantization` does: what is constant for a tensor, a channel, a group or a token is
worked out once and ignored. The integers' `dtype` is that of what is stored: between numbers and
integers the operations are floating. Registered by torch.ao when it is used: by name.

Letters: n elements, t tokens, the rows along the last dimension.
"""

from __future__ import annotations

from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.pointwise import MUL
from flopdispatch.formulas.quantization import DEQUANTIZE, QUANTIZE, value_range
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("quantization")


def named(overloads: str) -> list[str]:
    """The full names of these overloads."""
    return [f"quantized_decomposed::{name}" for name in overloads.split()]


@rules.formula(
    *named(
        "quantize_per_tensor.default quantize_per_tensor.tensor quantize_per_tensor.tensor2 "
        "quantize_per_channel.default quantize_per_channel_group.default "
        "quantize_per_token.default"
    ),
    typed=False,
)
def quantize(input: TensorSpec) -> Cost:
    """Numbers to integers: per element a mul, an add and 3 comparisons."""
    return QUANTIZE * input.numel


@rules.formula(
    *named(
        "dequantize_per_tensor.default dequantize_per_tensor.tensor dequantize_per_tensor.tensor2 "
        "dequantize_per_token.default"
    ),
    typed=False,
)
def dequantize(input: TensorSpec) -> Cost:
    """Integers to numbers: per element an add and a mul."""
    return DEQUANTIZE * input.numel


@rules.formula(
    *named("dequantize_per_channel.default dequantize_per_channel_group.default"), typed=False
)
def dequantize_channels(input: TensorSpec, zero_points: TensorSpec | None) -> Cost:
    """Integers to numbers: per element a mul and, where there are zero points, an add."""
    return (MUL if zero_points is None else DEQUANTIZE) * input.numel


@rules.formula(*named("fake_quant_per_channel.default"))
def fake_quantize(input: TensorSpec) -> Cost:
    """Numbers rounded to what their integers stand for: per element both of these."""
    return (QUANTIZE + DEQUANTIZE) * input.numel


@rules.formula(*named("choose_qparams.tensor choose_qparams_symmetric.tensor"), typed=False)
def choose_qparams(input: TensorSpec) -> Cost:
    """A scale and zero point by the range of values: 2·(n − 1) comparisons."""
    return value_range(input.numel, 1)


@rules.formula(*named("choose_qparams_per_token_asymmetric.default"), typed=False)
def choose_qparams_of_tokens(input: TensorSpec) -> Cost:
    """A scale and zero point for each token by its range of values: 2·(n − t) comparisons."""
    return value_range(input.numel, tokens(input))


@rules.formula(*named("choose_qparams_per_token.default"), typed=False)
def choose_scales_of_tokens(input: TensorSpec) -> Cost:
    """A scale for each token by its largest absolute value: n + n − t comparisons."""
    n = input.numel
    return Cost(comparisons=n + combined(n, tokens(input)))


def tokens(input: TensorSpec) -> int:
    """Rows along the last dimension."""
    return prod(input.shape[:-1])


rules.zero(*named("convert_element_type.no_fuse"))
