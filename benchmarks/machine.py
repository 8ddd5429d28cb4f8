"""The machine and the versions that something was measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "transformers", "fvcore", "thop", "ptflops")
CPU, MEMORY = Path("/proc/cpuinfo"), Path("/proc/meminfo")


def machine() -> dict[str, str]:
    """What a reader needs to compare figures; nothing that names the machine."""
    return {
        "CPU": found(CPU, "model name") or platform.processor() or "unknown",
        "cores": f"{os.cpu_count()}, threads used: {torch.get_num_threads()}",
        "load": f"{os.getloadavg()[0]:.1f} processes on average in the minute before",
        "memory": gigabytes(found(MEMORY, "MemTotal")),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        **{package: installed(package) for package in PACKAGES},
    }


def found(file: Path, name: str) -> str:
    """The first value of this name in a file of `name : value` lines."""
    lines = file.read_text().splitlines() if file.exists() else []
    values = [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
    return values[0] if values else ""


def gigabytes(kibibytes: str) -> str:
    """`24689164 kB` as `25 GB`."""
    amount = kibibytes.partition(" ")[0]
    return f"{int(amount) * 1024 / 1e9:.0f} GB" if amount else "unknown"


def installed(package: str) -> str:
    """A package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
