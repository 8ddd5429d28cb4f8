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
from flopdispatch.report.markup import visible
from flopdispatch.report.rows import SORTS, DisplayRow, display_rows, indented
from flopdispatch.rules import name_of
from flopdispatch.saved import KINDS
from flopdispatch.units import exact, percent, shortened, si, some

HEADERS = ("Module", "Type", "Params", "MACs", "FLOPs", "Share", "Bytes")
GAP = 2  # characters between columns
LEAST_TYPE, LEAST_NAME = 8, 16  # characters that a narrow table leaves of types and names
OUTSIDE = "(outside of modules)"
MAX_ASSUMED = 5  # kinds of assumptions about data shown


def render(
    profile: Profile, depth: int | None = None, sort: str | None = None, width: int | None = None
) -> str:
    """The tree of modules with parameters, MACs, FLOPs, share of FLOPs and bytes moved.

    `depth` is how many levels below the root modules to show, None for all. `sort` orders
    siblings by `"flops"`, `"macs"`, `"params"`, `"bytes"` (largest first) or `"name"`; None
    keeps the order of the model. Equal siblings stand in one row with their sum. A row's
    figures include the modules below it. `width` is how many characters a line may have, None
    for any number: types, or else the ends of names, are left out, and the footer is wrapped.

    Raises: ArgumentError for another `depth`, `sort` or `width`.
    """
    return drawn([list(HEADERS), *lines(profile, depth, sort)], footer(profile), width)


def drawn(cells: list[list[str]], notes: list[str], width: int | None) -> str:
    """A table of cells, the headers first and the total last, with notes below it.

    The first two columns are names and types, the others figures.

    Raises: ArgumentError for a `width` that is no number of characters and not None.
    """
    if width is not None and (type(width) is not int or width < 1):
        raise ArgumentError(f"width= takes an integer >= 1 or None, got {width!r}")
    headers, *body = cells if width is None else fitted(cells, width)
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
    return ["left" if name in ("Module", "Type") else "right" for name in headers]


def lines(profile: Profile, depth: int | None = None, sort: str | None = None) -> list[list[str]]:
    """The cells of each row below HEADERS, the last one with the total.

    Raises: ArgumentError for another `depth` or `sort`.
    """
    return [_line(label, row, profile.total) for label, row in rows(profile, depth, sort)]


def rows(
    profile: Profile, depth: int | None = None, sort: str | None = None
) -> list[tuple[str, DisplayRow]]:
    """The label and what it stands for, of each row of the table, the last one the total.

    Raises: ArgumentError for another `depth` or `sort`.
    """
    check_depth(depth)
    if sort is not None and sort not in SORTS:
        raise ArgumentError(f"sort= takes one of {', '.join(SORTS)} or None, got {sort!r}")
    found = [
        (_label(label, row), row)
        for label, row in indented(display_rows(profile.root), depth, sort)
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
    return [
        label,
        row.module_type,
        si(row.params),
        si(row.cost.macs),
        si(row.cost.flops),
        percent(row.cost.flops, whole.flops),
        si(row.cost.nbytes, "B"),
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
