"""Fifty steps of training leave behind what they leave without the counter, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from flopdispatch import FlopCounter
from tests.observed import graph_of

STEPS = 50


def small_resnet() -> tuple[nn.Module, Tensor]:
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    blocks = [BasicBlock(16, 16), BasicBlock(16, 16)]
    return nn.Sequential(stem, *blocks, head), torch.randn(4, 3, 16, 16)


def small_transformer() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.TransformerEncoder(layer, 2), nn.Flatten())
    return nn.Sequential(model, nn.LazyLinear(10)), torch.randn(4, 6, 8)


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def trained(
    make: Callable[[], tuple[nn.Module, Tensor]], counter: AbstractContextManager[Any]
) -> dict[str, Any]:
    """All that a training run leaves, and its losses and graphs on the way."""
    torch.manual_seed(0)
    model, x = make()
    target = torch.randint(10, (len(x),))
    model(x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses, graphs = [], []
    with counter:
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if step % 10 == 0:
                # Under any dispatch mode torch itself reshapes by another view.
                nodes = graph_of(loss.grad_fn)
                graphs.append([(n.replace("ReshapeAlias", "View"), e) for n, e in nodes])
    state = optimizer.state_dict()["state"]
    return {
        "losses": losses,
        "graphs": graphs,
        "state": model.state_dict(),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "optimizer": [value for one in state.values() for value in one.values()],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("make", [small_resnet, small_transformer])
def test_fifty_steps_are_the_same_with_the_counter(
    make: Callable[[], tuple[nn.Module, Tensor]],
) -> None:
    alone = trained(make, nullcontext())
    with_it = trained(make, FlopCounter(display=False))
    assert with_it["graphs"] == alone["graphs"]
    for name in ("losses", "gradients", "optimizer"):
        assert len(with_it[name]) == len(alone[name]) > 0
        assert all(map(torch.equal, with_it[name], alone[name])), name
    assert with_it["state"].keys() == alone["state"].keys()
    assert all(torch.equal(with_it["state"][key], alone["state"][key]) for key in alone["state"])
    assert torch.equal(with_it["random"], alone["random"])
    assert not torch.equal(alone["losses"][0], alone["losses"][-1])
