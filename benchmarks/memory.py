"""Language models counted on meta: MACs and how much memory that took.

    python -m benchmarks.memory

Each model is built and counted in a process of its own, so that each peak is its own. Exit
code 1 if a figure differs from the one in the table of papers.
"""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from tabulate import tabulate

from benchmarks.language import LLAMA_3, gpt2, llama, tokens
from benchmarks.zoo import rows
from flopdispatch import count, on_meta
from flopdispatch.units import exact, si

TRANSFORMERS = "Llama-3.1-405B of transformers"

# What is counted: the name of its row in the table of papers, None where it has none.
CASES = {
    ("GPT-2 124M", 1024): "GPT-2 124M, T=1024 b=1 forward",
    ("Llama-3 8B", 512): "Llama-3-8B fwd",
    ("Llama-3 70B", 512): None,
    ("Llama-3 405B", 512): "Llama-3.1-405B fwd",
    (TRANSFORMERS, 512): "Llama-3.1-405B fwd",
}
HEADERS = ("model", "tokens", "parameters", "as float32", "comparable FLOPs", "in the table",
           "seconds", "peak RSS", "before it was built")  # fmt: skip
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
UNITS = {"FLOPs": 1, "GFLOPs": 10**9}


def main() -> int:
    """Print the table; 1 if a figure is not the published one."""
    lines = []
    wrong = 0
    for (name, length), published in CASES.items():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            params, flops, seconds, before, peak = pool.submit(measure, name, length).result()
        figure = None if published is None else papers(published)
        wrong += figure not in (None, flops)
        lines.append(
            (name, length, exact(params), si(4 * params, "B"), exact(flops),
             {None: "", flops: "equal"}.get(figure, f"{figure:,}" if figure else ""),
             f"{seconds:.1f}", si(peak, "B"), si(before, "B"))
        )  # fmt: skip
    print(tabulate(lines, HEADERS, disable_numparse=True))
    return 1 if wrong else 0


def measure(name: str, length: int) -> tuple[int, int, float, int, int]:
    """Parameters, FLOPs, seconds, and the peak memory in bytes before and after."""
    if name == TRANSFORMERS:
        causal = import_module("benchmarks.meta_transformers_causal")
        (build,) = [entry.build for entry in causal.CAUSAL if name.startswith(entry.name)]
        import_module("transformers.models.llama.modeling_llama")
    before = peak_rss()
    begin = time.perf_counter()
    if name == TRANSFORMERS:
        profile = count(on_meta(build), tokens(length), use_cache=False)
    else:
        family, _, size = name.partition(" ")
        model = gpt2() if family == "GPT-2" else llama(LLAMA_3[size])
        profile = count(model, tokens(length))
    seconds = time.perf_counter() - begin
    return profile.params, profile.comparable_flops, seconds, before, peak_rss()


def peak_rss() -> int:
    """The most memory that this process has held, in bytes, since `forget_peak` if that works.

    Linux tells it apart from that of the process which started this one, getrusage doesn't.
    """
    if STATUS.exists():
        (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak be what the process holds now; only Linux can."""
    with suppress(OSError):
        PEAK.write_text("5")


def papers(model: str) -> int:
    """The table's figure in FLOPs, exactly."""
    (row,) = [row for row in rows("papers") if row["model"] == model]
    whole, _, fraction = row["published"].partition(".")
    digits = len(str(UNITS[row["unit"]])) - 1
    return int(whole + fraction.ljust(digits, "0"))


if __name__ == "__main__":
    sys.exit(main())
