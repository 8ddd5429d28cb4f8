"""Naive interpolation loops. The taps of an axis and their weights are a table: not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import floor, nan, pi, prod, sin
from typing import Any

import torch

from flopdispatch.formulas.operators import overloads
from tests.oracles import Scalar, Tally, tensor_of

Index = tuple[int, ...]
Tap = tuple[int, float]  # an input's index and its weight
Axis = list[list[Tap]]  # for each output index, its taps


def at(n: int, c: int, place: Index) -> Index:
    return (n, c, *place)


def positions(shape: Sequence[int]) -> Iterable[Index]:
    return product(*(range(n) for n in shape))


def step(size: int, outputs: int, align_corners: bool, scale: float | None) -> float:
    """Input pixels from one output to the next."""
    if align_corners:
        return (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    return 1 / scale if scale else size / outputs


def source(i: int, by: float, align_corners: bool) -> float:
    """Where output i lies, in input pixels: corners on corners, or edges on edges."""
    return i * by if align_corners else (i + 0.5) * by - 0.5


def linear_axis(size: int, outputs: int, align_corners: bool, scale: float | None) -> Axis:
    """Both neighbours."""
    by = step(size, outputs, align_corners, scale)
    axis = []
    for i in range(outputs):
        where = max(source(i, by, align_corners), 0.0)
        first = min(int(where), size - 1)
        t = where - first
        axis.append([(first, 1 - t), (min(first + 1, size - 1), t)])
    return axis


def cubic(x: float, a: float) -> float:
    """Keys' cubic convolution."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def cubic_axis(size: int, outputs: int, align_corners: bool, scale: float | None) -> Axis:
    """Two neighbours on both sides, those outside moved to the border."""
    by = step(size, outputs, align_corners, scale)
    axis = []
    for i in range(outputs):
        where = source(i, by, align_corners)
        first = floor(where)
        axis.append(
            [
                (min(max(first + k, 0), size - 1), cubic(first + k - where, -0.75))
                for k in (-1, 0, 1, 2)
            ]
        )
    return axis


def triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def keys(x: float) -> float:
    return cubic(x, -0.5)


def lanczos(x: float) -> float:
    def sinc(u: float) -> float:
        return sin(pi * u) / (pi * u) if u else 1.0

    return sinc(x) * sinc(x / 3) if abs(x) < 3 else 0.0


def antialiased_axis(
    probe: Callable[[torch.Tensor, int], torch.Tensor],
    kernel: Callable[[float], float],
    size: int,
    outputs: int,
    align_corners: bool,
    scale: float | None,
) -> Axis:
    """The taps that torch itself reads, found by a NaN in each; weighted by a stretched kernel.

    `probe` resizes the last dimension of a tensor (n, 1, 1, size).
    """
    marked = torch.zeros(size, size, dtype=torch.float64).fill_diagonal_(nan)
    reached = probe(marked[:, None, None, :], outputs)
    by = step(size, outputs, align_corners, scale)
    axis = []
    for i in range(outputs):
        taps = [j for j in range(size) if reached[j, 0, 0, i].isnan()]
        weights = [kernel((j + 0.5 - (i + 0.5) * by) / max(by, 1.0)) for j in taps]
        total = sum(weights)
        axis.append([(j, w / total) for j, w in zip(taps, weights)])
    return axis


FILTERS: list[tuple[str, int, Callable[[float], float]]] = [
    (name, width, kernel)
    for name, width, kernel in (
        ("_upsample_bilinear2d_aa", 2, triangle),
        ("_upsample_bicubic2d_aa", 4, keys),
        ("_upsample_lanczos2d_aa", 6, lanczos),
    )
    if overloads(f"{name}.default")
]


def axis_of(
    name: str,
    kernel: Callable[[float], float],
    size: int,
    outputs: int,
    align_corners: bool,
    scale: float | None,
) -> Axis | None:
    """The taps that torch reads in double precision, None for a size that stays."""
    if size == outputs:
        return None

    def probe(x: torch.Tensor, wanted: int) -> torch.Tensor:
        result: torch.Tensor = getattr(torch.ops.aten, name)(
            x, [1, wanted], align_corners, None, scale
        )
        return result

    return antialiased_axis(probe, kernel, size, outputs, align_corners, scale)


