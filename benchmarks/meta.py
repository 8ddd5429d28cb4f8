"""Which published models are counted on meta, and with what assumed about data.

    python -m benchmarks.meta [--quick] [--group TEXT] [--only TEXT] [--jobs N] [--write]

Each model is built and counted on meta, forward and, where it trains, with backward; a
line is printed as each is done, and at the end how many run. Each process has few models and
each model a limited time, so that none ends the run of the others. `--write` saves the tables
as docs/meta.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from operator import itemgetter

import torch

from benchmarks.meta_entry import Entry
from benchmarks.meta_page import HEADINGS, LINE, PAGE, line, page, summary
from benchmarks.meta_run import Outcome, Run, outcome

LISTS = (
    "benchmarks.meta_text",
    "benchmarks.meta_multimodal",
    "benchmarks.meta_vision",
    "benchmarks.meta_others",
)

CHUNK = 12  # entries a process
LIMIT_SECONDS = 600  # for one entry, and for a process to begin
QUICK_STEP = 12  # --quick takes each twelfth model

# A list and a place in it: processes look their entries up, for they can't be sent to them.
Place = tuple[str, int]


def main(arguments: list[str]) -> int:
    """Run the entries, print their lines and the summary, and write the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.meta")
    parser.add_argument("--quick", action="store_true", help=f"one model in {QUICK_STEP}")
    parser.add_argument("--group", default="", metavar="TEXT", help="groups with this in the name")
    parser.add_argument("--only", default="", metavar="TEXT", help="models with this in the name")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--write", action="store_true", help="save the tables in docs/")
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.group or options.only):
        parser.error("--write takes the whole run: leave out --quick, --group and --only")

    places = [
        (place, entry)
        for place, entry in all_entries()
        if options.group in entry.group and options.only in entry.name
    ][:: QUICK_STEP if options.quick else 1]
    print(LINE.format(*HEADINGS), flush=True)
    found = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcomes in pool.map(run, chunks(places)):
            found += outcomes
    print("\n".join(["", *summary(found)]))
    if options.write:
        PAGE.write_text(page(found), encoding="utf-8")
    return 0


def all_entries() -> Iterator[tuple[Place, Entry]]:
    """The entries of the lists that are there, with their places."""
    for name in LISTS:
        if find_spec(name):
            for i, entry in enumerate(entries(name)):
                yield (name, i), entry


def entries(name: str) -> tuple[Entry, ...]:
    """The entries of one list."""
    found: tuple[Entry, ...] = import_module(name).ENTRIES
    return found


def chunks(places: list[tuple[Place, Entry]]) -> Iterator[list[tuple[Place, Entry]]]:
    """The entries that one process runs: neighbours, which need the same libraries."""
    for begin in range(0, len(places), CHUNK):
        yield places[begin : begin + CHUNK]


def run(chunk: list[tuple[Place, Entry]], limit: float = LIMIT_SECONDS) -> list[Outcome]:
    """Run entries in a process; where it hangs or dies, another one goes on after that entry."""
    done: list[Outcome] = []
    while len(done) < len(chunk):
        left = chunk[len(done) :]
        receive, send = get_context("spawn").Pipe(duplex=False)
        process = get_context("spawn").Process(
            target=work, args=(send, list(map(itemgetter(0), left))), daemon=True
        )
        process.start()
        send.close()
        for (_, entry), found in zip(left, received(process, receive, limit)):
            one = found if isinstance(found, Outcome) else lost(entry, found)
            print(line(one), flush=True)
            done.append(one)
        process.kill()
        process.join()
    return done


def received(process: BaseProcess, receive: Connection, limit: float) -> Iterator[Outcome | str]:
    """What a process sends; last, if it hangs or dies, the reason why there is no more."""
    try:
        while receive.poll(limit):
            yield receive.recv()
    except EOFError:
        process.join()
        yield f"the process ended with code {process.exitcode}"
        return
    yield f"not done after {limit:.0f} s"


def lost(entry: Entry, reason: str) -> Outcome:
    """What is known of an entry whose process is gone."""
    gone = Run(refused=reason)
    return Outcome(entry.name, entry.group, 0, gone, gone if entry.trains else None, 0)


def work(send: Connection, places: Iterable[Place]) -> None:
    """A process: send what comes of each entry."""
    torch.set_num_threads(1)
    for name, place in places:
        send.send(outcome(entries(name)[place]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
