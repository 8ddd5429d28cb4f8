"""Lines of a table for operators, families, phases or dtypes, in place of the tree of modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report.markup import visible
from flopdispatch.report.records import grouped, namer
from flopdispatch.report.rows import SORTS

# The heads of the columns that name a line.
NAMES = {
    "modules": ("Module", "Type"),
    "operators": ("Operator", "Family"),
    "families": ("Family",),
    "phases": ("Phase",),
    "dtypes": ("Dtype",),
}
Sorts = Mapping[str, Callable[[Any], Any]]


class Line(NamedTuple):
    """Calls of one name: the families that they are of, their number, and what they cost."""

    label: str
    family: str
    calls: int
    cost: Cost


def check_by(by: str) -> None:
    """Raises: ArgumentError if a table has no such lines."""
    if by not in NAMES:
        raise ArgumentError(f"by= takes one of {', '.join(NAMES)} in a table, got {by!r}")


def check_sort(sort: str | None, sorts: Sorts = SORTS) -> None:
    """Raises: ArgumentError if there is no such order among `sorts`, and it isn't None."""
    if sort is not None and sort not in sorts:
        needs = ", which needs a machine: give hardware=" if sort == "time" else ""
        raise ArgumentError(f"sort= takes one of {', '.join(sorts)} or None, got {sort!r}{needs}")


def ordered(
    profile: Profile, by: str, depth: int | None, sort: str | None, sorts: Sorts = SORTS
) -> list[Line]:
    """The lines of a table by anything but modules, the most FLOPs first unless told otherwise.

    Raises: ArgumentError for another `by` or `sort`, or a `depth`, which only modules have.
    """
    check_by(by)
    if depth is not None:
        raise ArgumentError(f"depth= is of the tree of modules: leave it out with by={by!r}")
    check_sort(sort, {name: key for name, key in sorts.items() if name != "params"})
    found = []
    for name, (rows, cost) in grouped(profile, namer(profile, by)).items():
        families = dict.fromkeys(profile.prices[row.call].family for row in rows)
        found.append(Line(name, ", ".join(families), sum(row.times for row in rows), cost))
    return found if sort is None else sorted(found, key=sorts[sort])


def names(by: str, label: str, kind: str) -> list[str]:
    """The cells below NAMES."""
    return [visible(label) or "no tensors", kind][: len(NAMES[by])]


def shorter(name: str, most: int) -> str:
    """The name of an operator in at most `most` characters, if it is longer.

    It goes without `.default`, without `aten::`, without its middle, the least that will do.

    Example:

        >>> name = "aten::convolution_backward.default"
        >>> shorter(name, 28), shorter(name, 20), shorter(name, 17)
        ('aten::convolution_backward', 'convolution_backward', 'convolut…backward')
    """
    for short in (name, name.removesuffix(".default")):
        if len(short) <= most:
            return short
    short = short.removeprefix("aten::")
    half = (most - 1) // 2
    return short if len(short) <= most else f"{short[: most - 1 - half]}…{short[-half:]}"
