"""Roofline: how long a machine takes at least for what a profile has counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch

from flopdispatch.conventions import PRODUCTS
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import DTYPES, Hardware
from flopdispatch.hardware import hardware as found_hardware
from flopdispatch.hardware.device import rate_name
from flopdispatch.profile import Profile, Row, walk
from flopdispatch.rules import Price, name_of
from flopdispatch.units import some

COMPUTE, MEMORY = "compute", "memory"
FLOATING = tuple(name for name in DTYPES if name != "int8")

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Bound:
    """What calls ask of a machine, and the time that they take there at least.

    `work` counts operations by the peak rate that they are held against, `nbytes` what is read and
    written. `limits` are the seconds that each part of the machine is busy: `"memory"`, and the
    arithmetic of each rate. `seconds` is the time if the calls run one after the other, each as
    long as its busiest part; `memory_seconds` is how much of it the memory is that part.

    Example:

        >>> mm = Bound.of({"float32": 100}, 80, {"float32": 50.0, "memory": 20.0})
        >>> mm.seconds, mm.bound, mm.intensity
        (4.0, 'memory', 1.25)
        >>> Bound.total([(mm, 3)]).seconds
        12.0
    """

    work: Mapping[str, int] = field(default_factory=dict)
    nbytes: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    memory_seconds: float = 0.0

    @classmethod
    def of(cls, work: Mapping[str, int], nbytes: int, rates: Mapping[str, float]) -> Bound:
        """The bound of one call, by the rates of a machine in operations and bytes a second."""
        limits = {name: number / rates[name] for name, number in work.items()}
        arithmetic = max(limits.values(), default=0.0)
        memory = nbytes / rates[MEMORY]
        if nbytes:
            limits[MEMORY] = memory
        seconds = max(arithmetic, memory)
        return cls(work, nbytes, limits, seconds, memory if memory > arithmetic else 0.0)

    @classmethod
    def total(cls, bounds: Iterable[tuple[Bound, int]]) -> Bound:
        """The sum of bounds, each so many times."""
        work: dict[str, int] = {}
        limits: dict[str, float] = {}
        nbytes, seconds, memory_seconds = 0, 0.0, 0.0
        for bound, times in bounds:
            for name, number in bound.work.items():
                work[name] = work.get(name, 0) + number * times
            for name, limit in bound.limits.items():
                limits[name] = limits.get(name, 0.0) + limit * times
            nbytes += bound.nbytes * times
            seconds += bound.seconds * times
            memory_seconds += bound.memory_seconds * times
        return cls(work, nbytes, limits, seconds, memory_seconds)

    @property
    def operations(self) -> int:
        """The work of all rates."""
        return sum(self.work.values())

    @property
    def intensity(self) -> float | None:
        """Operations for each byte read or written; None where there are no bytes."""
        return self.operations / self.nbytes if self.nbytes else None

    @property
    def bound(self) -> str:
        """`"compute"` or `"memory"`, by which most of the time is bound; `""` for no time."""
        if not self.seconds:
            return ""
        return MEMORY if 2 * self.memory_seconds > self.seconds else COMPUTE

    @property
    def overlapped_seconds(self) -> float:
        """The time if all calls ran at once: that of the busiest part alone."""
        return max(self.limits.values(), default=0.0)

    @property
    def compute_seconds(self) -> float:
        """The time of the arithmetic alone, which no fusion and no cache makes less."""
        return max((s for name, s in self.limits.items() if name != MEMORY), default=0.0)


@dataclass(frozen=True)
class Roofline:
    """The time bounds of a profile on a machine; `profile.roofline(...)` makes it.

    `rates` are the peak rates that work is held against, in operations a second by name, and the
    memory's bandwidth in bytes a second as `"memory"`. `calls` are the bounds of one of each of
    the profile's calls.

    Example:

        >>> from flopdispatch import count
        >>> profile = count(torch.nn.Linear(64, 64, bias=False), (64, 64))
        >>> slow = Hardware("slow", peaks={"float32": 1e9}, bandwidth=1e9)
        >>> profile.roofline(slow).seconds * 1e9  # 2·64³ operations; 3·64²·4 bytes take 49152 ns
        524288.0
    """

    profile: Profile = field(repr=False)
    hardware: Hardware
    rates: Mapping[str, float]
    calls: tuple[Bound, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        profile: Profile,
        hardware: str | Hardware,
        dtype: torch.dtype | str | None = None,
        tf32: bool = False,
    ) -> Roofline:
        """The bounds on a machine, by its name or by its figures.

        Each call's floating-point operations are held against the peak rate of the dtype that it
        computes in, or of `dtype` for all; bytes stay as they were counted. With `tf32`, matrix
        products, convolutions, attention and recurrent layers in float32 run at the rate of TF32.
        MACs of 8-bit integers run at the rate of int8. Other integer operations, comparisons and
        transcendentals have no published rate: such calls are bound by their bytes.

        Raises: ArgumentError for an unknown machine or `dtype`, or a rate that isn't known of it.
        """
        found = found_hardware(hardware)
        wanted = None if dtype is None else rate_name(dtype)
        if wanted is not None and wanted not in FLOATING:
            floating = ", ".join(FLOATING)
            raise ArgumentError(f"dtype= takes one of {floating} or None, got {dtype!r}")
        works = [work_of(price, wanted, tf32) for price in profile.prices]
        users: dict[str, dict[str, None]] = {}
        for work, call in zip(works, profile.calls):
            for name in work:
                users.setdefault(name, {})[name_of(call.overload)] = None
        rates = {name: _rate(found, name, list(ops)) for name, ops in users.items()}
        rates[MEMORY] = found.bandwidth
        bounds = (
            Bound.of(work, price.cost.nbytes, rates) for work, price in zip(works, profile.prices)
        )
        return cls(profile, found, rates, tuple(bounds))

    @cached_property
    def total(self) -> Bound:
        """Everything that ran in the block."""
        return self.grouped(lambda row: None).get(None, Bound())

    @property
    def seconds(self) -> float:
        """The time of all calls one after the other, as eager execution runs them."""
        return self.total.seconds

    @property
    def overlapped_seconds(self) -> float:
        """The time if the memory and the arithmetic of each rate were busy all at once."""
        return self.total.overlapped_seconds

    @property
    def compute_seconds(self) -> float:
        """The time of the arithmetic alone, which no fusion and no cache makes less."""
        return self.total.compute_seconds

    @property
    def ridges(self) -> dict[str, float]:
        """Operations a byte from which on a call is bound by compute, by the rate's name."""
        bandwidth = self.rates[MEMORY]
        return {name: rate / bandwidth for name, rate in self.rates.items() if name != MEMORY}

    def by_op(self) -> dict[Any, Bound]:
        """Bounds by operator overload, the most time first."""
        return self.grouped(lambda row: self.profile.calls[row.call].overload)

    def by_family(self) -> dict[str, Bound]:
        """Bounds by operator family, the most time first."""
        return self.grouped(lambda row: self.profile.prices[row.call].family)

    def by_phase(self) -> dict[str, Bound]:
        """Bounds by phase, in the order of `profile.by_phase()`."""
        found = self.grouped(lambda row: row.phase)
        return {phase: found[phase] for phase in self.profile.by_phase()}

    def by_scope(self, own: bool = False) -> dict[str, Bound]:
        """Bounds by module path, children included unless `own`; the block itself is `""`."""
        mine = self.grouped(lambda row: row.scope)
        paths = [node.path for node in walk(self.profile.root)]
        parts = {path: [(mine[path], 1)] if path in mine else [] for path in paths}
        found = {}
        for path in reversed(paths):
            found[path] = Bound.total(parts[path])
            if path and not own:
                parts[path.rpartition(".")[0]].append((found[path], 1))
        return {path: found[path] for path in paths}

    def grouped(self, name: Callable[[Row], Name]) -> dict[Name, Bound]:
        """Bounds by what a row of the profile is called, the most time first."""
        times: dict[Name, dict[int, int]] = {}
        for row in self.profile.rows:
            group = times.setdefault(name(row), {})
            group[row.call] = group.get(row.call, 0) + row.times
        found = {
            key: Bound.total((self.calls[call], number) for call, number in group.items())
            for key, group in times.items()
        }
        return dict(sorted(found.items(), key=lambda item: -item[1].seconds))

    # Text and data

    def table(
        self,
        depth: int | None = None,
        sort: str | None = None,
        width: int | None = None,
        by: str = "modules",
    ) -> str:
        """The table of modules with their time bounds; arguments as of `profile.table`.

        `sort` may be `"time"` too, and `by` `"operators"`, `"families"`, `"phases"`, `"dtypes"`.
        """
        return self.report("table", depth=depth, sort=sort, width=width, by=by)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return str(import_module("flopdispatch.report.notebook").bounded(self))

    def report(self, name: str, **options: Any) -> str:
        """The profile with its time bounds as text: table, markdown, csv, json or html.

        Raises: ArgumentError for another format, or an option that it doesn't have.
        """
        return self.profile.report(name, hardware=self, **options)

    def save(self, path: str | Path, name: str | None = None, **options: Any) -> None:
        """Write a report to a file, in the format that the file's ending names unless told.

        Raises: ArgumentError as `report` does, or for an ending of no format.
        """
        self.profile.save(path, name, hardware=self, **options)

    def to_pandas(self, by: str = "modules") -> Any:
        """A pandas DataFrame as `profile.to_pandas` makes it, with the time bounds beside.

        Raises: ArgumentError for another `by`, or if pandas isn't installed.
        """
        found = import_module("flopdispatch.report.roofline").extended(self, by)
        return import_module("flopdispatch.report.frame").framed(found, by)

    def plot(self, path: str | Path, by: str = "operators") -> None:
        """Draw the roof and a point for each operator, module, family or phase, with matplotlib.

        The file's ending names the format: `.svg`, `.png` or `.pdf`.

        Raises: ArgumentError for another `by` or ending, or if matplotlib isn't installed.
        """
        import_module("flopdispatch.report.roofline_plot").save(self, path, by)


