"""Naive loops: histograms and the gradient of a reduction of segments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise, product
from math import prod

import torch

from tests.oracles import Scalar, Tally


def extent(column: Sequence[Scalar]) -> tuple[float, float]:
    """The least and the largest: a comparison each for all but the first."""
    low = high = column[0]
    for x in column[1:]:
        low, high = x.at_most(low.value), x.at_least(high.value)
    return low.value, high.value


def placed(x: Scalar, low: float, high: float, bins: int) -> int:
    """The bin among equal ones, its neighbours looked at: the first guess may be one off."""
    guess = (x - low) * (bins / (high - low))
    x.tally.note("comparisons")  # rounded down
    x.tally.note("comparisons", 2)  # with the edges on both sides
    return min(int(guess.value), bins - 1)


def searched(x: Scalar, edges: Sequence[float]) -> int:
    """The bin among given edges, the last of which belongs to the last bin.

    Halving: of the places before, between and behind the edges, the half that x is in.
    """
    places = len(edges) + 1
    while places > 1:
        x.tally.note("comparisons")
        places = (places + 1) // 2
    return min(bisect_right(edges, x.value) - 1, len(edges) - 2)


def histogram(
    tally: Tally,
    points: torch.Tensor,
    bins: Sequence[int] | Sequence[Sequence[float]],
    limits: Sequence[float] | None,
    weight: Sequence[float] | None,
    density: bool,
) -> torch.Tensor:
    """Of points (n, d), by numbers of equal bins or by their edges."""
    columns = [[tally.scalar(x.item()) for x in column] for column in points.T]
    places: list[list[int]] = []
    edges: list[Sequence[float]] = []
    for d, column in enumerate(columns):
        wanted = bins[d]
        if isinstance(wanted, int):
            low, high = extent(column) if limits is None else (limits[2 * d], limits[2 * d + 1])
            places.append([placed(x, low, high, wanted) for x in column])
            edges.append([low + (high - low) * i / wanted for i in range(wanted + 1)])
        else:
            places.append([searched(x, wanted) for x in column])
            edges.append(wanted)
    shape = [len(e) - 1 for e in edges]
    out = {at: tally.scalar(0.0) for at in product(*map(range, shape))}
    for i in range(len(points)):
        at = tuple(place[i] for place in places)
        out[at] = out[at] + (1.0 if weight is None else weight[i])
    if density:
        total = tally.sum(out.values())
        out = {at: value / total for at, value in out.items()}
        for d, axis in enumerate(edges):
            lengths = [tally.scalar(b) - a for a, b in pairwise(axis)]
            out = {at: value / lengths[at[d]] for at, value in out.items()}
    values = [value.value for value in out.values()]
    assert len(values) == prod(shape)
    return torch.tensor(values, dtype=torch.float64).view(shape)


def segment_gradient(
    tally: Tally, grad: Sequence[float], segments: Sequence[Sequence[float]], reduce: str
) -> list[float]:
    """The gradient by each element of segments that were reduced."""
    found: list[float] = []
    for g, segment in zip(grad, segments):
        given = tally.scalar(g)
        if reduce == "mean":
            found += [(given / len(segment)).value] * len(segment)
        elif reduce == "prod":
            scaled = given * prod(segment)
            found += [(scaled / x).value for x in segment]
        elif reduce == "sum":
            found += [g] * len(segment)
        else:
            best = {"max": max, "min": min}[reduce](segment)
            found += [g if x == best else 0.0 for x in segment]
    return found
