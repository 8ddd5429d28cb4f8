"""Convolution: a filter slides over the input; transposed, each input spreads over a filter.

Letters: c_in, c_out channels, g groups. A weight is (c_out, c_in/g, kernel...) or, transposed,
(c_in, c_out/g, kernel...): what follows its first dimension is met once by each output
element or, transposed, by each input element. Padding positions are computed like others.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import Mask, factor_gradients, weighted_gradients
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.matmul import Number
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("convolution")


# Forward


@rules.formula(
    *overloads(
        "convolution.default",
        "_convolution.default",
        "convolution_overrideable.default",
    )
)
def convolution(
    input: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    transposed: bool,
    result: TensorSpec,
) -> Cost:
    """Convolution over any number of dimensions, transposed or not.

    Shapes: input (batch, c_in, positions...), result (batch, c_out, positions...).
    Counts: c_in/g·∏kernel MACs per output element or, transposed, c_out/g·∏kernel MACs per
    input element; and one add per output element for the bias.
    Ignores: that taps on padding could be skipped.
    Example: (2, 8, 10, 10) by (16, 2, 3, 3), padding 1, is 2·16·10·10 outputs of 2·9 taps:
    57,600 MACs.
    """
    return products(input if transposed else result, weight) + bias_sum(bias, result)


@rules.formula(
    *overloads(
        "mkldnn_convolution.default",
        "miopen_convolution.default",
        "miopen_depthwise_convolution.default",
        "slow_conv3d_forward.default",
        "slow_conv_dilated2d.default",
        "slow_conv_dilated3d.default",
        "_slow_conv2d_forward.default",
        "_conv_depthwise2d.default",
        "conv_depthwise3d.default",
        "_mps_convolution.default",
    )
)
def direct(
    self: TensorSpec, weight: TensorSpec, bias: TensorSpec | None, result: TensorSpec
) -> Cost:
    """Convolution, not transposed: as convolution."""
    return convolution(self, weight, bias, False, result)


@rules.formula(*overloads("_nnpack_spatial_convolution.default"))
def nnpack(
    input: TensorSpec, weight: TensorSpec, bias: TensorSpec | None, result: TensorSpec
) -> Cost:
    """Convolution, not transposed: as convolution."""
    return convolution(input, weight, bias, False, result)


@rules.formula(
    *overloads(
        "miopen_convolution_transpose.default",
        "slow_conv_transpose2d.default",
        "slow_conv_transpose3d.default",
    )
)
def transpose(
    self: TensorSpec, weight: TensorSpec, bias: TensorSpec | None, result: TensorSpec
) -> Cost:
    """Transposed convolution: as convolution."""
    return convolution(self, weight, bias, True, result)


@rules.formula(*overloads("cudnn_convolution.default"))
def direct_without_bias(weight: TensorSpec, result: TensorSpec) -> Cost:
    """Convolution by a kernel that takes no bias."""
    return products(result, weight)


@rules.formula(
    *overloads("cudnn_convolution_transpose.default", "_mps_convolution_transpose.default")
)
def transpose_without_bias(self: TensorSpec, weight: TensorSpec) -> Cost:
    """Transposed convolution by a kernel that takes no bias."""
    return products(self, weight)


@rules.formula(*overloads("cudnn_convolution_relu.default", "miopen_convolution_relu.default"))
def convolution_relu(
    self: TensorSpec, weight: TensorSpec, bias: TensorSpec | None, result: TensorSpec
) -> Cost:
    """ReLU of a convolution: a comparison per output."""
    return direct(self, weight, bias, result) + Cost(comparisons=result.numel)


@rules.formula(
    *overloads("cudnn_convolution_add_relu.default", "miopen_convolution_add_relu.default")
)
def convolution_add_relu(
    self: TensorSpec,
    weight: TensorSpec,
    alpha: Number | None,
    bias: TensorSpec | None,
    result: TensorSpec,
) -> Cost:
    """ReLU of a convolution plus alpha·z.

    Counts: the convolution; an add and a comparison per output, and a mul if alpha isn't 1.
    """
    scaling = 0 if alpha is None or alpha == 1 else result.numel
    added = Cost(muls=scaling, adds=result.numel, comparisons=result.numel)
    return direct(self, weight, bias, result) + added


@rules.formula(aten.conv_tbc.default)
def conv_tbc(weight: TensorSpec, bias: TensorSpec, result: TensorSpec) -> Cost:
    """Convolution over time, the first dimension.

    Shapes: self (time, batch, c_in), weight (taps, c_in, c_out), result (time, batch, c_out).
    Counts: taps·c_in MACs per output, and one add for the bias.
    """
    taps, c_in, _ = weight.shape
    return Cost(macs=result.numel * taps * c_in) + bias_sum(bias, result)


def products(elements: TensorSpec, weight: TensorSpec) -> Cost:
    """Each element meets one filter, what follows the weight's first dimension: a MAC a tap."""
    return Cost(macs=elements.numel * prod(weight.shape[1:]))


