"""Naive loops of grid sampling. Indices and masks are not arithmetic; coordinates are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import floor

import torch

from tests.oracles import Scalar, Tally, tensor_of

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2

Index = tuple[int, ...]
A = -0.75  # of the cubic convolution


def at(n: int, c: int, place: Index) -> Index:
    return (n, c, *place)


def joined(place: Index, last: int) -> Index:
    return (*place, last)


def positions(shape: Sequence[int]) -> Iterable[Index]:
    return product(*(range(n) for n in shape))


def compared(x: Scalar, value: float) -> Scalar:
    """A value that took one operation of the comparison class: abs, floor, rounding."""
    x.tally.note("comparisons")
    return Scalar(value, x.tally)


class Axis:
    """One coordinate of one location: its taps, their weights, and derivatives of these.

    Coordinates go from [-1, 1], which are the middles of the outermost pixels or
    (`align_corners` false) their outer edges, to pixels.
    """

    def __init__(self, x: Scalar, size: int, mode: int, padding: int, align_corners: bool) -> None:
        self.tally = x.tally
        self.size, self.padding, self.align_corners = size, padding, align_corners
        self.slope = (size - 1) / 2 if align_corners else size / 2
        x = x * self.slope + (size - 1) / 2
        if mode == NEAREST:
            x = self.moved_inside(x)
            self.indices = [int(compared(x, round(x.value)).value)]
        elif mode == BILINEAR:
            x = self.moved_inside(x)
            first = compared(x, floor(x.value))
            t = x - first
            self.weights = [1 - t, t]
            self.indices = [int(first.value), int(first.value) + 1]
        else:
            first = compared(x, floor(x.value))
            self.t = x - first
            self.distances = self.t + 1, self.t, 1 - self.t, 2 - self.t
            far, near, next_, last = self.distances
            self.weights = [beyond(far), within(near), within(next_), beyond(last)]
            self.indices = [self.index_inside(int(first.value) + k) for k in (-1, 0, 1, 2)]

    def moved_inside(self, x: Scalar) -> Scalar:
        """Clamp or fold the coordinate; `slope` becomes zero or negative where that does so."""
        if self.padding == REFLECTION:
            low = 0.0 if self.align_corners else -0.5
            span = self.size - 1 if self.align_corners else self.size
            offset = x - low
            distance = compared(offset, abs(offset.value))
            spans = distance / span
            whole = compared(spans, floor(spans.value))
            rest = distance - whole * span
            backwards = span - rest
            odd = whole.value % 2 == 1
            if odd != (offset.value < 0):
                self.slope = -self.slope
            x = (backwards if odd else rest) + low
        if self.padding != ZEROS:
            if not 0 < x.value < self.size - 1:
                self.slope = 0.0
            x = x.at_least(0).at_most(self.size - 1)
        return x

    def index_inside(self, i: int) -> int:
        """A cubic tap that lies outside is clamped or folded as a whole number."""
        if self.padding == ZEROS:
            return i
        if self.padding == REFLECTION:
            low = 0.0 if self.align_corners else -0.5
            span = self.size - 1 if self.align_corners else self.size
            whole, rest = divmod(abs(i - low), span)
            i = int((span - rest if whole % 2 else rest) + low)
        return min(max(i, 0), self.size - 1)

    def gradient(self, of_weights: Sequence[Scalar]) -> Scalar:
        """The coordinate's gradient, given that of its weights."""
        if len(of_weights) == 2:
            first, second = of_weights
            return (second - first) * self.slope
        far, near, next_, last = self.distances
        derivatives = [
            beyond_slope(far, 1),
            within_slope(near, 1),
            within_slope(next_, -1),
            beyond_slope(last, -1),
        ]
        return self.tally.weighted_sum(zip(of_weights, derivatives)) * self.slope


def within(u: Scalar) -> Scalar:
    """The cubic convolution up to one pixel away."""
    return (u * (A + 2) - (A + 3)) * u * u + 1


def beyond(u: Scalar) -> Scalar:
    """The cubic convolution between one and two pixels away."""
    return ((u * A - 5 * A) * u + 8 * A) * u - 4 * A


def within_slope(u: Scalar, sign: int) -> Scalar:
    return (u * (sign * 3 * (A + 2)) - sign * 2 * (A + 3)) * u


def beyond_slope(u: Scalar, sign: int) -> Scalar:
    return (u * (sign * 3 * A) - sign * 10 * A) * u + sign * 8 * A


