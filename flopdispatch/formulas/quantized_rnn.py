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
from flopdispatch.traffic import size

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


def cell_bytes(
    input: TensorSpec, hx: Any, b_ih: TensorSpec, b_hh: TensorSpec, result: Any
) -> tuple[int, int]:
    """Everything once, and both weights of 8-bit integers."""
    hidden = (hx if isinstance(hx, TensorSpec) else hx[0]).shape[-1]
    weights = b_ih.numel * (input.shape[-1] + hidden)
    return size(input, hx, b_ih, b_hh) + weights, size(result)


def lstm_cell_bytes(
    input: TensorSpec, hx: Any, bias_ih: TensorSpec, bias_hh: TensorSpec, result: Any
) -> tuple[int, int]:
    """The same, by an LSTM's names."""
    return cell_bytes(input, hx, bias_ih, bias_hh, result)


@rules.formula(
    *overloads("quantized::quantized_lstm_cell_dynamic.default"),
    typed=False,
    nbytes=lstm_cell_bytes,
)
def lstm_cell(input: TensorSpec, hx: Sequence[TensorSpec], bias_ih: TensorSpec) -> Cost:
    """An LSTM cell with quantized weights.

    Shapes: input (batch, i), hx[0] (batch, h), bias_ih (4·h,).
    Counts: two products as `dynamic_linear`, and the cell as in `rnn`.
    """
    return cell(LSTM, input, hx[0].shape[-1], bias_ih)


@rules.formula(
    *overloads("quantized::quantized_gru_cell_dynamic.default"), typed=False, nbytes=cell_bytes
)
def gru_cell(input: TensorSpec, hx: TensorSpec, b_ih: TensorSpec) -> Cost:
    """A GRU cell with quantized weights: as `lstm_cell`, b_ih (3·h,)."""
    return cell(GRU, input, hx.shape[-1], b_ih)


@rules.formula(
    *overloads("quantized::quantized_rnn_relu_cell_dynamic.default"), typed=False, nbytes=cell_bytes
)
def relu_cell(input: TensorSpec, hx: TensorSpec, b_ih: TensorSpec) -> Cost:
    """A plain cell with ReLU and quantized weights: as `lstm_cell`, b_ih (h,)."""
    return cell(RELU, input, hx.shape[-1], b_ih)


@rules.formula(
    *overloads("quantized::quantized_rnn_tanh_cell_dynamic.default"), typed=False, nbytes=cell_bytes
)
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
        width = hidden * directions if layer else input.shape[-1]
        if half:
            both = half_product(gates, width, rows, has_biases)
            both += half_product(gates, hidden, rows, has_biases)
        else:
            both = dynamic_product(gates, width, rows, bias=has_biases)
            both += dynamic_product(gates, hidden, rows, groups=steps, bias=has_biases)
        cost += both * directions
    return cost + dropped(result[0].numel, num_layers, dropout, train)


def layers_bytes(
    mode: int,
    input: TensorSpec,
    hx: Any,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    result: Any,
    half: bool = False,
) -> tuple[int, int]:
    """Everything once, and the packed weights with biases of floats."""
    hidden = (hx if isinstance(hx, TensorSpec) else hx[0]).shape[-1]
    directions, itemsize = 2 if bidirectional else 1, 2 if half else 1
    gates = GATES[mode] * hidden
    widths = input.shape[-1] + hidden * directions * (num_layers - 1)
    weights = gates * directions * (widths + hidden * num_layers)
    biases = 2 * gates * directions * num_layers if has_biases else 0
    return size(input, hx) + weights * itemsize + 4 * biases, size(result)


def lstm_bytes(
    input: TensorSpec,
    hx: Tensors,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    dtype: torch.dtype | None,
    result: Any,
) -> tuple[int, int]:
    """`layers_bytes` of an LSTM."""
    half = dtype is torch.float16
    return layers_bytes(LSTM, input, hx, has_biases, num_layers, bidirectional, result, half)


def packed_lstm_bytes(
    data: TensorSpec,
    batch_sizes: TensorSpec,
    hx: Tensors,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    dtype: torch.dtype | None,
    result: Any,
) -> tuple[int, int]:
    """The same, of a packed sequence."""
    read, written = lstm_bytes(data, hx, has_biases, num_layers, bidirectional, dtype, result)
    return read + size(batch_sizes), written


def gru_bytes(
    input: TensorSpec,
    hx: TensorSpec,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    result: Any,
) -> tuple[int, int]:
    """`layers_bytes` of a GRU."""
    return layers_bytes(GRU, input, hx, has_biases, num_layers, bidirectional, result)


def packed_gru_bytes(
    data: TensorSpec,
    batch_sizes: TensorSpec,
    hx: TensorSpec,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    result: Any,
) -> tuple[int, int]:
    """The same, of a packed sequence."""
    read, written = gru_bytes(data, hx, has_biases, num_layers, bidirectional, result)
    return read + size(batch_sizes), written


def steps_of(input: TensorSpec, batch_first: bool) -> int:
    """How many steps an input has, of which none is packed."""
    return input.shape[1 if batch_first else 0]


@rules.formula(
    *overloads("quantized_lstm.input", "quantized_lstm.input_legacy"),
    typed=False,
    nbytes=lstm_bytes,
)
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


@rules.formula(
    *overloads("quantized_lstm.data", "quantized_lstm.data_legacy"),
    typed=False,
    nbytes=packed_lstm_bytes,
)
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


@rules.formula(
    *overloads("quantized_gru.input", "quantized_gru.input_legacy"), typed=False, nbytes=gru_bytes
)
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


@rules.formula(
    *overloads("quantized_gru.data", "quantized_gru.data_legacy"),
    typed=False,
    nbytes=packed_gru_bytes,
)
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
