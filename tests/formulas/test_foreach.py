"""An operator on lists of tensors costs, and gives, what it does to each tensor on its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import operators
from tests.dispatched import Dispatched
from tests.pricing import price

aten = torch.ops.aten
f64 = torch.float64
SHAPES = [(2, 3), (4,), ()]
FACTOR = 3.0  # no factor or power that costs less than another
FACTORS = [2.0, 3.0, 0.7]


def overloads(suffix: str) -> list[Any]:
    """All `_foreach_` operators that this torch has, in place (`_`) or not."""
    names = {
        name.removeprefix("aten::").partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::_foreach_")
    }
    return [
        getattr(getattr(aten, name), overload)
        for name in sorted(names)
        for overload in getattr(aten, name).overloads()
        if name.endswith("_") == (suffix == "_") and not overload.endswith("out")
    ]


def base(overload: Any) -> str:
    return str(overload._schema.name.removeprefix("aten::_foreach_").rstrip("_"))


def arguments(overload: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    """Arguments without defaults: lists of positive numbers, factors."""

    def argument(kind: str) -> Any:
        if kind == "List[Tensor]":
            if base(overload) == "mm":
                return [torch.rand(3, 3, dtype=f64) for _ in shapes]
            return [torch.rand(shape, dtype=f64) * 0.5 + 0.2 for shape in shapes]
        if kind.startswith("List["):
            return [FACTORS[i % 3] for i in range(len(shapes))]
        if kind == "Tensor":  # of one number, or with one for each tensor
            many = base(overload) in ("addcmul", "addcdiv")
            return torch.tensor(FACTORS[: len(shapes)] if many else FACTOR, dtype=f64)
        return FACTOR

    return [
        argument(str(a.type))
        for a in overload._schema.arguments
        if not a.has_default_value() or a.name == "ord"
    ]


def singly(overload: Any, args: list[Any], i: int) -> Any:
    """What the operator does to tensor `i`, through torch's public functions."""
    name, in_place = base(overload), overload._schema.name.endswith("_")
    own = [arg[i] if isinstance(arg, list) else arg for arg in args]
    if name in ("maximum", "minimum") and not isinstance(own[1], torch.Tensor):
        name = {"maximum": "clamp_min", "minimum": "clamp_max"}[name]
    if name in ("addcmul", "addcdiv") and len(own) > 3:
        value = own.pop()
        value = value[i].item() if isinstance(value, torch.Tensor) else value
        return getattr(own[0], name + "_" * in_place)(*own[1:], value=value)
    if name == "norm":
        return torch.linalg.vector_norm(own[0], own[1])
    if name == "powsum":
        return aten.linalg__powsum(own[0], own[1])
    if name == "copy" and not in_place:
        return aten.copy(*own)
    if name == "zero" and not in_place:
        return aten.zero(*own)
    if not isinstance(own[0], torch.Tensor):
        return torch.pow(*own)
    if name in ("maximum", "minimum") and in_place:
        return getattr(torch, name)(*own, out=own[0])
    return getattr(own[0], name + "_" * in_place)(*own[1:])


def copied(args: list[Any]) -> list[Any]:
    return [
        [t.clone() for t in arg] if isinstance(arg, list) and torch.is_tensor(arg[0]) else arg
        for arg in args
    ]


def values(result: Any) -> list[torch.Tensor]:
    return list(result) if isinstance(result, list | tuple) else [result]


@pytest.mark.parametrize("overload", [*overloads(""), *overloads("_")], ids=str)
def test_a_list_costs_and_moves_what_its_tensors_do(overload: Any) -> None:
    args = arguments(overload, SHAPES)
    alone = copied(args)
    with Dispatched() as calls:
        expected = [singly(overload, alone, i) for i in range(len(SHAPES))]
    before = copied(args)
    got = overload(*before)
    for value, want in zip(before[0] if got is None else got, expected, strict=True):
        torch.testing.assert_close(value, want)

    priced = price(overload, *args)
    assert priced.state != "uncounted"
    assert priced.cost.moving(0, 0) == calls.total()
    if any(isinstance(arg, torch.Tensor) for arg in args):
        return  # read once for the list, but with each tensor alone
    assert priced.cost.bytes_read == sum(p.cost.bytes_read for _, p in calls.prices)
    assert priced.cost.bytes_written == sum(p.cost.bytes_written for _, p in calls.prices)


@given(shapes=st.lists(st.lists(st.integers(0, 3), max_size=2).map(tuple), min_size=1, max_size=4))
def test_a_list_is_the_sum_of_two_parts(shapes: list[tuple[int, ...]]) -> None:
    for op in (aten._foreach_add.List, aten._foreach_lerp.Scalar, aten._foreach_norm.Scalar):
        args = arguments(op, shapes)
        parts = [
            price(op, *(arg[part] if isinstance(arg, list) else arg for arg in args)).cost
            for part in (slice(0, 1), slice(1, None))
            if shapes[part]
        ]
        assert price(op, *args).cost == sum(parts, Cost())


def test_a_list_to_write_into_is_not_read() -> None:
    x = [torch.ones(2, 3), torch.ones(4)]
    priced = price(aten._foreach_add.List_out, x, x, alpha=2.0, out=[t.clone() for t in x])
    assert priced.cost == Cost(adds=10, muls=10, bytes_read=2 * 40, bytes_written=40)


def test_complex_and_integer_lists_count_in_their_own_type() -> None:
    complex_, whole = [torch.ones(3, dtype=torch.complex64)] * 2, [torch.ones(3).long()] * 2
    assert price(aten._foreach_mul.List, complex_, complex_).cost.moving(0, 0) == Cost(
        muls=2 * 3 * 4, adds=2 * 3 * 2
    )
    assert price(aten._foreach_mul.List, whole, whole).cost.moving(0, 0) == Cost(int_ops=2 * 3)


def test_empty_tensors_cost_nothing() -> None:
    for op in operators.overloads(
        "_foreach_exp.default", "_foreach_norm.Scalar", "_foreach_clone.default"
    ):
        assert price(op, [torch.ones(0)]).cost.flops == 0
