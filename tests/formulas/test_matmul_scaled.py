from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas import matmul_scaled
from flopdispatch.spec import spec
from tests.pricing import cost, cost_of_specs, overload_of, price

aten = torch.ops.aten
bf16 = torch.bfloat16
f8 = torch.float8_e4m3fn

# (why, in words; operator; arguments; keyword arguments; result; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Any, Cost]] = [
    (
        "a scale for a and one for b: two muls for each of 6 outputs",
        "_scaled_mm.default",
        (spec(2, 4, dtype=f8), spec(4, 3, dtype=f8), spec(), spec()),
        {},
        spec(2, 3, dtype=bf16),
        Cost(macs=24, muls=12),
    ),
    (
        "a third scale, and the bias",
        "_scaled_mm.default",
        (spec(2, 4, dtype=f8), spec(4, 3, dtype=f8), spec(), spec(), spec(3), spec()),
        {},
        spec(2, 3, dtype=bf16),
        Cost(macs=24, muls=18, adds=6),
    ),
    (
        "two scales for a, two for b: four muls for each of 6 outputs",
        "_scaled_mm_v2.default",
        (
            *(spec(2, 4, dtype=f8), spec(4, 3, dtype=f8)),
            *((spec(), spec()), (), ()),
            *((spec(), spec()), (), ()),
            *(spec(3), bf16),
        ),
        {},
        spec(2, 3, dtype=bf16),
        Cost(macs=24, muls=24, adds=6),
    ),
    (
        "as scaled; 6 adds and 6 muls by beta",
        "_scaled_addmm.default",
        (
            *(spec(2, 3), spec(2, 4, dtype=f8), spec(4, 3, dtype=f8)),
            *((spec(),), (), ()),
            *((spec(),), (), ()),
        ),
        {"beta": 2},
        spec(2, 3, dtype=bf16),
        Cost(macs=24, muls=12 + 6, adds=6),
    ),
    (
        "5 rows of 4 by (4, 8): 160 MACs; two muls for each of 40 outputs",
        "_scaled_grouped_mm.default",
        (spec(5, 4, dtype=f8), spec(2, 4, 8, dtype=f8), spec(5), spec(2, 8), spec(2)),
        {},
        spec(5, 8, dtype=bf16),
        Cost(macs=160, muls=80),
    ),
    (
        "a third scale for the result",
        "_scaled_grouped_mm.default",
        (
            *(spec(5, 4, dtype=f8), spec(2, 4, 8, dtype=f8), spec(5), spec(2, 8), spec(2)),
            *(None, spec()),
        ),
        {},
        spec(5, 8, dtype=bf16),
        Cost(macs=160, muls=120),
    ),
    (
        "two scales for each; and the bias",
        "_scaled_grouped_mm_v2.default",
        (
            *(spec(5, 4, dtype=f8), spec(2, 4, 8, dtype=f8)),
            *((spec(5), spec()), (), ()),
            *((spec(2, 8), spec()), (), ()),
            *(spec(2), spec(8)),
        ),
        {},
        spec(5, 8, dtype=bf16),
        Cost(macs=160, muls=160, adds=40),
    ),
    *(
        (
            "3·32 weights times a scale, plus a zero; 2·3 outputs of 32 terms",
            f"_weight_int4pack_mm{variant}.default",
            (spec(2, 32, dtype=bf16), spec(3, 16, dtype=torch.uint8), 32, *scales),
            {},
            spec(2, 3, dtype=bf16),
            Cost(macs=192, muls=96, adds=96),
        )
        for variant, scales in (
            ("", (spec(1, 3, 2, dtype=bf16),)),
            ("_for_cpu", (spec(1, 3, 2, dtype=bf16),)),
            ("_with_scales_and_zeros", (spec(1, 3, dtype=bf16), spec(1, 3, dtype=bf16))),
        )
    ),
    (
        "4·16 outputs of 32 terms, each scaled",
        "_weight_int8pack_mm.default",
        (spec(4, 32, dtype=bf16), spec(16, 32, dtype=torch.int8), spec(16, dtype=bf16)),
        {},
        spec(4, 16, dtype=bf16),
        Cost(macs=2048, muls=64),
    ),
]

if matmul_scaled.PACKED is not None:
    ROWS.append(
        (
            "each of 2 packed elements holds two 4-bit floats: 2·3 outputs of 4 terms",
            "_scaled_mm.default",
            (
                *(spec(2, 2, dtype=matmul_scaled.PACKED), spec(2, 3, dtype=matmul_scaled.PACKED)),
                *(spec(), spec()),
            ),
            {},
            spec(2, 3, dtype=bf16),
            Cost(macs=24, muls=12),
        )
    )


@pytest.mark.parametrize(("why", "name", "args", "kwargs", "result", "expected"), ROWS)
def test_hand_arithmetic(
    *, why: str, name: str, args: tuple[Any, ...], kwargs: Any, result: Any, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result, **kwargs) == expected, why


def test_every_rule_has_a_row() -> None:
    rows = {row[1] for row in ROWS}
    assert {str(rule.overload).removeprefix("aten.") for rule in matmul_scaled.rules} <= rows


def test_scaled_products_are_matmuls() -> None:
    assert {rule.family for rule in matmul_scaled.rules} == {"matmul"}


def test_a_real_scaled_product_is_counted() -> None:
    a, b = torch.ones(16, 32).to(f8), torch.ones(48, 32).to(f8).t()
    scales = torch.ones(()), torch.ones(())
    expected = Cost(macs=16 * 32 * 48, muls=2 * 16 * 48)
    assert cost(aten._scaled_mm.default, a, b, *scales, out_dtype=bf16) == expected


def test_integer_weights_with_floating_activations_are_floating() -> None:
    args = torch.ones(4, 32, dtype=bf16), torch.ones(16, 32, dtype=torch.int8)
    priced = price(overload_of("_weight_int8pack_mm.default"), *args, torch.ones(16, dtype=bf16))
    assert priced.dtype is bf16
    assert priced.cost.macs == 4 * 16 * 32


@pytest.mark.parametrize("name", ["_scaled_grouped_mm.default", "_scaled_grouped_mm_v2.default"])
def test_grouped_products_are_marked_as_estimates(name: str) -> None:
    rules = [rule for rule in matmul_scaled.rules if rule.overload is overload_of(name)]
    assert [rule.estimate for rule in rules] == ["every row is taken to belong to a group"]
