"""Tell the MFU of a training step from the time that it takes.

The forward and the backward of TARGET are counted, in training mode, and held against the peak of
the hardware: MFU is the time that the step would take at the peak, as a share of the time that it
takes. The time comes from your logs; `flopdispatch.MfuMeter` measures it in a loop. A profile that
was saved as JSON is taken as it is; where it has recomputation, HFU is told too.

examples:
  flopdispatch mfu hf:path/to/config.json --batch 8 --seq 4096 --seconds 1.9 --hardware H100-SXM
  flopdispatch mfu torchvision:resnet50 --batch 256 --seconds 0.31 --hardware L40S --peak tf32
  flopdispatch mfu step.json --seconds 2.5 --devices 8 --hardware B200
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from math import inf
from typing import Any

from flopdispatch.cli import terminal
from flopdispatch.cli.measuring import add_target, add_target_options, measure_or_read
from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import hardware
from flopdispatch.mfu.work import FIGURES, Work
from flopdispatch.units import duration, exact, percent, si


def add_arguments(parser: ArgumentParser) -> None:
    add_target(parser, more="; or a profile saved as .json")
    group = parser.add_argument_group("the step")
    group.add_argument(
        "--seconds", type=float, required=True, help="how long a step takes, as your logs say"
    )
    group.add_argument("--hardware", required=True, metavar="NAME", help="the device it runs on")
    group.add_argument(
        "--devices", type=int, default=1, metavar="N", help="how many share the step (default: 1)"
    )
    group.add_argument(
        "--peak",
        metavar="DTYPE",
        help="the rate it is held against, such as tf32 (default: that of the dtype that most MACs "
        "are computed in)",
    )
    group.add_argument(
        "--figure",
        choices=list(FIGURES),
        default="comparable",
        help="matrix products, convolutions and attention, as papers count (the default), or all "
        "flops",
    )
    group.add_argument("--format", choices=["table", "json"], default="table", help="(table)")
    add_target_options(parser)


def run(arguments: Namespace) -> int:
    if not 0 < arguments.seconds < inf:
        raise ArgumentError(f"--seconds takes a time > 0, got {arguments.seconds}")
    if arguments.devices < 1:
        raise ArgumentError(f"--devices takes a number >= 1, got {arguments.devices}")
    machine = hardware(arguments.hardware)
    arguments.train = arguments.backward = True
    work = Work.of(measure_or_read(arguments.target, arguments), arguments.figure)
    rate = arguments.peak or work.dtype
    if rate is None or work.model_flops == 0:
        raise ArgumentError(f"{arguments.target} has no {arguments.figure} FLOPs to hold to a peak")
    peak = machine.peak(rate) * arguments.devices
    found = {
        "model_flops": work.model_flops,
        "hardware_flops": work.hardware_flops,
        "hardware": machine.name,
        "devices": arguments.devices,
        "peak": str(rate).removeprefix("torch."),
        "peak_flop_per_s": peak,
        "seconds": arguments.seconds,
        "seconds_at_peak": work.model_flops / peak,
        "mfu": work.model_flops / peak / arguments.seconds,
        "hfu": work.hardware_flops / peak / arguments.seconds,
    }
    terminal.write(json.dumps(found) if arguments.format == "json" else _text(found), None)
    if found["hfu"] > 1:
        terminal.tell(
            "warning",
            "more than the peak: is the time that of one step, of this batch, on all --devices?",
        )
    return 0


def _text(found: dict[str, Any]) -> str:
    devices = f"{exact(found['devices'])} x " * (found["devices"] > 1)
    rate = si(float(found["peak_flop_per_s"]), "FLOP/s")
    lines = [
        f"Model FLOPs of a step: {exact(found['model_flops'])}",
        f"Peak: {rate} ({devices}{found['hardware']}, {found['peak']})",
        f"At the peak it would take {duration(found['seconds_at_peak'])}, it takes "
        f"{duration(found['seconds'])}",
        f"MFU: {percent(found['mfu'], 1)}",
    ]
    if found["hardware_flops"] != found["model_flops"]:
        again = exact(found["hardware_flops"])
        lines.append(f"HFU: {percent(found['hfu'], 1)} (with recomputation, {again} FLOPs)")
    return "\n".join(lines)
