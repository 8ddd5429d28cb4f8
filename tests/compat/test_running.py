"""A face's run leaves the model as it was, and runs what only real tensors can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import ArgumentError, DataDependentError
from flopdispatch.compat.running import device_of, profiled


class Net(nn.Module):
    """Frozen and tied parameters, a bare one, a buffer, a module that is in another mode."""

    steps: Tensor

    def __init__(self, asks: bool = False, fails: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("steps", torch.zeros(1))
        self.norm.eval()
        self.asks, self.fails = asks, fails

    def forward(self, x: Tensor, *, extra: Tensor | None = None) -> dict[str, Tensor]:
        self.steps += 1
        if self.asks and x.sum().item() > 1e9:
            return {"x": x}
        if self.fails:
            raise KeyError("no")
        out = self.second(self.norm(self.first(x))) * self.scale
        return {"out": out if extra is None else out + extra}


def state(model: nn.Module) -> Any:
    """All that may not change: values, modes, hooks, attributes, gradients."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [
        (type(m), m.training, sorted(vars(m)), len(m._forward_hooks)) for m in model.modules()
    ]
    return values, modules, [p.requires_grad for p in model.parameters()], vars(nn.Module).keys()


def same(one: Any, other: Any) -> bool:
    values = one[0].keys() == other[0].keys() and all(
        torch.equal(one[0][name], other[0][name]) for name in one[0]
    )
    return values and one[1:] == other[1:]


X = torch.randn(2, 4)


@pytest.mark.parametrize("asks", [False, True])
def test_a_model_is_as_it_was(asks: bool) -> None:
    model = Net(asks)
    before = state(model)
    profile = profiled(model, [X], {"extra": X})
    assert profile.macs == 2 * 2 * 4 * 4
    assert same(before, state(model))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("asks", [False, True])
def test_also_when_it_fails(asks: bool) -> None:
    model = Net(asks, fails=True)
    before = state(model)
    with pytest.raises(KeyError, match="no"):
        profiled(model, [X])
    assert same(before, state(model))


def test_modes() -> None:
    seen: list[bool] = []

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.extend([self.training, torch.is_grad_enabled()])
            return x

    profiled(Asks(), [X])
    profiled(Asks(), [X], training=True)
    assert seen == [False, False, True, False]


def test_of_a_meta_model_that_asks_for_values_nothing_is_assumed() -> None:
    with pytest.raises(DataDependentError, match=r"test_running\.py"):
        profiled(Net(asks=True).to("meta"), [X.to("meta")])


def test_devices() -> None:
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"


def test_a_pair_of_numbers_is_no_shape() -> None:
    class Resizes(nn.Module):
        def forward(self, x: Tensor, size: tuple[int, int], more: Any) -> Tensor:
            assert (size, more) == ((8, 8), [(2, 2), {"a": (1, 1)}])
            return nn.functional.interpolate(x, size=size)

    image = torch.ones(1, 3, 4, 4)
    more = [(2, 2), {"a": (1, 1)}]
    for inputs, keywords in (
        ([image, (8, 8), more], {}),
        ([image], {"size": (8, 8), "more": more}),
    ):
        assert profiled(Resizes(), inputs, keywords).uncounted == {}
    with pytest.raises(ArgumentError, match="shape"):
        profiled(nn.Linear(4, 4), [(-1, 4)], shapes=True)


def test_a_failed_try_on_meta_leaves_nothing_for_the_next() -> None:
    class Anchors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anchors = torch.ones(3)

        def forward(self, x: Tensor) -> Tensor:
            self.anchors = self.anchors.to(x.device)
            return x * self.anchors.sum().item()

    model = Anchors()
    anchors = model.anchors
    assert profiled(model, [torch.ones(2, 3)]).total.muls == 6
    assert model.anchors is anchors
