"""Our figures beside FlopCounterMode's and the published ones, model by model.

    python -m benchmarks.agreement [--quick] [--only LIBRARY] [--backward] [--jobs N]

A line for each model and run (eval, train, with --backward also forward and backward), a
line of counts, a table of the reasons why torch's totals differ, and exit code 1 on any
disagreement. docs/agreement.txt has what a whole run with --backward prints; one of
transformers' models alone writes its part of it anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import agreement_transformers, agreement_vision
from benchmarks.agreement_rows import Row, counts, reasons
from benchmarks.zoo import ENTRIES

SAVED = Path(__file__).parents[1] / "docs" / "agreement.txt"
QUICK_STEP = 12  # --quick takes each twelfth model

VISION, LANGUAGE = PARTS = "vision", "transformers"
BETWEEN = "\n" + "=" * 100 + "\n\n"  # the parts of the saved page


def main(arguments: list[str]) -> int:
    """Print the tables; 1 if anything disagrees."""
    parser = argparse.ArgumentParser(prog="benchmarks.agreement")
    parser.add_argument("--quick", action="store_true", help=f"one model in {QUICK_STEP}")
    parser.add_argument("--only", choices=[*sorted(ENTRIES), LANGUAGE], help="one library")
    parser.add_argument("--backward", action="store_true", help="forward and backward too")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    options = parser.parse_args(arguments)

    step = QUICK_STEP if options.quick else 1
    parts: dict[str, list[str]] = {}
    done: list[Row] = []
    if options.only != LANGUAGE:
        libraries = [options.only] if options.only else list(ENTRIES)
        found, parts[VISION] = part(
            heading(agreement_vision, libraries),
            agreement_vision.row,
            agreement_vision.jobs(libraries, step, options.backward),
            options.jobs,
        )
        done += found
    if options.only in (None, LANGUAGE):
        found, parts[LANGUAGE] = part(
            heading(agreement_transformers, [LANGUAGE]),
            agreement_transformers.row,
            agreement_transformers.jobs(step, options.backward),
            options.jobs,
        )
        more = [*agreement_transformers.ending(), *reasons(found)]
        print("\n".join(more))
        parts[LANGUAGE] += more
        done += found
    if options.backward and not options.quick and options.only in (None, LANGUAGE):
        save({name: "\n".join(lines) + "\n" for name, lines in parts.items()})
    return 1 if any(row.wrong for row in done) else 0


def heading(table: Any, libraries: list[str]) -> list[str]:
    """What is compared, with which versions, and the names of the columns."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *libraries))
    columns = table.LINE.format(*table.HEADINGS)
    return [*table.INTRODUCTION.splitlines(), f"versions   {versions}", "", columns]


def part(
    lines: list[str], row: Callable[[Any], Row], jobs: Iterable[Any], processes: int
) -> tuple[list[Row], list[str]]:
    """One table's rows, and its lines, which are printed as they are done."""
    jobs = list(jobs)
    print("\n".join(lines), flush=True)
    found: list[Row] = []
    for one in rows(row, jobs, processes):
        print(one.line, flush=True)
        found.append(one)
    models = {name for name, _ in jobs}
    last = counts(len(models), found)
    print(last)
    return found, [*lines, *(one.line for one in found), last]


def rows(row: Callable[[Any], Row], jobs: Iterable[Any], processes: int) -> Iterator[Row]:
    """Each job's row, in order, as they are done."""
    with ProcessPoolExecutor(processes, get_context("spawn"), one_thread) as pool:
        yield from pool.map(row, jobs)


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    torch.set_num_threads(1)


def save(texts: dict[str, str]) -> None:
    """Write the parts that were run; the others stay as they are on the page."""
    page = SAVED.read_text() if SAVED.exists() else ""
    SAVED.parent.mkdir(exist_ok=True)
    SAVED.write_text(BETWEEN.join({**dict(zip(PARTS, page.split(BETWEEN))), **texts}.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
