"""`flopdispatch` and `python -m flopdispatch`: the parser, the errors, the exit codes."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import Any, NoReturn

from flopdispatch.cli import COMMANDS, terminal
from flopdispatch.errors import (
    DataDependentError,
    FlopDispatchError,
    UncountedOperatorError,
)

DONE, FAILED, MISUSED, RAISED, INTERRUPTED = 0, 1, 2, 3, 130

EPILOG = """\
exit codes:
  0    done
  1    what was asked for does not hold: a budget is exceeded (check), something differs
       (diff --exit-code), or --strict refuses
  2    wrong use: an argument, a target or a file is not what was expected
  3    the model failed while it was built or run
  130  interrupted

`flopdispatch COMMAND --help` says what each command takes, with examples.
"""


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what was wrong, without the usage of some twenty options."""

    def error(self, message: str) -> NoReturn:
        terminal.tell("error", f"{message}; see {self.prog} --help")
        self.exit(MISUSED)


def parser() -> Parser:
    """The parser of the whole command line, one subparser a command."""
    made = Parser(
        prog="flopdispatch",
        description="Count what PyTorch models compute: FLOPs, MACs, bytes and parameters.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=version("flopdispatch"))
    commands = made.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, command in COMMANDS.items():
        summary, _, rest = inspect.cleandoc(command.__doc__).partition("\n")
        about, _, examples = rest.strip().partition("\nexample")
        below = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}\n\n{about.strip()}",
            epilog=f"example{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(below)
        below.add_argument(
            "--traceback", action="store_true", help="show where an error was raised"
        )
        below.set_defaults(run=command.run)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # tree glyphs, where there are none, aren't an error
            stream.reconfigure(errors="replace")
    arguments = parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code: int = arguments.run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except KeyboardInterrupt:
            terminal.tell("error", "interrupted")
            return INTERRUPTED
        except Exception as error:
            return _failed(error, arguments.traceback)
    return code


def _failed(error: Exception, whole: bool) -> int:
    """Say in one line what went wrong, and the exit code for it."""
    if whole:
        traceback.print_exc()
    if isinstance(error, UncountedOperatorError | DataDependentError):
        terminal.tell("error", str(error))
        return FAILED
    if isinstance(error, FlopDispatchError):
        terminal.tell("error", str(error))
        return MISUSED
    hint = "" if whole else " (--traceback shows where)"
    terminal.tell("error", f"the model raised {type(error).__name__}: {error}{hint}")
    return RAISED


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    terminal.tell("warning", str(message))
