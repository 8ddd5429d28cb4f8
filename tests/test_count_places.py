"""count() where a model can't or needn't be: no memory, no data, no such device."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.testing._internal.distributed.fake_pg import FakeStore

from flopdispatch import (
    ArgumentError,
    Assume,
    DataDependentError,
    FlopCounter,
    Profile,
    count,
    on_meta,
    spec,
)
from flopdispatch.counter import FAKES_END_THE_PROCESS
from tests.versions import needs_torch

WIDTH = 8
ONE = WIDTH * WIDTH  # MACs of a linear layer, for one row

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
fakes_run = needs_torch(2, 10, "a convolution on a fake GPU ends the process")


# No memory


def test_a_real_model_is_neither_copied_nor_moved() -> None:
    model = nn.Sequential(*[nn.Linear(4_096, 4_096, bias=False) for _ in range(8)])  # 512 MiB
    places = [parameter.data_ptr() for parameter in model.parameters()]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    profile = count(model, (2, 4_096), backward=True)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert profile.macs == (8 + 8 + 7) * 2 * 4_096**2
    assert added < 128 << 20
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert all(parameter.grad is None for parameter in model.parameters())


def twice(model: nn.Module) -> tuple[int, int]:
    """MACs on meta and on the CPU."""
    model.eval()
    return count(model, (2, WIDTH)).macs, count(model, (2, WIDTH), device="cpu").macs


@pytest.mark.parametrize("parametrized", [weight_norm, spectral_norm, orthogonal])
def test_parametrizations(parametrized: Any) -> None:
    model = parametrized(nn.Linear(WIDTH, WIDTH))
    on, off = twice(model)
    assert on == off >= 2 * ONE


@pytest.fixture
def four_ranks() -> Iterator[Any]:
    """A mesh of four processes, of which there is one."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        yield init_device_mesh("cpu", (4,))
    finally:
        dist.destroy_process_group()


def test_sharded_parameters_are_this_ranks_part(four_ranks: Any) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH))
    parallelize_module(model, four_ranks, {"0": ColwiseParallel(), "1": RowwiseParallel()})
    assert twice(model) == (2 * 4 * ONE // 4, 2 * 4 * ONE // 4)


# What can't stand there


def packed() -> Any:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(WIDTH, WIDTH)))


