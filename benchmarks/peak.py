"""What share of the measured peaks programs reach on this machine: `python -m benchmarks.peak`.

Each round measures the peaks (`measure_peak`) and then every program. A share is the program's time
bound by the peaks over the time that it took: 100 % is as fast as the peaks allow. Printed are the
share at best, of the fastest round by the highest peaks, which what else the machine does disturbs
least, and the median and quartiles of the shares by the peaks of the same round. What beats the
highest peaks by more than the peaks vary from one round to the next is marked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles

import torch
from torch.nn import functional

from benchmarks.machine import machine
from flopdispatch import FlopCounter, Profile
from flopdispatch.hardware import Hardware, measure_peak
from flopdispatch.hardware.measure import seconds_of
from flopdispatch.units import percent, si

PEAK_SECONDS, PROGRAM_SECONDS = 1.0, 0.2  # of each round


@dataclass(frozen=True, slots=True)
class Program:
    """What is timed, and what one run of it was counted as."""

    name: str
    run: Callable[[], object]
    profile: Profile

    def bound(self, here: Hardware) -> float:
        """The seconds that it takes at least."""
        return float(self.profile.roofline(here).seconds)


def programs() -> list[Program]:
    """Those that compute, then those that move bytes: more than most caches hold.

    What these allocate is below 32 MiB, from which on malloc takes new pages each time; caches
    may hold a part of it.
    """
    torch.manual_seed(0)
    small, large = torch.randn(512, 512), torch.randn(2048, 2048)
    batch = torch.randn(16, 256, 256)
    images, weight = torch.randn(8, 64, 56, 56), torch.randn(64, 64, 3, 3)
    depthwise = torch.randn(64, 1, 3, 3)
    q = torch.randn(2, 8, 512, 64)
    rows = torch.randn(6144, 1024)
    array = torch.randn(3 * 2**25)  # as many bytes as the streams of `measure_peak` touch
    scale, shift = torch.randn(1024), torch.randn(1024)
    runs: dict[str, Callable[[], object]] = {
        "matmul 512": lambda: small @ small,
        "matmul 2048": lambda: large @ large,
        "bmm 16 x 256": lambda: batch @ batch,
        "linear 2048 x 2048, 64 rows": lambda: functional.linear(large[:64], large),
        "conv2d 3x3, 64 channels, 8 x 56 x 56": lambda: functional.conv2d(
            images, weight, padding=1
        ),
        "conv2d the same, depthwise": lambda: functional.conv2d(
            images, depthwise, padding=1, groups=64
        ),
        "attention 2 x 8 x 512 x 64": lambda: functional.scaled_dot_product_attention(q, q, q),
        "layer_norm 6144 x 1024": lambda: functional.layer_norm(rows, (1024,), scale, shift),
        "softmax 6144 x 1024": lambda: rows.softmax(-1),
        "add_ 100663296": lambda: array.add_(1e-3),
    }
    return [Program(name, run, counted(run)) for name, run in runs.items()]


def counted(run: Callable[[], object]) -> Profile:
    """What one run is counted as."""
    with FlopCounter(display=False, strict=True) as counter:
        run()
    return counter.profile


def middle(values: list[float]) -> tuple[float, float, float]:
    """The quartiles."""
    low, median, high = quantiles(values, n=4, method="inclusive")
    return low, median, high


def shown(values: list[float], unit: str) -> str:
    """A median and its quartiles."""
    low, median, high = (si(value, unit) for value in middle(values))
    return f"{median} ({low} to {high})"


def run() -> None:
    """Measure, and print a line of each program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for name, value in machine().items():
        print(f"{name}: {value}")
    print()
    every = programs()
    peaks: list[Hardware] = []
    taken: dict[str, list[float]] = {program.name: [] for program in every}
    with torch.inference_mode():
        for _ in range(rounds):
            peaks.append(measure_peak("cpu", torch.float32, PEAK_SECONDS))
            for program in every:
                taken[program.name].append(seconds_of(program.run, PROGRAM_SECONDS))
    products, bandwidths = [one.peak("float32") for one in peaks], [one.bandwidth for one in peaks]
    highest = Hardware("highest", {"float32": max(products)}, max(bandwidths))
    for name, values, unit in [
        ("matrix products", products, "FLOP/s"),
        ("memory", bandwidths, "B/s"),
    ]:
        print(f"{name}: at best {si(max(values), unit)}; {shown(values, unit)}")
    noise = {"compute": variation(products), "memory": variation(bandwidths)}
    told = ", ".join(f"{name} {percent(value, 1)}" for name, value in noise.items())
    print(f"from one round to the next the peaks vary by (median): {told}\n")
    print(f"{'':38} {'bound by':8}  at best  in the same round")
    for program in every:
        seconds = taken[program.name]
        bound = program.profile.roofline(highest).total.bound
        best = program.bound(highest) / min(seconds)
        low, median, high = middle([program.bound(one) / t for one, t in zip(peaks, seconds)])
        spread = f"{percent(median, 1):>6} ({percent(low, 1)} to {percent(high, 1)})"
        beats = "  faster than the peaks" if best > 1 + noise[bound] else ""
        print(f"{program.name:38} {bound:8}  {percent(best, 1):>7}  {spread}{beats}")


def variation(values: list[float]) -> float:
    """By what share a figure differs from that of the round before, the median."""
    steps = [abs(after / before - 1) for before, after in pairwise(values)]
    return middle(steps)[1]


if __name__ == "__main__":
    run()
