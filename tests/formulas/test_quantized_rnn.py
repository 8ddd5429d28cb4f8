from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils.rnn import pack_padded_sequence

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.quantized_rnn import rules
from flopdispatch.rules import Price
from flopdispatch.spec import spec
from tests.dispatched import Dispatched
from tests.pricing import cost_of_specs


def small(layer: nn.Module, dtype: torch.dtype = torch.qint8) -> nn.Module:
    """The layer with quantized weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = quantize_dynamic(nn.Sequential(layer), {type(layer)}, dtype=dtype)
    found = converted[0]
    assert isinstance(found, nn.Module)
    return found


def run(layer: nn.Module, *args: Any) -> Price:
    """The price of a layer's one operator that counts."""
    with torch.no_grad(), Dispatched() as counter:
        layer(*args)
    assert counter.uncounted() == set()
    ((_, price),) = [(op, price) for op, price in counter.prices if price.family == "rnn"]
    return price


def plain(layer: nn.Module, *args: Any) -> Cost:
    """All operations of a layer, bytes apart."""
    with torch.no_grad(), Dispatched() as counter:
        layer(*args)
    return counter.total()


def product(macs: int, rows: int, ranges: int, outputs: int) -> Cost:
    """So many integer MACs; rows' elements quantized, their ranges; outputs scaled and biased."""
    return Cost(
        int_macs=macs, int_ops=2 * macs,
        muls=rows + outputs, adds=rows + outputs, comparisons=3 * rows + ranges,
    )  # fmt: skip


def cells(units: int, **each: int) -> Cost:
    """So much for each unit."""
    return Cost(**{name: units * times for name, times in each.items()})


LSTM = {"adds": 4 + 3 + 1, "muls": 3, "divs": 3, "transcendentals": 5, "comparisons": 3}
GRU = {"adds": 3 + 2 + 2, "muls": 2, "divs": 2, "transcendentals": 3, "comparisons": 2}

# 5 rows of 8 and states of 16, 80 units: each gate's products with both, after their ranges
CELLS: list[tuple[str, nn.Module, int, Cost]] = [
    ("4 gates", nn.LSTMCell(8, 16), 64, cells(80, **LSTM)),
    ("3 gates", nn.GRUCell(8, 16), 48, cells(80, **GRU)),
    ("a sum and its tanh", nn.RNNCell(8, 16), 16, cells(80, adds=1, transcendentals=1)),
    ("a sum and a maximum", nn.RNNCell(8, 16, nonlinearity="relu"), 16,
     cells(80, adds=1, comparisons=1)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "layer", "gates", "each"), CELLS)
def test_cells_by_hand(why: str, layer: nn.Module, gates: int, each: Cost) -> None:
    found = run(small(layer), torch.rand(5, 8)).cost.moving(0, 0)
    of_input = product(5 * gates * 8, 40, 2 * 39, 5 * gates)
    of_state = product(5 * gates * 16, 80, 2 * 79, 5 * gates)
    assert found == of_input + of_state + each, why


# 15 rows of 5 steps: inputs quantized at once, states a step at a time
LAYERS = [
    (nn.LSTM(8, 16), 64, cells(240, **LSTM)),
    (nn.GRU(8, 16), 48, cells(240, **GRU)),
]


@pytest.mark.parametrize(("layer", "gates", "each"), LAYERS)
def test_layers_by_hand(layer: nn.Module, gates: int, each: Cost) -> None:
    found = run(small(layer), torch.rand(5, 3, 8)).cost.moving(0, 0)
    of_input = product(15 * gates * 8, 120, 2 * 119, 15 * gates)
    of_state = product(15 * gates * 16, 240, 2 * (240 - 5), 15 * gates)
    assert found == of_input + of_state + each


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True},
                                     {"num_layers": 3, "bidirectional": True},
                                     {"batch_first": True}])  # fmt: skip
def test_quantized_layers_have_the_macs_of_the_layer(kind: Any, options: dict[str, Any]) -> None:
    layer, x = kind(8, 16, **options), torch.rand(5, 3, 8)
    found = run(small(layer), x).cost
    assert found.int_macs == plain(layer, x).macs
    assert found.macs == 0


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_packed_sequences_have_the_macs_of_the_layer(kind: Any) -> None:
    layer = kind(8, 16, 2)
    packed = pack_padded_sequence(torch.rand(5, 3, 8), torch.tensor([5, 4, 2]))
    found = run(small(layer), packed).cost
    assert (
        found.int_macs
        == plain(layer, packed).macs
        == 11 * (8 + 16 + 16 + 16) * 16 * (4 if kind is nn.LSTM else 3)
    )


