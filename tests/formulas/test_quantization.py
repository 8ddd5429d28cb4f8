from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.quantization import rules
from flopdispatch.spec import spec
from tests import oracles_quantized as loops
from tests.oracles import Tally
from tests.pricing import cost, cost_of_specs, overload_of, price
from tests.real_calls import counted

aten, quantized = torch.ops.aten, torch.ops.quantized

X = torch.rand(2, 3)
Q = loops.to_bytes(X)
SCALE, POINT = torch.tensor([0.1]), torch.tensor([3], dtype=torch.int32)
SCALES, POINTS = torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int32)
ON = torch.tensor([1])
TABLE = torch.rand(2, 8)
TABLE_RANGE = torch.stack([TABLE.amin(1), TABLE.amax(1)], 1)
BYTES = quantized.embedding_bag_byte_prepack(TABLE)

TO, BACK = Cost(adds=6, muls=6, comparisons=18), Cost(adds=6, muls=6)
BOTH = Cost(adds=12, muls=12, comparisons=18)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("6 of x·(1/s), round, + z, two bounds", "quantize_per_tensor.default",
     (X, 0.1, 3, torch.quint8), TO),
    ("the same", "quantize_per_tensor.tensor_qparams", (X, SCALE, POINT, torch.quint8), TO),
    ("the same", "quantize_per_channel.default", (X, SCALES, POINTS, 1, torch.qint8), TO),
    ("two tensors of 6", "quantize_per_tensor.tensors", ([X, X], SCALES[:2], POINTS[:2],
     torch.quint8), TO + TO),
    ("the range: 2·5 comparisons", "quantize_per_tensor_dynamic.default",
     (X, torch.quint8, False), TO + Cost(comparisons=10)),
    ("a cast", "quantize_per_tensor_dynamic.default", (X, torch.float16, False), Cost()),
    ("6 of (q − z)·s", "dequantize.self", (Q,), BACK),
    ("a cast", "dequantize.self", (X.half(),), Cost()),
    ("6 of (q − z)·s and a cast", "dequantize.tensors", ([Q, Q],), BACK + BACK),
    ("copied", "_make_per_tensor_quantized_tensor.default", (Q.int_repr(), 0.1, 3), Cost()),
    ("copied", "_make_per_channel_quantized_tensor.default",
     (Q.int_repr(), SCALES, POINTS, 1), Cost()),
    ("there and back; the mask is a comparison to bool",
     "fake_quantize_per_tensor_affine_cachemask.default", (X, 0.1, 3, 0, 255), BOTH),
    ("there and back", "fake_quantize_per_channel_affine_cachemask.default",
     (X, SCALES, POINTS, 1, -128, 127), BOTH),
    ("there and back", "_fake_quantize_learnable_per_tensor_affine.default",
     (X, SCALE, torch.tensor([3.0]), 0, 255), BOTH),
    ("there and back", "_fake_quantize_learnable_per_channel_affine.default",
     (X, SCALES, torch.zeros(3), 1, -128, 127), BOTH),
    ("there and back", "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default",
     (X, SCALE, POINT, ON, 0, 255), BOTH),
    ("6 of 5 muls, 3 adds, 5 comparisons; two sums of 6",
     "_fake_quantize_learnable_per_tensor_affine_backward.default",
     (X, X, SCALE, torch.tensor([3.0]), 0, 255), Cost(muls=30, adds=18 + 10, comparisons=30)),
    ("two sums for each of 3 channels",
     "_fake_quantize_learnable_per_channel_affine_backward.default",
     (X, X, SCALES, torch.zeros(3), 1, -128, 127), Cost(muls=30, adds=18 + 6, comparisons=30)),
    ("2·5 comparisons for the range; both ends averaged: 2·(2 adds, 1 mul)",
     "_fused_moving_avg_obs_fq_helper.default",
     (X, ON, ON, torch.zeros(1), torch.zeros(1), SCALE, POINT, 0.01, 0, 255, 0),
     BOTH + Cost(comparisons=10, adds=4, muls=2)),
    ("2·(6 - 2) comparisons for 2 channels' ranges, 4 ends averaged",
     "_fused_moving_avg_obs_fq_helper_functional.default",
     (X, ON, ON, torch.zeros(2), torch.zeros(2), SCALES[:2], POINTS[:2], 0.01, 0, 255, 0, True),
     BOTH + Cost(comparisons=8, adds=8, muls=4)),
    ("2·2·7 comparisons; 2 rows of 1 add, 2 divs; 16 of an add, a mul, a rounding",
     "quantized::embedding_bag_byte_prepack.default", (TABLE,),
     Cost(comparisons=28 + 16, adds=2 + 16, divs=4, muls=16)),
    ("without the ranges",
     "quantized::embedding_bag_byte_prepack_with_rowwise_min_max.default", (TABLE, TABLE_RANGE),
     Cost(comparisons=16, adds=2 + 16, divs=4, muls=16)),
    ("and two bounds for each of 16", "quantized::embedding_bag_4bit_prepack.default", (TABLE,),
     Cost(comparisons=28 + 48, adds=2 + 16, divs=4, muls=16)),
    ("and two bounds for each of 16", "quantized::embedding_bag_2bit_prepack.default", (TABLE,),
     Cost(comparisons=28 + 48, adds=2 + 16, divs=4, muls=16)),
    ("without the ranges",
     "quantized::embedding_bag_4bit_prepack_with_rowwise_min_max.default", (TABLE, TABLE_RANGE),
     Cost(comparisons=48, adds=2 + 16, divs=4, muls=16)),
    ("without the ranges",
     "quantized::embedding_bag_2bit_prepack_with_rowwise_min_max.default", (TABLE, TABLE_RANGE),
     Cost(comparisons=48, adds=2 + 16, divs=4, muls=16)),
    ("16 of q·s + offset", "quantized::embedding_bag_byte_unpack.default", (BYTES,),
     Cost(adds=16, muls=16)),
    ("16 of q·s + offset", "quantized::embedding_bag_4bit_unpack.default",
     (quantized.embedding_bag_4bit_prepack(TABLE),), Cost(adds=16, muls=16)),
    ("16 of q·s + offset", "quantized::embedding_bag_2bit_unpack.default",
     (quantized.embedding_bag_2bit_prepack(TABLE),), Cost(adds=16, muls=16)),
]  # fmt: skip

