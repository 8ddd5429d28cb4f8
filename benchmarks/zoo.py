"""The models of the reference tables, built on meta, whatever their size."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

REFERENCE = Path(__file__).parents[1] / "tests" / "reference"

# Quantized rows repeat the float models' numbers; detectors' costs depend on their boxes.
TORCHVISION_KINDS = ("models", "segmentation", "video", "optical_flow")

# torchvision's rows are rounded to 3 decimals of a GMAC; timm's column of measured figures to 5.
TORCHVISION_STEP, TIMM_STEP = 0.0005, 0.000005


@dataclass(frozen=True, slots=True)
class Entry:
    """One model at one size of input, with the figures that a reference table gives.

    `gmacs` is right to within `step`, `params` to within `params_step`.
    """

    library: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    gmacs: float
    step: float
    params: float
    params_step: float

    @property
    def label(self) -> str:
        """`torchvision vit_b_16 1x3x384x384`."""
        shapes = ";".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.library} {self.name} {shapes}"


def rows(table: str) -> list[dict[str, str]]:
    """The rows of a reference table, by column."""
    with (REFERENCE / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def torchvision_entries() -> Iterator[Entry]:
    """Each classification, segmentation, video and optical-flow model at each of its sizes."""
    seen = set()
    for row in rows("torchvision"):
        shapes = tuple(tuple(map(int, shape.split("x"))) for shape in row["input_shape"].split(";"))
        if row["kind"] not in TORCHVISION_KINDS or (row["builder"], shapes) in seen:
            continue
        seen.add((row["builder"], shapes))  # several weights of one model
        yield Entry(
            "torchvision",
            row["builder"],
            shapes,
            float(row["gops"]),
            TORCHVISION_STEP,
            int(row["params"]),
            0,
        )


def timm_entries() -> Iterator[Entry]:
    """The models of timm's benchmark table, with the figures of FlopCounterMode."""
    for row in rows("timm"):
        size = int(row["img"])
        yield Entry(
            "timm",
            row["model"],
            ((1, 3, size, size),),
            float(row["fcm_gmacs"]),
            TIMM_STEP,
            float(row["published_params_M"]) * 1e6,
            5_000,
        )


ENTRIES = {"torchvision": torchvision_entries, "timm": timm_entries}


def entry(library: str, name: str, size: int | None = None) -> Entry:
    """The entry of this name, at this size of image where there are several."""
    for found in ENTRIES[library]():
        if found.name == name and size in (None, found.shapes[0][-1]):
            return found
    raise LookupError(f"{library}.csv has no {name} at {size}")


class StorageOnMeta(TorchFunctionMode):
    """Makes what `torch.empty` makes on meta: parameters cost no memory and no time.

    Unlike `torch.device("meta")` it leaves small tables of numbers real, so that models
    compute their widths from them (RegNet), and a build of 644 M parameters takes 0.2 s.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build(entry: Entry) -> nn.Module:
    """The entry's model on meta, in eval mode."""
    with warnings.catch_warnings(), StorageOnMeta():
        warnings.simplefilter("ignore")  # about initial weights, of which there are none
        model = BUILDERS[entry.library](entry.name, entry.shapes[0][-1])
    return model.to("meta").eval()


def _torchvision(name: str, size: int) -> nn.Module:
    import torchvision  # noqa: PLC0415 (one library is enough to run the other's rows)

    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = size
    elif name == "googlenet":
        options["aux_logits"] = False  # as its published weights have it
    elif name.startswith(("fcn_", "deeplabv3_")):
        options["aux_loss"] = True  # as its published weights have it
    if name.startswith(("fcn_", "deeplabv3_", "lraspp_")):
        options["weights_backbone"] = None
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model


def _timm(name: str, size: int) -> nn.Module:
    import timm  # noqa: PLC0415 (one library is enough to run the other's rows)

    try:
        model: nn.Module = timm.create_model(name, img_size=size)
    except TypeError:  # a convolutional model takes any size
        model = timm.create_model(name)
    return model


BUILDERS = {"torchvision": _torchvision, "timm": _timm}


def inputs(entry: Entry) -> list[torch.Tensor]:
    """The entry's images on meta."""
    return [torch.empty(shape, device="meta") for shape in entry.shapes]
