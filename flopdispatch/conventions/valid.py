"""Convolutions by the taps that fall inside the image; the rest as flopdispatch counts it.

XLA's cost analysis counts convolutions so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas import convolution as dense
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

Sizes = Sequence[int]


@cache
def registry() -> Registry:
    """The rules, frozen."""
    default = default_registry()
    rules = default.overlay("valid", f"{default.description}; no taps of convolutions on padding")
    rules.formula(
        *overloads(
            "convolution.default", "_convolution.default", "convolution_overrideable.default"
        ),
        family="convolution",
    )(convolution)
    rules.formula(
        *overloads(
            "mkldnn_convolution.default",
            "miopen_convolution.default",
            "miopen_depthwise_convolution.default",
            "_mps_convolution.default",
        ),
        family="convolution",
    )(direct)
    rules.formula(*overloads("cudnn_convolution.default"), family="convolution")(direct_no_bias)
    rules.formula(
        *overloads("convolution_backward.default", "convolution_backward_overrideable.default"),
        family="convolution",
    )(convolution_backward)
    return rules.freeze()


def taps(n: int, k: int, out: int, stride: int, padding: int, dilation: int) -> int:
    """Pairs of `out` positions and k taps that meet one of n elements.

    Example: 4 elements, 3 taps, padding 1: 2 + 3 + 3 + 2 = 10 of 12.
    """
    first = range(-padding, out * stride - padding, stride)
    return sum(0 <= at + tap * dilation < n for at in first for tap in range(k))


def share(
    input: TensorSpec,
    weight: TensorSpec,
    result: TensorSpec,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
) -> tuple[int, int]:
    """The taps that are inside, of how many.

    Shapes: input (batch, c_in, positions...) or without a batch, result likewise. Transposed, an
    input position's taps are those that fall inside the result.
    """
    kernel = weight.shape[2:]
    whole, moved = (result, input) if transposed else (input, result)
    axes = len(kernel)
    wide = [
        tuple(sizes) * axes if len(sizes) == 1 else tuple(sizes)
        for sizes in (stride, padding, dilation)
    ]
    positions = zip(whole.shape[-axes:], kernel, moved.shape[-axes:], *wide)
    return prod(taps(*axis) for axis in positions), prod(kernel) * prod(moved.shape[-axes:])


def inside(cost: Cost, part: tuple[int, int]) -> Cost:
    """The same with the MACs of the taps that are inside."""
    met, of = part
    return Cost(macs=cost.macs * met // of if of else 0, adds=cost.adds)


def convolution(
    input: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    result: TensorSpec,
) -> Cost:
    """Convolution: its MACs on elements of the input, and the bias.

    Example: 4 elements by 3 taps with padding 1, one channel: 10 MACs.
    """
    part = share(input, weight, result, stride, padding, dilation, transposed)
    return inside(dense.convolution(input, weight, bias, transposed, result), part)


def direct(
    self: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    padding: Sizes,
    stride: Sizes,
    dilation: Sizes,
    result: TensorSpec,
) -> Cost:
    """Convolution, not transposed."""
    return convolution(self, weight, bias, stride, padding, dilation, False, result)


def direct_no_bias(
    self: TensorSpec,
    weight: TensorSpec,
    padding: Sizes,
    stride: Sizes,
    dilation: Sizes,
    result: TensorSpec,
) -> Cost:
    """Convolution by a kernel that takes no bias."""
    return direct(self, weight, None, padding, stride, dilation, result)


def convolution_backward(
    grad_output: TensorSpec,
    input: TensorSpec,
    weight: TensorSpec,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_mask: tuple[bool, ...],
) -> Cost:
    """Gradients of a convolution: each product of the forward has one term in each of two."""
    part = share(input, weight, grad_output, stride, padding, dilation, transposed)
    return inside(
        dense.convolution_backward(grad_output, input, weight, transposed, output_mask), part
    )
