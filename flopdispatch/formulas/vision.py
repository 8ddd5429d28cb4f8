"""torchvision's regions of feature maps: aligned or pooled, by position or not.

Operators have names here, since torchvision need not be there, or may come later.

How far a region reaches lies in the values of its box. It is taken when the operator runs; where
there are no values (on meta) each box is taken to be the whole map, a bound.

Letters: r regions, c channels, p·q bins of a region; a bin averages a grid of samples.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.pointwise import ADD, COMPARISON, DIV, MUL
from flopdispatch.formulas.pooling import adaptive_cells, averages, spread
from flopdispatch.formulas.quantization import DEQUANTIZE, QUANTIZE
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("vision")

Taken = tuple[int, ...] | None
Pooled = tuple[TensorSpec, TensorSpec]

WHOLE_MAP = "bound: each box is taken to be the whole map"

# Where a sample lies along one axis, start + (bin + (i + ½)/grid)·size, moved inside; then its
# first tap (a floor) and the weights t, 1 − t of two taps.
POSITION = (MUL + ADD) + 2 * COMPARISON
LINEAR_WEIGHTS = COMPARISON + 2 * ADD
# Its four taps' weights are products of these.
TAPS = 4


# Regions, aligned: a bin is the mean of interpolated samples


def grids(
    rois: Any,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[int, ...]:
    """Summed over all boxes: rows, columns and samples of a bin's grid.

    Without a sampling ratio a box's grid has the height and width of its bins, rounded up.
    """
    if sampling_ratio > 0:
        return ()
    # Shifted as the kernel does it, though extents stay: at a grid's edge rounding decides.
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    extent = corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1.0)
    columns = (extent[:, 0] / pooled_width).ceil().clamp(min=0)
    rows = (extent[:, 1] / pooled_height).ceil().clamp(min=0)
    return int(rows.sum()), int(columns.sum()), int((rows * columns).sum())


def position_grids(
    rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int
) -> tuple[int, ...]:
    """`grids`, always aligned."""
    return grids(rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, True)


def adaptive(sampling_ratio: int, taken: Taken) -> bool:
    """Whether the grids depend on the boxes, which are unknown."""
    return sampling_ratio <= 0 and taken is None


def aligned_regions(
    pooled: TensorSpec, image: tuple[int, ...], sampling_ratio: int, taken: Taken, shifted: bool
) -> Cost:
    """Regions as weighted sums of a map's elements, or the scatter of their gradients.

    Shapes: pooled (r, c, p, q), `image` (height, width).
    Counts: for a box its corners' scale (4 muls) and shift by ½ (4 adds), or at least one pixel
    (2 comparisons), its extent (2 adds), its bins (2 divs); for each row and column of samples
    its position and weights; for each sample of a bin 4 weights, which the channels share, and
    a MAC for each of them and each channel; per output a division by the samples.
    """
    r, c, p, q = pooled.shape
    height, width = image
    if sampling_ratio > 0:
        taken = (r * sampling_ratio, r * sampling_ratio, r * sampling_ratio * sampling_ratio)
    elif taken is None:
        rows, columns = -(-height // max(p, 1)), -(-width // max(q, 1))
        taken = (r * rows, r * columns, r * rows * columns)
    rows, columns, samples = taken
    box = 4 * MUL + (4 * ADD if shifted else 2 * COMPARISON) + 2 * ADD + 2 * DIV
    lines = (POSITION + LINEAR_WEIGHTS) * (rows * p + columns * q)
    taps = (MUL + Cost(macs=c)) * (TAPS * samples * p * q)
    return box * r + lines + taps + DIV * pooled.numel


@rules.formula(
    "torchvision::roi_align.default", takes=grids, estimate=WHOLE_MAP, estimated_if=adaptive
)
def roi_align(
    input: TensorSpec, sampling_ratio: int, aligned: bool, result: TensorSpec, taken: Taken
) -> Cost:
    """Regions of a map, resampled to p by q bins.

    Shapes: input (n, c, height, width), rois (r, 5), result (r, c, p, q).
    Counts: as `aligned_regions`.
    Example: one box, 2 channels, 1 by 1 bins of 2 by 2 samples: 32 MACs, 2 divs for the means;
    16 muls for the weights.
    """
    return aligned_regions(result, input.shape[-2:], sampling_ratio, taken, aligned)


@rules.formula(
    "torchvision::_roi_align_backward.default",
    takes=grids,
    estimate=WHOLE_MAP,
    estimated_if=adaptive,
)
def roi_align_backward(
    *,
    grad: TensorSpec,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
    taken: Taken,
) -> Cost:
    """The gradient of the map: each output's, divided and weighted, is added to its taps.

    Counts: as the forward; samples' weights are worked out again.
    """
    return aligned_regions(grad, (height, width), sampling_ratio, taken, aligned)


@rules.formula(
    "torchvision::ps_roi_align.default",
    takes=position_grids,
    estimate=WHOLE_MAP,
    estimated_if=adaptive,
)
def ps_roi_align(input: TensorSpec, sampling_ratio: int, result: Pooled, taken: Taken) -> Cost:
    """As `roi_align`, shifted; each bin is of channels of its own.

    Shapes: input (n, c·p·q, height, width), result[0] (r, c, p, q).
    """
    return aligned_regions(result[0], input.shape[-2:], sampling_ratio, taken, True)


@rules.formula(
    "torchvision::_ps_roi_align_backward.default",
    takes=position_grids,
    estimate=WHOLE_MAP,
    estimated_if=adaptive,
)
def ps_roi_align_backward(
    grad: TensorSpec, height: int, width: int, sampling_ratio: int, taken: Taken
) -> Cost:
    """As `roi_align_backward`."""
    return aligned_regions(grad, (height, width), sampling_ratio, taken, True)


@rules.formula("torchvision::qroi_align.default", estimate=WHOLE_MAP, estimated_if=adaptive)
def qroi_align(
    input: TensorSpec, rois: TensorSpec, sampling_ratio: int, aligned: bool, result: TensorSpec
) -> Cost:
    """`roi_align` of quantized tensors: boxes dequantized, results quantized, all in integers."""
    plain = roi_align(input, sampling_ratio, aligned, result, None)
    return plain + DEQUANTIZE * (4 * rois.shape[0]) + QUANTIZE * result.numel


# Regions, rounded to whole elements: a bin is their maximum or mean


def cells(
    rois: Any, spatial_scale: float, pooled: tuple[int, int], inside: tuple[int, int], beyond: int
) -> tuple[int, int]:
    """Summed over all boxes: the elements of their bins, and the bins that have any.

    A box goes from its corner to its other corner and `beyond`; bins are cut to end `inside`.
    """
    corners = rois[:, 1:] * spatial_scale
    corners = corners.sign() * (corners.abs() + 0.5).floor()  # halves go away from zero
    elements: Any = 1
    filled: Any = 1
    for axis, bins, end in zip((1, 0), pooled, inside):
        start = corners[:, axis, None]
        extent = (corners[:, axis + 2, None] - start + beyond).clamp(min=1)
        bin_size = extent / bins
        i = rois.new_tensor(list(range(bins)))
        first = ((i * bin_size).floor() + start).clamp(0, end)
        last = (((i + 1) * bin_size).ceil() + start).clamp(0, end)
        length = (last - first).clamp(min=0)
        elements = elements * length.sum(1)
        filled = filled * (length > 0).sum(1)
    return int(elements.sum()), int(filled.sum())


def roi_cells(
    input: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[int, int]:
    """`cells` of roi_pool."""
    height, width = input.shape[-2:]
    return cells(rois, spatial_scale, (pooled_height, pooled_width), (height, width), 1)


def ps_cells(
    input: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[int, int]:
    """`cells` of ps_roi_pool, which leaves out the map's last row and column."""
    height, width = input.shape[-2:]
    return cells(rois, spatial_scale, (pooled_height, pooled_width), (height - 1, width - 1), 0)


