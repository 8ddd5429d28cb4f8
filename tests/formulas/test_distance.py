from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.distance import rules
from tests import oracles_reduction as loops
from tests.oracles import Tally
from tests.pricing import cost, scaled

aten = torch.ops.aten
f64 = torch.float64

A, B = torch.rand(2, 5), torch.rand(3, 5)  # 6 pairs of 5 differences
PAIRS = torch.ones(2, 3)
C = A.to(torch.complex64)
ROWS_OF_4 = torch.rand(4, 5)  # again 6 pairs

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("10 differences and squares, 9 adds, a root", aten.dist.default, (A, A + 1),
     Cost(adds=10 + 9, muls=10, transcendentals=1)),
    ("10 differences: the row is broadcast", aten.dist.default, (A, A[0], 1),
     Cost(adds=10 + 9, comparisons=10)),
    ("10 complex: a difference of 2 adds, 2 squares and their sum; 9 adds, a root",
     aten.dist.default, (C, A), Cost(adds=20 + 10 + 9, muls=20, transcendentals=1)),
    ("10 complex: a difference, and the root of 2 squares and their sum; 9 maxima",
     aten.dist.default, (A, C, math.inf),
     Cost(adds=20 + 10, muls=20, transcendentals=10, comparisons=9)),
    ("30 differences and squares, 6·4 adds, 6 roots", aten._cdist_forward.default,
     (A, B, 2.0, None), Cost(adds=30 + 24, muls=30, transcendentals=6)),
    ("30 differences and absolute values, 6·4 maxima", aten._cdist_forward.default,
     (A, B, math.inf, None), Cost(adds=30, comparisons=30 + 24)),
    ("30 differences and squares, 6·4 adds, 6 roots", aten._pdist_forward.default,
     (ROWS_OF_4,), Cost(adds=30 + 24, muls=30, transcendentals=6)),
    ("5 rows squared and summed, 2·5 doubled, 6 pairs of 5 MACs, 2 adds, a bound, a root",
     aten._euclidean_dist.default, (A, B),
     Cost(macs=30, muls=25 + 10, adds=20 + 12, comparisons=6, transcendentals=6)),
    ("30 differences and MACs, 6 divisions", aten._cdist_backward.default,
     (PAIRS, A, B, 2.0, PAIRS), Cost(macs=30, adds=30, divs=6)),
    ("no gradient", aten._cdist_backward.default, (PAIRS, A, B, 0.0, PAIRS), Cost()),
    ("30 differences, muls and twice 30 adds, 6 divisions", aten._pdist_backward.default,
     (torch.ones(6), ROWS_OF_4, 2.0, torch.ones(6)), Cost(adds=30 + 60, muls=30, divs=6)),
    ("no gradient", aten._pdist_backward.default,
     (torch.ones(6), ROWS_OF_4, 0.0, torch.ones(6)), Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


size = st.integers(1, 4)
norms = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf])


@given(rows=size, others=size, d=size, p=norms)
def test_cdist_is_the_loop_over_pairs(rows: int, others: int, d: int, p: float) -> None:
    a, b, tally = torch.rand(rows, d, dtype=f64), torch.rand(others, d, dtype=f64), Tally()
    torch.testing.assert_close(loops.cdist(tally, a, b, p), torch.cdist(a, b, p))
    assert cost(aten._cdist_forward.default, a, b, p, None) == tally.cost


@given(rows=st.integers(2, 4), d=size, p=norms)
def test_pdist_is_the_loop_over_pairs(rows: int, d: int, p: float) -> None:
    x, tally = torch.rand(rows, d, dtype=f64), Tally()
    torch.testing.assert_close(loops.pdist(tally, x, p), torch.pdist(x, p))
    assert cost(aten._pdist_forward.default, x, p) == tally.cost


@given(rows=size, others=size, d=size)
def test_the_expanded_square_is_its_loop(rows: int, others: int, d: int) -> None:
    a, b, tally = torch.rand(rows, d, dtype=f64), torch.rand(others, d, dtype=f64), Tally()
    torch.testing.assert_close(loops.euclidean(tally, a, b), torch.cdist(a, b))
    assert cost(aten._euclidean_dist.default, a, b) == tally.cost


slopes = st.sampled_from([1.0, 2.0, 3.0, math.inf])


@given(rows=size, others=size, d=size, p=slopes)
def test_cdist_backward_is_the_loop(rows: int, others: int, d: int, p: float) -> None:
    a, b, tally = torch.rand(rows, d, dtype=f64), torch.rand(others, d, dtype=f64), Tally()
    grad = torch.rand(rows, others, dtype=f64)
    args = (grad, a, b, p, torch.cdist(a, b, p))
    torch.testing.assert_close(
        loops.cdist_backward(tally, grad, a, b, p), aten._cdist_backward.default(*args)
    )
    assert cost(aten._cdist_backward.default, *args) == tally.cost


@given(rows=st.integers(2, 4), d=size, p=slopes)
def test_pdist_backward_is_the_loop(rows: int, d: int, p: float) -> None:
    x, tally = torch.rand(rows, d, dtype=f64), Tally()
    distance = torch.pdist(x, p)
    grad = torch.rand(len(distance), dtype=f64)
    args = (grad, x, p, distance)
    torch.testing.assert_close(
        loops.pdist_backward(tally, grad, x, p), aten._pdist_backward.default(*args)
    )
    assert cost(aten._pdist_backward.default, *args) == tally.cost


@given(batch=size)
def test_batches_are_independent(batch: int) -> None:
    a, b = torch.rand(batch, 2, 5), torch.rand(batch, 3, 5)
    for op, rest in (
        (aten._cdist_forward.default, (2.0, None)),
        (aten._euclidean_dist.default, ()),
    ):
        assert cost(op, a, b, *rest) == scaled(cost(op, a[:1], b[:1], *rest), batch)
