from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import matmul
from flopdispatch.spec import spec
from tests import oracles, oracles_matmul
from tests.pricing import cost, cost_of_specs, overload_of, price

aten = torch.ops.aten
f64 = torch.float64
bf16 = torch.bfloat16
int8 = torch.int8

size = st.integers(1, 4)
factor = st.sampled_from([0, 1, 0.5, -2])


def ones(*shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


def ends(*last: int) -> torch.Tensor:
    return torch.tensor(last, dtype=torch.int32)


# (why, in words; operator; arguments; keyword arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("2·3 outputs of 4 terms", "mm.default", (ones(2, 4), ones(4, 3)), {}, Cost(macs=24)),
    ("as mm", "mm.out", (ones(2, 4), ones(4, 3)), {"out": ones(2, 3)}, Cost(macs=24)),
    (
        "17·8 outputs of 16 terms, all integers: a MAC is two integer operations",
        "_int_mm.default",
        (ones(17, 16, dtype=int8), ones(16, 8, dtype=int8)),
        {},
        Cost(int_macs=2176, int_ops=4352),
    ),
    ("5 of 2·3·4", "bmm.default", (ones(5, 2, 4), ones(5, 4, 3)), {}, Cost(macs=120)),
    ("2 outputs of 4 terms", "mv.default", (ones(2, 4), ones(4)), {}, Cost(macs=8)),
    ("one output of 4 terms", "dot.default", (ones(4), ones(4)), {}, Cost(macs=4)),
    ("one output of 4 terms", "vdot.default", (ones(4), ones(4)), {}, Cost(macs=4)),
    (
        "each of 5 rows by the matrix of its group: 5·8 outputs of 4 terms",
        "_grouped_mm.default",
        (ones(5, 4), ones(2, 4, 8), ends(2, 5)),
        {},
        Cost(macs=160),
    ),
    (
        "each of 8 columns under the matrix of its group: 5·8 outputs of 4 terms",
        "_grouped_mm.default",
        (ones(3, 5, 4), ones(4, 8), ends(2, 5, 8)),
        {},
        Cost(macs=160),
    ),
    (
        "4·12 outputs in each of 3 groups, of 2, 3 and 3 terms",
        "_grouped_mm.default",
        (ones(4, 8), ones(8, 12), ends(2, 5, 8)),
        {},
        Cost(macs=384),
    ),
    (
        "3 products of 5·8 outputs of 4 terms",
        "_grouped_mm.default",
        (ones(3, 5, 4), ones(3, 4, 8)),
        {},
        Cost(macs=480),
    ),
    (
        "the product, and one add for each of 6 outputs",
        "addmm.default",
        (ones(3), ones(2, 4), ones(4, 3)),
        {},
        Cost(macs=24, adds=6),
    ),
    (
        "6 muls by alpha, 6 by beta",
        "addmm.default",
        (ones(3), ones(2, 4), ones(4, 3)),
        {"alpha": 2, "beta": 0.5},
        Cost(macs=24, adds=6, muls=12),
    ),
    (
        "beta = 0: nothing is added",
        "addmm.default",
        (ones(3), ones(2, 4), ones(4, 3)),
        {"beta": 0},
        Cost(macs=24),
    ),
    ("as addmm", "addmm_.default", (ones(2, 3), ones(2, 4), ones(4, 3)), {}, Cost(macs=24, adds=6)),
    (
        "as addmm",
        "addmm.out",
        (ones(3), ones(2, 4), ones(4, 3)),
        {"out": ones(2, 3), "alpha": 2},
        Cost(macs=24, adds=6, muls=6),
    ),
    (
        "5 of 2·3·4, and one add for each of 30 outputs",
        "baddbmm.default",
        (ones(3), ones(5, 2, 4), ones(5, 4, 3)),
        {},
        Cost(macs=120, adds=30),
    ),
    (
        "as baddbmm; 30 muls by beta",
        "baddbmm_.default",
        (ones(5, 2, 3), ones(5, 2, 4), ones(5, 4, 3)),
        {"beta": 3},
        Cost(macs=120, adds=30, muls=30),
    ),
    (
        "6 outputs of 5·4 terms, and an add for each",
        "addbmm.default",
        (ones(3), ones(5, 2, 4), ones(5, 4, 3)),
        {},
        Cost(macs=120, adds=6),
    ),
    (
        "2 outputs of 4 terms, an add and two muls for each",
        "addmv.default",
        (ones(2), ones(2, 4), ones(4)),
        {"alpha": 2, "beta": 2},
        Cost(macs=8, adds=2, muls=4),
    ),
    (
        "2·3 products of two factors, each added",
        "addr.default",
        (ones(3), ones(2), ones(3)),
        {},
        Cost(muls=6, adds=6),
    ),
    (
        "addmm, and each of 6 outputs compared with 0",
        "_addmm_activation.default",
        (ones(3), ones(2, 4), ones(4, 3)),
        {},
        Cost(macs=24, adds=6, comparisons=6),
    ),
    (
        "addmm; x/2·(1 + erf(x·√½)) is 3 muls, an add and an erf for each of 6 outputs",
        "_addmm_activation.default",
        (ones(3), ones(2, 4), ones(4, 3)),
        {"use_gelu": True},
        Cost(macs=24, adds=6 + 6, muls=18, transcendentals=6),
    ),
    (
        "two products of 2·3 and 2·5 outputs of 4 terms",
        "_foreach_mm.default",
        ([ones(2, 4), ones(2, 4)], [ones(4, 3), ones(4, 5)]),
        {},
        Cost(macs=64),
    ),
    (
        "2·5·4 sums over 3 terms, then 2·5 sums over 4",
        "_trilinear.default",
        (ones(2, 3), ones(5, 3, 4), ones(2, 4), [1, 3], [0], [1, 2], [2, 3]),
        {},
        Cost(macs=120 + 40),
    ),
    (
        "2·5·3 plain products, then 5·3·4 sums over 2 terms",
        "_trilinear.default",
        (ones(2, 3), ones(2, 5), ones(2, 4), [1, 3], [2, 3], [1, 2], [0]),
        {},
        Cost(muls=30, macs=120),
    ),
]

