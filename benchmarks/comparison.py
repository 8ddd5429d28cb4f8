"""One model under FlopCounter and under torch's FlopCounterMode: do they agree?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.zoo import Entry, build, inputs
from flopdispatch import FlopCounter, Profile
from flopdispatch.rules import name_of
from flopdispatch.training import run_backward

EVAL, TRAIN, BACKWARD = RUNS = "eval", "train", "train+backward"
TRAIN_BATCH = 2  # batch norm refuses to train on one value a channel

CONVOLUTION = torch.ops.aten.convolution.default
CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default


class Convolutions(TorchDispatchMode):
    """MACs of the convolutions that run, from their weights and positions alone.

    Each output position (of a transposed convolution: each input position) meets each
    element of the weight once in a forward, and once for each gradient that a backward is
    asked for, `groups` or not. `surplus` is what FlopCounterMode adds to that, in FLOPs: it
    multiplies weight gradients by the number of groups.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.forward = self.backward = self.not_asked = self.surplus = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is CONVOLUTION:
            x, weight, transposed = args[0], args[1], args[6]
            self.forward += meetings(x if transposed else out, weight)
        elif func is CONVOLUTION_BACKWARD:
            grad, x, weight, transposed, groups, mask = *args[:3], args[7], args[9], args[10]
            once = meetings(x if transposed else grad, weight)
            self.backward += once * (mask[0] + mask[1])
            self.not_asked += once * (2 - mask[0] - mask[1])
            self.surplus += 2 * once * (groups - 1) * mask[1]
        return out


def meetings(positions: torch.Tensor, weight: torch.Tensor) -> int:
    """How often an element of the weight is multiplied: n · ∏positions · |weight|."""
    return positions.shape[0] * prod(positions.shape[2:]) * weight.numel()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model's figures side by side, in FLOPs.

    `ours` is twice our MACs of matmul, convolution and attention, `torch` FlopCounterMode's
    total, `surplus` the part of that which is wrong (see Convolutions). `disagreements` says
    in words what is not as it must be; it is empty for a model that is right.
    """

    ours: int
    torch: int
    surplus: int
    params: int
    disagreements: list[str]


def compare(entry: Entry, run: str) -> Comparison:
    """Build and run an entry's model once under each of the counters.

    `run` is one of RUNS. Published figures are for eval mode.
    """
    model = build(entry).train(run != EVAL)
    given = inputs(entry)
    if run != EVAL:
        given = [x.new_empty((TRAIN_BATCH, *x.shape[1:])) for x in given]

    def program() -> None:
        output = model(*given)
        if run == BACKWARD:
            run_backward(output)

    profile, total, convolutions = measured(program)
    params = sum(parameter.numel() for parameter in model.parameters())
    wrong = disagreements(profile, total, convolutions)
    if profile.params != params:
        wrong.append(f"{profile.params:,} parameters for {params:,}")
    if abs(params - entry.params) > entry.params_step:
        wrong.append(f"{params:,} parameters in the model, {entry.params:,} in the table")
    gmacs = profile.comparable_flops / 2e9
    if run == EVAL and abs(gmacs - entry.gmacs) > entry.step * (1 + 1e-6):
        wrong.append(f"{gmacs} GMACs for {entry.gmacs} in the table")
    return Comparison(
        profile.comparable_flops,
        total,
        convolutions.surplus,
        profile.params,
        wrong,
    )


def measured(program: Callable[[], Any]) -> tuple[Profile, int, Convolutions]:
    """Run a program under our counter, then under torch's with a look at its convolutions."""
    with FlopCounter(display=False) as counter:
        program()
    with Convolutions() as convolutions, FlopCounterMode(display=False) as theirs:
        program()
    return counter.profile, theirs.get_total_flops(), convolutions


def disagreements(profile: Profile, total: int, convolutions: Convolutions) -> list[str]:
    """What is not as it must be between our profile, torch's total and the convolutions."""
    wrong = []
    if profile.uncounted:
        found = ", ".join(f"{name_of(op)} x{n}" for op, n in profile.uncounted.items())
        wrong.append(f"uncounted: {found}")
    if profile.comparable_flops != total - convolutions.surplus:
        surplus = f" less {convolutions.surplus:,} for groups" if convolutions.surplus else ""
        wrong.append(f"{profile.comparable_flops:,} FLOPs, torch {total:,}{surplus}")
    by_op = profile.by_op()
    forward = by_op[CONVOLUTION].macs if CONVOLUTION in by_op else 0
    backward = by_op[CONVOLUTION_BACKWARD].macs if CONVOLUTION_BACKWARD in by_op else 0
    if (forward, backward) != (convolutions.forward, convolutions.backward):
        wrong.append(
            f"convolutions {forward:,} + {backward:,} MACs, by their shapes "
            f"{convolutions.forward:,} + {convolutions.backward:,}"
        )
    if "backward" in profile.by_phase() and backward + convolutions.not_asked != 2 * forward:
        wrong.append(
            f"convolutions' backward {backward:,} MACs and {convolutions.not_asked:,} not asked "
            f"for are not twice the forward's {forward:,}"
        )
    return wrong
