from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flopdispatch.cost import Cost
from flopdispatch.formulas import attention, attention_layers, attention_packed
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import TensorSpec, spec
from tests import oracles_attention as loops
from tests.dispatched import Dispatched
from tests.formulas import test_attention
from tests.oracles import Tally
from tests.pricing import cost, cost_of_specs

aten = torch.ops.aten
size = st.integers(1, 3)


def s(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=torch.float32)


# Two images of 10 positions of 16, 4 heads: projections of 20·16·16 four times; 4·2·10 = 80 rows
# of 10 scores of 4 + 4; biases of 4·320.
x, w_in, b_in, w_out, b_out = s(2, 10, 16), s(48, 16), s(48), s(16, 16), s(16)
HEADS = Cost(
    macs=4 * 20 * 16 * 16 + 800 * 8,
    adds=4 * 320 + 800 + 80 * 9,
    muls=800,
    comparisons=80 * 9,
    transcendentals=800,
    divs=800,
)
# Hidden 20·32; two residuals of 320; two norms of 20 rows of 16.
ENCODER = HEADS + Cost(
    macs=2 * 20 * 16 * 32,
    adds=640 + 320 + 2 * 320 + 2 * (20 * (15 + 16 + 15 + 1) + 320),
    muls=2 * 3 * 320,
    divs=2 * 2 * 20,
    transcendentals=2 * 20,
)
w_1, b_1, w_2 = s(32, 16), s(32), s(16, 32)
encoder = (w_in, b_in, w_out, b_out)
norms_ffn = (b_out, b_out, b_out, b_out, w_1, b_1, w_2, b_out)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    (
        "a bias each; the 320 of the queries scaled",
        "_transform_bias_rescale_qkv.default",
        (s(2, 10, 48), b_in, 4),
        Cost(adds=960, muls=320),
    ),
    (
        "weights not asked for",
        "_native_multi_head_attention.default",
        (x, x, x, 16, 4, *encoder, None, False),
        HEADS,
    ),
    (
        "the mean of 4 heads for 2·10·10 weights",
        "_native_multi_head_attention.default",
        (x, x, x, 16, 4, *encoder),
        HEADS + Cost(adds=200 * 3, divs=200),
    ),
    (
        "weights of each head",
        "_native_multi_head_attention.default",
        (x, x, x, 16, 4, *encoder, None, True, False),
        HEADS,
    ),
    (
        "a mask added to 800 scores",
        "_native_multi_head_attention.default",
        (x, x, x, 16, 4, *encoder, s(2, 4, 10, 10), False),
        HEADS + Cost(adds=800),
    ),
    (
        "5 keys: 20 queries and 10 keys of 16 projected twice each, 400 scores of 4 + 4",
        "_native_multi_head_attention.default",
        (x, s(2, 5, 16), s(2, 5, 16), 16, 4, *encoder, None, False),
        Cost(
            macs=2 * 20 * 256 + 2 * 10 * 256 + 400 * 8,
            adds=2 * 320 + 2 * 160 + 400 + 80 * 4,
            muls=400,
            comparisons=80 * 4,
            transcendentals=400,
            divs=400,
        ),
    ),
    ("as the native", "_triton_multi_head_attention.default", (x, x, x, 16, 4, *encoder), HEADS),
    (
        "the heads, two layers of 20·16·32, ReLU of 640, two residuals, two norms",
        "_transformer_encoder_layer_fwd.default",
        (x, 16, 4, *encoder, False, False, 1e-5, *norms_ffn),
        ENCODER + Cost(comparisons=640),
    ),
    (
        "GELU of 640: 3 products, an addition and an erf",
        "_transformer_encoder_layer_fwd.default",
        (x, 16, 4, *encoder, True, True, 1e-5, *norms_ffn),
        ENCODER + Cost(muls=3 * 640, adds=640, transcendentals=640),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: str, args: tuple[Any, ...], expected: Cost) -> None:
    for overload in overloads(op):
        assert cost_of_specs(overload, *args, result=None) == expected, why


def test_every_rule_of_attention_has_a_row() -> None:
    names = [op for _, op, *_ in ROWS] + [op for _, op, *_ in test_attention.ROWS]
    rules = (*attention.rules, *attention_packed.rules, *attention_layers.rules)
    known = {rule.overload for rule in rules if not isinstance(rule.overload, str)}
    assert known == set(overloads(*names))


def test_the_known_examples_of_other_tools_zeros() -> None:
    """53,760 and 94,720 FLOPs of matrix products, which FlopCounterMode counts as none."""
    assert (2 * HEADS.macs, 2 * ENCODER.macs) == (53_760, 94_720)


@given(b=st.integers(1, 2), n=size, heads=st.integers(1, 3), d=st.integers(2, 3))
@settings(max_examples=15)
def test_multi_head_attention_is_the_loop(b: int, n: int, heads: int, d: int) -> None:
    m = heads * d
    data = torch.randn(b, n, m)
    weights = (torch.randn(3 * m, m), torch.randn(3 * m), torch.randn(m, m), torch.randn(m))
    args = (data, data, data, m, heads, *weights)
    tally = Tally()
    out, mean = loops.multi_head(tally, data, heads, weights)
    expected = aten._native_multi_head_attention(*args)
    torch.testing.assert_close(out.float(), expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mean.float(), expected[1], rtol=1e-4, atol=1e-4)
    assert cost(aten._native_multi_head_attention.default, *args) == tally.cost


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_takes_the_same_macs_without_grad(need_weights: bool) -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    data = torch.randn(2, 10, 16)

    with Dispatched() as composed:
        layer(data, data, data, need_weights=need_weights)
    with torch.no_grad(), Dispatched() as fused:
        layer(data, data, data, need_weights=need_weights)
    assert len(fused.prices) == 1
    assert (composed.total().macs, fused.total().macs) == (26_880, 26_880)
    if not need_weights:  # with weights, torch scales the queries instead of the scores
        assert fused.total() == composed.total()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_layer_is_what_it_is_composed_of(activation: str, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, activation=activation, norm_first=norm_first
    ).eval()
    data = torch.randn(2, 10, 16)
    with Dispatched() as composed:
        layer(data)
    with torch.no_grad(), Dispatched() as fused:
        layer(data)
    assert len(fused.prices) == 1
    assert composed.total().macs == 47_360
    assert fused.total() == composed.total()


def test_a_dense_batch_is_no_estimate() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    with torch.no_grad(), Dispatched() as dispatched:
        layer(torch.randn(2, 5, 16))
    assert [p.estimate for _, p in dispatched.prices if p.family == "attention"] == [""]
