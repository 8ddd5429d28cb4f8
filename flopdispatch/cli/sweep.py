"""Count a model at several sizes of its inputs: a table of them.

Each of --batch, --seq and --size takes several values; all combinations are counted. The model is
built once. Where it fails at a size, the table says why, and the other sizes are still counted.

examples:
  flopdispatch sweep torchvision:resnet50 --batch 1,8,64
  flopdispatch sweep hf:path/to/config.json --batch 1,8 --seq 128,1024,8192
  flopdispatch sweep timm:convnext_tiny --size 224,288,384 --format csv --out sizes.csv
  flopdispatch sweep net.py:Net --input 1x3x32x32 --batch 1,16,256
  flopdispatch sweep torchvision:resnet50 --dtype float16 --batch 1,8,64 --hardware T4
"""

from __future__ import annotations

import csv
import io
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

from tabulate import tabulate

from flopdispatch.cli import terminal
from flopdispatch.cli.measuring import Ready, add_target, add_target_options, ready
from flopdispatch.cli.output import add_hardware, hardware_of
from flopdispatch.cli.targets.inputs import described
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import Hardware
from flopdispatch.profile import Profile
from flopdispatch.report.roofline import machine
from flopdispatch.roofline import Roofline
from flopdispatch.rules import name_of
from flopdispatch.units import duration, si, some

SIZES = ("batch", "seq", "size")
FIGURES = ("params", "macs", "flops", "bytes", "flops_per_byte")
BOUNDED = ("seconds", "bound")  # beside these, where a machine is named
TITLES = {
    "params": "Params", "macs": "MACs", "flops": "FLOPs", "bytes": "Bytes",
    "flops_per_byte": "FLOPs/byte", "seconds": "Time", "bound": "Bound by",
}  # fmt: skip
FORMAT = "flopdispatch-sweep/1"


class Row(NamedTuple):
    """One combination of sizes, and what was counted there or why nothing could be."""

    sizes: dict[str, Any]
    inputs: str
    found: Profile | Exception
    roofline: Roofline | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """The exact figures; none where the model failed."""
        if isinstance(self.found, Exception):
            return {}
        total = self.found.total
        ratio = total.flops / total.nbytes if total.nbytes else None
        values = (self.found.params, total.macs, total.flops, total.nbytes, ratio)
        figures = dict(zip(FIGURES, values))
        if self.roofline is None:
            return figures
        return figures | {name: getattr(self.roofline.total, name) for name in BOUNDED}

    @property
    def error(self) -> str:
        """Why nothing could be counted, in one line."""
        if not isinstance(self.found, Exception):
            return ""
        return " ".join(f"{type(self.found).__name__}: {self.found}".split())


def add_arguments(parser: ArgumentParser) -> None:
    add_target(parser)
    add_target_options(parser, several=True)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", choices=list(FORMATS), help="(default: what --out ends with, or table)"
    )
    group.add_argument("--out", metavar="FILE", help="where to write it (default: to the terminal)")
    add_hardware(group)


def run(arguments: Namespace) -> int:
    swept = _swept(arguments)
    write = FORMATS[_format(arguments)].write
    on = hardware_of(arguments)
    made = ready(arguments.target, arguments)
    rows = [_row(made, sizes, on) for sizes in _progress(swept)]
    terminal.write(write(rows, arguments.target), arguments.out)
    for row in rows:
        if isinstance(row.found, Exception):
            raise row.found  # the exit code is that of a single count
    return 0


def _swept(arguments: Namespace) -> list[dict[str, Any]]:
    """All combinations of the sizes that are asked for."""
    asked = {name: getattr(arguments, name) for name in SIZES}
    lists = {name: _values(name, text) for name, text in asked.items() if text is not None}
    if not lists:
        raise ArgumentError(
            "sweep takes the sizes to count at: --batch 1,8,64, --seq 128,1024 or --size 224,384"
        )
    return [dict(zip(lists, values)) for values in product(*lists.values())]


