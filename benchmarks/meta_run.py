"""One entry of the table of models on meta: built and counted, and what came of it."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy
import torch
from torch import nn

import flopdispatch
from benchmarks.meta_entry import Entry
from flopdispatch import Profile

# What is in these folders and this file isn't what asks for data, but how it is answered.
FOLDERS = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (torch, flopdispatch))
MACHINERY = (*FOLDERS, __file__, "<")


@dataclass(frozen=True, slots=True)
class Run:
    """A forward, or a forward and backward: its MACs and assumptions, or why there are none.

    `assumptions` are the texts with how often each was needed. `refused` is the exception's
    first line, `source` the line of the model's code where it was raised, `missing` a package
    that isn't installed.
    """

    macs: int = 0
    assumptions: tuple[tuple[str, int], ...] = ()
    refused: str = ""
    source: str = ""
    missing: str = ""

    @property
    def ran(self) -> bool:
        """Whether it was counted."""
        return not (self.refused or self.missing)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an entry; `backward` is None for a model that doesn't train this way."""

    name: str
    group: str
    params: int
    forward: Run
    backward: Run | None
    seconds: float


def outcome(entry: Entry) -> Outcome:
    """Build an entry's model and count it, forward and with backward."""
    begin = time.perf_counter()
    params, model = 0, None
    backward: Run | None = None
    torch.manual_seed(0)  # some models drop layers by chance, and a few by numpy's
    numpy.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about initial weights, of which there are none
        try:
            model = flopdispatch.on_meta(entry.build)
            params = sum(parameter.numel() for parameter in model.parameters())
            forward = counted(entry, model, backward=False)
        except Exception as error:
            forward = failure(error)
        if entry.trains:
            backward = forward if model is None else with_backward(entry, model)
    return Outcome(entry.name, entry.group, params, forward, backward, time.perf_counter() - begin)


def with_backward(entry: Entry, model: nn.Module) -> Run:
    """The run with a backward, or why there is none."""
    try:
        return counted(entry, model, backward=True)
    except Exception as error:
        return failure(error)


def counted(entry: Entry, model: nn.Module, backward: bool) -> Run:
    """One run of a model."""
    args, kwargs = entry.call()
    profile = flopdispatch.count(model, *args, backward=backward, **entry.options, **kwargs)
    return Run(profile.macs, assumed(profile))


def assumed(profile: Profile) -> tuple[tuple[str, int], ...]:
    """What a count assumed: each text once, with how often, in the order of the run."""
    texts: Counter[str] = Counter()
    for assumption in profile.assumptions:
        texts[assumption.text] += assumption.times
    return tuple(texts.items())


def failure(error: Exception) -> Run:
    """Why there is no count."""
    if isinstance(error, ModuleNotFoundError) and error.name and not installed(error.name):
        return Run(missing=error.name.partition(".")[0])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [type(error).__name__, *lines[:1]]
    return Run(refused=": ".join(said), source=source(error))


def installed(module: str) -> bool:
    """Whether the package that a module is of can be imported."""
    with suppress(ModuleNotFoundError):
        import_module(module.partition(".")[0])
        return True
    return False


def source(error: Exception) -> str:
    """The last line outside of torch and this package that led to an error."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(MACHINERY)
    ]
    if not frames:
        return ""
    path = frames[-1].filename.rpartition("site-packages/")[2]
    return f"{path.rpartition('/benchmarks/')[2]}:{frames[-1].lineno}"
