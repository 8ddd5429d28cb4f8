"""How a face runs a model: as its tool did, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from flopdispatch.assumptions import NOTHING
from flopdispatch.counter import count
from flopdispatch.errors import DataDependentError, FlopDispatchError
from flopdispatch.inputs import Verbatim, is_shape
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry


def profiled(
    model: nn.Module,
    inputs: Iterable[Any],
    keywords: Mapping[str, Any] | None = None,
    convention: str | Registry | None = None,
    training: bool = False,
    shapes: bool = False,
) -> Profile:
    """The profile of a forward without gradients, in eval mode unless `training`.

    A tuple of integers goes to the model as it is, unless `shapes` says that it is a shape.

    It runs on meta, and nothing is assumed. A model that asks for values of data runs on its own
    device instead, on the inputs as they are. Either way its parameters and buffers are stand-ins.

    Raises: what the model raises on its own device; ArgumentError as `count` does.
    """
    given, named = tuple(inputs), dict(keywords or {})
    if not shapes:
        given, named = verbatim(given), verbatim(named)
    place = device_of(model)
    with torch.no_grad(), modes_kept(model):
        if not training:
            for module in model.modules():
                module.training = False
        try:
            return count(model, *given, convention=convention, assume=NOTHING, **named)
        except FlopDispatchError as error:
            if place.type == "meta" or not isinstance(error, DataDependentError):
                raise
        except Exception:
            if place.type == "meta":
                raise
        return count(model, *given, convention=convention, device=place, **named)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Give each module the training mode back that it had, whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def verbatim(value: Any) -> Any:
    """Arguments of which none is taken for a shape."""
    if isinstance(value, dict):
        return {name: verbatim(item) for name, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return Verbatim(value) if is_shape(value) else type(value)(map(verbatim, value))
    return value