class Location:
    """One location: its axes, and the taps' indices and weights, last dimension fastest."""

    def __init__(self, axes: Sequence[Axis], mode: int) -> None:
        self.axes, self.tally = axes, axes[0].tally
        self.taps = list(product(*(axis.indices for axis in axes)))
        self.weights: list[Scalar] = []
        if mode != NEAREST:
            *depth, height, width = (axis.weights for axis in axes)
            self.plane = [h * w for h in height for w in width]
            self.weights = [d * p for d in depth[0] for p in self.plane] if depth else self.plane

    def gradients(self, of_taps: list[Scalar]) -> list[Scalar]:
        """Each coordinate's gradient, width first as a grid has them."""
        *depth, height, width = (axis.weights for axis in self.axes)
        of_axes = []
        if depth:
            size = len(self.plane)
            slices = [of_taps[k : k + size] for k in range(0, len(of_taps), size)]
            of_axes = [[self.tally.weighted_sum(zip(part, self.plane)) for part in slices]]
            of_taps = [self.tally.weighted_sum(zip(column, depth[0])) for column in zip(*slices)]
        n = len(width)
        rows = [of_taps[k : k + n] for k in range(0, len(of_taps), n)]
        of_axes.append([self.tally.weighted_sum(zip(row, width)) for row in rows])
        of_axes.append([self.tally.weighted_sum(zip(column, height)) for column in zip(*rows)])
        return [axis.gradient(g) for axis, g in zip(self.axes[::-1], of_axes[::-1])]


def locations(
    tally: Tally, inside: Index, grid: torch.Tensor, mode: int, padding: int, align_corners: bool
) -> dict[Index, Location]:
    """By (n, *output index)."""
    coordinates, found = tally.scalars(grid), {}
    for place in positions(grid.shape[:-1]):
        axes = [
            Axis(
                coordinates[joined(place, len(inside) - 1 - k)], size, mode, padding, align_corners
            )
            for k, size in enumerate(inside)
        ]
        found[place] = Location(axes, mode)
    return found


def grid_sample(
    tally: Tally, x: torch.Tensor, grid: torch.Tensor, mode: int, padding: int, align_corners: bool
) -> torch.Tensor:
    """x (n, c, *spatial), grid (n, *outputs, d)."""
    values, inside, result = tally.scalars(x), tuple(x.shape[2:]), {}
    found = locations(tally, inside, grid, mode, padding, align_corners)
    for (n, *out), location in found.items():
        for c in range(x.shape[1]):
            taps = [values.get(at(n, c, tap), tally.scalar(0)) for tap in location.taps]
            place = at(n, c, tuple(out))
            if mode == NEAREST:
                result[place] = taps[0]
            else:
                result[place] = tally.weighted_sum(zip(location.weights, taps))
    return tensor_of(result, (*x.shape[:2], *grid.shape[1:-1]))


def grid_sample_backward(
    tally: Tally,
    grad: torch.Tensor,
    x: torch.Tensor,
    grid: torch.Tensor,
    mode: int,
    padding: int,
    align_corners: bool,
    output_mask: tuple[bool, bool],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of x and grid; zeros for one that `output_mask` leaves out."""
    values, gradients = tally.scalars(x), tally.scalars(grad)
    inside, channels = tuple(x.shape[2:]), range(x.shape[1])
    terms: dict[Index, list[tuple[Scalar, Scalar]]] = {}
    copies: dict[Index, Scalar] = {}
    of_grid: dict[Index, Scalar] = {}
    found = locations(tally, inside, grid, mode, padding, align_corners)
    for (n, *out), location in found.items():
        given = [gradients[at(n, c, tuple(out))] for c in channels]
        if output_mask[0]:
            for c in channels:
                for k, tap in enumerate(location.taps):
                    place = at(n, c, tap)
                    if mode == NEAREST:
                        copies[place] = copies.get(place, tally.scalar(0)) + given[c]
                    else:
                        terms.setdefault(place, []).append((location.weights[k], given[c]))
        if output_mask[1] and mode != NEAREST:
            of_taps = [
                tally.weighted_sum(
                    (given[c], values.get(at(n, c, tap), tally.scalar(0))) for c in channels
                )
                for tap in location.taps
            ]
            for k, value in enumerate(location.gradients(of_taps)):
                of_grid[joined((n, *out), k)] = value
    total = copies or {place: tally.weighted_sum(some) for place, some in terms.items()}
    kept = {
        place: value
        for place, value in total.items()
        if all(0 <= i < size for i, size in zip(place[2:], inside))
    }
    return tensor_of(kept, tuple(x.shape)), tensor_of(of_grid, tuple(grid.shape))


def affine_grid(
    tally: Tally, theta: torch.Tensor, outputs: Index, align_corners: bool
) -> torch.Tensor:
    """The matrix times (x, y, 1) for each output; what these are is a table per axis."""
    matrix, result = tally.scalars(theta), {}

    def coordinate(i: int, size: int) -> float:
        if align_corners:
            return 2 * i / (size - 1) - 1 if size > 1 else 0.0
        return (2 * i + 1) / size - 1

    for n in range(theta.shape[0]):
        for out in positions(outputs):
            where = [coordinate(i, size) for i, size in zip(out, outputs)][::-1]
            point = [tally.scalar(p) for p in (*where, 1.0)]
            for row in range(theta.shape[1]):
                result[joined((n, *out), row)] = tally.weighted_sum(
                    (matrix[n, row, k], p) for k, p in enumerate(point)
                )
    return tensor_of(result, (theta.shape[0], *outputs, theta.shape[1]))
