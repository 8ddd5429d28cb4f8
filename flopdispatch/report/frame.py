"""A profile's records as a pandas DataFrame; pandas is optional."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report.records import Records, records

INT64 = 2**63


def frame(profile: Profile, by: str = "modules") -> Any:
    """The records of one kind, indexed by their first column; those of calls by their number.

    Integers are int64. A column whose sum doesn't fit holds Python integers, so that it stays exact
    when it is summed.

    Raises: ArgumentError for another `by`, or if pandas isn't installed.
    """
    return framed(records(profile, by), by)


def framed(found: Records, by: str) -> Any:
    """Records of the kind `by` as `frame` has them.

    Raises: ArgumentError if pandas isn't installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise ArgumentError(
            'to_pandas() needs pandas: pip install "flopdispatch[pandas]", or take '
            'profile.report("csv")'
        ) from error
    columns = {name: [row[i] for row in found.rows] for i, name in enumerate(found.columns)}
    made = pandas.DataFrame(
        {name: pandas.Series(values, dtype=_kind(values)) for name, values in columns.items()}
    )
    return made if by == "calls" else made.set_index(found.columns[0])


def _kind(values: list[Any]) -> Any:
    """The dtype of a column; None leaves it to pandas."""
    if not all(type(value) is int for value in values):
        return object if values and isinstance(values[0], tuple) else None
    return "int64" if sum(map(abs, values)) < INT64 else object
