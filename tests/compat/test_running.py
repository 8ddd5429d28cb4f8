"""A face's run leaves the model as it was, and runs what only real tensors can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import ArgumentError
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


def test_a_meta_model_that_asks_for_values_fails_as_it_does_without_us() -> None:
    with pytest.raises(RuntimeError, match="item"):
        profiled(Net(asks=True).to("meta"), [X.to("meta")])


def test_what_cannot_be_used_is_said_at_once() -> None:
    with pytest.raises(ArgumentError):
        profiled(Net(), [(-1, 4)])


def test_devices() -> None:
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"
