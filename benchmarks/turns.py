"""Turns: every way runs once in each round, so that what else the machine does falls on all.

The ways take turns in going first. What they find in memory is taken out of garbage
collection, since one full collection takes longer than a turn and falls on one of them by
chance, and each starts with the garbage of the one before collected.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping

from benchmarks.ways import Way

WARM_UP = 2  # rounds that aren't timed: lazy imports, caches, the first answers


def turns(
    ways: Mapping[str, Way], rounds: int
) -> tuple[dict[str, list[float]], dict[str, set[int]]]:
    """Seconds of each way in each round that it took part in, and the figures that it gave."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    figures: dict[str, set[int]] = {name: set() for name in ways}
    try:
        for number in range(-WARM_UP, rounds):
            if number == 0:
                gc.collect()
                gc.freeze()
            for name in rotated(list(ways), number):
                way = ways[name]
                if way.rounds is not None and not 0 <= number < way.rounds:
                    continue
                way.prepare()
                if number >= 0:
                    gc.collect()
                begin = time.perf_counter()
                figure = way.run()
                taken = time.perf_counter() - begin
                if number >= 0:
                    seconds[name].append(taken)
                if figure is not None:
                    figures[name].add(figure)
    finally:
        gc.unfreeze()
    return seconds, figures


def rotated(names: list[str], by: int) -> list[str]:
    """The names, beginning with another one each time."""
    by %= len(names)
    return names[by:] + names[:by]
