"""A small loop, a clock that is told the time, and what the counter says of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter, MfuMeter
from flopdispatch.hardware import Hardware

MACHINE = Hardware("machine", peaks={"float32": 1000.0, "bfloat16": 4000.0}, bandwidth=1.0)


class Ticks:
    """A clock that goes on by itself only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Net(nn.Module):
    """Two layers, the first checkpointed if wanted."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.1)
        self.last = nn.Linear(8, 4)
        self.again = again

    def forward(self, x: torch.Tensor) -> Any:
        h = checkpoint(self.hidden, x, use_reentrant=False) if self.again else self.hidden(x)
        return self.last(self.drop(h))

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """The first half; its backward needs what it gives, so that all of it runs again."""
        return torch.relu(self.first(x))


def trained(model: nn.Module, *batches: torch.Tensor) -> None:
    for x in batches:
        nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long)).backward()


def comparable(run: Callable[[], Any]) -> int:
    """What the counter says of a run, without what ran again and the optimizer."""
    with FlopCounter(display=False) as counter:
        run()
    families = ("matmul", "convolution", "attention")
    profile = counter.profile
    return 2 * sum(
        profile.prices[row.call].cost.macs * row.times
        for row in profile.rows
        if profile.prices[row.call].family in families
        and row.phase not in ("recompute", "optimizer")
    )


def quiet(model: Any, **options: Any) -> tuple[MfuMeter, Ticks]:
    ticks = Ticks()
    return MfuMeter(model, MACHINE, **{"log": None, "clock": ticks, **options}), ticks


def flops(meter: MfuMeter) -> int:
    assert meter.work is not None
    return meter.work.model_flops
