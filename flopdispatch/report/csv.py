"""CSV: exact integers, one line a module (or operator, phase, ...), for spreadsheets."""

from __future__ import annotations

import json
import re
from typing import Any

from flopdispatch.profile import Profile
from flopdispatch.report.records import Records, records

# What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(profile: Profile, by: str = "modules") -> str:
    """The records of one kind as RFC 4180 writes them, but that lines end with a plain newline.

    `by` is `"modules"`, `"operators"`, `"families"`, `"phases"`, `"dtypes"` or `"calls"`. Lists
    (a module's other names, the shapes of a call) are JSON, nothing if they are empty. A text that
    a spreadsheet would run as a formula has an apostrophe before it; a path begins with the name
    of a class and has none. What UTF-8 can't hold (a lone surrogate) is written as its escape.

    Raises: ArgumentError for another `by`.
    """
    return written(records(profile, by))


def written(found: Records) -> str:
    """Records as `render` writes them, a value that is None as nothing."""
    text = "\n".join(",".join(map(_cell, row)) for row in [found.columns, *found.rows])
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if isinstance(value, str):
        text = f"'{value}" if value.startswith(FORMULA) else value
    else:
        text = "" if value in ((), None) else json.dumps(value)
    if re.search('[",\r\n]', text):  # the csv module leaves a lone carriage return bare
        text = '"' + text.replace('"', '""') + '"'
    return text
