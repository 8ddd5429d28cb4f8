"""What a notebook shows of a profile: the table of modules as HTML, with no script."""

from __future__ import annotations

from flopdispatch.profile import Profile
from flopdispatch.report.markup import Markup, element, visible
from flopdispatch.report.table import HEADERS, footer, lines

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
    few = _cut(profile, SHOWN)
    many = _cut(profile, FOLDED)
    parts = [STYLE, _table(few)]
    if len(many) > len(few):
        summary = element("summary", f"{len(many) - len(few)} more rows")
        parts.append(element("details", summary, _table(many)))
    parts += [element("p", visible(line)) for line in footer(profile)]
    parts.append(element("p", 'profile.save("report.html") makes a page to look at and to search.'))
    return element("div", *parts, class_="flopdispatch")


def _cut(profile: Profile, most: int) -> list[list[str]]:
    """The rows of as many levels as `most` rows have room for, the first level at least."""
    depth, found = 0, lines(profile, depth=0)
    while len(deeper := lines(profile, depth=depth + 1)) <= most:
        if len(deeper) == len(found):
            break
        depth, found = depth + 1, deeper
    return found


def _table(rows: list[list[str]]) -> Markup:
    return element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in HEADERS))),
        element("tbody", *map(_row, rows)),
    )


def _row(cells: list[str]) -> Markup:
    label, *rest = map(visible, cells)
    row = [element("th", label, scope="row"), *(element("td", cell) for cell in rest)]
    return element("tr", *row)
