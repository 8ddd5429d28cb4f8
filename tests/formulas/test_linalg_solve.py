from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.linalg_solve import rules
from tests import oracles_linalg as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64

EYE, TWO, ONE = torch.eye(3), torch.rand(3, 2), torch.rand(3, 1)
PIVOTS = torch.tensor([1, 2, 3], dtype=torch.int32)
LONG, WIDE = torch.rand(3, 2), torch.rand(2, 3)

# QR of 3 by 2: a reflector of 3, on a column of 3, and a reflector of 2
QR_OF_3_BY_2 = Cost(muls=5 + 7 + 3, adds=4 + 6 + 3, divs=4, transcendentals=2, comparisons=2)
# Q times a column of 3, and a triangular system of 2
FIT = QR_OF_3_BY_2 + Cost(muls=7 + 5 + 1, adds=6 + 4 + 1, divs=2)
LU_OF_3 = Cost(muls=8, adds=5, divs=3, comparisons=9)

# (why, in words; operator; arguments; options; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("2 columns: 2 + 1 products taken off, 3 divisions", aten.linalg_solve_triangular.default,
     (EYE, TWO), {"upper": True}, Cost(muls=6, adds=6, divs=6)),
    ("2 rows on the other side", aten.linalg_solve_triangular.default,
     (EYE, TWO.mT), {"upper": False, "left": False}, Cost(muls=6, adds=6, divs=6)),
    ("a diagonal of 1", aten.linalg_solve_triangular.default, (EYE, TWO),
     {"upper": True, "unitriangular": True}, Cost(muls=6, adds=6)),
    ("4 systems with one matrix", aten.linalg_solve_triangular.default,
     (EYE, torch.rand(4, 3, 2)), {"upper": True}, Cost(muls=24, adds=24, divs=24)),
    ("2 columns: 2 + 1 products taken off, 3 divisions", aten.triangular_solve.default,
     (TWO, EYE), {}, Cost(muls=6, adds=6, divs=6)),
    ("a diagonal of 1", aten.triangular_solve.default, (TWO, EYE, True, False, True), {},
     Cost(muls=6, adds=6)),
    ("2 systems of 2 columns", aten.cholesky_solve.default, (TWO, EYE), {},
     Cost(muls=12, adds=12, divs=12)),
    ("2 systems of 2 columns", aten._cholesky_solve_helper.default, (TWO, EYE, False), {},
     Cost(muls=12, adds=12, divs=12)),
    ("2 systems of 2 columns, one with a diagonal of 1", aten.linalg_lu_solve.default,
     (EYE, PIVOTS, TWO), {}, Cost(muls=12, adds=12, divs=6)),
    ("2 systems with a diagonal of 1, 3 divisions between", aten.linalg_ldl_solve.default,
     (EYE, PIVOTS, ONE), {}, Cost(muls=6, adds=6, divs=3)),
    ("LU, then 2 systems of a column", aten._linalg_solve_ex.default, (EYE, ONE), {},
     LU_OF_3 + Cost(muls=6, adds=6, divs=3)),
    ("a vector is a column", aten._linalg_solve_ex.default, (EYE, ONE[:, 0]), {},
     LU_OF_3 + Cost(muls=6, adds=6, divs=3)),
    ("LU once, then 4 times 2 systems", aten._linalg_solve_ex.default,
     (EYE, torch.rand(4, 3, 1)), {}, LU_OF_3 + Cost(muls=24, adds=24, divs=12)),
    ("LU: 1 scaled, 1 updated, 3 + 1 comparisons; 2 reciprocals, 1 product scaled; 2 taken off",
     aten.linalg_inv_ex.default, (torch.eye(2),), {},
     Cost(muls=2 + 2 + 2, adds=1 + 2, divs=2 + 2, comparisons=4)),
    ("2 reciprocals, 1 product scaled; 2 + 1 + 1 products in 3 sums",
     aten.cholesky_inverse.default, (torch.eye(2),), {}, Cost(muls=2 + 4, adds=1, divs=2)),
    ("a column; the last element squared is what is left", aten.linalg_lstsq.default,
     (LONG, ONE), {"driver": "gels"}, FIT + Cost(muls=1)),
    ("a batch of vectors", aten.linalg_lstsq.default,
     (torch.rand(4, 3, 2), torch.rand(4, 3)), {"driver": "gels"},
     scaled(FIT + Cost(muls=1), 4)),
    ("QR once; 4 times the other steps", aten.linalg_lstsq.default,
     (LONG[None], torch.rand(4, 3, 1)), {"driver": "gels"},
     QR_OF_3_BY_2 + Cost(muls=4 * (7 + 5 + 1 + 1), adds=4 * (6 + 4 + 1), divs=4 * 2)),
    ("the transpose; nothing is left", aten.linalg_lstsq.default, (WIDE, torch.rand(2, 1)),
     {"driver": "gels"}, FIT),
    ("what is left isn't asked for", aten.linalg_lstsq.default, (LONG, ONE),
     {"driver": "gelsy"}, FIT),
    ("by default the same", aten.linalg_lstsq.default, (LONG, ONE), {}, FIT),
    ("4·3·4 + 8·8 = 112 FLOPs; 3·2 and 2·2 MACs and 2 divs; the last element squared",
     aten.linalg_lstsq.default, (LONG, ONE), {"driver": "gelsd"},
     Cost(macs=10, muls=56 + 1, adds=56, divs=2)),
    ("6 by 1: 2·6 + 11 = 23 FLOPs on R; 6 and 1 MACs, a div; 5 squares", aten.linalg_lstsq.default,
     (torch.rand(6, 1), torch.rand(6, 1)), {"driver": "gelss"},
     Cost(macs=7, muls=12 + 5, adds=11 + 4, divs=1)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "options", "expected"), ROWS)
