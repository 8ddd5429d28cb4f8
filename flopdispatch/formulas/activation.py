"""Activation functions, dropout, and their gradients: one cost per output element.

Letters: g the gradient of the output, x the input, y the output, s = sigmoid(x).
The conventions are those of `pointwise`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import (
    ADD,
    COMPARISON,
    DIV,
    MUL,
    SIGMOID,
    TRANSCENDENTAL,
    Number,
    Row,
    per_output,
    register_table,
)
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("pointwise")

SOFTPLUS = COMPARISON + 2 * TRANSCENDENTAL  # x if x > threshold else log1p(exp(x))

ACTIVATIONS: Sequence[Row] = (
    # Piecewise linear
    ("relu.default", COMPARISON, "max(x, 0)"),
    ("threshold.default", COMPARISON, "x if x > threshold else value"),
    ("threshold_backward.default", COMPARISON, "g if x > threshold else 0"),
    ("hardtanh.default", 2 * COMPARISON, "min(max(x, low), high)"),
    ("hardtanh_backward.default", 2 * COMPARISON, "g if low < x < high else 0"),
    ("leaky_relu.default _prelu_kernel.default", COMPARISON + MUL, "x if x > 0 else slope·x"),
    ("leaky_relu_backward.default", COMPARISON + MUL, "g if x > 0 else slope·g"),
    (
        "_prelu_kernel_backward.default",
        COMPARISON + 2 * MUL,
        "(g, 0) if x > 0 else (slope·g, x·g)",
    ),
    ("hardshrink.default", 2 * COMPARISON, "0 if −λ ≤ x ≤ λ else x"),
    ("hardshrink_backward.default", 2 * COMPARISON, "0 if −λ ≤ x ≤ λ else g"),
    ("softshrink.default", 2 * COMPARISON + ADD, "x − λ if x > λ, x + λ if x < −λ, else 0"),
    ("softshrink_backward.default", 2 * COMPARISON, "0 if −λ ≤ x ≤ λ else g"),
    ("hardsigmoid.default", ADD + 2 * COMPARISON + DIV, "min(max(x + 3, 0), 6) / 6"),
    ("hardsigmoid_backward.default", 2 * COMPARISON + MUL, "g·(1/6) if −3 < x < 3 else 0"),
    ("hardswish.default", ADD + 2 * COMPARISON + MUL + DIV, "x·min(max(x + 3, 0), 6) / 6"),
    (
        "hardswish_backward.default",
        2 * COMPARISON + DIV + ADD + MUL,
        "0 if x ≤ −3, g·(x/3 + 1/2) if x < 3, else g",
    ),
    # Smooth
    ("silu.default", SIGMOID, "x / (1 + exp(−x))"),
    ("silu_backward.default", SIGMOID + 3 * MUL + 2 * ADD, "g·s·(1 + x·(1 − s))"),
    ("mish.default", SOFTPLUS + TRANSCENDENTAL + MUL, "x·tanh(softplus(x))"),
    (
        "mish_backward.default",
        SOFTPLUS + TRANSCENDENTAL + SIGMOID + 4 * MUL + 2 * ADD,
        "g·(t + x·s·(1 − t·t)), t = tanh(softplus(x))",
    ),
    ("sigmoid_backward.default", 2 * MUL + ADD, "g·(1 − y)·y"),
    ("tanh_backward.default", 2 * MUL + ADD, "g·(1 − y·y)"),
    (
        "log_sigmoid_forward.default",
        3 * COMPARISON + 2 * TRANSCENDENTAL + ADD,
        "min(x, 0) − log1p(exp(−|x|))",
    ),
    (
        "log_sigmoid_backward.default",
        COMPARISON + 2 * ADD + DIV + 2 * MUL,
        "g·(m − n·(z / (1 + z))), (m, n) = (1, 1) if x < 0 else (0, −1), z kept from the forward",
    ),
    ("glu.default", SIGMOID + MUL, "a·sigmoid(b)"),
    (
        "glu_jvp.default",
        SIGMOID + 3 * MUL + 2 * ADD,
        "da·s + y·(db − s·db), s = sigmoid(b)",
    ),
    # Dropout: random numbers are no arithmetic
    ("_fused_dropout.default", 2 * MUL, "x·mask·scale"),
    ("native_dropout_backward.default _masked_scale.default", 2 * MUL, "g·mask·scale"),
)

register_table(rules, ACTIVATIONS)


def noisy_bytes(
    self: TensorSpec, noise: TensorSpec, training: bool, result: TensorSpec
) -> tuple[int, int]:
    """The slopes that training draws are written as noise; evaluating leaves it alone."""
    return size(self), size(result, noise if training else None)


RANDOM_SLOPE = per_output(
    COMPARISON + MUL, "x if x > 0 else slope·x, the slope random or the mean of its bounds"
)
rules.formula(
    *overloads("rrelu_with_noise.default", "rrelu_with_noise.out", "rrelu_with_noise_.default"),
    nbytes=noisy_bytes,
)(RANDOM_SLOPE)
rules.formula(*overloads("rrelu_with_noise_functional.default"))(RANDOM_SLOPE)


@rules.formula(*overloads("glu_backward.default"))
def glu_backward(grad_output: TensorSpec) -> Cost:
    """ga = g·s and gb = ga·a·(1 − s), s = sigmoid(b).

    Counts: per element of grad_output, which has half of the result's, the sigmoid, 3 muls
    and an add.
    """
    return (SIGMOID + 3 * MUL + ADD) * grad_output.numel


@rules.formula(*overloads("glu_backward_jvp.default"))
def glu_backward_jvp(grad_glu: TensorSpec) -> Cost:
    """The tangents of ga = g·s and gb = ga·(a − a·s), s = sigmoid(b), from those of g, a and b.

    With c = db − db·s and y = a·s: dga = dg·s + ga·c; dgb = dga·(a − y) + ga·(da − da·s − y·c).
    Counts: per element of grad_glu, which has half of the result's, the sigmoid, 8 muls and 6
    adds; ga is given.
    """
    return (SIGMOID + 8 * MUL + 6 * ADD) * grad_glu.numel


@rules.formula(*overloads("rrelu_with_noise_backward.default"))
def rrelu_with_noise_backward(training: bool, result: TensorSpec) -> Cost:
    """g·noise in training, else g if x > 0 else slope·g."""
    return (MUL if training else COMPARISON + MUL) * result.numel


@rules.formula(*overloads("native_dropout.default"))
def native_dropout(train: bool | None, input: TensorSpec) -> Cost:
    """x·mask·scale in training, else x as it is."""
    return Cost() if train is False else 2 * MUL * input.numel


@rules.formula(*overloads("logit_backward.default"))
def logit_backward(eps: float | None, result: TensorSpec) -> Cost:
    """g / (x·(1 − x)); where eps is given, 0 outside of [eps, 1 − eps]."""
    each = ADD + MUL + DIV
    return (each if eps is None else each + 2 * COMPARISON) * result.numel


@rules.formula(*overloads("gelu.default"))
def gelu(approximate: str, result: TensorSpec) -> Cost:
    """x·½·(1 + erf(x·√½)), or x·½·(1 + tanh(β·(x + κ·x·x·x))).

    Counts: per output 3 muls, one add and an erf; by tanh 6 muls, 2 adds and a tanh.
    """
    each = 6 * MUL + 2 * ADD if approximate == "tanh" else 3 * MUL + ADD
    return (each + TRANSCENDENTAL) * result.numel


@rules.formula(*overloads("gelu_backward.default"))
def gelu_backward(approximate: str, result: TensorSpec) -> Cost:
    """g·(½·(1 + erf(x·√½)) + x·(c·exp(x·x·(−½)))); by tanh:

    g·(½·(1 + t) + ½·x·(1 − t·t)·(β·(1 + 3κ·x²))), t = tanh(β·(x + κ·x²·x)), x² = x·x.

    Counts: per output 7 muls, 2 adds, an erf and an exp; by tanh 12 muls, 5 adds, one tanh.
    """
    if approximate == "tanh":
        return (12 * MUL + 5 * ADD + TRANSCENDENTAL) * result.numel
    return (7 * MUL + 2 * ADD + 2 * TRANSCENDENTAL) * result.numel


# Factors that are options: a factor of 1 isn't multiplied


def factors(*values: Number) -> Cost:
    """A mul for each of these factors that is not 1."""
    return MUL * sum(value != 1 for value in values)


@rules.formula(*overloads("elu.default"))
def elu(alpha: Number, scale: Number, input_scale: Number, result: TensorSpec) -> Cost:
    """scale·x if x > 0 else (alpha·scale)·expm1(x·input_scale)."""
    each = COMPARISON + TRANSCENDENTAL + factors(alpha * scale, input_scale)
    return each * result.numel


@rules.formula(*overloads("celu.default"))
def celu(alpha: Number, result: TensorSpec) -> Cost:
    """x if x > 0 else alpha·expm1(x·(1/alpha))."""
    return (COMPARISON + TRANSCENDENTAL + factors(alpha, alpha)) * result.numel


@rules.formula(*overloads("elu_backward.default"))
def elu_backward(
    alpha: Number, scale: Number, input_scale: Number, is_result: bool, result: TensorSpec
) -> Cost:
    """scale·g if x > 0 else the derivative of the exponential branch.

    That is g·input_scale·(alpha·scale)·exp(x·input_scale), or from the output
    g·input_scale·(y + alpha·scale).
    """
    if is_result:
        each = COMPARISON + MUL + ADD + factors(input_scale)
    else:
        each = COMPARISON + MUL + TRANSCENDENTAL
        each += factors(input_scale, alpha * scale, input_scale)
    return each * result.numel


@rules.formula(*overloads("softplus.default"))
def softplus(beta: Number, result: TensorSpec) -> Cost:
    """x if x·beta > threshold else log1p(exp(x·beta)) / beta."""
    scaling = Cost() if beta == 1 else MUL + DIV
    return (SOFTPLUS + scaling) * result.numel


@rules.formula(*overloads("softplus_backward.default"))
def softplus_backward(beta: Number, result: TensorSpec) -> Cost:
    """g if x·beta > threshold else g·z / (z + 1), z = exp(x·beta)."""
    each = COMPARISON + TRANSCENDENTAL + MUL + ADD + DIV + factors(beta)
    return each * result.numel
