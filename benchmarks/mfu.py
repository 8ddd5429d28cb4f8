"""What MfuMeter adds to a training step on the CPU: `python -m benchmarks.mfu`.

Each round runs the plain loop, the same again, and the metered loop, on the same model, batch and
optimizer, for a step or, where steps are short, 20; they take turns in going first. Printed are the
ratios to the plain loop's time in the same round, with their quartiles: of the plain one again,
which is noise, and of the metered one. Last comes the time from a metered step's beginning to its
first line and from its last line to its end, a window's log included: its mean, and as a share.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import nn

from benchmarks.ratios import Ratio, spread
from benchmarks.turns import turns
from benchmarks.ways import UNCOUNTED, Way
from flopdispatch import MfuMeter
from flopdispatch.hardware import Hardware
from flopdispatch.mfu import json_lines

METERED, AGAIN = "metered", "plain again"
MACHINE = Hardware("any", peaks={"float32": 1e12}, bandwidth=1e11)
WINDOWS = 5  # of steps whose beginnings and ends are timed


def resnet() -> tuple[nn.Module, torch.Tensor]:
    """ResNet-18, 8 images."""
    return torchvision.models.resnet18(), torch.randn(8, 3, 112, 112)


def encoder() -> tuple[nn.Module, torch.Tensor]:
    """A transformer encoder of 6 layers, 8 sequences of 64."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(8, 64, 256)


def perceptron() -> tuple[nn.Module, torch.Tensor]:
    """A perceptron of 3 layers of 512, 64 rows: a step of few milliseconds."""
    layers = [layer for _ in range(3) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(64, 512)


# What makes the model and the batch, and how many steps a turn takes.
PROGRAMS: dict[str, tuple[Callable[[], tuple[nn.Module, torch.Tensor]], int]] = {
    "ResNet-18, 8 images": (resnet, 1),
    "encoder of 6 layers, 8 x 64": (encoder, 1),
    "perceptron of 3 layers, 64 rows": (perceptron, 20),
}


def loop(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One training step."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def measured(name: str, rounds: int) -> dict[str, Any]:
    """A row: the seconds of each way, and of the meter around an empty step."""
    torch.manual_seed(0)
    make, steps = PROGRAMS[name]
    model, x = make()
    step = loop(model, x)
    meter = MfuMeter(model, MACHINE, log=json_lines(io.StringIO()))

    def plain() -> None:
        for _ in range(steps):
            step()

    def metered() -> None:
        for _ in range(steps):
            with meter.step(x, samples=len(x)):
                step()

    ways = {UNCOUNTED: Way(plain), AGAIN: Way(plain), METERED: Way(metered)}
    seconds, _ = turns(ways, rounds)
    own = [added(meter, x, step) for _ in range(WINDOWS * meter.window)]
    return {"name": name, "steps": steps, "seconds": seconds, "own": own}


def added(meter: MfuMeter, x: torch.Tensor, step: Callable[[], None]) -> float:
    """Seconds that the meter takes of a step."""
    begin = time.perf_counter()
    with meter.step(x, samples=len(x)):
        ready = time.perf_counter()
        step()
        done = time.perf_counter()
    return time.perf_counter() - done + ready - begin


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    ratios = [shown(row, way) for way in (AGAIN, METERED)]
    step = statistics.median(row["seconds"][UNCOUNTED]) / row["steps"]
    own = statistics.fmean(row["own"])
    alone = f"{1e6 * own:5.1f} µs = {100 * own / step:.2f} %"
    return f"{row['name']:32} {1e3 * step:7.1f} ms  {'  '.join(ratios)}  {alone}"


def shown(row: dict[str, Any], way: str) -> str:
    """A way's ratio to the plain step."""
    found = spread(Ratio(way, UNCOUNTED), row)
    assert found is not None
    return f"{found.median:.4f} ({found.low:.3f} to {found.high:.3f})"


def run() -> None:
    """Measure every program and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", help="write all times to this file")
    options = parser.parse_args()
    print(f"{'':32} {'plain':>10}  {'plain again':24}  {'metered':24}  the meter")
    rows = []
    for name in PROGRAMS:
        rows.append(measured(name, options.rounds))
        print(line(rows[-1]), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file)


if __name__ == "__main__":
    run()
