"""PyTorch's own databases of operators, modules and optimizers under the counter.

    python -m benchmarks.opdb [--most N] [--step N] [--only NAME] [--jobs N]

Every sample of op_db, module_db and optim_db runs without the counter and with it: on the CPU
and on meta, under grad mode, no_grad and inference_mode, with its backward, in place and with
`out=` where it has these. Results must be identical (the CPU's bit for bit), all calls counted,
and costs equal in all grad modes. The exit code is 1 if anything isn't as it must be. A run of
everything is saved in docs/opdb.txt.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks import opdb_exemptions as exemptions
from benchmarks.equality import mapped
from benchmarks.opdb_runs import RESULT, Tally, run_entry
from benchmarks.opdb_samples import DTYPES, MODULE, OPERATOR, OPTIMIZER, entries
from flopdispatch.units import exact

SAVED = Path(__file__).parents[1] / "docs" / "opdb.txt"
PROGRESS = 50  # a line on stderr after so many entries
SHOWN = 3  # findings of one entry and kind that are printed
TABLES = (
    "UNDEFINED", "ROUNDED_BY_KERNEL", "OUT_IGNORED", "OPERATIONS_BY_MODE", "BYTES_BY_MODE",
    "VARIANTS", "OPERATIONS_ACROSS",
)  # fmt: skip
RULES = ("SAVED_COPIES", "BYTES_ACROSS")

INTRODUCTION = """\
entry      an operator of op_db, a module of module_db, an optimizer of optim_db
sample     one call of it that the database has, in each of the dtypes {dtypes}
run        a sample in one way on one device, without the counter and with it. Ways: forward in
           grad mode, no_grad and inference_mode; forward and backward; in place; with out=
raised     runs in which torch raises, alike with the counter and without
equal      runs in which nothing that can be observed differs: values (the CPU's bit for bit),
           shapes, strides, aliases, autograd graphs, gradients, errors, warnings, random state
exempted   runs that differ for one of the reasons below and in nothing else
"""


def main(arguments: list[str]) -> int:
    """Print what was run and what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="benchmarks.opdb")
    parser.add_argument("--most", type=int, help="samples of an entry in each dtype (all)")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="each N-th entry")
    parser.add_argument("--only", metavar="NAME", help="entries with NAME in their names")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    options = parser.parse_args(arguments)

    names = [name for name in entries() if options.only is None or options.only in name]
    names = names[:: options.step]
    tallies = list(progressing(names, options.most, options.jobs))
    lines = list(report(tallies))
    print("\n".join(lines))
    if options.most is None and options.step == 1 and options.only is None:
        SAVED.write_text("\n".join(lines) + "\n")
    return 1 if failed(tallies) else 0


def progressing(names: list[str], most: int | None, jobs: int) -> Iterator[Tally]:
    """Run the entries, and say on stderr how far it is."""
    begun = time.monotonic()
    for number, tally in enumerate(mapped(partial(quietly, most), names, jobs), 1):
        if number % PROGRESS == 0 or number == len(names):
            minutes = (time.monotonic() - begun) / 60
            text = f"{number} of {len(names)} entries, {minutes:.1f} minutes"
            print(text, file=sys.stderr, flush=True)
        yield tally


def quietly(most: int | None, entry: str) -> Tally:
    """An entry; the warnings of making its samples are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_entry(entry, most)


def report(tallies: list[Tally]) -> Iterator[str]:
    """All that there is to say of a run."""
    dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
    yield from INTRODUCTION.format(dtypes=dtypes).splitlines()
    yield f"versions   torch {version('torch')}"
    yield ""
    yield from totals(tallies)
    yield ""
    yield from runs_by_way(tallies)
    yield ""
    yield from reasons(tallies)
    yield ""
    yield from uncounted(tallies)
    yield ""
    yield from findings(tallies)


def totals(tallies: list[Tally]) -> Iterator[str]:
    """A line of counts for each database and one for all."""
    line = "{:12}" + "{:>12}" * 7
    yield line.format(
        "database", "entries", "samples", "runs", "raised", "equal", "exempted", "wrong"
    )
    for name in (OPERATOR, MODULE, OPTIMIZER, ""):
        those = [t for t in tallies if t.entry.startswith(name)]
        runs = summed(t.runs for t in those).total()
        equal = sum(t.equal for t in those)
        wrong = sum(len(t.wrong.get(RESULT, ())) for t in those)
        values = (
            len(those), sum(t.cases for t in those), runs, summed(t.raised for t in those).total(),
            equal, runs - equal - wrong, wrong,
        )  # fmt: skip
        yield line.format(name or "all", *map(exact, values))
    yield (
        f"{exact(sum(t.calls for t in tallies))} calls counted; "
        f"{exact(sum(t.forwards for t in tallies))} forwards compared between grad modes, "
        f"{exact(sum(t.across for t in tallies))} between devices"
    )


def runs_by_way(tallies: list[Tally]) -> Iterator[str]:
    """How many runs each device and way had."""
    runs, raised = summed(t.runs for t in tallies), summed(t.raised for t in tallies)
    line = "{:20}{:>12}{:>12}"
    yield line.format("device and way", "runs", "raised")
    for kind, number in sorted(runs.items()):
        yield line.format(kind, exact(number), exact(raised[kind]))


def reasons(tallies: list[Tally]) -> Iterator[str]:
    """Each exemption with its reason and how often it was used."""
    used = summed(t.exempted for t in tallies)
    holders = Counter(name for t in tallies for name in t.exempted)
    line = "{:20}{:>10}{:>10}  {}"
    yield line.format("exemption", "runs", "entries", "reason")
    for kind, reason in exemptions.IN_ANY_MODE.items():
        yield line.format(f"any mode: {kind}", exact(used[kind]), holders[kind], reason)
    for name in RULES:
        yield line.format(name, exact(used[name]), holders[name], getattr(exemptions, name))
    for name in TABLES:
        yield line.format(name, exact(used[name]), holders[name], "by entry:")
        for entry, reason in getattr(exemptions, name).items():
            yield f"{'':42}  {entry}: {reason}"


def uncounted(tallies: list[Tally]) -> Iterator[str]:
    """Operators without a formula, with their calls and an entry that runs them."""
    calls = summed(t.uncounted for t in tallies)
    if not calls:
        yield "uncounted: none"
        return
    yield f"{'uncounted':64}{'calls':>8}  by"
    for name, times in calls.most_common():
        entry = next(t.entry for t in tallies if name in t.uncounted)
        yield f"{name:64}{times:>8,}  {entry}"


def findings(tallies: list[Tally]) -> Iterator[str]:
    """What is wrong, by kind."""
    for kind in sorted({kind for tally in tallies for kind in tally.wrong}):
        those = [(t, t.wrong[kind]) for t in tallies if kind in t.wrong]
        yield f"{kind}: {exact(sum(len(texts) for _, texts in those))} in {len(those)} entries"
        for tally, texts in those:
            yield from (f"    {text}" for text in texts[:SHOWN])
            if len(texts) > SHOWN:
                yield f"    {tally.entry}: {len(texts) - SHOWN} more"
    if not failed(tallies):
        yield "nothing is wrong"


def failed(tallies: list[Tally]) -> bool:
    """Whether anything isn't as it must be."""
    return any(tally.wrong or tally.uncounted for tally in tallies)


def summed(counters: Iterable[Counter[str]]) -> Counter[str]:
    """One counter of many."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
