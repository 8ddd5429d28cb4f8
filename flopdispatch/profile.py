"""Profile: a priced recording. Frozen, picklable, holds no tensor and no module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from flopdispatch import codec
from flopdispatch.assumptions import Assumption
from flopdispatch.capture.recording import PHASES, ModuleRecord, Recording
from flopdispatch.conventions import PRODUCTS, convention
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.registry import Registry
from flopdispatch.rules import UNCOUNTED, Price
from flopdispatch.saved import Saved
from flopdispatch.spec import OpCall

FORMAT = "flopdispatch-profile/1"

# The families that papers, fvcore and torch.utils.flop_counter count.
COMPARABLE = tuple(PRODUCTS)

Name = TypeVar("Name")


class Row(NamedTuple):
    """One distinct call in one scope and phase; `call` is its place in `Profile.calls`."""

    scope: str
    phase: str
    call: int
    times: int


@dataclass(frozen=True, slots=True)
class ScopeNode:
    """A module in the tree.

    `name` is the last part of `path`. `params` counts the distinct parameters' elements of
    the module and all below it, `own` what ran in this module outside of its children,
    `calls` how often it was called. `aliases` are other paths to the same module: where it was
    called by one of them, that path has a row of its own.
    """

    name: str
    path: str
    module_type: str
    params: int
    calls: int
    own: Cost
    children: tuple[ScopeNode, ...]
    aliases: tuple[str, ...] = ()

    @property
    def total(self) -> Cost:
        """Own cost and the children's."""
        return sum((child.total for child in self.children), self.own)

    @property
    def ran(self) -> bool:
        """Whether this module or one below it was called or computed anything."""
        return self.calls > 0 or self.own != Cost() or any(c.ran for c in self.children)


