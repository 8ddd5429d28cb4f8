"""torchvision's models, by the name that `torchvision.models.get_model` takes."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch

from flopdispatch.cli.targets.target import (
    Call,
    Inputs,
    Sizes,
    Target,
    in_dtype,
    library,
    unknown,
)

# As their published weights have them.
PUBLISHED = {"googlenet": {"aux_logits": False}}
PUBLISHED_SEGMENTATION = {"aux_loss": True}

FRAMES = 16
FLOW = 512  # optical flow is published at this size

# The width and the height of a found box, to which its mask or its joints' maps are resized.
SIDE = 56

# Two people in each image that a detector is trained with: batch norms refuse a single image.
TRAIN_BATCH = 2
BOXES = ((20.0, 30.0, 150.0, 220.0), (120.0, 80.0, 280.0, 260.0))
JOINTS = 17


def find(name: str, overrides: dict[str, Any]) -> Target:
    """The target of a model's name.

    Raises: ArgumentError for an unknown name, or if torchvision isn't installed.
    """
    models = library("torchvision").models
    names = models.list_models()
    if name not in names:
        raise unknown(
            "torchvision model",
            name,
            names,
            "all are listed by `python -c 'import torchvision; "
            "print(*torchvision.models.list_models())'`",
        )
    builder = models.get_model_builder(name)
    kind = builder.__module__.split(".")[2]
    plain = name.removeprefix("quantized_")  # without weights it is the float model
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    if kind == "segmentation" and "aux_loss" in inspect.signature(builder).parameters:
        options |= PUBLISHED_SEGMENTATION
    options |= PUBLISHED.get(plain, {})
    weights = models.get_model_weights(plain).DEFAULT
    if name.startswith("vit_"):
        options["image_size"] = _side(weights)
    if plain in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # slow, and nothing to count
    options |= overrides
    pastes = name.startswith(("maskrcnn", "keypointrcnn"))

    def build(dtype: torch.dtype | None) -> Any:
        return in_dtype(models.get_model(name, **options), dtype)

    side = options.get("image_size") or _side(weights)
    inputs: dict[str, Inputs] = {
        "detection": partial(_photos, name),
        "optical_flow": _pair,
        "video": partial(_films, side),
    }
    return Target(
        name,
        build,
        inputs.get(kind, partial(_images, side)),
        assume={"number": SIDE} if pastes else {},
    )


def _side(weights: Any) -> int:
    """The size of the images that weights were published with."""
    preset = weights.transforms()
    sizes = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None) or [224]
    return int(sizes[0])


def _images(side: int, model: Any, sizes: Sizes) -> Call:
    return Call(((sizes.batch(), 3, *sizes.image(side)),))


def _films(side: int, model: Any, sizes: Sizes) -> Call:
    return Call(((sizes.batch(), 3, FRAMES, *sizes.image(side)),))


def _pair(model: Any, sizes: Sizes) -> Call:
    shape = (sizes.batch(), 3, *sizes.image(FLOW))
    return Call((shape, shape))


def _photos(name: str, model: Any, sizes: Sizes) -> Call:
    """A list of images, in the size that the detector resizes images to."""
    transform = model.transform
    high, wide = transform.fixed_size or (transform.min_size[-1],) * 2
    shape = (3, *sizes.image(high, wide))
    if not model.training:
        return Call(([shape] * sizes.batch(),))
    batch = sizes.batch(TRAIN_BATCH)
    return Call(([shape] * batch, [_objects(name, shape) for _ in range(batch)]))


def _objects(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What is in an image, as far as a detector learns it."""
    found: dict[str, Any] = {
        "boxes": torch.tensor(BOXES),
        "labels": torch.ones(len(BOXES), dtype=torch.long),
    }
    if name.startswith("maskrcnn"):
        found["masks"] = torch.zeros(len(BOXES), *shape[1:], dtype=torch.uint8)
    if name.startswith("keypointrcnn"):
        found["keypoints"] = torch.tensor([_joints(box) for box in BOXES])
    return found


def _joints(box: tuple[float, ...]) -> list[tuple[float, float, float]]:
    """A visible joint at each of so many places along a box's diagonal."""
    left, top, right, bottom = box
    steps = [(i + 1) / (JOINTS + 1) for i in range(JOINTS)]
    return [(left + (right - left) * step, top + (bottom - top) * step, 1.0) for step in steps]
