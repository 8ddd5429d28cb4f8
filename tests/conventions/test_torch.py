"""torch's own counter beside ours under its convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from flopdispatch import FlopCounter, Profile
from tests.versions import TORCH


def attention() -> Any:
    """Fused attention on the CPU, forward and backward."""
    q, k, v = (torch.randn(2, 4, n, 8, requires_grad=True) for n in (10, 7, 7))
    functional.scaled_dot_product_attention(q, k, v).sum().backward()


def model(name: str, backward: bool) -> Callable[[], Any]:
    made = torchvision.models.get_model(name, weights=None)

    def run() -> None:
        out = made(torch.ones(1 + backward, 3, 64, 64))
        if backward:
            out.sum().backward()

    return run


PROGRAMS: dict[str, Callable[[], Any]] = {
    "attention": attention,
    "resnet18": model("resnet18", False),
    "resnet18 trained": model("resnet18", True),
    "squeezenet1_1 trained": model("squeezenet1_1", True),
    "a transposed convolution": lambda: nn.ConvTranspose2d(3, 8, 3)(torch.ones(1, 3, 6, 6)),
    "a linear layer with a bias": lambda: nn.Linear(8, 4)(torch.ones(2, 5, 8)),
    "what it doesn't count": lambda: functional.gelu(torch.ones(3)).softmax(0).sort(),
}


def counted(run: Callable[[], Any]) -> Profile:
    with FlopCounter(display=False, convention="torch") as counter:
        run()
    return counter.profile


@pytest.mark.parametrize("name", PROGRAMS)
def test_flops_are_torchs(name: str) -> None:
    if name == "attention" and TORCH < (2, 10):
        pytest.skip("torch's counter had no formula for the CPU's fused attention")
    with FlopCounterMode(display=False) as theirs:
        PROGRAMS[name]()
    assert counted(PROGRAMS[name]).flops == theirs.get_total_flops()


def test_a_grouped_convolutions_gradient_is_not_multiplied_by_its_groups() -> None:
    """(2, 8, 10, 10) by 4 groups of (4, 2, 3, 3): 2·57,600 forward and for each of 2 gradients."""
    layer = nn.Conv2d(8, 16, 3, padding=1, groups=4)

    def run() -> None:
        layer(torch.ones(2, 8, 10, 10, requires_grad=True)).sum().backward()

    with FlopCounterMode(display=False) as theirs:
        run()
    assert counted(run).flops == 3 * 2 * 57_600 == 345_600
    assert theirs.get_total_flops() == (2 + 4) * 2 * 57_600


def test_a_recording_is_priced_again() -> None:
    with FlopCounter(display=False) as counter:
        PROGRAMS["resnet18"]()
    again = counter.profile.reprice("torch")
    assert again.convention == "torch"
    assert (
        again.flops
        == counted(PROGRAMS["resnet18"]).flops
        == 2 * counter.profile.by_family()["convolution"].macs
        + 2 * counter.profile.by_family()["matmul"].macs
    )
