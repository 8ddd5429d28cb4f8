"""Histograms, gradients of samples, and the gradient of segments' reductions.

Letters: n points of d coordinates, b bins in all (those of the axes multiplied).
"""

from __future__ import annotations

from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.ordering import searches
from flopdispatch.formulas.pointwise import TRANSCENDENTAL, per_output
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("ordering")

Sizes = tuple[int, ...]
Range = tuple[float, ...] | None


# Histograms. What is out of range is counted too; the edges of equal bins are ranges.


def placed(coordinates: int) -> Cost:
    """floor((x − min)·(bins/(max − min))), then the edges around it are compared with x.

    Counts: an add, a mul, a rounding and 2 comparisons per coordinate.
    """
    return Cost(adds=coordinates, muls=coordinates, comparisons=3 * coordinates)


def extent(n: int, d: int, range: Range) -> Cost:
    """The least and largest of n points in each of d coordinates, unless the range is given."""
    return Cost(comparisons=2 * combined(n * d, d)) if range is None else Cost()


def tallied(n: int, bins: Sizes, density: bool) -> Cost:
    """One, or its weight, for each point is added to its bin; a density is divided by its volume.

    Counts: n adds; a density: b − 1 adds and b divisions by the total; along each axis of k bins k
    subtractions for their lengths, and b divisions by them.
    """
    if not density:
        return Cost(adds=n)
    b = prod(bins)
    return Cost(adds=n + combined(b, 1) + sum(bins), divs=b * (1 + len(bins)))


@rules.formula(*overloads("histogram.bin_ct"))
def histogram(self: TensorSpec, bins: int, range: Range, density: bool) -> Cost:
    """How many elements, or which sum of weights, falls into each of equal bins.

    Counts: the range, where it isn't given; `placed` and `tallied` elements.
    Example: 6 elements with a range: 6 adds and muls, 18 comparisons; 6 adds.
    """
    n = self.numel
    return extent(n, 1, range) + placed(n) + tallied(n, (bins,), density)


@rules.formula(*overloads("histogram.bins_tensor"))
def histogram_of_edges(self: TensorSpec, bins: TensorSpec, density: bool) -> Cost:
    """The same for bins given by their edges, among which each element is searched."""
    n, edges = self.numel, bins.numel
    return searches(n, edges) + tallied(n, (edges - 1,), density)


@rules.formula(*overloads("_histogramdd_bin_edges.default"))
def histogramdd_bin_edges(self: TensorSpec, range: Range) -> Cost:
    """The edges of equal bins: the extent of the points, where no range is given.

    Shapes: self (..., d).
    """
    return extent(*points(self), range)


@rules.formula(*overloads("_histogramdd_from_bin_cts.default"))
def histogramdd(self: TensorSpec, bins: Sizes, range: Range, density: bool) -> Cost:
    """A histogram in several dimensions: each coordinate is `placed`, each point `tallied`.

    Shapes: self (..., d).
    Ignores: the flat index of a bin, which is one of integers.
    """
    n, d = points(self)
    return extent(n, d, range) + placed(n * d) + tallied(n, bins, density)


@rules.formula(*overloads("_histogramdd_from_bin_tensors.default"))
def histogramdd_of_edges(self: TensorSpec, bins: tuple[TensorSpec, ...], density: bool) -> Cost:
    """The same for bins given by their edges, among which each coordinate is searched."""
    n, _ = points(self)
    found = sum((searches(n, edges.numel) for edges in bins), Cost())
    return found + tallied(n, tuple(edges.numel - 1 for edges in bins), density)


def points(self: TensorSpec) -> tuple[int, int]:
    """n points of d coordinates."""
    return prod(self.shape[:-1]), self.shape[-1]


# Gradients of samples by the parameters of their distribution

rules.formula(
    *overloads("_standard_gamma_grad.default", "_dirichlet_grad.default"), family="pointwise"
)(per_output(TRANSCENDENTAL, "one evaluation of the function that gives the gradient"))


# Segments


@rules.formula(*overloads("_segment_reduce_backward.default"), family="scatter")
def segment_reduce_backward(data: TensorSpec, output: TensorSpec, reduce: str) -> Cost:
    """A segment's gradient g goes to its elements x: by the reduction g, g/size, or g·output/x.

    Counts: mean: a division per segment; product: a mul per segment and a division per element;
    sum, maximum and minimum: nothing, the gradient is copied.

    Ignores: several elements that are the largest, which share it; zeros among the factors.
    """
    if reduce == "mean":
        return Cost(divs=output.numel)
    return Cost(muls=output.numel, divs=data.numel) if reduce == "prod" else Cost()