@dataclass(frozen=True)
class Profile:
    """What ran and what it costs, by operator, scope, family, phase and dtype.

    `calls` are the distinct calls, `prices` what one of each costs, `rows` how often each ran
    where. `convention` and `description` name the rules they were priced by. `assumptions`
    lists what had to be assumed about the program's data or history. `saved` is what autograd keeps
    for the backward, None unless `count(saved=True)` was asked for it.

    Example:

        >>> from flopdispatch import count
        >>> profile = count(torch.nn.Linear(8, 4), (2, 8))
        >>> profile.by_family()["matmul"].macs
        64
        >>> profile.by_scope()["Linear"].nbytes  # 16 + 32 + 4 read, 8 written, of 4 bytes each
        240
        >>> Profile.from_json(profile.to_json()) == profile
        True
    """

    calls: tuple[OpCall, ...]
    prices: tuple[Price, ...]
    rows: tuple[Row, ...]
    modules: tuple[ModuleRecord, ...]
    convention: str
    description: str
    assumptions: tuple[Assumption, ...] = ()
    saved: tuple[Saved, ...] | None = None

    @classmethod
    def of(
        cls, recording: Recording, modules: Iterable[ModuleRecord], registry: Registry
    ) -> Profile:
        """Price a recording; each distinct call is priced once."""
        calls = list(recording.calls.values())
        place = {call: i for i, call in enumerate(calls)}
        rows = [
            Row(scope, phase, place[call], times)
            for (scope, phase), bucket in recording.buckets.items()
            for call, times in bucket.items()
        ]
        return cls(
            calls=tuple([known.call for known in calls]),
            prices=tuple([registry.price_known(known) for known in calls]),
            rows=tuple(rows),
            modules=tuple(modules),
            convention=registry.name,
            description=registry.description,
            assumptions=recording.assumed(),
        )

    def reprice(self, by: str | Registry) -> Profile:
        """The same recording under another convention: a name or a Registry."""
        registry = convention(by)
        return replace(
            self,
            prices=tuple([registry.price_or_error(call) for call in self.calls]),
            convention=registry.name,
            description=registry.description,
        )

    # Totals

    @cached_property
    def total(self) -> Cost:
        """Everything that ran in the block."""
        return self._cost(self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations: 2·macs + adds + muls + divs."""
        return self.total.flops

    @property
    def macs(self) -> int:
        """Multiply-accumulates inside weighted sums."""
        return self.total.macs

    @property
    def params(self) -> int:
        """Elements of the distinct parameters of all modules seen; tied ones count once."""
        return sum(dict(item for m in self.modules for item in m.params).values())

    @property
    def comparable_flops(self) -> int:
        """Twice the MACs of matrix products, convolutions and attention: what papers count."""
        families = self.by_family()
        return 2 * sum(families[name].macs for name in COMPARABLE if name in families)

    @property
    def activations(self) -> int:
        """Elements written by products, convolutions and attention: `flopdispatch.activations`."""
        return int(import_module("flopdispatch.activations").total(self))

    # Views

    def by_op(self) -> dict[Any, Cost]:
        """Cost by operator overload, the most FLOPs first."""
        return _sorted(self._sum(lambda row: self.calls[row.call].overload))

    def by_family(self) -> dict[str, Cost]:
        """Cost by operator family, the most FLOPs first."""
        return _sorted(self._sum(lambda row: self.prices[row.call].family))

    def by_phase(self) -> dict[str, Cost]:
        """Cost by phase, those that ran: forward, recompute, backward, optimizer, other."""
        found = self._sum(lambda row: row.phase)
        return {phase: found[phase] for phase in PHASES if phase in found}

    def by_dtype(self) -> dict[torch.dtype | None, Cost]:
        """Cost by the dtype computed in; None for operators without tensors."""
        return _sorted(self._sum(lambda row: self.prices[row.call].dtype))

    def by_scope(self, own: bool = False) -> dict[str, Cost]:
        """Cost by module path, children included unless `own`; the block itself is `""`."""
        return {node.path: node.own if own else node.total for node in walk(self.root)}

    @property
    def uncounted(self) -> dict[Any, int]:
        """Operators without a formula that gives a cost, and how often each ran."""
        return self._calls_where(lambda price: price.state == UNCOUNTED)

    @property
    def errors(self) -> dict[Any, str]:
        """What the formulas that failed said, by operator; the first of each."""
        found: dict[Any, str] = {}
        for call, price in zip(self.calls, self.prices):
            if price.error:
                found.setdefault(call.overload, price.error)
        return found

    @property
    def estimates(self) -> dict[Any, int]:
        """Operators whose formula is an estimate, and how often each ran."""
        return self._calls_where(lambda price: bool(price.estimate))

    @cached_property
    def root(self) -> ScopeNode:
        """The block itself, with the modules called in it below."""
        own = self._sum(lambda row: row.scope)
        records = {record.scope: record for record in self.modules}
        children: dict[str, list[str]] = {}
        placed = {""}
        for path in [*records, *own]:
            for name in _with_ancestors(path):
                if name not in placed:
                    placed.add(name)
                    children.setdefault(name.rpartition(".")[0], []).append(name)

        def node(path: str) -> tuple[ScopeNode, dict[int, int]]:
            record = records.get(path) or ModuleRecord(path, "", (), 0)
            below = [node(child) for child in children.get(path, ())]
            params = dict(record.params)
            for _, found in below:
                params.update(found)
            made = ScopeNode(
                path.rpartition(".")[2],
                path,
                record.module_type,
                sum(params.values()),
                record.calls,
                own.get(path, Cost()),
                tuple(child for child, _ in below),
                record.aliases,
            )
            return made, params

        return node("")[0]

    def _cost(self, rows: Iterable[Row]) -> Cost:
        times: dict[int, int] = {}
        for row in rows:
            times[row.call] = times.get(row.call, 0) + row.times
        return Cost.total((self.prices[call].cost, number) for call, number in times.items())

    def _sum(self, name: Callable[[Row], Name]) -> dict[Name, Cost]:
        groups: dict[Name, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(name(row), []).append(row)
        return {key: self._cost(rows) for key, rows in groups.items()}

    def _calls_where(self, matches: Callable[[Price], bool]) -> dict[Any, int]:
        found: dict[Any, int] = {}
        matching = {call for call, price in enumerate(self.prices) if matches(price)}
        for row in self.rows if matching else ():
            if row.call in matching:
                overload = self.calls[row.call].overload
                found[overload] = found.get(overload, 0) + row.times
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    # Text and data

    def table(
        self,
        depth: int | None = None,
        sort: str | None = None,
        width: int | None = None,
        by: str = "modules",
    ) -> str:
        """The table of modules, or what `by` says; `report/table.py` tells the arguments."""
        return self.report("table", depth=depth, sort=sort, width=width, by=by)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return str(import_module("flopdispatch.report.notebook").render(self))

    def report(self, name: str, **options: Any) -> str:
        """The profile as text in a format of `flopdispatch.report.REPORTERS`.

        Raises: ArgumentError for an unknown format, or an option that it doesn't have.
        """
        return str(_reports().render(self, name, **options))

    def save(self, path: str | Path, name: str | None = None, **options: Any) -> None:
        """Write a report to a file, in the format that the file's ending names unless told.

        Raises: ArgumentError as `report` does, or for an ending of no format.
        """
        text = self.report(name or _reports().by_suffix(path), **options)
        Path(path).write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")

    def roofline(self, hardware: Any, dtype: Any = None, tf32: bool = False) -> Any:
        """The least time on a machine, as `flopdispatch.roofline.Roofline.of` says."""
        return import_module("flopdispatch.roofline").Roofline.of(self, hardware, dtype, tf32)

    def to_pandas(self, by: str = "modules") -> Any:
        """A pandas DataFrame of exact integers, as `report/frame.py` says; `report("csv")` beside.

        Raises: ArgumentError for another `by`, or if pandas isn't installed.
        """
        return import_module("flopdispatch.report.frame").frame(self, by)

    def to_dict(self) -> dict[str, Any]:
        """All of the profile in plain JSON values; `from_dict` gives it back."""
        return {
            "format": FORMAT,
            "convention": self.convention,
            "description": self.description,
            "modules": [
                {
                    "scope": m.scope,
                    "type": m.module_type,
                    "params": m.params,
                    "calls": m.calls,
                    "aliases": m.aliases,
                }
                for m in self.modules
            ],
            "calls": [codec.encode_call(call) for call in self.calls],
            "prices": [codec.encode_price(price) for price in self.prices],
            "rows": [[row.scope, row.phase, row.call, row.times] for row in self.rows],
            "assumptions": [asdict(assumption) for assumption in self.assumptions],
            "saved": self.saved,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Profile:
        """The profile that `to_dict` wrote.

        Raises: ArgumentError if `data` isn't one, or an operator is not known here.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            got = data.get("format") if isinstance(data, dict) else type(data).__name__
            known = str(got).startswith(FORMAT.partition("/")[0])
            hint = ": read it with the flopdispatch that wrote it, or a later one" if known else ""
            raise ArgumentError(f"expected a dict with format {FORMAT!r}, got {got!r}{hint}")
        try:
            return cls._decoded(data)
        except (AttributeError, KeyError, TypeError) as error:
            raise ArgumentError(
                f"the data is not whole, or of a torch that knows more: {error!r}"
            ) from error

    @classmethod
    def _decoded(cls, data: dict[str, Any]) -> Profile:
        return cls(
            calls=tuple(codec.decode_call(call) for call in data["calls"]),
            prices=tuple(codec.decode_price(price) for price in data["prices"]),
            rows=tuple(Row(*row) for row in data["rows"]),
            modules=tuple(
                ModuleRecord(
                    scope=m["scope"],
                    module_type=m["type"],
                    params=tuple((i, n) for i, n in m["params"]),
                    calls=m["calls"],
                    aliases=tuple(m["aliases"]),
                )
                for m in data["modules"]
            ),
            convention=data["convention"],
            description=data["description"],
            assumptions=tuple(Assumption(**item) for item in data["assumptions"]),
            saved=None if data.get("saved") is None else tuple(Saved(*s) for s in data["saved"]),
        )

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that `to_json` wrote.

        Raises: ArgumentError if it isn't JSON, and as `from_dict`.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArgumentError(f"expected the text that to_json wrote: {error}") from error
        return cls.from_dict(data)

    def __reduce__(self) -> Any:
        return Profile.from_dict, (self.to_dict(),)  # operators pickle by name only


def _with_ancestors(path: str) -> list[str]:
    """`a.b.c` as a, a.b, a.b.c."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def walk(node: ScopeNode) -> Iterable[ScopeNode]:
    """A node and all below it, in the order of the tree."""
    yield node
    for child in node.children:
        yield from walk(child)


def _reports() -> Any:
    """The reports, looked up when one is asked for: they build on profiles."""
    return import_module("flopdispatch.report")


def check_depth(depth: int | None) -> None:
    """Raises: ArgumentError if `depth` is no number of levels and not None."""
    if depth is not None and (type(depth) is not int or depth < 0):
        raise ArgumentError(f"depth= takes an integer >= 0 or None, got {depth!r}")


def _sorted(costs: dict[Name, Cost]) -> dict[Name, Cost]:
    return dict(sorted(costs.items(), key=lambda item: (-item[1].flops, -item[1].nbytes)))
