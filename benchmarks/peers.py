"""What flopdispatch and its peers say of the same models, and how they say it.

Run with `make peers`, which installs the peers. Every figure is as the tool gives it; `MACs`
are what each calls its result. A tool that raises shows the exception's name.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flopdispatch import FlopCounter
from flopdispatch.units import si

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (torchvision.models.resnet50, (1, 3, 224, 224)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (1, 3, 224, 224)),
    "vit_b_16": (torchvision.models.vit_b_16, (1, 3, 224, 224)),
    "swin_t": (torchvision.models.swin_t, (1, 3, 224, 224)),
    "r3d_18": (torchvision.models.video.r3d_18, (1, 3, 16, 112, 112)),
    "nn.LSTM(64, 128)": (lambda: nn.LSTM(64, 128), (20, 4, 64)),
}


def ours(model: nn.Module, x: torch.Tensor) -> int:
    """MACs of matmul, convolution and attention."""
    with FlopCounter(display=False) as counter:
        model(x)
    return int(counter.profile.comparable_flops) // 2


def torch_counter(model: nn.Module, x: torch.Tensor) -> int:
    """torch.utils.flop_counter, halved."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return int(counter.get_total_flops()) // 2


def fvcore(model: nn.Module, x: torch.Tensor) -> int:
    """fvcore.nn.FlopCountAnalysis, whose flops are MACs."""
    from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415 (a peer, installed for this run)

    analysis = FlopCountAnalysis(model, x)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.total())


def thop(model: nn.Module, x: torch.Tensor) -> int:
    """thop.profile, whose FLOPs are MACs."""
    from thop import profile  # noqa: PLC0415

    return int(profile(model, (x,), verbose=False)[0])


def ptflops(model: nn.Module, x: torch.Tensor) -> int:
    """ptflops' module engine, MACs."""
    from ptflops import get_model_complexity_info  # noqa: PLC0415

    macs, _ = get_model_complexity_info(
        model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, verbose=False,
        input_constructor=lambda _: x,
        backend="pytorch",
    )  # fmt: skip
    return int(macs) if macs is not None else -1


TOOLS: dict[str, Callable[[nn.Module, torch.Tensor], int]] = {
    "flopdispatch": ours,
    "torch": torch_counter,
    "fvcore": fvcore,
    "thop": thop,
    "ptflops": ptflops,
}


def quietly(tool: Callable[..., int], build: Callable[[], nn.Module], shape: Any) -> str:
    """A tool's figure for a fresh model, as text; on real CPU tensors, eval mode, with grad."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return si(tool(build().eval(), torch.randn(shape)))
    except Exception as error:
        return type(error).__name__


def training(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> list[str]:
    """Forward + backward MACs of matmul, convolution and attention: ours and torch's."""
    figures = []
    for counter in (FlopCounter(display=False), FlopCounterMode(display=False)):
        model, x = build().train(), torch.randn(2, *shape[1:])
        with counter:
            output = model(x)
            (output[0] if isinstance(output, tuple) else output).sum().backward()
        flops = (
            counter.profile.comparable_flops
            if isinstance(counter, FlopCounter)
            else counter.get_total_flops()
        )
        figures.append(si(flops // 2))
    return figures


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    rows = [
        [name, *(quietly(tool, build, shape) for tool in TOOLS.values())]
        for name, (build, shape) in MODELS.items()
    ]
    print("Forward, one input: MACs of matmul, convolution and attention, or each tool's own")
    print(tabulate(rows, headers=["Model", *TOOLS], disable_numparse=True, stralign="right"))
    rows = [[name, *training(build, shape)] for name, (build, shape) in MODELS.items()]
    print("\nForward and backward, two inputs")
    print(tabulate(rows, headers=["Model", "flopdispatch", "torch"], disable_numparse=True))


if __name__ == "__main__":
    main()
