"""FlopCounter: what the block sees, what it leaves, and what it says."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import (
    ArgumentError,
    Cost,
    CounterStateError,
    FlopCounter,
    Profile,
    UncountedOperatorError,
    UncountedOperatorWarning,
    count,
    default_registry,
)
from flopdispatch.spec import TensorSpec
from tests.programs import macs_by_scope, state_of_torch

EIGHT = torch.ones(2, 2)  # its square is 2·2·2 = 8 MACs


@torch.library.custom_op("flopdispatch_tests::double", mutates_args=())
def double(x: Tensor) -> Tensor:
    """An operator that no registry knows."""
    return x * 2


@double.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def double_autograd(ctx: Any, grad: Tensor) -> Tensor:
    return grad * 2


double.register_autograd(double_autograd)
DOUBLE = torch.ops.flopdispatch_tests.double.default
TEXT = (
    "these operators have no formula that gives a cost, and are missing from the totals: "
    "flopdispatch_tests::double.default ran 2 times, in {scopes}. Register a formula on "
    "default_registry().overlay('name') and pass it as convention="
)


# Entering


def test_entering_twice_raises_and_counting_goes_on() -> None:
    before = state_of_torch()
    counter = FlopCounter(display=False)
    with counter:
        EIGHT @ EIGHT
        inside = state_of_torch()
        with pytest.raises(CounterStateError) as caught:
            counter.__enter__()
        assert state_of_torch() == inside
        EIGHT @ EIGHT
    assert counter.macs == 16
    assert state_of_torch() == before
    assert str(caught.value) == (
        "this FlopCounter is counting already; use a second FlopCounter for a block inside its "
        "block, or leave the block before entering it again"
    )


def test_entering_again_starts_afresh() -> None:
    counter = FlopCounter(display=False)
    with counter:
        nn.Linear(2, 2)(EIGHT)
    first = counter.profile
    with counter:
        EIGHT @ EIGHT
    assert counter.macs == 8
    assert counter.params == 0
    assert [node.name for node in counter.profile.root.children] == []
    assert first.params == 6, "a profile taken earlier stays as it is"


def test_counters_nest_and_each_sees_its_own_block() -> None:
    inner = FlopCounter(display=False)
    with FlopCounter(display=False) as outer:
        nn.Linear(2, 2)(EIGHT).sum().backward()
        with inner:
            nn.Linear(2, 3)(EIGHT).sum().backward()
        EIGHT @ EIGHT
    assert inner.macs == 12 + 12
    assert outer.macs == 8 + 8 + 24 + 8
    assert macs_by_scope(inner.profile) == {"Linear": 24}
    assert macs_by_scope(outer.profile) == {"Linear": 16, "Linear#2": 24, "": 8}


def test_an_outer_counter_sees_nothing_of_an_inner_ones_work() -> None:
    def program() -> None:
        nn.Linear(2, 2)(EIGHT).add(1).sum().backward()

    with FlopCounter(display=False) as outer:
        with FlopCounter(display=False) as inner:
            program()
        assert inner.flops > 0
        str(inner.profile)
    assert outer.profile.by_op() == inner.profile.by_op()


def test_counters_in_threads_see_their_own_calls() -> None:
    ready = threading.Barrier(2)
    counters = [FlopCounter(display=False) for _ in range(2)]

    def run(counter: FlopCounter, width: int) -> None:
        model = nn.Sequential(nn.Linear(2, width, bias=False))
        with counter:
            for _ in range(50):
                ready.wait()
                model(EIGHT).sum().backward()

    threads = [threading.Thread(target=run, args=(c, i + 1)) for i, c in enumerate(counters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counter.macs for counter in counters] == [50 * 2 * 4, 50 * 2 * 8]
    for i, counter in enumerate(counters):
        assert counter.params == 2 * (i + 1)
        assert macs_by_scope(counter.profile) == {"Sequential.0": 400 * (i + 1)}
        assert counter.profile.root.children[0].calls == 50


def test_a_block_inside_a_forward_begins_and_ends_there() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = nn.Linear(2, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            with counter:
                y = self.child(x)
            out: Tensor = self.child(y)
            return out

    counter = FlopCounter(display=False)
    before = state_of_torch()
    Outer()(EIGHT)
    assert macs_by_scope(counter.profile) == {"Linear": 8}
    assert state_of_torch() == before


def test_numbers_are_live_inside_the_block_and_final_after_it() -> None:
    counter = FlopCounter(display=False)
    assert (counter.macs, counter.flops, counter.params) == (0, 0, 0)
    seen = []
    model = nn.Linear(2, 2, bias=False)
    with counter:
        for _ in range(3):
            seen.append((counter.macs, counter.flops, counter.params))
            model(EIGHT)
        live = counter.profile
    assert seen == [(0, 0, 0), (8, 16, 4), (16, 32, 4)]
    assert counter.profile == live
    assert counter.profile is counter.profile
    EIGHT @ EIGHT
    assert counter.macs == 24


# What it says


def test_the_table_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with FlopCounter() as counter:
        nn.Sequential(nn.Linear(2, 2))(EIGHT)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr() == (str(counter.profile) + "\n", "")
    with FlopCounter(depth=0) as counter:
        nn.Sequential(nn.Linear(2, 2))(EIGHT)
    assert capsys.readouterr().out == counter.profile.table(depth=0) + "\n"


def test_without_display_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with FlopCounter(display=False):
        EIGHT @ EIGHT
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("depth", [-1, 1.0, True, "2"])
def test_a_bad_depth_is_refused(depth: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        FlopCounter(depth=depth)
    assert str(caught.value) == f"depth= takes an integer >= 0 or None, got {depth!r}"


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        FlopCounter(convention="thop2")
    assert str(caught.value).startswith("convention= takes a Registry or one of flopdispatch")
    assert str(caught.value).endswith("got 'thop2'")


def twice_in(model: nn.Module | None) -> None:
    for _ in range(2):
        double(EIGHT) if model is None else model(EIGHT)


class Doubles(nn.Module):
    """Calls the unknown operator."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = double(x)
        return out


