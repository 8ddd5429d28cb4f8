"""timm's published GMACs beside ours under fvcore's convention, row by row.

    python -m benchmarks.published [--jobs N] [--step N] [NAME ...]

timm counted with fvcore and rounded to 0.01 G; ours must lie within half of that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import torch

from benchmarks.zoo import Entry, build, inputs, rows, timm_entries
from flopdispatch import FlopCounter

STEP = 0.005  # GMACs: half of the last digit published
LINE = "{:44} {:>5} {:24} {:>9} {:>11} {:>9}  {}"
HEADINGS = ("model", "size", "module", "published", "ours", "off by", "verdict")


@dataclass(frozen=True, slots=True)
class Row:
    """A model at one size of image, with the GMACs that timm publishes."""

    entry: Entry
    module: str
    gmacs: float


def published() -> Iterator[Row]:
    """All rows of the reference table."""
    for entry, row in zip(timm_entries(), rows("timm"), strict=True):
        yield Row(entry, row["module"], float(row["published_gmacs"]))


def one_a_module() -> Iterator[Row]:
    """The smallest model of each of timm's modules, which are files of it."""
    found: dict[str, Row] = {}
    for row in sorted(published(), key=lambda row: row.gmacs):
        found.setdefault(row.module.partition(".")[0], row)
    yield from found.values()


def macs(entry: Entry) -> int:
    """A model's MACs under fvcore's convention."""
    model = build(entry)
    with torch.no_grad(), FlopCounter(display=False, convention="fvcore") as counter:
        model(*inputs(entry))
    return counter.macs


def agrees(row: Row, found: int) -> bool:
    """Whether ours would be published as the same number."""
    return abs(found / 1e9 - row.gmacs) <= STEP + 1e-9  # a half is rounded either way


def line(row: Row) -> tuple[str, bool]:
    """A row of the comparison, and whether it agrees. A model that fails is a row too."""
    about = row.entry.name, row.entry.shapes[0][-1], row.module, f"{row.gmacs:.2f}"
    try:
        found = macs(row.entry)
    except Exception as error:
        fault = f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
        return LINE.format(*about, "", "", fault), False
    agree = agrees(row, found)
    verdict = "agrees" if agree else "DIFFERS"
    gmacs = found / 1e9
    return LINE.format(*about, f"{gmacs:.5f}", f"{gmacs - row.gmacs:+.5f}", verdict), agree


def lines(chosen: list[Row], jobs: int) -> Iterator[tuple[str, bool]]:
    """The lines of all rows, in order, by so many processes."""
    if jobs == 1:
        yield from map(line, chosen)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(line, chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all rows and how many agree; 1 if any doesn't."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="models; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--step", type=int, default=1, help="every so many rows")
    given = parser.parse_args(arguments)
    chosen = [row for row in published() if not given.names or row.entry.name in given.names]
    print(LINE.format(*HEADINGS))
    agreed = number = 0
    for text, agree in lines(list(islice(chosen, 0, None, given.step)), given.jobs):
        print(text, flush=True)
        agreed, number = agreed + agree, number + 1
    print(f"{number} rows: {agreed} agree to {STEP} GMACs, {number - agreed} don't")
    return int(agreed != number or number == 0)


if __name__ == "__main__":
    sys.exit(main())
