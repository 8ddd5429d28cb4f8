from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.quantized_decomposed import rules
from flopdispatch.rules import name_of
from flopdispatch.spec import spec
from tests.pricing import cost, cost_of_specs

X = torch.randn(2, 4)  # 2 tokens, 8 elements
Q = torch.zeros(2, 4, dtype=torch.int8)
ONE, ZERO = torch.ones(1), torch.zeros(1, dtype=torch.int32)
ONES, ZEROS = torch.ones(2), torch.zeros(2, dtype=torch.int32)
COLUMN, NONE = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int32)
BOUNDS = (-128, 127)

THERE = Cost(muls=8, adds=8, comparisons=24)  # ·, +, rounded, 2 bounds
BACK = Cost(muls=8, adds=8)  # −, ·

# (why, in words; overload; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("8 elements", "quantize_per_tensor.default", (X, 1.0, 0, *BOUNDS, torch.int8), THERE),
    ("8 elements", "quantize_per_tensor.tensor", (X, ONE, ZERO, *BOUNDS, torch.int8), THERE),
    ("8 elements", "quantize_per_tensor.tensor2",
     (X, ONE, ZERO, ZERO - 128, ZERO + 127, torch.int8), THERE),
    ("8 elements", "quantize_per_channel.default", (X, ONES, ZEROS, 0, *BOUNDS, torch.int8), THERE),
    ("8 elements", "quantize_per_channel_group.default",
     (X, COLUMN, NONE, *BOUNDS, torch.int8, 4), THERE),
    ("8 elements", "quantize_per_token.default", (X, COLUMN, NONE, *BOUNDS, torch.int8), THERE),
    ("8 elements", "dequantize_per_tensor.default", (Q, 1.0, 0, *BOUNDS, torch.int8), BACK),
    ("8 elements", "dequantize_per_tensor.tensor", (Q, ONE, ZERO, *BOUNDS, torch.int8), BACK),
    ("8 elements", "dequantize_per_tensor.tensor2",
     (Q, ONE, ZERO, ZERO - 128, ZERO + 127, torch.int8), BACK),
    ("8 elements", "dequantize_per_channel.default", (Q, ONES, ZEROS, 0, *BOUNDS, torch.int8),
     BACK),
    ("8 elements", "dequantize_per_channel_group.default",
     (Q, COLUMN, NONE, *BOUNDS, torch.int8, 4, torch.float32), BACK),
    ("8 elements", "dequantize_per_token.default",
     (Q, COLUMN, NONE, *BOUNDS, torch.int8, torch.float32), BACK),
    ("8 muls: no zero points", "dequantize_per_channel.default",
     (Q, ONES, None, 0, *BOUNDS, torch.int8), Cost(muls=8)),
    ("8 muls: no zero points", "dequantize_per_channel_group.default",
     (Q, COLUMN, None, *BOUNDS, torch.int8, 4, torch.float32), Cost(muls=8)),
    ("twice 7 comparisons", "choose_qparams.tensor", (X, *BOUNDS, 1e-6, torch.int8),
     Cost(comparisons=14)),
    ("twice 7 comparisons", "choose_qparams_symmetric.tensor", (X, *BOUNDS, 1e-6, torch.int8),
     Cost(comparisons=14)),
    ("twice 3 comparisons a token", "choose_qparams_per_token_asymmetric.default",
     (X, torch.int8), Cost(comparisons=12)),
    ("4 absolute values and 3 comparisons a token", "choose_qparams_per_token.default",
     (X, torch.int8), Cost(comparisons=14)),
    ("a cast", "convert_element_type.no_fuse", (X, torch.float64), Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    (overload,) = overloads(f"quantized_decomposed::{name}")
    assert cost(overload, *args) == expected, why


def test_fake_quantization_is_there_and_back() -> None:
    (overload,) = overloads("quantized_decomposed::fake_quant_per_channel.default")
    found = cost_of_specs(overload, spec(2, 4), spec(2), spec(2), 0, *BOUNDS, result=spec(2, 4))
    assert found == THERE + BACK


def test_each_rule_has_a_row() -> None:
    names = {name_of(rule.overload).removeprefix("quantized_decomposed::") for rule in rules}
    assert names == {name for _, name, *_ in ROWS} | {"fake_quant_per_channel.default"}
