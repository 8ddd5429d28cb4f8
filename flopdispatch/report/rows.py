"""The rows of a module report: the tree with containers merged and equal siblings folded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.profile import ScopeNode


@dataclass(frozen=True, slots=True)
class DisplayRow:
    """One line of a report: a module, or `times` equal siblings with their sum.

    `params` and `cost` are totals of all the modules that the line stands for, `paths` where they
    are. `aliases` are other names of the one module.
    """

    label: str
    module_type: str
    params: int
    cost: Cost
    ran: bool
    times: int
    children: tuple[DisplayRow, ...]
    aliases: tuple[str, ...] = field(default=(), compare=False)
    paths: tuple[str, ...] = field(default=(), compare=False)


SORTS: dict[str, Callable[[Any], Any]] = {
    "flops": lambda row: -row.cost.flops,
    "macs": lambda row: -row.cost.macs,
    "params": lambda row: -row.params,
    "bytes": lambda row: -row.cost.nbytes,
    "name": lambda row: row.label,
}


def display_rows(root: ScopeNode) -> tuple[DisplayRow, ...]:
    """The lines below a profile's root, in the order of the tree."""
    return _fold(tuple(row for child in root.children for row in _rows(child, "")))


def _rows(node: ScopeNode, prefix: str) -> tuple[DisplayRow, ...]:
    """A node as one row; a container that is never called itself as its children's rows."""
    label = prefix + node.name
    container = node.ran and node.calls == 0 and node.own == Cost() and node.children
    below = [(child, f"{label}." if container else "") for child in node.children]
    rows = tuple(row for child, before in below for row in _rows(child, before))
    if container and sum(child.params for child in node.children) == node.params:
        return rows
    row = DisplayRow(
        label,
        node.module_type,
        node.params,
        node.total,
        node.ran,
        1,
        _fold(rows),
        tuple(_seen_from(node.path, label, alias) for alias in node.aliases),
        (node.path,),
    )
    return (row,)


def _seen_from(path: str, label: str, alias: str) -> str:
    """An alias without what a row's label leaves out of its path, or without their root."""
    return alias.removeprefix(path[: -len(label)]).removeprefix(f"{path.partition('.')[0]}.")


_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def _fold(rows: tuple[DisplayRow, ...]) -> tuple[DisplayRow, ...]:
    """Runs of siblings that are equal but for the number at the end of their label as one row."""
    folded: list[DisplayRow] = []
    run: list[DisplayRow] = []
    for row in rows:
        if run and not _continues(run[-1], row):
            folded.append(_merged(run))
            run = []
        run.append(row)
    if run:
        folded.append(_merged(run))
    return tuple(folded)


def _continues(last: DisplayRow, row: DisplayRow) -> bool:
    before, now = _NUMBERED.match(last.label), _NUMBERED.match(row.label)
    return (
        before is not None
        and now is not None
        and before[1] == now[1]
        and int(before[2]) + 1 == int(now[2])
        and replace(last, label="") == replace(row, label="")
    )


def _merged(run: list[DisplayRow]) -> DisplayRow:
    if len(run) == 1:
        return run[0]
    last = _NUMBERED.match(run[-1].label)
    label = f"{run[0].label}-{last[2] if last else ''}"
    return replace(_together(run), label=label)


def _together(rows: Sequence[DisplayRow]) -> DisplayRow:
    """The sum of equal rows, and of their children."""
    first, n = rows[0], len(rows)
    return replace(
        first,
        params=first.params * n,
        cost=first.cost * n,
        times=first.times * n,
        aliases=(),  # each of them has its own
        paths=tuple(path for row in rows for path in row.paths),
        children=tuple(_together(same) for same in zip(*(row.children for row in rows))),
    )


def indented(
    rows: tuple[DisplayRow, ...],
    depth: int | None,
    sort: Callable[[DisplayRow], Any] | None,
    lead: str = "",
) -> Iterator[tuple[str, DisplayRow]]:
    """Each row with its label drawn into the tree, down to `depth` levels.

    `sort` is what siblings are ordered by.
    """
    if sort is not None:
        rows = tuple(sorted(rows, key=sort))
    for i, row in enumerate(rows):
        last = i == len(rows) - 1
        branch = "" if lead == "" else lead[:-3] + ("└─ " if last else "├─ ")
        yield branch + row.label, row
        if depth is None or depth > 0:
            under = "" if lead == "" else lead[:-3] + ("   " if last else "│  ")
            below = None if depth is None else depth - 1
            yield from indented(row.children, below, sort, under + "   ")
