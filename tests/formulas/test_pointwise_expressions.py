"""Each pointwise operator is its textbook expression, evaluated on Scalars that count."""

from __future__ import annotations

import math
import operator

import pytest
import torch

from flopdispatch.formulas import pointwise
from flopdispatch.formulas.operators import overloads
from tests import oracles_pointwise as textbook
from tests.oracles import Tally
from tests.oracles_pointwise import (
    POLYNOMIALS,
    SPECIAL,
    SPECIAL_OF_TWO,
    Expression,
    absolute,
    bits,
    choice,
    function,
    rounding,
)
from tests.pointwise_cases import (
    INTEGERS,
    OTHER,
    POSITIVE,
    REAL,
    THIRD,
    UNIT,
    Case,
    Given,
    check,
)
from tests.pricing import cost

MIDDLE = REAL[2:-2]  # large enough for both signs, small enough for exp and tan to stay exact
ABOVE_ONE = [1.2, 1.9, 2.4, 3.8, 6.1, 10.0]
DEGREES = [2.0, 3.0, 4.0, 5.0, 6.0, 3.0]
HALF = OTHER[:6]

UNARY: dict[str, tuple[Expression, list[float]]] = {
    "neg": (operator.neg, REAL),
    "abs": (rounding(abs), REAL),
    "sign": (rounding(lambda x: math.copysign(1, x)), REAL),
    "sgn": (rounding(lambda x: math.copysign(1, x)), REAL),
    "floor": (rounding(math.floor), REAL),
    "ceil": (rounding(math.ceil), REAL),
    "trunc": (rounding(math.trunc), REAL),
    "round": (rounding(round), REAL),
    "angle": (rounding(lambda x: math.pi if x < 0 else 0.0), REAL),
    "reciprocal": (textbook.reciprocal, REAL),
    "frac": (textbook.frac, REAL),
    "deg2rad": (textbook.deg2rad, REAL),
    "rad2deg": (textbook.rad2deg, REAL),
    "nan_to_num": (textbook.nan_to_num, [*REAL, math.nan, math.inf, -math.inf]),
    "sqrt": (function(math.sqrt), POSITIVE),
    "rsqrt": (function(lambda x: x**-0.5), POSITIVE),
    "exp": (function(math.exp), MIDDLE),
    "exp2": (function(lambda x: 2.0**x), MIDDLE),
    "expm1": (function(math.expm1), MIDDLE),
    "log": (function(math.log), POSITIVE),
    "log2": (function(math.log2), POSITIVE),
    "log10": (function(math.log10), POSITIVE),
    "log1p": (function(math.log1p), POSITIVE),
    "sin": (function(math.sin), MIDDLE),
    "cos": (function(math.cos), MIDDLE),
    "tan": (function(math.tan), MIDDLE),
    "asin": (function(math.asin), UNIT),
    "acos": (function(math.acos), UNIT),
    "atan": (function(math.atan), MIDDLE),
    "sinh": (function(math.sinh), MIDDLE),
    "cosh": (function(math.cosh), MIDDLE),
    "tanh": (function(math.tanh), MIDDLE),
    "asinh": (function(math.asinh), MIDDLE),
    "acosh": (function(math.acosh), ABOVE_ONE),
    "atanh": (function(math.atanh), UNIT),
    "sigmoid": (textbook.sigmoid, MIDDLE),
    "logit": (textbook.logit, UNIT),
    "sinc": (textbook.sinc, [0.0, *MIDDLE]),
    "special_entr": (textbook.entr, [-1.5, 0.0, *POSITIVE]),
}

BINARY: dict[str, Expression] = {
    "add.Tensor": textbook.add,
    "sub.Tensor": textbook.sub,
    "rsub.Tensor": textbook.rsub,
    "mul.Tensor": textbook.mul,
    "div.Tensor": textbook.div,
    "_add_relu.Tensor": textbook.add_relu,
    "floor_divide.default": textbook.floor_divide,
    "remainder.Tensor": textbook.remainder,
    "fmod.Tensor": textbook.fmod,
    "hypot.default": textbook.hypot,
    "atan2.default": function(math.atan2),
    "maximum.default": choice(max),
    "fmax.default": choice(max),
    "minimum.default": choice(min),
    "fmin.default": choice(min),
    "clamp_min.Tensor": choice(max),
    "clamp_max.Tensor": choice(min),
    "copysign.Tensor": choice(math.copysign),
    "heaviside.default": choice(lambda x, y: 1.0 if x > 0 else 0.0),
    "nextafter.default": choice(
        lambda x, y: torch.nextafter(*torch.tensor([x, y], dtype=torch.float64)).item()
    ),
    "logaddexp.default": textbook.logaddexp,
    "logaddexp2.default": textbook.logaddexp2,
}

