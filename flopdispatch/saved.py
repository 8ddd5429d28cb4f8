"""Saved: what autograd keeps of a forward for the backward, by module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

ACTIVATIONS, PARAMETERS, INPUTS = KINDS = "activations", "parameters", "inputs"


class Saved(NamedTuple):
    """Bytes that operators of a module keep for the backward.

    `kind` is `"parameters"` (buffers too) or `"inputs"` for what is there anyway, else
    `"activations"`: what the forward made, and can't be freed until the backward has run.

    Example:

        >>> from torch import nn
        >>> from flopdispatch import count
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> for found in count(model, (3, 8), saved=True).saved:
        ...     print(*found)  # 3 x 8 floats; 3 x 4; 4 x 2
        Sequential.0 inputs 96
        Sequential.1 activations 48
        Sequential.2 parameters 32
    """

    scope: str
    kind: str
    nbytes: int


class SavedTensors:
    """Notes what autograd keeps while it is entered; `scope` tells which module runs.

    A storage is kept once, for the first that needs it, and whole, if a part of it is needed.
    """

    def __init__(
        self,
        scope: Callable[[], str],
        parameters: Iterable[torch.Tensor],
        inputs: Iterable[torch.Tensor],
    ) -> None:
        self._scope = scope
        kinds = ((INPUTS, inputs), (PARAMETERS, parameters))
        self._kinds = {id(_held(t)): kind for kind, tensors in kinds for t in tensors}
        self._storages: dict[int, Any] = {}  # alive until the forward is over, so that ids are
        self._bytes: dict[tuple[str, str], int] = {}

    def hooks(self) -> AbstractContextManager[Any]:
        """The context in which it is told of what autograd keeps."""
        return saved_tensors_hooks(self._keep, _as_it_is)

    def found(self) -> tuple[Saved, ...]:
        """What was kept, in the order of the forward; nothing is held from now on."""
        self._storages.clear()
        return tuple(Saved(scope, kind, n) for (scope, kind), n in self._bytes.items() if n)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        held = _held(tensor)
        if id(held) not in self._storages:
            self._storages[id(held)] = held
            place = self._scope(), self._kinds.get(id(held), ACTIVATIONS)
            self._bytes[place] = self._bytes.get(place, 0) + _nbytes(tensor, held)
        return tensor


def _held(tensor: torch.Tensor) -> Any:
    """What holds a tensor's elements: its storage, or itself where it has none."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, or made of other tensors
        return tensor


def _nbytes(tensor: torch.Tensor, held: Any) -> int:
    if held is tensor:
        return int(tensor.numel() * tensor.dtype.itemsize)
    return int(held.nbytes())


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
