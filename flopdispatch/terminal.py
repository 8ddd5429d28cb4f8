"""The terminal that standard output is, if it is one."""

from __future__ import annotations

import shutil
import sys


def width() -> int | None:
    """Its columns; None where standard output is none, and lines may be of any length."""
    isatty = getattr(sys.stdout, "isatty", None)  # what stands in for it may not have all methods
    return shutil.get_terminal_size().columns if isatty is not None and isatty() else None
