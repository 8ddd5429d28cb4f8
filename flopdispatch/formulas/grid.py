"""Sampling an image at the locations of a grid, and making such a grid.

Unlike an interpolation's tables, weights differ from location to location and are counted:
once for a location, whatever the number of channels.

Letters: d spatial dimensions, c channels.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import Mask, gradients
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("grid_sample")

Sizes = tuple[int, ...]

BILINEAR, NEAREST, BICUBIC = 0, 1, 2  # interpolation_mode
ZEROS, BORDER, REFLECTION = 0, 1, 2  # padding_mode

# From [-1, 1] to pixels: a·x + b, where a and b are constants of the axis.
TO_PIXELS = Cost(muls=1, adds=1)

# A coordinate that lies outside: zeros are a mask; a border clamps at both ends; a reflection
# folds, |x − low| modulo the span, backwards (span − it) in every other span, + low, and clamps.
OUTSIDE = {
    ZEROS: Cost(),
    BORDER: Cost(comparisons=2),
    REFLECTION: Cost(adds=4, muls=1, divs=1, comparisons=4),
}

# A coordinate's weights. Linear: floor, t = x − floor, 1 − t. Cubic: floor, t, and at t + 1,
# t, 1 − t and 2 − t the cubic convolution: inside of the unit interval ((a + 2)·u − (a + 3))·u·u
# + 1, 3 muls and 2 adds; beyond ((a·u − 5a)·u + 8a)·u − 4a, 3 muls and 3 adds.
WEIGHTS = {
    BILINEAR: Cost(comparisons=1, adds=2),
    NEAREST: Cost(comparisons=1),
    BICUBIC: Cost(comparisons=1, adds=1 + 3 + 2 * 2 + 2 * 3, muls=4 * 3),
}

# A location's taps by mode and d, and the products of the axes' weights that they take:
# width by height, in three dimensions these four by depth.
TAPS = {(BILINEAR, 2): 4, (BILINEAR, 3): 8, (BICUBIC, 2): 16}
PRODUCTS = {(BILINEAR, 2): 4, (BILINEAR, 3): 4 + 8, (BICUBIC, 2): 16}

# Backward of these products, to each axis's weights: each product passes its gradient times
# the other factor to both of its factors.
TO_WEIGHTS = {(BILINEAR, 2): 2 * 4, (BILINEAR, 3): 2 * 8 + 2 * 4, (BICUBIC, 2): 2 * 16}

# Backward of a coordinate's weights, and of the map to pixels (one mul). Linear: the
# difference of two gradients. Cubic: a sum over four derivatives; inside of the unit interval
# (3(a + 2)·u − 2(a + 3))·u, beyond (3a·u − 10a)·u + 8a.
TO_COORDINATE = {
    BILINEAR: Cost(adds=1, muls=1),
    BICUBIC: Cost(macs=4, adds=2 * 1 + 2 * 2, muls=4 * 2 + 1),
}


def locations(grid: TensorSpec) -> int:
    """Locations of a grid (n, *spatial, d)."""
    return prod(grid.shape[:-1])


def weights(dims: int, interpolation_mode: int, padding_mode: int) -> Cost:
    """Where one location's taps lie, and their weights.

    Ignores: cubic taps are moved inside one by one, which is integer index arithmetic.
    """
    axis = TO_PIXELS + WEIGHTS[interpolation_mode]
    if interpolation_mode != BICUBIC:
        axis += OUTSIDE[padding_mode]
    return axis * dims + Cost(muls=PRODUCTS.get((interpolation_mode, dims), 0))


@rules.formula(
    aten.grid_sampler_2d.default,
    aten.grid_sampler_3d.default,
    *overloads("_grid_sampler_2d_cpu_fallback.default"),
)
def grid_sampler(
    input: TensorSpec, grid: TensorSpec, interpolation_mode: int, padding_mode: int
) -> Cost:
    """An image's values at the locations of a grid: weighted sums of taps.

    Shapes: input (n, c, *spatial), grid (n, *spatial, d).
    Counts: for each location its weights, and one MAC a tap and channel: bilinear 4c, in a
    volume 8c, bicubic 16c, nearest none.
    Example: bilinear, c = 3, one location: 12 MACs; 2 axes of 1 mul, 3 adds and 1 floor, and
    4 products: 6 muls, 6 adds, 2 comparisons.
    """
    channels, dims = input.shape[1], input.ndim - 2
    taps = TAPS.get((interpolation_mode, dims), 0)
    location = weights(dims, interpolation_mode, padding_mode) + Cost(macs=channels * taps)
    return location * locations(grid)


def gradient_bytes(
    grad_output: TensorSpec,
    input: TensorSpec,
    grid: TensorSpec,
    output_mask: Mask,
    result: tuple[TensorSpec | None, ...],
) -> tuple[int, int]:
    """Only the grid's gradient needs the image."""
    read = size(grad_output, grid, input if output_mask[1] else None)
    return read, gradients(result, output_mask)


