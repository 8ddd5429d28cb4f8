"""What a step computes, and what tells whether the next one computes the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn

from flopdispatch.capture.recording import OPTIMIZER, RECOMPUTE
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile

# The figures that MFU may be of, each a property of Profile.
FIGURES = {"comparable": "comparable_flops", "flops": "flops"}


@dataclass(frozen=True, slots=True)
class Work:
    """What one step costs, on this rank.

    `model_flops` are of the forward and the backward, and of what runs outside of modules.
    `hardware_flops` are these and what the backward ran again of the forward (checkpointing). The
    optimizer is in neither. `dtype` is the one that most of the MACs were computed in.

    Example:

        >>> from flopdispatch import count
        >>> work = Work.of(count(nn.Linear(8, 4), (2, 8), backward=True))
        >>> work.model_flops  # 2 x 2·8·4 MACs: the output, and the weight's gradient
        256
    """

    model_flops: int
    hardware_flops: int
    dtype: torch.dtype | None

    @classmethod
    def of(cls, profile: Profile, figure: str = "comparable") -> Work:
        """The work in a profile by a figure of FIGURES.

        Raises: ArgumentError for another figure.
        """
        check_figure(figure)
        model = _without(profile, OPTIMIZER, RECOMPUTE)
        hardware = _without(profile, OPTIMIZER)
        costs = {dtype: cost for dtype, cost in hardware.by_dtype().items() if cost.flops}
        return cls(
            model_flops=getattr(model, FIGURES[figure]),
            hardware_flops=getattr(hardware, FIGURES[figure]),
            dtype=max(costs, key=lambda dtype: costs[dtype].macs, default=None),
        )


def check_figure(figure: str) -> None:
    """Raises: ArgumentError if `figure` is none of FIGURES."""
    if figure not in FIGURES:
        raise ArgumentError(f"figure= takes one of {', '.join(FIGURES)}, got {figure!r}")


def _without(profile: Profile, *phases: str) -> Profile:
    """The same profile without what ran in some phases."""
    return replace(profile, rows=tuple(row for row in profile.rows if row.phase not in phases))


def name_of(batch: Any, key: Hashable = None) -> Hashable:
    """What is the same for two batches that cost the same in the same model.

    Raises: ArgumentError if there are no tensors in a batch and no key, or it can't be hashed.
    """
    found: list[Hashable] = []
    _note_shapes(batch, found)
    if key is None:
        if not found and batch is not None:
            raise ArgumentError(
                f"no tensor is in the batch, a {type(batch).__name__}: give the step its tensors "
                "in lists, tuples, dicts or dataclasses, or key=, anything hashable that is "
                "another where a step computes something else"
            )
        return tuple(found)
    try:
        hash(key)
    except TypeError as error:
        raise ArgumentError(f"key= takes anything hashable, got {key!r}") from error
    return key, tuple(found)


def _note_shapes(value: Any, found: list[Hashable]) -> None:
    """Note shape and dtype of each tensor or array, and the names that lead to them."""
    if isinstance(value, torch.Tensor) and value.is_nested:
        found.append((value.size(0), value.numel(), value.dtype))  # it has no one shape
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        found.append((tuple(value.shape), value.dtype))
    elif isinstance(value, list | tuple):
        for item in value:
            _note_shapes(item, found)
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            _note_named(name, value[name], found)
    elif is_dataclass(value):
        for field in fields(value):
            _note_named(field.name, getattr(value, field.name), found)


def _note_named(name: Hashable, value: Any, found: list[Hashable]) -> None:
    before = len(found)
    _note_shapes(value, found)
    if len(found) > before:
        found.append(name)


def state_of(model: nn.Module) -> tuple[bool, ...]:
    """Which modules are in training mode and which parameters are trained.

    It is asked before every step: `model.modules()` and `model.parameters()`, which look for
    duplicates, take several times as long.
    """
    state: list[bool] = []
    modules: list[nn.Module | None] = [model]
    for module in modules:  # which grows meanwhile
        if module is None:
            continue
        state.append(module.training)
        if parameters := module._parameters:
            state += [p.requires_grad for p in parameters.values() if p is not None]
        if children := module._modules:
            modules += children.values()
    return tuple(state)
