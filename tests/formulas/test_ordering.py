from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.ordering import ceil_log2, rules
from tests.pricing import cost, price, scaled

aten = torch.ops.aten

X = torch.rand(2, 5)  # 2 slices of 5, which halve 3 times; 10 halve 4 times
EDGES = torch.arange(7.0)  # 8 places, told by 3 comparisons

# (why, in words; operator; arguments; expected comparisons)
ROWS: list[tuple[str, Any, tuple[Any, ...], int]] = [
    ("10 elements, 3 merges", aten.sort.default, (X,), 10 * 3),
    ("10 elements, 1 merge", aten.sort.default, (X, 0), 10 * 1),
    ("a number alone", aten.sort.default, (X[0, 0],), 0),
    ("each looked at", aten.topk.default, (X, 2), 10),
    ("each looked at", aten.kthvalue.default, (X, 2), 10),
    ("each looked at", aten.median.default, (X,), 10),
    ("each looked at", aten.median.dim, (X, 1), 10),
    ("each looked at", aten.nanmedian.default, (X,), 10),
    ("each looked at", aten.nanmedian.dim, (X, 1), 10),
    ("10 elements, 3 merges, 2·4 neighbours", aten.mode.default, (X,), 30 + 8),
    ("10 elements, 1 merge, 5·1 neighbours", aten.mode.default, (X, 0), 10 + 5),
    ("10 elements, 4 merges, 9 neighbours", aten._unique.default, (X,), 40 + 9),
    ("10 elements, 4 merges, 9 neighbours", aten._unique2.default, (X,), 40 + 9),
    ("5 columns, 3 merges, 4 neighbours, of 2", aten.unique_dim.default, (X, 1), (15 + 4) * 2),
    ("2 rows, 1 merge, 1 neighbour, of 5", aten.unique_dim.default, (X, 0), (2 + 1) * 5),
    ("1 neighbour of 5", aten.unique_dim_consecutive.default, (X, 0), 5),
    ("9 neighbours", aten.unique_consecutive.default, (X,), 9),
    ("4 neighbours of 2", aten.unique_consecutive.default, (X, False, False, 1), 8),
    ("4 neighbours of 2", aten.unique_dim_consecutive.default, (X, 1), 8),
    ("10 queries", aten.searchsorted.Tensor, (EDGES, X), 10 * 3),
    ("one query", aten.searchsorted.Scalar, (EDGES, 2.5), 3),
    ("10 queries, each in its own 8 elements: 9 places", aten.searchsorted.Tensor,
     (torch.rand(2, 8).sort().values, X), 10 * 4),
    ("10 queries", aten.bucketize.Tensor, (X, EDGES), 10 * 3),
    ("one query", aten.bucketize.Scalar, (2.5, EDGES), 3),
    ("7 elements, 3 merges; 10 queries", aten.isin.Tensor_Tensor, (X, EDGES), 21 + 30),
    ("compared to bool", aten.isin.Tensor_Scalar, (X, 1.0), 0),
    ("compared to bool", aten.isin.Scalar_Tensor, (1.0, X), 0),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: int) -> None:
    assert cost(op, *args) == Cost(comparisons=expected), why


def test_a_stable_sort_is_a_sort() -> None:
    assert cost(aten.sort.stable, X, stable=True) == Cost(comparisons=30)


def test_a_histogram_places_each_element() -> None:
    # less the minimum, times bins over range, rounded down, one more in its bin
    placed = Cost(adds=10 + 10, muls=10, comparisons=10)
    assert cost(aten.histc.default, X, 4, 0.0, 2.0) == placed
    # where no range is given, the least and the largest of the 10 are found
    assert cost(aten.histc.default, X) == placed + Cost(comparisons=9 + 9)


def test_each_rule_has_a_row() -> None:
    proved = {op for _, op, _, _ in ROWS} | {aten.sort.stable, aten.histc.default}
    assert {rule.overload for rule in rules} == proved


def test_sorting_integers_is_integer_work() -> None:
    assert cost(aten.sort.default, torch.arange(4)) == Cost(int_ops=4 * 2)


@pytest.mark.parametrize("op", [aten.sort.default, aten.median.default, aten._unique2.default])
def test_what_depends_on_the_data_is_marked(op: Any) -> None:
    assert "order of magnitude" in price(op, X).estimate


def test_a_search_is_exact() -> None:
    assert price(aten.searchsorted.Tensor, EDGES, X).estimate == ""


@given(n=st.integers(1, 200))
def test_halving_ends_after_ceil_log2_steps(n: int) -> None:
    steps, left = 0, n
    while left > 1:
        left, steps = left - left // 2, steps + 1
    assert ceil_log2(n) == steps


def merge_sort(values: list[float]) -> tuple[list[float], int]:
    """Sorted, and how many comparisons that took."""
    if len(values) < 2:
        return values, 0
    (a, i), (b, j) = merge_sort(values[: len(values) // 2]), merge_sort(values[len(values) // 2 :])
    out, count = [], i + j
    while a and b:
        count += 1
        out.append(a.pop(0) if a[0] <= b[0] else b.pop(0))
    return out + a + b, count


@given(values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_a_merge_sort_takes_about_as_many(values: list[float]) -> None:
    x = torch.tensor(values)
    ordered, count = merge_sort(x.tolist())
    assert ordered == x.sort().values.tolist()
    bound = cost(aten.sort.default, x).comparisons
    assert count <= bound <= 2 * (count + len(values))


def place(edges: list[float], query: float) -> tuple[int, int]:
    """The number of edges below the query, and how many comparisons told."""
    low, high, count = 0, len(edges), 0
    while low < high:
        middle, count = (low + high) // 2, count + 1
        low, high = (middle + 1, high) if edges[middle] < query else (low, middle)
    return low, count


@given(n=st.integers(1, 40))
def test_a_search_is_the_bisection_of_its_worst_query(n: int) -> None:
    edges = [float(i) for i in range(n)]
    worst = 0
    for query in [i - 0.5 for i in range(n + 1)]:
        found, count = place(edges, query)
        assert found == torch.searchsorted(torch.tensor(edges), query).item()
        worst = max(worst, count)
    assert cost(aten.searchsorted.Scalar, torch.tensor(edges), 0.5).comparisons == worst
    assert cost(aten.bucketize.Scalar, 0.5, torch.tensor(edges)).comparisons == worst


@pytest.mark.parametrize("op", [aten.sort.default, aten.mode.default])
@given(slices=st.integers(1, 4))
def test_slices_are_independent(op: Any, slices: int) -> None:
    assert cost(op, torch.rand(slices, 6)) == scaled(cost(op, torch.rand(1, 6)), slices)