WITH_A_NUMBER: dict[str, Expression] = {
    "add.Scalar": textbook.add,
    "sub.Scalar": textbook.sub,
    "rsub.Scalar": textbook.rsub,
    "mul.Scalar": textbook.mul,
    "div.Scalar": textbook.div,
    "_add_relu.Scalar": textbook.add_relu,
    "floor_divide.Scalar": textbook.floor_divide,
    "remainder.Scalar": textbook.remainder,
    "fmod.Scalar": textbook.fmod,
    "clamp_min.default": choice(max),
    "clamp_max.default": choice(min),
    "copysign.Scalar": choice(math.copysign),
}

OF_BITS = {
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift,
    "bitwise_right_shift": operator.rshift,
}

ROUNDINGS = [None, "floor", "trunc"]
ONES = [1.0, 3.0, 2.0, 1.0, 4.0, 2.0]


def integer(op: str, evaluate: object, *arguments: object) -> Case:
    return Case(op, bits(evaluate), arguments, dtype=torch.int64)  # type: ignore[arg-type]


EXPRESSIONS = [
    *(Case(f"{name}.default", f, (xs,)) for name, (f, xs) in UNARY.items()),
    *(Case(name, f, (REAL, OTHER)) for name, f in BINARY.items()),
    *(Case(name, f, (REAL, Given(1.3))) for name, f in WITH_A_NUMBER.items()),
    Case("remainder.Scalar_Tensor", textbook.remainder, (Given(7.7), OTHER)),
    *(
        Case(name, f, (REAL, OTHER), {"alpha": 2.5})
        for name, f in BINARY.items()
        if name in {"add.Tensor", "sub.Tensor", "rsub.Tensor", "_add_relu.Tensor"}
    ),
    Case("add.Scalar", textbook.add_number, (REAL, Given(1.3), 2.5)),
    Case("sub.Scalar", textbook.sub_number, (REAL, Given(1.3), 2.5)),
    Case("rsub.Scalar", textbook.rsub, (REAL, Given(1.3), 2.5)),
    Case("_add_relu.Scalar", textbook.add_relu_number, (REAL, Given(1.3), 2.5)),
    *(
        case
        for mode in ROUNDINGS
        for case in [
            Case("div.Tensor_mode", textbook.div, (REAL, OTHER), {"rounding_mode": mode}),
            Case("div.Scalar_mode", textbook.div, (REAL, Given(1.3)), {"rounding_mode": mode}),
        ]
    ),
    *(
        case
        for value in [{}, {"value": 2.5}]
        for case in [
            Case("addcmul.default", textbook.addcmul, (REAL, OTHER, THIRD), value),
            Case("addcdiv.default", textbook.addcdiv, (REAL, OTHER, THIRD), value),
        ]
    ),
    Case("lerp.Tensor", textbook.lerp, (REAL, OTHER, THIRD)),
    Case("lerp.Scalar", textbook.lerp, (REAL, OTHER, Given(0.3))),
    Case("ldexp.Tensor", textbook.ldexp, (REAL, OTHER)),
    *(
        Case("clamp.default", textbook.clamp, (REAL, *bounds))
        for bounds in [(-1.0, 1.5), (-1.0, None), (None, 1.5)]
    ),
    Case("clamp.Tensor", textbook.clamp_tensor, (REAL, OTHER, [y + 1 for y in OTHER])),
    *(
        Case("round.decimals", textbook.round_decimals, (MIDDLE,), {"decimals": decimals})
        for decimals in [0, 1, -1]
    ),
    *(
        Case("pow.Tensor_Scalar", textbook.power, (POSITIVE, exponent))
        for exponent in [0, 1, 2, 2.0, 3, 0.5, -0.5, -1, -2, 4, -3, 1.7]
    ),
    Case("pow.Tensor_Tensor", function(math.pow), (POSITIVE, POSITIVE)),
    *(Case("pow.Scalar", textbook.scalar_power, (Given(base), MIDDLE)) for base in [1, 2, 1.7]),
    Case("logit.default", textbook.logit, (UNIT, 0.15)),
    Case("mvlgamma.default", textbook.mvlgamma, (ABOVE_ONE, 3)),
    Case("polygamma.default", textbook.polygamma, (2, POSITIVE)),
    *(
        case
        for stem, f in [("xlogy", textbook.xlogy), ("special_xlog1py", textbook.xlog1py)]
        for case in [
            Case(
                f"{stem}.{'Tensor' if stem == 'xlogy' else 'default'}", f, ([0.0, *HALF[1:]], UNIT)
            ),
            Case(
                f"{stem}.{'Scalar_Self' if stem == 'xlogy' else 'self_scalar'}",
                f,
                (Given(2.5), UNIT),
            ),
            Case(
                f"{stem}.{'Scalar_Other' if stem == 'xlogy' else 'other_scalar'}",
                f,
                (HALF, Given(2.5)),
            ),
        ]
    ),
    *(Case(f"{name}.default", function(f), (UNIT,)) for name, f in SPECIAL.items()),
    *(
        Case(f"{name}.default", function(f), (ABOVE_ONE, POSITIVE[:6]))
        for name, f in SPECIAL_OF_TWO.items()
    ),
    Case("special_zeta.self_scalar", function(SPECIAL_OF_TWO["special_zeta"]), (Given(2.5), UNIT)),
    Case(
        "special_zeta.other_scalar", function(SPECIAL_OF_TWO["special_zeta"]), (ABOVE_ONE, Given(2))
    ),
    *(
        case
        for name, f in POLYNOMIALS.items()
        for case in [
            Case(f"special_{name}.default", function(f), (UNIT, DEGREES)),
            Case(f"special_{name}.x_scalar", function(f), (Given(0.3), DEGREES)),
            Case(f"special_{name}.n_scalar", function(f), (UNIT, Given(3))),
        ]
    ),
    *(
        case
        for name, f in OF_BITS.items()
        for case in [
            integer(f"{name}.Tensor", f, INTEGERS, ONES),
            integer(
                f"{name}.{'Tensor_Scalar' if 'shift' in name else 'Scalar'}", f, INTEGERS, Given(2)
            ),
            integer(f"{name}.Scalar_Tensor", f, Given(9), ONES),
        ]
    ),
    *(
        case
        for name, f in {"__lshift__": operator.lshift, "__rshift__": operator.rshift}.items()
        for case in [
            integer(f"{name}.Tensor", f, INTEGERS, ONES),
            integer(f"{name}.Scalar", f, INTEGERS, Given(2)),
        ]
    ),
    integer("bitwise_not.default", operator.invert, INTEGERS),
    integer("gcd.default", math.gcd, INTEGERS, ONES),
    integer("lcm.default", math.lcm, INTEGERS, ONES),
]


