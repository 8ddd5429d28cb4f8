"""What the HTML report shows, as plain values: the tree of modules and the groups of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from flopdispatch.cost import Cost
from flopdispatch.profile import Profile, Row, ScopeNode
from flopdispatch.report.markup import visible
from flopdispatch.report.records import BLOCK, grouped
from flopdispatch.report.table import OUTSIDE
from flopdispatch.rules import Price
from flopdispatch.units import exact, percent, si, some

COLOURED = 0.01  # of all FLOPs, MACs, bytes and parameters: a type with less has no colour


class Column(NamedTuple):
    """A number that each module has; where modules may be sized by it, they have a share of it."""

    key: str
    label: str
    unit: str
    sized: bool
    of: Callable[[int, int, Cost], int]  # of params, calls and cost


COLUMNS = (
    Column("params", "Params", "", True, lambda params, calls, cost: params),
    Column("macs", "MACs", "", True, lambda params, calls, cost: cost.macs),
    Column("flops", "FLOPs", "", True, lambda params, calls, cost: cost.flops),
    Column("bytes", "Bytes", "B", True, lambda params, calls, cost: cost.nbytes),
    Column("calls", "Calls", "", False, lambda params, calls, cost: calls),
)


Figure = tuple[float, str, str]  # a number, in full and in short


class Given(NamedTuple):
    """A column whose figures are known by the modules' paths, in all and of each alone."""

    key: str
    label: str
    sized: bool
    total: Mapping[str, Figure]
    own: Mapping[str, Figure]


class Place(NamedTuple):
    """A module's place in the tree: its parent is the one at place `parent`, -1 for none."""

    parent: int
    node: ScopeNode


def tree(profile: Profile, more: Sequence[Given] = ()) -> dict[str, Any]:
    """The tree of modules, as lists with one entry a module, parents before their children.

    Its columns are COLUMNS and `more`.

    `total` and `own` of a column are places in its `figures`: a number, the same in full and in
    short, and its share of the whole. `types` has the types that weigh most first, of which
    `coloured` weigh enough for a colour.
    """
    places = list(_placed(_top(profile)))
    totals = [node.own for _, node in places]
    ran = [node.calls > 0 or node.own != Cost() for _, node in places]
    params = [node.params for _, node in places]  # of the module alone, shared ones aside
    for i in range(len(places) - 1, 0, -1):
        parent, node = places[i]
        totals[parent] += totals[i]
        ran[parent] |= ran[i]
        params[parent] -= node.params
    columns = [_column(column, places, totals, params) for column in COLUMNS]
    columns += [_given(column, places) for column in more]
    weights = _weights(places, columns)
    types = sorted(weights, key=lambda name: (name == "", -weights[name]))
    rank = {name: i for i, name in enumerate(types)}
    return {
        "path": visible(places[0].node.path),
        "parent": [parent for parent, _ in places],
        "name": [visible(node.name) or BLOCK for _, node in places],
        "type": [rank[node.module_type] for _, node in places],
        "also": [visible(some(node.aliases)) for _, node in places],
        "ran": [int(has) for has in ran],
        "types": [visible(name) for name in types],
        "coloured": sum(weights[name] > COLOURED for name in types if name),
        "columns": columns,
    }


def _column(
    column: Column, places: Sequence[Place], totals: Sequence[Cost], alone: Sequence[int]
) -> dict[str, Any]:
    """A column: its distinct numbers, and which of them each module has, in all and of its own."""
    known: dict[int, int] = {}

    def place(params: int, calls: int, cost: Cost) -> int:
        return known.setdefault(column.of(params, calls, cost), len(known))

    total = [place(node.params, node.calls, cost) for (_, node), cost in zip(places, totals)]
    own = [place(max(params, 0), 0, node.own) for (_, node), params in zip(places, alone)]
    whole = next(iter(known))
    figures = [
        (n, exact(n), si(n, column.unit), percent(n, whole))
        if column.sized
        else (n, exact(n), exact(n) if n else "", "")
        for n in known
    ]
    return _written(column, total, own, figures)


def _given(column: Given, places: Sequence[Place]) -> dict[str, Any]:
    """The same of a column whose figures are known; what ran outside is the block's own."""
    known: dict[Figure, int] = {}
    nothing: Figure = (0, "0", "")

    def place(figure: Figure) -> int:
        return known.setdefault(figure, len(known))

    total, own = [], []
    for _, node in places:
        outside = node.path == OUTSIDE
        total.append(place(column.own[""] if outside else column.total[node.path]))
        alone = nothing if node.path == "" else column.own["" if outside else node.path]
        own.append(place(alone))
    whole = next(iter(known))[0] if column.sized else None
    figures = [(*figure, percent(figure[0], whole) if column.sized else "") for figure in known]
    return _written(column, total, own, figures)


def _written(
    column: Column | Given,
    total: list[int],
    own: list[int],
    figures: Sequence[tuple[float, str, str, str]],
) -> dict[str, Any]:
    """A column as the page takes it."""
    return {
        "key": column.key,
        "label": column.label,
        "sized": column.sized,
        "total": total,
        "own": own,
        "figures": figures,
    }


def _weights(places: Sequence[Place], columns: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What share of all numbers that modules are sized by is the own work of each type."""
    found = {node.module_type: 0.0 for _, node in places}
    for column in columns:
        figures = column["figures"]
        whole = figures[column["total"][0]][0]
        for (_, node), own in zip(places, column["own"]):
            if column["sized"] and whole:
                found[node.module_type] += figures[own][0] / whole
    return found


def _top(profile: Profile) -> ScopeNode:
    """The one module that all happened in, or the block with what ran outside of all modules."""
    root = profile.root
    if root.own == Cost():
        return root.children[0] if len(root.children) == 1 else root
    outside = ScopeNode(OUTSIDE, OUTSIDE, "", 0, 0, root.own, ())
    return replace(root, own=Cost(), children=(*root.children, outside))


def _placed(root: ScopeNode) -> Iterator[Place]:
    """A node and all below it, in the order of the tree."""
    waiting, place = [Place(-1, root)], 0
    while waiting:
        found = waiting.pop()
        yield found
        waiting += [Place(place, child) for child in reversed(found.node.children)]
        place += 1


class Group(NamedTuple):
    """Calls that have something in common: their number, cost, and what else is known of them.

    `state` is what all of them are: counted, zero, uncounted, an estimate of what.
    """

    name: str
    calls: int
    cost: Cost
    family: str
    state: str
    error: str
    scopes: tuple[str, ...]


def groups(profile: Profile, name: Callable[[Row], str]) -> list[Group]:
    """The calls of a profile by a name, the most FLOPs first."""
    found = []
    for key, (rows, cost) in grouped(profile, name).items():
        prices = [profile.prices[row.call] for row in rows]
        states = [f"estimate: {p.estimate}" if p.estimate else p.state for p in prices]
        found.append(
            Group(
                key,
                sum(row.times for row in rows),
                cost,
                ", ".join(dict.fromkeys(price.family for price in prices)),
                ", ".join(dict.fromkeys(states)),
                next((price.error for price in prices if price.error), ""),
                tuple(dict.fromkeys(row.scope for row in rows)),
            )
        )
    return found


def only(profile: Profile, holds: Callable[[Price], object]) -> Profile:
    """The profile of the calls whose price it holds for."""
    return replace(profile, rows=tuple(r for r in profile.rows if holds(profile.prices[r.call])))
