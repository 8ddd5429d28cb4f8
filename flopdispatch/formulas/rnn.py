"""Recurrent layers and cells: LSTM, GRU and plain RNN, where a kernel runs them whole.

Elsewhere (GRU and RNN on CPU, everything on meta) they come apart into `addmm` and pointwise
operators, with the same MACs; forward, all counts are the same.

Letters: r rows, the elements of the batch summed over time; u hidden units, r·hidden_size
summed over layers and directions. Each weight matrix multiplies each row once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, SIGMOID, TRANSCENDENTAL
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("rnn")

Tensors = Sequence[TensorSpec]

RELU, TANH, LSTM, GRU = range(4)  # `mode`, in all kernels
SIGMOID_BACKWARD = TANH_BACKWARD = 2 * MUL + ADD  # g·(1 − y)·y, g·(1 − y·y)

# Per hidden unit and step, from the products with x and h on, biases apart.
CELL = {
    RELU: ADD + COMPARISON,  # max(a + b, 0)
    TANH: ADD + TRANSCENDENTAL,  # tanh(a + b)
    # i, f, o = sigmoid(a + b), n = tanh(a + b), c' = f·c + i·n, h' = o·tanh(c')
    LSTM: 4 * ADD + 3 * SIGMOID + 2 * TRANSCENDENTAL + 3 * MUL + ADD,
    # r, z = sigmoid(a + b), n = tanh(a + r·b), h' = (h − n)·z + n
    GRU: 3 * ADD + 2 * SIGMOID + TRANSCENDENTAL + 2 * MUL + 2 * ADD,
}

# The same back from the gradient of h' to that of the gates, from what the forward has kept.
CELL_BACKWARD = {
    RELU: COMPARISON,
    TANH: TANH_BACKWARD,
    # two factors of each of three products, and the gradient of c' from two sides
    LSTM: 3 * SIGMOID_BACKWARD + 2 * TANH_BACKWARD + 6 * MUL + ADD,
    # two factors of each of two products, and the gradient of n from two sides
    GRU: 2 * SIGMOID_BACKWARD + TANH_BACKWARD + 4 * MUL + ADD,
}

JOINED = {RELU: 1, TANH: 1, LSTM: 1, GRU: 2}  # adds that make up the gradient of h'


def rows_of(input: TensorSpec) -> int:
    """Elements of the batch over all steps: (steps, batch, features), or packed (rows, features).

    Padding counts; a packed sequence has none.
    """
    return math.prod(input.shape[:-1])


def matrices(weights: Tensors) -> int:
    """Elements of the weight matrices among a layer's parameters."""
    return sum(weight.numel for weight in weights if weight.ndim > 1)


def biases(weights: Tensors) -> int:
    """Elements of the biases among a layer's parameters."""
    return sum(weight.numel for weight in weights if weight.ndim == 1)


def forward(mode: int, rows: int, units: int, weights: Tensors) -> Cost:
    """All layers: products, biases (one add each, two per gate), cells."""
    products = Cost(macs=rows * matrices(weights), adds=rows * biases(weights))
    return products + CELL[mode] * units


def backward(mode: int, *, units: int, outputs: int) -> Cost:
    """All layers' cells, and the sum of what comes to each output from above and from later."""
    return CELL_BACKWARD[mode] * units + ADD * (JOINED[mode] * outputs)


def weight_gradients(rows: int, weights: Tensors) -> Cost:
    """One term per row for each weight; each bias sums over the rows."""
    return Cost(macs=rows * matrices(weights), adds=folds(biases(weights), rows))


# oneDNN: a layer and a direction at a time


def mkldnn_rnn_layer_traffic(
    *,
    input: TensorSpec,
    weight0: TensorSpec,
    weight1: TensorSpec,
    weight2: TensorSpec,
    weight3: TensorSpec,
    hx_: TensorSpec,
    cx_: TensorSpec,
    has_biases: bool,
    result: Any,
) -> tuple[int, int]:
    """Everything once; without biases the matrices are passed in their place."""
    read = size(input, weight0, weight1, hx_, cx_)
    return read + (size(weight2, weight3) if has_biases else 0), size(result)


@rules.formula(*overloads("mkldnn_rnn_layer.default"), nbytes=mkldnn_rnn_layer_traffic)
def mkldnn_rnn_layer(
    *,
    input: TensorSpec,
    weight0: TensorSpec,
    weight1: TensorSpec,
    weight2: TensorSpec,
    weight3: TensorSpec,
    mode: int,
    hidden_size: int,
    has_biases: bool,
) -> Cost:
    """One layer in one direction.

    Shapes: input (steps, batch, i), weight0 (g·h, i), weight1 (g·h, h), biases (g·h,), with
    g = 4 gates in an LSTM.
    Counts: rows·g·h·(i + h) MACs, 2·rows·g·h adds for the biases, and the cells.
    Example: LSTM(8, 16) on (5, 3, 8) is 15·64·24 = 23,040 MACs.
    """
    rows = rows_of(input)
    weights = (weight0, weight1, weight2, weight3) if has_biases else (weight0, weight1)
    return forward(mode, rows, rows * hidden_size, weights)


