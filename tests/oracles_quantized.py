"""Loops over quantized numbers. A zero point that is folded into a constant is no arithmetic."""

from __future__ import annotations

import warnings

import torch

from tests.oracles import Scalar, Tally, tensor_of


def to_bytes(
    x: torch.Tensor, scale: float = 0.1, zero_point: int = 3, dtype: torch.dtype = torch.quint8
) -> torch.Tensor:
    """torch's own quantized tensor, without its warning that there will be none some day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.quantize_per_tensor(x, scale, zero_point, dtype)


def rounded(x: Scalar) -> Scalar:
    """The nearest integer, of two the even one: a comparison-class operation."""
    x.tally.note("comparisons")
    return Scalar(round(x.value), x.tally)


def quantized(x: Scalar, scale: float, zero_point: int, low: int, high: int) -> Scalar:
    """clamp(round(x·(1/scale)) + zero point, low, high)."""
    return (rounded(x * (1 / scale)) + zero_point).at_least(low).at_most(high)


def dequantized(q: Scalar, scale: float, zero_point: int) -> Scalar:
    """(q − zero point)·scale."""
    return (q - zero_point) * scale


def quantize(
    tally: Tally, x: torch.Tensor, scale: float, zero_point: int, low: int, high: int
) -> torch.Tensor:
    """Element by element."""
    found = {
        at: quantized(value, scale, zero_point, low, high) for at, value in tally.scalars(x).items()
    }
    return tensor_of(found, tuple(x.shape))


def fake_quantize(
    tally: Tally, x: torch.Tensor, scale: float, zero_point: int, low: int, high: int
) -> torch.Tensor:
    """There and back."""
    found = {
        at: dequantized(quantized(value, scale, zero_point, low, high), scale, zero_point)
        for at, value in tally.scalars(x).items()
    }
    return tensor_of(found, tuple(x.shape))


def learnable_backward(
    tally: Tally, grad: torch.Tensor, x: torch.Tensor, scale: float, zero_point: int,
    low: int, high: int,
) -> tuple[torch.Tensor, float, float]:  # fmt: skip
    """Gradients of x, scale and zero point: which of three branches holds, the costliest counts."""
    gradients, scales, zeros = {}, [], []
    numbers = tally.scalars(x)
    for at, g in tally.scalars(grad).items():
        q = rounded(numbers[at] * (1 / scale)) + zero_point
        inside = low <= q.value <= high
        back = dequantized(q.at_least(low).at_most(high), scale, zero_point)
        gradients[at] = g * (1.0 if inside else 0.0)
        tally.note("comparisons", 2)
        if inside:
            scales.append((g * (back - numbers[at])) * (1 / scale))
            zeros.append(Scalar(0.0, tally))
        else:
            bound = low if q.value < low else high
            scales.append(g * float(bound - zero_point))
            zeros.append(g * -scale)
            tally.note("adds")  # the branch inside has one more
    by_scale, by_zero = tally.sum(scales), tally.sum(zeros)
    return tensor_of(gradients, tuple(x.shape)), by_scale.value, by_zero.value


def linear(
    tally: Tally, x: torch.Tensor, weight: torch.Tensor, scale: float, zero_point: int
) -> torch.Tensor:
    """Rows by columns, both quantized: the integers that stand for the results."""
    combined = x.q_scale() * weight.q_scale()
    rows = tally.scalars(x.int_repr().double() - x.q_zero_point())
    columns = tally.scalars(weight.int_repr().double() - weight.q_zero_point())
    (m, k), n = x.shape, weight.shape[0]
    found = {}
    for i in range(m):
        for j in range(n):
            total = tally.weighted_sum((rows[i, p], columns[j, p]) for p in range(k))
            found[i, j] = quantized(total, scale / combined, zero_point, 0, 255)
    return tensor_of(found, (m, n))


def byte_rows(tally: Tally, table: torch.Tensor) -> torch.Tensor:
    """Rows to bytes and, for nothing, back."""
    numbers, found = tally.scalars(table), {}
    rows, d = table.shape
    for i in range(rows):
        row = [numbers[i, j] for j in range(d)]
        low, high = row[0], row[0]
        for x in row[1:]:
            low, high = low.at_most(x.value), high.at_least(x.value)
        scale = (high - low) / 255
        inverse = 1 / scale
        for j in range(d):
            q = rounded((row[j] - low) * inverse)
            found[i, j] = Scalar(q.value * scale.value + low.value, tally)
    return tensor_of(found, (rows, d))