def bias_sum(bias: TensorSpec | None, result: TensorSpec) -> Cost:
    """One add per output, if there is a bias."""
    return Cost() if bias is None else Cost(adds=result.numel)


# Backward


def gradient_bytes(
    grad_output: TensorSpec,
    input: TensorSpec,
    weight: TensorSpec,
    output_mask: Mask,
    result: tuple[TensorSpec | None, ...],
) -> tuple[int, int]:
    """Only what the gradients asked for need is read."""
    return factor_gradients(grad_output, input, weight, output_mask, result)


@rules.formula(
    *overloads("convolution_backward.default", "convolution_backward_overrideable.default"),
    nbytes=gradient_bytes,
)
def convolution_backward(
    grad_output: TensorSpec,
    input: TensorSpec,
    weight: TensorSpec,
    transposed: bool,
    output_mask: tuple[bool, ...],
) -> Cost:
    """Gradients of a convolution's input, weight and bias, as `output_mask` asks for.

    Shapes: as convolution; grad_output is shaped as its result.
    Counts: each product of the forward has one term in the input's gradient and one in the
    weight's, so the forward's MACs for each; the bias sums each channel of grad_output.
    Example: (2, 8, 10, 10) by (16, 2, 3, 3), padding 1: 57,600 MACs for each of the two, and
    2·16·10·10 - 16 = 3,184 adds.
    """
    product = products(input if transposed else grad_output, weight)
    batch, c_out, *positions = grad_output.shape
    channels_sum = Cost(adds=folds(c_out, batch * prod(positions)))
    parts = (product, product, channels_sum)
    return sum((part for part, asked in zip(parts, output_mask) if asked), Cost())


@rules.formula(
    *overloads("_slow_conv2d_backward.output_mask", "mps_convolution_backward.default"),
    nbytes=weighted_gradients,
)
def direct_backward(
    grad_output: TensorSpec, self: TensorSpec, weight: TensorSpec, output_mask: tuple[bool, ...]
) -> Cost:
    """Gradients of a convolution, not transposed: as convolution_backward."""
    return convolution_backward(grad_output, self, weight, False, output_mask)


@rules.formula(*overloads("_slow_conv2d_backward.grad_input"))
def direct_backward_out(grad_output: TensorSpec, self: TensorSpec, weight: TensorSpec) -> Cost:
    """Gradients of input, weight and bias, all three: as convolution_backward."""
    return convolution_backward(grad_output, self, weight, False, (True, True, True))


@rules.formula(*overloads("mps_convolution_transpose_backward.default"), nbytes=weighted_gradients)
def transpose_backward(
    grad_output: TensorSpec, self: TensorSpec, weight: TensorSpec, output_mask: tuple[bool, ...]
) -> Cost:
    """Gradients of a transposed convolution's input and weight: as convolution_backward."""
    return convolution_backward(grad_output, self, weight, True, output_mask)
