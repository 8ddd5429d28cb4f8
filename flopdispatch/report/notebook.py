"""What a notebook shows of a profile: the table of modules as HTML, with no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flopdispatch.profile import Profile
from flopdispatch.report import roofline as times
from flopdispatch.report import table
from flopdispatch.report.markup import Markup, element, visible
from flopdispatch.roofline import Roofline

Cells = list[list[str]]
SHOWN, FOLDED = 30, 1000  # rows at most: at once, and when all are asked for

# Colours are the notebook's own, so that it fits a light and a dark one.
STYLE = Markup("""<style>
.flopdispatch table { border-collapse: collapse; }
.flopdispatch :is(th, td) { text-align: right; padding: 0.15em 0.7em; white-space: pre; }
.flopdispatch :is(th, td):nth-child(-n + 2) { text-align: left; }
.flopdispatch tbody th { font: 1em monospace; }
.flopdispatch tbody tr:last-child > * { border-top: 1px solid; font-weight: bold; }
.flopdispatch p { margin: 0.2em 0; max-width: 60em; overflow-wrap: anywhere; }
</style>""")


def render(profile: Profile) -> str:
    """The table of modules and its footer; more than SHOWN rows are shown when they are asked for.

    It is cut where there are too many, to whole levels of the tree.
    """
    return _written(
        table.HEADERS,
        lambda depth: table.lines(profile, depth),
        table.footer(profile),
        "profile",
    )


def bounded(roofline: Roofline) -> str:
    """The same of a profile on a machine: its table with the least times."""
    return _written(
        times.headers("modules"),
        lambda depth: times.lines(roofline, depth),
        [*times.notes(roofline), *table.footer(roofline.profile)],
        "roofline",
    )


def _written(
    headers: Sequence[str], lines: Callable[[int], Cells], notes: list[str], name: str
) -> str:
    few = _cut(lines, SHOWN)
    many = _cut(lines, FOLDED)
    parts = [STYLE, _table(headers, few)]
    if len(many) > len(few):
        summary = element("summary", f"{len(many) - len(few)} more rows")
        parts.append(element("details", summary, _table(headers, many)))
    parts += [element("p", visible(line)) for line in notes]
    parts.append(element("p", f'{name}.save("report.html") makes a page to look at and to search.'))
    return element("div", *parts, class_="flopdispatch")


def _cut(lines: Callable[[int], Cells], most: int) -> Cells:
    """The rows of as many levels as `most` rows have room for, the first level at least."""
    depth, found = 0, lines(0)
    while len(deeper := lines(depth + 1)) <= most:
        if len(deeper) == len(found):
            break
        depth, found = depth + 1, deeper
    return found


def _table(headers: Sequence[str], rows: Cells) -> Markup:
    return element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in headers))),
        element("tbody", *map(_row, rows)),
    )


def _row(cells: list[str]) -> Markup:
    label, *rest = map(visible, cells)
    row = [element("th", label, scope="row"), *(element("td", cell) for cell in rest)]
    return element("tr", *row)
