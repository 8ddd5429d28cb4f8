"""Count one run of a model: FLOPs, MACs, bytes and parameters, module by module.

The model is built without weights and, unless --device says otherwise, run on meta: no memory is
allocated and nothing computed, whatever its size. Models of torchvision, timm and transformers
have default inputs: images, films and sounds of the sizes that they are published with, 128 tokens
of text; what was chosen is told on standard error. Other models are given theirs by --input, or
have an `example_input_array`. The counts are those of `flopdispatch.count(model, ...)`.

examples:
  flopdispatch count torchvision:resnet50
  flopdispatch count timm:vit_base_patch16_224 --batch 8 --depth 2
  flopdispatch count hf:path/to/config.json --seq 4096 --sort flops
  flopdispatch count net.py:Net --kwargs '{"width": 64}' --input 1x3x32x32
  flopdispatch count torchvision:resnet50 --train --optimizer adamw --out profile.json
  flopdispatch count hf:path/to/config.json --seq 4096 --dtype bfloat16 --hardware H100-SXM
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from flopdispatch.cli.measuring import add_target, add_target_options, measure
from flopdispatch.cli.output import add_output, profile_writer


def add_arguments(parser: ArgumentParser) -> None:
    add_target(parser)
    add_target_options(parser)
    add_output(parser)


def run(arguments: Namespace) -> int:
    write = profile_writer(arguments)
    write(measure(arguments.target, arguments))
    return 0
