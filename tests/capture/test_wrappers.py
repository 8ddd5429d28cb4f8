"""Wrappers stand in no row of their own, and classes have the names that the user knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from flopdispatch import FlopCounter
from flopdispatch.capture.wrappers import WRAPPERS, class_name
from tests.programs import counted, macs_by_scope

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


class Net(nn.Module):
    def __init__(self, wrap: Callable[[nn.Module], Any] = lambda module: module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.blocks = nn.ModuleList([wrap(nn.Sequential(nn.Linear(8, 8, bias=False)))])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture(scope="module")
def group() -> Any:
    """One process that is all of its group."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "DistributedDataParallel": DistributedDataParallel,
    "DataParallel": DataParallel,
    "CheckpointWrapper": checkpoint_wrapper,
    "OptimizedModule": lambda module: torch.compile(module, backend="eager"),
    "AveragedModel": AveragedModel,
    "one in another": lambda module: DataParallel(torch.compile(module, backend="eager")),
}


def trained(module: nn.Module) -> Any:
    x = torch.randn(8, 8, requires_grad=True)
    return counted(lambda: module(x).sum().backward())


def test_all_wrappers_that_can_run_here_are_tried() -> None:
    assert set(WRAPPERS) - set(WAYS) == {"FullyShardedDataParallel"}  # it needs an accelerator


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.usefixtures("group")
def test_a_wrapped_model_has_the_rows_of_the_model(name: str) -> None:
    wrap = WAYS[name]
    extra = (
        ONE if name == "CheckpointWrapper" else 0
    )  # but what is run again: one layer's stops early
    for model in (wrap(Net()), Net(wrap), wrap(Net(wrap))):
        profile = trained(model)
        costs = macs_by_scope(profile)
        assert set(costs) == {"Net.first", "Net.blocks.0.0"}
        assert 3 * ONE <= costs["Net.first"] <= 3 * ONE + extra
        assert [node.path for node in profile.root.children] == ["Net"]
        assert profile.root.children[0].calls in (1, 2 if extra else 1)
        assert profile.params == 128
        types = {record.scope: record.module_type for record in profile.modules}
        assert types["Net.blocks.0"] == "Sequential"


@pytest.mark.usefixtures("group")
def test_fully_sharded_modules_keep_their_class_names() -> None:
    mesh = init_device_mesh("cpu", (1,))
    model = Net()
    fully_shard(model.blocks[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert class_name(model) == "Net"
    assert class_name(model.blocks[0]) == "Sequential"


def test_a_parametrized_module_keeps_its_class_name() -> None:
    layer = parametrizations.weight_norm(nn.Linear(8, 8, bias=False))
    with FlopCounter(display=False) as counter:
        layer(torch.randn(8, 8))
    record = next(r for r in counter.profile.modules if r.scope == "Linear")
    assert (record.module_type, record.calls) == ("Linear", 1)
    assert macs_by_scope(counter.profile) == {"Linear": ONE}


def test_a_class_of_the_user_that_begins_alike_keeps_its_own() -> None:
    class FSDPLike(nn.Linear):
        pass

    class ParametrizedNet(nn.Module):
        pass

    assert class_name(FSDPLike(2, 2)) == "FSDPLike"
    assert class_name(ParametrizedNet()) == "ParametrizedNet"


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_scripted_model_has_the_name_of_its_class_and_one_row() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    for made in (torch.jit.script(model), torch.jit.trace(model, torch.ones(8, 8))):
        assert macs_by_scope(trained(made)) == {"Sequential": 3 * ONE}
