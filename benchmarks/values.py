"""What known values cost programs on meta that ask for none.

    python -m benchmarks.values

A forward counted with `assume=Assume()` over the same one counted without, taken in turns in one
run: medians of the rounds' ratios, and their quartiles. Attention is taken apart in both: with
values known it would be one kernel, and fewer calls to time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import quantiles
from typing import Any

import torch
import torchvision
import transformers
from tabulate import tabulate
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.turns import turns
from benchmarks.ways import Way
from flopdispatch import Assume, FlopCounter, on_meta

ROUNDS = 30
IMAGE = (1, 3, 224, 224)


def image(build: Callable[[], Any], training: bool = False) -> Callable[[], object]:
    """The forward of a vision model."""
    model, x = on_meta(build).train(training), torch.zeros(IMAGE, device="meta")
    return partial(model, x)


def text(kind: str) -> Callable[[], object]:
    """The forward of one of transformers' models, at its default size."""
    chosen = getattr(transformers, kind)
    model = on_meta(chosen, chosen.config_class()).eval()
    ids = torch.zeros(1, 128, dtype=torch.long, device="meta")
    return partial(model, input_ids=ids)


PROGRAMS: dict[str, Callable[[], Callable[[], object]]] = {
    "ResNet-50": partial(image, torchvision.models.resnet50),
    "ResNet-50, training": partial(image, torchvision.models.resnet50, training=True),
    "ViT-B/16": partial(image, torchvision.models.vit_b_16),
    "Swin-T": partial(image, torchvision.models.swin_t),
    "BERT-base": partial(text, "BertModel"),
    "GPT-2": partial(text, "GPT2LMHeadModel"),
}


def counted(program: Callable[[], object], assume: Assume | None) -> int:
    """The program's FLOPs."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounter(display=False, assume=assume) as counter:
            program()
    return counter.flops


def main() -> None:
    """Print the table."""
    lines = []
    for name, make in PROGRAMS.items():
        program = make()
        ways = {
            "without": Way(partial(counted, program, None)),
            "with": Way(partial(counted, program, Assume())),
        }
        seconds, figures = turns(ways, ROUNDS)
        assert figures["with"] == figures["without"], name
        ratios = [one / other for one, other in zip(seconds["with"], seconds["without"])]
        low, median, high = quantiles(ratios, n=4, method="inclusive")
        lines.append((name, f"{median:.2f}", f"{low:.2f} to {high:.2f}"))
    print(tabulate(lines, ("forward on meta", "with / without", "quartiles")))


if __name__ == "__main__":
    main()
