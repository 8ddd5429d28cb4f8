"""docs/benchmarks.md, from the measurements alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.goals import Verdict, growth_verdicts, verdicts
from benchmarks.growth import GROWING
from benchmarks.ratios import Ratio, Spread, spread
from benchmarks.ways import COLD, FLOOR, NOOP, PEERS, TORCH, UNCOUNTED, WARM
from flopdispatch.units import si

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

What counting costs. Written by `make bench` (`python -m benchmarks.speed --write`) from one
run; nothing on this page is entered by hand.
"""

LEGEND = """\
Each figure is the median of ratios of times taken in the same round, with the first and third
quartile. A turn is timed from entering the counter to having its total: `counter.flops` of
ours, `get_total_flops()` of torch's. On `meta` programs run in the default grad mode, 512
tokens for a Llama, one image for a vision model, 4 x 128 tokens of width 512 for the encoder.

- **uncounted**: the program alone.
- **no-op mode**: a `TorchDispatchMode` as users write it that calls the operator, nothing else.
- **FlopCounterMode**: torch's own counter.
- **ours, cold**: `FlopCounter` with no known call, `clear_cache()` before each turn.
- **ours, warm**: `FlopCounter` after the program was counted before in the process.
- **floor**: a mode that takes results noted before in their order, with no key and no count,
  and makes each with one `empty_strided`; views and in-place operators it calls.
- **fvcore, thop, ptflops** count the forward of a module, by tracing or with module hooks.
"""

MAIN = (NOOP, TORCH, COLD, WARM, FLOOR)
OURS = (
    Ratio(COLD, TORCH),
    Ratio(WARM, TORCH),
    Ratio(WARM, FLOOR),
    Ratio(COLD, NOOP, added=True),
    Ratio(COLD, TORCH, added=True),
)


def page(record: Mapping[str, Any]) -> str:
    """The whole page."""
    rows, growth = record["rows"], record["growth"]
    parts = [HEAD.rstrip(), machine_table(record["machine"])]
    if rows:
        notes = Footnotes()
        parts += ["## Time, as a multiple of the uncounted run", LEGEND.rstrip()]
        parts += [time_table(rows, MAIN, notes), time_table(rows, tuple(PEERS), notes)]
        parts += [str(notes)] if notes.numbers else []
        parts += ["## Ours over the others", OURS_LEGEND.rstrip(), ours_table(rows)]
    if growth:
        parts += ["## Growth", GROWTH_LEGEND.rstrip(), growth_table(growth)]
    parts += ["## Goals", GOALS_LEGEND.rstrip()]
    parts += [goals_table([*verdicts(rows), *growth_verdicts(growth)])]
    return "\n\n".join(parts) + "\n"


OURS_LEGEND = """\
*Time added* is a way's time less the uncounted run's of the same round. On meta it is negative
where counting is faster than not counting, and left out.
"""

GROWTH_LEGEND = """\
Processor time a unit, and in brackets the peak of memory that running added, each program in a
process of its own and ours with an empty cache.
"""

GOALS_LEGEND = """\
Of several rows the least and the greatest median, and the row that has the greatest; the goal
is reached if that one is within it.
"""


class Footnotes:
    """Reasons and remarks, numbered as they are first asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The mark that leads to a footnote."""
        number = self.numbers.setdefault(text, len(self.numbers) + 1)
        return f"[{number}]"

    def __str__(self) -> str:
        return "\n".join(f"[{number}] {text}  " for text, number in self.numbers.items())


def machine_table(machine: Mapping[str, str]) -> str:
    """The machine and versions."""
    return tabulate(list(machine.items()), ("measured with", ""), tablefmt="github")


def time_table(rows: Mapping[str, Any], ways: Sequence[str], notes: Footnotes) -> str:
    """A line for each row, a column for each way, over the uncounted run."""
    lines = []
    for name, row in rows.items():
        alone = milliseconds(median(row["seconds"][UNCOUNTED]))
        cells = [time_cell(way, row, notes) for way in ways]
        lines.append([f"{name} ({row['device']})", alone, *cells])
    return table(lines, ("program", "uncounted", *ways))


def time_cell(way: str, row: Mapping[str, Any], notes: Footnotes) -> str:
    """A way's time over the uncounted run's, or why there is none."""
    if way in row["absent"]:
        return f"– {notes.mark(row['absent'][way])}"
    text = ratio_cell(spread(Ratio(way, UNCOUNTED), row))
    device = row["elsewhere"].get(way)
    return f"{text} {notes.mark(f'on {device}, since it fails on meta')}" if device else text


def ours_table(rows: Mapping[str, Any]) -> str:
    """Our times over the others', and the same of the times added."""
    lines = []
    for name, row in rows.items():
        shown = [None if r.added and row["device"] == "meta" else spread(r, row) for r in OURS]
        lines.append([f"{name} ({row['device']})", *map(ratio_cell, shown)])
    return table(lines, ("program", *map(str, OURS)))


def growth_table(growth: Sequence[Mapping[str, Any]]) -> str:
    """A line for each length of each series, a column for each way."""
    points = {(p["series"], p["units"], p["way"]): p for p in growth}
    lines = []
    for name, units in dict.fromkeys((p["series"], p["units"]) for p in growth):
        cells = []
        for way in GROWING:
            point = points[name, units, way]
            each = milliseconds(point["seconds"] / units)
            cells.append(f"{each} ({megabytes(point['nbytes'])})")
        lines.append([name, f"{units:,}", *cells])
    return table(lines, ("program of", "units", *GROWING))


def goals_table(found: Sequence[Verdict]) -> str:
    """Each goal beside what was measured."""
    lines = []
    for verdict in found:
        least, greatest = number(verdict.least), number(verdict.greatest)
        measured = greatest if least == greatest else f"{least} to {greatest} ({verdict.row})"
        reached = "reached" if verdict.reached else "**not reached**"
        lines.append([verdict.of, verdict.figure, f"≤ {verdict.most:,.9g}", measured, reached])
    return table(lines, ("of", "figure", "goal", "measured", ""))


def table(lines: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A table that is left as it is written."""
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def ratio_cell(found: Spread | None) -> str:
    """`0.21 (0.20 to 0.23)`, a dash where nothing was measured."""
    if found is None:
        return "–"
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"


def number(value: float) -> str:
    """Three digits: `0.213`, `1.30`, `17.2`, `1,250`."""
    for least, digits in ((1000, 0), (100, 0), (10, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def milliseconds(seconds: float) -> str:
    """`12.3 ms`."""
    return f"{number(1e3 * seconds)} ms"


def megabytes(nbytes: int) -> str:
    """`1.2 MB`."""
    return si(nbytes, "B", digits=2)
