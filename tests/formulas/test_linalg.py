from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.linalg import rules
from flopdispatch.formulas.operators import overloads
from tests import oracles_linalg as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64, c64 = torch.float64, torch.complex64

EYE, TALL, WIDE = torch.eye(3), torch.rand(4, 2), torch.rand(2, 4)
LONG = torch.rand(3, 2)

LU_OF_3 = Cost(muls=2 + 4 + 1 + 1, adds=4 + 1, divs=3, comparisons=5 + 3 + 1)
QR_OF_3_BY_2 = Cost(muls=5 + 7 + 3, adds=4 + 6 + 3, divs=4, transcendentals=2, comparisons=2)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("2 and 1 elements scaled, 3 and 1 updated; 3 roots and reciprocals",
     aten.linalg_cholesky_ex.default, (EYE,),
     Cost(muls=2 + 1 + 3 + 1, adds=3 + 1, divs=3, transcendentals=3)),
    ("complex: 2 muls of 4 muls and 2 adds, 1 add, 2 divs of 6 muls, 3 adds, 2 divs",
     aten.linalg_cholesky_ex.default, (torch.eye(2, dtype=c64),),
     Cost(muls=2 * 4 + 2 * 6, adds=2 * 2 + 2 + 2 * 3, divs=4, transcendentals=2)),
    ("2 and 1 scaled, 4 and 1 updated; the largest of 3, of 2, of 1",
     aten.linalg_lu_factor_ex.default, (EYE,), LU_OF_3),
    ("4 by 2: 3 and 2 scaled, 3 updated; the largest of 4 and of 3", aten.linalg_lu.default,
     (TALL,), Cost(muls=3 + 2 + 3, adds=3, divs=2, comparisons=7 + 5)),
    ("2 by 4: 1 scaled, 3 updated; the largest of 2 and of 1", aten.linalg_lu.default,
     (WIDE,), Cost(muls=1 + 3, adds=3, divs=2, comparisons=3 + 1)),
    ("and 2 products", aten._linalg_det.default, (EYE,),
     Cost(muls=8 + 2, adds=5, divs=3, comparisons=9)),
    ("and 3 signs, 2 products of them, 3 magnitudes, 3 logarithms, 2 adds",
     aten._linalg_slogdet.default, (EYE,),
     Cost(muls=8 + 2, adds=5 + 2, divs=3, comparisons=9 + 3 + 3, transcendentals=3)),
    ("complex: a reciprocal and one candidate; |z|, re/|z|, im/|z| and a test for 0; |z|; a log",
     aten._linalg_slogdet.default, (torch.eye(1, dtype=c64),),
     Cost(muls=6 + 2 + 2, adds=3 + 1 + 1, divs=2 + 2, comparisons=1 + 1, transcendentals=3)),
    ("as Cholesky without roots; the largest of 3, of 2, of 1",
     aten.linalg_ldl_factor_ex.default, (EYE,),
     Cost(muls=7, adds=4, divs=3, comparisons=9)),
    ("a reflector of 3, on a column of 3, and a reflector of 2", aten.geqrf.default, (LONG,),
     QR_OF_3_BY_2),
    ("1 − τ and −τ·v of 2 and of 3, the latter's on a column of 3",
     aten.linalg_householder_product.default, (LONG, torch.rand(2)),
     Cost(muls=1 + 2 + 7, adds=1 + 1 + 6)),
    ("R and 2 columns", aten.linalg_qr.default, (LONG,),
     QR_OF_3_BY_2 + Cost(muls=10, adds=8)),
    ("R alone", aten.linalg_qr.default, (LONG, "r"), QR_OF_3_BY_2),
    ("R and 3 columns: a reflector of 2 on one more, of 3 on one more",
     aten.linalg_qr.default, (LONG, "complete"), QR_OF_3_BY_2 + Cost(muls=10 + 5 + 7, adds=18)),
    ("reflectors of 3 and 2 on 2 columns", aten.ormqr.default,
     (LONG, torch.rand(2), torch.rand(3, 2)), Cost(muls=2 * 7 + 2 * 5, adds=2 * 6 + 2 * 4)),
    ("reflectors of 3 and 2 on 2 rows: τ·v, of 3 and 2", aten.ormqr.default,
     (LONG, torch.rand(2), torch.rand(2, 3), False),
     Cost(muls=2 * 6 + 3 + 2 * 4 + 2, adds=2 * 6 + 2 * 4)),
    ("2 vectors of 3: x·v − y·u", aten.linalg_cross.default, (torch.rand(2, 3), torch.rand(2, 3)),
     Cost(muls=12, adds=6)),
    ("whole numbers: as many operations", aten.linalg_cross.default,
     (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)), Cost(int_ops=9)),
]  # fmt: skip

