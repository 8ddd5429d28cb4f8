"""The difference of two profiles as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from tabulate import tabulate

from flopdispatch.difference import (
    CHANGED,
    GONE,
    MAIN,
    NEW,
    SAME,
    Change,
    Difference,
    Figures,
    minus,
)
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report.changes import (
    Line,
    added,
    lines,
    module_lines,
    ordered,
    shown,
)
from flopdispatch.report.json import written
from flopdispatch.report.markdown import SPECIAL, code
from flopdispatch.report.markup import visible
from flopdispatch.report.table import OUTSIDE, fitted, wrapped
from flopdispatch.rules import name_of
from flopdispatch.units import exact, growth, si, signed, some

FORMAT = "flopdispatch-difference/1"
TOP = 20  # rows of a table
TITLES = {
    "params": "Params", "calls": "Calls", "macs": "MACs", "flops": "FLOPs", "bytes": "Bytes",
    "adds": "Adds", "muls": "Muls", "divs": "Divs", "transcendentals": "Transc.",
    "comparisons": "Compar.", "int_macs": "Int MACs", "int_ops": "Int ops",
    "bytes_read": "Read", "bytes_written": "Written",
}  # fmt: skip
MODULE = ("params", "macs", "flops", "bytes")  # what a module shows first
BESIDE = {  # FLOPs, in neither them nor bytes
    "transcendentals": "Transcendentals",
    "comparisons": "Comparisons",
    "int_macs": "Integer MACs",
    "int_ops": "Integer operations",
}


class Table(NamedTuple):
    """The cells of a table, its header first.

    So many columns hold words, the others figures; so many rows have a name, the last ones a sum.
    """

    cells: list[list[str]]
    words: int
    named: int


def text(
    difference: Difference,
    names: tuple[str, str] | None = None,
    sort: str = "flops",
    top: int = TOP,
    width: int | None = None,
) -> str:
    """What changed as tables: in total, by module, by operator; what changed most comes first.

    A module has a row if it differs itself, by what it computes outside of those below it; one
    that is new or gone has them in its row. Modules that changed alike are one row with their sum:
    each column adds up to the change in total. `names` tell what is compared. `sort` is the
    figure to go by, `top` how many rows a table has, `width` how many characters a line.

    Raises: ArgumentError for another `sort` or `top`.
    """
    blocks = ["\n".join(_named(names))]
    for cells, words, _ in _tables(difference, sort, top):
        fit = cells if words == 1 or width is None else fitted(cells, width, _ending)
        blocks.append(_drawn(fit, words - (len(cells[0]) - len(fit[0])), "simple"))
    blocks.append("\n".join(wrapped(_footer(difference), width)))
    return "\n\n".join(filter(None, blocks))


def markdown(
    difference: Difference,
    names: tuple[str, str] | None = None,
    sort: str = "flops",
    top: int = TOP,
) -> str:
    """The same as GitHub's Markdown; names of modules and operators are code.

    Raises: ArgumentError as `text` does.
    """
    blocks = [_items(_named(names))]
    for (headers, *rows), words, named in _tables(difference, sort, top):
        told = [[*map(code, row[:words]), *row[words:]] for row in rows[:named]]
        blocks.append(_drawn([headers, *told, *rows[named:]], words, "pipe"))
    blocks.append(_items(_footer(difference)))
    return "\n\n".join(filter(None, blocks))


def as_json(difference: Difference, names: tuple[str, str] | None = None) -> str:
    """All that differs in exact integers, of modules with and without those below them.

    Each entry has its figures before and after, null where it isn't there, and their change.
    """
    before, after = difference.total
    sides = zip(names or ("", ""), (difference.before, difference.after))
    parts = {
        "modules": difference.modules,
        "operators": difference.operators,
        "phases": difference.phases,
        "dtypes": difference.dtypes,
    }
    data = {
        "format": FORMAT,
        "same": difference.same,
        **{key: _side(*side) for key, side in zip(("before", "after"), sides)},
        "total": {"before": before, "after": after, "change": _change(difference.total)},
        **{
            kind: [_entry(change) for change in changes if change.state != SAME]
            for kind, changes in parts.items()
        },
        "unchanged": {
            kind: sum(change.state == SAME for change in changes) for kind, changes in parts.items()
        },
    }
    return written(data)


def _side(name: str, profile: Profile) -> dict[str, Any]:
    return {"name": name, "convention": profile.convention, "uncounted": _uncounted(profile)}


def _entry(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "state": change.state,
        "before": None if change.before is None else asdict(change.before),
        "after": None if change.after is None else asdict(change.after),
        "change": {"own": _change(change.own), "total": _change(change.total)},
    }


def _change(sides: tuple[Figures, Figures]) -> Figures:
    before, after = sides
    return minus(after, before)


# Tables


def _tables(difference: Difference, sort: str, top: int) -> Iterator[Table]:
    """Those of the totals, modules and operators; of phases and dtypes where some come or go."""
    if sort not in MAIN:
        raise ArgumentError(f"sort= takes one of {', '.join(MAIN)}, got {sort!r}")
    if type(top) is not int or top < 1:
        raise ArgumentError(f"top= takes an integer >= 1, got {top!r}")
    if difference.same:
        return
    whole = Line("Total", "", CHANGED, *difference.total)
    yield _totals(whole)
    modules = module_lines(difference)
    if modules:
        calls = {"calls": 0}  # those of modules are no part of a whole
        alone = replace(whole, before=whole.before | calls, after=whole.after | calls)
        yield _table(["Module", "Type"], modules, alone, sort, top, MODULE)
    operators = lines(difference.operators)
    if operators:
        yield _table(["Operator", "Family"], operators, whole, sort, top)
    for title, changes in (("Phase", difference.phases), ("Dtype", difference.dtypes)):
        found = lines(changes)
        if any(line.state in (NEW, GONE) for line in found):
            yield _table([title], found, whole, sort, top)


def _totals(whole: Line) -> Table:
    """A row a figure; those beside FLOPs where they differ."""
    cells = [["", "Before", "After", "Change", "%"]]
    titles = {name: TITLES[name] for name in MAIN}
    titles |= {name: title for name, title in BESIDE.items() if whole.change[name]}
    for name, title in titles.items():
        before, after, unit = whole.before[name], whole.after[name], _unit(name)
        told = si(before, unit), si(after, unit), signed(after - before, unit)
        cells.append([title, *told, growth(before, after)])
    return Table(cells, 1, 0)


def _table(
    titles: list[str],
    found: list[Line],
    whole: Line,
    sort: str,
    top: int,
    main: Sequence[str] = MAIN,
) -> Table:
    """The lines that changed most, the sum of the others, and the total."""
    by = sort if any(line.before[sort] or line.after[sort] for line in found) else "flops"
    first = ordered(found, by)
    rest = first[top:]
    if rest:
        first = [*first[:top], replace(added(rest, f"{exact(len(rest))} more"), times=1)]
    names = shown(found, main)
    unnamed = OUTSIDE if titles[0] == "Module" else "(none)"
    cells = [[*titles, *(TITLES[name] for name in names), f"{TITLES[by]} %"]]
    for line in [*first, whole]:
        label = visible(line.label or unnamed) + (f" ×{line.times}" if line.times > 1 else "")
        figures = [signed(line.change[name], _unit(name)) for name in names]
        last = growth(line.before[by], line.after[by]) if line.state == CHANGED else line.state
        cells.append([*[label, visible(line.kind)][: len(titles)], *figures, last])
    return Table(cells, len(titles), min(top, len(found)))


def _unit(name: str) -> str:
    return "B" if name.startswith("bytes") else ""


def _drawn(cells: list[list[str]], words: int, style: str) -> str:
    headers, *rows = cells
    align = ["left" if i < words else "right" for i in range(len(headers))]
    return tabulate(
        rows, headers, style, disable_numparse=True, preserve_whitespace=True, colalign=align
    )


def _ending(label: str, most: int) -> str:
    """The end of a path, which tells more than its beginning."""
    return label if len(label) <= most else f"…{label[len(label) - most + 1 :]}"


# What stands around them


def _named(names: tuple[str, str] | None) -> list[str]:
    return [] if names is None else [f"Before: {visible(names[0])}", f"After: {visible(names[1])}"]


def _footer(difference: Difference) -> list[str]:
    """What did not change, and what the figures don't tell."""
    before, after = difference.before, difference.after
    modules = sum(not change.itself for change in difference.modules if change.name)
    operators = sum(change.state == SAME for change in difference.operators)
    word = "No difference" if difference.same else "Unchanged"
    found = [f"{word}: {_number(modules, 'module')}, {_number(operators, 'operator')}"]
    described = [
        f"{p.convention} ({p.description})" if p.description else p.convention
        for p in (before, after)
    ]
    if described[0] == described[1]:
        found.append(f"Convention: {described[0]}")
    else:
        found.append(f"Conventions differ: {described[0]} before, {described[1]} after")
    for when, profile in (("before", before), ("after", after)):
        calls = [f"{name} x{times}" for name, times in _uncounted(profile).items()]
        if calls:
            found.append(f"Uncounted {when}: {some(calls)}")
    return found


def _number(number: int, word: str) -> str:
    return f"{exact(number)} {word}{'' if number == 1 else 's'}"


def _uncounted(profile: Profile) -> dict[str, int]:
    return {name_of(op): times for op, times in profile.uncounted.items()}


def _items(found: list[str]) -> str:
    """A list in Markdown, in which nothing is read as such."""
    return "\n".join("- " + SPECIAL.sub(r"\\\1", visible(line)) for line in found)
