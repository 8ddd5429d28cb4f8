"""The options that say how a profile is written, the same for every command that writes one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flopdispatch.cli import terminal
from flopdispatch.conventions import CONVENTIONS
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report import REPORTERS, by_suffix, check_options, render
from flopdispatch.report.records import RECORDS
from flopdispatch.report.rows import SORTS
from flopdispatch.report.stacks import METRICS
from flopdispatch.terminal import width

OPTIONS = ("depth", "sort", "by", "metric")


def add_output(parser: ArgumentParser) -> None:
    """`--format`, `--out`, and what some formats take beside."""
    group = parser.add_argument_group("output")
    formats = "; ".join(f"{name}: {known.about}" for name, known in REPORTERS.items())
    group.add_argument(
        "--format",
        choices=list(REPORTERS),
        help=f"how to write it ({formats}); without it, what --out ends with, or table",
    )
    group.add_argument("--out", metavar="FILE", help="where to write it (default: to the terminal)")
    group.add_argument(
        "--depth", type=int, metavar="LEVELS", help="how many levels below the model to show"
    )
    group.add_argument("--sort", choices=list(SORTS), help="the order of a module's children")
    group.add_argument(
        "--by", choices=list(RECORDS), help="what a line of CSV stands for (modules)"
    )
    group.add_argument(
        "--metric", choices=list(METRICS), help="what the widths of a flame graph are (flops)"
    )


def add_convention(parser: Any) -> None:
    """`--convention`, for a parser or a group of its arguments."""
    parser.add_argument(
        "--convention",
        choices=list(CONVENTIONS),
        help="count as another tool does, or by another rule (default: flopdispatch's own)",
    )


def profile_writer(arguments: Namespace) -> Callable[[Profile], None]:
    """What writes a profile as the command line asks for it, checked before anything is counted.

    Raises: ArgumentError if the format has no such option, or the file can't be there.
    """
    out = None if arguments.out == "-" else arguments.out
    name = arguments.format or (by_suffix(out) if out else "table")
    given = {option: getattr(arguments, option) for option in OPTIONS}
    options = {option: value for option, value in given.items() if value is not None}
    check_options(name, options)
    if out and not Path(out).parent.is_dir():
        raise ArgumentError(f"can't write {out}: there is no folder {Path(out).parent}")
    if "width" in REPORTERS[name].options and not out:
        options["width"] = width()
    return lambda profile: terminal.write(render(profile, name, **options), out)


def read_profile(path: str) -> Profile:
    """The profile in a file that `--format json` or `profile.to_json()` wrote.

    Raises: ArgumentError if there is none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"can't read a profile from {path}: {error}; give the file that "
            "`flopdispatch count ... --format json --out FILE` wrote"
        ) from error
    try:
        return Profile.from_json(text)
    except ArgumentError as error:
        raise ArgumentError(f"{path} is no saved profile: {error}") from error
