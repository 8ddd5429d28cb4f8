"""Pointwise arithmetic, functions and comparisons: one cost per output element.

Counts: a broadcast costs its output, so `(3, 1) + (1, 4)` is 12 adds. Constants and options
are worked out once, not per element: `x·√½` is one mul, and a factor of 1 is no mul.

- A subtraction is an add. A change of sign, abs, sign, rounding, max, min, and each branch of
  a piecewise definition (the test and the choice together) are one comparison each.
- A piecewise definition costs its comparisons and its costliest branch.
- One evaluation of an elementary or special function is one transcendental, also of a complex
  number. Its guards against overflow are not counted.
- Operators on bits are integer operations. What gives or takes a mask (comparison to bool,
  `logical_*`, `where`, `masked_fill`) is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec, tensors

rules = Registry("pointwise")

Number = int | float | complex | bool
Row = tuple[str, Cost, str]  # overloads, cost per output element, the expression in words

ADD = Cost(adds=1)
MUL = Cost(muls=1)
DIV = Cost(divs=1)
TRANSCENDENTAL = Cost(transcendentals=1)
COMPARISON = Cost(comparisons=1)
BITS = Cost(int_ops=1)
MODULUS = 2 * MUL + ADD + TRANSCENDENTAL  # sqrt(re² + im²)
SIGMOID = COMPARISON + TRANSCENDENTAL + ADD + DIV  # 1 / (1 + exp(-x))

POINTWISE: Sequence[Row] = (
    # Arithmetic
    ("mul.Tensor mul.Scalar", MUL, "x·y"),
    ("div.Tensor div.Scalar", DIV, "x / y"),
    ("floor_divide.default floor_divide.Scalar", DIV + COMPARISON, "floor(x / y)"),
    (
        "remainder.Tensor remainder.Scalar remainder.Scalar_Tensor",
        ADD + MUL + DIV + COMPARISON,
        "x − y·floor(x / y)",
    ),
    ("fmod.Tensor fmod.Scalar", ADD + MUL + DIV + COMPARISON, "x − y·trunc(x / y)"),
    ("reciprocal.default", DIV, "1 / x"),
    ("frac.default", ADD + COMPARISON, "x − trunc(x)"),
    ("deg2rad.default", MUL, "x·(π/180)"),
    ("rad2deg.default", MUL, "x·(180/π)"),
    ("lerp.Scalar lerp.Tensor", 2 * ADD + MUL, "x + w·(y − x)"),
    ("hypot.default", MODULUS, "sqrt(x·x + y·y)"),
    ("ldexp.Tensor", MUL + TRANSCENDENTAL, "x·exp2(n)"),
    ("polar.default", 2 * (MUL + TRANSCENDENTAL), "r·cos(φ) and r·sin(φ)"),
    # Sign, rounding, bounds
    ("sign.default", COMPARISON, "sign(x)"),
    ("floor.default", COMPARISON, "floor(x)"),
    ("ceil.default", COMPARISON, "ceil(x)"),
    ("trunc.default", COMPARISON, "trunc(x)"),
    ("round.default", COMPARISON, "round(x)"),
    ("maximum.default fmax.default", COMPARISON, "max(x, y)"),
    ("minimum.default fmin.default", COMPARISON, "min(x, y)"),
    ("clamp_min.default clamp_min.Tensor", COMPARISON, "max(x, bound)"),
    ("clamp_max.default clamp_max.Tensor", COMPARISON, "min(x, bound)"),
    ("copysign.Tensor copysign.Scalar", COMPARISON, "|x| with the sign of y"),
    ("heaviside.default", COMPARISON, "0, y or 1 by the sign of x"),
    ("nextafter.default", COMPARISON, "the float after x in the direction of y"),
    ("frexp.Tensor", COMPARISON, "the mantissa and exponent that x is stored as"),
    # Powers, exponentials, logarithms
    ("pow.Tensor_Tensor", TRANSCENDENTAL, "x to the y"),
    ("sqrt.default", TRANSCENDENTAL, "sqrt(x)"),
    ("rsqrt.default", TRANSCENDENTAL, "1/sqrt(x), one function"),
    (
        "exp.default exp2.default expm1.default",
        TRANSCENDENTAL,
        "e to the x, 2 to the x, e to the x − 1",
    ),
    ("log.default log2.default log10.default log1p.default", TRANSCENDENTAL, "log(x), log(1 + x)"),
    (
        "logaddexp.default logaddexp2.default",
        2 * ADD + 2 * TRANSCENDENTAL + 3 * COMPARISON,
        "max(x, y) + log1p(exp(−|x − y|))",
    ),
    (
        "xlogy.Tensor xlogy.Scalar_Self xlogy.Scalar_Other",
        MUL + TRANSCENDENTAL + COMPARISON,
        "0 if x = 0 else x·log(y)",
    ),
    (
        "special_xlog1py.default special_xlog1py.self_scalar special_xlog1py.other_scalar",
        MUL + TRANSCENDENTAL + COMPARISON,
        "0 if x = 0 else x·log1p(y)",
    ),
    (
        "special_entr.default",
        MUL + TRANSCENDENTAL + 3 * COMPARISON,
        "−x·log(x) if x > 0, 0 if x = 0, else −inf",
    ),
    ("sigmoid.default", SIGMOID, "1 / (1 + exp(−x))"),
    # Trigonometric and hyperbolic
    ("sin.default cos.default tan.default", TRANSCENDENTAL, "sin(x), cos(x), tan(x)"),
    ("asin.default acos.default atan.default atan2.default", TRANSCENDENTAL, "their inverses"),
    ("sinh.default cosh.default tanh.default", TRANSCENDENTAL, "sinh(x), cosh(x), tanh(x)"),
    ("asinh.default acosh.default atanh.default", TRANSCENDENTAL, "their inverses"),
    ("sinc.default", MUL + DIV + TRANSCENDENTAL + COMPARISON, "1 if x = 0 else sin(πx) / πx"),
)

SPECIAL_FUNCTIONS = """
    erf.default erfc.default erfinv.default special_erfcx.default
    special_ndtri.default special_log_ndtr.default
    lgamma.default digamma.default polygamma.default polygamma_.default
    igamma.default igammac.default
    special_zeta.default special_zeta.self_scalar special_zeta.other_scalar
    i0.default special_i0e.default special_i1.default special_i1e.default
    special_airy_ai.default special_spherical_bessel_j0.default
    special_bessel_j0.default special_bessel_j1.default
    special_bessel_y0.default special_bessel_y1.default
    special_modified_bessel_i0.default special_modified_bessel_i1.default
    special_modified_bessel_k0.default special_modified_bessel_k1.default
    special_scaled_modified_bessel_k0.default special_scaled_modified_bessel_k1.default