def combined(taps: Sequence[list[Tap]]) -> list[tuple[Index, float]]:
    """The taps of several dimensions."""
    return [(tuple(j for j, _ in chosen), prod(w for _, w in chosen)) for chosen in product(*taps)]


def interpolate(tally: Tally, x: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
    """x (n, c, *spatial): each output is one weighted sum."""
    values, outputs = tally.scalars(x), tuple(len(axis) for axis in axes)
    result = {}
    for n, c in positions(x.shape[:2]):
        for out in positions(outputs):
            taps = combined([axis[i] for axis, i in zip(axes, out)])
            result[at(n, c, out)] = tally.weighted_sum(
                (tally.scalar(weight), values[at(n, c, tap)]) for tap, weight in taps
            )
    return tensor_of(result, (*x.shape[:2], *outputs))


def interpolate_backward(
    tally: Tally, grad: torch.Tensor, axes: Sequence[Axis], inside: Index
) -> torch.Tensor:
    """Each gradient times a weight is accumulated in the weight's tap."""
    terms: dict[Index, list[tuple[Scalar, Scalar]]] = {}
    for (n, c, *out), gradient in tally.scalars(grad).items():
        chosen = [axis[i] for axis, i in zip(axes, out)]
        for tap, weight in combined(chosen):
            terms.setdefault(at(n, c, tap), []).append((tally.scalar(weight), gradient))
    total = {place: tally.weighted_sum(some) for place, some in terms.items()}
    return tensor_of(total, (*grad.shape[:2], *inside))


def resize(tally: Tally, x: torch.Tensor, rows: Axis | None, columns: Axis | None) -> torch.Tensor:
    """Width, then height, each a pass of its own; None leaves a dimension as it is."""
    if columns is not None:
        x = interpolate_1d(tally, x, columns, dim=3)
    if rows is not None:
        x = interpolate_1d(tally, x, rows, dim=2)
    return x


def resize_backward(
    tally: Tally,
    grad: torch.Tensor,
    rows: Axis | None,
    columns: Axis | None,
    inside: tuple[int, int],
) -> torch.Tensor:
    """The passes in reverse, each transposed."""
    if rows is not None:
        grad = interpolate_1d(tally, grad, transposed(rows, inside[0]), dim=2)
    if columns is not None:
        grad = interpolate_1d(tally, grad, transposed(columns, inside[1]), dim=3)
    return grad


def transposed(axis: Axis, size: int) -> Axis:
    """For each input, the outputs that read it."""
    result: Axis = [[] for _ in range(size)]
    for i, taps in enumerate(axis):
        for j, weight in taps:
            result[j].append((i, weight))
    return result


def moved(place: Index, dim: int, to: int) -> Index:
    """The place with another index in one dimension."""
    return (*place[:dim], to, *place[dim + 1 :])


def interpolate_1d(tally: Tally, x: torch.Tensor, axis: Axis, dim: int) -> torch.Tensor:
    values, shape = tally.scalars(x), list(x.shape)
    shape[dim] = len(axis)
    result = {}
    for place in positions(shape):
        result[place] = tally.weighted_sum(
            (tally.scalar(weight), values[moved(place, dim, j)]) for j, weight in axis[place[dim]]
        )
    return tensor_of(result, tuple(shape))


def nearest_backward(
    tally: Tally, grad: torch.Tensor, chosen: Sequence[list[int]], inside: Index
) -> torch.Tensor:
    """Each gradient is added to the element that it was copied from."""
    total: dict[Any, Scalar] = {}
    for (n, c, *out), gradient in tally.scalars(grad).items():
        place = at(n, c, tuple(axis[i] for axis, i in zip(chosen, out)))
        total[place] = total.get(place, tally.scalar(0)) + gradient
    return tensor_of(total, (*grad.shape[:2], *inside))


def nearest_axis(size: int, outputs: int, exact: bool) -> list[int]:
    """The pixel that holds an output's start, or (`exact`) its middle."""
    offset = 1 if exact else 0
    return [(2 * i + offset) * size // (2 * outputs) for i in range(outputs)]
