from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.profiler import profile

from flopdispatch import FlopCounter
from flopdispatch.cost import Cost
from flopdispatch.formulas.linalg_spectral import rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import spec
from tests.pricing import cost, cost_of_specs, price, scaled

aten = torch.ops.aten
f32, f64 = torch.float32, torch.float64

TWO, THREE = torch.eye(2), torch.eye(3)
TALL, LONG = torch.rand(4, 2), torch.rand(6, 3)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("9·27 = 243 FLOPs, the odd one a mul", aten._linalg_eigh.default, (THREE,),
     Cost(muls=122, adds=121)),
    ("4·27/3 = 36 FLOPs", aten._linalg_eigh.default, (THREE, "L", False),
     Cost(muls=18, adds=18)),
    ("25·8 = 200 FLOPs", aten.linalg_eig.default, (TWO,), Cost(muls=100, adds=100)),
    ("10·8 = 80 FLOPs", aten._linalg_eigvals.default, (TWO,), Cost(muls=40, adds=40)),
    ("2 by 2: 14·8 + 8·8 = 176 FLOPs, fewer than 6·8 + 20·8", aten._linalg_svd.default, (TWO,),
     Cost(muls=88, adds=88)),
    ("4 by 2: 6·16 + 20·8 = 256 FLOPs, fewer than 14·16 + 8·8", aten._linalg_svd.default,
     (TALL,), Cost(muls=128, adds=128)),
    ("2 by 4 is its transpose", aten._linalg_svd.default, (TALL.mT,),
     Cost(muls=128, adds=128)),
    ("all of U, 2 by 2: 4·8 + 8·8 + 9·8 = 168 FLOPs, fewer than 4·8 + 22·8",
     aten._linalg_svd.default, (TWO, True), Cost(muls=84, adds=84)),
    ("all of U, 4 by 2: 4·32 + 22·8 = 304 FLOPs, fewer than 4·32 + 8·16 + 9·8",
     aten._linalg_svd.default, (TALL, True), Cost(muls=152, adds=152)),
    ("values, 3 by 3: 4·27 − 4·27/3 = 72 FLOPs, fewer than 2·27 + 2·27",
     aten._linalg_svd.default, (THREE, False, False), Cost(muls=36, adds=36)),
    ("values, 6 by 3: 2·54 + 2·27 = 162 FLOPs, fewer than 4·54 − 4·27/3",
     aten._linalg_svd.default, (LONG, False, False), Cost(muls=81, adds=81)),
    ("SVD; 2 divs, 2 by 2 scaled, 2 by 2 times 2 by 4", aten.linalg_pinv.atol_rtol_tensor,
     (TALL,), Cost(macs=16, muls=128 + 4, adds=128, divs=2)),
    ("SVD; 2 divs, 4 by 2 scaled, 4 by 2 times 2 by 2", aten.linalg_pinv.atol_rtol_tensor,
     (TALL.mT,), Cost(macs=16, muls=128 + 8, adds=128, divs=2)),
    ("2 tensors of 4 elements, each from 3", aten._compute_linear_combination.default,
     (torch.rand(3, 2, 2), torch.rand(2, 3)), Cost(macs=2 * 4 * 3)),
]  # fmt: skip

POLAR, ROOT = overloads("linalg_polar.default"), overloads("linalg_matrix_sqrth.default")
ROWS += [
    ("SVD; 4 by 2 times 2 by 2; 2 by 2 scaled, times 2 by 2", op, (TALL,),
     Cost(macs=16 + 8, muls=128 + 4, adds=128)) for op in POLAR
]  # fmt: skip
ROWS += [
    ("9·8 = 72 FLOPs; 2 roots, 2 by 2 scaled, times 2 by 2", op, (TWO,),
     Cost(macs=8, muls=36 + 4, adds=36, transcendentals=2)) for op in ROOT
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


ON_A_GPU = overloads(
    "_native::linalg_polar_native_2.default", "_native::linalg_polar_out_native_3.default"
)
ELSEWHERE = {aten.linalg_eigvals.out, aten.linalg_matrix_exp.default, *ON_A_GPU}


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS} | ELSEWHERE


def test_eigenvalues_into_a_tensor_are_eigenvalues() -> None:
    out = torch.empty(2, dtype=torch.complex64)
    assert cost(aten.linalg_eigvals.out, TWO, out=out) == Cost(muls=40, adds=40)


@pytest.mark.parametrize("op", ON_A_GPU)
def test_a_kernel_for_gpus_costs_what_the_operator_does(op: Any) -> None:
    expected = cost(*POLAR, TALL)
    assert cost_of_specs(op, spec(4, 2), result=(spec(4, 2), spec(2, 2))) == expected


