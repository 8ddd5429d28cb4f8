"""Fourier transforms.

A complex transform of n points is counted as 5·n·log2 n real operations, 2 muls to 3 adds, what
a radix-2 transform takes and what benchFFT's rates are based on; one with real points on one
side is half of it. n is the product over the transformed dimensions: rows, then columns, are as
much. What the transform of n points takes is counted in real numbers, so no rule is converted
by its dtype.

Ignored: the tables of twiddle factors, multiplications saved by those that are 1 or i, and the
copy into the second half of a symmetric spectrum.

Letters: n points of a transform, b transforms.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("fft")

Dims = tuple[int, ...]

UNSCALED = 0  # `normalization`; the others are 1, by root n, and 2, by n


def n_log2_n(n: int) -> int:
    """n·log2 n in integers: the sizes of all parts of n points that are halved down to one.

    s(1) = 0, s(n) = s(⌈n/2⌉) + s(⌊n/2⌋) + n. Where n is a power of two that is n·log2 n; else
    it lies on the line between the two powers next to n, at most 0.087·n above n·log2 n.
    Example: 8 points are 8·3 = 24; 12 are 16·4/2 + 8·3/2 = 44, and 12·log2 12 is 43.02.
    """
    if n == 0:
        return 0
    halvings = n.bit_length() - 1
    return n * halvings + 2 * (n - (1 << halvings))


def points(tensor: TensorSpec, dim: Dims) -> int:
    """Points of one transform over these dimensions."""
    return prod(tensor.shape[d] for d in dim)


def transforms(tensor: TensorSpec, dim: Dims) -> int:
    """How many transforms over these dimensions there are."""
    transformed = {d % tensor.ndim for d in dim}
    return prod(size for d, size in enumerate(tensor.shape) if d not in transformed)


@rules.formula(aten._fft_c2c.default, typed=False)
def fft_c2c(self: TensorSpec, dim: Dims, normalization: int) -> Cost:
    """Complex transform, either direction.

    Counts: 2·n·log2 n muls and 3·n·log2 n adds: (n/2)·log2 n butterflies, each one complex
    product (4 muls, 2 adds) and two complex sums (4 adds). Scaled, 2·n muls more.
    Source: Van Loan, Computational Frameworks for the FFT, 1.4; benchFFT's 5·n·log2 n.
    Example: 8 points are 2·24 muls and 3·24 adds, 120 = 5·8·3 FLOPs.
    """
    n, b = points(self, dim), transforms(self, dim)
    steps = n_log2_n(n)
    scale = 0 if normalization == UNSCALED else 2 * n
    return Cost(muls=2 * steps + scale, adds=3 * steps) * b


def half(n: int, b: int, normalization: int) -> Cost:
    """Half of a complex transform: of n points that are real on one side.

    Counts: n·log2 n muls and 1.5·n·log2 n adds, rounded up (n is odd then). Scaled, n muls more.
    """
    steps = n_log2_n(n)
    scale = 0 if normalization == UNSCALED else n
    return Cost(muls=steps + scale, adds=(3 * steps + 1) // 2) * b


@rules.formula(aten._fft_r2c.default, typed=False)
def fft_r2c(self: TensorSpec, dim: Dims, normalization: int) -> Cost:
    """Transform of real points; `onesided` or not, half of the spectrum is worked out.

    Counts: half of a complex transform's.
    Example: 8 points are 24 muls and 36 adds.
    """
    return half(points(self, dim), transforms(self, dim), normalization)


@rules.formula(aten._fft_c2r.default, typed=False)
def fft_c2r(dim: Dims, normalization: int, result: TensorSpec) -> Cost:
    """Transform to real points, from half of a spectrum.

    Counts: half of a complex transform's; n is the product over the result's dimensions.
    """
    return half(points(result, dim), transforms(result, dim), normalization)
