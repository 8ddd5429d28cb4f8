"""timm's models, by the name that `timm.create_model` takes."""

from __future__ import annotations

from typing import Any

import torch

from flopdispatch.cli.targets.target import Call, Sizes, Target, in_dtype, library, unknown


def find(name: str, overrides: dict[str, Any]) -> Target:
    """The target of a model's name, with a tag of its weights or without.

    Raises: ArgumentError for an unknown name, or if timm isn't installed.
    """
    timm = library("timm")
    if not timm.is_model(name):
        raise unknown(
            "timm model",
            name,
            timm.list_models(),
            "all are listed by `python -c 'import timm; print(*timm.list_models())'`",
        )

    def build(dtype: torch.dtype | None) -> Any:
        return in_dtype(timm.create_model(name, **{"pretrained": False, **overrides}), dtype)

    return Target(name, build, inputs)


def inputs(model: Any, sizes: Sizes) -> Call | None:
    """Images of the size that a model's configuration names; None of a model without one."""
    configuration = getattr(model, "pretrained_cfg", None)
    if not configuration or "input_size" not in configuration:
        return None
    _, high, wide = configuration["input_size"]
    built = getattr(getattr(model, "patch_embed", None), "img_size", None)  # by img_size=
    if built is not None:
        high, wide = built
    channels = getattr(model, "in_chans", None) or configuration["input_size"][0]
    return Call(((sizes.batch(), channels, *sizes.image(high, wide)),))
