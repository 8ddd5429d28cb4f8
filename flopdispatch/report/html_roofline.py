"""The HTML report's part about a machine: the roof, drawn, and tables of the least times."""

from __future__ import annotations

import math
from collections.abc import Callable

from flopdispatch.report.html_data import Figure, Given
from flopdispatch.report.html_tables import head, number, section, words
from flopdispatch.report.markup import Markup, element, joined, visible
from flopdispatch.report.roofline_points import Point, axes, bound_by, groups, points
from flopdispatch.roofline import MEMORY, Bound, Roofline
from flopdispatch.units import duration, exact, percent, si

LINK = Markup('\n<a href="#roofline">Roofline</a>')
NUMBERED = 12  # points with a number beside, those of the most time
WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50  # room around the plane
HEADS = ("Work", "Bytes", "Work/byte", "Bound by", "Time", "Share")


def sections(roofline: Roofline, notes: list[str]) -> Markup:
    """The plot with what to know of it, and tables of operators and phases."""
    heading = element("h2", "Roofline", id="roofline")
    told = [element("p", note) for note in notes]
    shown = points(roofline, "operators")
    drawn = [plot(roofline, shown)] if shown else []
    places = {point.name: i + 1 for i, point in enumerate(shown[:NUMBERED])}
    tables = [
        table(roofline, "Times of operators", "Operator", "operators", places),
        table(roofline, "Times of phases", "Phase", "phases", {}),
    ]
    return joined(element("section", heading, *told, *drawn), *tables)


def columns(roofline: Roofline) -> tuple[Given, Given]:
    """The time of each module, and what bounds it, which sorts by the memory's share."""
    total, own = roofline.by_scope(), roofline.by_scope(own=True)

    def given(key: str, label: str, sized: bool, of: Callable[[Bound], Figure]) -> Given:
        all_of, alone = ({path: of(b) for path, b in known.items()} for known in (total, own))
        return Given(key, label, sized, all_of, alone)

    return (
        given("time", "Time", True, lambda b: (b.seconds, exact(b.seconds), duration(b.seconds))),
        given("bound", "Bound by", False, _bounding),
    )


def _bounding(bound: Bound) -> Figure:
    share = bound.memory_seconds / bound.seconds if bound.seconds else 0.0
    told = f"memory {percent(share, 1.0)}" if bound.seconds else ""
    return share, told, bound_by(bound)


def table(roofline: Roofline, title: str, name: str, by: str, places: dict[str, int]) -> Markup:
    """A section with the bounds of each group of calls; `places` are their numbers in the plot."""
    rows = []
    for key, bound in groups(roofline, by).items():
        if not bound.seconds:
            continue
        label = f"{key} ({places[key]})" if key in places else key
        rows.append([head(label), *cells(bound, roofline)])
    return section(title, (name, *HEADS), rows)


def cells(bound: Bound, roofline: Roofline) -> list[Markup]:
    """The cells below HEADS."""
    intensity = bound.intensity or 0.0
    return [
        number(bound.operations, si(bound.operations)),
        number(bound.nbytes, si(bound.nbytes, "B")),
        number(intensity, si(intensity)),
        words(bound_by(bound)),
        number(bound.seconds, duration(bound.seconds)),
        number(bound.seconds, percent(bound.seconds, roofline.seconds)),
    ]


def plot(roofline: Roofline, shown: list[Point]) -> Markup:
    """The roofs and the points as SVG; a point that the memory bounds is hollow."""
    left, right, low, high = axes(roofline, shown)

    def x(value: float) -> float:
        share = (math.log10(value) - left) / (right - left)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    parts = [element("title", f"Roofline of {roofline.hardware.name}")]
    for power in range(left, right + 1):
        across = x(10.0**power)
        parts.append(_line((across, y(10.0**low)), (across, y(10.0**high)), 0.15))
        parts.append(_text(across, HEIGHT - BOTTOM + 18, _tick(power), "middle"))
    for power in range(low, high + 1):
        up = y(10.0**power)
        parts.append(_line((x(10.0**left), up), (x(10.0**right), up), 0.15))
        parts.append(_text(LEFT - 8, up + 4, _tick(power), "end"))
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 10, "operations / byte", "middle"))
    parts.append(_text(LEFT, TOP - 6, "operations / s", "start"))
    bandwidth = roofline.rates[MEMORY]
    for name, ridge in roofline.ridges.items():
        peak = roofline.rates[name]
        start = max(10.0**left, 10.0**low / bandwidth)
        parts.append(_line((x(start), y(start * bandwidth)), (x(ridge), y(peak)), 0.8))
        parts.append(_line((x(ridge), y(peak)), (x(10.0**right), y(peak)), 0.8))
        parts.append(_text(x(10.0**right), y(peak) - 6, f"{name} {si(peak)}", "end"))
    for i, point in enumerate(shown):
        parts.append(_point(point, x(point.intensity), y(point.rate)))
        if i < NUMBERED:
            parts.append(_text(x(point.intensity) + 7, y(point.rate) - 6, str(i + 1), "start"))
    drawing = element(
        "svg", *parts, role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, height=HEIGHT
    )
    caption = (
        "Operations a second that each operator reaches at most, by its operations a byte; hollow "
        "where the memory bounds it. Numbers are those of the table below."
    )
    scrolls = {"role": "region", "tabindex": 0, "aria_label": "Plot of the roofline"}
    return joined(element("div", drawing, class_="wide", **scrolls), element("p", caption))


def _tick(power: int) -> str:
    """A power of ten beside an axis."""
    return si(10**power, digits=1)


def _point(point: Point, x: float, y: float) -> Markup:
    fill = "none" if point.bound.bound == MEMORY else "currentColor"
    told = f"{visible(point.name)}: {duration(point.bound.seconds)}, {si(point.intensity)} a byte"
    return element(
        "circle", element("title", told), cx=x, cy=y, r=5, fill=fill, stroke="currentColor"
    )


def _line(start: tuple[float, float], end: tuple[float, float], opacity: float) -> Markup:
    (x1, y1), (x2, y2) = start, end
    ink = {"stroke": "currentColor", "stroke_opacity": opacity}
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **ink)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    ink = {"fill": "currentColor", "font_size": 12, "text_anchor": anchor}
    return element("text", text, x=x, y=y, **ink)
