"""Trackers are told of every module call of their thread, and torch is left as it was."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import FlopCounter
from tests.programs import Failing, macs_by_scope, state_of_torch
from tests.versions import needs_torch


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())


MACS = {"Sequential.0": 32}  # a batch of 2


def x() -> Tensor:
    return torch.ones(2, 4)


def test_torch_is_as_it_was_however_blocks_are_nested_and_left() -> None:
    before = state_of_torch()
    outer, inner = FlopCounter(display=False), FlopCounter(display=False)
    with outer:
        net()(x())
        with inner:
            assert nn.Module._call_impl is not before[-7]
            net()(x())
        net()(x())
    assert state_of_torch() == before
    assert macs_by_scope(inner.profile) == MACS
    assert sum(macs_by_scope(outer.profile).values()) == 3 * 32


def test_blocks_of_threads_that_overlap_see_their_own_calls() -> None:
    before = state_of_torch()
    entered, leave = threading.Event(), threading.Event()
    found: list[dict[str, int]] = []

    def work() -> None:
        with FlopCounter(display=False) as counter:
            net()(x())
            entered.set()
            leave.wait()
            net()(x())
        found.append(macs_by_scope(counter.profile))

    worker = threading.Thread(target=work)
    with FlopCounter(display=False) as counter:
        worker.start()
        entered.wait()
        net()(x())
    leave.set()  # the other's block ends after ours, which began first
    worker.join()
    assert macs_by_scope(counter.profile) == MACS
    assert found == [{"Sequential.0": 32, "Sequential#2.0": 32}]
    assert state_of_torch() == before


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_a_call_that_any_exception_ends_is_over(error: BaseException) -> None:
    model = Failing(error)
    with FlopCounter(display=False) as counter:
        with pytest.raises(type(error)):
            model(torch.ones(2, 8))
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert macs_by_scope(counter.profile) == {"": 24, "Failing.linear": 128}


def test_a_patch_around_ours_goes_on_working_when_ours_is_gone() -> None:
    original = nn.Module._call_impl
    called: list[str] = []
    counter = FlopCounter(display=False)
    with counter:
        ours: Any = nn.Module._call_impl

        def theirs(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            called.append(type(self).__name__)
            return ours(self, *args, **kwargs)

        nn.Module._call_impl = theirs  # type: ignore[method-assign]
        net()(x())
    try:
        assert nn.Module._call_impl is theirs
        net()(x())
        with FlopCounter(display=False) as second:
            net()(x())
        assert nn.Module._call_impl is theirs
    finally:
        nn.Module._call_impl = original  # type: ignore[method-assign]
    assert called == ["Sequential", "Linear", "ReLU"] * 3
    assert macs_by_scope(counter.profile) == macs_by_scope(second.profile) == MACS
    assert {m.scope: m.calls for m in second.profile.modules}["Sequential.0"] == 1


@needs_torch(2, 15, "what has run under any mode isn't compiled later")
def test_a_module_compiled_inside_a_block_is_compiled_after_it() -> None:
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    in_place, wrapped = net(), net()
    with FlopCounter(display=False) as counter:
        in_place.compile(backend=backend)
        other = torch.compile(wrapped, backend=backend)
        in_place(x())
        other(x())
    assert counter.macs == 64
    assert not compiled
    for model in (in_place, other):
        compiled.clear()
        model(x())
        assert compiled
    torch._dynamo.reset()


def test_a_hook_of_the_users_belongs_to_its_module() -> None:
    model = net()
    model[0].register_forward_hook(lambda module, inputs, output: output @ output.t())
    with FlopCounter(display=False) as counter:
        model(x())
    assert macs_by_scope(counter.profile) == {"Sequential.0": 32 + 2 * 2 * 4}
