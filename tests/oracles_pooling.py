"""Naive pooling loops. A window's cells outside of the input are computed like the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import product
from math import ceil, floor, prod

import torch

from tests.oracles import Scalar, Tally, tensor_of

Index = tuple[int, ...]
Range = tuple[int, int]


def at(n: int, c: int, place: Index) -> Index:
    return (n, c, *place)


def positions(shape: Sequence[int]) -> Iterable[Index]:
    return product(*(range(n) for n in shape))


def kernel_cells(
    out: Index, kernel: Index, stride: Index, padding: Index, dilation: Index
) -> list[Index]:
    """All cells of the window of one output, also those outside of the input."""
    starts = [o * s - p for o, s, p in zip(out, stride, padding)]
    return [
        tuple(b + i * d for b, i, d in zip(starts, offset, dilation))
        for offset in positions(kernel)
    ]


def divisor(cells: list[Index], inside: Index, padding: Index, count_include_pad: bool) -> int:
    """How many cells an average is over, as torch documents it: never those beyond the padding."""
    margins = padding if count_include_pad else tuple(0 for _ in padding)
    return sum(all(-m <= i < n + m for i, n, m in zip(cell, inside, margins)) for cell in cells)


def average(tally: Tally, terms: list[Scalar], count: int) -> Scalar:
    return tally.sum(terms) / count


def avg_pool(
    tally: Tally,
    x: torch.Tensor,
    outputs: Index,
    kernel: Index,
    stride: Index,
    padding: Index,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    """x (n, c, *spatial)."""
    values, inside = tally.scalars(x), tuple(x.shape[2:])
    ones = tuple(1 for _ in kernel)
    result = {}
    for n, c in positions(x.shape[:2]):
        for out in positions(outputs):
            cells = kernel_cells(out, kernel, stride, padding, ones)
            terms = [values.get(at(n, c, cell), tally.scalar(0)) for cell in cells]
            count = divisor_override or divisor(cells, inside, padding, count_include_pad)
            result[at(n, c, out)] = average(tally, terms, count)
    return tensor_of(result, (*x.shape[:2], *outputs))


def avg_pool_backward(
    tally: Tally,
    grad: torch.Tensor,
    inside: Index,
    kernel: Index,
    stride: Index,
    padding: Index,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    """Gradients of cells outside of the input are added up too, and dropped."""
    gradients = tally.scalars(grad)
    ones = tuple(1 for _ in kernel)
    total: dict[Index, Scalar] = {}
    for n, c in positions(grad.shape[:2]):
        for out in positions(grad.shape[2:]):
            cells = kernel_cells(out, kernel, stride, padding, ones)
            count = divisor_override or divisor(cells, inside, padding, count_include_pad)
            share = gradients[at(n, c, out)] / count
            for cell in cells:
                place = at(n, c, cell)
                total[place] = total.get(place, tally.scalar(0)) + share
    return kept(total, (*grad.shape[:2], *inside))


def kept(values: dict[Index, Scalar], shape: Index) -> torch.Tensor:
    """The values whose index is within the shape."""
    within = {
        index: value
        for index, value in values.items()
        if all(0 <= i < n for i, n in zip(index, shape))
    }
    return tensor_of(within, shape)


def max_pool(
    tally: Tally,
    x: torch.Tensor,
    outputs: Index,
    kernel: Index,
    stride: Index,
    padding: Index,
    dilation: Index,
) -> torch.Tensor:
    values = tally.scalars(x)
    least = Scalar(float("-inf"), tally)
    result = {}
    for n, c in positions(x.shape[:2]):
        for out in positions(outputs):
            cells = kernel_cells(out, kernel, stride, padding, dilation)
            result[at(n, c, out)] = tally.max(values.get(at(n, c, cell), least) for cell in cells)
    return tensor_of(result, (*x.shape[:2], *outputs))


def adaptive_ranges(size: int, outputs: int) -> list[Range]:
    """Window i is every cell that touches the i-th of `outputs` equal parts of the axis."""
    part = Fraction(size, outputs)
    return [(floor(i * part), ceil((i + 1) * part)) for i in range(outputs)]


def adaptive_cells(out: Index, inside: Index, outputs: Index) -> list[Index]:
    ranges = [adaptive_ranges(n, o)[i] for i, n, o in zip(out, inside, outputs)]
    return list(product(*(range(*r) for r in ranges)))


def adaptive_pool(
    tally: Tally,
    x: torch.Tensor,
    outputs: Index,
    pool: Callable[[Tally, list[Scalar]], Scalar],
) -> torch.Tensor:
    values, inside = tally.scalars(x), tuple(x.shape[2:])
    result = {
        at(n, c, out): pool(
            tally, [values[at(n, c, cell)] for cell in adaptive_cells(out, inside, outputs)]
        )
        for n, c in positions(x.shape[:2])
        for out in positions(outputs)
    }
    return tensor_of(result, (*x.shape[:2], *outputs))


def adaptive_avg(tally: Tally, terms: list[Scalar]) -> Scalar:
    return average(tally, terms, len(terms))


def adaptive_max(tally: Tally, terms: list[Scalar]) -> Scalar:
    return tally.max(terms)


def adaptive_avg_backward(tally: Tally, grad: torch.Tensor, inside: Index) -> torch.Tensor:
    gradients, outputs = tally.scalars(grad), tuple(grad.shape[2:])
    total: dict[Index, Scalar] = {}
    for n, c in positions(grad.shape[:2]):
        for out in positions(outputs):
            cells = adaptive_cells(out, inside, outputs)
            share = gradients[at(n, c, out)] / len(cells)
            for cell in cells:
                place = at(n, c, cell)
                total[place] = total.get(place, tally.scalar(0)) + share
    return kept(total, (*grad.shape[:2], *inside))


def max_backward(
    tally: Tally, grad: torch.Tensor, indices: torch.Tensor, inside: Index
) -> torch.Tensor:
    """Add each gradient to the cell, flat within its plane, that was the largest."""
    planes, cells = prod(grad.shape[:2]), prod(inside)
    gradients = tally.scalars(grad.reshape(planes, -1))
    where = indices.reshape(planes, -1)
    total: dict[Index, Scalar] = {}
    for (plane, i), gradient in gradients.items():
        place = (plane, int(where[plane, i]))
        total[place] = total.get(place, tally.scalar(0)) + gradient
    return tensor_of(total, (planes, cells)).reshape(*grad.shape[:2], *inside)


def fractional_starts(size: int, outputs: int, kernel: int, sample: float) -> list[int]:
    """Graham, Fractional Max-Pooling: steps of floor((i + u)·α), the last window at the end."""
    if outputs == 1:
        return [size - kernel]
    alpha = (size - kernel) / (outputs - 1)
    starts = [int((i + sample) * alpha) - int(sample * alpha) for i in range(outputs - 1)]
    return [*starts, size - kernel]


def fractional_max_pool(
    tally: Tally, x: torch.Tensor, outputs: Index, kernel: Index, samples: torch.Tensor
) -> torch.Tensor:
    """`samples` (n, c, d): two dimensions take theirs in the order width, height."""
    values, inside = tally.scalars(x), tuple(x.shape[2:])
    result = {}
    for n, c in positions(x.shape[:2]):
        chosen = samples[n, c].tolist()
        chosen = chosen[::-1] if len(chosen) == 2 else chosen
        starts = [
            fractional_starts(size, o, k, u)
            for size, o, k, u in zip(inside, outputs, kernel, chosen)
        ]
        for out in positions(outputs):
            corner = [axis[i] for axis, i in zip(starts, out)]
            cells = [tuple(b + i for b, i in zip(corner, off)) for off in positions(kernel)]
            result[at(n, c, out)] = tally.max(values[at(n, c, cell)] for cell in cells)
    return tensor_of(result, (*x.shape[:2], *outputs))