def mkldnn_rnn_layer_backward_traffic(
    *,
    input: TensorSpec,
    weight1: TensorSpec,
    weight2: TensorSpec,
    weight3: TensorSpec,
    weight4: TensorSpec,
    hx_: TensorSpec,
    cx_tmp: TensorSpec,
    output: TensorSpec,
    hy_: TensorSpec,
    cy_: TensorSpec,
    grad_output: TensorSpec | None,
    grad_hy: TensorSpec | None,
    grad_cy: TensorSpec | None,
    has_biases: bool,
    workspace: TensorSpec,
    result: Any,
) -> tuple[int, int]:
    """Everything once; without biases the matrices are passed in their place."""
    states = size(hx_, cx_tmp, output, hy_, cy_, grad_output, grad_hy, grad_cy, workspace)
    read = size(input, weight1, weight2) + states
    return read + (size(weight3, weight4) if has_biases else 0), size(result)


@rules.formula(
    *overloads("mkldnn_rnn_layer_backward.default"), nbytes=mkldnn_rnn_layer_backward_traffic
)
def mkldnn_rnn_layer_backward(
    *,
    input: TensorSpec,
    weight1: TensorSpec,
    weight2: TensorSpec,
    weight3: TensorSpec,
    weight4: TensorSpec,
    mode: int,
    hidden_size: int,
    has_biases: bool,
) -> Cost:
    """Gradients of one layer in one direction: input, states and weights.

    Counts: twice the forward's MACs; rows − 1 adds for each bias; the cells' gradients; one
    add per output (two in a GRU), where gradients meet.
    Ignores: that a gradient which isn't given is zero, and that the kernel works out tanh of
    the cell's state again.
    """
    rows = rows_of(input)
    weights = (weight1, weight2, weight3, weight4) if has_biases else (weight1, weight2)
    units = rows * hidden_size
    data = Cost(macs=rows * matrices(weights))
    cells = backward(mode, units=units, outputs=units)
    return data + weight_gradients(rows, weights) + cells


# cuDNN and MIOpen: all layers and directions at once


def rnn_traffic(
    *,
    input: TensorSpec,
    weight: Tensors,
    hx: TensorSpec,
    cx: TensorSpec | None,
    dropout_state: TensorSpec | None,
    result: Any,
) -> tuple[int, int]:
    """Everything once; the weights' buffer is the weights again."""
    return size(input, weight, hx, cx, dropout_state), size(result[:4])


def dropped(outputs: int, num_layers: int, dropout: float, train: bool) -> Cost:
    """Dropout between the layers: output·mask·scale, or its gradient."""
    active = train and dropout > 0
    return 2 * MUL * outputs * (num_layers - 1) if active else Cost()


@rules.formula(*overloads("_cudnn_rnn.default", "miopen_rnn.default"), nbytes=rnn_traffic)
def rnn(
    *,
    input: TensorSpec,
    weight: Tensors,
    mode: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    result: Any,
) -> Cost:
    """All layers in all directions.

    Shapes: input (steps, batch, i) or packed (rows, i); weight is for each layer and
    direction (g·h, i), (g·h, h), two biases (g·h,) or none, and (p, h) if outputs are projected.
    Counts: the products of each row with each matrix, biases, cells, and in training two muls
    per output of all layers but the last for dropout.
    """
    rows = rows_of(input)
    units = rows * hidden_size * num_layers * (2 if bidirectional else 1)
    masked = dropped(result[0].numel, num_layers, dropout, train)
    return forward(mode, rows, units, weight) + masked


def rnn_backward_traffic(
    *,
    input: TensorSpec,
    weight: Tensors,
    hx: TensorSpec,
    cx: TensorSpec | None,
    output: TensorSpec,
    grad_output: TensorSpec | None,
    grad_hy: TensorSpec | None,
    grad_cy: TensorSpec | None,
    dropout_state: TensorSpec | None,
    reserve: TensorSpec,
    result: Any,
) -> tuple[int, int]:
    """Everything once; the weights' buffer is the weights again."""
    states = size(hx, cx, output, grad_output, grad_hy, grad_cy, dropout_state, reserve)
    return size(input, weight) + states, size(result)