# The same, with the result, for operators that have no kernel here.
SPEC_ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Any, Cost]] = [
    (
        "as mm",
        "mm.dtype",
        (spec(2, 4, dtype=bf16), spec(4, 3, dtype=bf16), torch.float32),
        {},
        spec(2, 3),
        Cost(macs=24),
    ),
    (
        "as bmm",
        "bmm.dtype",
        (spec(5, 2, 4, dtype=bf16), spec(5, 4, 3, dtype=bf16), torch.float32),
        {},
        spec(5, 2, 3),
        Cost(macs=120),
    ),
    (
        "as addmm",
        "addmm.dtype",
        (spec(3), spec(2, 4, dtype=bf16), spec(4, 3, dtype=bf16), torch.float32),
        {},
        spec(2, 3),
        Cost(macs=24, adds=6),
    ),
    (
        "as baddbmm",
        "baddbmm.dtype",
        (spec(3), spec(5, 2, 4, dtype=bf16), spec(5, 4, 3, dtype=bf16), torch.float32),
        {},
        spec(5, 2, 3),
        Cost(macs=120, adds=30),
    ),
    (
        "3·5 outputs of 4 terms, each added to",
        "mkldnn_linear.default",
        (spec(3, 4), spec(5, 4), spec(5)),
        {},
        spec(3, 5),
        Cost(macs=60, adds=15),
    ),
    (
        "without a bias nothing is added",
        "mkldnn_linear.default",
        (spec(2, 3, 4), spec(5, 4)),
        {},
        spec(2, 3, 5),
        Cost(macs=120),
    ),
    (
        "as mkldnn_linear",
        "linear.default",
        (spec(3, 4), spec(5, 4), spec(5)),
        {},
        spec(3, 5),
        Cost(macs=60, adds=15),
    ),
    (
        "6·4 outputs of 5 terms and 5·4 of 6; 5 sums of 6 terms",
        "linear_backward.default",
        (spec(2, 3, 4), spec(2, 3, 5), spec(5, 4), (True, True, True)),
        {},
        (spec(2, 3, 4), spec(5, 4), spec(5)),
        Cost(macs=240, adds=25),
    ),
    (
        "an empty batch has nothing to sum",
        "linear_backward.default",
        (spec(0, 4), spec(0, 5), spec(5, 4), (True, True, True)),
        {},
        (spec(0, 4), spec(5, 4), spec(5)),
        Cost(),
    ),
    (
        "the weight's gradient alone: 5·4 outputs of 3 terms",
        "mkldnn_linear_backward.default",
        (spec(3, 4), spec(3, 5), spec(5, 4), (False, True, False)),
        {},
        (None, spec(5, 4), None),
        Cost(macs=60),
    ),
    (
        "grad @ other.T and self.T @ grad, 2·3·4 MACs in each of 5",
        "matmul_backward.default",
        (spec(5, 2, 3), spec(5, 2, 4), spec(5, 4, 3), (True, True)),
        {},
        (spec(5, 2, 4), spec(5, 4, 3)),
        Cost(macs=240),
    ),
    (
        "self's alone",
        "matmul_backward.default",
        (spec(5, 2, 3), spec(5, 2, 4), spec(5, 4, 3), (True, False)),
        {},
        (spec(5, 2, 4), None),
        Cost(macs=120),
    ),
    (
        "5 rows of 4 by (4, 8), and an add for each of 40 outputs",
        "_grouped_mm.default",
        (spec(5, 4), spec(2, 4, 8), spec(2), spec(8)),
        {},
        spec(5, 8),
        Cost(macs=160, adds=40),
    ),
]


