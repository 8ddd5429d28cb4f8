"""Tensors that are made of others cost what runs on these: each rank's own part of a DTensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

from flopdispatch import FlopCounter
from tests.programs import counted, macs_by_scope

RANKS = 4
WHOLE = 16 * 16 * 32  # MACs of 16 rows through a layer of 16 by 32


@pytest.fixture
def ranks() -> Iterator[Any]:
    """Four ranks of which this process is the first; the others don't exist."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    yield init_device_mesh("cpu", (RANKS,))
    dist.destroy_process_group()


def parallel(mesh: Any) -> nn.Module:
    """Two layers, split by columns and by rows."""
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 16, bias=False))
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_layer_in_tensor_parallel_counts_this_ranks_part(ranks: Any, mode: Any) -> None:
    model, data = parallel(ranks), torch.randn(16, 16)
    with mode():
        profile = counted(model, data)
    part = WHOLE // RANKS
    assert macs_by_scope(profile) == {"Sequential.0": part, "Sequential.2": part}
    assert profile.uncounted == {}
    with FlopCounterMode(display=False) as theirs:
        model(data)
    assert theirs.get_total_flops() == 2 * 2 * WHOLE, "torch's counts all ranks' parts"


def test_its_backward_does_too(ranks: Any) -> None:
    model, data = parallel(ranks), torch.randn(16, 16)
    profile = counted(lambda: model(data).sum().backward())
    part = WHOLE // RANKS
    # The data needs no gradient.
    assert macs_by_scope(profile) == {"Sequential.0": 2 * part, "Sequential.2": 3 * part}


def test_results_are_what_they_are_without_us(ranks: Any) -> None:
    model, data = parallel(ranks), torch.randn(16, 16)
    expected = model(data)
    with FlopCounter(display=False):
        found = model(data)
    assert type(found) is type(expected)
    # A group that sends nothing leaves weights as memory was: they may be nan.
    assert bool(((found == expected) | (found.isnan() & expected.isnan())).all())


def test_a_wrapper_counts_each_of_its_parts() -> None:
    both = TwoTensor(torch.ones(4, 4), torch.ones(4, 4))
    found: list[Tensor] = []
    profile = counted(lambda: found.append(both @ both))
    assert type(found[0]) is TwoTensor
    assert profile.macs == 2 * 64


def test_a_wrapper_that_fails_leaves_nothing_wrong_behind() -> None:
    both = TwoTensor(torch.ones(4, 4), torch.ones(4, 4))
    with FlopCounter(display=False) as counter:
        with pytest.raises(RuntimeError):
            both @ TwoTensor(torch.ones(3, 3), torch.ones(3, 3))
        torch.ones(4, 4) @ torch.ones(4, 4)
    assert counter.macs == 64


def test_what_torch_refuses_on_a_wrapper_it_refuses_alike() -> None:
    wrapper: Any = TwoTensor
    both = wrapper(torch.ones(4, 4), torch.ones(4, 4))
    branch = lambda x: (x @ x,)  # noqa: E731
    cond: Any = torch.ops.higher_order.cond
    blocks: tuple[Any, ...] = (nullcontext(), FlopCounter(display=False))
    for block in blocks:
        with block, pytest.raises(NotImplementedError, match="no rule registered for HOP cond"):
            cond(torch.tensor(True), branch, branch, (both,))
