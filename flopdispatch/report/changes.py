"""The rows of a report of what changed: which modules stand for all, and equal changes as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

from flopdispatch.difference import (
    CHANGED,
    FIGURES,
    MAIN,
    NOTHING,
    SAME,
    Change,
    Difference,
    Figures,
    minus,
    plus,
)

_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Line:
    """A row: one change, or `times` that are alike with their sum."""

    label: str
    kind: str
    state: str
    before: Figures
    after: Figures
    times: int = 1

    @property
    def change(self) -> Figures:
        """The figures after less those before."""
        return minus(self.after, self.before)


def module_lines(difference: Difference) -> list[Line]:
    """The modules that differ, each by its own figures; they add up to the whole difference.

    One that is new or gone has all below it in its line. Modules whose paths have other numbers
    in them and that changed alike are one line. Where all are below one model, paths begin there.
    """
    states = {change.name: change.state for change in difference.modules}
    models = {name.partition(".")[0] for name in states if name}
    before = f"{models.pop()}." if len(models) == 1 else ""
    groups: dict[object, list[Line]] = {}
    for change in difference.modules:
        path, state = change.name, change.state
        covered = state != CHANGED and states.get(path.rpartition(".")[0]) == state
        if change.itself and not covered:
            line = _line(change, path.removeprefix(before), total=state != CHANGED)
            alike = _NUMBER.sub("*", path), line.kind, state, tuple(line.change.values())
            groups.setdefault(alike, []).append(line)
    return [_merged(lines) for lines in groups.values()]


def lines(changes: Iterable[Change]) -> list[Line]:
    """A line for each of them that differs."""
    return [_line(change, change.name) for change in changes if change.state != SAME]


def ordered(found: list[Line], by: str) -> list[Line]:
    """The lines, those first where a figure changed most."""
    return sorted(found, key=lambda line: [-abs(line.change[name]) for name in (by, *MAIN)])


def added(found: list[Line], label: str, kind: str = "", state: str = CHANGED) -> Line:
    """The sum of lines."""
    before = reduce(plus, (line.before for line in found), NOTHING)
    after = reduce(plus, (line.after for line in found), NOTHING)
    return Line(label, kind, state, before, after, len(found))


def shown(found: list[Line], main: Sequence[str] = MAIN) -> list[str]:
    """The figures that tell how lines differ: others than the main ones only where none does."""
    names: set[str] = set()
    for line in found:
        changed = [name for name in FIGURES if line.change[name]]
        names.update([name for name in changed if name in main] or changed)
    return [name for name in FIGURES if name in names]


def _line(change: Change, label: str, total: bool = False) -> Line:
    sides = [part for part in (change.before, change.after) if part is not None]
    kind = " → ".join(dict.fromkeys(part.kind for part in sides))
    return Line(label, kind, change.state, *(change.total if total else change.own))


def _merged(found: list[Line]) -> Line:
    label = spanned([line.label for line in found])
    return added(found, label, found[0].kind, found[0].state)


def spanned(names: list[str]) -> str:
    """One name for several that differ in numbers only: `layers.0-31.mlp`, or `layers.*.mlp`."""
    columns = [set(values) for values in zip(*map(_NUMBER.split, names))]
    every = prod(map(len, columns)) == len(names)  # and not only some of the combinations
    return "".join(_span(values, every) for values in columns)


def _span(values: set[str], every: bool) -> str:
    if len(values) == 1:
        return next(iter(values))
    numbers = sorted(map(int, values))
    gapless = numbers == list(range(numbers[0], numbers[0] + len(values)))
    return f"{numbers[0]}-{numbers[-1]}" if every and gapless else "*"
