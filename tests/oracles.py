"""Naive loops that compute an operator's value and count as they compute.

`Scalar` is a number that writes each operation on it into its Tally. A loop in terms of
Scalars gives a value, checked against torch's, and a Tally, compared with the formula's Cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from flopdispatch.cost import Cost


@dataclass
class Tally:
    """Operations seen so far."""

    counts: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, times: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + times

    @property
    def cost(self) -> Cost:
        return Cost(**self.counts)

    def scalar(self, value: float) -> Scalar:
        return Scalar(float(value), self)

    def scalars(self, tensor: torch.Tensor) -> dict[Any, Scalar]:
        """A tensor's elements by index."""
        return {
            index: self.scalar(tensor[index].item())
            for index in _indices(tuple(tensor.shape))
        }  # fmt: skip

    def weighted_sum(self, terms: Iterable[tuple[Scalar, Scalar]]) -> Scalar:
        """sum(a·b): one MAC a term."""
        total = 0.0
        for a, b in terms:
            self.note("macs")
            total += a.value * b.value
        return self.scalar(total)

    def sum(self, terms: Iterable[Scalar]) -> Scalar:
        """A plain sum: one add fewer than terms (none for an empty sum)."""
        total: Scalar | None = None
        for term in terms:
            total = term if total is None else total + term
        return self.scalar(0.0) if total is None else total

    def max(self, terms: Iterable[Scalar]) -> Scalar:
        """The largest: one comparison fewer than terms."""
        best: Scalar | None = None
        for term in terms:
            if best is None:
                best = term
            else:
                self.note("comparisons")
                best = term if term.value > best.value else best
        assert best is not None
        return best


@dataclass(frozen=True)
class Scalar:
    """A number that counts what is done to it."""

    value: float
    tally: Tally

    def _then(self, name: str, value: float) -> Scalar:
        self.tally.note(name)
        return Scalar(value, self.tally)

    def __add__(self, other: Scalar | float) -> Scalar:
        return self._then("adds", self.value + _plain(other))

    def __sub__(self, other: Scalar | float) -> Scalar:
        return self._then("adds", self.value - _plain(other))

    def __rsub__(self, other: float) -> Scalar:
        return self._then("adds", other - self.value)

    def __mul__(self, other: Scalar | float) -> Scalar:
        return self._then("muls", self.value * _plain(other))

    def __truediv__(self, other: Scalar | float) -> Scalar:
        return self._then("divs", self.value / _plain(other))

    def __rtruediv__(self, other: float) -> Scalar:
        return self._then("divs", other / self.value)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Scalar:
        """A change of sign: no arithmetic, a comparison-class operation."""
        return self._then("comparisons", -self.value)

    def apply(self, function: str) -> Scalar:
        """A transcendental function of `math`: exp, log, sqrt, tanh, erf, ..."""
        return self._then("transcendentals", getattr(math, function)(self.value))

    def at_least(self, bound: float) -> Scalar:
        """max(self, bound): one comparison."""
        return self._then("comparisons", max(self.value, bound))

    def at_most(self, bound: float) -> Scalar:
        """min(self, bound): one comparison."""
        return self._then("comparisons", min(self.value, bound))


def tensor_of(values: Mapping[Any, Scalar], shape: tuple[int, ...]) -> torch.Tensor:
    """The loop's result as a tensor, to compare with torch's."""
    result = torch.zeros(shape, dtype=torch.float64)
    for index, value in values.items():
        result[index] = value.value
    return result


def _plain(other: Scalar | float) -> float:
    return other.value if isinstance(other, Scalar) else other


def _indices(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for size in shape:
        found = [(*index, i) for index in found for i in range(size)]
    return found


def matmul(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The triple loop."""
    (m, k), n = a.shape, b.shape[1]
    x, y = tally.scalars(a), tally.scalars(b)
    out = {
        (i, j): tally.weighted_sum((x[i, p], y[p, j]) for p in range(k))
        for i in range(m)
        for j in range(n)
    }
    return tensor_of(out, (m, n))
