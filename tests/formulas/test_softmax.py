from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.softmax import rules
from tests import oracles_normalization as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64
size = st.integers(1, 5)

x23 = torch.randn(2, 3)
no_mask = torch.zeros(2, 3, dtype=torch.bool)
FORWARD = Cost(comparisons=2 * 2, adds=2 * (3 + 2), transcendentals=6, divs=6)
BACKWARD = Cost(muls=6 + 6, adds=2 * 2 + 6)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    (
        "2 rows of 3: 2 comparisons, 3 subtractions, 3 exp, 2 additions, 3 divisions each",
        aten._softmax.default,
        (x23, 1, False),
        FORWARD,
    ),
    ("clearing rows of -inf selects", aten._safe_softmax.default, (x23, -1), FORWARD),
    ("masking selects", aten._masked_softmax.default, (x23, no_mask, 1), FORWARD),
    ("without a dim: the last", aten._masked_softmax.default, (x23, no_mask), FORWARD),
    (
        "along 0: 3 rows of 2",
        aten._masked_softmax.default,
        (x23, no_mask, 0),
        Cost(comparisons=3, adds=3 * (2 + 1), transcendentals=6, divs=6),
    ),
    (
        "along 0: 3 rows of 2",
        aten._masked_softmax_backward.default,
        (x23, x23, no_mask, 0),
        Cost(muls=6 + 6, adds=3 * 1 + 6),
    ),
    (
        "along 0: 3 rows of 2: one comparison, 2 subtractions, 2 exp, one addition, 2 divisions",
        aten._softmax.default,
        (x23, 0, False),
        Cost(comparisons=3, adds=3 * (2 + 1), transcendentals=6, divs=6),
    ),
    (
        "2 rows of 3: 3 products and 2 additions, then 3 subtractions and 3 products",
        aten._softmax_backward_data.default,
        (x23, x23, 1, torch.float32),
        BACKWARD,
    ),
    ("as softmax's", aten._masked_softmax_backward.default, (x23, x23, no_mask, 1), BACKWARD),
    (
        "without a dim: the last",
        aten._masked_softmax_backward.default,
        (x23, x23, no_mask),
        BACKWARD,
    ),
    (
        "2 rows of 3: 2 comparisons, 3 subtractions, 3 exp, 2 additions, a log, 3 subtractions",
        aten._log_softmax.default,
        (x23, 1, False),
        Cost(comparisons=4, adds=2 * (3 + 2 + 3), transcendentals=2 * (3 + 1)),
    ),
    (
        "2 rows of 3: 2 additions, 3 exp, 3 products, 3 subtractions",
        aten._log_softmax_backward_data.default,
        (x23, x23, 1, torch.float32),
        Cost(adds=2 * (2 + 3), transcendentals=6, muls=6),
    ),
    (
        "2 rows of 3: 2 comparisons, 3 subtractions, 3 exp, 2 additions, a log, one addition",
        aten.logsumexp.default,
        (x23, [1]),
        Cost(comparisons=4, adds=2 * (3 + 2 + 1), transcendentals=2 * (3 + 1)),
    ),
    (
        "no dimension named: one row of 6",
        aten.logsumexp.default,
        (x23.to("meta"), []),
        Cost(comparisons=5, adds=6 + 5 + 1, transcendentals=6 + 1),
    ),
    (
        "a tensor without dimensions: a row of 1",
        aten._softmax.default,
        (torch.tensor(2.0), 0, False),
        Cost(adds=1, transcendentals=1, divs=1),
    ),
    (
        "of one number: one subtraction, exp, log, one addition",
        aten.logsumexp.default,
        (torch.tensor(2.0), [0]),
        Cost(adds=2, transcendentals=2),
    ),
    ("empty rows cost nothing", aten._softmax.default, (torch.ones(4, 0), 1, False), Cost()),
    ("nor have they a log", aten._log_softmax.default, (torch.ones(4, 0), 1, False), Cost()),
    ("half, kept in float", aten._softmax.default, (x23.half(), 1, False), FORWARD),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_every_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


def test_it_is_a_family_of_its_own() -> None:
    priced = price(aten._softmax.default, x23, 1, False)
    assert (priced.family, priced.state) == ("softmax", "counted")
    assert (priced.cost.bytes_read, priced.cost.bytes_written) == (6 * 4, 6 * 4)


@given(a=size, b=size, c=size, dim=st.sampled_from([-3, -2, -1, 0, 1, 2]))
def test_softmax_is_the_loop_over_rows(a: int, b: int, c: int, dim: int) -> None:
    x = torch.randn(a, b, c, dtype=f64)
    rows = x.movedim(dim, -1).flatten(0, 1)
    for op, loop in [
        (aten._softmax.default, loops.softmax),
        (aten._log_softmax.default, loops.log_softmax),
    ]:
        tally = Tally()
        y = op(x, dim, False)
        found = loops.back(loop(tally, loops.rows_of(tally, rows)))
        torch.testing.assert_close(found, y.movedim(dim, -1).flatten(0, 1))
        assert cost(op, x, dim, False) == tally.cost


@given(a=size, b=size, c=size, dim=st.sampled_from([-3, -2, -1, 0, 1, 2]))
def test_backwards_are_the_loops_over_rows(a: int, b: int, c: int, dim: int) -> None:
    x, dy = torch.randn(a, b, c, dtype=f64), torch.randn(a, b, c, dtype=f64)
    for forward, op, loop in [
        (aten._softmax, aten._softmax_backward_data.default, loops.softmax_backward),
        (aten._log_softmax, aten._log_softmax_backward_data.default, loops.log_softmax_backward),
    ]:
        y = forward(x, dim, False)
        tally = Tally()
        dy_rows, y_rows = (loops.rows_of(tally, t.movedim(dim, -1).flatten(0, 1)) for t in (dy, y))
        expected = op(dy, y, dim, f64).movedim(dim, -1).flatten(0, 1)
        torch.testing.assert_close(loops.back(loop(tally, dy_rows, y_rows)), expected)
        assert cost(op, dy, y, dim, f64) == tally.cost


@given(a=size, b=size, c=size, dims=st.sampled_from([(0,), (-1,), (0, 2), (1, -3), (0, 1, 2)]))
def test_logsumexp_is_the_loop_over_rows(a: int, b: int, c: int, dims: tuple[int, ...]) -> None:
    x = torch.randn(a, b, c, dtype=f64)
    kept = [d for d in range(3) if d not in {e % 3 for e in dims}]
    order = kept + [d for d in range(3) if d not in kept]
    count = x.permute(order).flatten(0, len(kept) - 1).shape[0] if kept else 1
    tally = Tally()
    found = loops.logsumexp(tally, loops.rows_of(tally, x.permute(order).reshape(count, -1)))
    torch.testing.assert_close(loops.flat(found), aten.logsumexp(x, list(dims)).flatten())
    assert cost(aten.logsumexp.default, x, list(dims)) == tally.cost


@given(r=size, n=size, times=st.integers(2, 4))
def test_softmax_is_linear_in_its_rows_and_the_same_on_meta(r: int, n: int, times: int) -> None:
    once, more = torch.ones(r, n), torch.ones(times * r, n)
    for op in (aten._softmax.default, aten._log_softmax.default):
        assert cost(op, more, 1, False) == scaled(cost(op, once, 1, False), times)
        assert cost(op, more.to("meta"), 1, False) == cost(op, more, 1, False)