@rules.formula(
    *overloads("_cudnn_rnn_backward.default", "miopen_rnn_backward.default"),
    nbytes=rnn_backward_traffic,
)
def rnn_backward(
    *,
    input: TensorSpec,
    weight: Tensors,
    output: TensorSpec,
    mode: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    output_mask: Sequence[bool],
) -> Cost:
    """Gradients of all layers: input, states and, as `output_mask` asks for, weights.

    Counts: the forward's MACs for the way back to the input, less the first layer's product
    if the input's gradient isn't asked for, and once more for the weights; the cells'
    gradients; the adds where gradients meet, two directions' inputs among them; dropout's.
    Ignores: as `mkldnn_rnn_layer_backward`.
    """
    rows, directions = rows_of(input), 2 if bidirectional else 1
    units = rows * hidden_size * num_layers * directions
    first = 0 if output_mask[0] else weight[0].numel * directions
    shared = output.numel * (num_layers - 1) + (input.numel if output_mask[0] else 0)
    data = Cost(macs=rows * (matrices(weight) - first), adds=shared * (directions - 1))
    cells = backward(mode, units=units, outputs=output.numel * num_layers)
    masked = dropped(output.numel, num_layers, dropout, train)
    weights = weight_gradients(rows, weight) if output_mask[3] else Cost()
    return data + weights + cells + masked


# Metal


@rules.formula(*overloads("_lstm_mps.default"))
def lstm_mps(
    *,
    input: TensorSpec,
    hx: Tensors,
    params: Tensors,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    result: Any,
) -> Cost:
    """An LSTM's layers in all directions.

    Counts: as `rnn`; the hidden size is that of the cell's state, hx[1].
    """
    return rnn(
        input=input, weight=params, mode=LSTM, hidden_size=hx[1].shape[-1], num_layers=num_layers,
        dropout=dropout, train=train, bidirectional=bidirectional, result=result,
    )  # fmt: skip


@rules.formula(*overloads("lstm_mps_backward.default"))
def lstm_mps_backward(
    *,
    input: TensorSpec,
    hx: Tensors,
    params: Tensors,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Cost:
    """Gradients of an LSTM's input, states and weights.

    Counts: as `rnn_backward` with every gradient asked for.
    """
    directions = 2 if bidirectional else 1
    output = TensorSpec((*input.shape[:-1], directions * hx[0].shape[-1]))
    return rnn_backward(
        input=input, weight=params, output=output, mode=LSTM, hidden_size=hx[1].shape[-1],
        num_layers=num_layers, dropout=dropout, train=train, bidirectional=bidirectional,
        output_mask=(True, True, True, True),
    )  # fmt: skip


# Cells whose products are operators of their own


def biased(rows: int, *added: TensorSpec | None) -> Cost:
    """One add per row for each bias that is given."""
    return ADD * (rows * sum(bias.numel for bias in added if bias is not None))


@rules.formula(*overloads("_thnn_fused_lstm_cell.default"))
def thnn_fused_lstm_cell(
    cx: TensorSpec, input_bias: TensorSpec | None, hidden_bias: TensorSpec | None
) -> Cost:
    """An LSTM cell from its gates' two products on.

    Shapes: cx (batch, h), products (batch, 4·h), biases (4·h,).
    Counts: per hidden unit, with biases, 4 + 8 + 3 + 1 adds, 3 muls, 3 divs, 5 transcendentals
    and 3 comparisons (the sign within each sigmoid).
    """
    return CELL[LSTM] * cx.numel + biased(cx.shape[0], input_bias, hidden_bias)


@rules.formula(*overloads("_thnn_fused_gru_cell.default"))
def thnn_fused_gru_cell(
    hx: TensorSpec, input_bias: TensorSpec | None, hidden_bias: TensorSpec | None
) -> Cost:
    """A GRU cell from its gates' two products on.

    Shapes: hx (batch, h), products (batch, 3·h), biases (3·h,).
    Counts: per hidden unit, with biases, 3 + 6 + 2 + 2 adds, 2 muls, 2 divs, 3 transcendentals
    and 2 comparisons.
    """
    return CELL[GRU] * hx.numel + biased(hx.shape[0], input_bias, hidden_bias)


@rules.formula(*overloads("_thnn_fused_lstm_cell_backward_impl.default"))
def thnn_fused_lstm_cell_backward(cx: TensorSpec, workspace: TensorSpec, has_bias: bool) -> Cost:
    """Gradients of the gates, of the cell's state and of the bias.

    Shapes: cx (batch, h), workspace (batch, 4·h).
    Counts: per hidden unit 16 muls and 6 adds; batch − 1 adds for each of 4·h biases, which
    both biases share.
    """
    batch, gates = workspace.shape
    summed = folds(gates, batch) if has_bias else 0
    return CELL_BACKWARD[LSTM] * cx.numel + ADD * summed


@rules.formula(*overloads("_thnn_fused_gru_cell_backward.default"))
def thnn_fused_gru_cell_backward(grad_hy: TensorSpec, has_bias: bool) -> Cost:
    """Gradients of both products, of the state (its direct part) and of both biases.

    Shapes: grad_hy (batch, h).
    Counts: per hidden unit 10 muls and 4 adds; batch − 1 adds for each of 2·3·h biases.
    """
    batch, hidden = grad_hy.shape
    summed = folds(2 * 3 * hidden, batch) if has_bias else 0
    return CELL_BACKWARD[GRU] * grad_hy.numel + ADD * summed
