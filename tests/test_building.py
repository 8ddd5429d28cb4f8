"""on_meta(): models without memory, whatever their builders ask for."""

from __future__ import annotations

import gc
import resource
import warnings
import weakref
from typing import Any

import pytest
import torch
import torchvision
import transformers
from torch import Tensor, nn

from flopdispatch import ArgumentError, DataDependentError, count, on_meta, spec
from flopdispatch.capture.known import KEPT

WIDTH = 4


def on(model: nn.Module) -> set[str]:
    """The devices of a model's parameters and buffers."""
    return {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}


class Stages(nn.Module):
    """As many layers as a table on the device says, which it keeps."""

    table: Tensor

    def __init__(self, rates: int) -> None:
        super().__init__()
        steps = torch.linspace(0, 1, rates)
        self.rates = [float(rate) for rate in steps]
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in steps.tolist())
        self.register_buffer("table", torch.arange(rates).flip(0))
        self.register_buffer("mask", torch.ones(rates, rates).tril(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for place in self.table.tolist():
            x = self.layers[place](x)
        return x[: int(self.table[0])]


def test_a_builder_that_looks_at_values_builds_the_same_model() -> None:
    made, real = on_meta(Stages, 3), Stages(3)
    assert on(made) == {"meta"}
    assert made.rates == real.rates == [0.0, 0.5, 1.0]
    described = [{k: (v.shape, v.dtype) for k, v in m.state_dict().items()} for m in (made, real)]
    assert described[0] == described[1]


def test_count_knows_what_its_buffers_hold() -> None:
    profile = count(on_meta(Stages, rates=3), (5, WIDTH))
    assert profile.macs == 3 * 5 * WIDTH * WIDTH
    assert profile.assumptions == ()
    assert count(Stages(3), (5, WIDTH)).macs == profile.macs
    with torch.device("meta"):  # without it nobody knows how many layers run
        with pytest.raises(RuntimeError, match="meta"):
            Stages(3)


def test_a_buffer_that_was_written_since_is_known_no_more() -> None:
    made = on_meta(Stages, 3)
    made.table.random_(3)
    with pytest.raises(DataDependentError, match=r"test_building\.py"):
        count(made, (5, WIDTH))


def test_nothing_is_known_of_a_model_that_is_gone() -> None:
    before = len(KEPT)
    made = on_meta(Stages, 3)
    assert len(KEPT) == before + 2
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert len(KEPT) == before


class Weighs(nn.Module):
    """Looks at its own weights while it is built, as pruning does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        scale = torch.rand(WIDTH) + 1
        self.largest = 1 if float(scale.max()) > 0 else 0
        self.head = nn.Linear(WIDTH, WIDTH)
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.head.weight
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.head(x @ self.weight))  # type: ignore[no-any-return]


def test_where_values_are_random_it_is_built_on_the_cpu_and_moved() -> None:
    before = nn.Module.register_parameter
    made = on_meta(Weighs)
    assert nn.Module.register_parameter is before
    assert on(made) == {"meta"}
    assert made.largest == 1
    assert made.tied.weight is made.head.weight
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert count(made, (2, WIDTH)).params == 2 * WIDTH * WIDTH + 2 * WIDTH


def test_there_its_parameters_take_no_memory_together() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            assert float(torch.rand(())) < 1
            self.layers = nn.ModuleList(nn.Linear(4_096, 4_096) for _ in range(64))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = on_meta(Large)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert sum(parameter.nbytes for parameter in made.parameters()) > 4 << 30
    assert added < 1 << 30


def test_parameters_made_elsewhere_are_moved_and_named() -> None:
    class Legacy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.Tensor(WIDTH))
            self.same = self.bias
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.register_buffer("steps", torch.arange(WIDTH, device="cpu"))

    with pytest.warns(UserWarning, match="moved: bias on cpu") as told:
        made = on_meta(Legacy)
    assert len(told) == 1
    assert on(made) == {"meta"}
    assert made.same is made.bias


def test_a_builders_warnings_and_errors_are_its_own() -> None:
    def build(fails: bool) -> nn.Module:
        warnings.warn("as you like", stacklevel=1)
        if fails:
            raise KeyError("no such model")
        return nn.Linear(1, 1)

    with pytest.warns(UserWarning, match="as you like"):
        on_meta(build, False)
    with pytest.warns(UserWarning, match="like"), pytest.raises(KeyError, match="no such model"):
        on_meta(build, fails=True)
    other: Any = list
    with pytest.raises(ArgumentError, match="returns a module"):
        on_meta(other)


def test_nothing_stays_behind() -> None:
    functions = torch.tensor, torch.Tensor.__getitem__, nn.Module.register_parameter
    state = torch.random.get_rng_state()
    on_meta(Stages, 3)
    assert (torch.tensor, torch.Tensor.__getitem__, nn.Module.register_parameter) == functions
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.ones(1).device.type == "cpu"


def regnet() -> Any:
    return transformers.RegNetModel(transformers.RegNetConfig(depths=[1, 1, 1, 1]))


def encodec() -> Any:
    return transformers.EncodecModel(transformers.EncodecConfig())


def xlnet() -> Any:
    return transformers.XLNetModel(transformers.XLNetConfig(n_layer=1))


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (regnet, (1, 3, 64, 64)),
        (encodec, (1, 1, 3_200)),
        (xlnet, spec(1, 8, dtype=torch.long)),
        (torchvision.models.swin_t, (1, 3, 64, 64)),
        (torchvision.models.video.swin3d_t, (1, 3, 4, 32, 32)),
    ],
)
@pytest.mark.filterwarnings("ignore:parameters made elsewhere")
def test_real_builders(build: Any, inputs: Any) -> None:
    made = on_meta(build).eval()
    assert on(made) == {"meta"}
    profile = count(made, inputs)
    assert profile.assumptions == ()
    real = build().eval()
    assert [(n, p.shape) for n, p in made.named_parameters()] == [
        (n, p.shape) for n, p in real.named_parameters()
    ]
    assert profile.macs == count(real, inputs).macs > 0