def ps_gradient_cells(
    rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int, height: int, width: int
) -> tuple[int, int]:
    """`cells` of ps_roi_pool's backward, which doesn't."""
    return cells(rois, spatial_scale, (pooled_height, pooled_width), (height, width), 0)


def unknown(taken: Taken) -> bool:
    """Whether the boxes are unknown."""
    return taken is None


def region_cells(taken: Taken, pooled: TensorSpec, image: TensorSpec) -> tuple[int, int]:
    """The elements of all bins, and the bins that have any, of all channels."""
    r, c, *_ = pooled.shape
    if taken is not None:
        return c * taken[0], c * taken[1]
    height, width = image.shape[-2:]
    if 0 in (height, width):
        return 0, 0
    return adaptive_cells(TensorSpec((r, c, height, width)), pooled, 2), pooled.numel


@rules.formula(
    "torchvision::roi_pool.default", takes=roi_cells, estimate=WHOLE_MAP, estimated_if=unknown
)
def roi_pool(input: TensorSpec, result: Pooled, taken: Taken) -> Cost:
    """The largest element of each bin of a region.

    Shapes: input (n, c, height, width), result[0] (r, c, p, q).
    Counts: per bin its elements − 1 comparisons.
    Ignores: where bins begin and end, which is index arithmetic.
    """
    elements, bins = region_cells(taken, result[0], input)
    return Cost(comparisons=elements - bins)


@rules.formula("torchvision::_roi_pool_backward.default")
def roi_pool_backward(grad: TensorSpec) -> Cost:
    """Each gradient is added to the element that was the largest.

    Counts: one add a gradient.
    """
    return Cost(adds=grad.numel)


@rules.formula(
    "torchvision::ps_roi_pool.default", takes=ps_cells, estimate=WHOLE_MAP, estimated_if=unknown
)
def ps_roi_pool(input: TensorSpec, result: Pooled, taken: Taken) -> Cost:
    """The mean of each bin of a region, each bin of channels of its own.

    Shapes: input (n, c·p·q, height, width), result[0] (r, c, p, q).
    Counts: per bin its elements − 1 adds and a division.
    Ignores: where bins begin and end, which is index arithmetic.
    """
    elements, bins = region_cells(taken, result[0], input)
    return averages(elements, bins)


@rules.formula(
    "torchvision::_ps_roi_pool_backward.default",
    takes=ps_gradient_cells,
    estimate=WHOLE_MAP,
    estimated_if=unknown,
)
def ps_roi_pool_backward(grad: TensorSpec, result: TensorSpec, taken: Taken) -> Cost:
    """Each gradient is divided once and added to each element of its bin."""
    return spread(*region_cells(taken, grad, result))
