"""What a rule takes from the tensors when its operator runs, where the cost lies in values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch import Cost, FlopCounter, Profile, Registry, TensorSpec
from flopdispatch.capture.recording import MAX_NUMBERS

aten = torch.ops.aten


def rules_that_take(takes: Any) -> Registry:
    """As many adds as the largest number says; one for each element if it isn't known."""
    rules = Registry("mine")

    @rules.formula(
        aten.cumsum.default,
        takes=takes,
        estimate="one for each element",
        estimated_if=lambda taken: taken is None,
    )
    def cumsum(self: TensorSpec, taken: tuple[int, ...] | None) -> Cost:
        return Cost(adds=self.numel if taken is None else taken[0]).in_dtype(None)

    return rules


def largest(self: Tensor) -> tuple[int]:
    return (int(self.max()),)


def adds(*batches: Tensor, takes: Any = largest) -> Profile:
    with FlopCounter(display=False, convention=rules_that_take(takes)) as counter:
        for batch in batches:
            torch.cumsum(batch, 0)
    return counter.profile


def total(profile: Profile) -> int:
    """All that the counts of adds come to, in whatever type."""
    return profile.total.adds + profile.total.int_ops


def test_values_are_taken_each_time() -> None:
    one, other = torch.tensor([1, 2, 5]), torch.tensor([0, 7, 1])
    profile = adds(one, other, one)
    assert total(profile) == 5 + 7 + 5
    assert profile.estimates == {}
    taken = sorted(call.taken for call in profile.calls if call.taken is not None)
    assert taken == [(5,), (7,)]
    assert Profile.from_json(profile.to_json()).calls == profile.calls


def test_values_are_told_apart_however_many_there_are() -> None:
    several = [torch.tensor([1, number]) for number in range(100, 100 + 2 * MAX_NUMBERS)]
    assert total(adds(*several)) == sum(range(100, 100 + 2 * MAX_NUMBERS))


@pytest.mark.parametrize("how", ["meta", "fake"])
def test_where_there_are_no_values_the_formula_is_told(how: str) -> None:
    mode = FakeTensorMode() if how == "fake" else torch.device("meta")
    with mode:
        data = torch.ones(3, dtype=torch.int64)
        for _ in range(2):
            profile = adds(data)
            assert total(profile) == 3
            assert profile.estimates == {aten.cumsum.default: 1}


def refuses(self: Tensor) -> tuple[int]:
    raise ValueError("no values here")


def test_what_cannot_be_taken_is_estimated_and_breaks_nothing() -> None:
    data = torch.tensor([1, 2, 5])
    profile = adds(data, takes=refuses)
    assert total(profile) == 3
    assert profile.estimates == {aten.cumsum.default: 1}


def test_taking_is_seen_by_no_mode_of_the_user() -> None:
    seen: list[Any] = []

    class Sees(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    data = torch.tensor([1, 2, 5])
    with Sees():  # type: ignore[no-untyped-call]
        profile = adds(data)
    assert seen == [aten.cumsum.default]
    assert total(profile) == 5


def test_a_rule_that_takes_is_heeded_though_its_operator_was_counted_before() -> None:
    data = torch.tensor([1, 2, 6])
    with FlopCounter(display=False) as counter:
        torch.cumsum(data, 0)
    assert [call.taken for call in counter.profile.calls if call.overload is aten.cumsum.default]
    assert total(adds(data)) == 6


def test_what_a_rule_takes_are_arguments_of_its_operator() -> None:
    with pytest.raises(Exception, match="asks for 'sizes', which"):
        rules_that_take(lambda sizes: (1,))
