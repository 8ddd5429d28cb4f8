from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import pointwise
from flopdispatch.formulas.operators import overloads
from tests.oracles_pointwise import POLYNOMIALS, SPECIAL
from tests.pointwise_cases import registered
from tests.pricing import cost, price

aten = torch.ops.aten
X, Y, U = torch.randn(2, 3), torch.randn(2, 3), torch.rand(2, 3)
Z = torch.randn(2, 3, dtype=torch.complex64)
N, K = torch.full((2, 3), 12), torch.full((2, 3), 2)
M = torch.ones(2, 3, dtype=torch.bool)

ONCE = Cost(transcendentals=6)
CHOICE = Cost(comparisons=6)
BITS = Cost(int_ops=6)
ROUNDED = Cost(divs=6, comparisons=6)
REST = Cost(divs=6, comparisons=6, muls=6, adds=6)
XLOGY = Cost(comparisons=6, transcendentals=6, muls=6)

# (why, in words; operators; arguments, the result of six elements; expected)
ROWS = [
    ("one add each", "add.Tensor sub.Tensor rsub.Tensor", (X, Y), Cost(adds=6)),
    ("one add each", "add.Scalar sub.Scalar rsub.Scalar", (X, 2.0), Cost(adds=6)),
    ("alpha·other is a number", "add.Scalar sub.Scalar", (X, 2.0, 3), Cost(adds=6)),
    ("alpha·self isn't", "rsub.Scalar", (X, 2.0, 3), Cost(adds=6, muls=6)),
    ("an add, a maximum", "_add_relu.Tensor", (X, Y), Cost(adds=6, comparisons=6)),
    ("an add, a maximum", "_add_relu.Scalar", (X, 2.0), Cost(adds=6, comparisons=6)),
    ("one product each", "mul.Tensor", (X, Y), Cost(muls=6)),
    ("one product each", "mul.Scalar", (X, 2.0), Cost(muls=6)),
    ("one division each", "div.Tensor", (X, Y), Cost(divs=6)),
    ("one division each", "div.Scalar", (X, 2.0), Cost(divs=6)),
    ("a division, rounded", "floor_divide.default", (X, Y), ROUNDED),
    ("a division, rounded", "floor_divide.Scalar", (X, 2.0), ROUNDED),
    ("/, rounded, ·, −", "remainder.Tensor fmod.Tensor", (X, Y), REST),
    ("/, rounded, ·, −", "remainder.Scalar fmod.Scalar", (X, 2.0), REST),
    ("/, rounded, ·, −", "remainder.Scalar_Tensor", (2.0, Y), REST),
    ("one division each", "reciprocal.default", (X,), Cost(divs=6)),
    ("rounded, −", "frac.default", (X,), Cost(comparisons=6, adds=6)),
    ("one product each", "deg2rad.default rad2deg.default", (X,), Cost(muls=6)),
    ("y − x, w·, x +", "lerp.Tensor", (X, Y, U), Cost(adds=12, muls=6)),
    ("y − x, w·, x +", "lerp.Scalar", (X, Y, 0.5), Cost(adds=12, muls=6)),
    ("a·b, +", "addcmul.default", (X, Y, U), Cost(muls=6, adds=6)),
    ("a/b, +", "addcdiv.default", (X, Y, U), Cost(divs=6, adds=6)),
    ("x·x, y·y, +, sqrt", "hypot.default", (X, Y), Cost(muls=12, adds=6, transcendentals=6)),
    ("2 to the n, x·", "ldexp.Tensor", (X, K), Cost(muls=6, transcendentals=6)),
    ("cos, sin, r·, r·", "polar.default", (X, Y), Cost(muls=12, transcendentals=12)),
    (
        "one step each",
        "neg.default abs.default sign.default sgn.default angle.default "
        "floor.default ceil.default trunc.default round.default frexp.Tensor",
        (X,),
        CHOICE,
    ),
    ("two signs each", "neg.default", (Z,), Cost(comparisons=12)),
    ("re², im², +, sqrt", "abs.default", (Z,), Cost(muls=12, adds=6, transcendentals=6)),
    (
        "the modulus, is it 0, two quotients",
        "sgn.default",
        (Z,),
        Cost(muls=12, adds=6, transcendentals=6, comparisons=6, divs=12),
    ),
    ("one arctangent each", "angle.default", (Z,), ONCE),
    ("0 or π, which is no integer", "angle.default", (N,), CHOICE),
    ("one sign each", "_conj_physical.default", (Z,), CHOICE),
    ("a copy", "_conj_physical.default", (X,), Cost()),
    ("one sign each", "conj_physical_.default", (Z.clone(),), CHOICE),
    ("one choice each", "maximum.default fmax.default", (X, Y), CHOICE),
    ("one choice each", "minimum.default fmin.default", (X, Y), CHOICE),
    ("one bound", "clamp_min.default clamp_max.default clamp.default", (X, 0.5), CHOICE),
    ("one bound", "clamp_min.Tensor clamp_max.Tensor clamp.Tensor", (X, Y), CHOICE),
    ("two bounds", "clamp.default", (X, -1, 1), Cost(comparisons=12)),
    ("two bounds", "clamp.Tensor", (X, Y, Y), Cost(comparisons=12)),
    ("the upper bound alone", "clamp.default", (X, None, 1), CHOICE),
    ("one choice each", "copysign.Tensor heaviside.default nextafter.default", (X, Y), CHOICE),
    ("one choice each", "copysign.Scalar", (X, 1.0), CHOICE),
    ("nan, inf, −inf", "nan_to_num.default", (X,), Cost(comparisons=18)),
    ("the same of both parts", "nan_to_num.default", (Z,), Cost(comparisons=36)),
    ("a power each", "pow.Tensor_Tensor", (U, Y), ONCE),
    ("a power each", "pow.Scalar", (2.0, Y), ONCE),
    ("1 to any power is 1", "pow.Scalar", (1.0, Y), Cost()),
    ("a fill with 1", "pow.Tensor_Scalar", (X, 0), Cost()),
    ("a copy", "pow.Tensor_Scalar", (X, 1), Cost()),
    ("x·x", "pow.Tensor_Scalar", (X, 2), Cost(muls=6)),
    ("x·x·x", "pow.Tensor_Scalar", (X, 3.0), Cost(muls=12)),
    ("sqrt", "pow.Tensor_Scalar", (U, 0.5), ONCE),
    ("rsqrt", "pow.Tensor_Scalar", (U, -0.5), ONCE),
    ("1/x", "pow.Tensor_Scalar", (X, -1), Cost(divs=6)),
    ("1/(x·x)", "pow.Tensor_Scalar", (X, -2), Cost(divs=6, muls=6)),
    ("no special exponent", "pow.Tensor_Scalar", (X, 4), ONCE),
    (
        "one function each",
        "sqrt.default rsqrt.default exp.default exp2.default expm1.default log.default "
        "log2.default log10.default log1p.default sin.default cos.default tan.default "
        "asin.default acos.default atan.default sinh.default cosh.default tanh.default "
        "asinh.default acosh.default atanh.default "
        + " ".join(f"{name}.default" for name in SPECIAL),
        (U,),
        ONCE,
    ),
    ("one function each", "atan2.default igamma.default igammac.default", (U, U), ONCE),
    ("one function each", "special_zeta.default", (U + 1, U), ONCE),
    ("one function each", "special_zeta.self_scalar", (2.0, U), ONCE),
    ("one function each", "special_zeta.other_scalar", (U + 1, 2.0), ONCE),
    ("one function each", "polygamma.default", (2, U), ONCE),
    ("one function each", "polygamma_.default", (U.clone(), 2), ONCE),
    *(("one function each", f"special_{n}.default", (U, U), ONCE) for n in POLYNOMIALS),
    *(("one function each", f"special_{n}.x_scalar", (0.5, U), ONCE) for n in POLYNOMIALS),
    *(("one function each", f"special_{n}.n_scalar", (U, 3), ONCE) for n in POLYNOMIALS),
    (
        "max, abs, minus; x − y, a sum; exp, log1p",
        "logaddexp.default logaddexp2.default",
        (X, Y),
        Cost(comparisons=18, adds=12, transcendentals=12),
    ),
    ("is x 0, log, x·", "xlogy.Tensor special_xlog1py.default", (X, U), XLOGY),
    ("is x 0, log, x·", "xlogy.Scalar_Self special_xlog1py.self_scalar", (2.0, U), XLOGY),
    ("is x 0, log, x·", "xlogy.Scalar_Other special_xlog1py.other_scalar", (X, 2.0), XLOGY),
    (
        "above 0, equal to 0, minus; log; x·",
        "special_entr.default",
        (U,),
        Cost(comparisons=18, transcendentals=6, muls=6),
    ),
    (
        "−x, exp, 1 +, 1 /",
        "sigmoid.default",
        (X,),
        Cost(comparisons=6, transcendentals=6, adds=6, divs=6),
    ),
    ("1 − x, x /, log", "logit.default", (U,), Cost(adds=6, divs=6, transcendentals=6)),
    (
        "and two bounds",
        "logit.default",
        (U, 0.1),
        Cost(adds=6, divs=6, transcendentals=6, comparisons=12),
    ),
    (
        "is x 0, π·, sin, /",
        "sinc.default",
        (X,),
        Cost(comparisons=6, muls=6, transcendentals=6, divs=6),
    ),
    (
        "3 offsets, 3 lgamma, 3 summed up",
        "mvlgamma.default",
        (U + 2, 3),
        Cost(transcendentals=18, adds=36),
    ),
    (
        "x − y, rtol·|y|, atol +, two abs",
        "allclose.default",
        (X, Y),
        Cost(adds=12, muls=6, comparisons=12),
    ),
    (
        "one operation on bits",
        "bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor bitwise_left_shift.Tensor "
        "bitwise_right_shift.Tensor __lshift__.Tensor __rshift__.Tensor gcd.default lcm.default",
        (N, K),
        BITS,
    ),
    (
        "one operation on bits",
        "bitwise_and.Scalar bitwise_or.Scalar bitwise_xor.Scalar bitwise_left_shift.Tensor_Scalar "
        "bitwise_right_shift.Tensor_Scalar __lshift__.Scalar __rshift__.Scalar",
        (N, 2),
        BITS,
    ),
    (
        "one operation on bits",
        "bitwise_and.Scalar_Tensor bitwise_or.Scalar_Tensor bitwise_xor.Scalar_Tensor "
        "bitwise_left_shift.Scalar_Tensor bitwise_right_shift.Scalar_Tensor",
        (12, K),
        BITS,
    ),
    ("one operation on bits", "bitwise_not.default", (N,), BITS),
    ("in place", "__ilshift__.Tensor __irshift__.Tensor", (N.clone(), K), BITS),
    ("in place", "__ilshift__.Scalar __irshift__.Scalar", (N.clone(), 2), BITS),
    (
        "masks are no arithmetic",
        "eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor equal.default complex.default "
        "logical_and.default logical_or.default logical_xor.default",
        (X, Y),
        Cost(),
    ),
    (
        "masks are no arithmetic",
        "eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar",
        (X, 0.5),
        Cost(),
    ),
    (
        "masks are no arithmetic",
        "logical_not.default isnan.default isinf.default isposinf.default isneginf.default "
        "signbit.default",
        (X,),
        Cost(),
    ),
    ("a choice by a mask", "where.self", (M, X, Y), Cost()),
    ("a choice by a mask", "masked_fill.Scalar", (X, M, 2.0), Cost()),
    ("a choice by a mask", "masked_fill.Tensor", (X, M, torch.tensor(2.0)), Cost()),
    (
        "a bound for each of two tensors of six",
        "_foreach_maximum.Scalar _foreach_minimum.Scalar",
        ([X, Y], 2.0),
        Cost(comparisons=12),
    ),
    (
        "a bound for each of two tensors of six",
        "_foreach_maximum.ScalarList _foreach_minimum.ScalarList",
        ([X, Y], [2.0, 1.0]),
        Cost(comparisons=12),
    ),
    (
        "value·a·b, +",
        "_foreach_addcmul.Tensor",
        ([X, Y], [X, Y], [U, U], torch.ones(2)),
        Cost(muls=24, adds=12),
    ),
    (
        "value·a/b, +",
        "_foreach_addcdiv.Tensor",
        ([X, Y], [X, Y], [U, U], torch.ones(2)),
        Cost(muls=12, divs=12, adds=12),
    ),
]