@pytest.mark.filterwarnings("ignore:torch.triangular_solve")
def test_hand_arithmetic(
    why: str, op: Any, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    assert cost(op, *args, **options) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _, _ in ROWS}


@pytest.mark.parametrize("driver", [None, "gels", "gelsy", "gelsd", "gelss"])
def test_least_squares_are_an_estimate_but_for_gels(driver: str | None) -> None:
    found = price(aten.linalg_lstsq.default, LONG, ONE, driver=driver)
    assert bool(found.estimate) is (driver != "gels")


size = st.integers(1, 5)


def regular(n: int) -> torch.Tensor:
    """Rows that must be exchanged, and no pivot near zero."""
    return torch.rand(n, n, dtype=f64) + n * torch.eye(n, dtype=f64).flip(0)


def definite(n: int) -> torch.Tensor:
    a = torch.rand(n, n, dtype=f64)
    return a @ a.mT + n * torch.eye(n, dtype=f64)


@given(n=size, k=size, upper=st.booleans(), unit=st.booleans(), left=st.booleans())
def test_a_triangular_system_is_the_loop(
    n: int, k: int, upper: bool, unit: bool, left: bool
) -> None:
    a, b, tally = definite(n), torch.rand(n, k, dtype=f64), Tally()
    a = a.triu() if upper else a.tril()
    if unit:
        a.fill_diagonal_(1)
    value = loops.solve_triangular(tally, a, b, upper, unit)
    options = {"upper": upper, "unitriangular": unit}
    torch.testing.assert_close(value, torch.linalg.solve_triangular(a, b, **options))
    op = aten.linalg_solve_triangular.default
    assert cost(op, a, b, **options) == tally.cost
    assert cost(op, a.mT, b.mT, upper=not upper, left=False, unitriangular=unit) == tally.cost


@given(n=size, k=size)
def test_a_system_is_the_loop(n: int, k: int) -> None:
    a, b, tally = regular(n), torch.rand(n, k, dtype=f64), Tally()
    factors, order = loops.lu(tally, a)
    factored = tally.cost
    value = loops.lu_solve(tally, factors, b[order])
    torch.testing.assert_close(value, torch.linalg.solve(a, b))
    assert cost(aten._linalg_solve_ex.default, a, b) == tally.cost
    solved = cost(aten.linalg_lu_solve.default, *torch.linalg.lu_factor(a), b)
    assert factored + solved == tally.cost


