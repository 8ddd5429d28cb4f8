"""Frames: which line of the program is running."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OWN = os.path.dirname(os.path.dirname(__file__)) + os.sep


def caller(*beside: str) -> Any:
    """The innermost frame outside of this package, and of files whose names begin so; or None."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_OWN, *beside)):
        frame = frame.f_back
    return frame


def source_line() -> str:
    """The line of the program that is running, outside of torch and of this package."""
    frame = caller(_TORCH, "<frozen")
    if frame is None:
        return ""
    name = frame.f_code.co_filename
    roots = [root for root in sys.path if root and name.startswith(root + os.sep)]
    longest = max(roots, key=len, default="")
    return f"{name[len(longest) :].lstrip(os.sep)}:{frame.f_lineno}"
