"""List operators and what is known of them.

Every overload of torch and of the libraries that are loaded is in one of four states: counted (a
formula says what a call costs), zero (declared to compute nothing), decomposed (runs as other
operators, which are counted) or uncounted (reports list its calls). PATTERN is a part of the name,
or a whole one with * and ?; `explain` tells more of a single operator.

examples:
  flopdispatch ops softmax
  flopdispatch ops 'aten::mm.*'
  flopdispatch ops --state uncounted
  flopdispatch ops --family attention --out attention.csv
  flopdispatch ops --import torchvision 'torchvision::*'
"""

from __future__ import annotations

import csv
import io
import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from tabulate import tabulate

from flopdispatch.catalogue import catalogue, matching
from flopdispatch.cli import terminal
from flopdispatch.cli.output import add_convention
from flopdispatch.cli.targets.python import module_of
from flopdispatch.conventions import convention
from flopdispatch.errors import ArgumentError
from flopdispatch.rules import COUNTED, DECOMPOSED, UNCOUNTED, ZERO, Explanation, name_of
from flopdispatch.terminal import width
from flopdispatch.units import exact

STATES = COUNTED, ZERO, DECOMPOSED, UNCOUNTED
FORMATS = {"table": ".txt", "json": ".json", "csv": ".csv", "markdown": ".md"}
HEADERS = "Operator", "State", "Family", "Counted as"
FIELDS = "operator", "state", "family", "stands_for", "estimate", "layouts"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="which operators"
    )
    parser.add_argument("--state", choices=STATES, help="only those in this state")
    parser.add_argument("--family", metavar="NAME", help="only those of this family of formulas")
    add_import(parser)
    add_convention(parser)
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        help="how to write them; without it, what --out ends with, or table",
    )
    parser.add_argument("--out", metavar="FILE", help="where to write them")


def add_import(parser: ArgumentParser) -> None:
    """`--import`."""
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module or a .py file that registers operators, to load first; may be given again",
    )


def run(arguments: Namespace) -> int:
    for name in arguments.modules:
        module_of(name)
    registry = convention(arguments.convention)
    known = catalogue(registry)
    names = matching(arguments.pattern, known)
    found = [registry.explain(known[name]) for name in names]
    rows = [row(one) for one in found if arguments.state in (None, one.state)]
    if arguments.family is not None:
        rows = of_family(rows, arguments.family, sorted({rule.family for rule in registry}))
    ending = Path(arguments.out or "").suffix
    by_ending = next((name for name, suffix in FORMATS.items() if suffix == ending), "table")
    wide = width() if arguments.out is None else None
    terminal.write(written(rows, arguments.format or by_ending, wide), arguments.out)
    return 0


def row(one: Explanation) -> dict[str, Any]:
    """What is known of an operator in plain values."""
    stands_for = "" if one.stands_for is None else name_of(one.stands_for)
    about = one.state, one.family, stands_for, one.estimate, list(one.layouts)
    return dict(zip(FIELDS, (name_of(one.overload), *about)))


def of_family(rows: list[dict[str, Any]], family: str, families: list[str]) -> list[dict[str, Any]]:
    """The rows of a family.

    Raises: ArgumentError if there is no such family.
    """
    if family not in families:
        raise ArgumentError(f"--family takes one of {', '.join(families)}, got {family!r}")
    return [row for row in rows if row["family"] == family]


def written(rows: list[dict[str, Any]], form: str, wide: int | None = None) -> str:
    """The rows as text; the forms for people end with how many there are of each state.

    A table of more than `wide` columns leaves out what the operators are counted as.
    """
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(
            [*[row[name] for name in FIELDS[:-1]], " ".join(row["layouts"])] for row in rows
        )
        return text.getvalue().rstrip("\n")
    style = "simple" if form == "table" else "github"
    table = tabulate([cells(row) for row in rows], HEADERS, style, disable_numparse=True)
    if wide is not None and table.find("\n") > wide:
        table = tabulate(
            [cells(row)[:-1] for row in rows], HEADERS[:-1], style, disable_numparse=True
        )
    return f"{table}\n\n{totals(rows)}"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row for people."""
    mark = " ~" if row["estimate"] else ""
    return row["operator"], row["state"] + mark, row["family"], row["stands_for"]


def totals(rows: list[dict[str, Any]]) -> str:
    """How many operators there are in each state."""
    states = Counter(row["state"] for row in rows)
    parts = [f"{exact(states[state])} {state}" for state in STATES if states[state]]
    estimates = sum(bool(row["estimate"]) for row in rows)
    told = f"; ~ {exact(estimates)} by an estimate" if estimates else ""
    of_each = f": {', '.join(parts)}{told}" if parts else ""
    return f"{exact(len(rows))} operator{'' if len(rows) == 1 else 's'}{of_each}"
