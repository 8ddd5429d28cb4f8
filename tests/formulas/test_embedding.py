from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.embedding import rules
from tests import oracles_scatter as loops
from tests.oracles import Tally, tensor_of
from tests.pricing import cost, price

aten = torch.ops.aten
f64 = torch.float64

TABLE, IDS = torch.rand(7, 4), torch.tensor([1, 5, 1])
BAGGED, OFFSETS = torch.tensor([0, 2, 3, 6, 6]), torch.tensor([0, 2])  # 5 indices in 2 bags
SUM, MEAN, MAX = 0, 1, 2
SAMPLES = torch.rand(5)
GRAD = torch.rand(2, 4)


def bag_args(mode: int, weights: torch.Tensor | None = None) -> tuple[Any, ...]:
    return (TABLE, BAGGED, OFFSETS, False, mode, False, weights)


def gradient_args(mode: int, weights: torch.Tensor | None, by_frequency: bool) -> tuple[Any, ...]:
    _, of, sizes, longest = aten._embedding_bag_forward_only.default(*bag_args(mode))
    of = torch.tensor([0, 0, 1, 1, 1]) if not of.numel() else of
    return (GRAD, BAGGED, OFFSETS, of, sizes, longest, 7, by_frequency, mode, False, weights)


def sparse_args(mode: int, weights: torch.Tensor | None) -> tuple[Any, ...]:
    args = gradient_args(mode, weights, False)
    return (*args[:9], True, weights)


def dense_args(mode: int, weights: torch.Tensor | None, by_frequency: bool) -> tuple[Any, ...]:
    args = gradient_args(mode, weights, by_frequency)
    return (*args[:2], *args[3:9], weights)


# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("a look-up", aten.embedding.default, (TABLE, IDS), Cost()),
    ("3 rows of 4", aten.embedding_dense_backward.default,
     (torch.rand(3, 4), IDS, 7, -1, False), Cost(adds=12)),
    ("and scaled, by 3 frequencies", aten.embedding_dense_backward.default,
     (torch.rand(3, 4), IDS, 7, -1, True), Cost(adds=12, muls=12, divs=3)),
    ("3 rows: 4 squares, 3 adds, a root; + eps, limit over it, 4 muls",
     aten.embedding_renorm_.default, (TABLE.clone(), IDS, 0.1, 2.0),
     Cost(adds=9 + 3, muls=12 + 12, transcendentals=3, divs=3)),
    ("the same on a copy", aten.embedding_renorm.default, (TABLE, IDS, 0.1, 2.0),
     Cost(adds=9 + 3, muls=12 + 12, transcendentals=3, divs=3)),
    ("5 rows of 4 into 2", aten._embedding_bag.default, bag_args(SUM), Cost(adds=12)),
    ("and divided", aten._embedding_bag.default, bag_args(MEAN), Cost(adds=12, divs=8)),
    ("5 rows of 4 into 2", aten._embedding_bag.default, bag_args(MAX), Cost(comparisons=12)),
    ("5 weighted rows of 4", aten._embedding_bag.default, bag_args(SUM, SAMPLES), Cost(macs=20)),
    ("5 rows of 4 into 2", aten._embedding_bag_forward_only.default, bag_args(SUM),
     Cost(adds=12)),
    ("5 rows of 4", aten._embedding_bag_backward.default, gradient_args(SUM, None, False),
     Cost(adds=20)),
    ("5 rows of 4, 2 divided", aten._embedding_bag_backward.default,
     gradient_args(MEAN, None, False), Cost(adds=20, divs=8)),
    ("5 rows of 4 side by side", aten._embedding_bag_backward.default, sparse_args(SUM, None),
     Cost()),
    ("5 rows of 4 side by side, 2 divided", aten._embedding_bag_backward.default,
     sparse_args(MEAN, None), Cost(divs=8)),
    ("5 rows of 4 side by side, weighted", aten._embedding_bag_backward.default,
     sparse_args(SUM, SAMPLES), Cost(muls=20)),
    ("5 rows of 4, weighted", aten._embedding_bag_dense_backward.default,
     dense_args(SUM, SAMPLES, False), Cost(adds=20, muls=20)),
    ("5 rows of 4, by 5 frequencies", aten._embedding_bag_dense_backward.default,
     dense_args(SUM, None, True), Cost(adds=20, muls=20, divs=5)),
    ("one row of each bag, by element", aten._embedding_bag_dense_backward.default,
     dense_args(MAX, None, False), Cost(adds=8)),
    ("5 products of 4 terms", aten._embedding_bag_per_sample_weights_backward.default,
     (GRAD, TABLE, BAGGED, OFFSETS, torch.tensor([0, 0, 1, 1, 1]), SUM), Cost(macs=20)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


# (why, in words; operator; arguments; bytes read; bytes written)
BYTES: list[tuple[str, Any, tuple[Any, ...], int, int]] = [
    ("3 indices, 3 rows", aten.embedding.default, (TABLE, IDS), 24 + 48, 48),
    ("12 indices, the 7 rows that there are", aten.embedding.default, (TABLE, IDS.repeat(4)),
     96 + 7 * 16, 12 * 16),
    ("3 indices, 3 rows", aten.embedding_renorm_.default, (TABLE.clone(), IDS, 0.1, 2.0),
     24 + 48, 48),
    ("3 indices, the whole table", aten.embedding_renorm.default, (TABLE, IDS, 0.1, 2.0),
     24 + 7 * 16, 7 * 16),
    ("the gradient and the indices; the table", aten.embedding_dense_backward.default,
     (torch.rand(3, 4), IDS, 7, -1, False), 48 + 24, 7 * 16),
    ("5 rows, 5 indices, 2 offsets, 5 weights; 2 rows, 2 sizes, 2 maxima and their kin",
     aten._embedding_bag_forward_only.default, bag_args(SUM, SAMPLES), 80 + 40 + 16 + 20,
     sum(t.nbytes for t in aten._embedding_bag_forward_only.default(*bag_args(SUM, SAMPLES)))),
    ("2 gradients, 5 rows, indices and bags; 5 weights",
     aten._embedding_bag_per_sample_weights_backward.default,
     (GRAD, TABLE, BAGGED, OFFSETS, torch.tensor([0, 0, 1, 1, 1]), SUM), 32 + 80 + 40 + 40, 20),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "read", "written"), BYTES)
