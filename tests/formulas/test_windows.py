from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.windows import rules
from tests.oracles import Scalar, Tally
from tests.oracles_pointwise import branch, function
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64
ONE, FOUR = torch.tensor(1.0), torch.tensor(4.0)


def bessel_i0(x: float) -> float:
    return float(torch.special.i0(torch.tensor(x, dtype=f64)))


def triangle(k: Scalar, n: int) -> Scalar:
    w = k * (2 / (n - 1))
    return w if branch(w, w.value < 1) else 2 - w


def cosine(alpha: float, beta: float) -> Callable[[Scalar, int], Scalar]:
    """α − β·cos(2πk/(n − 1)), Hann's and Hamming's."""
    return lambda k, n: alpha - (k * (2 * math.pi / (n - 1))).apply("cos") * beta


def blackman(k: Scalar, n: int) -> Scalar:
    first, second = k * (2 * math.pi / (n - 1)), k * (4 * math.pi / (n - 1))
    return second.apply("cos") * 0.08 - first.apply("cos") * 0.5 + 0.42


def kaiser(beta: float) -> Callable[[Scalar, int], Scalar]:
    total = bessel_i0(beta)

    def window(k: Scalar, n: int) -> Scalar:
        w = k * (2 / (n - 1)) - 1
        return function(bessel_i0)((1 - w * w).apply("sqrt") * beta) * (1 / total)

    return window


# Overload, the arguments after the window's length, the expression of element k of n.
WINDOWS: list[tuple[Any, tuple[Any, ...], Callable[[Scalar, int], Scalar]]] = [
    (aten.bartlett_window.default, (), triangle),
    (aten.bartlett_window.periodic, (False,), triangle),
    (aten.hann_window.default, (), cosine(0.5, 0.5)),
    (aten.hann_window.periodic, (False,), cosine(0.5, 0.5)),
    (aten.hamming_window.default, (), cosine(0.54, 0.46)),
    (aten.hamming_window.periodic, (False,), cosine(0.54, 0.46)),
    (aten.hamming_window.periodic_alpha, (False, 0.6), cosine(0.6, 0.46)),
    (aten.hamming_window.periodic_alpha_beta, (False, 0.6, 0.3), cosine(0.6, 0.3)),
    (aten.blackman_window.default, (), blackman),
    (aten.blackman_window.periodic, (False,), blackman),
    (aten.kaiser_window.default, (), kaiser(12.0)),
    (aten.kaiser_window.periodic, (False,), kaiser(12.0)),
    (aten.kaiser_window.beta, (False, 4.0), kaiser(4.0)),
]


def work(value: Cost) -> int:
    return value.flops + value.transcendentals + value.comparisons


@pytest.mark.parametrize(("op", "options", "expression"), WINDOWS)
@given(n=st.integers(2, 9))
def test_a_window_is_its_expression(
    op: Any, options: tuple[Any, ...], expression: Callable[[Scalar, int], Scalar], n: int
) -> None:
    periodic = not options  # over n + 1 elements, without the last
    tallies = [Tally() for _ in range(n)]
    values = [expression(t.scalar(k), n + periodic).value for k, t in enumerate(tallies)]
    found = op(n, *options, dtype=f64)
    torch.testing.assert_close(torch.tensor(values, dtype=f64), found, rtol=1e-6, atol=1e-7)
    costliest = max((tally.cost for tally in tallies), key=work)
    assert cost(op, n, *options, dtype=f64) == scaled(costliest, n)


def out_of(op: Any) -> Any:
    """The `out=` overload beside a window's."""
    name = op._overloadname
    return getattr(op._overloadpacket, "out" if name == "default" else f"{name}_out")


@pytest.mark.parametrize(("op", "options", "expression"), WINDOWS)
def test_a_window_into_a_tensor_is_the_window(
    op: Any, options: tuple[Any, ...], expression: Any
) -> None:
    found = price(out_of(op), 5, *options, out=torch.empty(5)).cost
    assert found == price(op, 5, *options).cost
    assert (found.bytes_read, found.bytes_written) == (0, 20)


# (why, in words; operator; arguments; bytes read)
POWERS: list[tuple[str, Any, tuple[Any, ...], int]] = [
    ("two numbers", aten.logspace.default, (0, 1, 5), 0),
    ("two tensors", aten.logspace.Tensor_Tensor, (ONE, FOUR, 5), 8),
    ("one tensor", aten.logspace.Tensor_Scalar, (ONE, 4, 5), 4),
    ("one tensor", aten.logspace.Scalar_Tensor, (1, FOUR, 5), 4),
]


@pytest.mark.parametrize(("why", "op", "args", "read"), POWERS)
def test_a_logarithmic_range_is_a_power_an_element(
    why: str, op: Any, args: tuple[Any, ...], read: int
) -> None:
    expected = Cost(transcendentals=5, bytes_read=read, bytes_written=20)
    assert price(op, *args).cost == expected, why
    assert price(out_of(op), *args, out=torch.empty(5)).cost == expected, why


@pytest.mark.parametrize(("why", "op", "args", "read"), POWERS)
def test_powers_are_cut_to_integers(why: str, op: Any, args: tuple[Any, ...], read: int) -> None:
    found = price(op, *args, dtype=torch.int64).cost
    assert found == Cost(transcendentals=5, bytes_read=read, bytes_written=40), why
    assert price(out_of(op), *args, out=torch.empty(5, dtype=torch.int64)).cost == found, why


def test_each_rule_has_a_row() -> None:
    known = {op for op, *_ in WINDOWS} | {op for _, op, *_ in POWERS}
    assert {rule.overload for rule in rules} == known | {out_of(op) for op in known}