def test_weights_in_half_precision_are_floating() -> None:
    """Products and their biases as in the layer, and its cells."""
    layer, x = nn.LSTM(8, 16, 2), torch.rand(5, 3, 8)
    found = run(small(layer, torch.float16), x)
    assert found.cost.moving(0, 0) == plain(layer, x)
    weights = 64 * (8 + 16 + 16 + 16)
    states = 2 * 2 * 3 * 16
    assert found.cost.bytes_read == 4 * (5 * 3 * 8 + states) + 2 * weights + 4 * 2 * 2 * 64
    assert found.cost.bytes_written == 4 * (5 * 3 * 16 + states)


def test_packed_weights_move_too() -> None:
    """8-bit weights and biases of floats; a cell's biases are arguments."""
    layer = run(small(nn.GRU(8, 16)), torch.rand(5, 3, 8))
    read = 4 * (5 * 3 * 8 + 3 * 16) + 48 * (8 + 16) + 4 * 2 * 48
    assert (layer.cost.bytes_read, layer.cost.bytes_written) == (read, 4 * (15 * 16 + 3 * 16))
    cell = run(small(nn.LSTMCell(8, 16)), torch.rand(5, 8))
    assert cell.cost.bytes_read == 4 * (5 * 8 + 2 * 80) + 64 * (8 + 16) + 4 * 2 * 64
    assert cell.cost.bytes_written == 4 * 2 * 80, "its two states"
    cell = run(small(nn.GRUCell(8, 16)), torch.rand(5, 8))
    read = 4 * (5 * 8 + 80) + 48 * (8 + 16) + 4 * 2 * 48
    assert (cell.cost.bytes_read, cell.cost.bytes_written) == (read, 4 * 80)
    rows = pack_padded_sequence(torch.rand(5, 3, 8), torch.tensor([5, 4, 2]))
    packed = run(small(nn.LSTM(8, 16)), rows)
    of_states, of_weights = 4 * 2 * 3 * 16, 64 * (8 + 16) + 4 * 2 * 64
    assert packed.cost.bytes_read == 4 * 11 * 8 + of_states + of_weights + 5 * 8
    assert packed.cost.bytes_written == 4 * (11 * 16 + 2 * 3 * 16)
    packed = run(small(nn.GRU(8, 16)), rows)
    of_weights = 48 * (8 + 16) + 4 * 2 * 48
    assert packed.cost.bytes_read == 4 * 11 * 8 + 4 * 3 * 16 + of_weights + 5 * 8
    assert packed.cost.bytes_written == 4 * (11 * 16 + 3 * 16)


@pytest.mark.parametrize(("kind", "gates", "each"), [("lstm", 64, LSTM), ("gru", 48, GRU)])
def test_older_forms_and_dropout(kind: str, gates: int, each: dict[str, int]) -> None:
    """Two layers in training: two muls for each of 240 outputs of the first one."""
    state, x = spec(2, 3, 16), spec(5, 3, 8)
    hx: Any = (state, state) if kind == "lstm" else state
    output = (spec(5, 3, 16), state, state)
    (op,) = overloads(f"quantized_{kind}.input_legacy")
    args = (x, hx, (), True, 2, 0.5, True, False, False)
    of_input = product(15 * gates * 8, 120, 2 * 119, 15 * gates)
    of_state = product(15 * gates * 16, 240, 2 * (240 - 5), 15 * gates)
    of_first = product(15 * gates * 16, 240, 2 * 239, 15 * gates)
    expected = of_input + of_first + 2 * of_state + cells(480, **each) + Cost(muls=480)
    assert cost_of_specs(op, *args, result=output) == expected
    (op,) = overloads(f"quantized_{kind}.data_legacy")
    rows = (spec(15, 8), spec(5, dtype=torch.int64), hx, (), True, 2, 0.5, True, False)
    packed = (spec(15, 16), state, state)
    assert cost_of_specs(op, *rows, result=packed) == expected
    unbiased = (*rows[:4], False, *rows[5:])
    biases = 4 * 15 * gates  # of both products of two layers
    found = cost_of_specs(op, *unbiased, result=packed)
    assert found == replace(expected, adds=expected.adds - biases)


def test_parameters_are_packed_for_nothing() -> None:
    zeros = {str(rule.overload) for rule in rules if rule.state == "zero"}
    assert zeros == {
        "quantized.make_quantized_cell_params.default",
        "quantized.make_quantized_cell_params_dynamic.default",
    }
