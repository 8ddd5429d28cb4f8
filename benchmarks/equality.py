"""Counting on meta with the fast path and without it: is everything observable the same?

    python -m benchmarks.equality operators [--quick] [--only NAME] [--jobs N] [--shard I/N]
    python -m benchmarks.equality models    [--quick] [--only NAME] [--jobs N] [--shard I/N]

`operators` runs each sample of PyTorch's operator database on meta in many ways, `models`
runs real models forward, backward and in training steps: with `meta_cache=False`, then with
the fast path, its cache empty at first, and again with the cache warm, each call several
times in a counter. Compared are outputs, inputs and gradients by all their metadata and by
what they share, errors, warnings, the random state, and the profile. Each difference is a
line; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks import equality_models
from benchmarks.agreement import one_thread

QUICK_OPERATORS, QUICK_MODELS = 8, 10  # --quick takes each eighth operator, each tenth model
PROGRESS = 20  # a line on stderr after so many
SHOWN = 5  # differences of one operator or model that are printed


def main(arguments: list[str]) -> int:
    """Print what is different; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="benchmarks.equality")
    parser.add_argument("what", choices=sorted(SWEEPS))
    parser.add_argument("--quick", action="store_true", help="an evenly spaced part")
    parser.add_argument("--only", metavar="NAME", help="those with NAME in their names")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="the I-th of N parts")
    options = parser.parse_args(arguments)
    part, parts = map(int, options.shard.split("/"))

    names, run, summary, quick = SWEEPS[options.what]
    chosen = [name for name in names() if options.only is None or options.only in name]
    chosen = chosen[:: quick if options.quick else 1][part - 1 :: parts]
    totals: list[Any] = []
    for name, found in zip(chosen, mapped(run, chosen, options.jobs)):
        totals.append(found)
        if len(totals) % PROGRESS == 0:
            print(f"{len(totals)} of {len(chosen)}", file=sys.stderr, flush=True)
        for text in found.different[:SHOWN]:
            print(f"DIFFERENT {text}", flush=True)
        if len(found.different) > SHOWN:
            print(f"DIFFERENT {name}: {len(found.different) - SHOWN} more", flush=True)
    print(f"torch {torch.__version__}")
    print(summary(totals))
    different = sum(len(found.different) for found in totals)
    print(f"{different:,} differences" if different else "no difference")
    return 1 if different else 0


def mapped(run: Callable[[str], Any], names: list[str], jobs: int) -> Iterator[Any]:
    """Run by name in several processes; results in order."""
    if jobs == 1:
        yield from map(run, names)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), one_thread) as pool:
        yield from pool.map(run, names)


def operator_names() -> list[str]:
    """The database's operators, variants included."""
    return list(operators())


def operators() -> dict[str, Any]:
    """The database by name."""
    # Seconds to import, and of no use to the models.
    from torch.testing._internal.common_methods_invocations import op_db  # noqa: PLC0415

    return {op.full_name: op for op in op_db}


def run_operator(name: str, most: int | None = None) -> Any:
    """All samples of an operator, or `most` of them, in each of its dtypes."""
    from benchmarks import equality_operators as sweep  # noqa: PLC0415 (as above)

    tally = sweep.Tally()
    op = operators()[name]
    for dtype in sweep.DTYPES:
        if op.supports_dtype(dtype, "cpu"):
            sweep.compare(op, dtype, tally, most)
    return tally


def operators_in_words(tallies: list[Any]) -> str:
    """How much of the database was run."""
    return (
        f"{len(tallies):,} operators, {sum(t.samples for t in tallies):,} samples, "
        f"{sum(t.runs for t in tallies):,} runs ({sum(t.raised for t in tallies):,} of them "
        f"raised), {sum(t.calls for t in tallies):,} calls counted"
    )


def model_names() -> list[str]:
    """All models."""
    return [model.name for model in equality_models.models()]


def run_model(name: str) -> equality_models.Comparison:
    """One model by name."""
    chosen = next(model for model in equality_models.models() if model.name == name)
    return equality_models.compare(chosen)


def models_in_words(found: list[equality_models.Comparison]) -> str:
    """How many models were run, and which can't be, with the fast path or without."""
    lines = [
        f"{one.name}: {one.raised} of {one.runs} runs raised: {'; '.join(one.errors)}"
        for one in found
        if one.raised
    ]
    whole = len(found) - len(lines)
    lines.append(
        f"{len(found):,} models, {whole:,} of them run in all ways, {sum(m.runs for m in found):,} "
        f"runs, {sum(m.calls for m in found):,} calls counted"
    )
    return "\n".join(lines)


SWEEPS: dict[str, tuple[Callable[[], list[str]], Callable[[str], Any], Any, int]] = {
    "operators": (operator_names, run_operator, operators_in_words, QUICK_OPERATORS),
    "models": (model_names, run_model, models_in_words, QUICK_MODELS),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
