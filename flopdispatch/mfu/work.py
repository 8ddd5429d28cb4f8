"""What a step computes, and what tells whether the next one computes the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
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
        costs = model.by_dtype()
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


def shapes_in(batch: Any) -> tuple[Hashable, ...]:
    """Shape and dtype of each tensor or array in a batch, the values of a mapping by their keys.

    Raises: ArgumentError if there is none.

    Example:

        >>> shapes_in({"y": torch.ones(2), "x": [torch.ones(2, 3)]})
        (((2, 3), torch.float32), ((2,), torch.float32))
    """
    found = tuple(_shapes(batch))
    if not found:
        raise ArgumentError(
            f"no tensor is in the batch, a {type(batch).__name__}: give the step its tensors in "
            "lists, tuples, dicts or dataclasses, or key=, anything hashable that is another "
            "where a step computes something else"
        )
    return found


def _shapes(value: Any) -> Iterator[Hashable]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        yield tuple(value.shape), value.dtype
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield from _shapes(value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _shapes(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _shapes(getattr(value, field.name))


def state_of(model: nn.Module) -> tuple[bool, ...]:
    """Which modules are in training mode and which parameters are trained.

    It is asked before every step: `model.modules()` and `model.parameters()`, which look for
    duplicates, take several times as long.
    """
    state: list[bool] = []
    waiting = [model]
    while waiting:
        module = waiting.pop()
        state.append(module.training)
        state += [p.requires_grad for p in module._parameters.values() if p is not None]
        waiting += [child for child in module._modules.values() if child is not None]
    return tuple(state)
