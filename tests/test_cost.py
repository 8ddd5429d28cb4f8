"""Cost: sums of counts, and what they mean for another type."""

from __future__ import annotations

import dataclasses
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch import Cost

number = st.integers(0, 10**18)
costs = st.builds(Cost, *[number] * len(fields(Cost)))
operations = st.builds(Cost, *[number] * 6)
NAMES = [field.name for field in fields(Cost)]


def test_flops_are_twice_the_macs_and_the_four_operations() -> None:
    cost = Cost(macs=24, adds=8, muls=4, divs=2, transcendentals=100, comparisons=100)
    assert cost.flops == 48 + 8 + 4 + 2
    assert Cost(int_macs=5, int_ops=7, bytes_read=1, bytes_written=2).flops == 0


def test_bytes_are_those_read_and_written() -> None:
    assert Cost(bytes_read=3, bytes_written=4).nbytes == 7


@given(costs, costs)
def test_costs_add_field_by_field(one: Cost, other: Cost) -> None:
    total = one + other
    for name in NAMES:
        assert getattr(total, name) == getattr(one, name) + getattr(other, name)
    assert total.flops == one.flops + other.flops
    assert total.nbytes == one.nbytes + other.nbytes


@given(costs, st.integers(0, 1000))
def test_a_multiple_is_the_repeated_sum(cost: Cost, times: int) -> None:
    for name in NAMES:
        assert getattr(cost * times, name) == getattr(cost, name) * times
    assert cost * times == times * cost
    assert cost * 3 == cost + cost + cost


@given(st.lists(costs, max_size=4))
def test_sum_needs_no_start(found: list[Cost]) -> None:
    assert sum(found, Cost()) == sum(found) if found else sum(found) == 0


@pytest.mark.parametrize("other", [1, 0.0, None, "x"])
def test_only_costs_add_to_costs(other: object) -> None:
    with pytest.raises(TypeError):
        Cost() + other  # type: ignore[operator]
    if other != 0:
        with pytest.raises(TypeError):
            other + Cost()


def test_a_cost_is_frozen_and_knows_no_other_field() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cost().macs = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Cost(flops=1)  # type: ignore[call-arg]


def test_bytes_are_replaced_and_operations_stay() -> None:
    assert Cost(macs=1, bytes_read=9).moving(3, 4) == Cost(macs=1, bytes_read=3, bytes_written=4)


def test_a_dict_has_what_is_not_zero_and_gives_the_cost_back() -> None:
    cost = Cost(macs=2, int_ops=1)
    assert cost.to_dict() == {"macs": 2, "int_ops": 1}
    assert Cost(**cost.to_dict()) == cost


# Types


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.float8_e4m3fn, None])
@given(cost=costs)
def test_floating_types_count_as_they_are(dtype: torch.dtype | None, cost: Cost) -> None:
    assert cost.in_dtype(dtype) == cost


@pytest.mark.parametrize(
    ("why", "complex_cost", "real"),
    [
        ("an addition adds both parts", Cost(adds=1), Cost(adds=2)),
        ("(a+bi)(c+di) is ac-bd and ad+bc", Cost(muls=1), Cost(muls=4, adds=2)),
        ("four products, each accumulated", Cost(macs=1), Cost(macs=4)),
        ("a product with the conjugate, |c+di|², two quotients", Cost(divs=1),
         Cost(muls=6, adds=3, divs=2)),
        ("functions and comparisons are one each", Cost(transcendentals=2, comparisons=3),
         Cost(transcendentals=2, comparisons=3)),
        ("a mixture is its parts' sum", Cost(macs=1, adds=1, muls=1, divs=1),
         Cost(macs=4, adds=7, muls=10, divs=2)),
    ],
)  # fmt: skip
def test_complex_arithmetic_is_worked_out_in_real_numbers(
    why: str, complex_cost: Cost, real: Cost
) -> None:
    assert complex_cost.in_dtype(torch.complex64) == real, why
    assert complex_cost.in_dtype(torch.complex128) == real, why


@given(cost=operations)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool])
def test_integer_arithmetic_is_no_flop(dtype: torch.dtype, cost: Cost) -> None:
    counted = cost.moving(3, 4).in_dtype(dtype)
    assert counted.flops == counted.macs == counted.transcendentals == counted.comparisons == 0
    assert counted.int_macs == cost.macs
    ops = 2 * cost.macs + cost.adds + cost.muls + cost.divs
    assert counted.int_ops == ops + cost.transcendentals + cost.comparisons
    assert (counted.bytes_read, counted.bytes_written) == (3, 4)


@given(one=operations, other=operations)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.float32])
def test_a_type_applies_to_a_sum_as_to_its_terms(
    dtype: torch.dtype, one: Cost, other: Cost
) -> None:
    assert (one + other).in_dtype(dtype) == one.in_dtype(dtype) + other.in_dtype(dtype)
