"""Pooling.

A kernel's window has all of its cells, in the padding and beyond it (`ceil_mode`) too, as a
convolution's has: the average of padding counts its zeros, the maximum its minus infinities.
`count_include_pad` and `divisor_override` change the divisor, not the work. Adaptive windows
lie inside the input and are counted one by one.

Letters: k cells of a window over all of its dimensions.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("pooling")

Sizes = tuple[int, ...]
Pooled = tuple[TensorSpec, TensorSpec]  # values and indices


def window(kernel_size: Sizes, dims: int) -> int:
    """Cells of a kernel; a single size stands for every dimension."""
    return prod(kernel_size * dims if len(kernel_size) == 1 else kernel_size)


def adaptive_cells(self: TensorSpec, result: TensorSpec, dims: int) -> int:
    """Cells of all windows of an adaptive pooling over the last `dims` dimensions.

    Counts: window i of n over a size s covers floor(i·s/n) to ceil((i+1)·s/n); a window in
    several dimensions is a product, and so is the sum over all of them.
    Example: 5 to 3 has windows of 2, 3 and 2 cells.
    """
    planes = prod(self.shape[:-dims])
    covered = (
        sum(-(-(i + 1) * size // n) - i * size // n for i in range(n))
        for size, n in zip(self.shape[-dims:], result.shape[-dims:])
    )
    return planes * prod(covered)


def averages(cells: int, outputs: int) -> Cost:
    """Means of `cells` cells in all: a sum is one add fewer than its cells, then a division."""
    return Cost(adds=cells - outputs, divs=outputs)


def maxima(cells: int, outputs: int) -> Cost:
    """Largest of `cells` cells in all: one comparison fewer than cells for each output."""
    return Cost(comparisons=cells - outputs)


def spread(cells: int, outputs: int) -> Cost:
    """Backward of means: each gradient is divided once and added to each cell of its window."""
    return Cost(adds=cells, divs=outputs)


# Average


@rules.formula(aten.avg_pool2d.default)
def avg_pool2d(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Means of windows.

    Counts: k − 1 adds and one division an output.
    Example: 2x2 windows over (1, 1, 4, 4) are 4·3 = 12 adds and 4 divisions.
    """
    return averages(window(kernel_size, 2) * result.numel, result.numel)


