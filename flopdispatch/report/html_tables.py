"""Tables of the HTML report, that can be sorted."""

from __future__ import annotations

from collections.abc import Sequence

from flopdispatch.report.markup import Markup, element, visible
from flopdispatch.units import exact

NUMBERS = ("Calls", "MACs", "FLOPs", "Share", "Bytes", "Times", "Work", "Work/byte", "Time")


def head(text: str) -> Markup:
    """The cell that names a row."""
    return element("th", visible(text), scope="row")


def words(text: str) -> Markup:
    """A cell of text."""
    return element("td", visible(text))


def number(value: float, text: str) -> Markup:
    """A cell that shows `text` and sorts by `value`."""
    return element("td", text, class_="number", data_value=value, title=exact(value))


def section(title: str, heads: Sequence[str], rows: Sequence[Sequence[Markup]]) -> Markup:
    """A section with a table that can be sorted, or with a word in place of an empty one."""
    name = title.lower().replace(" ", "-")
    heading = element("h2", title, id=name)
    if not rows:
        return element("section", heading, element("p", "None.", class_="none"))
    columns = [
        element("th", text, scope="col", class_="number" if text in NUMBERS else None)
        for text in heads
    ]
    table = element(
        "table",
        element("thead", element("tr", *columns)),
        element("tbody", *(element("tr", *row) for row in rows)),
        class_="sortable",
    )
    # It is focusable, since what is wider than the screen scrolls by itself.
    scrolls = {"role": "region", "tabindex": 0, "aria_labelledby": name}
    return element("section", heading, element("div", table, class_="wide", **scrolls))
