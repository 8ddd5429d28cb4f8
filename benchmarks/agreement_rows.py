"""Rows of the tables of agreement, and the table of what explains them."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.agreement_differences import FAULTS, Difference
from flopdispatch.units import exact

REASON = "{:20} {:>6} {:>9} {:>22}  {}"


@dataclass(frozen=True, slots=True)
class Row:
    """One run's line, what is wrong in it, and the differences that are explained."""

    line: str
    wrong: list[str]
    differences: list[dict[str, Difference]] = field(default_factory=list)


def counts(number: int, rows: list[Row]) -> str:
    """How many models and runs agree."""
    disagree = sum(bool(row.wrong) for row in rows)
    return f"{number} models, {len(rows)} runs: {len(rows) - disagree} agree, {disagree} disagree"


def reasons(rows: list[Row]) -> list[str]:
    """The table of differences that are explained: where they were, how much, and what of."""
    lines = [
        "",
        "Differences explained: ours less torch's, in FLOPs, over all runs that have them",
        REASON.format("difference", "runs", "calls", "FLOPs", "reason, in FlopCounterMode"),
    ]
    for fault in FAULTS:
        found = [one[fault.name] for row in rows for one in row.differences if fault.name in one]
        total = sum(found, Difference())
        if found:
            columns = len(found), exact(total.calls), exact(total.flops)
            lines.append(REASON.format(fault.name, *columns, fault.reason))
    return lines