def test_a_hermitian_pseudoinverse_is_by_eigenvalues() -> None:
    found = cost(aten.linalg_pinv.atol_rtol_tensor, TWO, hermitian=True)
    assert found == Cost(macs=8, muls=36 + 4, adds=36, divs=2)


def test_what_iterates_is_an_estimate() -> None:
    for _, op, args, _ in ROWS:
        iterates = op is not aten._compute_linear_combination.default
        assert bool(price(op, *args).estimate) is iterates


@given(batch=st.integers(0, 3), m=st.integers(1, 5), n=st.integers(1, 5))
def test_batches_are_independent(batch: int, m: int, n: int) -> None:
    for op, one in (
        (aten._linalg_svd.default, torch.rand(m, n)),
        (aten.linalg_pinv.atol_rtol_tensor, torch.rand(m, n)),
        (aten._linalg_eigh.default, torch.eye(n)),
        (aten.linalg_eig.default, torch.eye(n)),
    ):
        assert cost(op, one.expand(batch, *one.shape).clone()) == scaled(cost(op, one), batch)


# The exponential of a matrix

# (degree, in words; dtype; norm of a 4x4; expected: products of 4·4·4 MACs, work on 16 elements)
EXPONENTIALS: list[tuple[str, torch.dtype, float, Cost]] = [
    ("1: 1 + A", f32, 0.0, Cost(adds=16)),
    ("2: A²; 1 + A + A²/2", f32, 1e-4, Cost(macs=64, adds=32, divs=16)),
    ("4: 2 products; combinations of 3 and 4", f32, 1e-2, Cost(macs=2 * 64 + 16 * 7)),
    ("8: 3 products; of 2, 2, 4 and 5", f32, 0.3, Cost(macs=3 * 64 + 16 * 13)),
    ("12: 4 products; 4 of 4, 3 sums", f32, 1.0, Cost(macs=4 * 64 + 16 * 16, adds=48)),
    ("18: 5 products; 5 of 5, 3 sums, A divided", f32, 3.0,
     Cost(macs=5 * 64 + 16 * 25, adds=48, divs=16)),
    ("18, one squaring: 3 < 6 < 6.02", f32, 6.0,
     Cost(macs=6 * 64 + 16 * 25, adds=48, divs=16)),
    ("18, 5 squarings: 3.01·16 < 50 < 3.01·32", f32, 50.0,
     Cost(macs=10 * 64 + 16 * 25, adds=48, divs=16)),
    ("12 in double precision", f64, 0.2, Cost(macs=4 * 64 + 16 * 16, adds=48)),
    ("18 in double precision", f64, 1.0, Cost(macs=5 * 64 + 16 * 25, adds=48, divs=16)),
]  # fmt: skip


def exponential(x: torch.Tensor) -> tuple[Cost, dict[Any, int]]:
    with FlopCounter(display=False) as counter:
        torch.linalg.matrix_exp(x)
    return counter.profile.total.moving(0, 0), dict(counter.profile.estimates)


@pytest.mark.parametrize(("why", "dtype", "norm", "expected"), EXPONENTIALS)
def test_the_norm_of_a_matrix_tells_its_exponential(
    why: str, dtype: torch.dtype, norm: float, expected: Cost
) -> None:
    assert exponential(norm * torch.eye(4, dtype=dtype)) == (expected, {}), why


@given(norm=st.sampled_from([0.0, 1e-9, 1e-5, 1e-3, 0.01, 0.2, 0.9, 2.0, 7.0, 99.0]),
       dtype=st.sampled_from([f32, f64]))  # fmt: skip
def test_products_of_an_exponential_are_those_that_torch_makes(
    norm: float, dtype: torch.dtype
) -> None:
    x = norm * torch.rand(5, 5, dtype=dtype)
    with profile(use_kineto=False) as ran:
        torch.linalg.matrix_exp(x)
    products = sum(event.name == "aten::bmm" for event in ran.function_events)
    weights = (0, 0, 7, 13, 16, 25)[min(products, 5)] * 25
    found, _ = exponential(x)
    assert found.macs == products * 125 + weights


def test_each_matrix_of_a_batch_has_its_own_norm() -> None:
    x = torch.stack([norm * torch.eye(4) for norm in (0.0, 1.0, 6.0)])
    expected = Cost(macs=10 * 64 + 16 * 41, adds=16 + 48 + 48, divs=16)
    assert exponential(x) == (expected, {})


def test_without_data_an_exponential_is_of_degree_18() -> None:
    found = Cost(macs=2 * (5 * 64 + 16 * 25), adds=2 * 48, divs=2 * 16)
    meta = torch.empty(2, 4, 4, device="meta")
    assert exponential(meta) == (found, {aten.linalg_matrix_exp.default: 1})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_exponential_of_one_number_is_one(device: str) -> None:
    assert exponential(torch.ones(3, 1, 1, device=device)) == (Cost(transcendentals=3), {})