@pytest.mark.parametrize(("why", "name", "args", "kwargs", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], expected: Cost
) -> None:
    assert cost(overload_of(name), *args, **kwargs) == expected, why


@pytest.mark.parametrize(("why", "name", "args", "kwargs", "result", "expected"), SPEC_ROWS)
def test_hand_arithmetic_from_specs(
    *, why: str, name: str, args: tuple[Any, ...], kwargs: Any, result: Any, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result, **kwargs) == expected, why


def test_every_rule_has_a_row() -> None:
    rows = {row[1] for row in ROWS} | {row[1] for row in SPEC_ROWS}
    assert {str(rule.overload).removeprefix("aten.") for rule in matmul.rules} <= rows


def test_complex_products_count_four_real_ones() -> None:
    a, b = ones(4, 5, dtype=torch.complex64), ones(5, 6, dtype=torch.complex64)
    assert cost(aten.mm.default, a, b).flops == 4 * 5 * 6 * 4 * 2  # 960


def test_integer_products_are_no_flops() -> None:
    a, b = ones(4, 5, dtype=torch.int64), ones(5, 6, dtype=torch.int64)
    assert cost(aten.mm.default, a, b) == Cost(int_macs=120, int_ops=240)


def test_an_out_variant_of_a_backward_costs_the_same() -> None:
    row = ((spec(3, 4), spec(3, 5), spec(5, 4), (True, True, True)),)
    result = (spec(3, 4), spec(5, 4), spec(5))
    outs = {f"out{i}": out for i, out in enumerate(result)}
    functional = cost_of_specs(aten.linear_backward.default, *row[0], result=result)
    assert cost_of_specs(aten.linear_backward.out, *row[0], result=result, **outs) == functional


def test_grouped_products_are_marked_as_estimates() -> None:
    priced = price(overload_of("_grouped_mm.default"), ones(5, 4), ones(2, 4, 8), ends(2, 5))
    assert priced.estimate == "every row is taken to belong to a group"


# Loops


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=f64)


@given(m=size, k=size, n=size)
def test_mm_is_the_triple_loop(m: int, k: int, n: int) -> None:
    a, b = randn(m, k), randn(k, n)
    tally = oracles.Tally()
    torch.testing.assert_close(oracles.matmul(tally, a, b), a @ b)
    assert cost(aten.mm.default, a, b) == tally.cost


@given(m=size, k=size)
def test_mv_and_dot_are_products_of_one_column_and_one_row(m: int, k: int) -> None:
    a, b = randn(m, k), randn(k)
    tally = oracles.Tally()
    torch.testing.assert_close(oracles.matmul(tally, a, b[:, None])[:, 0], a @ b)
    assert cost(aten.mv.default, a, b) == tally.cost
    tally = oracles.Tally()
    torch.testing.assert_close(oracles.matmul(tally, a[:1], b[:, None])[0, 0], a[0] @ b)
    assert cost(aten.dot.default, a[0], b) == tally.cost
    assert cost(aten.vdot.default, a[0], b) == tally.cost


@given(batch=size, m=size, k=size, n=size, beta=factor, alpha=factor)
def test_added_products_are_their_loops(
    *, batch: int, m: int, k: int, n: int, beta: float, alpha: float
) -> None:
    a, b = randn(batch, m, k), randn(batch, k, n)
    matrix, matrices, vector = randn(m, n), randn(batch, m, n), randn(m)
    rows, columns = a[0], b[0]

    def check(op: Any, added: torch.Tensor, x: torch.Tensor, y: torch.Tensor, loop: Any) -> None:
        tally = oracles.Tally()
        expected = oracles_matmul.scaled_sum(tally, loop(tally, x, y), added, beta, alpha)
        torch.testing.assert_close(op(added, x, y, beta=beta, alpha=alpha), expected)
        assert cost(op, added, x, y, beta=beta, alpha=alpha) == tally.cost

    def one(tally: oracles.Tally, x: torch.Tensor, y: torch.Tensor) -> Any:
        return {
            index[1:]: v for index, v in oracles_matmul.batched(tally, x[None], y[None]).items()
        }

    def column(tally: oracles.Tally, x: torch.Tensor, y: torch.Tensor) -> Any:
        return {index[:1]: v for index, v in one(tally, x, y[:, None]).items()}

    check(aten.addmm.default, matrix, rows, columns, one)
    check(aten.baddbmm.default, matrices, a, b, oracles_matmul.batched)
    check(aten.addbmm.default, matrix, a, b, oracles_matmul.summed_batches)
    check(aten.addmv.default, vector, rows, columns[:, 0].clone(), column)
    check(aten.addr.default, matrix, rows[:, 0].clone(), columns[0], oracles_matmul.outer)