"""

POLYNOMIALS = """
    chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w
    shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u
    shifted_chebyshev_polynomial_v shifted_chebyshev_polynomial_w
    hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p
"""

BITWISE = """
    bitwise_not.default
    bitwise_and.Tensor bitwise_and.Scalar bitwise_and.Scalar_Tensor
    bitwise_or.Tensor bitwise_or.Scalar bitwise_or.Scalar_Tensor
    bitwise_xor.Tensor bitwise_xor.Scalar bitwise_xor.Scalar_Tensor
    bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar bitwise_left_shift.Scalar_Tensor
    bitwise_right_shift.Tensor bitwise_right_shift.Tensor_Scalar bitwise_right_shift.Scalar_Tensor
    __lshift__.Tensor __lshift__.Scalar __rshift__.Tensor __rshift__.Scalar
    __ilshift__.Tensor __ilshift__.Scalar __irshift__.Tensor __irshift__.Scalar
"""

MASKS = """
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar
    gt.Tensor gt.Scalar ge.Tensor ge.Scalar equal.default
    logical_and.default logical_or.default logical_xor.default logical_not.default
    isnan.default isinf.default isposinf.default isneginf.default signbit.default
    where.self masked_fill.Scalar masked_fill.Tensor complex.default
"""


def register_table(registry: Registry, table: Iterable[Row], estimate: str = "") -> None:
    """Give each row's overloads a formula: its cost for each element of the (first) output."""
    for names, each, expression in table:
        register = registry.formula(*overloads(*names.split()), estimate=estimate)
        register(per_output(each, expression))


def per_output(each: Cost, expression: str) -> Callable[..., Cost]:
    """The formula that costs `each` per element of the first output."""

    def formula(result: Any) -> Cost:
        return each * tensors(result)[0].numel

    counts = ", ".join(f"{number} {name}" for name, number in each.to_dict().items())
    formula.__doc__ = f"{expression}.\n\nCounts: per output element {counts}."
    return formula


