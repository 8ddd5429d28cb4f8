"""Models of torchvision that aren't plain classifiers, and of each family of timm's models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import nn

from benchmarks import zoo
from benchmarks.meta_entry import Entry, Inputs
from flopdispatch import Assume, spec

TIMM_MODELS = 200

# Whose constructors know no backbone's weights.
NO_BACKBONE = ("optical_flow", "video")

# How many images a detector is trained with: batch norms refuse one where its map is one pixel.
TRAIN_BATCH = 2

# The width and the height of a found box, to which its mask or its joints' maps are resized.
SIDE = 56

# Two objects of each image of 300 pixels and more: where they are, what they are, and of people
# the joints, all of them visible.
BOXES = ((20.0, 30.0, 150.0, 220.0), (120.0, 80.0, 280.0, 260.0))
LABELS = (1, 1)  # of a person: the only class that the keypoint detector has
JOINTS = 17


def torchvision_models(kind: str) -> list[str]:
    """The names of all of torchvision's models of a kind, in order."""
    found: list[str] = torchvision.models.list_models(module=getattr(torchvision.models, kind))
    return sorted(found)


def torchvision_model(name: str, kind: str, training: bool = False) -> nn.Module:
    """A model without weights; its extra outputs are those that published weights have."""
    options: dict[str, Any] = {} if kind in NO_BACKBONE else {"weights_backbone": None}
    if name.startswith(("fcn_", "deeplabv3_")):
        options["aux_loss"] = True
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model.train(training)


def sizes(name: str) -> tuple[tuple[int, ...], ...]:
    """The shapes of a model's inputs that its published figures are of."""
    return zoo.entry("torchvision", name).shapes


def clips(name: str) -> Inputs:
    """Images, a pair of them, or a film."""
    return sizes(name), {}


def photo(name: str) -> tuple[int, ...]:
    """The shape of a detector's published input, one image without a batch."""
    (found,) = {
        tuple(map(int, row["input_shape"].split("x")))
        for row in zoo.rows("torchvision")
        if row["builder"] == name
    }
    return found


def photos(name: str) -> Inputs:
    """A detector takes a list of images."""
    return ([photo(name)],), {}


def photos_with_objects(name: str) -> Inputs:
    """A detector that learns takes what is in the images too."""
    images = [photo(name) for _ in range(TRAIN_BATCH)]
    return (images, [objects(name) for _ in images]), {}


def objects(name: str) -> dict[str, Any]:
    """What is in an image, as far as a detector learns it."""
    found: dict[str, Any] = {"boxes": torch.tensor(BOXES), "labels": torch.tensor(LABELS)}
    if name.startswith("maskrcnn"):
        found["masks"] = spec(len(BOXES), *photo(name)[1:], dtype=torch.uint8)
    if name.startswith("keypointrcnn"):
        found["keypoints"] = torch.tensor([joints(box) for box in BOXES])
    return found


def joints(box: tuple[float, ...]) -> list[tuple[float, float, float]]:
    """A visible joint at each of so many places along a box's diagonal."""
    left, top, right, bottom = box
    steps = [(i + 1) / (JOINTS + 1) for i in range(JOINTS)]
    return [(left + (right - left) * step, top + (bottom - top) * step, 1.0) for step in steps]


def torchvision_entries(kind: str) -> Iterator[Entry]:
    """All models of a kind, in eval mode."""
    group = f"torchvision: {kind.replace('_', ' ')}"
    for name in torchvision_models(kind):
        yield Entry(name, group, partial(torchvision_model, name, kind), partial(clips, name))


def detectors() -> Iterator[Entry]:
    """All detectors, in eval mode and as they are trained."""
    group, kind = "torchvision: detection", "detection"
    for name in torchvision_models(kind):
        build = partial(torchvision_model, name, kind)
        pastes = name.startswith(("maskrcnn", "keypointrcnn"))
        options = {"assume": Assume(number=SIDE)} if pastes else {}
        # In eval mode it has no loss, and its boxes are chosen: it is trained in training mode.
        yield Entry(name, group, build, partial(photos, name), trains=False, options=options)
        build = partial(torchvision_model, name, kind, training=True)
        yield Entry(f"{name} (training)", group, build, partial(photos_with_objects, name))


def timm_names(most: int) -> list[str]:
    """So many of timm's models, of all its modules and spread over each one's names.

    Each module gives one in turn, the larger first, until there are enough.
    """
    modules: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models(exclude_filters="test_*"):  # tiny ones for timm's own tests
        modules[model_entrypoint(name).__module__].append(name)
    chosen = shares({module: len(names) for module, names in modules.items()}, most)
    return [name for module in sorted(modules) for name in spread(modules[module], chosen[module])]


def shares(sizes: dict[str, int], most: int) -> Counter[str]:
    """How many each of several gives, of what it has, if they give in turn until `most`."""
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    given: Counter[str] = Counter()
    while given.total() < min(most, sum(sizes.values())):
        able = [name for name in order if given[name] < sizes[name]]
        given.update(able[: most - given.total()])
    return given


def spread(names: list[str], number: int) -> list[str]:
    """So many of the names, at even distances from the first one on."""
    return [names[i * len(names) // number] for i in range(number)]


def timm_model(name: str) -> nn.Module:
    """A model without weights, in eval mode."""
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model.eval()


def timm_image(name: str) -> Inputs:
    """One image of the size that the model's configuration names."""
    configuration = get_pretrained_cfg(name)
    return ((1, *configuration.input_size),), {}


def timm_entries(names: Iterable[str]) -> Iterator[Entry]:
    """Models of timm."""
    for name in names:
        yield Entry(name, "timm", partial(timm_model, name), partial(timm_image, name))


ENTRIES = (
    *detectors(),
    *torchvision_entries("optical_flow"),
    *torchvision_entries("segmentation"),
    *torchvision_entries("video"),
    *timm_entries(timm_names(TIMM_MODELS)),
)
