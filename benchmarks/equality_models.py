"""Real models on meta with the fast path and without: forwards, backwards, training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import equality_transformers as language
from benchmarks import zoo
from flopdispatch.capture.meta import clear_cache
from flopdispatch.training import run_backward
from tests.observed import Observation, Program, lasting_differences, observe

TIMES = 2  # runs of each program in a counter
BATCH = 2
TIMM_STEP = 8  # of timm's 341 models each eighth: 43
SIZE = 64  # pixels a side for detectors
DETECTORS = (
    "fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn", "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "ssd300_vgg16",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A model by name: how it is built on meta, and what it is called with."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


def models() -> Iterator[Model]:
    """All of torchvision's, some of timm's, and small ones of transformers."""
    smallest: dict[str, zoo.Entry] = {}
    for entry in zoo.torchvision_entries():
        known = smallest.get(entry.name)
        if known is None or entry.shapes[0][-1] < known.shapes[0][-1]:
            smallest[entry.name] = entry
    for entry in [*smallest.values(), *list(zoo.timm_entries())[::TIMM_STEP]]:
        name = f"{entry.library} {entry.name}"
        yield Model(name, partial(zoo.build, entry), partial(batch, entry))
    for name in DETECTORS:
        yield Model(f"torchvision {name}", partial(detector, name), images_and_boxes)
    for name in language.ARCHITECTURES:
        build, inputs = partial(language.build, name), partial(named_inputs, name)
        yield Model(f"transformers {name}", build, inputs)


def batch(entry: zoo.Entry) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Images of the entry's shapes."""
    given = [x.new_empty((BATCH, *x.shape[1:])) for x in zoo.inputs(entry)]
    return tuple(given), {}


def detector(name: str) -> nn.Module:
    """A detector of torchvision on meta."""
    import torchvision  # noqa: PLC0415 (seconds to import, for these few)

    with torch.device("meta"):
        model: nn.Module = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return model


def images_and_boxes() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Two images, with the objects in them for a detector that learns."""
    images = [torch.empty(3, SIZE, SIZE, device="meta") for _ in range(BATCH)]
    targets = [
        {
            "boxes": torch.empty(1, 4, device="meta"),
            "labels": torch.empty(1, dtype=torch.long, device="meta"),
            "masks": torch.empty(1, SIZE, SIZE, dtype=torch.uint8, device="meta"),
        }
        for _ in range(BATCH)
    ]
    return (images, targets), {}


def named_inputs(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What an architecture of transformers is called with."""
    return (), language.inputs(name)


def programs(chosen: Model) -> list[Program]:
    """What is done with one model, built here, one run after the other."""
    model = chosen.build()
    stepper = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)

    def make() -> Any:
        # The model's state is among what is observed after each run.
        state = dict(model.named_parameters()), dict(model.named_buffers())
        return chosen.inputs(), state, stepper.state

    def forward(given: Any) -> Any:
        args, kwargs = given[0]
        return model(*args, **kwargs)

    def infer(mode: Callable[[], Any], given: Any) -> Any:
        model.eval()
        with mode():
            return forward(given)

    def train(given: Any) -> Any:
        output = forward_in_training(given)
        run_backward(output)
        return output

    def step(given: Any) -> Any:
        output = train(given)
        stepper.step()
        stepper.zero_grad()
        return output

    def forward_in_training(given: Any) -> Any:
        model.train()
        return forward(given)

    return [
        Program(f"{chosen.name}, no grad", make, partial(infer, torch.no_grad)),
        Program(f"{chosen.name}, inference", make, partial(infer, torch.inference_mode)),
        Program(f"{chosen.name}, train and backward", make, train),
        Program(f"{chosen.name}, training step", make, step),
    ]


def observed(model: Model, way: bool | None) -> Observation:
    """A model that is built anew, observed in one counter, or without one."""
    return observe(programs(model), TIMES, meta_cache=way)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model both ways: runs, those of them that raised (alike), and what was different."""

    name: str
    runs: int
    raised: int
    errors: tuple[str, ...]
    calls: int
    different: tuple[str, ...]


def compare(model: Model) -> Comparison:
    """Observe a model uncounted, without the fast path, with its cache empty, and warm."""
    slow = observed(model, None), observed(model, False)
    clear_cache()
    fast = observed(model, True), observed(model, True)
    errors = [outcome.error for outcome in slow[0].outcomes if outcome.error]
    return Comparison(
        model.name,
        sum(len(one.outcomes) for one in (*slow, *fast)),
        sum(bool(outcome.error) for one in (*slow, *fast) for outcome in one.outcomes),
        tuple(sorted(set(errors))),
        sum(row.times for one in (*slow, *fast) for row in getattr(one.profile, "rows", ())),
        tuple(lasting_differences(partial(observed, model), slow, fast)),
    )
