"""One device: its dense peak rates, its memory bandwidth, and where each figure is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch

from flopdispatch.errors import ArgumentError

# What a rate may be of. `tf32` is float32 in matrix units that round it to 19 bits.
DTYPES = ("float64", "float32", "tf32", "bfloat16", "float16", "float8", "int8")
BANDWIDTH = "bandwidth"  # beside the dtypes, as a figure that has a source

# Dtypes that run at the rate of another: a complex MAC is counted as four real ones.
SAME_RATE = {
    "complex128": "float64",
    "complex64": "float32",
    "complex32": "float16",
    "uint8": "int8",
    "qint8": "int8",
    "quint8": "int8",
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a device can do at most.

    `peaks` are dense rates in FLOP/s (OP/s of int8) by dtype name: the highest that a matrix or a
    vector unit reaches, without structured sparsity. `bandwidth` is of the memory, in bytes/s.
    `sources` says of each figure where it is from.

    Raises: ArgumentError for another dtype name, a rate that is no positive number, peaks that
    aren't rates by name, or a name that is no string.

    Example:

        >>> mine = Hardware("mine", peaks={"float32": 2e12}, bandwidth=5e10)
        >>> mine.peak(torch.float32), mine.peak("float32")
        (2000000000000.0, 2000000000000.0)
    """

    name: str
    peaks: Mapping[str, float]
    bandwidth: float
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"expected a device's name, a string, got {self.name!r}")
        if not isinstance(self.peaks, Mapping):
            raise ArgumentError(
                f"peaks of {self.name!r}: expected FLOP/s by dtype, as in {{'float32': 2e12}}, "
                f"got {self.peaks!r}"
            )
        for dtype in self.peaks:
            if dtype not in DTYPES:
                raise ArgumentError(
                    f"peaks of {self.name!r}: {dtype!r} is none of {', '.join(DTYPES)}"
                )
        for figure, rate in (*self.peaks.items(), (BANDWIDTH, self.bandwidth)):
            is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
            if not is_number or not isfinite(rate) or rate <= 0:
                raise ArgumentError(
                    f"{figure} of {self.name!r}: expected a positive number of "
                    f"{unit_of(figure)}, got {rate!r}"
                )

    def peak(self, dtype: torch.dtype | str) -> float:
        """The dense peak rate of a dtype, in FLOP/s (OP/s of int8).

        All float8 formats have one rate, and complex dtypes have that of their parts.

        Raises: ArgumentError if none is known.
        """
        name = rate_name(dtype)
        if name not in self.peaks:
            known = ", ".join(self.peaks) or "none"
            raise ArgumentError(
                f"{self.name} has no known peak rate of {dtype}; known are {known}. Name one of "
                "these, or give Hardware(name, peaks={...}, bandwidth=...)"
            )
        return self.peaks[name]


def rate_name(dtype: torch.dtype | str) -> str:
    """The name in DTYPES that a dtype's rate goes by, or the dtype's own if there is none."""
    name = str(dtype).removeprefix("torch.")
    return "float8" if name.startswith("float8") else SAME_RATE.get(name, name)


def unit_of(figure: str) -> str:
    """What a figure is counted in."""
    return {BANDWIDTH: "bytes/s", "int8": "OP/s"}.get(figure, "FLOP/s")