@rules.formula(aten.avg_pool3d.default)
def avg_pool3d(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Means of windows: as `avg_pool2d`."""
    return averages(window(kernel_size, 3) * result.numel, result.numel)


@rules.formula(*overloads("_adaptive_avg_pool2d.default", "mkldnn_adaptive_avg_pool2d.default"))
def adaptive_avg_pool2d(self: TensorSpec, result: TensorSpec) -> Cost:
    """Means of adaptive windows, which may overlap and differ in size.

    Counts: all windows' cells − 1 adds and one division an output.
    Example: (1, 1, 5, 4) to (3, 2): windows of 2 + 3 + 2 rows by 2 + 2 columns, 28 cells;
    22 adds and 6 divisions.
    """
    return averages(adaptive_cells(self, result, 2), result.numel)


@rules.formula(aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool3d(self: TensorSpec, result: TensorSpec) -> Cost:
    """Means of adaptive windows: as `adaptive_avg_pool2d`."""
    return averages(adaptive_cells(self, result, 3), result.numel)


def average_backward_nbytes(grad_output: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """`self` is passed for its shape only."""
    return grad_output.nbytes, result.nbytes


@rules.formula(aten.avg_pool2d_backward.default, nbytes=average_backward_nbytes)
def avg_pool2d_backward(grad_output: TensorSpec, kernel_size: Sizes) -> Cost:
    """Each gradient, divided, is added to its window.

    Counts: one division and k adds a gradient.
    """
    return spread(window(kernel_size, 2) * grad_output.numel, grad_output.numel)


@rules.formula(aten.avg_pool3d_backward.default, nbytes=average_backward_nbytes)
def avg_pool3d_backward(grad_output: TensorSpec, kernel_size: Sizes) -> Cost:
    """Each gradient, divided, is added to its window: as `avg_pool2d_backward`."""
    return spread(window(kernel_size, 3) * grad_output.numel, grad_output.numel)


@rules.formula(
    *overloads(
        "_adaptive_avg_pool2d_backward.default", "mkldnn_adaptive_avg_pool2d_backward.default"
    ),
    nbytes=average_backward_nbytes,
)
def adaptive_avg_pool2d_backward(grad_output: TensorSpec, self: TensorSpec) -> Cost:
    """Each gradient, divided, is added to its window.

    Counts: one division a gradient, one add for each cell of each window.
    """
    return spread(adaptive_cells(self, grad_output, 2), grad_output.numel)


@rules.formula(aten._adaptive_avg_pool3d_backward.default, nbytes=average_backward_nbytes)
def adaptive_avg_pool3d_backward(grad_output: TensorSpec, self: TensorSpec) -> Cost:
    """Each gradient, divided, is added to its window: as `adaptive_avg_pool2d_backward`."""
    return spread(adaptive_cells(self, grad_output, 3), grad_output.numel)


# Maximum


@rules.formula(aten.max_pool2d_with_indices.default, *overloads("fractional_max_pool2d.default"))
def max_pool2d(kernel_size: Sizes, result: Pooled) -> Cost:
    """Largest of windows; dilated and randomly placed windows have as many cells.

    Counts: k − 1 comparisons an output.
    Ignores: where a fractional pooling's windows start, O(height + width).
    Example: 2x2 windows over (1, 1, 4, 4) are 4·3 = 12 comparisons.
    """
    values, _ = result
    return maxima(window(kernel_size, 2) * values.numel, values.numel)


@rules.formula(aten.max_pool3d_with_indices.default, *overloads("fractional_max_pool3d.default"))
def max_pool3d(kernel_size: Sizes, result: Pooled) -> Cost:
    """Largest of windows: as `max_pool2d`."""
    values, _ = result
    return maxima(window(kernel_size, 3) * values.numel, values.numel)


@rules.formula(*overloads("quantized_max_pool1d.default", "quantized::max_pool1d.default"))
def max_pool1d_values(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Largest of windows, without indices: as `max_pool2d`."""
    return maxima(window(kernel_size, 1) * result.numel, result.numel)


@rules.formula(
    *overloads(
        "mkldnn_max_pool2d.default", "quantized_max_pool2d.default", "quantized::max_pool2d.default"
    )
)
def max_pool2d_values(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Largest of windows, without indices: as `max_pool2d`."""
    return maxima(window(kernel_size, 2) * result.numel, result.numel)


@rules.formula(*overloads("mkldnn_max_pool3d.default", "quantized_max_pool3d.default"))
def max_pool3d_values(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Largest of windows, without indices: as `max_pool2d`."""
    return maxima(window(kernel_size, 3) * result.numel, result.numel)


@rules.formula(aten.adaptive_max_pool2d.default)
def adaptive_max_pool2d(self: TensorSpec, result: Pooled) -> Cost:
    """Largest of adaptive windows.

    Counts: all windows' cells − 1 comparisons an output.
    """
    values, _ = result
    return maxima(adaptive_cells(self, values, 2), values.numel)


@rules.formula(aten.adaptive_max_pool3d.default)
def adaptive_max_pool3d(self: TensorSpec, result: Pooled) -> Cost:
    """Largest of adaptive windows: as `adaptive_max_pool2d`."""
    values, _ = result
    return maxima(adaptive_cells(self, values, 3), values.numel)


def indexed_backward_nbytes(
    grad_output: TensorSpec, indices: TensorSpec, result: TensorSpec
) -> tuple[int, int]:
    """`self` is passed for its shape only."""
    return grad_output.nbytes + indices.nbytes, result.nbytes


def max_backward(grad_output: TensorSpec) -> Cost:
    """Each gradient is added to the cell that was the largest.

    Counts: one add a gradient.
    Ignores: finding that cell again, where the operator isn't given it.
    """
    return Cost(adds=grad_output.numel)


rules.formula(
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices_backward.default,
    aten.adaptive_max_pool2d_backward.default,
    aten.adaptive_max_pool3d_backward.default,
    aten.fractional_max_pool2d_backward.default,
    aten.fractional_max_pool3d_backward.default,
    nbytes=indexed_backward_nbytes,
)(max_backward)
rules.formula(
    *overloads(
        "max_pool2d_backward.default",
        "mkldnn_max_pool2d_backward.default",
        "mkldnn_max_pool3d_backward.default",
    )
)(max_backward)

# An unpooling puts values in their places.
rules.zero(aten.max_unpool2d.default, aten.max_unpool3d.default)
