"""Each pointwise operator as a textbook writes it, on Scalars that count.

Letters: x, y operands; g the gradient of the output; s = sigmoid(x).
A branch of a piecewise definition is one comparison, and only the branch taken computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp  # type: ignore[import-untyped]

from tests.oracles import Scalar

ROOT_HALF = math.sqrt(0.5)
BETA = math.sqrt(2 / math.pi)
KAPPA = 0.044715

Expression = Callable[..., "Scalar | tuple[Scalar, ...]"]

# Steps


def compared(x: Scalar, value: float) -> Scalar:
    """A result of one comparison-class operation on x."""
    x.tally.note("comparisons")
    return x.tally.scalar(value)


def branch(x: Scalar, condition: bool) -> bool:
    """Which branch of a piecewise definition x is in: one comparison."""
    x.tally.note("comparisons")
    return condition


def plain(x: Scalar, value: float) -> Scalar:
    """A constant result."""
    return x.tally.scalar(value)


def function(evaluate: Callable[..., float]) -> Callable[..., Scalar]:
    """One transcendental."""

    def apply(*xs: Scalar, **options: float) -> Scalar:
        xs[0].tally.note("transcendentals")
        value = evaluate(*(x.value for x in xs), **options)
        return xs[0].tally.scalar(float(mp.re(value)))

    return apply


def rounding(evaluate: Callable[[float], float]) -> Callable[[Scalar], Scalar]:
    """One comparison-class operation that depends on the number itself alone."""
    return lambda x: compared(x, evaluate(x.value))


def choice(evaluate: Callable[[float, float], float]) -> Callable[[Scalar, Scalar], Scalar]:
    """One comparison-class operation of two numbers."""
    return lambda x, y: compared(x, evaluate(x.value, y.value))


def bits(evaluate: Callable[..., int]) -> Callable[..., Scalar]:
    """One integer operation."""

    def apply(*xs: Scalar) -> Scalar:
        xs[0].tally.note("int_ops")
        return xs[0].tally.scalar(evaluate(*(int(x.value) for x in xs)))

    return apply


def times(x: Scalar, factor: float) -> Scalar:
    """x times an option; a factor of 1 is left out."""
    return x if factor == 1 else x * factor


exp, log, log1p = function(math.exp), function(math.log), function(math.log1p)
expm1, tanh, sqrt = function(math.expm1), function(math.tanh), function(math.sqrt)
absolute = rounding(abs)
floor, trunc = rounding(math.floor), rounding(math.trunc)
larger, smaller = choice(max), choice(min)

# Arithmetic


def add(x: Scalar, y: Scalar, alpha: float = 1) -> Scalar:
    return x + times(y, alpha)


def sub(x: Scalar, y: Scalar, alpha: float = 1) -> Scalar:
    return x - times(y, alpha)


def rsub(x: Scalar, y: Scalar, alpha: float = 1) -> Scalar:
    return y - times(x, alpha)


def add_relu(x: Scalar, y: Scalar, alpha: float = 1) -> Scalar:
    return add(x, y, alpha).at_least(0)


def add_number(x: Scalar, y: Scalar, alpha: float) -> Scalar:
    """Of two numbers that the operator is given the product is a constant."""
    return x + y.value * alpha


def sub_number(x: Scalar, y: Scalar, alpha: float) -> Scalar:
    return x - y.value * alpha


def add_relu_number(x: Scalar, y: Scalar, alpha: float) -> Scalar:
    return add_number(x, y, alpha).at_least(0)


def mul(x: Scalar, y: Scalar) -> Scalar:
    return x * y


def div(x: Scalar, y: Scalar, rounding_mode: str | None = None) -> Scalar:
    quotient = x / y
    if rounding_mode is None:
        return quotient
    return floor(quotient) if rounding_mode == "floor" else trunc(quotient)


def floor_divide(x: Scalar, y: Scalar) -> Scalar:
    return floor(x / y)


def remainder(x: Scalar, y: Scalar) -> Scalar:
    return x - y * floor(x / y)


def fmod(x: Scalar, y: Scalar) -> Scalar:
    return x - y * trunc(x / y)


def reciprocal(x: Scalar) -> Scalar:
    return 1 / x


def frac(x: Scalar) -> Scalar:
    return x - trunc(x)


def deg2rad(x: Scalar) -> Scalar:
    return x * (math.pi / 180)


def rad2deg(x: Scalar) -> Scalar:
    return x * (180 / math.pi)


def lerp(x: Scalar, y: Scalar, weight: Scalar) -> Scalar:
    return x + weight * (y - x)


def addcmul(x: Scalar, a: Scalar, b: Scalar, value: float = 1) -> Scalar:
    return x + times(a, value) * b


def addcdiv(x: Scalar, a: Scalar, b: Scalar, value: float = 1) -> Scalar:
    return x + times(a, value) / b


def hypot(x: Scalar, y: Scalar) -> Scalar:
    return sqrt(x * x + y * y)


def ldexp(x: Scalar, n: Scalar) -> Scalar:
    return x * function(lambda value: 2.0**value)(n)


def clamp(x: Scalar, min: float | None = None, max: float | None = None) -> Scalar:
    if min is not None:
        x = x.at_least(min)
    return x if max is None else x.at_most(max)


def clamp_tensor(x: Scalar, low: Scalar, high: Scalar) -> Scalar:
    return smaller(larger(x, low), high)


def round_decimals(x: Scalar, decimals: int) -> Scalar:
    if decimals == 0:
        return compared(x, round(x.value))
    scaled = x * 10.0**decimals
    return compared(scaled, round(scaled.value)) / 10.0**decimals


def nan_to_num(x: Scalar) -> Scalar:
    if branch(x, math.isnan(x.value)):
        return plain(x, 0.0)
    if branch(x, x.value == math.inf):
        return plain(x, 1.7976931348623157e308)
    return plain(x, -1.7976931348623157e308) if branch(x, x.value == -math.inf) else x


def power(x: Scalar, exponent: float) -> Scalar:
    if exponent == 0:
        return plain(x, 1.0)
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if exponent == -1:
        return 1 / x
    if exponent == -2:
        return 1 / (x * x)
    return function(lambda value: value**exponent)(x)


def scalar_power(x: Scalar, y: Scalar) -> Scalar:
    return plain(y, 1.0) if x.value == 1 else function(math.pow)(x, y)


def polar(r: Scalar, phi: Scalar) -> tuple[Scalar, Scalar]:
    return r * function(math.cos)(phi), r * function(math.sin)(phi)


# Functions


def sigmoid(x: Scalar) -> Scalar:
    return 1 / (1 + exp(-x))


def logit(x: Scalar, eps: float | None = None) -> Scalar:
    if eps is not None:
        x = x.at_least(eps).at_most(1 - eps)
    return log(x / (1 - x))


def logaddexp(x: Scalar, y: Scalar) -> Scalar:
    return larger(x, y) + log1p(exp(-absolute(x - y)))


def logaddexp2(x: Scalar, y: Scalar) -> Scalar:
    power_of_2 = function(lambda value: 2.0**value)(-absolute(x - y))
    return larger(x, y) + function(lambda value: math.log2(1 + value))(power_of_2)


def xlogy(x: Scalar, y: Scalar) -> Scalar:
    return plain(x, 0.0) if branch(x, x.value == 0) else x * log(y)


def xlog1py(x: Scalar, y: Scalar) -> Scalar:
    return plain(x, 0.0) if branch(x, x.value == 0) else x * log1p(y)


def entr(x: Scalar) -> Scalar:
    if branch(x, x.value < 0):
        return plain(x, -math.inf)
    return plain(x, 0.0) if branch(x, x.value == 0) else -(x * log(x))


def sinc(x: Scalar) -> Scalar:
    if branch(x, x.value == 0):
        return plain(x, 1.0)
    angle = x * math.pi
    return function(math.sin)(angle) / angle


def polygamma(n: int, x: Scalar) -> Scalar:
    return function(lambda value: mp.psi(n, value))(x)


def mvlgamma(x: Scalar, p: int) -> Scalar:
    total = plain(x, p * (p - 1) / 4 * math.log(math.pi))
    for j in range(p):
        total = total + function(math.lgamma)(x - j / 2)
    return total


# Special functions, by definition where mpmath has no name for them


def chebyshev_v(n: float, x: float) -> float:
    theta = math.acos(x)
    return math.cos((n + 0.5) * theta) / math.cos(theta / 2)


def chebyshev_w(n: float, x: float) -> float:
    theta = math.acos(x)
    return math.sin((n + 0.5) * theta) / math.sin(theta / 2)


SPECIAL: dict[str, Callable[..., float]] = {
    "erf": mp.erf,
    "erfc": mp.erfc,
    "erfinv": mp.erfinv,
    "special_erfcx": lambda x: mp.exp(x * x) * mp.erfc(x),
    "special_ndtri": lambda x: mp.sqrt(2) * mp.erfinv(2 * x - 1),
    "special_log_ndtr": lambda x: mp.log(mp.ncdf(x)),
    "lgamma": math.lgamma,
    "digamma": mp.digamma,
    "i0": lambda x: mp.besseli(0, x),
    "special_i0e": lambda x: mp.besseli(0, x) * mp.exp(-abs(x)),
    "special_i1": lambda x: mp.besseli(1, x),
    "special_i1e": lambda x: mp.besseli(1, x) * mp.exp(-abs(x)),
    "special_airy_ai": mp.airyai,
    "special_spherical_bessel_j0": lambda x: mp.sin(x) / x,
    "special_bessel_j0": mp.j0,
    "special_bessel_j1": mp.j1,
    "special_bessel_y0": lambda x: mp.bessely(0, x),
    "special_bessel_y1": lambda x: mp.bessely(1, x),
    "special_modified_bessel_i0": lambda x: mp.besseli(0, x),
    "special_modified_bessel_i1": lambda x: mp.besseli(1, x),
    "special_modified_bessel_k0": lambda x: mp.besselk(0, x),
    "special_modified_bessel_k1": lambda x: mp.besselk(1, x),
    "special_scaled_modified_bessel_k0": lambda x: mp.besselk(0, x) * mp.exp(x),
    "special_scaled_modified_bessel_k1": lambda x: mp.besselk(1, x) * mp.exp(x),
}

SPECIAL_OF_TWO: dict[str, Callable[..., float]] = {
    "igamma": lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    "igammac": lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
    "special_zeta": mp.zeta,
}

POLYNOMIALS: dict[str, Callable[[float, float], float]] = {
    "chebyshev_polynomial_t": lambda x, n: mp.chebyt(n, x),
    "chebyshev_polynomial_u": lambda x, n: mp.chebyu(n, x),
    "chebyshev_polynomial_v": lambda x, n: chebyshev_v(n, x),
    "chebyshev_polynomial_w": lambda x, n: chebyshev_w(n, x),
    "shifted_chebyshev_polynomial_t": lambda x, n: mp.chebyt(n, 2 * x - 1),
    "shifted_chebyshev_polynomial_u": lambda x, n: mp.chebyu(n, 2 * x - 1),
    "shifted_chebyshev_polynomial_v": lambda x, n: chebyshev_v(n, 2 * x - 1),
    "shifted_chebyshev_polynomial_w": lambda x, n: chebyshev_w(n, 2 * x - 1),
    "hermite_polynomial_h": lambda x, n: mp.hermite(n, x),
    "hermite_polynomial_he": lambda x, n: mp.hermite(n, x / mp.sqrt(2)) / mp.sqrt(2) ** n,
    "laguerre_polynomial_l": lambda x, n: mp.laguerre(n, 0, x),
    "legendre_polynomial_p": lambda x, n: mp.legendre(n, x),
}

# Complex numbers as pairs


def complex_neg(re: Scalar, im: Scalar) -> tuple[Scalar, Scalar]:
    return -re, -im


def complex_conj(re: Scalar, im: Scalar) -> tuple[Scalar, Scalar]:
    return re, -im


def complex_sgn(re: Scalar, im: Scalar) -> tuple[Scalar, Scalar]:
    size = hypot(re, im)
    if branch(size, size.value == 0):
        return re, im
    return re / size, im / size


def complex_angle(re: Scalar, im: Scalar) -> Scalar:
    return function(math.atan2)(im, re)
