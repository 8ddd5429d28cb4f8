"""A profile as flat records of exact integers: what CSV, JSON and data frames are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import add
from typing import Any, NamedTuple

import torch

from flopdispatch import activations
from flopdispatch.cost import FIELDS, Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile, Row, walk
from flopdispatch.rules import name_of
from flopdispatch.saved import KINDS
from flopdispatch.spec import tensors

# The figures of a cost: its fields, and the sums that people ask for.
FIGURES = (*FIELDS[:4], "flops", *FIELDS[4:], "bytes")

BLOCK = "(the whole block)"


class Records(NamedTuple):
    """Rows of plain values under named columns; `columns[0]` tells the rows apart, if any does."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Each row as {column: value}."""
        return [dict(zip(self.columns, row)) for row in self.rows]


def figures(cost: Cost) -> tuple[int, ...]:
    """The numbers of a cost, in the order of FIGURES."""
    return tuple(cost.nbytes if name == "bytes" else getattr(cost, name) for name in FIGURES)


def modules(profile: Profile) -> Records:
    """One row a module in the order of the tree, the block itself (path `""`) first.

    `total_` figures and `params` include the modules below, `own_` ones don't: those add up to
    the whole, but for parameters that several modules hold. `depth` counts from the models that
    the block called; its own is -1. `activations` are elements that matrix products, convolutions
    and attention write; `bytes_saved_` figures, where `saved` was asked for, what autograd keeps.
    """
    held = {m.scope: sum(dict(m.params).values()) for m in profile.modules}
    nodes = list(walk(profile.root))
    totals = {node.path: node.own for node in nodes}
    more = beside(profile)
    totals_of_more = dict(more)
    ran = {node.path: node.calls > 0 or node.own != Cost() for node in nodes}
    for node in reversed(nodes):
        if node.path:
            above = node.path.rpartition(".")[0]
            totals[above] += totals[node.path]
            totals_of_more[above] = _sum(totals_of_more[above], totals_of_more[node.path])
            ran[above] |= ran[node.path]
    rows = [
        (
            node.path,
            node.name,
            node.path.count(".") if node.path else -1,
            node.module_type,
            node.calls,
            ran[node.path],
            node.aliases,
            node.params,
            held.get(node.path, 0),
            *figures(totals[node.path]),
            *totals_of_more[node.path],
            *figures(node.own),
            *more[node.path],
        )
        for node in nodes
    ]
    known = ("path", "name", "depth", "type", "calls", "ran", "aliases", "params", "own_params")
    names = (*FIGURES, *names_beside(profile))
    total, own = ([f"{kind}_{name}" for name in names] for kind in ("total", "own"))
    return Records((*known, *total, *own), rows)


def names_beside(profile: Profile) -> tuple[str, ...]:
    """The figures that a module has beside its cost; what is saved, only where it was asked for."""
    saved = () if profile.saved is None else (f"bytes_saved_{kind}" for kind in KINDS)
    return ("activations", *saved)


def beside(profile: Profile) -> dict[str, tuple[int, ...]]:
    """The figures of `names_beside`, of each module alone."""
    kept = {(told.scope, told.kind): told.nbytes for told in profile.saved or ()}
    kinds = KINDS if profile.saved is not None else ()
    return {
        path: (written, *(kept.get((path, kind), 0) for kind in kinds))
        for path, written in activations.by_scope(profile, own=True).items()
    }


def _sum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(add, one, other))


def calls(profile: Profile) -> Records:
    """One row for each distinct call in a module and phase: the finest there is.

    `shapes` are those of its tensor arguments; the figures are those of all `calls` of it.
    """
    columns = ("path", "phase", "operator", "family", "state", "estimate", "dtype", "shapes")
    rows = []
    for row in profile.rows:
        call, price = profile.calls[row.call], profile.prices[row.call]
        given = tensors((call.args, tuple(value for _, value in call.kwargs)))
        rows.append(
            (
                row.scope,
                row.phase,
                name_of(call.overload),
                price.family,
                price.state,
                price.estimate,
                dtype_name(price.dtype),
                tuple(tensor.shape for tensor in given),
                row.times,
                *figures(price.cost * row.times),
            )
        )
    return Records((*columns, "calls", *FIGURES), rows)


def operators(profile: Profile) -> Records:
    """One row an operator overload, the most FLOPs first.

    An operator whose calls are of several families or states has all of them, with commas.
    """
    rows = []
    for name, (members, cost) in grouped(profile, namer(profile, "operators")).items():
        prices = [profile.prices[row.call] for row in members]
        words = (
            ", ".join(dict.fromkeys(filter(None, (getattr(price, part) for price in prices))))
            for part in ("family", "state", "estimate", "error")
        )
        rows.append((name, *words, _times(members), *figures(cost)))
    return Records(("operator", "family", "state", "estimate", "error", "calls", *FIGURES), rows)


def families(profile: Profile) -> Records:
    """One row an operator family, the most FLOPs first."""
    return _by("family", profile, namer(profile, "families"))


def phases(profile: Profile) -> Records:
    """One row a phase that ran, the most FLOPs first."""
    return _by("phase", profile, namer(profile, "phases"))


def dtypes(profile: Profile) -> Records:
    """One row a dtype computed in, the most FLOPs first; `""` for operators without tensors."""
    return _by("dtype", profile, namer(profile, "dtypes"))


RECORDS: dict[str, Callable[[Profile], Records]] = {
    "modules": modules,
    "operators": operators,
    "families": families,
    "phases": phases,
    "dtypes": dtypes,
    "calls": calls,
}


def records(profile: Profile, by: str = "modules") -> Records:
    """The records of one kind: modules, operators, families, phases, dtypes or calls.

    Raises: ArgumentError for another kind.
    """
    if by not in RECORDS:
        raise ArgumentError(f"by= takes one of {', '.join(RECORDS)}, got {by!r}")
    return RECORDS[by](profile)


def _by(column: str, profile: Profile, name: Callable[[Row], str]) -> Records:
    groups = grouped(profile, name).items()
    rows = [(key, _times(members), *figures(cost)) for key, (members, cost) in groups]
    return Records((column, "calls", *FIGURES), rows)


def namer(profile: Profile, by: str) -> Callable[[Row], str]:
    """What a row of a profile is called where rows are grouped.

    Raises: ArgumentError for another `by`.
    """
    calls, prices = profile.calls, profile.prices
    known: dict[str, Callable[[Row], str]] = {
        "operators": lambda row: name_of(calls[row.call].overload),
        "families": lambda row: prices[row.call].family,
        "phases": lambda row: row.phase,
        "dtypes": lambda row: dtype_name(prices[row.call].dtype),
        "modules": lambda row: row.scope or BLOCK,
    }
    if by not in known:
        raise ArgumentError(f"by= takes one of {', '.join(known)}, got {by!r}")
    return known[by]


def grouped(profile: Profile, name: Callable[[Row], str]) -> dict[str, tuple[list[Row], Cost]]:
    """The rows of each name and what they cost, the most FLOPs first."""
    members: dict[str, list[Row]] = {}
    for row in profile.rows:
        members.setdefault(name(row), []).append(row)
    found = {
        key: (rows, Cost.total((profile.prices[row.call].cost, row.times) for row in rows))
        for key, rows in members.items()
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1][1].flops, -item[1][1].nbytes)))


def _times(rows: Iterable[Row]) -> int:
    return sum(row.times for row in rows)


def dtype_name(dtype: torch.dtype | None) -> str:
    """`"bfloat16"`; `""` for no dtype."""
    return "" if dtype is None else str(dtype).removeprefix("torch.")
