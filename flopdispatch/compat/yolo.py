"""YOLO's `model_info` and `get_flops`: the summary line that YOLOv5 and ultralytics print.

    from flopdispatch.compat.yolo import get_flops, model_info

    model_info(model)
    # YOLOv5s summary: 214 layers, 7,235,389 parameters, 7,235,389 gradients, 16.6 GFLOPs

GFLOPs are 2 x MACs as thop counts them. What differs, by name:

- The image has its true size, on meta. The tools run one of 32 x 32 (the model's largest stride)
  and multiply by the area: too much where a part has a fixed size or is pooled to one cell, too
  little where attention meets every position with every other.
- Functional calls and attention count; thop doesn't see them.
- A failure raises; the tools leave GFLOPs out, or say 0.0.
- `model_info` always returns its four figures. ultralytics' returns None unless `verbose`, YOLOv5's
  in any case. It prints; the tools log.
- Layers are all modules, as in YOLOv5; ultralytics has come to count those without children.
- A model without a `yaml_file` goes by the name of its class; by the tools as `Model`.
- Channels of the image are those of the model's yaml, or of its first convolution; the tools take
  the second size of the first parameter.
- `detailed` lists counts in full; a parameter on meta has no mean and deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from flopdispatch.capture.wrappers import class_name, unwrapped
from flopdispatch.compat.running import profiled
from flopdispatch.errors import ArgumentError
from flopdispatch.registry import Registry
from flopdispatch.spec import spec

HEADER = ("layer", "name", "gradient", "parameters", "shape", "mu", "sigma")
ROW = "{:>5} {:>40} {:>9} {:>12} {:>20} {:>10} {:>10}"

# Conventions that put their tool's figure in MACs, whatever it is: a FLOP is half of one.
BY_MACS = ("fvcore", "ptflops", "thop", "torchstat")


def get_flops(
    model: nn.Module,
    imgsz: int | list[int] | tuple[int, int] = 640,
    *,
    convention: str | Registry = "thop",
) -> float:
    """The GFLOPs (10^9 operations) of one image in eval mode, 2 x thop's MACs.

    `imgsz` is the image's height and width in pixels, or [height, width]. By a `convention` that
    counts FLOPs, these.

    Raises: ArgumentError for what is no module or no size; what the model raises.

    Example:

        >>> get_flops(nn.Conv2d(3, 64, 3, padding=1), 640)  # 640 x 640 x 64 x 27 MACs, in 1e9 FLOPs
        1.4155776
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"get_flops() takes a module as its model, got {type(model).__name__}")
    model = unwrapped(model) or model
    image = spec(1, channels(model), *size(imgsz), dtype=dtype(model))
    profile = profiled(model, [image], convention=convention)
    flops = 2 * profile.macs if profile.convention in BY_MACS else profile.flops
    return flops / 1e9


def model_info(
    model: nn.Module,
    detailed: bool = False,
    verbose: bool = True,
    imgsz: int | list[int] | tuple[int, int] = 640,
    *,
    convention: str | Registry = "thop",
) -> tuple[int, int, int, float]:
    """Print the summary of a model; return its layers, parameters, gradients and GFLOPs.

    Layers are all modules, gradients the elements of parameters that require them. `detailed`
    lists the parameters first. `verbose=False` prints nothing. `imgsz` and `convention` are as for
    `get_flops`.

    Raises: as `get_flops`.

    Example: `layers, parameters, gradients, gflops = model_info(model, imgsz=[640, 320])`
    """
    gflops = get_flops(model, imgsz, convention=convention)
    model = unwrapped(model) or model
    layers = len(list(model.modules()))
    parameters = sum(p.numel() for p in model.parameters())
    gradients = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if verbose:
        if detailed:
            print(details(model))
        print(
            f"{name_of(model)} summary{fused(model)}: {layers:,} layers, "
            f"{parameters:,} parameters, {gradients:,} gradients, {gflops:.1f} GFLOPs"
        )
    return layers, parameters, gradients, gflops


def details(model: nn.Module) -> str:
    """A line for each parameter: number, name, gradient, elements, shape, mean, deviation."""
    lines = [ROW.format(*HEADER)]
    for i, (name, p) in enumerate(model.named_parameters()):
        mean, deviation = statistics(p)
        shown = name.replace("module_list.", "")
        about = i, shown, str(p.requires_grad), p.numel(), str(list(p.shape)), mean, deviation
        lines.append(ROW.format(*about))
    return "\n".join(lines)


def statistics(parameter: torch.Tensor) -> tuple[str, str]:
    """The mean and the standard deviation of a parameter, `-` where there is none."""
    if parameter.is_meta or not parameter.numel():
        return "-", "-"
    values = parameter.detach().double()
    deviation = f"{values.std().item():.3g}" if values.numel() > 1 else "-"
    return f"{values.mean().item():.3g}", deviation


def name_of(model: nn.Module) -> str:
    """The name of its yaml file, `yolo` in capitals, or its class's."""
    file = getattr(model, "yaml_file", "") or yaml_of(model).get("yaml_file", "")
    return Path(file).stem.replace("yolo", "YOLO") if file else class_name(model)


def fused(model: nn.Module) -> str:
    """A remark of a model whose normalizations are in its convolutions."""
    return " (fused)" if getattr(model, "is_fused", lambda: False)() else ""


def yaml_of(model: nn.Module) -> Mapping[str, Any]:
    """The model's configuration, empty if it has none."""
    found = getattr(model, "yaml", None)
    return found if isinstance(found, Mapping) else {}


def channels(model: nn.Module) -> int:
    """Channels of the model's image: its yaml's, its first convolution's, else 3."""
    yaml = yaml_of(model)
    given = yaml.get("channels", yaml.get("ch"))
    if type(given) is int:
        return given
    return next((m.in_channels for m in model.modules() if isinstance(m, _ConvNd)), 3)


def dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter."""
    found = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
    return next(found, torch.get_default_dtype())


def size(imgsz: Any) -> tuple[int, int]:
    """The height and width of an image.

    Raises: ArgumentError for what is neither a positive integer nor two.
    """
    sizes = tuple(imgsz) if isinstance(imgsz, list | tuple) else (imgsz, imgsz)
    if len(sizes) != 2 or any(type(n) is not int or n < 1 for n in sizes):
        raise ArgumentError(f"imgsz= takes an integer >= 1 or [height, width], got {imgsz!r}")
    return sizes
