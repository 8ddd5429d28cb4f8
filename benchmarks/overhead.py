"""What counting costs: ratios to the uncounted run, ours beside FlopCounterMode's.

    python -m benchmarks.overhead [--repeats N]

The four ways to run take turns within each repeat, so that whatever else the machine does
falls on all of them; what they find in memory is taken out of garbage collection, since one
full collection takes longer than a turn and falls on one of them by chance. Each figure is
the median of the ratios taken within a repeat, with the first and third quartile.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median, quantiles
from typing import Any

import torch
import torchvision
from tabulate import tabulate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from flopdispatch import FlopCounter

Program = Callable[[], Any]


class NoOp(TorchDispatchMode):
    """The least that a dispatch mode can do."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "uncounted": nullcontext,
    "no-op mode": NoOp,
    "FlopCounterMode": lambda: FlopCounterMode(display=False),
    "FlopCounter": lambda: FlopCounter(display=False),
}


def small_operators() -> Program:
    """2,000 operators of a few elements on the CPU: half products, half sums."""
    x = torch.ones(4, 4)

    def program() -> None:
        y = x
        for _ in range(1000):
            y = torch.mm(x, y)
            y = y + x

    return program


def linear_calls() -> Program:
    """1,000 calls of small linear modules on the CPU: as many module hooks as products."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(1000)])
    x = torch.ones(4, 8)

    def program() -> None:
        with torch.no_grad():
            model(x)

    return program


def resnet50_forward() -> Program:
    """ResNet-50 on meta, forward."""
    with torch.device("meta"):
        model = torchvision.models.resnet50().eval()
        x = torch.empty(1, 3, 224, 224)
    return lambda: model(x)


def resnet50_step() -> Program:
    """ResNet-50 on meta, forward and backward."""
    with torch.device("meta"):
        model = torchvision.models.resnet50()
        x = torch.empty(2, 3, 224, 224)

    def program() -> None:
        model.zero_grad()
        model(x).sum().backward()

    return program


def encoder_step() -> Program:
    """A small transformer encoder on the CPU, forward and backward."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
    x = torch.ones(2, 8, 32)

    def program() -> None:
        model.zero_grad()
        model(x).sum().backward()

    return program


PROGRAMS = {
    "2,000 small operators, CPU": small_operators,
    "1,000 nn.Linear calls, CPU": linear_calls,
    "ResNet-50 forward, meta": resnet50_forward,
    "ResNet-50 forward + backward, meta": resnet50_step,
    "8-layer encoder forward + backward, CPU": encoder_step,
}


def main(arguments: list[str]) -> int:
    """Print the table of ratios."""
    parser = argparse.ArgumentParser(prog="benchmarks.overhead")
    parser.add_argument("--repeats", type=int, default=20, help="turns of each way (20)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    counted = [name for name in WAYS if name != "uncounted"]
    lines = []
    for name, make in PROGRAMS.items():
        taken = turns(make(), options.repeats)
        plain = taken["uncounted"]
        lines.append(
            [name, f"{1e3 * median(plain):.1f} ms"]
            + [spread(taken[way], plain) for way in counted]
            + [spread(taken["FlopCounter"], taken["FlopCounterMode"])]
        )
    headers = ["program", "uncounted", *counted, "FlopCounter / FlopCounterMode"]
    print(tabulate(lines, headers, disable_numparse=True))
    return 0


def turns(program: Program, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way to run the program, one after another, `repeats` times."""
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(-2, repeats):  # two turns to warm up
        if turn == 0:
            gc.collect()
            gc.freeze()
        for way, made in WAYS.items():
            begin = time.perf_counter()
            with made():
                program()
            seconds = time.perf_counter() - begin
            if turn >= 0:
                taken[way].append(seconds)
    gc.unfreeze()
    return taken


def spread(these: list[float], those: list[float]) -> str:
    """The median ratio of times of the same turn, and its quartiles."""
    ratios = [a / b for a, b in zip(these, those)]
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
