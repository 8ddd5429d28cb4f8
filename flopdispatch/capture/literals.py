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
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils import _device

from flopdispatch.capture.known import LIMIT, has_data
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


def _told(original: Callable[..., Any], name: str = "data", place: int = 0) -> Callable[..., Any]:
    """A function that makes a tensor of numbers, its argument `name`, and tells of it."""

    @wraps(original)
    def literal(*args: Any, **kwargs: Any) -> Any:
        call = original
        if place and has_torch_function_unary(args[0]):  # torch would look up this function
            call = partial(handle_torch_function, original, args[:1])
        listeners = _listeners.get(_thread())
        given = args[place] if place < len(args) else kwargs.get(name)
        if listeners is None or given is None or isinstance(given, torch.Tensor):
            return call(*args, **kwargs)
        with unwatched():
            data = _with_numbers(given)
        if place < len(args):
            args = (*args[:place], data, *args[place + 1 :])
        else:
            kwargs = {**kwargs, name: data}
        made = call(*args, **kwargs)
        with unwatched():
            if isinstance(made, torch.Tensor) and not has_data(made) and made.numel() <= LIMIT:
                real = _real(data, made)
                if real is not None:
                    for listener in listeners:
                        listener(made, real)
        return made

    return literal


_tensor = torch.tensor


def _real(data: Any, made: torch.Tensor) -> torch.Tensor | None:
    """What was made of these numbers, on the CPU; None of what torch.tensor can't read."""
    with without_dispatch():
        try:
            real = _tensor(data, dtype=made.dtype, device="cpu")
        except Exception:  # memory in a form of its own, which only asarray takes
            return None
    return real if real.shape == made.shape else None


def _with_numbers(data: Any) -> Any:
    """Nested lists with tensors without data as tensors of what these hold."""
    if isinstance(data, list | tuple):
        return [_with_numbers(item) for item in data]
    if not isinstance(data, torch.Tensor) or has_data(data):
        return data
    if data.numel() != 1:
        return data.cpu()
    number = data.item()
    with without_dispatch():
        return _tensor(number, dtype=data.dtype, device="cpu").reshape(data.shape)


def _indexed(original: Callable[..., Any]) -> Callable[..., Any]:
    """`x[...]`, with numbers in the index made into tensors where they are told of."""

    @wraps(original)
    def item(self: Any, index: Any, *value: Any) -> Any:
        if _thread() in _listeners and _has_numbers(index):
            with unwatched():
                if self.is_meta:
                    index = _index(index, self.device)
        if has_torch_function_unary(self):  # torch would look up this function
            return handle_torch_function(original, (self,), self, index, *value)
        return original(self, index, *value)

    return item


def _has_numbers(index: Any) -> bool:
    if type(index) is tuple:
        return any(map(_has_numbers, index))
    return isinstance(index, list | range) or hasattr(index, "__array_interface__")


def _index(index: Any, device: torch.device) -> Any:
    """An index with tensors for its numbers; torch takes lists in a list for a tuple."""
    if type(index) is tuple or (type(index) is list and not all(map(_is_number, index))):
        return type(index)([_index(item, device) for item in index])
    if not _has_numbers(index):
        return index
    return torch.tensor(index, dtype=None if len(index) else torch.int64, device=device)


def _is_number(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, torch.Tensor)


def _formatted(original: Callable[..., Any]) -> Callable[..., Any]:
    """`f"{x}"`, which shows the number in a tensor that has one, except on meta."""

    @wraps(original)
    def text(self: Any, spec: str) -> Any:
        if _thread() in _listeners and type(self) is torch.Tensor:
            with unwatched():
                if self.is_meta and not self.dim():
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
    (torch, "asarray", partial(_told, name="obj")),
    (torch.Tensor, "new_tensor", partial(_told, place=1)),
    (torch.Tensor, "__getitem__", _indexed),
    (torch.Tensor, "__setitem__", _indexed),
    (torch.Tensor, "__format__", _formatted),
)
