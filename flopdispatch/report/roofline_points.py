"""What a plot of a roofline shows: the roofs, and a point for each group of calls."""

from __future__ import annotations

import math
from typing import NamedTuple

from flopdispatch.report.records import namer
from flopdispatch.roofline import MEMORY, Bound, Roofline
from flopdispatch.units import percent


class Point(NamedTuple):
    """A group of calls: operations a byte, and the operations a second that it reaches at most."""

    name: str
    intensity: float
    rate: float
    bound: Bound


class Axes(NamedTuple):
    """The powers of ten that the axes of a plot go from and to."""

    left: int
    right: int
    low: int
    high: int


def points(roofline: Roofline, by: str) -> list[Point]:
    """The groups of calls that compute something and move bytes, the most time first.

    Raises: ArgumentError for another `by`.
    """
    found = []
    for name, bound in groups(roofline, by).items():
        if bound.intensity:
            found.append(Point(name, bound.intensity, bound.operations / bound.seconds, bound))
    return found


def groups(roofline: Roofline, by: str) -> dict[str, Bound]:
    """The bounds of operators, families, phases, dtypes or modules alone, the most time first.

    Raises: ArgumentError for another `by`.
    """
    return roofline.grouped(namer(roofline.profile, by))


def axes(roofline: Roofline, shown: list[Point]) -> Axes:
    """The range of a plot: every point, and every roof's ridge with room on both sides."""
    ridges = list(roofline.ridges.values())
    rates = [rate for name, rate in roofline.rates.items() if name != MEMORY]
    across = [*(point.intensity for point in shown), *ridges]
    up = [*(point.rate for point in shown), *rates]
    left, low = (math.floor(math.log10(min(values))) for values in (across, up))
    right, high = (math.floor(math.log10(max(values))) + 1 for values in (across, up))
    return Axes(left, right, low, high)


def bound_by(bound: Bound) -> str:
    """`"memory"`, `"compute"`, or the one of most of the time with its share."""
    memory = bound.memory_seconds
    if memory in (0.0, bound.seconds):
        return bound.bound
    most = memory if bound.bound == MEMORY else bound.seconds - memory
    return f"{bound.bound} {percent(most, bound.seconds)}"
