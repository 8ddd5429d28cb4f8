"""Literals: the numbers that a program writes into tensors on meta, which torch throws away.

`torch.tensor([1, 2], device="meta")` makes a meta tensor of a Python list; no operator that runs
shows the numbers. While anybody wants to know of them in any thread, these functions are functions
around what they were. A TorchFunctionMode would see the same calls, and with them all other calls
of torch, which takes a quarter of the time of a count. For `x[:, [0, -1]]` see brackets.py.
One of these functions makes no tensor of numbers: attention, which attention.py runs in one kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils import _device

from flopdispatch.capture.attention import fused
from flopdispatch.capture.known import has_data
from flopdispatch.capture.private import unwatched, without_dispatch
from flopdispatch.errors import DataDependentError

# Told of a tensor without data and of what it was made of.
Listener = Callable[[torch.Tensor, Any], None]

_listeners: dict[int, tuple[Listener, ...]] = {}
_patching = threading.Lock()
_functions: dict[Any, Any] = {}  # by what they are around
_originals: list[tuple[Any, str, Any, Any]] = []  # where, name, original, what is there now

_thread = threading.get_ident

TENSOR = torch.tensor


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
            _script_as(_functions[original], original)
        now = _functions[original]
        _originals.append((where, name, own, now))
        setattr(where, name, now)


def _script_as(function: Any, original: Any) -> None:
    """Let TorchScript, which looks functions up by identity too, take one for another."""
    table: dict[int, str] = getattr(torch.jit._builtins, "_get_builtin_table", dict)()
    if id(original) in table:
        table[id(function)] = table[id(original)]


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
        try:
            made = call(*args, **kwargs)
        except RuntimeError:  # it is to have data, and is made of tensors without
            with unwatched():
                given = _asked(given)
            if place < len(args):
                made = call(*args[:place], given, *args[place + 1 :], **kwargs)
            else:
                made = call(*args, **{**kwargs, name: given})
        with unwatched():
            if isinstance(made, torch.Tensor) and not has_data(made):
                for listener in listeners:
                    listener(made, given)
        return made

    return literal


def _listens() -> bool:
    """Whether this thread runs in `literals`."""
    return _thread() in _listeners


def _asked(data: Any) -> Any:
    """Nested lists with the values of tensors without data, which the program asks for."""
    if isinstance(data, list | tuple):
        return [_asked(item) for item in data]
    if not isinstance(data, torch.Tensor) or has_data(data):
        return data
    number = data.item()
    with without_dispatch():
        return TENSOR(number, dtype=data.dtype, device="cpu").reshape(data.shape)


def _formatted(original: Callable[..., Any]) -> Callable[..., Any]:
    """`f"{x}"`, which shows the number in a tensor that has one, except on meta."""

    @wraps(original)
    def text(self: Any, spec: str) -> Any:
        if _listens() and type(self) is torch.Tensor:
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
    (torch.Tensor, "__format__", _formatted),
    (functional, "scaled_dot_product_attention", partial(fused, active=_listens)),
)
