"""Interpolation: an output element is a weighted sum of taps, each one MAC.

Where an element's taps lie, and their weights, depends on one index of each axis: these
tables are O(height + width) and ignored. The output's shape says how many elements there
are, so `size=` and `scale_factor=` agree; batch and channels are never scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("upsample")

Sizes = tuple[int, ...]

# Taps of an output element.
TAPS = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
}

NEAREST = (
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
)

# Width of the filter, in pixels of the coarser side: linear, cubic, Lanczos with three lobes.
ANTIALIASED = {
    "_upsample_bilinear2d_aa": 2,
    "_upsample_bicubic2d_aa": 4,
    "_upsample_lanczos2d_aa": 6,
}


def weighted(taps: int) -> Callable[..., Cost]:
    """The formula of an interpolation with this many taps an element."""

    def interpolation(result: TensorSpec) -> Cost:
        """Weighted sums.

        Counts: one MAC for each tap of each output element.
        Example: bilinear (1, 3, 10, 10) to (1, 3, 20, 20) is 1200·4 = 4,800 MACs.
        """
        return Cost(macs=taps * result.numel)

    return interpolation


def scattered(taps: int) -> Callable[..., Cost]:
    """The formula of the backward of an interpolation with this many taps an element."""

    def interpolation_backward(grad_output: TensorSpec) -> Cost:
        """Each gradient, weighted, is added to its taps: the forward's MACs."""
        return Cost(macs=taps * grad_output.numel)

    return interpolation_backward


def nearest_backward(grad_output: TensorSpec) -> Cost:
    """Each gradient is added to the element that was copied.

    Counts: one add a gradient.
    """
    return Cost(adds=grad_output.numel)


for _name, _taps in TAPS.items():
    rules.formula(*overloads(f"{_name}.default"))(weighted(_taps))
    rules.formula(*overloads(f"{_name}_backward.default"))(scattered(_taps))

rules.zero(*overloads(*(f"{name}.default" for name in NEAREST)))
rules.formula(*overloads(*(f"{name}_backward.default" for name in NEAREST)))(nearest_backward)


# Antialiased


def axis_taps(size: int, outputs: int, width: int, align_corners: bool, scale: float | None) -> int:
    """Taps of all outputs of one axis, those outside of the input left out.

    An output's taps are the pixels whose middle lies within the filter, which is stretched
    by the step between outputs where it is more than a pixel.

    This is the one count that needs plain sizes and floating-point numbers: `scale` is one,
    and ATen finds the taps so. Double precision here is what ATen uses for doubles; in
    single precision a tap at the filter's edge, of weight zero, may be one more or less.

    Source: ATen's `_compute_indices_min_size_weights_aa` and `area_pixel_compute_scale`.
    Example: 224 to 112 with a filter 2 wide is 446: four taps each, three at both ends.
    """
    if align_corners:
        step = (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    elif scale is not None and scale > 0:
        step = 1.0 / scale
    else:
        step = size / outputs
    reach = width / 2 * max(step, 1.0)
    middles = (step * (i + 0.5) for i in range(outputs))
    return sum(
        max(min(int(middle + reach + 0.5), size) - max(int(middle - reach + 0.5), 0), 0)
        for middle in middles
    )


def two_passes(
    input_size: Sizes,
    output_size: Sizes,
    width: int,
    align_corners: bool,
    scales: tuple[float | None, float | None],
) -> Cost:
    """Resize the width of each input row, then the height of each column of that.

    Shapes: input_size (n, c, h, w), output_size (p, q).
    Counts: n·c·h·taps(w → q) + n·c·q·taps(h → p) MACs; an axis that keeps its size is skipped.
    """
    (*planes, h, w), (p, q) = input_size, output_size
    scale_h, scale_w = scales
    rows = axis_taps(w, q, width, align_corners, scale_w) if w != q else 0
    columns = axis_taps(h, p, width, align_corners, scale_h) if h != p else 0
    return Cost(macs=prod(planes) * (h * rows + q * columns))


def antialiased(width: int) -> Callable[..., Cost]:
    """The formula of an antialiased resize whose filter is this wide."""

    def resize(
        self: TensorSpec,
        output_size: Sizes,
        align_corners: bool,
        scales_h: float | None,
        scales_w: float | None,
    ) -> Cost:
        """Antialiased resize, separable.

        Counts: as `two_passes`.
        Example: bilinear (1, 1, 224, 224) to (112, 112): 224·446 + 112·446 MACs.
        """
        return two_passes(self.shape, output_size, width, align_corners, (scales_h, scales_w))

    return resize


def antialiased_backward(width: int) -> Callable[..., Cost]:
    """The formula of the backward of an antialiased resize whose filter is this wide."""

    def resize_backward(
        input_size: Sizes,
        output_size: Sizes,
        align_corners: bool,
        scales_h: float | None,
        scales_w: float | None,
    ) -> Cost:
        """The forward's passes transposed, height first: the same MACs."""
        return two_passes(input_size, output_size, width, align_corners, (scales_h, scales_w))

    return resize_backward


for _name, _width in ANTIALIASED.items():
    rules.formula(*overloads(f"{_name}.default"))(antialiased(_width))
    rules.formula(*overloads(f"{_name}_backward.default"))(antialiased_backward(_width))