@given(n=size, k=size)
def test_a_definite_system_is_the_loop(n: int, k: int) -> None:
    a, b, tally = definite(n), torch.rand(n, k, dtype=f64), Tally()
    lower = torch.linalg.cholesky(a)
    y = loops.solve_triangular(tally, lower, b, upper=False)
    value = loops.solve_triangular(tally, lower.mT, y, upper=True)
    torch.testing.assert_close(value, torch.cholesky_solve(b, lower))
    assert cost(aten.cholesky_solve.default, b, lower) == tally.cost
    assert tally.cost.flops == 2 * n**2 * k  # Working Note 41's POTRS


@given(n=size, k=size)
def test_a_symmetric_system_is_the_loop(n: int, k: int) -> None:
    a, tally = 0.1 * definite(n) + n * torch.eye(n, dtype=f64), Tally()
    b = torch.rand(n, k, dtype=f64)
    factors, pivots = torch.linalg.ldl_factor(a)
    value = loops.ldl_solve(tally, factors.tril(), b)
    torch.testing.assert_close(value, torch.linalg.solve(a, b))
    assert cost(aten.linalg_ldl_solve.default, factors, pivots, b) == tally.cost


@given(n=size)
def test_an_inverse_is_the_loop(n: int) -> None:
    a, tally = regular(n), Tally()
    torch.testing.assert_close(loops.invert(tally, a), torch.linalg.inv(a))
    assert cost(aten.linalg_inv_ex.default, a) == tally.cost


@given(n=st.integers(1, 40))
def test_an_inverse_is_two_n_cubed(n: int) -> None:
    flops = cost(aten.linalg_inv_ex.default, torch.eye(n)).flops
    assert 2 * flops == 4 * n**3 - 3 * n**2 + 3 * n


@given(n=size)
def test_an_inverse_from_cholesky_is_the_loop(n: int) -> None:
    lower, tally = torch.linalg.cholesky(definite(n)), Tally()
    value = loops.cholesky_inverse(tally, lower)
    torch.testing.assert_close(value, torch.cholesky_inverse(lower))
    assert cost(aten.cholesky_inverse.default, lower) == tally.cost


@given(n=st.integers(1, 40))
def test_an_inverse_from_cholesky_is_the_polynomial_of_working_note_41(n: int) -> None:
    flops = cost(aten.cholesky_inverse.default, torch.eye(n)).flops
    assert 6 * flops == 4 * n**3 + 3 * n**2 + 5 * n


@given(m=size, n=size, k=size)
def test_least_squares_are_the_loop(m: int, n: int, k: int) -> None:
    m, n = max(m, n), min(m, n)
    a, b, tally = torch.rand(m, n, dtype=f64), torch.rand(m, k, dtype=f64), Tally()
    r, taus, vs = loops.geqrf(tally, a)
    y = b
    for j in range(n):  # Qᵀ·B: the first reflector first
        y = loops.reflected(tally, y, j, vs[j], taus[j])
    value = loops.solve_triangular(tally, r, y[:n], upper=True)
    left = [tally.sum([x * x for x in column]) for column in loops.matrix(tally, y[n:].mT)]
    fit = torch.linalg.lstsq(a, b, driver="gels")
    torch.testing.assert_close(value, fit.solution)
    if m > n:
        torch.testing.assert_close([x.value for x in left], fit.residuals.tolist())
    assert cost(aten.linalg_lstsq.default, a, b, driver="gels") == tally.cost


@given(batch=st.integers(0, 3), n=size, k=size)
def test_batches_are_independent(batch: int, n: int, k: int) -> None:
    def several(x: torch.Tensor) -> torch.Tensor:
        return x.expand(batch, *x.shape).clone()

    a, b = torch.eye(n), torch.rand(n, k)
    for op, args in (
        (aten._linalg_solve_ex.default, (a, b)),
        (aten.cholesky_solve.default, (b, a)),
        (aten.linalg_inv_ex.default, (a,)),
        (aten.cholesky_inverse.default, (a,)),
    ):
        assert cost(op, *map(several, args)) == scaled(cost(op, *args), batch)
    assert cost(aten.linalg_inv_ex.default, torch.ones(batch, 0, 0)) == Cost()
    assert cost(aten._linalg_solve_ex.default, several(a[:0, :0]), several(b[:0])) == Cost()
