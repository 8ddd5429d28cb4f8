from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import activation, default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import OpCall, spec
from tests import oracles_activation as textbook
from tests.oracles import Tally
from tests.oracles_pointwise import Expression
from tests.pointwise_cases import OTHER, REAL, THIRD, UNIT, Case, check, registered
from tests.pricing import cost

aten = torch.ops.aten
X, W, G = torch.randn(2, 3), torch.rand(2, 3), torch.randn(2, 3)
PAIR = torch.randn(4, 3)  # halves of six
KEPT = torch.ones(2, 3, dtype=torch.bool)

# (why, in words; operators; arguments, all of six elements; expected)
ROWS = [
    ("six maxima", "relu.default", (X,), Cost(comparisons=6)),
    ("six choices", "threshold.default", (X, 0.1, 2.0), Cost(comparisons=6)),
    ("six choices", "threshold_backward.default", (G, X, 0.1), Cost(comparisons=6)),
    ("two bounds each", "hardtanh.default", (X,), Cost(comparisons=12)),
    ("two bounds each", "hardtanh_backward.default", (G, X, -1, 1), Cost(comparisons=12)),
    ("a choice and a slope", "leaky_relu.default", (X,), Cost(comparisons=6, muls=6)),
    (
        "a choice and a slope",
        "leaky_relu_backward.default",
        (G, X, 0.1, False),
        Cost(comparisons=6, muls=6),
    ),
    ("a choice and a slope", "_prelu_kernel.default", (X, W), Cost(comparisons=6, muls=6)),
    (
        "a choice, slope·g and x·g",
        "_prelu_kernel_backward.default",
        (G, X, W),
        Cost(comparisons=6, muls=12),
    ),
    (
        "a choice and a slope, drawn for nothing",
        "rrelu_with_noise.default rrelu_with_noise_.default rrelu_with_noise_functional.default",
        (X.clone(), W.clone(), 0.1, 0.3, True),
        Cost(comparisons=6, muls=6),
    ),
    (
        "times the noise in training",
        "rrelu_with_noise_backward.default",
        (G, X, W, 0.1, 0.3, True, False),
        Cost(muls=6),
    ),
    (
        "as leaky_relu's outside of it",
        "rrelu_with_noise_backward.default",
        (G, X, W, 0.1, 0.3, False, False),
        Cost(comparisons=6, muls=6),
    ),
    ("two borders", "hardshrink.default", (X, 0.5), Cost(comparisons=12)),
    ("two borders", "hardshrink_backward.default", (G, X, 0.5), Cost(comparisons=12)),
    ("two borders and λ", "softshrink.default", (X, 0.5), Cost(comparisons=12, adds=6)),
    ("two borders", "softshrink_backward.default", (G, X, 0.5), Cost(comparisons=12)),
    ("+3, two bounds, /6", "hardsigmoid.default", (X,), Cost(adds=6, comparisons=12, divs=6)),
    ("two borders, a sixth", "hardsigmoid_backward.default", (G, X), Cost(comparisons=12, muls=6)),
    (
        "hardsigmoid times x",
        "hardswish.default",
        (X,),
        Cost(adds=6, comparisons=12, divs=6, muls=6),
    ),
    (
        "two borders, x/3 + 1/2 times g",
        "hardswish_backward.default",
        (G, X),
        Cost(comparisons=12, divs=6, adds=6, muls=6),
    ),
    (
        "−x, exp, 1 +, x /",
        "silu.default",
        (X,),
        Cost(comparisons=6, transcendentals=6, adds=6, divs=6),
    ),
    (
        "sigmoid's 4; 1−s, 1+; x·, s·, g·",
        "silu_backward.default",
        (G, X),
        Cost(comparisons=6, transcendentals=6, adds=18, divs=6, muls=18),
    ),
    (
        "threshold, exp, log1p, tanh, x·",
        "mish.default",
        (X,),
        Cost(comparisons=6, transcendentals=18, muls=6),
    ),
    (
        "threshold, exp, log1p, tanh; sigmoid; t·t, x·s, product, g·; 1−, t+",
        "mish_backward.default",
        (G, X),
        Cost(comparisons=12, transcendentals=24, adds=18, divs=6, muls=24),
    ),
    ("1−y; ·y, ·g", "sigmoid_backward.default", (G, W), Cost(adds=6, muls=12)),
    ("1−; y·y, ·g", "tanh_backward.default", (G, W), Cost(adds=6, muls=12)),
    (
        "min, abs, minus; exp, log1p; one subtraction",
        "log_sigmoid_forward.default",
        (X,),
        Cost(comparisons=18, transcendentals=12, adds=6),
    ),
    (
        "a sign; z+1, m−; z/; ±, g·",
        "log_sigmoid_backward.default",
        (G, X, W),
        Cost(comparisons=6, adds=12, divs=6, muls=12),
    ),
    (
        "sigmoid and a product for each of 6 of 12 inputs",
        "glu.default",
        (PAIR, 0),
        Cost(comparisons=6, transcendentals=6, adds=6, divs=6, muls=6),
    ),
    (
        "sigmoid; g·s, ·a, ·(1−s) for each of 6 gradients, 12 results",
        "glu_backward.default",
        (G, PAIR, 0),
        Cost(comparisons=6, transcendentals=6, adds=12, divs=6, muls=18),
    ),
    (
        "sigmoid; da·s, s·db, y·; −, +",
        "glu_jvp.default",
        (G, PAIR, PAIR, 0),
        Cost(comparisons=6, transcendentals=6, adds=18, divs=6, muls=18),
    ),
    (
        "sigmoid; db·s, a·s, dg·s, ga·c, ·(a−y), da·s, y·c, ga·; −, +, −, −, −, +: 6 times",
        "glu_backward_jvp.default",
        (PAIR, G, PAIR, G, PAIR, 0),
        Cost(comparisons=6, transcendentals=6, adds=6 + 36, divs=6, muls=48),
    ),
    ("·mask ·scale", "native_dropout.default", (X, 0.5, True), Cost(muls=12)),
    ("train=None drops out too", "native_dropout.default", (X, 0.5, None), Cost(muls=12)),
    ("a copy in eval", "native_dropout.default", (X, 0.5, False), Cost()),
    ("·mask ·scale", "native_dropout_backward.default", (G, KEPT, 2.0), Cost(muls=12)),
    ("x−, x·, g /", "logit_backward.default", (G, W), Cost(adds=6, muls=6, divs=6)),
    (
        "and two borders",
        "logit_backward.default",
        (G, W, 0.1),
        Cost(adds=6, muls=6, divs=6, comparisons=12),
    ),
    ("x·, ·½, product; 1+; erf", "gelu.default", (X,), Cost(muls=18, adds=6, transcendentals=6)),
    (
        "x·√½, ½·; x·x, ·½, c·; x·, g·; 1+ and a sum; erf and exp",
        "gelu_backward.default",
        (G, X),
        Cost(muls=42, adds=12, transcendentals=12),
    ),
    ("a choice, an exp", "elu.default", (X,), Cost(comparisons=6, transcendentals=6)),
    (
        "αs and the input's scale",
        "elu.default",
        (X, 0.5, 1.5, 0.5),
        Cost(comparisons=6, transcendentals=6, muls=12),
    ),
    ("alpha 1 is elu", "celu.default", (X,), Cost(comparisons=6, transcendentals=6)),
    ("alpha·, ·1/alpha", "celu.default", (X, 0.5), Cost(comparisons=6, transcendentals=6, muls=12)),
    (
        "g·exp(x)",
        "elu_backward.default",
        (G, 1, 1, 1, False, X),
        Cost(comparisons=6, transcendentals=6, muls=6),
    ),
    (
        "g·i·αs·exp(x·i)",
        "elu_backward.default",
        (G, 0.5, 1.5, 0.5, False, X),
        Cost(comparisons=6, transcendentals=6, muls=24),
    ),
    (
        "g·(y + αs)",
        "elu_backward.default",
        (G, 0.5, 1.5, 1, True, X),
        Cost(comparisons=6, adds=6, muls=6),
    ),
    (
        "g·i·(y + αs)",
        "elu_backward.default",
        (G, 0.5, 1.5, 0.5, True, X),
        Cost(comparisons=6, adds=6, muls=12),
    ),
    (
        "threshold, exp, log1p",
        "softplus.default",
        (X,),
        Cost(comparisons=6, transcendentals=12),
    ),
    (
        "and x·β, /β",
        "softplus.default",
        (X, 2),
        Cost(comparisons=6, transcendentals=12, muls=6, divs=6),
    ),
    (
        "threshold, exp; g·z; z+1; /",
        "softplus_backward.default",
        (G, X, 1, 20),
        Cost(comparisons=6, transcendentals=6, muls=6, adds=6, divs=6),
    ),
    (
        "and x·β",
        "softplus_backward.default",
        (G, X, 2, 20),
        Cost(comparisons=6, transcendentals=6, muls=12, adds=6, divs=6),
    ),
]

