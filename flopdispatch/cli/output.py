"""The options that say how a profile is written, the same for every command that writes one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flopdispatch.cli import terminal
from flopdispatch.conventions import CONVENTIONS
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import Hardware, hardware
from flopdispatch.profile import Profile
from flopdispatch.report import HARDWARE, REPORTERS, by_suffix, check_options, render
from flopdispatch.report.records import RECORDS
from flopdispatch.report.rows import SORTS
from flopdispatch.report.stacks import METRICS
from flopdispatch.roofline import FLOATING
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
    group.add_argument(
        "--sort",
        choices=[*SORTS, "time"],
        help="the order of a module's children, or of lines; time is that of --hardware",
    )
    group.add_argument(
        "--by",
        choices=list(RECORDS),
        help="what a line stands for (modules; calls are in CSV only)",
    )
    group.add_argument(
        "--metric", choices=list(METRICS), help="what the widths of a flame graph are (flops)"
    )
    add_hardware(group)
    group.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the roofline of --hardware there too (.svg, .png or .pdf)",
    )


def add_hardware(group: Any) -> None:
    """`--hardware`, `--tf32` and `--rate`, for a group of arguments."""
    group.add_argument(
        "--hardware",
        metavar="NAME",
        help="tell the least time on this machine, and what bounds it, such as H100-SXM or "
        "'NVIDIA L4'",
    )
    group.add_argument("--tf32", action="store_true", help="products of float32 run there in TF32")
    group.add_argument(
        "--rate",
        choices=FLOATING,
        help="hold all floating-point work against its rate of this dtype (default: each its own)",
    )


def hardware_of(arguments: Namespace) -> Hardware | None:
    """The machine asked for, if any.

    Raises: ArgumentError for an unknown one, or an option that needs one.
    """
    for option in ("tf32", "rate", "plot"):
        if getattr(arguments, option, None) and arguments.hardware is None:
            raise ArgumentError(f"--{option} goes with --hardware NAME, which is missing")
    return None if arguments.hardware is None else hardware(arguments.hardware)


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
    options: dict[str, Any] = {
        option: value for option, value in given.items() if value is not None
    }
    machine = hardware_of(arguments)
    if machine is None and arguments.sort == "time":
        raise ArgumentError("--sort time goes with --hardware NAME, which is missing")
    check_options(name, options if machine is None else {**options, HARDWARE: machine})
    for file in filter(None, (out, arguments.plot)):
        if not Path(file).parent.is_dir():
            raise ArgumentError(f"can't write {file}: there is no folder {Path(file).parent}")
    if "width" in REPORTERS[name].options and not out:
        options["width"] = width()

    def write(profile: Profile) -> None:
        if machine is not None:
            options[HARDWARE] = profile.roofline(machine, arguments.rate, arguments.tf32)
        if arguments.plot:
            options[HARDWARE].plot(arguments.plot)
        terminal.write(render(profile, name, **options), out)

    return write


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
