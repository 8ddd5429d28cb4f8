"""Whole models' least times beside their times on this machine: `python -m benchmarks.roofline`.

In each round the machine's peaks are measured right before each model, so that what else the
machine does falls on both. A share is the time that the roofline gives by those peaks over the time
that the model took: 100 % is as fast as it allows. Printed are medians over the rounds, and the
highest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
import torchvision

from benchmarks.machine import machine
from flopdispatch import FlopCounter, Profile
from flopdispatch.hardware.measure import measure_peak
from flopdispatch.units import percent

BOUNDS = ("seconds", "overlapped_seconds", "compute_seconds")
BATCH = 4
PEAK_SECONDS = 1.0


def forward(name: str) -> Callable[[], object]:
    """The forward of one of torchvision's models."""
    model = torchvision.models.get_model(name).eval()
    images = torch.randn(BATCH, 3, 224, 224)
    return torch.no_grad()(lambda: model(images))


def training(name: str) -> Callable[[], object]:
    """A training step of one of torchvision's models."""
    model = torchvision.models.get_model(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    images = torch.randn(BATCH, 3, 224, 224)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    return step


def programs() -> dict[str, Callable[[], object]]:
    """What is timed."""
    return {
        "resnet50, forward": forward("resnet50"),
        "vit_b_16, forward": forward("vit_b_16"),
        "convnext_tiny, forward": forward("convnext_tiny"),
        "mobilenet_v2, forward": forward("mobilenet_v2"),
        "resnet18, training step": training("resnet18"),
    }


def counted(program: Callable[[], object]) -> Profile:
    """What one run is counted as, after one that warms up."""
    program()
    with FlopCounter(display=False, strict=True) as counter:
        program()
    return counter.profile


def taken(program: Callable[[], object]) -> float:
    """Seconds that one run takes."""
    begun = perf_counter()
    program()
    return perf_counter() - begun


def run() -> None:
    """Measure, and print a line of each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for name, value in machine().items():
        print(f"{name}: {value}")
    every = {name: (program, counted(program)) for name, program in programs().items()}
    shares: dict[tuple[str, str], list[float]] = {(n, b): [] for n in every for b in BOUNDS}
    for _ in range(rounds):
        for name, (program, profile) in every.items():
            here = measure_peak("cpu", torch.float32, PEAK_SECONDS)
            least, seconds = profile.roofline(here), taken(program)
            for bound in BOUNDS:
                shares[name, bound].append(getattr(least, bound) / seconds)
    print(f"\n{'':24} {'one by one':>18} {'overlapped':>18} {'arithmetic alone':>18}")
    for name in every:
        cells = [shares[name, bound] for bound in BOUNDS]
        told = [f"{percent(median(cell), 1)} (to {percent(max(cell), 1)})" for cell in cells]
        print(f"{name:24} {told[0]:>18} {told[1]:>18} {told[2]:>18}")


if __name__ == "__main__":
    run()