EXPRESSIONS = [
    Case("relu.default", textbook.relu, (REAL,)),
    Case("threshold.default", textbook.threshold, (REAL, 0.5, 2.0)),
    Case("threshold_backward.default", textbook.threshold_backward, (OTHER, REAL, 0.5)),
    Case("hardtanh.default", textbook.hardtanh, (REAL, -2.0, 3.0)),
    Case("hardtanh_backward.default", textbook.hardtanh_backward, (OTHER, REAL, -2.0, 3.0)),
    Case("leaky_relu.default", textbook.leaky_relu, (REAL, 0.2)),
    Case("leaky_relu_backward.default", textbook.leaky_relu_backward, (OTHER, REAL, 0.2, False)),
    Case("_prelu_kernel.default", textbook.prelu, (REAL, OTHER)),
    Case("_prelu_kernel_backward.default", textbook.prelu_backward, (OTHER, REAL, THIRD)),
    Case("hardshrink.default", textbook.hardshrink, (REAL, 0.5)),
    Case("hardshrink_backward.default", textbook.hardshrink_backward, (OTHER, REAL, 0.5)),
    Case("softshrink.default", textbook.softshrink, (REAL, 0.5)),
    Case("softshrink_backward.default", textbook.hardshrink_backward, (OTHER, REAL, 0.5)),
    Case("hardsigmoid.default", textbook.hardsigmoid, (REAL,)),
    Case("hardsigmoid_backward.default", textbook.hardsigmoid_backward, (OTHER, REAL)),
    Case("hardswish.default", textbook.hardswish, (REAL,)),
    Case("hardswish_backward.default", textbook.hardswish_backward, (OTHER, REAL)),
    *(Case("elu.default", textbook.elu, (REAL, *o)) for o in [(1, 1, 1), (0.5, 1.5, 0.7)]),
    *(Case("celu.default", textbook.celu, (REAL, alpha)) for alpha in [1, 2.0]),
    *(
        Case("elu_backward.default", textbook.elu_backward, (OTHER, *o, from_result, REAL))
        for o in [(1, 1, 1), (0.5, 1.5, 1), (0.5, 1.5, 0.7)]
        for from_result in [False, True]
    ),
    Case("silu.default", textbook.silu, (REAL,)),
    Case("silu_backward.default", textbook.silu_backward, (OTHER, REAL)),
    *(
        case
        for mode in ["none", "tanh"]
        for case in [
            Case("gelu.default", textbook.gelu, (REAL,), {"approximate": mode}),
            Case(
                "gelu_backward.default",
                textbook.gelu_backward,
                (OTHER, REAL),
                {"approximate": mode},
            ),
        ]
    ),
    *(Case("softplus.default", textbook.softplus, (REAL, beta, 5)) for beta in [1, 2]),
    *(
        Case("softplus_backward.default", textbook.softplus_backward, (OTHER, REAL, beta, 5))
        for beta in [1, 2]
    ),
    Case("mish.default", textbook.mish, (REAL,)),
    Case("mish_backward.default", textbook.mish_backward, (OTHER, REAL)),
    Case("sigmoid_backward.default", textbook.sigmoid_backward, (OTHER, THIRD)),
    Case("tanh_backward.default", textbook.tanh_backward, (OTHER, THIRD)),
    Case("log_sigmoid_forward.default", textbook.log_sigmoid_forward, (REAL,)),
    Case(
        "log_sigmoid_backward.default",
        textbook.log_sigmoid_backward,
        (OTHER, REAL, [math.exp(-abs(x)) for x in REAL]),
    ),
    Case("logit_backward.default", textbook.logit_backward, (OTHER[:6], UNIT)),
    Case("logit_backward.default", textbook.logit_backward, (OTHER[:6], UNIT, 0.15)),
]

