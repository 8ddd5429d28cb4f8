"""Distances between vectors.

Letters: p rows of x1, r rows of x2, d their length; a *pair* is a row of each.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.reduction import p_norm
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("distance")


@rules.formula(aten.dist.default, typed=False)
def dist(self: TensorSpec, other: TensorSpec, p: float) -> Cost:
    """The p-norm of self − other.

    Counts: one subtraction per element (of the broadcast shape), two of complex ones, and the
    norm, whose |x|² of a complex number is 2 squares and an add.
    """
    n = math.prod(torch.broadcast_shapes(self.shape, other.shape))
    is_complex = self.dtype.is_complex or other.dtype.is_complex
    return Cost(adds=2 * n if is_complex else n) + p_norm(n, 1, p, is_complex)


@rules.formula(aten._cdist_forward.default)
def cdist(x1: TensorSpec, p: float, result: TensorSpec) -> Cost:
    """The p-distance of every pair.

    Shapes: x1 (..., p, d), x2 (..., r, d), result (..., p, r).
    Counts: per pair d subtractions and the norm of d elements. Expanding the square for p = 2,
    as a kernel may, is another algorithm: `_euclidean_dist`.
    """
    pairs, d = result.numel, x1.shape[-1]
    return Cost(adds=pairs * d) + p_norm(pairs * d, pairs, p)


@rules.formula(aten._pdist_forward.default)
def pdist(self: TensorSpec, p: float, result: TensorSpec) -> Cost:
    """The p-distance of every two rows of one matrix.

    Shapes: self (n, d), result (n·(n − 1)/2).
    """
    return cdist(self, p, result)


@rules.formula(*overloads("_euclidean_dist.default"))
def euclidean_dist(x1: TensorSpec, x2: TensorSpec, result: TensorSpec) -> Cost:
    """sqrt(max(|x1|² + |x2|² − 2·x1·x2, 0)) of every pair.

    Shapes: x1 (..., p, d), x2 (..., r, d), result (..., p, r).
    Counts: squared norms of all rows; x1 times −2; d MACs, 2 adds, a comparison and a square
    root per pair.
    """
    pairs, d = result.numel, x1.shape[-1]
    rows = math.prod(x1.shape[:-1]) + math.prod(x2.shape[:-1])
    squared_norms = Cost(muls=rows * d, adds=combined(rows * d, rows))
    products = Cost(muls=x1.numel, macs=pairs * d)
    return squared_norms + products + Cost(adds=2 * pairs, comparisons=pairs, transcendentals=pairs)


def slopes(pairs: int, d: int, p: float) -> Cost:
    """The gradient of each pair's p-distance by its d differences, times the pair's gradient.

    Counts: d differences, and: p = 1: their signs; p = 2: grad/dist, once a pair; p = inf:
    signs and absolute values, the equal of the distance told by comparing to bool; else
    |x|^(p − 2)·x per difference (abs, pow, mul) and grad/dist^(p − 1) per pair (pow, div).
    The product with the pair's factor is the caller's.
    """
    differences = Cost(adds=pairs * d)
    if p == 1:
        return differences + Cost(comparisons=pairs * d)
    if p == 2:
        return differences + Cost(divs=pairs)
    if p == math.inf:
        return differences + Cost(comparisons=2 * pairs * d)
    powers = Cost(comparisons=pairs * d, transcendentals=pairs * d, muls=pairs * d)
    return differences + powers + Cost(transcendentals=pairs, divs=pairs)


@rules.formula(aten._cdist_backward.default)
def cdist_backward(x1: TensorSpec, p: float, cdist: TensorSpec) -> Cost:
    """The gradient by x1: over its partners, the sum of each pair's slope times its gradient.

    Shapes: cdist (..., p, r), x1 (..., p, d).
    Counts: the slopes, and d MACs per pair. p = 0 has no gradient.
    """
    if p == 0:
        return Cost()
    pairs, d = cdist.numel, x1.shape[-1]
    return slopes(pairs, d, p) + Cost(macs=pairs * d)


@rules.formula(aten._pdist_backward.default)
def pdist_backward(self: TensorSpec, p: float, pdist: TensorSpec) -> Cost:
    """The gradient by the rows: a pair's slope goes to one row and, negated, to the other.

    Shapes: pdist (n·(n − 1)/2), self (n, d).
    Counts: the slopes; d muls by the pair's gradient and 2·d adds per pair.
    """
    if p == 0:
        return Cost()
    pairs, d = pdist.numel, self.shape[-1]
    return slopes(pairs, d, p) + Cost(muls=pairs * d, adds=2 * pairs * d)