register_table(rules, POINTWISE)
register_table(rules, [(SPECIAL_FUNCTIONS, TRANSCENDENTAL, "one evaluation of the function")])
register_table(
    rules,
    [
        (
            f"special_{name}.default special_{name}.x_scalar special_{name}.n_scalar",
            TRANSCENDENTAL,
            "one evaluation of the polynomial, whatever its degree",
        )
        for name in POLYNOMIALS.split()
    ],
    estimate="the degree is data; one evaluation is counted as one function",
)
register_table(rules, [(BITWISE, BITS, "one operation on bits")])
register_table(
    rules,
    [("gcd.default lcm.default", BITS, "the greatest divisor, the least multiple")],
    estimate="the number of steps is data; counted as one integer operation",
)
rules.zero(*overloads(*MASKS.split()))


# Options that change the count


@rules.formula(*overloads("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar"))
def add(other: TensorSpec | Number, alpha: Number, result: TensorSpec) -> Cost:
    """self ± alpha·other.

    Counts: one add per output, and one mul for alpha other than 1, unless `other` is a number:
    then so is alpha·other.
    """
    scaled = alpha != 1 and isinstance(other, TensorSpec)
    return (ADD + MUL if scaled else ADD) * result.numel


@rules.formula(*overloads("rsub.Tensor", "rsub.Scalar"))
def rsub(alpha: Number, result: TensorSpec) -> Cost:
    """other − alpha·self.

    Counts: one add per output, and one mul for alpha other than 1.
    """
    return (ADD + MUL if alpha != 1 else ADD) * result.numel


@rules.formula(*overloads("_add_relu.Tensor", "_add_relu.Scalar"))
def add_relu(other: TensorSpec | Number, alpha: Number, result: TensorSpec) -> Cost:
    """max(self + alpha·other, 0)."""
    return add(other, alpha, result) + COMPARISON * result.numel


@rules.formula(*overloads("div.Tensor_mode", "div.Scalar_mode"))
def div_mode(rounding_mode: str | None, result: TensorSpec) -> Cost:
    """self / other, rounded by trunc, floor or not at all."""
    return (DIV if rounding_mode is None else DIV + COMPARISON) * result.numel


@rules.formula(*overloads("round.decimals"))
def round_decimals(decimals: int, result: TensorSpec) -> Cost:
    """round(x·10ᵈ) / 10ᵈ; without decimals just round(x)."""
    return (COMPARISON if decimals == 0 else MUL + COMPARISON + DIV) * result.numel


@rules.formula(*overloads("clamp.default", "clamp.Tensor"))
def clamp(min: Any, max: Any, result: TensorSpec) -> Cost:
    """min(max(x, lower), upper): a comparison for each bound that is given."""
    bounds = (min is not None) + (max is not None)
    return bounds * COMPARISON * result.numel


@rules.formula(*overloads("addcmul.default"))
def addcmul(value: Number, result: TensorSpec) -> Cost:
    """self + value·tensor1·tensor2; a value of 1 isn't multiplied."""
    return (ADD + MUL if value == 1 else ADD + 2 * MUL) * result.numel


@rules.formula(*overloads("addcdiv.default"))
def addcdiv(value: Number, result: TensorSpec) -> Cost:
    """self + value·tensor1 / tensor2; a value of 1 isn't multiplied."""
    return (ADD + DIV if value == 1 else ADD + DIV + MUL) * result.numel


POWERS: dict[Number, Cost] = {
    0: Cost(),  # 1
    1: Cost(),  # x
    2: MUL,  # x·x
    3: 2 * MUL,  # x·x·x
    0.5: TRANSCENDENTAL,  # sqrt(x)
    -0.5: TRANSCENDENTAL,  # rsqrt(x)
    -1: DIV,  # 1 / x
    -2: MUL + DIV,  # 1 / (x·x)
}


@rules.formula(*overloads("pow.Tensor_Scalar"))
def pow_tensor_scalar(exponent: Number, result: TensorSpec) -> Cost:
    """x to a constant power: multiplied out where PyTorch does so, else one transcendental.

    Example: six squares are 6 muls.
    """
    return POWERS.get(exponent, TRANSCENDENTAL) * result.numel