def _rate(machine: Hardware, name: str, operators: list[str]) -> float:
    """A peak rate that operators run at. Raises: ArgumentError if it isn't known."""
    if name in machine.peaks:
        return machine.peaks[name]
    instead = {"int8": "", "tf32": "leave TF32 out, or "}
    raise ArgumentError(
        f"{machine.name} has no known peak rate of {name}; known are "
        f"{', '.join(machine.peaks) or 'none'}. {some(operators)} would run at it: "
        f"{instead.get(name, 'hold all against another rate (dtype= or --rate), or ')}"
        "give a machine that has it, as Hardware(name, peaks={...}, bandwidth=...) or in a file"
    )


def work_of(price: Price, dtype: str | None, tf32: bool) -> dict[str, int]:
    """The operations of one call by the name of the rate that they run at.

    `dtype` is the rate of all floating-point operations, None for that of the call's own dtype.
    """
    cost, own = price.cost, price.dtype
    floating = own is not None and (own.is_floating_point or own.is_complex)
    name = dtype or (rate_name(own) if own is not None and floating else "float32")
    in_tf32 = tf32 and name == "float32" and price.family in PRODUCTS
    products = 2 * cost.macs if in_tf32 else 0
    # Quantized kernels take their MACs in integers, whatever the dtype of the other operands.
    narrow = own is None or floating or (own.itemsize == 1 and own is not torch.bool)
    found: dict[str, int] = {}
    for rate, number in (
        (name, cost.flops - products),
        ("tf32", products),
        ("int8", 2 * cost.int_macs if narrow else 0),
    ):
        if number:
            found[rate] = found.get(rate, 0) + number
    return found
