"""Activations and their gradients as textbooks write them, on Scalars that count.

Letters: x the input; y the output; g the gradient of the output; s = sigmoid(x).
"""

from __future__ import annotations

import math

from tests.oracles import Scalar
from tests.oracles_pointwise import (
    BETA,
    KAPPA,
    ROOT_HALF,
    absolute,
    branch,
    exp,
    expm1,
    function,
    log1p,
    plain,
    sigmoid,
    tanh,
    times,
)

erf = function(math.erf)

# Piecewise linear


def relu(x: Scalar) -> Scalar:
    return x.at_least(0)


def threshold(x: Scalar, threshold: float, value: float) -> Scalar:
    return x if branch(x, x.value > threshold) else plain(x, value)


def threshold_backward(g: Scalar, x: Scalar, threshold: float) -> Scalar:
    return g if branch(x, x.value > threshold) else plain(x, 0.0)


def hardtanh(x: Scalar, min_val: float = -1, max_val: float = 1) -> Scalar:
    return x.at_least(min_val).at_most(max_val)


def between(x: Scalar, low: float, high: float) -> bool:
    """low < x < high, two comparisons."""
    return branch(x, x.value > low) and branch(x, x.value < high)


def hardtanh_backward(g: Scalar, x: Scalar, min_val: float, max_val: float) -> Scalar:
    return g if between(x, min_val, max_val) else plain(x, 0.0)


def leaky_relu(x: Scalar, negative_slope: float = 0.01) -> Scalar:
    return x if branch(x, x.value > 0) else x * negative_slope


def leaky_relu_backward(
    g: Scalar, x: Scalar, negative_slope: float, self_is_result: bool = False
) -> Scalar:
    return g if branch(x, x.value > 0) else g * negative_slope


def prelu(x: Scalar, weight: Scalar) -> Scalar:
    return x if branch(x, x.value > 0) else weight * x


def prelu_backward(g: Scalar, x: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
    if branch(x, x.value > 0):
        return g, plain(x, 0.0)
    return weight * g, x * g


def hardshrink(x: Scalar, lambd: float) -> Scalar:
    return plain(x, 0.0) if between(x, -lambd, lambd) else x


def hardshrink_backward(g: Scalar, x: Scalar, lambd: float) -> Scalar:
    return plain(x, 0.0) if between(x, -lambd, lambd) else g


def softshrink(x: Scalar, lambd: float) -> Scalar:
    if branch(x, x.value > lambd):
        return x - lambd
    return x + lambd if branch(x, x.value < -lambd) else plain(x, 0.0)


def hardsigmoid(x: Scalar) -> Scalar:
    return (x + 3).at_least(0).at_most(6) / 6


def hardsigmoid_backward(g: Scalar, x: Scalar) -> Scalar:
    return g * (1 / 6) if between(x, -3, 3) else plain(x, 0.0)


def hardswish(x: Scalar) -> Scalar:
    return x * (x + 3).at_least(0).at_most(6) / 6


def hardswish_backward(g: Scalar, x: Scalar) -> Scalar:
    if branch(x, x.value <= -3):
        return plain(x, 0.0)
    return g * (x / 3 + 0.5) if branch(x, x.value < 3) else g


# Smooth


def elu(x: Scalar, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Scalar:
    if branch(x, x.value > 0):
        return times(x, scale)
    return times(expm1(times(x, input_scale)), alpha * scale)


def celu(x: Scalar, alpha: float = 1) -> Scalar:
    return elu(x, alpha, 1, 1 / alpha)


def elu_backward(
    g: Scalar, alpha: float, scale: float, input_scale: float, is_result: bool, x: Scalar
) -> Scalar:
    if branch(x, x.value > 0):
        return times(g, scale)
    if is_result:
        return times(g, input_scale) * (x + alpha * scale)
    return times(times(g, input_scale), alpha * scale) * exp(times(x, input_scale))


def silu(x: Scalar) -> Scalar:
    return x / (1 + exp(-x))


def silu_backward(g: Scalar, x: Scalar) -> Scalar:
    s = sigmoid(x)
    return g * s * (1 + x * (1 - s))


def gelu(x: Scalar, approximate: str = "none") -> Scalar:
    if approximate == "none":
        return x * 0.5 * (1 + erf(x * ROOT_HALF))
    return x * 0.5 * (1 + tanh((x + x * x * x * KAPPA) * BETA))


def gelu_backward(g: Scalar, x: Scalar, approximate: str = "none") -> Scalar:
    if approximate == "none":
        cumulative = (1 + erf(x * ROOT_HALF)) * 0.5
        density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return g * (cumulative + x * density)
    square = x * x
    t = tanh((x + square * x * KAPPA) * BETA)
    inner = (1 + square * (3 * KAPPA)) * BETA
    return g * ((1 + t) * 0.5 + x * 0.5 * (1 - t * t) * inner)


def softplus(x: Scalar, beta: float = 1, threshold: float = 20) -> Scalar:
    scaled = times(x, beta)
    if branch(scaled, scaled.value > threshold):
        return x
    value = log1p(exp(scaled))
    return value if beta == 1 else value / beta


def softplus_backward(g: Scalar, x: Scalar, beta: float, threshold: float) -> Scalar:
    scaled = times(x, beta)
    if branch(scaled, scaled.value > threshold):
        return g
    z = exp(scaled)
    return g * z / (z + 1)


def mish(x: Scalar) -> Scalar:
    return x * tanh(softplus(x))


def mish_backward(g: Scalar, x: Scalar) -> Scalar:
    t, s = tanh(softplus(x)), sigmoid(x)
    return g * (t + x * s * (1 - t * t))


def sigmoid_backward(g: Scalar, y: Scalar) -> Scalar:
    return g * (1 - y) * y


def tanh_backward(g: Scalar, y: Scalar) -> Scalar:
    return g * (1 - y * y)


def logit_backward(g: Scalar, x: Scalar, eps: float | None = None) -> Scalar:
    if eps is not None and not between(x, eps, 1 - eps):
        return plain(x, 0.0)
    return g / (x * (1 - x))


def log_sigmoid_forward(x: Scalar) -> tuple[Scalar, Scalar]:
    z = exp(-absolute(x))
    return x.at_most(0) - log1p(z), z


def log_sigmoid_backward(g: Scalar, x: Scalar, z: Scalar) -> Scalar:
    slope, sign = (1.0, 1.0) if branch(x, x.value < 0) else (0.0, -1.0)
    return g * (slope - (z / (z + 1)) * sign)


def glu(a: Scalar, b: Scalar) -> Scalar:
    return a * sigmoid(b)


def glu_backward(g: Scalar, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    s = sigmoid(b)
    grad_a = g * s
    return grad_a, grad_a * a * (1 - s)


def glu_jvp(y: Scalar, b: Scalar, da: Scalar, db: Scalar) -> Scalar:
    s = sigmoid(b)
    return da * s + y * (db - s * db)


def glu_backward_jvp(
    ga: Scalar, g: Scalar, a: Scalar, b: Scalar, dg: Scalar, da: Scalar, db: Scalar
) -> tuple[Scalar, Scalar]:
    s = sigmoid(b)
    c, y = db - db * s, a * s
    dga = dg * s + ga * c
    return dga, dga * (a - y) + ga * (da - da * s - y * c)


def masked(x: Scalar, mask: Scalar, factor: float) -> Scalar:
    return x * mask * factor