def test_uncounted_operators_are_one_warning_where_the_block_is() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with FlopCounter(display=False) as counter:
            twice_in(None)
    (warning,) = caught
    assert warning.category is UncountedOperatorWarning
    assert warning.filename == __file__
    assert str(warning.message) == TEXT.format(scopes="the block itself")
    assert counter.profile.uncounted == {DOUBLE: 2}


def test_strict_raises_and_names_operators_calls_and_scopes() -> None:
    before = state_of_torch()
    with pytest.raises(UncountedOperatorError) as caught:
        with FlopCounter(display=False, strict=True) as counter:
            twice_in(nn.Sequential(Doubles()))
    assert str(caught.value) == TEXT.format(scopes="Sequential.0")
    assert counter.profile.uncounted == {DOUBLE: 2}
    assert state_of_torch() == before


def test_only_three_scopes_are_named() -> None:
    model = nn.Sequential(*(Doubles() for _ in range(5)))
    with pytest.raises(UncountedOperatorError, match=r"in Sequential\.0, Sequential\.1, "
                       r"Sequential\.2 and 2 more\. Register"):  # fmt: skip
        with FlopCounter(display=False, strict=True):
            model(EIGHT)


def test_strict_is_silent_where_all_is_counted() -> None:
    with FlopCounter(display=False, strict=True) as counter:
        nn.Linear(2, 2)(EIGHT)
    assert counter.macs == 8


def test_an_exception_is_not_replaced_by_news_of_uncounted_operators() -> None:
    def fail() -> None:
        double(EIGHT)
        raise ValueError("boom")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="boom"), FlopCounter(strict=True):
            fail()


# Conventions and formulas of one's own


def test_a_formula_of_ones_own_prices_a_custom_operator() -> None:
    mine = default_registry().overlay("mine", "with double")

    @mine.formula(DOUBLE)
    def formula(x: TensorSpec, result: TensorSpec) -> Cost:
        return Cost(muls=x.numel)

    with FlopCounter(display=False, strict=True, convention=mine) as counter:
        double(EIGHT)
        EIGHT @ EIGHT
    assert counter.flops == 4 + 16
    assert counter.profile.convention == "mine"
    assert counter.profile.by_family()["mine"].muls == 4
    assert DOUBLE not in {rule.overload for rule in default_registry()}


def test_a_formula_runs_once_for_each_distinct_call() -> None:
    mine = default_registry().overlay("mine")
    shapes = []

    @mine.formula(DOUBLE)
    def formula(x: TensorSpec) -> Cost:
        shapes.append(x.shape)
        return Cost(muls=x.numel)

    with FlopCounter(display=False, convention=mine) as counter:
        for _ in range(100):
            double(EIGHT)
            nn.Sequential(Doubles())(torch.ones(3))
        assert shapes == []
    assert shapes == [(2, 2), (3,)]
    assert counter.profile.by_family()["mine"].muls == 700


def test_a_formula_that_fails_leaves_its_call_uncounted() -> None:
    bad = default_registry().overlay("bad")

    @bad.formula(DOUBLE)
    def formula(x: TensorSpec) -> Cost:
        raise ZeroDivisionError("oops")

    said = "the formula of flopdispatch_tests.double.default raised ZeroDivisionError: oops; "
    before = state_of_torch()
    with (
        pytest.warns(UncountedOperatorWarning, match="ZeroDivisionError: oops"),
        FlopCounter(display=False, convention=bad) as counter,
    ):
        nn.Sequential(nn.Linear(2, 2, bias=False), Doubles())(EIGHT)
    assert state_of_torch() == before
    profile = counter.profile
    assert profile.macs == 8
    assert profile.uncounted == {DOUBLE: 1}
    assert list(profile.errors) == [DOUBLE]
    assert profile.errors[DOUBLE].startswith(said + "its arguments were (TensorSpec(shape=(2, 2)")
    assert f"Failed: {said}" in profile.table()
    assert Profile.from_json(profile.to_json()).errors == profile.errors
    assert profile.reprice("flopdispatch").errors == {}
    assert profile.reprice("flopdispatch").reprice(bad).errors == profile.errors
    with pytest.raises(UncountedOperatorError, match="ZeroDivisionError: oops"):
        count(Doubles(), (2, 2), strict=True, convention=bad)
