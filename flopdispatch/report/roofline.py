"""Time bounds in reports: the columns that a profile's tables and records have with a machine."""

from __future__ import annotations

from typing import Any

from flopdispatch.report import csv, html, html_roofline, json, markdown, table
from flopdispatch.report.lines import NAMES, check_by, names, ordered
from flopdispatch.report.records import Records, namer, records
from flopdispatch.report.roofline_points import bound_by
from flopdispatch.report.rows import SORTS, DisplayRow
from flopdispatch.roofline import MEMORY, Bound, Roofline
from flopdispatch.units import duration, exact, percent, si

HEADERS = ("Work", "Bytes", "Work/byte", "Bound by", "Time", "Share")
COLUMNS = ("work", "work_per_byte", "bound", "seconds", "memory_seconds")


def as_table(
    roofline: Roofline,
    depth: int | None = None,
    sort: str | None = None,
    width: int | None = None,
    by: str = "modules",
) -> str:
    """The tree of modules with work, bytes, what bounds each and the least time that it takes.

    The arguments are those of the table without a machine; `sort` may be `"time"` too. Operators,
    families, phases and dtypes are in that order unless told otherwise.

    Raises: ArgumentError for another `depth`, `sort`, `width` or `by`.
    """
    cells = [headers(by), *lines(roofline, depth, sort, by)]
    below = [*notes(roofline), *table.footer(roofline.profile)]
    return table.drawn(cells, below, width)


def as_markdown(
    roofline: Roofline, depth: int | None = None, sort: str | None = None, by: str = "modules"
) -> str:
    """The rows of the table and its footer as GitHub's Markdown.

    Raises: ArgumentError for another `depth`, `sort` or `by`.
    """
    below = [*notes(roofline), *table.footer(roofline.profile)]
    return markdown.written(headers(by), lines(roofline, depth, sort, by), below)


def as_csv(roofline: Roofline, by: str = "modules") -> str:
    """The records with COLUMNS beside, as CSV.

    Raises: ArgumentError for another `by`.
    """
    return csv.written(extended(roofline, by))


def as_json(roofline: Roofline) -> str:
    """The profile as JSON; its summary has `roofline`, with the machine and all bounds."""
    told = {kind: bounds(roofline, kind).as_dicts() for kind in json.SUMMARIZED}
    whole = {**json.summary(roofline.profile), "roofline": {**summary(roofline), **told}}
    return json.with_summary(roofline.profile, whole)


def as_html(roofline: Roofline, title: str | None = None) -> str:
    """The page, with a plot of the roof and tables of time bounds."""
    more = html_roofline.sections(roofline, notes(roofline))
    columns = html_roofline.columns(roofline)
    return html.page(roofline.profile, title, html_roofline.LINK, more, columns)


def headers(by: str) -> list[str]:
    """What stands above the columns. Raises: ArgumentError for another `by`."""
    check_by(by)
    return [*NAMES[by], *HEADERS]


def lines(
    roofline: Roofline, depth: int | None = None, sort: str | None = None, by: str = "modules"
) -> list[list[str]]:
    """The cells of each row below the headers, the last one with the total.

    Raises: ArgumentError for another `depth`, `sort` or `by`.
    """
    if by != "modules":
        check_by(by)
        groups = roofline.grouped(namer(roofline.profile, by))
        sorts = SORTS | {"time": lambda line: -groups[line.label].seconds}
        found = ordered(roofline.profile, by, depth, sort or "time", sorts)
        rows = [(names(by, line.label, line.family), groups[line.label]) for line in found]
        rows.append((names(by, "Total", ""), roofline.total))
        return [[*named, *_figures(bound, roofline)] for named, bound in rows]
    own, bounds = roofline.by_scope(own=True), roofline.by_scope()

    def bound(row: DisplayRow) -> Bound:
        return Bound.total((bounds[path], 1) for path in row.paths)

    sorts = SORTS | {"time": lambda row: -bound(row).seconds}
    *tree, (label, total) = table.rows(roofline.profile, depth, sort, sorts)
    cells = [_line(name, row, bound(row) if row.paths else own[""], roofline) for name, row in tree]
    return [*cells, _line(label, total, roofline.total, roofline)]


