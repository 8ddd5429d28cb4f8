from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.semi_structured import rules
from flopdispatch.spec import TensorSpec, spec
from tests.pricing import cost, cost_of_specs, overload_of

aten = torch.ops.aten
half, int8 = torch.float16, torch.int8


def halves(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=half)


def bytes_(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=int8)


# Compressed (4, 8) is (4, 4): of 8 terms 4 are multiplied. By (8, 6) that is 24 outputs.
# (why, in words; operator; arguments; keyword arguments; result; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], TensorSpec | None, Cost]] = [
    ("24 outputs of 4 terms", "_cslt_sparse_mm.default", (halves(20), halves(8, 6)), {},
     halves(4, 6), Cost(macs=96)),
    ("a bias and alpha", "_cslt_sparse_mm.default",
     (halves(20), halves(8, 6), halves(4), spec(1)), {}, halves(4, 6),
     Cost(macs=96, adds=24, muls=24)),
    ("integers multiplied, floats scaled", "_cslt_sparse_mm.default",
     (bytes_(20), bytes_(8, 6), None, spec(1), half), {}, halves(4, 6),
     Cost(int_macs=96, int_ops=192, muls=24)),
    ("integers all the way", "_cslt_sparse_mm.default",
     (bytes_(20), bytes_(8, 6), None, None, torch.int32), {}, spec(4, 6, dtype=torch.int32),
     Cost(int_macs=96, int_ops=192)),
    ("24 outputs of 4 terms", "_sparse_semi_structured_mm.default",
     (halves(4, 4), spec(4, 1, dtype=torch.int16), halves(8, 6)), {}, halves(4, 6),
     Cost(macs=96)),
    ("added, twice the product", "_sparse_semi_structured_addmm.default",
     (halves(4), halves(4, 4), spec(4, 1, dtype=torch.int16), halves(8, 6)), {"alpha": 2},
     halves(4, 6), Cost(macs=96, adds=24, muls=24)),
    ("24 outputs of 4 terms, a bias", "_sparse_semi_structured_linear.default",
     (halves(6, 8), halves(4, 4), spec(4, 1, dtype=torch.int16)), {"bias": halves(4)},
     halves(6, 4), Cost(macs=96, adds=24)),
    ("a maximum", "_sparse_semi_structured_linear.default",
     (halves(6, 8), halves(4, 4), spec(4, 1, dtype=torch.int16)), {"activation": "relu"},
     halves(6, 4), Cost(macs=96, comparisons=24)),
    ("a sigmoid: sign, exp, add, div", "_sparse_semi_structured_linear.default",
     (halves(6, 8), halves(4, 4), spec(4, 1, dtype=torch.int16)), {"activation": "silu"},
     halves(6, 4), Cost(macs=96, comparisons=24, transcendentals=24, adds=24, divs=24)),
    ("each element met 4 times in a sort of 16", "_sparse_semi_structured_tile.default",
     (halves(8, 8),), {}, None, Cost(comparisons=256)),
    ("selected", "_sparse_semi_structured_apply.default", (halves(8, 8), bytes_(4)), {}, None,
     Cost()),
    ("selected", "_sparse_semi_structured_apply_dense.default", (halves(8, 8), bytes_(4)), {},
     None, Cost()),
    ("selected", "_to_sparse_semi_structured.default", (halves(8, 8),), {}, None, Cost()),
    ("selected", "_cslt_compress.default", (halves(8, 8),), {}, None, Cost()),
    ("no result of it is used", "_cslt_sparse_mm_search.default", (halves(20), halves(8, 6)), {},
     None, Cost()),
    ("6 outputs of 4 terms, scaled, biased", "_mixed_dtypes_linear.default",
     (halves(2, 4), bytes_(4, 3), halves(3)), {"bias": halves(3)}, halves(2, 3),
     Cost(macs=24, muls=6, adds=6)),
    ("a maximum", "_mixed_dtypes_linear.default",
     (halves(2, 4), bytes_(4, 3), halves(3)), {"activation": "relu"}, halves(2, 3),
     Cost(macs=24, muls=6, comparisons=6)),
    ("rearranged", "_convert_weight_to_int4pack.default", (spec(3, 16, dtype=torch.uint8), 2), {},
     None, Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "kwargs", "result", "expected"), ROWS)
def test_hand_arithmetic(
    *,
    why: str,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: TensorSpec | None,
    expected: Cost,
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result, **kwargs) == expected, why


def test_every_rule_has_a_row() -> None:
    here = {
        "_dyn_quant_matmul_4bit.default", "_dyn_quant_pack_4bit_weight.default",
        "_convert_weight_to_int4pack_for_cpu.default",
    }  # fmt: skip
    rows = {row[1] for row in ROWS} | here
    assert {rule.overload for rule in rules} == set(overloads(*rows))


def test_weights_of_4_bits_run_here() -> None:
    """2 rows of 64: 2·63 comparisons a row, 5 a number to quantize; 2·8 outputs of 64 integers.

    In 2 blocks of 32, each with its scale, and a mul for the row's.
    """
    k, n = 64, 8
    weights = torch.randint(0, 255, (n, k // 2), dtype=torch.uint8)
    scales = torch.rand(n, k // 32)
    packed = aten._dyn_quant_pack_4bit_weight(weights, scales, None, 32, k, n)
    found = cost(aten._dyn_quant_matmul_4bit.default, torch.rand(2, k), packed, 32, k, n)
    rows = Cost(muls=128, adds=128, comparisons=3 * 128 + 2 * 2 * 63)
    sums = Cost(int_macs=16 * 64, int_ops=2 * 16 * 64, macs=16 * 2, muls=16)
    assert found == rows + sums
    packing = aten._dyn_quant_pack_4bit_weight.default
    assert cost(packing, weights, scales, None, 32, k, n) == Cost()


def test_no_features_of_4_bits_scale_nothing() -> None:
    """2 rows of nothing: no product, no block; 2·3 outputs times their row's scale."""
    overload = overload_of("_dyn_quant_matmul_4bit.default")
    args = (spec(2, 0), spec(0, dtype=torch.uint8), 32, 0, 3)
    assert cost_of_specs(overload, *args, result=spec(2, 3)) == Cost(muls=6)


def test_packing_4_bits_for_a_cpu_is_a_rearrangement() -> None:
    weights = torch.randint(0, 15, (16, 32), dtype=torch.int32)
    assert cost(overload_of("_convert_weight_to_int4pack_for_cpu.default"), weights, 1) == Cost()
