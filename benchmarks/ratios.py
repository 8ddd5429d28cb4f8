"""Ratios of times taken in the same round, from a row of the measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from benchmarks.ways import UNCOUNTED

Measured = Mapping[str, Any]  # a row as it stands in the JSON file


@dataclass(frozen=True, slots=True)
class Ratio:
    """One way's time over another's, of both less the uncounted run's if `added`."""

    of: str
    to: str
    added: bool = False

    def __str__(self) -> str:
        return f"{self.of} / {self.to}" + (", time added" if self.added else "")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some ratios and their quartiles."""

    low: float
    median: float
    high: float


def spread(ratio: Ratio, row: Measured) -> Spread | None:
    """A ratio's spread over the rounds in which both ways took part, None if one is absent."""
    seconds = row["seconds"]
    if ratio.of not in seconds or ratio.to not in seconds:
        return None
    bases = seconds[UNCOUNTED] if ratio.added else [0.0] * len(seconds[UNCOUNTED])
    found = [
        (one - base) / (other - base)
        for one, other, base in zip(seconds[ratio.of], seconds[ratio.to], bases)
    ]
    return Spread(*quantiles(found, n=4, method="inclusive"))
