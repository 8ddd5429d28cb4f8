"""What the machine at hand achieves: the rate of matrix products and the memory's bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import isfinite
from statistics import median
from time import perf_counter

import torch

from flopdispatch.capture.private import without_dispatch
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware.device import BANDWIDTH, Hardware, rate_name
from flopdispatch.units import si

Wait = Callable[[], None]  # until the device is done
Stream = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]

MEASURED = torch.float64, torch.float32, torch.bfloat16, torch.float16
SIZES = 256, 512, 1024, 2048, 4096, 8192  # of square matrices
STREAM_NBYTES = 2**27  # of one array: three of them are more than most caches hold

# How the two matrices of a product lie in memory. Where a processor has no unit for a dtype,
# torch's loops for one layout may take many times as long as those for another.
LAYOUTS: dict[str, Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "": lambda a, b: (a, b),
    ", the first transposed": lambda a, b: (a.t(), b),
    ", the second transposed": lambda a, b: (a, b.t()),
}
RUNS = 3  # of each measurement at least, after one that isn't timed


def measure_peak(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 2.0
) -> Hardware:
    """Measure what this machine achieves, as a `Hardware`.

    The rate is of square matrix products, the best of several sizes, either matrix transposed or
    not. The bandwidth is the best of a copy, `a + s * b`, a product in place and a sum, each on
    three arrays of 128 MiB in turn: bytes that the program reads and writes, as they are counted.
    Each is the median of several runs, with torch as it is set (number of threads, TF32); modes
    that are active, fake tensors' or a counter's, see nothing of it. `seconds` is about how long
    it takes in all; a slow machine needs some more. It takes 0.4 GB of memory, and up to 1.6 GB
    on a machine that multiplies matrices of 8192 x 8192 in that time.

    Raises: ArgumentError for another dtype than float64, float32, bfloat16 and float16, a device
    that isn't here, or seconds that are no positive number.

    Example:

        >>> from flopdispatch.hardware import measure_peak
        >>> here = measure_peak("cpu", torch.float32, seconds=0.01)
        >>> here.peak(torch.float32) > 0, here.bandwidth > 0
        (True, True)
    """
    if dtype not in MEASURED:
        names = ", ".join(map(str, MEASURED))
        raise ArgumentError(f"measure_peak measures {names}, got {dtype}")
    if not isinstance(seconds, (int, float)) or not isfinite(seconds) or seconds <= 0:
        raise ArgumentError(f"seconds of measure_peak: expected a positive number, got {seconds!r}")
    place = found(device)
    wait = partial(torch.accelerator.synchronize, place) if place.type != "cpu" else no_wait
    with torch.inference_mode(), without_dispatch():
        matrices, rate = products(place, dtype, wait, seconds / 2)
        program, bandwidth = streams(place, dtype, wait, seconds / 2)
    name = rate_name(dtype)
    sources = {
        name: (f"measured: the product of two matrices of {matrices}",),
        BANDWIDTH: (f"measured: {program} on arrays of {si(STREAM_NBYTES, 'B')}",),
    }
    return Hardware(title(place), {name: rate}, bandwidth, sources)


def found(device: torch.device | str) -> torch.device:
    """A device that programs run on.

    Raises: ArgumentError if it isn't here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = {"cpu": 1}
    if accelerator is not None:
        count[accelerator.type] = torch.accelerator.device_count()
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):  # no device's name
        place = torch.device("meta")
    if (place.index or 0) >= count.get(place.type, 0):
        here = " or ".join(
            kind if many == 1 else f"{kind}:0 to {kind}:{many - 1}" for kind, many in count.items()
        )
        raise ArgumentError(f"measure_peak runs on {here} here, got {str(device)!r}")
    return place


def no_wait() -> None:
    """What waits for a CPU, whose operators return when they are done."""


def products(
    device: torch.device, dtype: torch.dtype, wait: Wait, budget: float
) -> tuple[str, float]:
    """The matrices whose product is the fastest, as words, and its rate in FLOP/s."""
    best, layouts = ("", 0.0), list(LAYOUTS)
    for size in SIZES:
        work = 2 * size**3
        if best[1] and len(layouts) * (RUNS + 1) * work / best[1] > budget:
            break
        share = budget / len(SIZES) / len(LAYOUTS)
        try:
            seconds = product_seconds(size, layouts, device, dtype, wait, share)
        except torch.OutOfMemoryError:
            if best[1]:
                break  # larger ones don't fit either
            raise
        rates = {layout: work / taken for layout, taken in seconds.items()}
        fastest = max(rates, key=lambda layout: rates[layout])
        best = max(best, (f"{size} x {size}{fastest}", rates[fastest]), key=lambda one: one[1])
        layouts = [layout for layout in layouts if 2 * rates[layout] > rates[fastest]]
    return best


def product_seconds(
    size: int,
    layouts: Iterable[str],
    device: torch.device,
    dtype: torch.dtype,
    wait: Wait,
    budget: float,
) -> dict[str, float]:
    """The time of a product of square matrices by how they lie.

    They are of random numbers: equal ones take less power.
    """
    random = torch.Generator(device).manual_seed(0)
    a, b, out = (
        torch.randn(size, size, device=device, dtype=dtype, generator=random) for _ in range(3)
    )
    found = {}
    for layout in layouts:
        left, right = LAYOUTS[layout](a, b)
        found[layout] = seconds_of(partial(torch.mm, left, right, out=out), budget, wait)
    return found


def streams(
    device: torch.device, dtype: torch.dtype, wait: Wait, budget: float
) -> tuple[str, float]:
    """The program that moves bytes fastest, and its rate in bytes/s."""
    a, b, c = (
        torch.zeros(STREAM_NBYTES // dtype.itemsize, device=device, dtype=dtype) for _ in range(3)
    )
    # By how many arrays they read and write. Before a cache line is written it is read, which no
    # program counts: one that writes what it has read moves most of what it counts.
    programs: dict[str, tuple[int, Stream]] = {
        "out = a": (2, lambda out, a, b: out.copy_(a)),
        "out = a + s * b": (3, lambda out, a, b: torch.add(a, b, alpha=3, out=out)),
        "a *= s": (2, lambda out, a, b: a.mul_(1)),
        "a.sum()": (1, lambda out, a, b: a.sum()),
    }
    turns = (a, b, c), (b, c, a), (c, a, b)  # what one touches isn't in a cache that holds two
    best = ("", 0.0)
    for name, (arrays, stream) in programs.items():
        taken = seconds_of(partial(each, stream, turns), budget / len(programs), wait)
        nbytes = len(turns) * arrays * STREAM_NBYTES
        best = max(best, (name, nbytes / taken), key=lambda one: one[1])
    return best


def each(stream: Stream, turns: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
    """Run a program on each of these arrays."""
    for turn in turns:
        stream(*turn)


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
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu, {threads} thread{'' if threads == 1 else 's'}"
    name = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if name is None else str(name(device))
