"""The table of modules: what `print(profile)` shows and people paste into papers."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable

from tabulate import tabulate

from flopdispatch.assumptions import Assumption
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import COMPARABLE, Profile, check_depth
from flopdispatch.report.lines import (
    NAMES,
    Line,
    Sorts,
    check_by,
    check_sort,
    names,
    ordered,
    shorter,
)
from flopdispatch.report.markup import visible
from flopdispatch.report.rows import SORTS, DisplayRow, display_rows, indented
from flopdispatch.rules import name_of
from flopdispatch.saved import KINDS
from flopdispatch.units import exact, percent, shortened, si, some

HEADERS = ("Module", "Type", "Params", "MACs", "FLOPs", "Share", "Bytes")
WORDS = {name for names in NAMES.values() for name in names}  # columns of text
GAP = 2  # characters between columns
LEAST_TYPE, LEAST_NAME = 8, 16  # characters that a narrow table leaves of types and names
OUTSIDE = "(outside of modules)"
MAX_ASSUMED = 5  # kinds of assumptions about data shown


def render(
    profile: Profile,
    depth: int | None = None,
    sort: str | None = None,
    width: int | None = None,
    by: str = "modules",
) -> str:
    """The tree of modules with parameters, MACs, FLOPs, share of FLOPs and bytes moved.

    `depth` is how many levels below the root modules to show, None for all. `sort` orders
    siblings by `"flops"`, `"macs"`, `"params"`, `"bytes"` (largest first) or `"name"`; None
    keeps the order of the model. Equal siblings stand in one row with their sum. A row's
    figures include the modules below it. `width` is how many characters a line may have, None
    for any number: types, or else the ends of names, are left out, and the footer is wrapped. `by`
    is what a line stands for: `"modules"`, or `"operators"`, `"families"`, `"phases"` or
    `"dtypes"`, which have calls in place of parameters, and no `depth`.

    Raises: ArgumentError for another `depth`, `sort`, `width` or `by`.
    """
    return drawn([headers(by), *lines(profile, depth, sort, by)], footer(profile), width)


def headers(by: str) -> list[str]:
    """What stands above the columns. Raises: ArgumentError for another `by`."""
    check_by(by)
    return [*NAMES[by], "Params" if by == "modules" else "Calls", *HEADERS[3:]]


def drawn(cells: list[list[str]], notes: list[str], width: int | None) -> str:
    """A table of cells, the headers first and the total last, with notes below it.

    The first column is of names, a second one may be of types, the others are figures. Where there
    are no types, names are short, and aren't cut.

    Raises: ArgumentError for a `width` that is no number of characters and not None.
    """
    if width is not None and (type(width) is not int or width < 1):
        raise ArgumentError(f"width= takes an integer >= 1 or None, got {width!r}")
    if width is not None and cells[0][1] in WORDS:
        cells = fitted(cells, width, shortened if cells[0][0] == "Module" else shorter)
    headers, *body = cells
    text = tabulate(
        body,
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=alignment(headers),
        preserve_whitespace=True,
    )
    *above, last = text.split("\n")
    return "\n".join([*above, above[1], last, "", *wrapped(notes, width)])


def alignment(headers: Iterable[str]) -> list[str]:
    """Where the text of each column stands in its cells."""
    return ["left" if name in WORDS else "right" for name in headers]


def lines(
    profile: Profile, depth: int | None = None, sort: str | None = None, by: str = "modules"
) -> list[list[str]]:
    """The cells of each row below the headers, the last one with the total.

    Raises: ArgumentError for another `depth`, `sort` or `by`.
    """
    whole = profile.total
    if by == "modules":
        return [_line(label, row, whole) for label, row in rows(profile, depth, sort)]
    found = ordered(profile, by, depth, sort)
    total = Line("Total", "", sum(line.calls for line in found), whole)
    return [
        [*names(by, line.label, line.family), exact(line.calls), *_figures(line.cost, whole)]
        for line in (*found, total)
    ]


def rows(
    profile: Profile, depth: int | None = None, sort: str | None = None, sorts: Sorts = SORTS
) -> list[tuple[str, DisplayRow]]:
    """The label and what it stands for, of each row of the table, the last one the total.

    Raises: ArgumentError for another `depth` or `sort`.
    """
    check_depth(depth)
    check_sort(sort, sorts)
    key = None if sort is None else sorts[sort]
    found = [
        (_label(label, row), row) for label, row in indented(display_rows(profile.root), depth, key)
    ]
    own = profile.root.own
    if own != Cost() or not found:
        found.append((OUTSIDE, DisplayRow(OUTSIDE, "", 0, own, True, 1, ())))
    total = DisplayRow("Total", "", profile.params, profile.total, True, 1, ())
    return [*found, ("Total", total)]


def fitted(
    lines: list[list[str]], width: int, cut: Callable[[str, int], str] = shortened
) -> list[list[str]]:
    """The lines with types and names cut so that a row has `width` characters, if it can be.

    Types are cut to LEAST_TYPE; where that isn't enough they go, and names are cut by `cut`.
    """
    names, types, *figures = [
        max(len(header) + GAP, *map(len, cells)) for header, *cells in zip(*lines)
    ]  # tabulate leaves that room beside a header
    left = width - sum(figures) - GAP * len(figures)  # for names and types
    if names + GAP + types <= left:
        return lines
    if names + GAP + LEAST_TYPE <= left:
        most = left - names - GAP
        return [[name, shortened(kind, most), *rest] for name, kind, *rest in lines]
    most = max(left, LEAST_NAME)
    return [[_cut(name, most, cut), *rest] for name, _, *rest in lines]


def _cut(label: str, most: int, cut: Callable[[str, int], str]) -> str:
    """A label of at most `most` characters that still says for how many modules it stands."""
    _, times, number = label.rpartition(" ×")
    end = times + number if number.isdigit() else ""
    return cut(label.removesuffix(end), most - len(end)) + end


def wrapped(lines: list[str], width: int | None) -> list[str]:
    """Lines of at most `width` characters, what goes on indented."""
    if width is None:
        return lines
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * (4 if line.startswith(" ") else 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _label(label: str, row: DisplayRow) -> str:
    if row.aliases:
        label += f" (also {some(row.aliases)})"
    label = visible(label)  # one line it stays
    return f"{label} ×{row.times}" if row.times > 1 else label


def _line(label: str, row: DisplayRow, whole: Cost) -> list[str]:
    if not row.ran:
        return [label, row.module_type, si(row.params), "not called", "", "", ""]
    return [label, row.module_type, si(row.params), *_figures(row.cost, whole)]


def _figures(cost: Cost, whole: Cost) -> list[str]:
    """The cells below the last four of HEADERS."""
    return [
        si(cost.macs),
        si(cost.flops),
        percent(cost.flops, whole.flops),
        si(cost.nbytes, "B"),
    ]


def beside(cost: Cost) -> str:
    """What a cost has beside FLOPs, in words."""
    return ", ".join(
        f"{si(number)} {name}"
        for number, name in (
            (cost.transcendentals, "transcendentals"),
            (cost.comparisons, "comparisons"),
            (cost.int_ops, "integer operations"),
        )
        if number != 0
    )


def footer(profile: Profile) -> list[str]:
    """What a reader of the table has to know: exact totals, convention, what is missing."""
    total = profile.total
    families = [name for name in COMPARABLE if name in profile.by_family()]
    lines = [
        f"Total: {exact(profile.params)} parameters, {exact(total.macs)} MACs, "
        f"{exact(total.flops)} FLOPs, {si(total.nbytes, 'B')} read and written",
    ]
    if families:
        figure = exact(profile.comparable_flops)
        lines.append(f"2 x MACs of {', '.join(families)}: {figure} FLOPs")
    if beside(total):
        lines.append(f"Beside FLOPs: {beside(total)}")
    phases = {name: cost.flops for name, cost in profile.by_phase().items() if cost.flops}
    if len(phases) > 1:
        lines.append(
            "Phases: "
            + ", ".join(
                f"{name} {si(flops, 'FLOPs')} ({percent(flops, total.flops) or '0.0%'})"
                for name, flops in phases.items()
            )
        )
    if profile.saved is not None:
        kept = ", ".join(
            f"{si(sum(s.nbytes for s in profile.saved if s.kind == kind), 'B')} of {kind}"
            for kind in KINDS
        )
        lines.append(f"Saved for the backward: {kept}")
    described = f" ({profile.description})" if profile.description else ""
    lines.append(f"Convention: {profile.convention}{described}")
    for title, found in (("Uncounted", profile.uncounted), ("Estimated", profile.estimates)):
        if found:
            calls = ", ".join(f"{name_of(op)} x{times}" for op, times in found.items())
            lines.append(f"{title}: {calls}")
    if not profile.uncounted:
        lines.append("Uncounted: none")
    lines += [f"Failed: {text}" for text in profile.errors.values()]
    return lines + assumed(profile.assumptions)


def assumed(assumptions: Iterable[Assumption]) -> list[str]:
    """What was assumed: history in full, data by what asked for it, the most often asked first."""
    lines = [f"Assumed: {told}" for told in assumptions if not told.operator]
    asked: Counter[tuple[str, str, str]] = Counter()
    for told in assumptions:
        if told.operator:
            asked[told.operator, told.text, told.source] += told.times
    if asked:
        lines.append(f"Assumed about data: {asked.total()} answers, in profile.assumptions")
    for (operator, text, source), times in asked.most_common(MAX_ASSUMED):
        lines.append(f"  {operator} at {source}: {text} x{times}")
    if len(asked) > MAX_ASSUMED:
        lines.append(f"  and {len(asked) - MAX_ASSUMED} more kinds")
    return lines
