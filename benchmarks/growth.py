"""Growth: what a longer program costs, in time a unit and in memory.

Each program runs in a process of its own, so that its peak is its own. Before it is measured
one unit of it runs, for the imports that come with a first call; then the peak is reset,
and what the process holds at most while the program runs, beyond what it held before, is
what was added. Ours begins with an empty cache. Programs of up to 1,000 units run three
times, the time is the median and the memory that of the first. The time is the processor's
own (`time.process_time`): times of different processes can't be paired, and what else the
machine does shall not count.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch

from benchmarks.memory import forget_peak, peak_rss
from benchmarks.programs import Program, encoder_forward, new_shapes, small_step
from benchmarks.ways import COLD, TORCH, UNCOUNTED, uncounted, under_ours, under_torch
from flopdispatch.capture.meta import clear_cache

GROWING: dict[str, Callable[[Program], Any]] = {
    UNCOUNTED: uncounted,
    TORCH: under_torch,
    COLD: under_ours,
}
OFTEN = 1_000  # programs of up to so many units run three times


def layers(units: int) -> Program:
    """The forward of an encoder of so many layers on meta."""
    return encoder_forward(units, "meta").program


def iterations(units: int) -> Program:
    """So many iterations of a small training step on the CPU."""
    step = small_step("cpu")

    def program() -> None:
        for _ in range(units):
            step()

    return program


def shapes(units: int) -> Program:
    """Three operators on meta for each of so many shapes."""
    return new_shapes(units, "meta")


@dataclass(frozen=True, slots=True)
class Series:
    """Programs of a kind, of growing length."""

    make: Callable[[int], Program]
    lengths: tuple[int, ...]


SERIES = {
    "encoder layers": Series(layers, (12, 24, 48, 96)),
    "iterations": Series(iterations, (1, 10, 100, 1_000, 10_000)),
    "distinct shapes": Series(shapes, (1, 10, 100, 1_000, 10_000)),
}


def growth() -> Iterator[dict[str, Any]]:
    """Measure each length of each series in each way."""
    for name, series in SERIES.items():
        for units in series.lengths:
            for way in GROWING:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    yield pool.submit(measure, name, units, way).result()


def measure(name: str, units: int, way: str) -> dict[str, Any]:
    """Seconds and bytes added of one program in one way."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    make, run = SERIES[name].make, GROWING[way]
    run(make(1))
    program = make(units)
    seconds = []
    for turn in range(3 if units <= OFTEN else 1):
        clear_cache()
        gc.collect()
        if turn == 0:
            forget_peak()
            before = peak_rss()
        begin = time.process_time()
        run(program)
        seconds.append(time.process_time() - begin)
        if turn == 0:
            nbytes = peak_rss() - before
    return {
        "series": name,
        "units": units,
        "way": way,
        "seconds": median(seconds),
        "nbytes": nbytes,
    }
