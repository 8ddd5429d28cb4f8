"""A counter that is paused, resumed, reset, copied or sent elsewhere."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from flopdispatch import CounterStateError, FlopCounter
from tests.programs import macs_by_scope, state_of_torch

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


def x(grad: bool = False, device: str = "cpu") -> Tensor:
    return torch.randn(8, 8, requires_grad=grad, device=device)


def linear() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def calls(counter: FlopCounter) -> dict[str, int]:
    return {record.scope: record.calls for record in counter.profile.modules if record.scope}


def test_what_runs_while_paused_is_not_counted() -> None:
    layer, data = linear(), x()
    before = state_of_torch()
    with FlopCounter(display=False) as counter:
        layer(data)
        counter.pause()
        assert counter.macs == ONE
        layer(data)
        data.cos()
        nn.Sequential(layer)(data)
        counter.resume()
        layer(data)
    assert state_of_torch() == before
    assert macs_by_scope(counter.profile) == {"Linear": 2 * ONE}
    assert calls(counter)["Linear"] == 2
    assert [call.overload for call in counter.profile.calls if "cos" in str(call.overload)] == []


def test_a_pause_may_begin_and_end_anywhere() -> None:
    class Pausing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = linear(), linear(), linear()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            counter.pause()
            x = self.second(x)
            with torch.profiler.record_function("a mark"):
                counter.resume()
            y: Tensor = self.third(x)
            return y

    model = Pausing()
    with FlopCounter(display=False) as counter:
        loss = model(x(grad=True)).sum()
        counter.pause()
        loss.backward(retain_graph=True)
        counter.resume()
        loss.backward()
    # A backward is counted or not by when it runs, wherever its forward ran.
    assert macs_by_scope(counter.profile) == {
        "Pausing.first": 3 * ONE,
        "Pausing.second": 2 * ONE,
        "Pausing.third": 3 * ONE,
    }
    assert calls(counter) == {
        "Pausing": 1, "Pausing.first": 1, "Pausing.second": 0, "Pausing.third": 1,
    }  # fmt: skip


def test_a_pause_that_the_block_ends_in_is_over() -> None:
    layer = linear()
    counter = FlopCounter(display=False)
    with counter:
        layer(x())
        counter.pause()
    assert counter.macs == ONE
    with counter:
        layer(x())
    assert counter.macs == ONE


def test_pause_and_resume_say_what_is_wrong() -> None:
    counter = FlopCounter(display=False)
    for method in (counter.pause, counter.resume):
        with pytest.raises(CounterStateError, match="this one is not in its block"):
            method()
    with counter:
        with pytest.raises(CounterStateError, match="this one is counting"):
            counter.resume()
        counter.pause()
        with pytest.raises(CounterStateError, match="this one is paused already"):
            counter.pause()


def test_pausing_one_counter_leaves_the_other() -> None:
    layer, data = linear(), x()
    with FlopCounter(display=False) as outer, FlopCounter(display=False) as inner:
        layer(data)
        inner.pause()
        layer(data)
        inner.resume()
        outer.pause()
        layer(data)
        layer(data)
    assert (outer.macs, inner.macs) == (2 * ONE, 3 * ONE)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_reset_counter_counts_from_then_on(device: str) -> None:
    class Resetting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = linear(), linear()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            counter.reset()
            y: Tensor = self.second(x) @ x
            return y

    model = Resetting().to(device)
    with FlopCounter(display=False) as counter:
        loss = model(x(True, device)).sum()
        assert macs_by_scope(counter.profile) == {"Resetting.second": ONE, "Resetting": ONE}
        assert calls(counter) == {"Resetting": 0, "Resetting.first": 0, "Resetting.second": 1}
        counter.reset()
        loss.backward()
    assert macs_by_scope(counter.profile) == {
        "Resetting.first": 2 * ONE, "Resetting.second": 2 * ONE, "Resetting": 2 * ONE,
    }  # fmt: skip
    assert counter.params == 128
    counter.reset()
    assert (counter.macs, counter.params, counter.profile.rows) == (0, 0, ())


def test_a_counter_that_is_reset_while_paused_stays_paused() -> None:
    layer = linear()
    with FlopCounter(display=False) as counter:
        layer(x())
        counter.pause()
        counter.reset()
        layer(x())
        assert counter.macs == 0
        counter.resume()
        layer(x())
    assert counter.macs == ONE


class Rows(Dataset[Tensor]):
    """Rows that cost 64 MACs each."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.ones(8) @ torch.ones(8, 8)


@pytest.mark.parametrize(("workers", "macs"), [(0, 2 * 256), (2, 256)])
def test_a_loader_s_processes_work_as_ever_and_are_not_counted(workers: int, macs: int) -> None:
    layer, before = linear(), state_of_torch()
    with FlopCounter(display=False) as counter:
        batches = [layer(batch) for batch in DataLoader(Rows(), batch_size=2, num_workers=workers)]
    assert state_of_torch() == before
    assert [batch.shape for batch in batches] == [(2, 8)] * 2
    assert counter.macs == macs


def test_tasks_that_take_turns_are_counted_in_their_modules() -> None:
    class Waiting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        async def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            await asyncio.sleep(0)
            y: Tensor = self.layer(x)
            return y

    async def both() -> None:
        await asyncio.gather(Waiting()(x()), Waiting()(x()))

    with FlopCounter(display=False) as counter:
        asyncio.run(both())
    assert counter.macs == 4 * ONE
    with FlopCounter(display=False) as counter:
        linear()(x())
    assert macs_by_scope(counter.profile) == {"Linear": ONE}


def test_a_model_may_be_copied_or_deleted_in_the_block() -> None:
    model = nn.Sequential(linear())
    with FlopCounter(display=False) as counter:
        model(x())
        twin = copy.deepcopy(model)
        del model
        twin(x())
    assert macs_by_scope(counter.profile) == {"Sequential.0": ONE, "Sequential#2.0": ONE}
    assert counter.params == 128


def test_a_counter_is_not_copied_but_its_profile_is() -> None:
    with FlopCounter(display=False) as counter:
        linear()(x())
    for action in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"take counter\.profile"):
            action(counter)
    assert pickle.loads(pickle.dumps(counter.profile)) == counter.profile