def test_only_rows_that_are_named_move(
    why: str, op: Any, args: tuple[Any, ...], read: int, written: int
) -> None:
    moved = price(op, *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


ids = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@given(rows=ids, d=st.integers(1, 4), by_frequency=st.booleans())
def test_embedding_backward_is_the_loop(rows: list[int], d: int, by_frequency: bool) -> None:
    grad, tally = torch.rand(len(rows), d, dtype=f64), Tally()
    args = (grad, torch.tensor(rows), 5, -1, by_frequency)
    torch.testing.assert_close(
        loops.table_gradient(tally, grad, rows, 5, by_frequency),
        aten.embedding_dense_backward.default(*args),
    )
    assert cost(aten.embedding_dense_backward.default, *args) == tally.cost


@given(
    rows=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    d=st.integers(1, 4), p=st.sampled_from([1.0, 2.0, 3.0]),
)  # fmt: skip
def test_renorm_of_different_long_rows_is_the_loop(rows: list[int], d: int, p: float) -> None:
    table, tally = torch.rand(5, d, dtype=f64) + 0.5, Tally()
    ours = loops.renormed(tally, table, rows, 0.1, p)
    args = (table, torch.tensor(rows), 0.1, p)
    assert cost(aten.embedding_renorm_.default, *args) == tally.cost
    torch.testing.assert_close(ours, table)


def test_renorm_is_marked_as_a_bound() -> None:
    assert "bound" in price(aten.embedding_renorm_.default, TABLE.clone(), IDS, 9.0, 2.0).estimate


@given(
    bags=st.lists(ids, min_size=1, max_size=3), d=st.integers(1, 3),
    mode=st.sampled_from(["sum", "mean", "max"]), weighted=st.booleans(),
)  # fmt: skip
def test_bags_and_their_gradients_are_the_loops(
    bags: list[list[int]], d: int, mode: str, weighted: bool
) -> None:
    table, tally = torch.rand(5, d, dtype=f64), Tally()
    flat = torch.tensor([row for rows in bags for row in rows])
    starts = torch.tensor([sum(len(rows) for rows in bags[:b]) for b in range(len(bags))])
    samples = None
    nested: list[list[float]] | None = None
    if weighted and mode == "sum":
        samples = torch.rand(len(flat), dtype=f64)
        nested = [part.tolist() for part in samples.split([len(rows) for rows in bags])]
    number = ("sum", "mean", "max").index(mode)
    args = (table, flat, starts, False, number, False, samples)
    torch.testing.assert_close(
        loops.bag(tally, table, bags, mode, nested), aten._embedding_bag.default(*args)[0]
    )
    assert cost(aten._embedding_bag.default, *args) == tally.cost

    tally, grad = Tally(), torch.rand(len(bags), d, dtype=f64)
    _, of, sizes, longest = aten._embedding_bag.default(*args)
    of = torch.tensor([b for b, rows in enumerate(bags) for _ in rows])
    backward = (grad, flat, of, sizes, longest, 5, False, number, samples)
    torch.testing.assert_close(
        loops.bag_table_gradient(tally, grad, table, bags, mode, nested),
        aten._embedding_bag_dense_backward.default(*backward),
    )
    assert cost(aten._embedding_bag_dense_backward.default, *backward) == tally.cost


@given(bags=st.lists(ids, min_size=1, max_size=3), d=st.integers(1, 3))
def test_the_gradient_of_sample_weights_is_a_product_per_index(
    bags: list[list[int]], d: int
) -> None:
    table, grad = torch.rand(5, d, dtype=f64), torch.rand(len(bags), d, dtype=f64)
    tally = Tally()
    a, g = tally.scalars(table), tally.scalars(grad)
    flat = [(b, row) for b, rows in enumerate(bags) for row in rows]
    ours = {
        (i,): tally.weighted_sum((g[b, k], a[row, k]) for k in range(d))
        for i, (b, row) in enumerate(flat)
    }
    starts = torch.tensor([sum(len(rows) for rows in bags[:b]) for b in range(len(bags))])
    index, of = torch.tensor([row for _, row in flat]), torch.tensor([b for b, _ in flat])
    samples = torch.ones(len(flat), dtype=f64, requires_grad=True)
    torch.nn.functional.embedding_bag(
        index, table, starts, mode="sum", per_sample_weights=samples
    ).backward(grad)
    assert samples.grad is not None
    torch.testing.assert_close(tensor_of(ours, (len(flat),)), samples.grad)
    op = aten._embedding_bag_per_sample_weights_backward.default
    assert cost(op, grad, table, index, starts, of, SUM) == tally.cost
