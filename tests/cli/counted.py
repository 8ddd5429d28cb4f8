"""What `flopdispatch count` writes, before it is written."""

from __future__ import annotations

from flopdispatch import Profile
from flopdispatch.cli.main import parser
from flopdispatch.cli.measuring import measure


def counted(target: str, *options: str) -> Profile:
    """The profile of a target, counted as these options say."""
    return measure(target, parser().parse_args(["count", target, *options]))
