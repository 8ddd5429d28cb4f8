"""Literals: the numbers that a program writes into tensors on meta, which torch throws away.

`torch.tensor([1, 2], device="meta")` and `x[:, [0, -1]]` make a meta tensor of a Python list; no
operator that runs shows the numbers. While anybody wants to know of them in any thread, these
functions are functions around what they were. A TorchFunctionMode would see the same calls, and
with them all other calls of torch, which takes a quarter of the time of a count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch.utils import _device

from flopdispatch.capture.known import has_data
from flopdispatch.capture.private import unwatched, without_dispatch
from flopdispatch.errors import DataDependentError

# Told of a literal on meta and of the same on the CPU.
Listener = Callable[[torch.Tensor, torch.Tensor], None]

_listeners: dict[int, tuple[Listener, ...]] = {}
_patching = threading.Lock()
_functions: dict[Any, Any] = {}  # by what they are around
_originals: list[tuple[Any, str, Any, Any]] = []  # where, name, original, what is there now

_thread = threading.get_ident


@contextmanager
def literals(listener: Listener) -> Iterator[None]:
    """Tell it of the literals on meta that this thread makes."""
    with _patching:
        if not _listeners:
            _install()
        before = _listeners.get(_thread(), ())
        _listeners[_thread()] = (*before, listener)
    try:
        yield
    finally:
        with _patching:
            left = list(_listeners[_thread()])
            left.remove(listener)
            if left:
                _listeners[_thread()] = tuple(left)
            else:
                del _listeners[_thread()]
            if not _listeners:
                _remove()


def _install() -> None:
    # torch looks these functions up by identity, once: before they are others.
    getattr(_device, "_device_constructors", tuple)()
    for where, name, around in _WATCHED:
        own, original = vars(where).get(name), getattr(where, name)
        if original not in _functions:
            _functions[original] = around(original)
        now = _functions[original]
        _originals.append((where, name, own, now))
        setattr(where, name, now)


def _remove() -> None:
    for where, name, own, now in _originals:
        if vars(where).get(name) is not now:  # one that was put around ours stays
            continue
        if own is None:
            delattr(where, name)
        else:
            setattr(where, name, own)
    _originals.clear()


@contextmanager
def as_they_were() -> Iterator[None]:
    """Let these functions be torch's own: the compiler looks them up by identity, once too."""
    with _patching:
        patched = bool(_originals)
        if patched:
            _remove()
    try:
        yield
    finally:
        with _patching:
            if patched and _listeners and not _originals:
                _install()


def _told(original: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
    """A function that makes a tensor of numbers, its argument `place`, and tells of it."""

    @wraps(original)
    def literal(*args: Any, **kwargs: Any) -> Any:
        listeners = _listeners.get(_thread())
        if listeners is None:
            return original(*args, **kwargs)
        if place >= len(args):
            return original(*args, **kwargs)
        data = _numbers(args[place])
        args = (*args[:place], data, *args[place + 1 :])
        made = original(*args, **kwargs)
        if isinstance(data, int | float | complex | list | tuple) and not has_data(made):
            with without_dispatch(), unwatched():
                real = torch.empty(made.shape, dtype=made.dtype)
                real.copy_(_tensor(data, dtype=made.dtype, device="cpu"))
            for listener in listeners:
                listener(made, real)
        return made

    return literal


_tensor = torch.tensor


def _numbers(data: Any) -> Any:
    """Nested lists with tensors without data as the numbers that they hold."""
    if isinstance(data, list | tuple):
        return [
            item.tolist()
            if isinstance(item, torch.Tensor) and not has_data(item)
            else _numbers(item)
            for item in data
        ]
    return data


def _indexed(original: Callable[..., Any]) -> Callable[..., Any]:
    """`x[...]`, with lists of numbers in the index made into tensors where they are told of."""

    @wraps(original)
    def item(self: Any, index: Any, *value: Any) -> Any:
        if _thread() in _listeners and self.is_meta:
            if type(index) is list:
                index = _index(self, index)
            elif type(index) is tuple and list in map(type, index):
                index = tuple([_index(self, one) for one in index])
        return original(self, index, *value)

    return item


def _index(tensor: torch.Tensor, index: Any) -> Any:
    if type(index) is not list or not index or not all(isinstance(one, int) for one in index):
        return index
    return torch.tensor(index, device=tensor.device)


def _formatted(original: Callable[..., Any]) -> Callable[..., Any]:
    """`f"{x}"`, which shows the number in a tensor that has one, except on meta."""

    @wraps(original)
    def text(self: Any, spec: str) -> Any:
        if _thread() in _listeners and self.is_meta and not self.dim():
            try:
                return format(self.item(), spec)
            except DataDependentError:
                pass
        return original(self, spec)

    return text


# What is watched: of what, which, and how.
_WATCHED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (torch, "tensor", _told),
    (torch, "as_tensor", _told),
    (torch, "asarray", _told),
    (torch.Tensor, "new_tensor", partial(_told, place=1)),
    (torch.Tensor, "__getitem__", _indexed),
    (torch.Tensor, "__setitem__", _indexed),
    (torch.Tensor, "__format__", _formatted),
)
