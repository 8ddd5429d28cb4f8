"""Stacks: what each path of modules with an operator at its tip costs, for flame graphs."""

from __future__ import annotations

from collections.abc import Iterator

from flopdispatch.capture.recording import PHASES, own_params
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile, ScopeNode, walk
from flopdispatch.report.markup import visible
from flopdispatch.report.table import OUTSIDE
from flopdispatch.rules import name_of

METRICS = {"flops": "FLOPs", "macs": "MACs", "bytes": "bytes", "params": "parameters"}
Stack = tuple[str, ...]


def stacks(profile: Profile, metric: str = "flops") -> dict[Stack, int]:
    """How many of a metric belong to each stack; those of none are left out.

    A stack is a module's path, then the operator; where several phases have some, the phase is
    first. A frame is a module's name and type, `conv1 (Conv2d)`. They are in the order of phases
    and of the tree, so that what belongs together is together. Parameters belong to the module
    that holds them, tied ones to the first.

    Raises: ArgumentError for another metric.
    """
    if metric not in METRICS:
        raise ArgumentError(f"metric= takes one of {', '.join(METRICS)}, got {metric!r}")
    parts = _params(profile) if metric == "params" else _costs(profile, metric)
    found: dict[Stack, int] = {}
    for stack, number in parts:
        if number:
            found[stack] = found.get(stack, 0) + number
    several = len({phase for phase, *_ in found}) > 1
    return found if several else {stack[1:]: number for stack, number in found.items()}


def _costs(profile: Profile, metric: str) -> Iterator[tuple[Stack, int]]:
    """The phase, the path and the operator of each row."""
    frames = _frames(profile)
    place = {path: i for i, path in enumerate(frames)}
    for row in sorted(profile.rows, key=lambda row: (PHASES.index(row.phase), place[row.scope])):
        operator = name_of(profile.calls[row.call].overload)
        number = _number(profile.prices[row.call].cost, metric) * row.times
        yield (row.phase, *frames[row.scope], operator), number


def _params(profile: Profile) -> Iterator[tuple[Stack, int]]:
    """No phase, and the path of each module."""
    held = own_params(profile.modules)
    for path, frames in _frames(profile).items():
        yield ("", *frames), held.get(path, 0)


def _frames(profile: Profile) -> dict[str, Stack]:
    """The frames of each path, in the order of the tree."""
    found: dict[str, Stack] = {"": ()}
    for node in walk(profile.root):
        if node.path:
            found[node.path] = (*found[node.path.rpartition(".")[0]], _frame(node))
    return {**found, "": (OUTSIDE,)}


def _frame(node: ScopeNode) -> str:
    told = node.module_type not in ("", node.name)
    return visible(f"{node.name} ({node.module_type})" if told else node.name)


def _number(cost: Cost, metric: str) -> int:
    number: int = getattr(cost, "nbytes" if metric == "bytes" else metric)
    return number