# What runs on specs only: (operator; arguments; result; expected)
SPECS: list[tuple[str, tuple[Any, ...], Any, Cost]] = [
    ("quantize_per_tensor.tensors_out", ((spec(6),), spec(1), spec(1), torch.quint8), None, TO),
    ("dequantize.tensors_out", ((spec(6, dtype=torch.quint8),),), None, BACK),
    ("_fused_moving_avg_obs_fq_helper.out",
     (spec(6), spec(1), spec(1), spec(1), spec(1), spec(1), spec(1), 0.01, 0, 255, 0), None,
     BOTH + Cost(comparisons=10, adds=4, muls=2)),
    ("_empty_affine_quantized.out", ((2, 3),), spec(2, 3, dtype=torch.quint8), Cost()),
    ("_empty_per_channel_affine_quantized.out", ((2, 3),), spec(2, 3, dtype=torch.qint8), Cost()),
    ("quantization::_FloatToBfloat16Quantized.default", (spec(6),), spec(3), Cost()),
    ("quantization::_Bfloat16QuantizedToFloat.default", (spec(3),), spec(6), Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "expected"), ROWS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(overload_of(name), *args) == expected, why


@pytest.mark.parametrize(("name", "args", "result", "expected"), SPECS)
def test_hand_arithmetic_of_specs(
    name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result) == expected


def test_every_rule_has_a_row() -> None:
    rows = {name for _, name, _, _ in ROWS} | {name for name, _, _, _ in SPECS}
    assert {rule.overload for rule in rules} == set(overloads(*rows))


numbers = st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=8)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@given(values=numbers, point=st.integers(0, 5))
def test_quantizing_is_its_loop(values: list[float], point: int) -> None:
    x, tally = tensor(values), Tally()
    found = loops.quantize(tally, x, 0.25, point, 0, 255)
    expected = loops.to_bytes(x, 0.25, point).int_repr()
    torch.testing.assert_close(found, expected.double())
    op = aten.quantize_per_tensor.default
    assert counted(op, x, 0.25, point, torch.quint8) == tally.cost


@given(values=numbers, point=st.integers(0, 5))
def test_fake_quantizing_is_its_loop(values: list[float], point: int) -> None:
    x, tally = tensor(values), Tally()
    found = loops.fake_quantize(tally, x, 0.25, point, 0, 7)
    op = aten.fake_quantize_per_tensor_affine_cachemask.default
    torch.testing.assert_close(found, op(x, 0.25, point, 0, 7)[0].double())
    assert counted(op, x, 0.25, point, 0, 7) == tally.cost


@given(values=numbers, point=st.integers(0, 5))
def test_the_backward_of_a_learnt_scale_is_its_loop(values: list[float], point: int) -> None:
    x, tally = tensor(values), Tally()
    grad = torch.linspace(-1, 1, len(values))
    dx, by_scale, by_zero = loops.learnable_backward(tally, grad, x, 0.25, point, 0, 7)
    op = aten._fake_quantize_learnable_per_tensor_affine_backward.default
    args = (grad, x, torch.tensor([0.25]), torch.tensor([float(point)]), 0, 7)
    expected = [t.double() for t in op(*args)]
    torch.testing.assert_close(dx, expected[0])
    torch.testing.assert_close(torch.tensor([by_scale]), expected[1].float())
    torch.testing.assert_close(torch.tensor([by_zero]), expected[2].float())
    assert counted(op, *args) == tally.cost


@given(rows=st.integers(1, 3), d=st.integers(2, 6))
def test_rows_of_bytes_are_their_loop(rows: int, d: int) -> None:
    table, tally = torch.rand(rows, d), Tally()
    packed = quantized.embedding_bag_byte_prepack(table)
    found = loops.byte_rows(tally, table)
    torch.testing.assert_close(
        found.float(), quantized.embedding_bag_byte_unpack(packed), atol=1e-2, rtol=0
    )
    assert counted(quantized.embedding_bag_byte_prepack, table) == tally.cost


def test_quantizing_is_floating_and_says_what_it_moves() -> None:
    there = price(aten.quantize_per_tensor.default, X, 0.1, 3, torch.quint8)
    assert (there.dtype, there.cost.bytes_read, there.cost.bytes_written) == (X.dtype, 24, 6)
    back = price(aten.dequantize.self, Q)
    assert (back.dtype, back.cost.bytes_read, back.cost.bytes_written) == (X.dtype, 6, 24)


def test_estimates_say_so() -> None:
    estimates = {str(rule.overload): rule.estimate for rule in rules if rule.estimate}
    on = "what a tensor switches on or off is taken to be on"
    search = "without the search of optimized_qparams for a better range"
    assert set(estimates.values()) == {on, search}
    plain = price(quantized.embedding_bag_4bit_prepack.default, TABLE)
    searching = price(quantized.embedding_bag_4bit_prepack.default, TABLE, True)
    assert (plain.estimate, searching.estimate) == ("", search)
