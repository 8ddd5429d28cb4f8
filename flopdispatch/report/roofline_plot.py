"""A roofline as a plot in a file, drawn by matplotlib, which is optional."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from flopdispatch.errors import ArgumentError
from flopdispatch.report.markup import visible
from flopdispatch.report.roofline_points import axes, points
from flopdispatch.roofline import MEMORY, Roofline
from flopdispatch.units import duration, si

NAMED = 10  # points that the legend names, those of the most time
# What would differ from one run to the next is left out of each format's files.
UNDATED = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}


def save(roofline: Roofline, path: str | Path, by: str = "operators") -> None:
    """Draw the roofs and a point for each group of calls; the same roofline gives the same file.

    Raises: ArgumentError for another `by`, a file of another ending, or if matplotlib isn't
    installed.
    """
    ending = Path(path).suffix.lower()
    if ending not in UNDATED:
        raise ArgumentError(f"can't draw {path}: its ending must be one of {', '.join(UNDATED)}")
    shown = points(roofline, by)
    try:
        matplotlib = import_module("matplotlib")
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise ArgumentError(
            'plot() needs matplotlib: pip install "flopdispatch[plot]", or take '
            'roofline.save("report.html")'
        ) from error
    with matplotlib.rc_context({"svg.hashsalt": "flopdispatch"}):
        figure = figures.Figure(figsize=(9, 5.5), layout="constrained")
        plane = figure.add_subplot(xscale="log", yscale="log")
        plane.set_title(f"Roofline of {roofline.hardware.name}")
        plane.set_xlabel("operations / byte")
        plane.set_ylabel("operations / s")
        if roofline.ridges:
            left, right, low, high = axes(roofline, shown)
            bandwidth = roofline.rates[MEMORY]
            for name, ridge in roofline.ridges.items():
                peak = roofline.rates[name]
                across = [10.0**left, max(ridge, 10.0**left), 10.0**right]
                plane.plot(
                    across,
                    [min(peak, x * bandwidth) for x in across],
                    color="0.4",
                    linewidth=1,
                )
                plane.annotate(
                    f"{name} {si(peak)}OP/s",
                    (10.0**right, peak),
                    xytext=(-4, 3),
                    textcoords="offset points",
                    ha="right",
                )
            plane.set(xlim=(10.0**left, 10.0**right), ylim=(10.0**low, 10.0**high))
        for i, point in enumerate(shown):
            label = f"{visible(point.name)}: {duration(point.bound.seconds)}"
            plane.plot(
                [point.intensity],
                [point.rate],
                marker="o",
                linestyle="",
                fillstyle="none" if point.bound.bound == MEMORY else "full",
                color=f"C{i}" if i < NAMED else "0.6",
                label=label.replace("$", r"\$") if i < NAMED else None,
            )
        if shown:
            figure.legend(
                loc="outside lower center",
                ncols=2,
                fontsize="small",
                title="least time; bound by memory where hollow",
            )
        figure.savefig(path, metadata=UNDATED[ending])
