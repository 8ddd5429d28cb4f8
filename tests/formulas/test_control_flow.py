"""Higher-order operators: what they call is counted as it runs, they themselves are zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.auto_functionalize import auto_functionalized
from torch._higher_order_ops.foreach_map import foreach_map
from torch._higher_order_ops.map import map as map_operator
from torch._higher_order_ops.out_dtype import out_dtype
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.triton_kernel_wrap import (
    kernel_side_table,
    triton_kernel_wrapper_functional,
    triton_kernel_wrapper_mutation,
)
from torch._higher_order_ops.while_loop import while_loop
from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state
from torch._subclasses import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils._pytree import tree_leaves

from flopdispatch import Cost, FlopCounter, Profile, Registry, default_registry
from flopdispatch.rules import name_of
from flopdispatch.spec import OpCall, spec
from tests.programs import counted, macs_by_row
from tests.versions import needs_torch

aten = torch.ops.aten
ONE = 512  # MACs of two matrices of 8 by 8
ONES: Any = torch.ones(8)


def x() -> Tensor:
    return torch.linspace(-1, 1, 64).view(8, 8)


def of(run: Callable[[], Any]) -> Profile:
    """The profile of a run; nothing in it may be uncounted."""
    torch._dynamo.reset()
    profile = counted(run)
    assert profile.uncounted == {}
    return profile


@pytest.mark.parametrize(("taken", "macs", "adds"), [(True, ONE, 0), (False, 0, 64)])
def test_a_cond_counts_the_branch_that_is_taken(taken: bool, macs: int, adds: int) -> None:
    run = lambda: torch.cond(  # noqa: E731
        torch.tensor(taken), lambda x: x @ x, lambda x: x + 1, (x(),)
    )
    total = of(run).total
    assert (total.macs, total.adds) == (macs, adds)


def test_two_conds_in_a_block_are_two() -> None:
    def run() -> None:
        for taken in (True, False, True):
            torch.cond(torch.tensor(taken), lambda x: x @ x, lambda x: x + 1, (x(),))

    total = of(run).total
    assert (total.macs, total.adds) == (2 * ONE, 64)


def test_a_cond_in_a_cond_counts_the_branch_in_the_branch() -> None:
    def inner(x: Tensor) -> Any:
        return torch.cond(x.sum() > 1e9, lambda x: x @ x @ x, lambda x: x @ x, (x,))

    run = lambda: torch.cond(torch.tensor(True), inner, lambda x: x + 1, (x(),))  # noqa: E731
    assert of(run).macs == ONE


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_loop_counts_each_turn(turns: int) -> None:
    def run() -> None:
        while_loop(lambda i, x: i < turns, lambda i, x: (i + 1, x @ x), (torch.tensor(0), x()))

    profile = of(run)
    assert profile.macs == turns * ONE
    # The counter's own additions, of integers.
    assert profile.total.int_ops == turns


def test_maps_count_each_step() -> None:
    # 8 rows of 8: a product with the weight for each.
    weights: Any = x()
    assert of(lambda: map_operator(lambda row, w: row @ w, x(), weights)).macs == 8 * 64


@needs_torch(2, 15, "under a dispatch mode of any kind a scan begins twice")
def test_scans_count_each_step() -> None:
    total = of(lambda: scan(lambda c, row: (c + row, c * row), torch.zeros(8), x())).total
    assert (total.adds, total.muls) == (64, 64)


def test_an_associative_scan_counts_the_combinations_that_it_makes() -> None:
    """In pairs, then what came of these: 4 and 3 rows, 2 and 1, 1."""
    combined = []

    def multiply(a: Tensor, b: Tensor) -> Tensor:
        combined.append(a.numel())
        return a * b

    run = lambda: associative_scan(multiply, x(), 0, combine_mode="generic")  # noqa: E731
    assert of(run).total.muls == (4 + 2 + 1 + 1 + 3) * 8


@needs_torch(2, 15, "a dispatch mode keeps these operators from compiling what they differentiate")
def test_the_backward_of_a_branch_is_the_backward() -> None:
    data = x().requires_grad_()
    weight = x()

    def run() -> None:
        torch.cond(
            torch.tensor(True), lambda x: x @ weight, lambda x: x + 1, (data,)
        ).sum().backward()

    phases = {name: cost.macs for name, cost in of(run).by_phase().items()}
    # torch runs the branch again in its backward: the product, and its gradient.
    assert phases == {"other": ONE, "backward": 2 * ONE}


def test_modules_in_a_branch_have_their_rows() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Linear(8, 8, bias=False)

        def forward(self, x: Tensor) -> Any:
            return torch.cond(torch.tensor(True), self.small, lambda x: x + 1, (x,))

    torch._dynamo.reset()
    with torch.no_grad():
        rows = macs_by_row(of(lambda: Chooses()(x())))
    assert sum(rows.values()) == ONE
    assert {scope.partition(".")[0] for scope, _ in rows} == {"Chooses"}


# Attention: b 2, h 2, s 64, t 64, d = e 16


def queries() -> Any:
    return torch.linspace(-1, 1, 2 * 2 * 64 * 16).view(2, 2, 64, 16)


SCORES = 2 * 2 * 64 * 64


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_dense_attention_and_its_function() -> None:
    q = queries()
    plain = of(lambda: flex_attention(q, q, q))
    assert plain.macs == SCORES * (16 + 16)
    assert plain.by_family()["attention"].macs == plain.macs
    assert plain.comparable_flops == 2 * plain.macs
    biased = of(lambda: flex_attention(q, q, q, score_mod=lambda score, b, h, i, j: score * 0.5))
    assert biased.macs == plain.macs
    assert biased.total.muls - plain.total.muls == SCORES


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_block_mask_leaves_the_dense_count() -> None:
    q = queries()
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 64, 64, "cpu")
    assert of(lambda: flex_attention(q, q, q, block_mask=mask)).macs == SCORES * (16 + 16)


def test_flex_attention_with_grouped_queries_counts_at_the_queries_heads() -> None:
    q, k = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 12, 16)
    with FlopCounter(display=False) as counter:
        flex_attention(q, k, k, enable_gqa=True)
    assert counter.macs == 4 * 8 * 12 * 32


def test_its_backward_is_twice_its_products() -> None:
    """No kernel on the CPU has one: priced from the call that a GPU makes."""
    q = spec(2, 2, 64, 16)
    operator = torch.ops.higher_order.flex_attention_backward
    args = (q, q, q, q, spec(2, 2, 64), q, None, None, None, (), 0.25, (), (), ())
    price = default_registry().price(OpCall(operator, args, (), (q, q, q, ())))
    assert price.cost.macs == 2 * SCORES * (16 + 16)
    assert price.family == "attention"


# What is not real


def test_on_tensors_without_data_the_report_says_what_was_counted() -> None:
    with FakeTensorMode(), FlopCounter(display=False) as counter:
        pred, data = torch.ones((), dtype=torch.bool), torch.ones(8, 8)
        torch.ops.higher_order.cond(pred, lambda x: (x @ x,), lambda x: (x + 1,), (data,))
    (assumption,) = counter.profile.assumptions
    assert assumption.text.startswith("higher_order::cond ran on tensors without data")
    assert counter.macs == ONE


def test_the_operators_themselves_are_declared_zero() -> None:
    rules = default_registry()
    for name in ("cond", "while_loop", "scan", "map_impl"):
        rule = rules.rule(getattr(torch.ops.higher_order, name))
        assert rule is not None
        assert rule.state == "zero"
    profile = of(lambda: torch.cond(torch.tensor(True), lambda x: x @ x, lambda x: x + 1, (x(),)))
    assert profile.by_op()[torch.ops.higher_order.cond].flops == Cost().flops == 0


def test_a_branch_that_raises_leaves_nothing_wrong_behind() -> None:
    def refuse(x: Tensor) -> tuple[Tensor]:
        raise ValueError("no")

    with FlopCounter(display=False) as counter:
        with pytest.raises(ValueError, match="no"):
            torch.ops.higher_order.cond(torch.tensor(True), refuse, lambda x: (x,), (x(),))
        x() @ x()
    assert counter.macs == ONE


# Given an operator


@torch.library.custom_op("flopdispatch_test::accumulate", mutates_args={"x"})
def accumulate(x: Tensor, y: Tensor) -> None:
    """x + y in place."""
    x.add_(y)


BYTES: Any = torch.ones(8, 8, dtype=torch.int8)
GIVEN: dict[str, tuple[Callable[[], Any], Cost]] = {
    "out_dtype": (
        lambda: out_dtype(aten.mm.default, torch.int32, BYTES, BYTES),
        Cost(int_macs=ONE, int_ops=2 * ONE),
    ),
    "with its random state": (
        lambda: run_and_save_rng_state(aten.native_dropout.default, x(), 0.5, True),
        Cost(muls=2 * 64),  # by the mask and the scale
    ),
    "in a random state": (
        lambda: run_with_rng_state(
            torch.get_rng_state(), aten.native_dropout.default, x(), 0.5, True
        ),
        Cost(muls=2 * 64),
    ),
    "a list": (lambda: foreach_map(torch.add, [x(), x()], [x(), x()]), Cost(adds=2 * 64)),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("name", GIVEN)
def test_an_operator_that_is_given_is_counted(name: str, mode: Any) -> None:
    run, expected = GIVEN[name]
    with mode():
        torch.manual_seed(0)
        without = run()
        torch.manual_seed(0)
        found: list[Any] = []
        profile = of(lambda: found.append(run()))
    assert profile.total.moving(0, 0) == expected
    for ours, theirs in zip(tree_leaves(found[0]), tree_leaves(without), strict=True):
        assert torch.equal(ours, theirs)


def test_an_operator_of_the_users_that_is_given_is_uncounted() -> None:
    y = x()
    with FlopCounter(display=False) as counter:
        ours: Any = auto_functionalized(torch.ops.flopdispatch_test.accumulate.default, x=y, y=y)[1]
    assert torch.equal(ours, y + y)
    assert torch.equal(y, x())
    assert counter.profile.uncounted == {torch.ops.flopdispatch_test.accumulate.default: 1}


# Kernels of the user's, on tensors without data: torch launches nothing


def launched(convention: Registry | None) -> tuple[Profile, int]:
    """What a kernel called twice for 16 numbers costs, and its number."""
    number = kernel_side_table.add_kernel("twice")
    options = kernel_side_table.add_constant_args({"n": 16})
    with FakeTensorMode(), FlopCounter(display=False, convention=convention) as counter:
        for wrapper in (triton_kernel_wrapper_mutation, triton_kernel_wrapper_functional):
            given = {"x": torch.ones(16, device="cuda"), "out": torch.empty(16, device="cuda")}
            functional = wrapper is triton_kernel_wrapper_functional
            clones: Any = {"tensors_to_clone": ["out"]} if functional else {}
            wrapper(
                kernel_idx=number, constant_args_idx=options, grid=[(1, 1, 1)],
                tma_descriptor_metadata={}, kwargs=given, **clones,
            )  # fmt: skip
    return counter.profile, number


def test_a_kernel_of_tritons_is_listed() -> None:
    profile, _ = launched(None)
    assert {name_of(operator): times for operator, times in profile.uncounted.items()} == {
        "higher_order::triton_kernel_wrapper_mutation": 1,
        "higher_order::triton_kernel_wrapper_functional": 1,
    }
    assert profile.assumptions == ()
    assert "triton_kernel_wrapper_mutation" in profile.table()


def test_a_kernel_of_tritons_is_counted_by_a_formula_for_it() -> None:
    rules = default_registry().overlay("mine", "with my kernel")
    seen = []

    @rules.formula(triton_kernel_wrapper_mutation, triton_kernel_wrapper_functional)
    def kernel(kernel_idx: int, kwargs: tuple[tuple[str, Any], ...]) -> Cost:
        seen.append(kernel_idx)
        return Cost(adds=dict(kwargs)["x"].numel)

    profile, number = launched(rules)
    assert profile.total.adds == 2 * 16
    assert set(seen) == {number}
    assert profile.uncounted == {}
