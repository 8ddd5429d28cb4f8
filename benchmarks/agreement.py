"""Our figures beside FlopCounterMode's and the published ones, model by model.

    python -m benchmarks.agreement [--quick] [--only torchvision|timm] [--backward] [--jobs N]

A line for each model and run (eval, train, with --backward also forward and backward), a
line of counts, and exit code 1 on any disagreement. A run of everything is saved in
docs/agreement.txt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.comparison import BACKWARD, EVAL, TRAIN, TRAIN_BATCH, Comparison, compare
from benchmarks.zoo import ENTRIES, Entry
from flopdispatch.units import exact

SAVED = Path(__file__).parents[1] / "docs" / "agreement.txt"
QUICK_STEP = 12  # --quick takes each twelfth model

INTRODUCTION = f"""\
ours       2 x MACs of matmul, convolution and attention, in FLOPs, on meta tensors
torch      FlopCounterMode's total for the same run, with grad enabled
surplus    the part of torch's total that is wrong: it multiplies weight gradients of grouped
           convolutions by the number of groups; ours must be torch less surplus, exactly
params     must be the sum over the model's parameters, and the table's figure
published  GMACs of the reference table, met to its last decimal (eval): as torchvision
           publishes them, and of timm's models as measured with FlopCounterMode before
run        eval: forward, batch 1; train: forward, batch {TRAIN_BATCH}; train+backward: both
"""
HEADINGS = ("model", "run", "ours", "torch", "surplus", "params", "published", "verdict")
LINE = "{:52} {:14} {:>21} {:>21} {:>21} {:>13} {:>10}  {}"
Job = tuple[Entry, str]


def main(arguments: list[str]) -> int:
    """Print the table; 1 if anything disagrees."""
    parser = argparse.ArgumentParser(prog="benchmarks.agreement")
    parser.add_argument("--quick", action="store_true", help=f"one model in {QUICK_STEP}")
    parser.add_argument("--only", choices=sorted(ENTRIES), help="one library")
    parser.add_argument("--backward", action="store_true", help="forward and backward too")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    options = parser.parse_args(arguments)

    libraries = [options.only] if options.only else list(ENTRIES)
    step = QUICK_STEP if options.quick else 1
    runs = (EVAL, TRAIN, BACKWARD) if options.backward else (EVAL, TRAIN)
    entries = [e for library in libraries for e in islice(ENTRIES[library](), 0, None, step)]
    lines = heading(libraries)
    print("\n".join(lines), flush=True)
    faults: list[list[str]] = []
    for line, fault in rows([(entry, run) for entry in entries for run in runs], options.jobs):
        print(line, flush=True)
        lines.append(line)
        faults.append(fault)
    disagree = sum(bool(fault) for fault in faults)
    lines.append(
        f"{len(entries)} models, {len(faults)} runs: {len(faults) - disagree} agree, "
        f"{disagree} disagree"
    )
    print(lines[-1])
    if not options.quick and not options.only:
        SAVED.parent.mkdir(exist_ok=True)
        SAVED.write_text("\n".join(lines) + "\n")
    return 1 if disagree else 0


def heading(libraries: list[str]) -> list[str]:
    """What is compared, with which versions, and the names of the columns."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *libraries))
    return [*INTRODUCTION.splitlines(), f"versions   {versions}", "", LINE.format(*HEADINGS)]


def rows(jobs: list[Job], processes: int) -> Iterator[tuple[str, list[str]]]:
    """Each run's line and what is wrong in it, in order, as they are done."""
    with ProcessPoolExecutor(processes, get_context("spawn"), one_thread) as pool:
        yield from pool.map(row, jobs)


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    torch.set_num_threads(1)


def row(job: Job) -> tuple[str, list[str]]:
    """Compare, and write the line. A model that fails is a line too."""
    entry, run = job
    try:
        found = compare(entry, run)
    except Exception as error:
        fault = f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
        return LINE.format(entry.label, run, *[""] * 5, fault), [fault]
    return write(entry, run, found), found.disagreements


def write(entry: Entry, run: str, found: Comparison) -> str:
    """One comparison as a line."""
    return LINE.format(
        entry.label,
        run,
        exact(found.ours),
        exact(found.torch),
        exact(found.surplus) if found.surplus else "",
        exact(found.params),
        entry.gmacs if run == EVAL else "",
        "; ".join(found.disagreements) or "equal",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