# Kernels that no CPU runs; priced as the dispatcher would describe their calls.
ONLY_ON_CUDA = [
    ("_fused_dropout.default", (spec(2, 3), 0.5), (spec(2, 3), spec(2, 3)), Cost(muls=12)),
    ("_masked_scale.default", (spec(2, 3), spec(2, 3), 2.0), spec(2, 3), Cost(muls=12)),
]


@pytest.mark.parametrize(
    ("why", "name", "args", "expected"),
    [(why, n, args, expected) for why, names, args, expected in ROWS for n in names.split()],
)
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    for overload in overloads(name):
        assert cost(overload, *args) == expected, why


def test_hand_arithmetic_of_gelu_by_tanh() -> None:
    # x·½, product; x·x·x, κ·, β·: 6 muls; 1+ and x+; a tanh
    by_tanh = cost(aten.gelu.default, X, approximate="tanh")
    assert by_tanh == Cost(muls=36, adds=12, transcendentals=6)
    # x², x³, κ·, β·, 3κ·, β·, ½·, ½·, t·t, two products, g·: 12 muls; x+, 1+, 1+, 1−, sum
    backward = cost(aten.gelu_backward.default, G, X, approximate="tanh")
    assert backward == Cost(muls=72, adds=30, transcendentals=6)


