"""Loops over the elements of reductions, scans and distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from tests.oracles import Scalar, Tally, tensor_of

Row = list[Scalar]


def reduced(
    tally: Tally, x: torch.Tensor, dims: Sequence[int], fold: Callable[[Row], Scalar]
) -> torch.Tensor:
    """`fold` of the elements that share an index outside of `dims`."""
    groups: dict[tuple[int, ...], Row] = {}
    for index, value in tally.scalars(x).items():
        kept = tuple(i for d, i in enumerate(index) if d not in dims)
        groups.setdefault(kept, []).append(value)
    shape = tuple(n for d, n in enumerate(x.shape) if d not in dims)
    return tensor_of({index: fold(row) for index, row in groups.items()}, shape)


def mean(tally: Tally, row: Row) -> Scalar:
    return tally.sum(row) / float(len(row))


def product(row: Row) -> Scalar:
    out = row[0]
    for value in row[1:]:
        out = out * value
    return out


def variance(tally: Tally, row: Row, correction: int = 0) -> Scalar:
    """Two passes."""
    center = mean(tally, row)
    deviations = [value - center for value in row]
    return tally.sum([d * d for d in deviations]) / float(len(row) - correction)


def magnitude(x: Scalar) -> Scalar:
    x.tally.note("comparisons")
    return Scalar(abs(x.value), x.tally)


def sign(x: Scalar) -> Scalar:
    x.tally.note("comparisons")
    return Scalar(math.copysign(1.0, x.value) if x.value else 0.0, x.tally)


def power(x: Scalar, exponent: float) -> Scalar:
    x.tally.note("transcendentals")
    return Scalar(x.value**exponent, x.tally)


def power_sum(tally: Tally, row: Row, p: float) -> Scalar:
    if p == 0:
        return tally.sum([Scalar(float(x.value != 0), tally) for x in row])
    if p == 2:
        return tally.sum([x * x for x in row])
    sizes = [magnitude(x) for x in row]
    if p == math.inf:
        return tally.max(sizes)
    if p == -math.inf:
        return Scalar(-tally.max([Scalar(-x.value, tally) for x in sizes]).value, tally)
    if p == 1:
        return tally.sum(sizes)
    return tally.sum([power(x, p) for x in sizes])


def p_norm(tally: Tally, row: Row, p: float) -> Scalar:
    total = power_sum(tally, row, p)
    if p == 2:
        return total.apply("sqrt")
    return total if p in (0, 1, math.inf, -math.inf) else power(total, 1 / p)


def scan(
    tally: Tally, x: torch.Tensor, dim: int, step: Callable[[Scalar, Scalar], Scalar]
) -> torch.Tensor:
    """Each element combined with the result before it."""
    out: dict[tuple[int, ...], Scalar] = {}
    for index, value in tally.scalars(x).items():
        before = (*index[:dim], index[dim] - 1, *index[dim + 1 :])
        out[index] = step(out[before], value) if index[dim] else value
    return tensor_of(out, tuple(x.shape))


def larger(a: Scalar, b: Scalar) -> Scalar:
    return a.tally.max([a, b])


def log_add(a: Scalar, b: Scalar) -> Scalar:
    """log(exp(a) + exp(b)), by one comparison of a and b."""
    a.tally.note("comparisons")
    big, small = (a, b) if a.value > b.value else (b, a)
    return big + (small - big).apply("exp").apply("log1p")


# Distances


def cdist(tally: Tally, x1: torch.Tensor, x2: torch.Tensor, p: float) -> torch.Tensor:
    a, b = tally.scalars(x1), tally.scalars(x2)
    (rows, d), others = x1.shape, x2.shape[0]
    out = {
        (i, j): p_norm(tally, [a[i, k] - b[j, k] for k in range(d)], p)
        for i in range(rows)
        for j in range(others)
    }
    return tensor_of(out, (rows, others))


def pdist(tally: Tally, x: torch.Tensor, p: float) -> torch.Tensor:
    a = tally.scalars(x)
    n, d = x.shape
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    values = [p_norm(tally, [a[i, k] - a[j, k] for k in range(d)], p) for i, j in pairs]
    return tensor_of({(i,): value for i, value in enumerate(values)}, (len(pairs),))


def euclidean(tally: Tally, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """The square expanded."""
    a, b = tally.scalars(x1), tally.scalars(x2)
    (rows, d), others = x1.shape, x2.shape[0]
    left = [tally.sum([a[i, k] * a[i, k] for k in range(d)]) for i in range(rows)]
    right = [tally.sum([b[j, k] * b[j, k] for k in range(d)]) for j in range(others)]
    doubled = {index: value * -2.0 for index, value in a.items()}
    out = {}
    for i in range(rows):
        for j in range(others):
            cross = tally.weighted_sum((doubled[i, k], b[j, k]) for k in range(d))
            out[i, j] = (left[i] + right[j] + cross).at_least(0.0).apply("sqrt")
    return tensor_of(out, (rows, others))


def slope(differences: Row, grad: Scalar, distance: float, p: float) -> tuple[Row, Scalar]:
    """The derivative of a p-distance by its differences, as a vector and a common factor."""
    if p == 1:
        return [sign(x) for x in differences], grad
    if p == 2:
        return differences, grad / distance
    if p == math.inf:
        farthest = [(sign(x), magnitude(x).value == distance) for x in differences]
        return [s if far else Scalar(0.0, s.tally) for s, far in farthest], grad
    vector = [power(magnitude(x), p - 2) * x for x in differences]
    return vector, grad / power(Scalar(distance, grad.tally), p - 1)


def cdist_backward(
    tally: Tally, grad: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, p: float
) -> torch.Tensor:
    g, a, b = tally.scalars(grad), tally.scalars(x1), tally.scalars(x2)
    (rows, d), others = x1.shape, x2.shape[0]
    distance = torch.cdist(x1, x2, p=p)
    out = {}
    for i in range(rows):
        pairs = [
            slope([a[i, k] - b[j, k] for k in range(d)], g[i, j], distance[i, j].item(), p)
            for j in range(others)
        ]
        for k in range(d):
            out[i, k] = tally.weighted_sum((vector[k], factor) for vector, factor in pairs)
    return tensor_of(out, (rows, d))


def pdist_backward(tally: Tally, grad: torch.Tensor, x: torch.Tensor, p: float) -> torch.Tensor:
    g, a = tally.scalars(grad), tally.scalars(x)
    n, d = x.shape
    distance = torch.pdist(x, p=p)
    out = {(i, k): tally.scalar(0.0) for i in range(n) for k in range(d)}
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            differences = [a[i, k] - a[j, k] for k in range(d)]
            vector, factor = slope(differences, g[(pair,)], distance[pair].item(), p)
            for k in range(d):
                push = vector[k] * factor
                out[i, k] = out[i, k] + push
                out[j, k] = out[j, k] - push
            pair += 1
    return tensor_of(out, (n, d))