@rules.formula(
    aten.grid_sampler_2d_backward.default,
    aten.grid_sampler_3d_backward.default,
    nbytes=gradient_bytes,
)
def grid_sampler_backward(
    input: TensorSpec,
    grid: TensorSpec,
    interpolation_mode: int,
    padding_mode: int,
    output_mask: tuple[bool, ...],
) -> Cost:
    """Gradients of the image and of the grid, those that `output_mask` asks for.

    Counts: each location's weights again. For the image: the weighted scatter, c·taps MACs a
    location (nearest: c adds). For the grid: c·taps MACs to the taps' weights, and from these
    to each axis's weights and each coordinate (nearest: nothing, it is zero).
    Ignores: a coordinate that was moved inside passes its gradient on, negated or masked by
    choosing the factor of its map to pixels.
    """
    channels, dims = input.shape[1], input.ndim - 2
    taps = TAPS.get((interpolation_mode, dims), 0)
    location = weights(dims, interpolation_mode, padding_mode)
    if output_mask[0]:
        location += Cost(adds=channels) if taps == 0 else Cost(macs=channels * taps)
    if output_mask[1] and taps:
        location += Cost(macs=channels * taps + TO_WEIGHTS[interpolation_mode, dims])
        location += TO_COORDINATE[interpolation_mode] * dims
    return location * locations(grid)


@rules.formula(*overloads("_grid_sampler_2d_cpu_fallback_backward.default"))
def grid_sampler_backward_both(
    input: TensorSpec, grid: TensorSpec, interpolation_mode: int, padding_mode: int
) -> Cost:
    """`grid_sampler_backward` of image and grid."""
    return grid_sampler_backward(input, grid, interpolation_mode, padding_mode, (True, True))


@rules.formula(*overloads("cudnn_grid_sampler.default"))
def cudnn_grid_sampler(self: TensorSpec, grid: TensorSpec) -> Cost:
    """`grid_sampler`, bilinear with zeros outside."""
    return grid_sampler(self, grid, BILINEAR, ZEROS)


@rules.formula(*overloads("cudnn_grid_sampler_backward.default"))
def cudnn_grid_sampler_backward(self: TensorSpec, grid: TensorSpec) -> Cost:
    """`grid_sampler_backward` of image and grid, bilinear with zeros outside."""
    return grid_sampler_backward_both(self, grid, BILINEAR, ZEROS)


@rules.formula(*overloads("affine_grid_generator.default", "cudnn_affine_grid_generator.default"))
def affine_grid_generator(theta: TensorSpec, result: TensorSpec) -> Cost:
    """Locations (x, y, 1) times a matrix for each image.

    Shapes: theta (n, d, d + 1), result (n, *spatial, d).
    Counts: d + 1 MACs an element of the result.
    Ignores: the plain grid's coordinates, O(height + width).
    Example: one image of 2x2 locations is 8·3 = 24 MACs.
    """
    return Cost(macs=result.numel * theta.shape[-1])


@rules.formula(*overloads("cudnn_affine_grid_generator_backward.default"))
def affine_grid_generator_backward(grad: TensorSpec) -> Cost:
    """The same product with the gradients: (d, spatial) by (spatial, d + 1).

    Shapes: grad (n, h, w, 2).
    Counts: 3 MACs an element of grad.
    """
    return Cost(macs=grad.numel * 3)
