from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from tests import oracles
from tests.pricing import cost

aten = torch.ops.aten
f64 = torch.float64
size = st.integers(1, 5)

# (why, in words; operator; arguments; expected)
ROWS = [
    (
        "2·3 outputs of 4 terms",
        aten.mm.default,
        (torch.ones(2, 4), torch.ones(4, 3)),
        Cost(macs=24),
    ),
    (
        "the product, and one add for each of 6 outputs",
        aten.addmm.default,
        (torch.ones(3), torch.ones(2, 4), torch.ones(4, 3)),
        Cost(macs=24, adds=6),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: object, args: tuple[object, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


@given(m=size, k=size, n=size)
def test_mm_is_the_triple_loop(m: int, k: int, n: int) -> None:
    a, b = torch.randn(m, k, dtype=f64), torch.randn(k, n, dtype=f64)
    tally = oracles.Tally()
    torch.testing.assert_close(oracles.matmul(tally, a, b), a @ b)
    assert cost(aten.mm.default, a, b) == tally.cost
