"""Regions that the user names have rows like modules."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import ArgumentError, FlopCounter, scope
from tests.programs import counted, macs_by_scope

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


def x(grad: bool = True) -> Tensor:
    return torch.randn(8, 8, requires_grad=grad)


class Parts(nn.Module):
    """Two regions around and in a module, one of them a method's."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.weight = nn.Parameter(torch.randn(8, 8))

    @scope("mix")
    def mix(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        with scope("body"):
            x = self.mix(self.first(x))
        with scope("head.product"):
            return x @ x


def test_a_region_is_a_row_below_what_it_runs_in() -> None:
    def run() -> None:
        with scope("step"):
            y = Parts()(x())
            with scope("loss"):
                loss = (y @ y).sum()
        loss.backward()

    profile = counted(run)
    assert macs_by_scope(profile) == {
        "step.Parts.first": 3 * ONE,
        "step.Parts.body.mix": 3 * ONE,
        "step.Parts.head.product": 3 * ONE,
        "step.loss": 3 * ONE,
    }
    assert macs_by_scope(profile, own=False)["step.Parts"] == 9 * ONE
    assert macs_by_scope(profile, own=False)["step"] == profile.macs == 12 * ONE
    nodes = {node.path: node for node in [profile.root, *profile.root.children]}
    assert nodes["step"].calls == 1
    assert nodes["step"].module_type == ""


def test_the_same_name_is_the_same_row_and_calls_are_counted() -> None:
    data = x(grad=False)

    def run() -> None:
        for _ in range(3):
            with scope("loop"):
                data @ data

    profile = counted(run)
    assert macs_by_scope(profile) == {"loop": 3 * ONE}
    assert profile.root.children[0].calls == 3


def test_a_name_of_a_module_is_not_taken_from_it() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            with scope("inner"):
                x = x @ x
            y: Tensor = self.inner(x)
            return y

    def run() -> None:
        with scope("Outer"):
            pass
        Outer()(x(grad=False))
        with scope("Outer"):
            pass

    profile = counted(run)
    assert macs_by_scope(profile) == {"Outer#2.inner": ONE, "Outer#2.inner#2": ONE}
    assert profile.root.children[0].path == "Outer"
    assert profile.root.children[0].calls == 2


def test_a_region_that_an_exception_leaves_has_ended() -> None:
    data = x(grad=False)
    with FlopCounter(display=False) as counter:
        with pytest.raises(KeyError), scope("outer"), scope("inner"):
            raise KeyError
        data @ data
    assert macs_by_scope(counter.profile) == {"": ONE}


def test_a_region_without_a_counter_does_nothing() -> None:
    with scope("alone"):
        counter = FlopCounter(display=False).__enter__()
    x(grad=False) @ x(grad=False)
    counter.__exit__(None, None, None)
    assert macs_by_scope(counter.profile) == {"": ONE}


def test_a_region_is_of_one_thread_and_of_all_its_counters() -> None:
    data = x(grad=False)

    def other() -> None:
        with scope("theirs"):
            data @ data

    with FlopCounter(display=False) as outer, FlopCounter(display=False) as inner, scope("ours"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        data @ data
    assert [macs_by_scope(c.profile) for c in (outer, inner)] == [{"ours": ONE}] * 2


def test_a_region_is_recomputed_where_it_was() -> None:
    weight = nn.Parameter(torch.randn(8, 8))

    def part(x: Tensor) -> Tensor:
        with scope("part"):
            return x @ weight @ weight  # the second is not run again: nothing needs its result

    profile = counted(lambda: checkpoint(part, x(), use_reentrant=False).sum().backward())
    assert macs_by_scope(profile) == {"part": 7 * ONE}
    assert {phase: cost.macs for phase, cost in profile.by_phase().items() if cost.macs} == {
        "other": 2 * ONE, "recompute": ONE, "backward": 4 * ONE,
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["", None, 3])
def test_a_name_is_a_string_with_something_in_it(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"scope\(\) takes a name"), scope(wrong):
        pass


def test_a_compiled_function_with_a_region_stays_one_graph() -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def part(x: Tensor) -> Tensor:
        with scope("part"):
            return x @ x

    data = x(grad=False)
    assert torch.equal(part(data), data @ data)