# The same, with keyword arguments.
KEYWORD_ROWS = [
    ("alpha·, +", "add.Tensor sub.Tensor rsub.Tensor", (X, Y), {"alpha": 2}, Cost(adds=6, muls=6)),
    ("alpha·other is a number", "add.Tensor sub.Tensor", (X, 3), {"alpha": 2}, Cost(adds=6)),
    ("value·a·b, +", "addcmul.default", (X, Y, U), {"value": 2}, Cost(muls=12, adds=6)),
    ("value·a/b, +", "addcdiv.default", (X, Y, U), {"value": 2}, Cost(muls=6, divs=6, adds=6)),
    ("not rounded", "div.Tensor_mode", (X, Y), {"rounding_mode": None}, Cost(divs=6)),
    ("rounded", "div.Tensor_mode", (X, Y), {"rounding_mode": "floor"}, ROUNDED),
    ("rounded", "div.Scalar_mode", (X, 2.0), {"rounding_mode": "trunc"}, ROUNDED),
    (
        "·10ᵈ, round, /10ᵈ",
        "round.decimals",
        (X,),
        {"decimals": 2},
        Cost(muls=6, comparisons=6, divs=6),
    ),
    ("just round", "round.decimals", (X,), {"decimals": 0}, CHOICE),
]