@rules.formula(*overloads("pow.Scalar"))
def pow_scalar(self: Number, result: TensorSpec) -> Cost:
    """A constant to the power of x; 1 to any power is a fill."""
    return (Cost() if self == 1 else TRANSCENDENTAL) * result.numel


@rules.formula(*overloads("logit.default"))
def logit(eps: float | None, result: TensorSpec) -> Cost:
    """log(x / (1 − x)), x clamped to [eps, 1 − eps] where eps is given."""
    each = ADD + DIV + TRANSCENDENTAL
    return (each if eps is None else each + 2 * COMPARISON) * result.numel


@rules.formula(*overloads("mvlgamma.default"))
def mvlgamma(p: int, result: TensorSpec) -> Cost:
    """constant + Σ lgamma(x − j/2) over j = 0 … p−1.

    Counts: per output p transcendentals, p adds for the offsets and p for the sum.
    """
    return p * (2 * ADD + TRANSCENDENTAL) * result.numel


@rules.formula(*overloads("allclose.default"))
def allclose(self: TensorSpec, other: TensorSpec) -> Cost:
    """|x − y| ≤ atol + rtol·|y|: the arithmetic of each pair, the test itself is no work."""
    sizes = zip_longest(reversed(self.shape), reversed(other.shape), fillvalue=1)
    pairs = math.prod(n if m == 1 else m for m, n in sizes)
    return (2 * ADD + MUL + 2 * COMPARISON) * pairs


# Functions of a complex number that aren't arithmetic


def of_kind(operand: TensorSpec, real: Cost, complex_: Cost) -> Cost:
    """The real operations per element, from the dtype's kind."""
    each = complex_ if operand.dtype.is_complex else real.in_dtype(operand.dtype)
    return each * operand.numel


@rules.formula(*overloads("neg.default"), typed=False)
def neg(self: TensorSpec) -> Cost:
    """−x: one change of sign, two for a complex number."""
    return of_kind(self, COMPARISON, 2 * COMPARISON)


@rules.formula(*overloads("abs.default"), typed=False)
def abs_(self: TensorSpec) -> Cost:
    """|x|; of a complex number sqrt(re·re + im·im)."""
    return of_kind(self, COMPARISON, MODULUS)


@rules.formula(*overloads("sgn.default"), typed=False)
def sgn(self: TensorSpec) -> Cost:
    """The sign of x; of a complex number 0 if z = 0 else re/|z|, im/|z|."""
    return of_kind(self, COMPARISON, MODULUS + 2 * DIV + COMPARISON)


@rules.formula(*overloads("angle.default"), typed=False)
def angle(self: TensorSpec) -> Cost:
    """0 or π by the sign of x, also of an integer; of a complex number atan2(im, re)."""
    return (TRANSCENDENTAL if self.dtype.is_complex else COMPARISON) * self.numel


@rules.formula(*overloads("nan_to_num.default"), typed=False)
def nan_to_num(self: TensorSpec) -> Cost:
    """x, or a number for nan, inf and −inf; so for both parts of a complex number."""
    return of_kind(self, 3 * COMPARISON, 6 * COMPARISON)


@rules.formula(
    *overloads("_conj_physical.default", "conj_physical_.default", "conj_physical.out"),
    typed=False,
)
def conj_physical(self: TensorSpec) -> Cost:
    """The sign of im is changed; a real number is copied."""
    return of_kind(self, Cost(), COMPARISON)


# Lists of tensors that have no counterpart on one tensor


@rules.formula(*overloads("_foreach_maximum.Scalar", "_foreach_maximum.ScalarList"))
@rules.formula(*overloads("_foreach_minimum.Scalar", "_foreach_minimum.ScalarList"))
def foreach_bound(self: Sequence[TensorSpec]) -> Cost:
    """max(x, bound) or min(x, bound) for each element of each tensor."""
    return COMPARISON * sum(t.numel for t in self)


@rules.formula(*overloads("_foreach_addcmul.Tensor"))
def foreach_addcmul(self: Sequence[TensorSpec]) -> Cost:
    """self + value·tensor1·tensor2, the values from a tensor."""
    return (ADD + 2 * MUL) * sum(t.numel for t in self)


@rules.formula(*overloads("_foreach_addcdiv.Tensor"))
def foreach_addcdiv(self: Sequence[TensorSpec]) -> Cost:
    """self + value·tensor1 / tensor2, the values from a tensor."""
    return (ADD + DIV + MUL) * sum(t.numel for t in self)
