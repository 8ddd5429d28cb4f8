"""Sorting, selecting and searching: comparisons.

Letters: n elements a slice, r slices. What a data-dependent algorithm takes is given as its
order of magnitude and marked as an estimate.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("ordering")

SORT = "order of magnitude: a merge sort's n·ceil(log2 n) comparisons"
SELECT = "order of magnitude: a selection looks at each element once"


def ceil_log2(n: int) -> int:
    """The least k with 2^k >= n: how often n elements can be halved. In integers.

    Of no elements it is 1, and nothing times it.
    Example: 3 for 5 to 8 elements, 0 for one.
    """
    return (n - 1).bit_length()


def length(self: TensorSpec, dim: int) -> int:
    """Elements of a slice along a dimension; 1 of a tensor without dimensions."""
    return self.shape[dim] if self.ndim else 1


@rules.formula(aten.sort.default, aten.sort.stable, estimate=SORT)
def sort(self: TensorSpec, dim: int) -> Cost:
    """Sorted slices, and where their elements were.

    Counts: r·n·ceil(log2 n) comparisons.
    Example: 2 slices of 5 are 2·5·3 = 30.
    """
    return Cost(comparisons=self.numel * ceil_log2(length(self, dim)))


@rules.formula(
    aten.topk.default,
    aten.kthvalue.default,
    aten.median.default,
    aten.median.dim,
    aten.nanmedian.default,
    aten.nanmedian.dim,
    estimate=SELECT,
)
def select(self: TensorSpec) -> Cost:
    """The k largest elements, the k-th smallest, the median.

    Counts: r·n comparisons.

    Ignores: the order among the k that `topk` returns.
    """
    return Cost(comparisons=self.numel)


@rules.formula(aten.mode.default, estimate=SORT)
def mode(self: TensorSpec, dim: int) -> Cost:
    """The most frequent element: sorted slices, and the longest run in each.

    Counts: the sort, and n − 1 comparisons a slice.
    """
    slices = math.prod(self.shape[:dim] + self.shape[dim:][1:])
    return sort(self, dim) + Cost(comparisons=combined(self.numel, slices))


@rules.formula(aten._unique.default, aten._unique2.default, estimate=SORT)
def unique(self: TensorSpec) -> Cost:
    """The distinct elements: a sort of all, and a comparison of neighbours.

    Counts: n·ceil(log2 n) + n − 1 comparisons.
    """
    n = self.numel
    return Cost(comparisons=n * ceil_log2(n) + combined(n, 1))


@rules.formula(aten.unique_dim.default, estimate=SORT)
def unique_dim(self: TensorSpec, dim: int) -> Cost:
    """The distinct slices: a sort of all, and a comparison of neighbours.

    Counts: those of `unique` for n slices, times a slice's elements.
    """
    n = length(self, dim)
    each = math.prod(self.shape[:dim] + self.shape[dim:][1:])
    return Cost(comparisons=(n * ceil_log2(n) + combined(n, 1)) * each)


@rules.formula(aten.unique_consecutive.default)
def unique_consecutive(self: TensorSpec, dim: int | None) -> Cost:
    """The elements, or slices, that differ from the one before.

    Counts: a comparison per element but the first, or but those of the first slice.
    """
    if dim is None:
        return Cost(comparisons=combined(self.numel, 1))
    return unique_dim_consecutive(self, dim)


@rules.formula(aten.unique_dim_consecutive.default)
def unique_dim_consecutive(self: TensorSpec, dim: int) -> Cost:
    """The slices that differ from the one before.

    Counts: a comparison per element but those of the first slice.
    """
    each = math.prod(self.shape[:dim] + self.shape[dim:][1:])
    return Cost(comparisons=combined(self.numel, each))


def searches(queries: int, n: int) -> Cost:
    """Binary searches among n sorted elements, n + 1 places being possible.

    Counts: ceil(log2(n + 1)) comparisons a query.
    """
    return Cost(comparisons=queries * ceil_log2(n + 1))


@rules.formula(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(sorted_sequence: TensorSpec, result: TensorSpec) -> Cost:
    """Where each query would be inserted: `searches`.

    Shapes: sorted_sequence (..., n), result as the queries.
    """
    return searches(result.numel, length(sorted_sequence, -1))


@rules.formula(aten.bucketize.Tensor, aten.bucketize.Scalar)
def bucketize(boundaries: TensorSpec, result: TensorSpec) -> Cost:
    """Which of n + 1 buckets each query falls into: `searches`."""
    return searches(result.numel, boundaries.numel)


@rules.formula(aten.isin.Tensor_Tensor, estimate=SORT)
def isin(elements: TensorSpec, test_elements: TensorSpec) -> Cost:
    """Which elements are among the test elements.

    Counts: the test elements sorted, and a search among them for each element.
    """
    n = test_elements.numel
    return Cost(comparisons=n * ceil_log2(n)) + searches(elements.numel, n)


rules.zero(aten.isin.Tensor_Scalar, aten.isin.Scalar_Tensor)


@rules.formula(aten.histc.default)
def histc(self: TensorSpec, min: float, max: float) -> Cost:
    """How many elements fall into each of equal bins: (x − min)·(bins/(max − min)), rounded down.

    Counts: per element an add, a mul, a rounding, and the add to its bin; where min = max, the
    least and the largest element are the range, which n − 1 comparisons find each.
    """
    n = self.numel
    found = 2 * combined(n, 1) if min == max else 0
    return Cost(adds=2 * n, muls=n, comparisons=n + found)
