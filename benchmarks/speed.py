"""What counting costs: time and memory, ours beside the others', and whether goals are met.

    python -m benchmarks.speed [--write] [--json FILE] [--quick] [--only TEXT] [--no-growth]
    python -m benchmarks.speed --read FILE [--write]

A turn is timed with `time.perf_counter` and includes all of counting: entering the counter,
running, leaving it and asking for its total (`counter.flops`, `get_total_flops()`). Building
the model, clearing the cache before a cold turn and collecting garbage are not timed. All
ways take turns within each round, on one thread; growth is measured in processes of its own,
see growth.py. The page is printed; `--write` saves it as docs/benchmarks.md, `--json` saves the
times, from which `--read` prints the page again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.growth import growth
from benchmarks.machine import machine
from benchmarks.page import PAGE, page
from benchmarks.programs import ROWS, Row
from benchmarks.turns import turns
from benchmarks.ways import COLD, WARM, ways

QUICK_ROUNDS = 3
QUICK_MOST = 20  # --quick leaves out the rows that take so few rounds because they are long


def main(arguments: list[str]) -> int:
    """Measure, print the page, and save what is to be saved."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed")
    parser.add_argument("--write", action="store_true", help="save the page in docs/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the measurements")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measurements saved before")
    parser.add_argument("--quick", action="store_true", help="few rounds, short rows, no growth")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--no-growth", action="store_true", help="leave out growth")
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.only or options.no_growth):
        parser.error("--write takes the whole run: leave out --quick, --only and --no-growth")

    if options.read:
        record = json.loads(options.read.read_text())
    else:
        rows = quick(ROWS) if options.quick else ROWS
        rows = tuple(row for row in rows if options.only in row.name)
        growing = not (options.quick or options.only or options.no_growth)
        record = measure(rows, growing)
    if options.json:
        options.json.write_text(json.dumps(record) + "\n")
    text = page(record)
    print(text, end="")
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    return 0


def quick(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The shorter rows, for few rounds."""
    return tuple(replace(row, rounds=QUICK_ROUNDS) for row in rows if row.rounds >= QUICK_MOST)


def measure(rows: Iterable[Row], growing: bool) -> dict[str, Any]:
    """All measurements, as plain JSON values."""
    warnings.simplefilter("ignore")  # the peers warn a lot, and ours of its own at each turn
    torch.set_num_threads(1)
    measured_with = machine()  # first, for the load is that of the others
    measured = {}
    for row in rows:
        begin = time.perf_counter()
        measured[row.name] = measured_row(row)
        print(f"{time.perf_counter() - begin:6.1f} s  {row.name}", file=sys.stderr, flush=True)
    return {
        "machine": measured_with,
        "rows": measured,
        "growth": list(growth()) if growing else [],
    }


def measured_row(row: Row) -> dict[str, Any]:
    """One row: seconds of each round and the figure, by way; why a way is absent.

    Raises: ValueError if our figure isn't the same each time.
    """
    found, absent = ways(row)
    seconds, figures = turns(found, row.rounds)
    if len(figures[COLD] | figures[WARM]) != 1:
        raise ValueError(f"{row.name}: cold {figures[COLD]}, warm {figures[WARM]} FLOPs")
    return {
        "kind": row.kind,
        "device": row.device,
        "seconds": seconds,
        "figures": {name: sorted(those) for name, those in figures.items() if those},
        "elsewhere": {name: way.device for name, way in found.items() if way.device},
        "absent": absent,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
