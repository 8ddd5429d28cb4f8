"""Registries that count what another convention counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch import Cost, FlopCounter, Registry, TensorSpec, default_registry
from flopdispatch.spec import OpCall, spec
from tests.pricing import overload_of

aten = torch.ops.aten


@torch.library.custom_op("flopdispatch_keeps::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """2·x, of which no formula is known."""
    return 2 * x


def products() -> Registry:
    """A convention that counts the MACs of two families, and a rule of its own."""
    rules = default_registry().overlay(
        "products", "MACs", keeps={"matmul": ("macs",), "linalg": ("macs", "divs")}
    )

    @rules.formula(aten.native_batch_norm.default)
    def batch_norm(input: TensorSpec) -> Cost:
        return Cost(macs=2 * input.numel, adds=1)

    return rules


X = spec(2, 3)


@pytest.mark.parametrize(
    ("op", "args", "cost", "state"),
    [
        ("addmm.default", (spec(3), spec(2, 4), spec(4, 3)), Cost(macs=24), "counted"),
        ("add.Tensor", (X, X), Cost(), "zero"),
        ("sort.default", (X,), Cost(), "zero"),
        ("view.default", (X, (6,)), Cost(), "zero"),
        ("native_batch_norm.default", (X, None, None, None, None, True, 0.1, 1e-5),
         Cost(macs=12, adds=1), "counted"),
    ],
)  # fmt: skip
def test_a_convention_keeps_fields_of_families(
    op: str, args: tuple[Any, ...], cost: Cost, state: str
) -> None:
    overload = overload_of(op)
    results = (X,) * len(overload._schema.returns)
    result = results if len(results) > 1 else X
    price = products().price(OpCall(overload, args, (), result))
    assert (price.cost.moving(0, 0), price.state) == (cost, state)
    assert price.estimate == ""
    assert products().explain(overload).state == state


def test_bytes_are_those_of_any_convention() -> None:
    call = OpCall(aten.add.Tensor, (X, X), (), X)
    assert products().price(call).cost.nbytes == default_registry().price(call).cost.nbytes > 0


def test_a_convention_of_a_convention_counts_no_more_than_it() -> None:
    rules = products().overlay("more", keeps={"matmul": ("macs", "adds"), "pointwise": ("adds",)})
    call = OpCall(aten.addmm.default, (spec(3), spec(2, 4), spec(4, 3)), (), X)
    assert rules.price(call).cost.moving(0, 0) == Cost(macs=24)
    assert rules.price(OpCall(aten.add.Tensor, (X, X), (), X)).cost.flops == 0


def test_what_no_convention_knows_stays_uncounted() -> None:
    with FlopCounter(display=False, convention=products()) as counter:
        twice(torch.ones(3))
    assert counter.profile.uncounted == {torch.ops.flopdispatch_keeps.twice.default: 1}
