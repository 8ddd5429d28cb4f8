"""Difference: what changed from one profile to another, module by module, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

import torch

from flopdispatch.capture.recording import own_params
from flopdispatch.cost import FIELDS, Cost
from flopdispatch.profile import Profile, Row, walk
from flopdispatch.rules import name_of

Figures = dict[str, int]

# The figures of a part, and those that a reader asks for first.
MAIN = ("params", "calls", "macs", "flops", "bytes")
FIGURES = (*MAIN, *(name for name in FIELDS if name not in MAIN))

NEW, GONE, CHANGED, SAME = "new", "gone", "changed", "same"


@dataclass(frozen=True, slots=True)
class Part:
    """What a profile has under a name: a module, an operator, a phase, a dtype.

    `kind` is a module's type or an operator's family. `total` are the figures with those of the
    modules below, `own` without; parameters that modules share are the first one's.
    """

    kind: str
    own: Figures
    total: Figures


@dataclass(frozen=True, slots=True)
class Change:
    """A name and what either profile has under it; None where it has nothing."""

    name: str
    before: Part | None
    after: Part | None

    @property
    def state(self) -> str:
        """`"new"`, `"gone"`, `"changed"` or `"same"`."""
        if self.before is None:
            return NEW
        if self.after is None:
            return GONE
        return SAME if self.before == self.after else CHANGED

    @property
    def own(self) -> tuple[Figures, Figures]:
        """Its own figures before and after, zeros where it isn't there."""
        return _own(self.before), _own(self.after)

    @property
    def total(self) -> tuple[Figures, Figures]:
        """Its figures with those of the modules below it, as `own`."""
        return _total(self.before), _total(self.after)

    @property
    def itself(self) -> bool:
        """Whether it is in one profile only, or differs in more than the modules below it."""
        if self.before is None or self.after is None:
            return True
        return (self.before.kind, self.before.own) != (self.after.kind, self.after.own)


@dataclass(frozen=True)
class Difference:
    """What changed from one profile to another; costs are as each was priced.

    Modules are matched by their paths. Where a single model of each was called under a name that
    the other lacks, it is one that was renamed: its modules have the later name.

    Example:

        >>> from flopdispatch import count
        >>> before, after = (count(torch.nn.Linear(8, n), (2, 8)) for n in (4, 6))
        >>> changed = [part.name for part in Difference(before, after).modules if part.itself]
        >>> changed, [figures["macs"] for figures in Difference(before, after).total]
        (['Linear'], [64, 96])
    """

    before: Profile
    after: Profile

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        parts = (*self.modules, *self.operators, *self.phases, *self.dtypes)
        return all(change.state == SAME for change in parts)

    @cached_property
    def total(self) -> tuple[Figures, Figures]:
        """The figures of all of either profile; `calls` are those of operators."""
        return _whole(self.before), _whole(self.after)

    @cached_property
    def modules(self) -> tuple[Change, ...]:
        """All modules by path, those too that are the same; the block itself is `""`."""
        old, new = _modules(self.before), _modules(self.after)
        tops = [[path for path in found if path and "." not in path] for found in (old, new)]
        gone, come = ([path for path in tops[i] if path not in tops[1 - i]] for i in (0, 1))
        if len(gone) == len(come) == 1:
            old = {_moved(path, gone[0], come[0]): part for path, part in old.items()}
        return _matched(old, new)

    @cached_property
    def operators(self) -> tuple[Change, ...]:
        """All operators by name, those too that are the same."""
        return self._by(
            lambda profile, row: name_of(profile.calls[row.call].overload),
            lambda profile, row: profile.prices[row.call].family,
        )

    @cached_property
    def phases(self) -> tuple[Change, ...]:
        """All phases by name, those too that are the same."""
        return self._by(lambda profile, row: row.phase)

    @cached_property
    def dtypes(self) -> tuple[Change, ...]:
        """All dtypes computed in, those too that are the same; `""` for none."""
        return self._by(lambda profile, row: _dtype(profile.prices[row.call].dtype))

    def _by(
        self,
        name: Callable[[Profile, Row], str],
        kind: Callable[[Profile, Row], str] = lambda profile, row: "",
    ) -> tuple[Change, ...]:
        return _matched(*(_grouped(profile, name, kind) for profile in (self.before, self.after)))

    def __str__(self) -> str:
        text: str = import_module("flopdispatch.report.difference").text(self)
        return text


def minus(one: Figures, other: Figures) -> Figures:
    """The figures of one less those of another."""
    return {name: number - other[name] for name, number in one.items()}


def plus(one: Figures, other: Figures) -> Figures:
    """The figures of both."""
    return {name: number + other[name] for name, number in one.items()}


def figures(cost: Cost, calls: int = 0, params: int = 0) -> Figures:
    """All figures by name; by default, none of any."""
    found = {name: getattr(cost, name) for name in FIELDS}
    found |= {"params": params, "calls": calls, "flops": cost.flops, "bytes": cost.nbytes}
    return {name: found[name] for name in FIGURES}


NOTHING = figures(Cost())


def _own(part: Part | None) -> Figures:
    return NOTHING if part is None else part.own


def _total(part: Part | None) -> Figures:
    return NOTHING if part is None else part.total


def _whole(profile: Profile) -> Figures:
    return figures(profile.total, sum(row.times for row in profile.rows), profile.params)


def _modules(profile: Profile) -> dict[str, Part]:
    held = own_params(profile.modules)
    nodes = {node.path: node for node in walk(profile.root)}
    own = {path: figures(node.own, node.calls, held.get(path, 0)) for path, node in nodes.items()}
    total = dict(own)
    for path in reversed([path for path in nodes if path]):
        above = path.rpartition(".")[0]
        total[above] = plus(total[above], total[path]) | {"calls": own[above]["calls"]}
    return {path: Part(node.module_type, own[path], total[path]) for path, node in nodes.items()}


def _moved(path: str, old: str, new: str) -> str:
    """A path with its first part replaced, if that is `old`."""
    first, dot, rest = path.partition(".")
    return new + dot + rest if first == old else path


def _grouped(
    profile: Profile,
    name: Callable[[Profile, Row], str],
    kind: Callable[[Profile, Row], str],
) -> dict[str, Part]:
    groups: dict[str, list[Row]] = {}
    for row in profile.rows:
        groups.setdefault(name(profile, row), []).append(row)
    found = {}
    for key, rows in groups.items():
        cost = Cost.total((profile.prices[row.call].cost, row.times) for row in rows)
        own = figures(cost, sum(row.times for row in rows))
        kinds = ", ".join(dict.fromkeys(kind(profile, row) for row in rows))
        found[key] = Part(kinds, own, own)
    return found


def _matched(old: dict[str, Part], new: dict[str, Part]) -> tuple[Change, ...]:
    return tuple(Change(name, old.get(name), new.get(name)) for name in {**old, **new})


def _dtype(dtype: torch.dtype | None) -> str:
    return "" if dtype is None else str(dtype).removeprefix("torch.")