def sparse() -> nn.Module:
    model = nn.Linear(WIDTH, WIDTH)
    model.weight = nn.Parameter(model.weight.detach().to_sparse(), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (packed, "0._packed_params._packed_params holds packed weights"),
        (sparse, "weight is torch.sparse_coo"),
        (lambda: nn.LazyLinear(WIDTH), "weight of LazyLinear is uninitialized"),
        (lambda: torch.jit.script(nn.Linear(WIDTH, WIDTH)), "a scripted one doesn't take"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cant_stand_on_meta_is_refused_with_its_reason(build: Any, reason: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        count(build(), (2, WIDTH))
    assert reason in str(caught.value)


def test_so_are_parameters_that_fsdp_gathers(four_ranks: Any) -> None:
    model: Any = fully_shard(nn.Linear(WIDTH, WIDTH), mesh=four_ranks)
    with pytest.raises(ArgumentError, match="FSDP shards and gathers"):
        count(model, (2, WIDTH))


def test_an_operator_that_isnt_there_is_the_models_own_error() -> None:
    class Missing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise NotImplementedError("as you like")

    with pytest.raises(NotImplementedError, match="as you like"):
        count(Missing(), (2, WIDTH))


# Devices that aren't here


@without_gpu
@fakes_run
def test_a_gpus_operators_without_one() -> None:
    model = on_meta(torchvision.models.resnet18)
    on_gpu, on_cpu = count(model, (1, 3, 64, 64), device="cuda"), count(model, (1, 3, 64, 64))
    aten = torch.ops.aten
    assert aten.cudnn_batch_norm.default in on_gpu.by_op()
    assert aten.native_batch_norm.default in on_cpu.by_op()
    assert on_gpu.macs == on_cpu.macs
    normed = [c for c in on_gpu.calls if c.overload is aten.cudnn_batch_norm.default]
    assert {call.arguments()["input"].device.type for call in normed} == {"cuda"}
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@without_gpu
@fakes_run
def test_there_values_are_known_as_on_meta() -> None:
    def program(x: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(x.shape[0], device=x.device)
        assert bool((steps == torch.tensor([0, 1, 2, 3], device=x.device)).all())
        kept = x[mask & (steps > 0)]
        return kept @ x[: len(kept)].t()

    mask = torch.tensor([True, True, False, True])
    profile = count(program, (4, WIDTH), mask, device="cuda")
    assert profile.macs == 2 * WIDTH * 2
    assert profile.assumptions == ()


@without_gpu
@pytest.mark.skipif(not FAKES_END_THE_PROCESS, reason="for a torch that can't")
def test_an_old_torch_is_not_let_end_the_process() -> None:
    with pytest.raises(ArgumentError, match=r"before version 2\.10"):
        count(nn.Conv2d(3, 3, 3), (1, 3, 8, 8), device="cuda")


@without_gpu
@fakes_run
def test_a_backward_needs_the_device() -> None:
    with pytest.raises(ArgumentError, match="device='meta'"):
        count(nn.Linear(WIDTH, WIDTH), (2, WIDTH), device="cuda", backward=True)


def test_models_and_inputs_that_are_fake() -> None:
    with FakeTensorMode():
        model, x = nn.Linear(WIDTH, WIDTH), torch.ones(2, WIDTH)
        assert count(model, x).macs == 2 * ONE
        with FlopCounter(display=False, assume=Assume()) as counter:
            assert x[torch.arange(2) > 0].shape == (1, WIDTH)
            assert int(torch.ones(2, WIDTH).sum()) == 2 * WIDTH
            assert model(x).shape == (2, WIDTH)
        assert counter.macs == 2 * ONE
        assert counter.profile.assumptions == ()
    assert count(model, (2, WIDTH)).macs == 2 * ONE


# Blocks


def looks(x: Tensor) -> Tensor:
    """A product, and a look at it."""
    y = x @ x
    return y if y.sum() > 0 else x


def test_a_block_changes_no_program_that_asks_unless_told_to() -> None:
    x = torch.zeros(WIDTH, WIDTH, device="meta")
    with pytest.raises(RuntimeError) as without:
        looks(x)
    counter = FlopCounter(display=False)
    with pytest.raises(RuntimeError) as within, counter:
        looks(x)
    assert (type(within.value), str(within.value)) == (type(without.value), str(without.value))
    with FlopCounter(display=False, assume=Assume()) as counter:
        assert looks(x) is x
    (told,) = counter.profile.assumptions
    assert told.text == "a condition on data is False"
    assert (told.operator, told.scope) == ("aten::_local_scalar_dense", "")
    assert (
        told.source.startswith("tests/test_count_places.py:")
        or "test_count_places.py:" in told.source
    )


def test_under_strict_the_line_is_named_and_nothing_is_lost() -> None:
    x = torch.zeros(WIDTH, WIDTH, device="meta")  # before the block: what it holds isn't known
    counter = FlopCounter(display=False, strict=True, assume=Assume())
    with pytest.raises(DataDependentError, match=r"test_count_places\.py:\d+"), counter:
        looks(x)
    assert counter.macs == WIDTH**3
    with pytest.raises(DataDependentError, match=r"test_count_places\.py:\d+"):
        count(looks, (WIDTH, WIDTH), strict=True)


def test_assumptions_are_part_of_a_profile() -> None:
    profile = count(looks, (WIDTH, WIDTH))
    assert len(profile.assumptions) == 1
    assert Profile.from_json(profile.to_json()).assumptions == profile.assumptions
    assert "Assumed about data: 1 answers, in profile.assumptions" in profile.table()
    assert "a condition on data is False x1" in profile.table()


def test_on_a_real_device_nothing_is_assumed() -> None:
    assert count(looks, (WIDTH, WIDTH), device="cpu").assumptions == ()
    ids = spec(2, dtype=torch.long)
    assert count(lambda x: x.tolist(), ids, device="cpu").assumptions == ()


@pytest.mark.parametrize("assume", [0.5, "even", {"nonzero": 1}])
def test_a_bad_assume_is_refused(assume: Any) -> None:
    for run in (lambda: FlopCounter(assume=assume), lambda: count(looks, (2, 2), assume=assume)):
        with pytest.raises(ArgumentError, match="assume= takes an Assume or None"):
            run()


def test_autocast_that_casts_nothing_on_meta_is_an_assumption() -> None:
    layer, x = nn.Linear(8, 4), torch.ones(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        (told,) = count(layer, (2, 8)).assumptions
        on_cpu = count(layer, x, device="cpu")
    assert "torch.autocast casts nothing on meta" in str(told)
    assert on_cpu.assumptions == ()
    assert on_cpu.by_dtype()[torch.bfloat16].macs == 2 * 8 * 4
    assert count(layer, (2, 8)).assumptions == ()
