"""Cost: how many scalar operations a call stands for, and how many bytes it moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from operator import add, attrgetter, mul
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts of scalar operations in the textbook algorithm, and of bytes.

    `macs` are multiply-accumulates inside weighted sums: K weighted terms are K MACs.
    `adds`, `muls` and `divs` are floating-point operations outside of those.
    `transcendentals` (exp, log, sqrt, tanh, ...) and `comparisons` (max, min, abs, sign,
    rounding, ...) stand beside FLOPs, not inside them. `int_macs` and `int_ops` tally
    integer and boolean arithmetic, which is no floating-point operation.

    Costs add up with `+` and `sum()`, and scale with `*` by a number of calls.

    Example:

        >>> Cost(macs=24, adds=8).flops
        56
        >>> (3 * Cost(macs=2) + Cost(macs=1, muls=5)).macs
        7
    """

    macs: int = 0
    adds: int = 0
    muls: int = 0
    divs: int = 0
    transcendentals: int = 0
    comparisons: int = 0
    int_macs: int = 0
    int_ops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations: 2·macs + adds + muls + divs."""
        return 2 * self.macs + self.adds + self.muls + self.divs

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*map(add, _values(self), _values(other)))

    def __radd__(self, other: Any) -> Cost:
        """Let `sum()` begin with its plain 0."""
        return self if type(other) is int and other == 0 else NotImplemented

    def __mul__(self, times: int) -> Cost:
        return Cost(*[value * times for value in _values(self)])

    __rmul__ = __mul__

    @staticmethod
    def total(costs: Iterable[tuple[Cost, int]]) -> Cost:
        """The sum of costs, each so many times: as by `*` and `+`, with no Cost in between."""
        pairs = list(costs)
        times = [number for _, number in pairs]
        columns = zip(*[_values(cost) for cost, _ in pairs])
        return Cost(*[sum(map(mul, column, times)) for column in columns])

    def moving(self, read: int, written: int) -> Cost:
        """The same operations, with these bytes read and written."""
        if read == self.bytes_read and written == self.bytes_written:
            return self
        return Cost(*[*_values(self)[:-2], read, written])

    def only(self, names: Iterable[str]) -> Cost:
        """These fields, and none of the rest."""
        return Cost(**{name: getattr(self, name) for name in names})

    def in_dtype(self, dtype: torch.dtype | None) -> Cost:
        """The real floating-point operations behind counts of operations on `dtype`.

        Counts: complex: an addition is 2 adds; a multiplication 4 muls + 2 adds; a MAC 4
        MACs; a division 6 muls + 3 adds + 2 divs. Integer and bool: the same counts, moved
        to `int_macs` and `int_ops` (a MAC is two `int_ops`). Floating: as they are.
        """
        if dtype is None or dtype.is_floating_point:
            return self
        if dtype.is_complex:
            return replace(
                self,
                macs=4 * self.macs,
                adds=2 * self.adds + 2 * self.muls + 3 * self.divs,
                muls=4 * self.muls + 6 * self.divs,
                divs=2 * self.divs,
            )
        return Cost(
            int_macs=self.macs + self.int_macs,
            int_ops=self.flops + self.transcendentals + self.comparisons + self.int_ops,
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
        )

    def to_dict(self) -> dict[str, int]:
        """The fields that are not zero, by name."""
        return {name: getattr(self, name) for name in FIELDS if getattr(self, name) != 0}


FIELDS = tuple(field.name for field in fields(Cost))
_values = attrgetter(*FIELDS)
