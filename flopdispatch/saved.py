"""Saved: what autograd keeps of a forward for the backward, by module."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

from flopdispatch.capture.scopes import ScopeTracker

ROWS = "crow_indices", "col_indices", "values"
COLUMNS = "ccol_indices", "row_indices", "values"
# What gives the tensors that a sparse one is made of.
PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ROWS,
    torch.sparse_bsr: ROWS,
    torch.sparse_csc: COLUMNS,
    torch.sparse_bsc: COLUMNS,
}

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


class Kept:
    """A tensor that a graph keeps, in its stead: it goes when the graph goes."""

    __slots__ = ("__weakref__", "scope", "tensor")

    def __init__(self, scope: str, tensor: torch.Tensor) -> None:
        self.scope = scope
        self.tensor = tensor


class SavedTensors:
    """Notes what autograd keeps while it is `noting`; the tracker tells which module runs.

    A storage is kept once, for the first that needs it, and whole, if a part of it is needed.
    What goes with its graph before any backward has taken it isn't kept.
    """

    def __init__(self, tracker: ScopeTracker) -> None:
        self._tracker = tracker
        self._kept: list[weakref.ref[Kept]] = []
        self._taken: list[Kept] = []  # by a backward within the forward, which frees its graph
        self._noting = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """The context in which it is told of what autograd keeps."""
        self._noting = True
        try:
            with saved_tensors_hooks(self._keep, self._take):
                yield
        finally:
            self._noting = False

    def found(
        self, parameters: Iterable[torch.Tensor], inputs: Iterable[torch.Tensor]
    ) -> tuple[Saved, ...]:
        """What was kept, in the order of the forward; nothing is held from now on.

        `parameters` are those of a module that runs on stand-ins; all others are found.
        """
        parameters = [*parameters, *self._tracker.tree.tensors()]
        there = [*[(t, INPUTS) for t in inputs], *[(t, PARAMETERS) for t in parameters]]
        # Holders are held on to, so that their ids are theirs alone.
        kinds = {id(held): (kind, held) for t, kind in there for held in holders(t)}
        seen: dict[int, Any] = {}
        nbytes: dict[tuple[str, str], int] = {}
        for kept in [found for reference in self._kept if (found := reference()) is not None]:
            for held in holders(kept.tensor):
                if id(held) not in seen:
                    seen[id(held)] = held
                    place = kept.scope, kinds.get(id(held), (ACTIVATIONS,))[0]
                    nbytes[place] = nbytes.get(place, 0) + _nbytes(held)
        self._kept, self._taken = [], []
        return tuple(Saved(scope, kind, n) for (scope, kind), n in nbytes.items() if n)

    def _keep(self, tensor: torch.Tensor) -> Kept:
        kept = Kept(self._tracker.current.name, detached(tensor))
        self._kept.append(weakref.ref(kept))
        return kept

    def _take(self, kept: Kept) -> torch.Tensor:
        if self._noting:
            self._taken.append(kept)
        return kept.tensor


def detached(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements without their node: it would be kept by what it keeps, and leak."""
    with _disable_current_modes():
        return tensor.detach()


def holders(tensor: torch.Tensor) -> list[Any]:
    """What holds a tensor's elements: its storage, those of its parts, or itself, if opaque."""
    return [held for part in parts(tensor) for held in holders(part)] or [_storage(tensor)]


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that one is made of, indices too; none of one that has elements of its own."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [getattr(tensor, name) for name in names]
    if tensor.layout not in PARTS:
        return []
    with _disable_current_modes():
        return [getattr(tensor, name)() for name in PARTS[tensor.layout]]


def _storage(tensor: torch.Tensor) -> Any:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # in a library's own layout
        return tensor


def _nbytes(held: Any) -> int:
    return int(held.nbytes if isinstance(held, torch.Tensor) else held.nbytes())