def _line(label: str, row: DisplayRow, bound: Bound, roofline: Roofline) -> list[str]:
    if not row.ran:
        return [label, row.module_type, "not called", "", "", "", "", ""]
    return [label, row.module_type, *_figures(bound, roofline)]


def _figures(bound: Bound, roofline: Roofline) -> list[str]:
    """The cells below HEADERS."""
    return [
        si(bound.operations),
        si(bound.nbytes, "B"),
        "" if bound.intensity is None else si(bound.intensity),
        bound_by(bound),
        duration(bound.seconds),
        percent(bound.seconds, roofline.seconds),
    ]


def machine(roofline: Roofline) -> str:
    """The machine, and the rates that work is held against."""
    ridges = roofline.ridges
    rates = [
        f"{name} {si(rate, 'OP/s' if name == 'int8' else 'FLOP/s')} (ridge {si(ridges[name])})"
        for name, rate in roofline.rates.items()
        if name != MEMORY
    ]
    bandwidth = f"memory {si(roofline.rates[MEMORY], 'B/s')}"
    return f"Machine: {roofline.hardware.name}: {', '.join([*rates, bandwidth])}"


def notes(roofline: Roofline) -> list[str]:
    """What a reader of the times has to know: the machine, the bounds of the whole, the phases."""
    total = roofline.total
    phases = (f"{name} {duration(bound.seconds)}" for name, bound in roofline.by_phase().items())
    missing = sum(roofline.profile.uncounted.values())
    word = "call" if missing == 1 else "calls"
    return [
        machine(roofline),
        f"At least {duration(total.seconds)} if calls run one by one; "
        f"{duration(total.overlapped_seconds)} if all overlap; "
        f"{duration(total.compute_seconds)} for the arithmetic alone",
        f"Times of phases: {', '.join(phases) or 'none'}",
        *([f"Times leave out {exact(missing)} {word} of uncounted operators"] if missing else ()),
    ]


def extended(roofline: Roofline, by: str = "modules") -> Records:
    """The records of one kind with COLUMNS beside.

    Raises: ArgumentError for another `by`.
    """
    found, more = records(roofline.profile, by), bounds(roofline, by)
    rows = [(*row, *other[1:]) for row, other in zip(found.rows, more.rows)]
    return Records((*found.columns, *more.columns[1:]), rows)


def bounds(roofline: Roofline, by: str = "modules") -> Records:
    """COLUMNS for each row of the records of one kind, after the row's first value.

    Modules have them for `total_` and `own_`.

    Raises: ArgumentError for another `by`.
    """
    found = records(roofline.profile, by)
    names = list(COLUMNS)
    if by == "modules":
        total, own = roofline.by_scope(), roofline.by_scope(own=True)
        names = [f"{kind}_{name}" for kind in ("total", "own") for name in COLUMNS]
        cells = [(*figures(total[row[0]]), *figures(own[row[0]])) for row in found.rows]
    elif by == "calls":
        rows = roofline.profile.rows
        cells = [figures(Bound.total([(roofline.calls[row.call], row.times)])) for row in rows]
    else:
        groups = roofline.grouped(namer(roofline.profile, by))
        cells = [figures(groups[row[0]]) for row in found.rows]
    return Records(
        (found.columns[0], *names), [(row[0], *more) for row, more in zip(found.rows, cells)]
    )


def figures(bound: Bound) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    return (
        bound.operations, bound.intensity, bound.bound, bound.seconds, bound.memory_seconds
    )  # fmt: skip


def summary(roofline: Roofline) -> dict[str, Any]:
    """The machine and the bounds of the whole, in plain values."""
    total = roofline.total
    return {
        "hardware": roofline.hardware.name,
        "rates": dict(roofline.rates),
        "ridges": roofline.ridges,
        "work": dict(total.work),
        "busy_seconds": dict(total.limits),
        "seconds": total.seconds,
        "memory_seconds": total.memory_seconds,
        "overlapped_seconds": total.overlapped_seconds,
        "compute_seconds": total.compute_seconds,
    }
