from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.spec import OpCall, spec
from tests import oracles_rnn as loop
from tests.formulas.test_rnn import GRU, LSTM, operations, since
from tests.oracles import Tally
from tests.pricing import cost
from tests.versions import needs_torch

aten = torch.ops.aten
f64 = torch.float64


@needs_torch(2, 15, "the fused cells have no kernel for meta")
def test_hand_arithmetic_of_cells() -> None:
    def ones(*sizes: int) -> torch.Tensor:
        return torch.ones(*sizes, device="meta")

    lstm, gru = aten._thnn_fused_lstm_cell.default, aten._thnn_fused_gru_cell.default
    whole_lstm = Cost(adds=6 * 8, muls=6 * 3, divs=6 * 3, transcendentals=6 * 5, comparisons=6 * 3)
    gates, state = ones(2, 12), ones(2, 3)
    assert cost(lstm, gates, gates, state) == whole_lstm
    with_biases = cost(lstm, gates, gates, state, ones(12), ones(12))
    assert with_biases == replace(whole_lstm, adds=6 * (8 + 8))
    whole_gru = Cost(adds=6 * 7, muls=6 * 2, divs=6 * 2, transcendentals=6 * 3, comparisons=6 * 2)
    gates = ones(2, 9)
    assert cost(gru, gates, gates, state) == whole_gru
    with_biases = cost(gru, gates, gates, state, ones(9), ones(9))
    assert with_biases == replace(whole_gru, adds=6 * (7 + 6))


def test_hand_arithmetic_of_cells_backward() -> None:
    def ones(*sizes: int) -> torch.Tensor:
        return torch.ones(*sizes, device="meta")

    lstm = aten._thnn_fused_lstm_cell_backward_impl.default
    state = ones(4, 3)
    for has_bias in (False, True):
        got = cost(lstm, state, state, state, state, ones(4, 12), has_bias)
        assert got == Cost(adds=12 * 6 + 3 * 12 * has_bias, muls=12 * 16)
    for has_bias in (False, True):
        got = gru_cell_backward(4, 3, has_bias)
        assert got == Cost(adds=12 * 4 + 3 * 2 * 9 * has_bias, muls=12 * 10)


@needs_torch(2, 15, "the fused cells have no kernel for meta")
@given(mode=st.sampled_from([LSTM, GRU]), batch=st.integers(1, 3), hidden=st.integers(1, 3))
def test_a_cell_is_its_loop(mode: int, batch: int, hidden: int) -> None:
    tally = Tally()
    gates = (4 if mode == LSTM else 3) * hidden
    a, b = torch.randn(2, batch, gates, dtype=f64)
    h, c = torch.randn(2, batch, hidden, dtype=f64)
    biases = torch.randn(2, gates, dtype=f64)
    bias_a, bias_b = loop.nested(tally, biases)
    outs, kept = [], []
    for x, y, before, state in zip(*(loop.nested(tally, t) for t in (a, b, h, c))):
        out, _, saved = loop.cell(mode, loop.plus(x, bias_a), loop.plus(y, bias_b), before, state)
        outs.append(out)
        kept.append(saved)
    torch.testing.assert_close(loop.values(outs), cell(mode, a + biases[0], b + biases[1], h, c))
    op = aten._thnn_fused_lstm_cell if mode == LSTM else aten._thnn_fused_gru_cell
    inputs = [t.to("meta") for t in (a, b, c if mode == LSTM else h, *biases)]
    assert cost(op.default, *inputs) == tally.cost

    counts = dict(tally.counts)
    gradients = [
        loop.cell_back(mode, saved, [tally.scalar(1.0)] * hidden, [tally.scalar(0.5)] * hidden)
        for saved in kept
    ]
    for product in (0,) if mode == LSTM else (0, 1):  # an LSTM's biases share their gradient
        for j in range(gates):
            tally.sum(gradient[product][j] for gradient in gradients)
    state = torch.ones(batch, hidden, device="meta")
    if mode == LSTM:
        workspace = torch.ones(batch, gates, device="meta")
        op_back = aten._thnn_fused_lstm_cell_backward_impl.default
        priced = cost(op_back, state, state, state, state, workspace, True)
    else:
        priced = gru_cell_backward(batch, hidden, True)
    assert priced == since(tally, counts)


def cell(
    mode: int, a: torch.Tensor, b: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """torch's own cell, from its two products: with h, they come in as a bias, row by row."""
    gates, hidden = a.shape[1], h.shape[1]
    of = torch.nn.LSTMCell if mode == LSTM else torch.nn.GRUCell
    net = of(gates, hidden, dtype=f64).requires_grad_(False)
    net.weight_ih.copy_(torch.eye(gates))
    net.weight_hh.zero_()
    net.bias_ih.zero_()
    rows = []
    for k in range(len(a)):
        net.bias_hh.copy_(b[k])
        state = (h[k], c[k]) if mode == LSTM else h[k]
        out = net(a[k], state)
        rows.append(out[0] if mode == LSTM else out)
    return torch.stack(rows)


def gru_cell_backward(batch: int, hidden: int, has_bias: bool) -> Cost:
    """The cost of the kernel, which runs on CUDA only."""
    gates, state, bias = spec(batch, 3 * hidden), spec(batch, hidden), spec(3 * hidden)
    call = OpCall(
        aten._thnn_fused_gru_cell_backward.default,
        (state, spec(batch, 5 * hidden), has_bias),
        (),
        (gates, gates, state, bias, bias),
    )
    return operations(default_registry().price(call))
