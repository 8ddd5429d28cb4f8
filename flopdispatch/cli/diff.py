"""Show what changed from A to B, by module and by operator.

A and B are targets, or profiles that were saved (`flopdispatch count ... --out profile.json`). The
options for targets hold for both; what differs in them, save first. Modules are matched by their
paths. Each stands with what it computes itself, one that is new or gone with all below it.

The exit code is 0; with --exit-code it is 1 if anything differs.

examples:
  flopdispatch diff torchvision:resnet18 torchvision:resnet34
  flopdispatch diff before.json net.py:Net --input 8x3x32x32 --top 5
  flopdispatch diff before.json after.json --exit-code --format markdown
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from flopdispatch.cli import terminal
from flopdispatch.cli.measuring import add_target, add_target_options, measure_or_read
from flopdispatch.difference import MAIN, Difference
from flopdispatch.errors import ArgumentError
from flopdispatch.report.difference import TOP, as_json, markdown, text
from flopdispatch.terminal import width

SUFFIXES = {"table": ".txt", "json": ".json", "markdown": ".md"}


def add_arguments(parser: ArgumentParser) -> None:
    add_target(parser, "a", more="; or a profile saved as .json")
    parser.add_argument("b", metavar="B", help="what to compare it with, in the same ways")
    add_target_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", choices=list(SUFFIXES), help="(default: what --out ends with, or table)"
    )
    group.add_argument("--out", metavar="FILE", help="where to write it (default: to the terminal)")
    group.add_argument(
        "--sort", choices=MAIN, default="flops", help="by which figure to order (default: flops)"
    )
    group.add_argument(
        "--top", type=int, default=TOP, metavar="ROWS", help=f"of each table (default: {TOP})"
    )
    group.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if anything differs, as git diff does"
    )


def run(arguments: Namespace) -> int:
    form = _format(arguments)
    names = arguments.a, arguments.b
    before, after = (measure_or_read(name, arguments) for name in names)
    found = Difference(before, after)
    terminal.write(_written(found, form, arguments), arguments.out)
    return 1 if arguments.exit_code and not found.same else 0


def _written(found: Difference, form: str, arguments: Namespace) -> str:
    names = arguments.a, arguments.b
    if form == "json":
        return as_json(found, names)
    if form == "markdown":
        return markdown(found, names, arguments.sort, arguments.top)
    room = width() if arguments.out in (None, "-") else None
    return text(found, names, arguments.sort, arguments.top, room)


def _format(arguments: Namespace) -> str:
    """The format asked for, else the one of the file's ending, else a table."""
    if arguments.format or arguments.out in (None, "-"):
        return arguments.format or "table"
    for name, suffix in SUFFIXES.items():
        if arguments.out.endswith(suffix):
            return name
    raise ArgumentError(f"the file {arguments.out} has no known ending: give its --format")