@given(batch=size, m=size, k=size, n=size)
def test_bmm_is_its_loop(batch: int, m: int, k: int, n: int) -> None:
    a, b = randn(batch, m, k), randn(batch, k, n)
    tally = oracles.Tally()
    out = oracles.tensor_of(oracles_matmul.batched(tally, a, b), (batch, m, n))
    torch.testing.assert_close(out, a @ b)
    assert cost(aten.bmm.default, a, b) == tally.cost


@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=3), m=size)
def test_grouped_products_are_their_loops(sizes: list[int], m: int) -> None:
    op = overload_of("_grouped_mm.default")
    last = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    groups, t, k, n = len(sizes), last[-1], 4, 8  # rows of 16 bytes

    def check(a: torch.Tensor, b: torch.Tensor, loop: Any) -> None:
        tally = oracles.Tally()
        out = loop(tally, a, b, last)
        torch.testing.assert_close(op(a, b, ends(*last)).double(), out, rtol=1e-4, atol=1e-5)
        assert cost(op, a, b, ends(*last)) == tally.cost

    if t > 0:
        check(torch.randn(t, k), torch.randn(groups, k, n), oracles_matmul.grouped_rows)
        inner = torch.randn(t, m).t(), torch.randn(t, n)  # either order of strides is taken
        if m % 4 == 0:
            check(*inner, oracles_matmul.grouped_inner)
        if t % 4 == 0:
            matrices = torch.randn(groups, m, k)
            check(matrices, torch.randn(k, t), oracles_matmul.grouped_columns)


@given(b=size, i=size, o=size, j=size)
def test_bilinear_is_its_loop(b: int, i: int, o: int, j: int) -> None:
    x, w, y, grad = randn(b, i), randn(o, i, j), randn(b, j), randn(b, o)
    tally = oracles.Tally()
    out = oracles_matmul.bilinear(tally, x, w, y)
    torch.testing.assert_close(torch.nn.functional.bilinear(x, y, w), out)
    args = (x, w, y, [1, 3], [0], [1, 2], [2, 3])
    assert cost(aten._trilinear.default, *args) == tally.cost

    tally = oracles.Tally()
    out = oracles_matmul.bilinear_weight_gradient(tally, x, grad, y)
    torch.testing.assert_close(torch.einsum("bo,bi,bj->oij", grad, x, y), out)
    args = (x, grad, y, [1, 3], [2, 3], [1, 2], [0])
    torch.testing.assert_close(aten._trilinear.default(*args), out)
    assert cost(aten._trilinear.default, *args) == tally.cost


@given(rows=size, k=size, n=size)
def test_linear_backward_is_its_loop(rows: int, k: int, n: int) -> None:
    x, w, grad = randn(rows, k).requires_grad_(), randn(n, k).requires_grad_(), randn(rows, n)
    bias = randn(n).requires_grad_()
    tally = oracles.Tally()
    gradients = oracles_matmul.linear_gradients(tally, grad, x.detach(), w.detach())
    torch.nn.functional.linear(x, w, bias).backward(grad)
    for parameter, gradient in zip((x, w, bias), gradients):
        torch.testing.assert_close(parameter.grad, gradient)
    args = (spec(rows, k), spec(rows, n), spec(n, k), (True, True, True))
    result = (spec(rows, k), spec(n, k), spec(n))
    assert cost_of_specs(aten.linear_backward.default, *args, result=result) == tally.cost


@given(m=size, k=size, n=size)
def test_meta_costs_what_cpu_costs(m: int, k: int, n: int) -> None:
    cpu = ones(n), ones(m, k), ones(k, n)
    meta = [t.to("meta") for t in cpu]
    assert cost(aten.addmm.default, *meta) == cost(aten.addmm.default, *cpu)
