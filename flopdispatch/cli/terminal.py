"""What is written where: the terminal's width, colours where they are seen, files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from flopdispatch.errors import ArgumentError

COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "dim": 2}


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """A text in a colour, where `stream` (standard output) is a terminal that shows it."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def write(text: str, out: str | None) -> None:
    """Write a text to a file, or to standard output if `out` is None or `-`.

    Raises: ArgumentError if the file can't be written.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    if out is None or out == "-":
        print(text, end="")
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"can't write {out}: {error.strerror}; give --out a file") from error
    print(f"wrote {out}", file=sys.stderr)


def tell(kind: str, text: str) -> None:
    """One line on standard error: `flopdispatch: error: ...`."""
    line = " ".join(str(text).split())
    colour = {"error": "red", "warning": "yellow"}.get(kind, "bold")
    print(f"flopdispatch: {painted(f'{kind}:', colour, sys.stderr)} {line}", file=sys.stderr)
