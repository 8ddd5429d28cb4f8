"""The radix-2 Fourier transform, in real operations."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

import torch

from tests.oracles import Scalar, Tally

Point = tuple[Scalar, Scalar]  # real and imaginary part


def plus(a: Point, b: Point) -> Point:
    return a[0] + b[0], a[1] + b[1]


def minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1]


def turned(a: Point, factor: complex) -> Point:
    """A complex product: 4 muls and 2 adds."""
    c, s = factor.real, factor.imag
    return a[0] * c - a[1] * s, a[0] * s + a[1] * c


def transform(points: Sequence[Point], sign: int) -> list[Point]:
    """Transforms of the even and of the odd points, then n/2 butterflies."""
    n = len(points)
    if n == 1:
        return list(points)
    even, odd = transform(points[::2], sign), transform(points[1::2], sign)
    odd = [turned(z, cmath.rect(1, sign * 2 * math.pi * k / n)) for k, z in enumerate(odd)]
    return [plus(a, b) for a, b in zip(even, odd)] + [minus(a, b) for a, b in zip(even, odd)]


def fft(tally: Tally, x: torch.Tensor, dims: Sequence[int], sign: int = -1) -> torch.Tensor:
    """One dimension after the other."""
    points = [(tally.scalar(z.real), tally.scalar(z.imag)) for z in x.flatten().tolist()]
    for dim in dims:
        numbers = torch.arange(x.numel()).reshape(x.shape).movedim(dim, -1)
        for line in numbers.reshape(-1, x.shape[dim]).tolist():
            for place, point in zip(line, transform([points[i] for i in line], sign)):
                points[place] = point
    values = [complex(re.value, im.value) for re, im in points]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape)


def scaled(tally: Tally, x: torch.Tensor, factor: float) -> torch.Tensor:
    """Both parts of each point times a real factor."""
    values = [
        complex(*[(tally.scalar(part) * factor).value for part in (z.real, z.imag)])
        for z in x.flatten().tolist()
    ]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape)


def halved(n: int) -> int:
    """Sizes of all parts of n points that are halved down to one, those of one left out."""
    return 0 if n == 1 else n + halved(n // 2) + halved(n - n // 2)
