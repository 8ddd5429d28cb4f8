"""What the machine at hand achieves: the rate of matrix products and the memory's bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import torch

from flopdispatch.errors import ArgumentError
from flopdispatch.hardware.device import BANDWIDTH, Hardware, rate_name
from flopdispatch.units import si

Wait = Callable[[], None]  # until the device is done

MEASURED = torch.float64, torch.float32, torch.bfloat16, torch.float16
SIZES = 256, 512, 1024, 2048, 4096, 8192  # of square matrices
STREAM_NBYTES = 2**27  # of one array: three of them are more than most caches hold
RUNS = 3  # of each measurement at least, after one that isn't timed


def measure_peak(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 2.0
) -> Hardware:
    """Measure what this machine achieves, as a `Hardware`.

    The rate is of square matrix products, the best of several sizes. The bandwidth is the best of
    a copy, `a + s * b`, a product in place and a sum on arrays of 128 MiB: bytes that the program
    reads and writes, as they are counted. Each is the median of several runs, with torch as it is
    set (number of threads, TF32). `seconds` is about how long it takes in all; a slow machine
    needs some more.

    Raises: ArgumentError for another dtype than float64, float32, bfloat16 and float16, or a
    device that isn't here.

    Example:

        >>> from flopdispatch.hardware import measure_peak
        >>> here = measure_peak("cpu", torch.float32, seconds=0.01)
        >>> here.peak(torch.float32) > 0, here.bandwidth > 0
        (True, True)
    """
    if dtype not in MEASURED:
        names = ", ".join(map(str, MEASURED))
        raise ArgumentError(f"measure_peak measures {names}, got {dtype}")
    place = found(device)
    wait = partial(torch.accelerator.synchronize, place) if place.type != "cpu" else no_wait
    with torch.inference_mode():
        size, rate = products(place, dtype, wait, seconds / 2)
        program, bandwidth = streams(place, dtype, wait, seconds / 2)
    name = rate_name(dtype)
    sources = {
        name: (f"measured: the product of two matrices of {size} x {size}",),
        BANDWIDTH: (f"measured: {program} on arrays of {si(STREAM_NBYTES, 'B')}",),
    }
    return Hardware(title(place), {name: rate}, bandwidth, sources)


def found(device: torch.device | str) -> torch.device:
    """A device that programs run on.

    Raises: ArgumentError if it isn't here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kinds = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    if str(device).partition(":")[0] not in kinds:
        raise ArgumentError(f"measure_peak runs on {' or '.join(kinds)} here, got {str(device)!r}")
    return torch.device(device)


def no_wait() -> None:
    """What waits for a CPU, whose operators return when they are done."""


def products(
    device: torch.device, dtype: torch.dtype, wait: Wait, budget: float
) -> tuple[int, float]:
    """The size of the fastest square matrix product, and its rate in FLOP/s."""
    best = (0, 0.0)
    for size in SIZES:
        work = 2 * size**3
        if best[1] and (RUNS + 1) * work / best[1] > budget:
            break
        taken = seconds_of(product(size, device, dtype), budget / len(SIZES), wait)
        best = max(best, (size, work / taken), key=lambda one: one[1])
    return best


def product(size: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """What multiplies two square matrices, of random numbers: equal ones take less power."""
    random = torch.Generator(device).manual_seed(0)
    a, b, out = (
        torch.randn(size, size, device=device, dtype=dtype, generator=random) for _ in range(3)
    )
    return lambda: torch.mm(a, b, out=out)


def streams(
    device: torch.device, dtype: torch.dtype, wait: Wait, budget: float
) -> tuple[str, float]:
    """The program that moves bytes fastest, and its rate in bytes/s."""
    a, b, out = (
        torch.ones(STREAM_NBYTES // dtype.itemsize, device=device, dtype=dtype) for _ in range(3)
    )
    # By how many arrays they read and write. Before a cache line is written it is read, which no
    # program counts: one that writes what it has read moves most of what it counts.
    programs: dict[str, tuple[int, Callable[[], object]]] = {
        "out = a": (2, lambda: out.copy_(a)),
        "out = a + s * b": (3, lambda: torch.add(a, b, alpha=3, out=out)),
        "a *= s": (2, lambda: a.mul_(1)),
        "a.sum()": (1, a.sum),
    }
    best = ("", 0.0)
    for name, (arrays, run) in programs.items():
        taken = seconds_of(run, budget / len(programs), wait)
        best = max(best, (name, arrays * STREAM_NBYTES / taken), key=lambda one: one[1])
    return best


def seconds_of(
    run: Callable[[], object],
    budget: float,
    wait: Wait = no_wait,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """The median time of a program that runs for about `budget` seconds, after a first run."""
    run()
    wait()
    taken: list[float] = []
    while len(taken) < RUNS or sum(taken) < budget:
        start = clock()
        run()
        wait()
        taken.append(clock() - start)
    return median(taken)


def title(device: torch.device) -> str:
    """A device's name, and of a CPU how many threads of it torch uses."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"
