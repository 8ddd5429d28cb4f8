"""Models of transformers, small: our count beside FlopCounterMode's, on meta and on CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.agreement_architectures import (
    ARCHITECTURES,
    NEEDS_VALUES,
    NO_BACKWARD_IN_EVAL,
    build,
    devices,
    inputs,
)
from benchmarks.agreement_differences import Difference, Differences
from benchmarks.agreement_rows import Row
from benchmarks.comparison import EVAL, TRAIN
from flopdispatch import FlopCounter, Profile
from flopdispatch.rules import name_of
from flopdispatch.training import run_backward
from flopdispatch.units import exact

RUNS = EVAL, TRAIN
WITH_BACKWARD = "+backward"

INTRODUCTION = """\
Small models of transformers, from configurations in code: every kind of layer, few of each
ours         2 x MACs of matmul, convolution and attention, in FLOPs: the same on meta and CPU
torch, meta  FlopCounterMode's total for the same run with grad enabled, on meta
torch, CPU   the same on CPU
verdict      equal: both of torch's totals are ours; explained: what they are off by is what
             its own formulas are off by in single calls, exactly, for the reasons named (listed
             at the end); no operator is uncounted and the parameters are the model's
run          eval or train: forward, batch 2; +backward: forward and backward
"""
LINE = "{:17} {:44} {:15} {:>12} {:>12} {:>12} {:>9}  {}"
HEADINGS = ("model", "class", "run", "ours", "torch, meta", "torch, CPU", "params", "verdict")
NO_VALUES = "needs values"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run on one device, in FLOPs: our figure, FlopCounterMode's, and why it differs.

    `differences` says what must be added to `torch`, by the name of its fault, and
    `disagreements`, in words, what is not as it must be.
    """

    ours: int
    torch: int
    differences: dict[str, Difference]
    params: int
    disagreements: list[str]


def compare(name: str, run: str, device: str) -> Comparison:
    """Build an architecture and run it once under each of the counters."""
    model = build(name, device).train(run.startswith(TRAIN))
    given = inputs(name, device)

    def program() -> None:
        torch.manual_seed(0)  # both runs drop the same
        output = model(**given)
        if run.endswith(WITH_BACKWARD):
            run_backward(output)

    with FlopCounter(display=False) as counter:
        program()
    with Differences() as differences, FlopCounterMode(display=False) as theirs:
        program()
    profile = counter.profile
    return Comparison(
        profile.comparable_flops,
        theirs.get_total_flops(),
        differences.found,
        profile.params,
        disagreements(
            profile,
            theirs.get_total_flops() + differences.total,
            sum(parameter.numel() for parameter in model.parameters()),
        ),
    )


def disagreements(profile: Profile, right: int, params: int) -> list[str]:
    """What is not as it must be in our profile, beside torch's total put right."""
    wrong = []
    if profile.uncounted:
        found = ", ".join(f"{name_of(op)} x{n}" for op, n in profile.uncounted.items())
        wrong.append(f"uncounted: {found}")
    if profile.comparable_flops != right:
        wrong.append(f"{profile.comparable_flops:,} FLOPs for {right:,}")
    if profile.params != params:
        wrong.append(f"{profile.params:,} parameters for {params:,}")
    return wrong


def jobs(step: int, backward: bool) -> Iterator[tuple[str, str]]:
    """Each run of each `step`-th architecture."""
    for name in islice(ARCHITECTURES, 0, None, step):
        for run in RUNS:
            yield name, run
            if backward and not (run == EVAL and name in NO_BACKWARD_IN_EVAL):
                yield name, run + WITH_BACKWARD


def row(job: tuple[str, str]) -> Row:
    """Compare on each device, and write the line. A model that fails is a line too."""
    name, run = job
    transformers.logging.set_verbosity_error()
    kind = ARCHITECTURES[name][0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers, about configurations
            found = {device: compare(name, run, device) for device in devices(name)}
    except Exception as error:
        fault = f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
        return Row(LINE.format(name, kind, run, *[""] * 4, fault), [fault])
    wrong = [f"{device}: {words}" for device, one in found.items() for words in one.disagreements]
    ours = {one.ours for one in found.values()}
    if len(ours) > 1:
        wrong.append("not the same on each device: " + ", ".join(map(exact, sorted(ours))))
    explained = sorted({fault for one in found.values() for fault in one.differences})
    meta, cpu = found.get("meta"), found["cpu"]
    line = LINE.format(
        name,
        kind,
        run,
        exact(cpu.ours),
        exact(meta.torch) if meta else NO_VALUES,
        exact(cpu.torch),
        exact(cpu.params),
        "; ".join(wrong) or ("explained: " + ", ".join(explained) if explained else "equal"),
    )
    return Row(line, wrong, [one.differences for one in found.values()])


def ending() -> list[str]:
    """What doesn't run, and why."""
    return [
        "",
        "Not on meta, where tensors have no values; the model's code asks for",
        *(f"{name:17} {what}" for name, what in NEEDS_VALUES.items()),
        "",
        f"No {EVAL}{WITH_BACKWARD}",
        *(f"{name:17} {why}" for name, why in NO_BACKWARD_IN_EVAL.items()),
    ]