@pytest.mark.parametrize(
    ("why", "name", "args", "expected"),
    [(why, n, args, expected) for why, names, args, expected in ROWS for n in names.split()],
)
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    for overload in overloads(name):
        assert cost(overload, *args) == expected, why


@pytest.mark.parametrize(
    ("why", "name", "args", "options", "expected"),
    [(why, name, *rest) for why, names, *rest in KEYWORD_ROWS for name in names.split()],
)
def test_hand_arithmetic_of_options(
    why: str, name: str, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    for overload in overloads(name):
        assert cost(overload, *args, **options) == expected, why


def test_every_rule_has_a_row() -> None:
    rows = {name for _, names, *_ in ROWS for name in names.split()}
    rows |= {name for _, names, *_ in KEYWORD_ROWS for name in names.split()}
    assert registered(pointwise.rules) - {"conj_physical.out"} == rows


@given(data=st.data(), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_broadcast_costs_each_pair_once(data: st.DataObject, shape: list[int]) -> None:
    left = [data.draw(st.sampled_from([1, n])) for n in shape]
    right = [data.draw(st.sampled_from([1, n])) for n in shape]
    x, y = torch.rand(left), torch.rand(right)
    pairs = sum(1 for _ in torch.cartesian_prod(*map(torch.arange, map(max, left, right))))
    assert cost(aten.add.Tensor, x, y) == Cost(adds=pairs)
    assert cost(aten.lerp.Tensor, x, y, x) == Cost(adds=2 * pairs, muls=pairs)
    assert cost(aten.maximum.default, x, y) == Cost(comparisons=pairs)
    assert cost(aten.pow.Tensor_Tensor, x, y) == Cost(transcendentals=pairs)
    assert cost(aten.div.Tensor_mode, x, y, rounding_mode="floor") == Cost(
        divs=pairs, comparisons=pairs
    )
    assert cost(aten.addcdiv.default, x, y, y, value=2) == Cost(divs=pairs, muls=pairs, adds=pairs)
    assert cost(aten.allclose.default, x, y) == Cost(
        adds=2 * pairs, muls=pairs, comparisons=2 * pairs
    )
    assert cost(aten.allclose.default, x, y[0]) == cost(aten.allclose.default, y[0], x)


@pytest.mark.parametrize(
    ("why", "op", "args", "expected"),
    [
        ("in place", aten.add_.Tensor, (X.clone(), Y), Cost(adds=6)),
        ("in place", aten.clamp_.default, (X.clone(), 0, 1), Cost(comparisons=12)),
        ("in place", aten.neg_.default, (X.clone(),), CHOICE),
        ("two tensors of six", aten._foreach_mul.List, ([X, X], [Y, Y]), Cost(muls=12)),
        ("in place", aten._foreach_mul_.Scalar, ([X.clone(), X.clone()], 2.0), Cost(muls=12)),
        ("two of six", aten._foreach_sqrt.default, ([U, U],), Cost(transcendentals=12)),
        ("two of six", aten._foreach_pow.Scalar, ([X, X], 2), Cost(muls=12)),
        ("a power each", aten._foreach_pow.ScalarList, ([X, X], [2, 3]), Cost(muls=18)),
        ("a scaling for 2.0 only", aten._foreach_add.List, ([X, X], [Y, Y]), Cost(adds=12)),
        (
            "1 isn't multiplied, 2 is",
            aten._foreach_addcmul.ScalarList,
            ([X, X], [Y, Y], [U, U], [1.0, 2.0]),
            Cost(muls=18, adds=12),
        ),
        ("the sign and the modulus", aten._foreach_abs.default, ([X, X],), Cost(comparisons=12)),
    ],
)
def test_variants_cost_what_they_stand_for(
    why: str, op: Any, args: tuple[Any, ...], expected: Cost
) -> None:
    assert cost(op, *args) == expected, why


def test_out_costs_the_same() -> None:
    out = torch.empty(2, 3)
    assert cost(aten.add.out, X, Y, alpha=2, out=out) == Cost(adds=6, muls=6)
    assert cost(aten.sigmoid.out, X, out=out) == cost(aten.sigmoid.default, X)
    z = torch.empty(2, 3, dtype=torch.complex64)
    assert cost(aten.conj_physical.out, Z, out=z) == Cost(comparisons=6)


def test_integers_are_no_floating_point() -> None:
    assert cost(aten.add.Tensor, N, K, alpha=2) == Cost(int_ops=12)
    assert cost(aten.neg.default, N) == Cost(int_ops=6)
    assert cost(aten.abs.default, N) == Cost(int_ops=6)
    assert cost(aten.floor_divide.default, N, K) == Cost(int_ops=12)
    assert cost(aten.bitwise_and.Tensor, M, M) == Cost(int_ops=6)
    assert cost(aten.div.Tensor, N, K) == Cost(divs=6)  # true division is floating


def test_complex_arithmetic_is_real_arithmetic() -> None:
    assert cost(aten.add.Tensor, Z, Z) == Cost(adds=12)
    assert cost(aten.mul.Tensor, Z, Z) == Cost(muls=24, adds=12)
    assert cost(aten.exp.default, Z) == Cost(transcendentals=6)


def test_the_family_and_its_zeros() -> None:
    assert price(aten.add.Tensor, X, Y).family == "pointwise"
    assert price(aten.relu.default, X).family == "pointwise"
    masked = price(aten.where.self, M, X, Y)
    assert (masked.state, masked.cost.flops) == ("zero", 0)
    assert (masked.cost.bytes_read, masked.cost.bytes_written) == (6 + 24 + 24, 24)


def test_what_depends_on_data_is_marked() -> None:
    estimates = {str(rule.overload) for rule in pointwise.rules if rule.estimate}
    assert {"aten.gcd.default", "aten.special_hermite_polynomial_h.default"} <= estimates
    assert "aten.erf.default" not in estimates