@pytest.mark.parametrize(("name", "args", "result", "expected"), ONLY_ON_CUDA)
def test_kernels_that_only_cuda_has(
    name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    (overload,) = overloads(name)
    priced = default_registry().price(OpCall(overload, args, (), result))
    assert priced.cost.moving(0, 0) == expected


def test_every_rule_has_a_row() -> None:
    rows = {name for _, names, *_ in ROWS for name in names.split()}
    rows |= {name for name, *_ in ONLY_ON_CUDA}
    assert registered(activation.rules) - {"rrelu_with_noise.out"} == rows


@pytest.mark.parametrize("case", EXPRESSIONS, ids=str)
def test_an_activation_is_its_textbook_expression(case: Case) -> None:
    check(case)


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), dim=st.integers(0, 1))
def test_glu_and_its_gradients_are_their_textbook_expressions(
    rows: int, columns: int, dim: int
) -> None:
    a, b, g, da, db, dg = torch.randn(6, rows, columns, dtype=torch.float64)
    x, dx = torch.cat([a, b], dim), torch.cat([da, db], dim)
    y, grad_x = aten.glu.default(x, dim), aten.glu_backward.default(g, x, dim)
    cases: list[tuple[Any, tuple[Any, ...], Expression, tuple[torch.Tensor, ...]]] = [
        (aten.glu.default, (x, dim), textbook.glu, (a, b)),
        (aten.glu_backward.default, (g, x, dim), textbook.glu_backward, (g, a, b)),
        (aten.glu_jvp.default, (y, x, dx, dim), textbook.glu_jvp, (y, b, da, db)),
        (
            aten.glu_backward_jvp.default,
            (grad_x, g, x, dg, dx, dim),
            textbook.glu_backward_jvp,
            (grad_x.narrow(dim, 0, a.shape[dim]), g, a, b, dg, da, db),
        ),
    ]
    for op, args, expression, operands in cases:
        tally = Tally()
        columns_of = zip(*(tally.scalars(operand).values() for operand in operands))
        results = [expression(*scalars) for scalars in columns_of]
        halves = zip(*(r if isinstance(r, tuple) else (r,) for r in results))
        values = [torch.tensor([v.value for v in half]).reshape(rows, columns) for half in halves]
        torch.testing.assert_close(torch.cat(values, dim), op(*args), check_dtype=False)
        assert cost(op, *args) == tally.cost


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropout_is_the_input_times_its_mask_and_a_scale(p: float) -> None:
    x = torch.tensor(REAL, dtype=torch.float64)
    y, mask = aten.native_dropout.default(x, p, True)
    tally = Tally()
    expected = [
        textbook.masked(tally.scalar(v), tally.scalar(float(m)), 1 / (1 - p)).value
        for v, m in zip(REAL, mask)
    ]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64))
    assert cost(aten.native_dropout.default, x, p, True) == tally.cost
    gradient = aten.native_dropout_backward.default(x, mask, 1 / (1 - p))
    torch.testing.assert_close(gradient, y)
    assert cost(aten.native_dropout_backward.default, x, mask, 1 / (1 - p)) == tally.cost


def test_rrelu_is_leaky_relu_with_a_slope_that_is_drawn() -> None:
    x = torch.full((4,), -1.5, dtype=torch.float64)  # the costlier branch
    noise = torch.zeros(4, dtype=torch.float64)
    y = aten.rrelu_with_noise.default(x, noise, 0.1, 0.3, True)
    tally = Tally()
    slopes = noise.tolist()
    expected = [textbook.leaky_relu(tally.scalar(-1.5), slope).value for slope in slopes]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64))
    assert cost(aten.rrelu_with_noise.default, x, noise, 0.1, 0.3, True) == tally.cost
    out = torch.empty_like(x)
    assert cost(aten.rrelu_with_noise.out, x, noise, 0.1, 0.3, True, out=out) == tally.cost
    gradient = aten.rrelu_with_noise_backward.default(x, x, noise, 0.1, 0.3, True, False)
    torch.testing.assert_close(gradient, noise * x)


def test_a_gradient_that_meta_decomposes_costs_the_same_there() -> None:
    """Meta runs mish_backward as these operators, the CPU as one kernel."""
    softplus, tanh = cost(aten.softplus.default, X), cost(aten.tanh.default, X)
    sigmoid, mul = cost(aten.sigmoid.default, X), cost(aten.mul.Tensor, X, X)
    add = cost(aten.add.Tensor, X, X)
    parts = [softplus, tanh, sigmoid, *[mul] * 4, *[add] * 2]
    assert cost(aten.mish_backward.default, G, X) == sum(parts)
    parts = [sigmoid, *[mul] * 3, *[add] * 2]
    assert cost(aten.silu_backward.default, G, X) == sum(parts)