OLDER = overloads("cholesky.default")  # which newer ones lack
ROWS += [
    ("2 and 1 elements scaled, 3 and 1 updated; 3 roots and reciprocals; upper or lower", op,
     (EYE, True), Cost(muls=2 + 1 + 3 + 1, adds=3 + 1, divs=3, transcendentals=3)) for op in OLDER
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


def test_only_pivots_that_depend_on_the_matrix_are_an_estimate() -> None:
    assert price(aten.linalg_ldl_factor_ex.default, EYE).estimate
    assert not any(rule.estimate for rule in rules if "ldl" not in str(rule.overload))


size = st.integers(1, 5)


def regular(n: int) -> torch.Tensor:
    """Rows that must be exchanged, and no pivot near zero."""
    return torch.rand(n, n, dtype=f64) + n * torch.eye(n, dtype=f64).flip(0)


def definite(n: int) -> torch.Tensor:
    a = torch.rand(n, n, dtype=f64)
    return a @ a.mT + n * torch.eye(n, dtype=f64)


@given(n=size)
def test_cholesky_is_the_loop(n: int) -> None:
    a, tally = definite(n), Tally()
    torch.testing.assert_close(loops.cholesky(tally, a), torch.linalg.cholesky(a))
    assert cost(aten.linalg_cholesky_ex.default, a) == tally.cost


@given(n=st.integers(1, 40))
def test_cholesky_is_the_polynomial_of_working_note_41(n: int) -> None:
    flops = cost(aten.linalg_cholesky_ex.default, torch.eye(n)).flops
    assert 6 * flops == 2 * n**3 + 3 * n**2 + n


@given(m=size, n=size)
def test_lu_is_the_loop(m: int, n: int) -> None:
    a, tally = torch.rand(m, n, dtype=f64), Tally()
    value, order = loops.lu(tally, a)
    p, lower, upper = torch.linalg.lu(a)
    torch.testing.assert_close(torch.eye(m, dtype=f64)[order].mT, p)
    k = min(m, n)
    torch.testing.assert_close(
        value.tril(-1)[:, :k] + torch.eye(m, k, dtype=f64), lower, check_stride=False
    )
    torch.testing.assert_close(value.triu()[:k], upper, check_stride=False)
    assert cost(aten.linalg_lu.default, a) == tally.cost
    assert cost(aten.linalg_lu_factor_ex.default, a) == tally.cost


@given(n=size)
def test_lu_without_exchanges_is_the_loop_without_a_search(n: int) -> None:
    a, tally = definite(n), Tally()
    value, _ = loops.lu(tally, a, pivot=False)
    lower = value.tril(-1) + torch.eye(n, dtype=f64)
    torch.testing.assert_close(lower @ value.triu(), a)
    meta = a.to("meta")  # a CPU has no such kernel
    assert cost(aten.linalg_lu_factor_ex.default, meta, pivot=False) == tally.cost
    assert tally.cost.comparisons == 0


@given(n=st.integers(1, 40), more=st.integers(0, 9))
def test_lu_is_the_polynomial_of_working_note_41(n: int, more: int) -> None:
    m = n + more
    found = cost(aten.linalg_lu_factor_ex.default, torch.rand(m, n))
    assert 6 * (found.muls + found.divs) == 3 * m * n**2 - n**3 + 3 * m * n - 3 * n**2 + 4 * n
    assert 6 * found.adds == 3 * m * n**2 - n**3 - 3 * m * n + n


@given(n=size)
def test_a_determinant_is_the_loop(n: int) -> None:
    a, tally = regular(n), Tally()
    torch.testing.assert_close(loops.determinant(tally, a), torch.linalg.det(a).item())
    assert cost(aten._linalg_det.default, a) == tally.cost


@given(n=size)
def test_a_logarithm_of_a_determinant_is_the_loop(n: int) -> None:
    a, tally = regular(n), Tally()
    sign, logarithm = loops.log_determinant(tally, a)
    expected = torch.linalg.slogdet(a)
    torch.testing.assert_close((sign, logarithm), (expected[0].item(), expected[1].item()))
    assert cost(aten._linalg_slogdet.default, a) == tally.cost


@given(n=size)
def test_ldl_is_the_loop_where_nothing_is_exchanged(n: int) -> None:
    a, tally = 0.1 * definite(n) + n * torch.eye(n, dtype=f64), Tally()
    torch.testing.assert_close(loops.ldl(tally, a), torch.linalg.ldl_factor(a)[0].tril())
    assert cost(aten.linalg_ldl_factor_ex.default, a) == tally.cost


def up_to_sign(q: torch.Tensor, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of which R has a positive diagonal."""
    sign = torch.where(r.diagonal() < 0, -1.0, 1.0).to(f64)
    full = torch.ones(q.shape[1], dtype=f64)
    full[: len(sign)] = sign
    return q * full, r * full[: len(r), None]


@given(m=size, n=size, complete=st.booleans())
def test_qr_is_the_loop(m: int, n: int, complete: bool) -> None:
    a, tally = torch.rand(m, n, dtype=f64), Tally()
    k = min(m, n)
    r, taus, vs = loops.geqrf(tally, a)
    assert cost(aten.geqrf.default, a) == tally.cost
    assert cost(aten.linalg_qr.default, a, "r") == tally.cost
    q = loops.form_q(tally, m, m if complete else k, taus, vs)
    mode = "complete" if complete else "reduced"
    assert cost(aten.linalg_qr.default, a, mode) == tally.cost
    torch.testing.assert_close(q.mT @ q, torch.eye(q.shape[1], dtype=f64))
    expected = torch.linalg.qr(a)
    for value, known in zip(up_to_sign(q[:, :k], r), up_to_sign(expected[0], expected[1])):
        torch.testing.assert_close(value, known)


def packed(vs: list[loops.Row], m: int) -> torch.Tensor:
    """Reflectors as LAPACK stores them, below a diagonal of 1."""
    columns = [torch.tensor([0.0] * (m - len(v)) + [x.value for x in v]) for v in vs]
    return torch.stack(columns, 1).to(f64)


@given(m=size, n=size, k=size)
def test_columns_of_q_are_the_loop(m: int, n: int, k: int) -> None:
    n, k = min(m, n), min(m, n, k)
    _, taus, vs = loops.geqrf(Tally(), torch.rand(m, k, dtype=f64))
    tau, tally = torch.tensor([t.value for t in taus], dtype=f64), Tally()
    stored = torch.zeros(m, n, dtype=f64)
    stored[:, :k] = packed(vs, m)
    value = loops.form_q(tally, m, n, *loops.noted_in(tally, taus, vs))
    torch.testing.assert_close(value, torch.linalg.householder_product(stored, tau))
    assert cost(aten.linalg_householder_product.default, stored, tau) == tally.cost


@given(m=size, n=size, k=size, left=st.booleans())
def test_products_with_q_are_the_loop(m: int, n: int, k: int, left: bool) -> None:
    rows = m if left else n
    _, taus, vs = loops.geqrf(Tally(), torch.rand(rows, min(k, rows), dtype=f64))
    tau, tally = torch.tensor([t.value for t in taus], dtype=f64), Tally()
    a, c = packed(vs, rows), torch.rand(m, n, dtype=f64)
    value = (loops.q_times if left else loops.times_q)(tally, c, *loops.noted_in(tally, taus, vs))
    torch.testing.assert_close(value, torch.ormqr(a, tau, c, left=left))
    assert cost(aten.ormqr.default, a, tau, c, left) == tally.cost


@given(m=size, n=size, k=size)
def test_products_with_q_are_the_polynomial_of_working_note_41(m: int, n: int, k: int) -> None:
    k = min(k, m)
    found = cost(aten.ormqr.default, torch.rand(m, k), torch.rand(k), torch.rand(m, n))
    assert found.flops == n * k * (4 * m - 2 * k + 3)


@given(n=size)
def test_cross_is_the_loop(n: int) -> None:
    x, y, tally = torch.rand(n, 3, dtype=f64), torch.rand(n, 3, dtype=f64), Tally()
    torch.testing.assert_close(loops.cross(tally, x, y), torch.linalg.cross(x, y))
    assert cost(aten.linalg_cross.default, x, y) == tally.cost


@given(batch=st.integers(0, 3), m=size, n=size)
def test_batches_are_independent(batch: int, m: int, n: int) -> None:
    for op, one in (
        (aten.linalg_lu.default, torch.rand(m, n)),
        (aten.linalg_qr.default, torch.rand(m, n)),
        (aten.linalg_cholesky_ex.default, torch.eye(n)),
        (aten._linalg_det.default, torch.eye(n)),
        (aten._linalg_slogdet.default, torch.eye(n)),
    ):
        assert cost(op, one.expand(batch, *one.shape).clone()) == scaled(cost(op, one), batch)
    empty = torch.ones(batch, 0, 0)
    assert cost(aten._linalg_det.default, empty) == Cost()
    assert cost(aten.linalg_lu.default, empty) == Cost()
    assert cost(aten.linalg_qr.default, empty) == Cost()
