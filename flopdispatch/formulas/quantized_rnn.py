"""Recurrent cells and layers with quantized weights.

Their products are those of dynamically quantized linear layers: integer, with floats around.

Letters: r rows, the elements of the batch summed over time; h hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, MUL
from flopdispatch.formulas.quantization import dynamically_quantized
from flopdispatch.formulas.quantized import INT_MAC
from flopdispatch.formulas.rnn import CELL, GRU, LSTM, RELU, TANH, dropped, rows_of
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("rnn")

Tensors = Sequence[TensorSpec]

GATES = {LSTM: 4, GRU: 3}


def dynamic_product(n: int, k: int, m: int, groups: int = 1, bias: bool = True) -> Cost:
    """m rows of k, quantized in `groups` by their range, by n columns; floating results."""
    outputs = MUL + ADD if bias else MUL
    return dynamically_quantized(m * k, groups) + INT_MAC * (m * n * k) + outputs * (m * n)


def cell(mode: int, input: TensorSpec, hidden: int, b_ih: TensorSpec) -> Cost:
    """One step: products with input and state, and the cell."""
    batch, i = input.shape
    gates = b_ih.numel
    products = dynamic_product(gates, i, batch) + dynamic_product(gates, hidden, batch)
    return products + CELL[mode] * (batch * hidden)


@rules.formula(*overloads("quantized::quantized_lstm_cell_dynamic.default"), typed=False)
def lstm_cell(input: TensorSpec, hx: Sequence[TensorSpec], bias_ih: TensorSpec) -> Cost:
    """An LSTM cell with quantized weights.

    Shapes: input (batch, i), hx[0] (batch, h), bias_ih (4·h,).
    Counts: two products as `dynamic_linear`, and the cell as in `rnn`.
    """
    return cell(LSTM, input, hx[0].shape[-1], bias_ih)


@rules.formula(*overloads("quantized::quantized_gru_cell_dynamic.default"), typed=False)
def gru_cell(input: TensorSpec, hx: TensorSpec, b_ih: TensorSpec) -> Cost:
    """A GRU cell with quantized weights: as `lstm_cell`, b_ih (3·h,)."""
    return cell(GRU, input, hx.shape[-1], b_ih)


@rules.formula(*overloads("quantized::quantized_rnn_relu_cell_dynamic.default"), typed=False)
def relu_cell(input: TensorSpec, hx: TensorSpec, b_ih: TensorSpec) -> Cost:
    """A plain cell with ReLU and quantized weights: as `lstm_cell`, b_ih (h,)."""
    return cell(RELU, input, hx.shape[-1], b_ih)


@rules.formula(*overloads("quantized::quantized_rnn_tanh_cell_dynamic.default"), typed=False)
def tanh_cell(input: TensorSpec, hx: TensorSpec, b_ih: TensorSpec) -> Cost:
    """A plain cell with tanh and quantized weights: as `lstm_cell`, b_ih (h,)."""
    return cell(TANH, input, hx.shape[-1], b_ih)


# Layers


def half_product(n: int, k: int, m: int, bias: bool) -> Cost:
    """m rows of k by n columns in half precision: floating."""
    return Cost(macs=m * n * k, adds=m * n if bias else 0)


def layers(
    mode: int,
    *,
    input: TensorSpec,
    hx: TensorSpec,
    steps: int,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    result: Any,
    half: bool = False,
) -> Cost:
    """All layers in all directions.

    Counts, for each layer and direction: the product of all rows at once with the input's
    weight, whose range they share; step by step that with the state's; the cells.
    """
    rows, hidden, directions = rows_of(input), hx.shape[-1], 2 if bidirectional else 1
    gates = GATES[mode] * hidden
    cost = CELL[mode] * (rows * hidden * num_layers * directions)
    for layer in range(num_layers):
        width = input.shape[-1] if layer == 0 else hidden * directions
        if half:
            both = half_product(gates, width + hidden, rows, has_biases)
            both += Cost(adds=gates * rows if has_biases else 0)
        else:
            both = dynamic_product(gates, width, rows, bias=has_biases)
            both += dynamic_product(gates, hidden, rows, groups=steps, bias=has_biases)
        cost += both * directions
    return cost + dropped(result[0].numel, num_layers, dropout, train)


def steps_of(input: TensorSpec, batch_first: bool) -> int:
    """How many steps an input has, of which none is packed."""
    return input.shape[1 if batch_first else 0]


@rules.formula(*overloads("quantized_lstm.input", "quantized_lstm.input_legacy"), typed=False)
def lstm(
    *,
    input: TensorSpec,
    hx: Tensors,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    dtype: torch.dtype | None,
    result: Any,
) -> Cost:
    """An LSTM with quantized weights.

    Shapes: input (steps, batch, i), hx[0] (layers·directions, batch, h).
    Counts, for each layer and direction: r·4·h·(i + h) MACs, integer, or floating with weights in
    half precision; quantizing the r·i inputs at once and the r·h states step by step; per gate
    and product a mul for the scale and an add for the bias; the cells as in `rnn`; in training
    two muls per output of all layers but the last for dropout.
    """
    return layers(
        LSTM, input=input, hx=hx[0], steps=steps_of(input, batch_first), has_biases=has_biases,
        num_layers=num_layers, dropout=dropout, train=train, bidirectional=bidirectional,
        result=result, half=dtype is torch.float16,
    )  # fmt: skip


@rules.formula(*overloads("quantized_lstm.data", "quantized_lstm.data_legacy"), typed=False)
def packed_lstm(
    *,
    data: TensorSpec,
    batch_sizes: TensorSpec,
    hx: Tensors,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    dtype: torch.dtype | None,
    result: Any,
) -> Cost:
    """As `lstm`, of a packed sequence: data (r, i)."""
    return layers(
        LSTM, input=data, hx=hx[0], steps=batch_sizes.numel, has_biases=has_biases,
        num_layers=num_layers, dropout=dropout, train=train, bidirectional=bidirectional,
        result=result, half=dtype is torch.float16,
    )  # fmt: skip


@rules.formula(*overloads("quantized_gru.input", "quantized_gru.input_legacy"), typed=False)
def gru(
    *,
    input: TensorSpec,
    hx: TensorSpec,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    result: Any,
) -> Cost:
    """A GRU with quantized weights: as `lstm` with 3 gates.

    Ignores: weights in half precision, which it doesn't tell from 8-bit ones.
    """
    return layers(
        GRU, input=input, hx=hx, steps=steps_of(input, batch_first), has_biases=has_biases,
        num_layers=num_layers, dropout=dropout, train=train, bidirectional=bidirectional,
        result=result,
    )  # fmt: skip


@rules.formula(*overloads("quantized_gru.data", "quantized_gru.data_legacy"), typed=False)
def packed_gru(
    *,
    data: TensorSpec,
    batch_sizes: TensorSpec,
    hx: TensorSpec,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    result: Any,
) -> Cost:
    """As `gru`, of a packed sequence: data (r, i)."""
    return layers(
        GRU, input=data, hx=hx, steps=batch_sizes.numel, has_biases=has_biases,
        num_layers=num_layers, dropout=dropout, train=train, bidirectional=bidirectional,
        result=result,
    )  # fmt: skip


# Cells' parameters are packed.
rules.zero(
    *overloads(
        "quantized::make_quantized_cell_params.default",
        "quantized::make_quantized_cell_params_dynamic.default",
    )
)
