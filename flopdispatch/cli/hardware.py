"""List the devices whose peak rates are known, or show one with the sources of its figures.

NAME is one of the list, or what `torch.cuda.get_device_name()` gives. Rates are dense, in FLOP/s
(int8: OP/s), bandwidths in bytes/s. --measure tells what this machine achieves instead, and --file
lists devices of your own. What --format csv writes is such a file: `--hardware mine.csv` of other
commands takes its device, `--hardware mine.csv:NAME` one of several.

examples:
  flopdispatch hardware
  flopdispatch hardware H100-SXM
  flopdispatch hardware 'NVIDIA GeForce RTX 4090'
  flopdispatch hardware --measure cpu --dtype bfloat16
  flopdispatch hardware --measure cuda --format csv --out here.csv
  flopdispatch hardware --file mine.csv
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from flopdispatch.cli import terminal
from flopdispatch.cli.targets.inputs import dtype_named
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import BANDWIDTH, DTYPES, Hardware, measure_peak
from flopdispatch.hardware.lookup import Table, also, as_csv, known, read
from flopdispatch.terminal import width
from flopdispatch.units import si

# The columns of a list, as many as fit the terminal.
COLUMNS = DTYPES, ("float32", "bfloat16", "float8"), ("bfloat16",), ()


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="which device to show")
    parser.add_argument("--file", metavar="FILE", help="devices of your own, instead of the known")
    parser.add_argument(
        "--measure", metavar="DEVICE", help="measure this machine: cpu, cuda, cuda:1, ..."
    )
    parser.add_argument("--dtype", default="float32", help="what --measure multiplies (float32)")
    parser.add_argument(
        "--format",
        choices=["table", "json", "csv"],
        default="table",
        help="how to write it (table)",
    )
    parser.add_argument("--out", metavar="FILE", help="where to write it")


def run(arguments: Namespace) -> int:
    wide = width() if arguments.out is None else None
    terminal.write(written(arguments, wide), arguments.out)
    return 0


def written(arguments: Namespace, wide: int | None) -> str:
    """What the command line asks for, as text."""
    if arguments.measure is not None:
        if arguments.name is not None or arguments.file is not None:
            raise ArgumentError("--measure takes neither NAME nor --file")
        measured = measure_peak(arguments.measure, dtype_named(arguments.dtype))
        shown, table = [measured], Table({measured.name: measured}, {})
    else:
        table = known() if arguments.file is None else read(Path(arguments.file))
        every = list(table.devices.values())
        shown = every if arguments.name is None else [table.find(arguments.name)]
    if arguments.format == "json":
        named = [{**asdict(one), "names": also(one, table.names)} for one in shown]
        return json.dumps(named, indent=1)
    if arguments.format == "csv":
        return as_csv(shown, table.names)
    if arguments.name is not None or arguments.measure is not None:
        return "\n".join(lines(shown[0], table.names))
    texts = (listed(shown, dtypes) for dtypes in COLUMNS)
    fitting = (text for text in texts if wide is None or text.find("\n") <= wide)
    return next(fitting, listed(shown, COLUMNS[-1]))


def listed(shown: Iterable[Hardware], dtypes: Iterable[str]) -> str:
    """A table of devices, an empty cell where no source confirms a rate."""
    heads = ["Device", *dtypes, "Bandwidth"]
    rows = [
        [
            one.name,
            *[si(one.peaks[dtype]) if dtype in one.peaks else "" for dtype in dtypes],
            si(one.bandwidth, "B/s"),
        ]
        for one in shown
    ]
    align = ["left", *["right"] * (len(heads) - 1)]
    return tabulate(rows, heads, "simple", colalign=align, disable_numparse=True)


def lines(one: Hardware, names: Mapping[str, str]) -> Iterator[str]:
    """A device's names, its figures, and below each the sources that it is from."""
    others = also(one, names)
    yield f"{one.name} (also {', '.join(others)})" if others else one.name
    for dtype, rate in one.peaks.items():
        yield f"{dtype:<10} {si(rate, 'OP/s' if dtype == 'int8' else 'FLOP/s')}"
        yield from (f"           {source}" for source in one.sources.get(dtype, ()))
    yield f"{BANDWIDTH:<10} {si(one.bandwidth, 'B/s')}"
    yield from (f"           {source}" for source in one.sources.get(BANDWIDTH, ()))