def _values(name: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if name == "size":
        return parts
    if not all(part.isdecimal() for part in parts):
        raise ArgumentError(f"--{name} takes whole numbers such as 1,8,64, got {text!r}")
    return [int(part) for part in parts]


def _row(made: Ready, sizes: dict[str, Any], on: Hardware | None) -> Row:
    call = made.call(*[sizes.get(name) for name in SIZES])
    try:
        found = made.count(call)
        asked = made.arguments
        roofline = None if on is None else found.roofline(on, asked.rate, asked.tf32)
        return Row(sizes, described(call), found, roofline)
    except ArgumentError:  # of the options, which are the same for all sizes
        raise
    except Exception as error:
        return Row(sizes, described(call), error)


def _progress(swept: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The combinations, with a bar on a terminal, where tqdm is installed."""
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        return swept
    bar: Iterable[dict[str, Any]] = import_module("tqdm").tqdm(swept, unit="size", leave=False)
    return bar


def _table(rows: list[Row], target: str) -> str:
    return _tabulated(rows, target, "simple")


def _markdown(rows: list[Row], target: str) -> str:
    return _tabulated(rows, target, "github")


def _tabulated(rows: list[Row], target: str, form: str) -> str:
    """The sizes and the figures in short, and what holds for all of them below."""
    names, columns = list(rows[0].sizes), _columns(rows)
    lines = []
    for row in rows:
        figures = [_short(name, row.figures.get(name)) for name in columns]
        told = figures if row.figures else ["failed", *[""] * (len(columns) - 1)]
        lines.append([*map(str, row.sizes.values()), *told])
    text = tabulate(
        lines,
        headers=[*map(str.capitalize, names), *(TITLES[name] for name in columns)],
        tablefmt=form,
        disable_numparse=True,
        colalign=["right"] * (len(names) + len(columns)),
    )
    return "\n".join([text, "", *_footer(rows, target)])


def _columns(rows: list[Row]) -> tuple[str, ...]:
    """The names of the figures that rows have."""
    return FIGURES if all(row.roofline is None for row in rows) else (*FIGURES, *BOUNDED)


def _short(name: str, value: Any) -> str:
    """A figure as the table has it."""
    if value is None or isinstance(value, str):
        return value or ""
    if name == "seconds":
        return duration(value)
    return si(value, "B" if name == "bytes" else "")


def _footer(rows: list[Row], target: str) -> list[str]:
    lines = [f"Model: {target}", f"Inputs of the first row: {rows[0].inputs}"]
    profiles = [row.found for row in rows if isinstance(row.found, Profile)]
    if profiles:
        one = profiles[0]
        described = f" ({one.description})" if one.description else ""
        lines.append(f"Convention: {one.convention}{described}")
        missing = {name_of(op): None for profile in profiles for op in profile.uncounted}
        lines.append(f"Uncounted: {some(list(missing)) or 'none'}")
    bounded = _bounded(rows)
    if bounded:
        lines.append(machine(bounded[0]))
    for row in rows:
        if row.error:
            at = ", ".join(f"{name} {value}" for name, value in row.sizes.items())
            lines.append(f"Failed at {at}: {row.error}")
    return lines


def _records(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows in plain values, with an error where there are no figures."""
    return [
        {**row.sizes, "inputs": row.inputs, **(row.figures or {"error": row.error})} for row in rows
    ]


def _json(rows: list[Row], target: str) -> str:
    profiles = [row.found for row in rows if isinstance(row.found, Profile)]
    convention = profiles[0].convention if profiles else None
    data: dict[str, Any] = {
        "format": FORMAT,
        "target": target,
        "convention": convention,
        "rows": _records(rows),
    }
    bounded = _bounded(rows)
    if bounded:
        rates = {name: rate for roofline in bounded for name, rate in roofline.rates.items()}
        data |= {"hardware": bounded[0].hardware.name, "rates": rates}
    return json.dumps(data, indent=2)


def _bounded(rows: list[Row]) -> list[Roofline]:
    """The times of the rows that have them."""
    return [row.roofline for row in rows if row.roofline is not None]


def _csv(rows: list[Row], target: str) -> str:
    text = io.StringIO()
    names = [*rows[0].sizes, "inputs", *_columns(rows), "error"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(rows))
    return text.getvalue().rstrip("\n")


class Format(NamedTuple):
    """How the rows are written, and how its files end."""

    write: Callable[[list[Row], str], str]
    suffix: str


FORMATS = {
    "table": Format(_table, ".txt"),
    "json": Format(_json, ".json"),
    "csv": Format(_csv, ".csv"),
    "markdown": Format(_markdown, ".md"),
}


def _format(arguments: Namespace) -> str:
    """The format asked for, else the one of the file's ending, else a table."""
    if arguments.format or arguments.out in (None, "-"):
        return arguments.format or "table"
    for name, known in FORMATS.items():
        if arguments.out.endswith(known.suffix):
            return name
    raise ArgumentError(f"the file {arguments.out} has no known ending: give its --format")
