"""The rows of a report: merged containers, folded siblings, sums that stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch import Cost, ScopeNode
from flopdispatch.report.rows import SORTS, DisplayRow, display_rows, indented


def node(
    name: str, macs: int = 0, *children: ScopeNode, kind: str = "Linear", calls: int = 1,
    params: int = 0,
) -> ScopeNode:  # fmt: skip
    below = sum(child.params for child in children)
    return ScopeNode(name, name, kind, params + below, calls, Cost(macs=macs), children)


def container(name: str, *children: ScopeNode, params: int = 0) -> ScopeNode:
    """A module that is never called itself, as a ModuleList."""
    return node(name, 0, *children, kind="ModuleList", calls=0, params=params)


def drawn(*children: ScopeNode, depth: int | None = None, sort: str | None = None) -> list[Any]:
    rows = display_rows(node("", 0, *children))
    key = None if sort is None else SORTS[sort]
    return [(label, row.times, row.cost.macs) for label, row in indented(rows, depth, key)]


def test_equal_numbered_siblings_are_one_row_with_their_sum() -> None:
    block = [node(str(i), 5, params=3) for i in range(4)]
    rows = display_rows(node("", 0, *block))
    assert [(r.label, r.times, r.cost.macs, r.params) for r in rows] == [("0-3", 4, 20, 12)]


def test_a_sibling_that_differs_begins_a_new_row() -> None:
    layers = [node("0", 5), node("1", 5), node("2", 6), node("3", 5), node("4", 5)]
    assert drawn(*layers) == [("0-1", 2, 10), ("2", 1, 6), ("3-4", 2, 10)]


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("macs", node("a0", 5), node("a1", 6)),
        ("class", node("a0", 5), node("a1", 5, kind="Other")),
        ("parameters", node("a0", 5, params=1), node("a1", 5, params=2)),
        ("the name before the number", node("a0", 5), node("b1", 5)),
        ("a gap in the numbers", node("a0", 5), node("a2", 5)),
        ("an order that isn't upward", node("a1", 5), node("a0", 5)),
        ("no number", node("a", 5), node("b", 5)),
        ("what is below", node("a0", 5, node("x", 1)), node("a1", 5, node("y", 1))),
        ("whether it ran", node("a0", 0, calls=0), node("a1", 0)),
    ],
)
def test_siblings_fold_only_if_all_is_equal(why: str, one: ScopeNode, other: ScopeNode) -> None:
    assert [times for _, times, _ in drawn(one, other, depth=0)] == [1, 1], why


def test_how_often_a_module_was_called_does_not_keep_it_apart() -> None:
    assert drawn(node("0", 5, calls=1), node("1", 5, calls=2)) == [("0-1", 2, 10)]


def test_other_names_of_a_module_do_not_keep_it_apart() -> None:
    shared = [
        replace(node(str(i), 5, replace(node("rope", 1), aliases=("x",))), aliases=("a", "b"))
        for i in range(3)
    ]
    (row,) = display_rows(node("", 0, *shared))
    assert (row.times, row.aliases, row.children[0].aliases) == (3, (), ()), "three have three"
    (row,) = display_rows(node("", 0, shared[0]))
    assert row.aliases == ("a", "b")


@pytest.mark.parametrize(
    ("path", "alias", "shown"),
    [
        ("Net.a.0", "Net.a.1", "1"),
        ("Net.a.0", "Net.b.0", "b.0"),
        ("Net.a.0", "Other.a.0", "Other.a.0"),
        ("Net", "Other.net", "Other.net"),
    ],
)
def test_an_alias_is_as_short_as_the_row_s_own_name(path: str, alias: str, shown: str) -> None:
    name = path.rpartition(".")[2]
    found = replace(node(name, 5), path=path, aliases=(alias,))
    assert display_rows(node("", 0, found))[0].aliases == (shown,)


def test_what_is_inside_of_folded_rows_is_their_sum_too() -> None:
    blocks = [node(str(i), 1, node("fc", 4), node("proj", 2)) for i in range(3)]
    assert drawn(*blocks) == [("0-2", 3, 21), ("├─ fc", 3, 12), ("└─ proj", 3, 6)]


def test_folds_within_folds_multiply() -> None:
    stages = [node(str(i), 0, node("0", 1), node("1", 1)) for i in range(3)]
    assert drawn(*stages) == [("0-2", 3, 6), ("└─ 0-1", 6, 6)]


def test_a_container_that_is_never_called_gives_its_name_to_its_children() -> None:
    layers = container("layers", *(node(str(i), 5) for i in range(32)))
    assert drawn(layers, node("head", 7)) == [("layers.0-31", 32, 160), ("head", 1, 7)]
    nested = container("a", container("b", node("c", 5)))
    assert drawn(nested) == [("a.b.c", 1, 5)]


def test_a_container_with_parameters_of_its_own_keeps_its_row() -> None:
    assert drawn(container("a", node("b", 5), params=3)) == [("a", 1, 5), ("└─ a.b", 1, 5)]


def test_modules_that_never_ran_are_marked_and_not_taken_apart() -> None:
    idle = container("idle", node("x", calls=0), node("y", calls=0))
    rows = display_rows(node("", 0, idle, node("used", 5)))
    assert [(row.label, row.ran) for row in rows] == [("idle", False), ("used", True)]


def test_a_tree_is_drawn_with_branches() -> None:
    tree = node("a", 0, node("b", 0, node("c", 1), node("d", 2)), node("e", 3))
    assert [label for label, _, _ in drawn(tree, node("f", 4))] == [
        "a",
        "├─ b",
        "│  ├─ c",
        "│  └─ d",
        "└─ e",
        "f",
    ]


@pytest.mark.parametrize(("depth", "labels"), [(0, "a f"), (1, "a b e f"), (2, "a b c d e f")])
def test_depth_is_levels_below_the_top(depth: int, labels: str) -> None:
    tree = node("a", 0, node("b", 0, node("c", 1), node("d", 2)), node("e", 3))
    found = [label.lstrip("│├└─ ") for label, _, _ in drawn(tree, node("f", 4), depth=depth)]
    assert found == labels.split()


def test_sorting_orders_siblings_at_every_level() -> None:
    tree = node("a", 0, node("x", 1, params=9), node("y", 2), params=1)
    other = node("b", 9, node("z", 9), node("w", 10))
    assert [label.lstrip("├└─ ") for label, _, _ in drawn(tree, other, sort="macs")] == [
        "b", "w", "z", "a", "y", "x",
    ]  # fmt: skip
    assert [label.lstrip("├└─ ") for label, _, _ in drawn(tree, other, sort="params")] == [
        "a", "x", "y", "b", "z", "w",
    ]  # fmt: skip
    assert [label for label, _, _ in drawn(other, tree, sort="name", depth=0)] == ["a", "b"]


names = st.sampled_from(["0", "1", "2", "conv1", "conv2", "x", "層", "a b"])


def trees(depth: int) -> st.SearchStrategy[ScopeNode]:
    children = st.just(()) if depth == 0 else st.lists(trees(depth - 1), max_size=3).map(tuple)
    return st.builds(
        lambda name, macs, below, calls, params: node(
            name, macs if calls else 0, *below, calls=calls, params=params
        ),
        names, st.integers(0, 2), children, st.integers(0, 1), st.integers(0, 1),
    )  # fmt: skip


def macs_of(tree: ScopeNode) -> int:
    return tree.own.macs + sum(macs_of(child) for child in tree.children)


def rows_below(rows: tuple[DisplayRow, ...]) -> list[DisplayRow]:
    return [*rows, *(row for r in rows for row in rows_below(r.children))]


@given(st.lists(trees(3), max_size=4), st.sampled_from([None, *SORTS]))
def test_the_top_rows_add_up_to_the_whole(found: list[ScopeNode], sort: str | None) -> None:
    rows = display_rows(node("", 0, *found))
    top = [row for _, row in indented(rows, 0, SORTS[sort] if sort else None)]
    assert sum(row.cost.macs for row in top) == sum(macs_of(tree) for tree in found)
    assert sum(row.params for row in top) == sum(tree.params for tree in found)
    for row in rows_below(rows):
        assert sum(below.cost.macs for below in row.children) <= row.cost.macs
