"""count(optimizer=): a whole training step, on copies of the parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn, optim

from flopdispatch import ArgumentError, FlopCounter, count

ELEMENTS, TENSORS = 3 * 4 + 4, 2  # of the Linear below


# (optimizer, FLOPs of a step after the first per element and per tensor, why)
@pytest.mark.parametrize(
    ("optimizer", "each", "tensor"),
    [
        pytest.param(optim.SGD, 2, 0, id="p - lr·g"),
        pytest.param(partial(optim.SGD, momentum=0.9), 4, 0, id="m·b + g; p - lr·b"),
        pytest.param(optim.AdamW, 13, 1, id="2 decay, 3 lerp, 4 moment, 2 √v/c + ε, 3; step + 1"),
    ],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_step_costs_what_any_after_the_first_does(
    optimizer: Any, each: int, tensor: int, device: str
) -> None:
    phases = count(nn.Linear(3, 4), (2, 3), optimizer=optimizer, device=device).by_phase()
    assert phases["optimizer"].flops == each * ELEMENTS + tensor * TENSORS
    # The input needs no gradient: the weight's is one product as large as the forward's.
    assert phases["backward"].macs == phases["forward"].macs == 2 * 3 * 4


def test_it_is_the_second_step_of_a_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(2, 3, 8, 8)
    model(x)
    profile = count(model, tuple(x.shape), optimizer=optim.Adam)
    stepping = optim.Adam(model.parameters())
    counters = [FlopCounter(display=False) for _ in range(2)]
    for counter in counters:
        stepping.zero_grad()
        with counter:
            model(x).backward(torch.ones(2, 2))
            stepping.step()
    assert profile.by_phase() == counters[1].profile.by_phase()


def test_the_model_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count(model, (5, 3), optimizer=optim.AdamW, device="cpu")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_only_what_is_trained_is_stepped_and_tied_parameters_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    model[1].requires_grad_(False)
    profile = count(model, (1, 4), optimizer=optim.SGD)
    assert profile.by_phase()["optimizer"].flops == 2 * 16


@pytest.mark.parametrize(
    ("model", "optimizer", "message"),
    [
        (nn.Linear(2, 2), lambda parameters: None, "takes the class of an optimizer"),
        (lambda x: x, optim.SGD, "takes a module as the model"),
        (nn.Linear(2, 2).requires_grad_(False), optim.SGD, "requires_grad=True"),
    ],
)
def test_what_is_no_optimizer_is_refused(model: Any, optimizer: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        count(model, (1, 2), optimizer=optimizer)


def test_what_an_optimizer_raises_comes_through() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate"):
        count(nn.Linear(2, 2), (1, 2), optimizer=partial(optim.SGD, lr=-1.0))