@pytest.mark.parametrize("case", EXPRESSIONS, ids=str)
def test_an_operator_is_its_textbook_expression(case: Case) -> None:
    check(case)


COMPLEX = [
    ("neg.default", textbook.complex_neg),
    ("_conj_physical.default", textbook.complex_conj),
    ("sgn.default", textbook.complex_sgn),
    ("abs.default", textbook.hypot),
    ("angle.default", textbook.complex_angle),
]


@pytest.mark.parametrize(("name", "expression"), COMPLEX)
def test_a_complex_operator_is_its_expression_on_pairs(name: str, expression: Expression) -> None:
    (op,) = overloads(name)
    z = torch.complex(*torch.tensor([REAL, OTHER], dtype=torch.float64))
    tally = Tally()
    results = [expression(tally.scalar(re), tally.scalar(im)) for re, im in zip(REAL, OTHER)]
    values = [[part.value for part in r] if isinstance(r, tuple) else r.value for r in results]
    found = op(z)
    parts = torch.view_as_real(found.resolve_conj()) if found.is_complex() else found
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), parts)
    assert cost(op, z) == tally.cost


def test_polar_is_a_cosine_and_a_sine() -> None:
    tally = Tally()
    pairs = [textbook.polar(tally.scalar(r), tally.scalar(phi)) for r, phi in zip(POSITIVE, REAL)]
    r, phi = torch.tensor([POSITIVE, REAL[: len(POSITIVE)]], dtype=torch.float64)
    values = torch.tensor([[re.value, im.value] for re, im in pairs], dtype=torch.float64)
    torch.testing.assert_close(values, torch.view_as_real(torch.polar(r, phi)))
    assert cost(torch.ops.aten.polar.default, r, phi) == tally.cost


def test_allclose_compares_two_absolute_values() -> None:
    tally = Tally()
    close = [
        absolute(tally.scalar(x) - y).value <= (absolute(tally.scalar(y)) * 1e-5 + 1e-8).value
        for x, y in zip(REAL, REAL)
    ]
    x = torch.tensor(REAL, dtype=torch.float64)
    assert all(close) == torch.ops.aten.allclose.default(x, x)
    assert cost(torch.ops.aten.allclose.default, x, x) == tally.cost


def test_every_counted_operator_has_an_expression() -> None:
    shown = {case.op for case in EXPRESSIONS} | {name for name, _ in COMPLEX}
    shown |= {"polar.default", "allclose.default", "frexp.Tensor"}
    counted = {str(r.overload).removeprefix("aten.") for r in pointwise.rules if r.formula}
    alias = {"conj_physical_.default", "conj_physical.out", "polygamma_.default"}
    in_lists = {name for name in counted if name.startswith("_foreach_")}
    in_place = {name for name in counted if name.startswith(("__ilshift__", "__irshift__"))}
    assert counted - alias - in_lists - in_place == shown
