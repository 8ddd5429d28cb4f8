"""Check a model against a budget: limits, or figures that were recorded before.

A limit is the most that a figure may be: 5G, 4.1 GMACs, 30M, 1e9. Bytes are those that are read and
written. A baseline is a small file of figures, made to be kept with the code; by it each total must
be what was recorded, neither more nor less, but for --tolerance. --update records the present ones.
A profile that was saved (`flopdispatch count ... --out profile.json`) serves as a baseline too, and
as what is checked.

The exit code is 0 if all holds and 1 if anything doesn't, with the reasons, and the modules that
changed most since the baseline. It is 1 too if operators have no formula, since the figures lack
their cost, unless --allow-uncounted.

examples:
  flopdispatch check torchvision:resnet50 --max-macs 5G --max-params 30M
  flopdispatch check net.py:Net --input 1x3x32x32 --baseline net-flops.json --update
  flopdispatch check net.py:Net --input 1x3x32x32 --baseline net-flops.json --tolerance 0.5%
  flopdispatch check profile.json --max-bytes 2GB
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from flopdispatch.amounts import parse_count, parse_share
from flopdispatch.budget import FIGURES, UNITS, Baseline, Budget, Verdict
from flopdispatch.cli import terminal
from flopdispatch.cli.measuring import add_target, add_target_options, measure_or_read
from flopdispatch.errors import ArgumentError
from flopdispatch.terminal import width


def add_arguments(parser: ArgumentParser) -> None:
    add_target(parser, more="; or a profile saved as .json")
    group = parser.add_argument_group("budget")
    for name, words in FIGURES.items():
        group.add_argument(f"--max-{name}", metavar="COUNT", help=f"the most {words} it may have")
    group.add_argument("--baseline", metavar="FILE", type=Path, help="figures recorded before")
    group.add_argument(
        "--tolerance",
        metavar="SHARE",
        default="0",
        help="how far a figure may be from the recorded one: 0.5%%, 0.005 (default: not at all)",
    )
    group.add_argument("--update", action="store_true", help="write the baseline anew")
    group.add_argument(
        "--allow-uncounted", action="store_true", help="pass with operators without a formula"
    )
    add_target_options(parser)


def run(arguments: Namespace) -> int:
    given = {name: getattr(arguments, f"max_{name}") for name in FIGURES}
    limits = {
        name: parse_count(text, UNITS[name], f"--max-{name}")
        for name, text in given.items()
        if text is not None
    }
    tolerance = parse_share(arguments.tolerance, "--tolerance")
    path = arguments.baseline
    if not limits and path is None:
        raise ArgumentError(
            "nothing to check: give a limit, such as --max-macs 5G, or --baseline FILE"
        )
    if path is None and arguments.update:
        raise ArgumentError("--update writes a baseline: say where by --baseline FILE")
    if path is not None and not path.exists() and not arguments.update:
        raise ArgumentError(f"there is no baseline {path} yet: --update writes it")
    before = None if path is None or arguments.update else Baseline.read(path)
    budget = Budget(limits, {}, before, tolerance, arguments.allow_uncounted)

    profile = measure_or_read(arguments.target, arguments)
    verdicts = budget.check(profile)
    for verdict in verdicts:
        print(line(verdict))
    failed = not all(verdict.holds for verdict in verdicts)
    if failed:
        print(f"\n{budget.details(profile, width())}")
    if failed and before is not None:
        print(f"\nIf that is meant, --update writes {path} anew.")
    if arguments.update:
        changed = Baseline.of(profile).write(path)
        print(f"{path} is {'written' if changed else 'as it was'}")
    return 1 if failed else 0


def line(verdict: Verdict) -> str:
    """A verdict as it is printed."""
    mark = terminal.painted("ok", "green") if verdict.holds else terminal.painted("FAILED", "red")
    return f"{mark}: {verdict.text}"
