"""Keys: a call as nested plain tuples, built on the hot path.

A tensor is (shape, stride, dtype, device) with a torch.Size in front, and more behind if it is
sparse (how many elements it stores) or nested (the shapes inside). A list is a tuple, a number
that isn't an int carries its type (1, 1.0 and True are different calls). Nothing in a key keeps a
tensor, a module or another object of the user's alive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from flopdispatch.capture.private import SPARSE, shapes_inside, stored
from flopdispatch.spec import TensorSpec

Key = Any

_PLAIN = frozenset(
    {int, type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format}
)
_NUMBERS = frozenset({float, bool, complex})
NAN = (float, "nan")  # nan != nan would make every call with one a new one
_INT = frozenset({int})
_KEYWORDS = object()  # between a call's positional arguments and its keyword arguments
_Tensor, _Parameter, _strided = torch.Tensor, torch.nn.Parameter, torch.strided
_default_dtype = torch.get_default_dtype

SMALL = 8  # up to here a number may choose between algorithms (a norm's p, a dimension)


@dataclass(frozen=True, slots=True)
class ByText:
    """An argument that can't be kept or hashed, known by its type and text only."""

    kind: str
    text: str


def plain_call(func: Any, args: Any, kwargs: Any) -> Key:
    """The key of a call of which every argument is plain: see `plain_key`.

    It begins with the operator and what else decides the result: torch's default dtype. This
    runs once an operator, so the commonest kinds of argument are told apart here.

    Raises: TypeError or AttributeError where `key_of` is needed.
    """
    key: list[Any] = [id(func), _default_dtype()]
    for value in args:
        kind = type(value)
        if kind is _Tensor or kind is _Parameter:
            stride = value.stride()
            if (not stride or 0 in stride) and value.layout is not _strided:
                raise TypeError(value.layout)
            key.append((value.shape, stride, value.dtype, value.device))
        elif kind in _PLAIN:
            key.append(value)
        elif kind is list and _INT.issuperset(map(type, value)):
            key.append(tuple(value))
        else:
            key.append(plain_key(value))
    if kwargs:
        key += [_KEYWORDS, *[(name, plain_key(kwargs[name])) for name in kwargs]]
    return tuple(key)


def careful_call(func: Any, args: Any, kwargs: Any) -> Key:
    """The key of any call; it is never that of a plain call, even of the same metadata."""
    key = [~id(func), _default_dtype(), *map(key_of, args)]
    if kwargs:
        key += [_KEYWORDS, *((name, key_of(kwargs[name])) for name in kwargs)]
    return tuple(key)


def plain_key(value: Any) -> Key:
    """The key of one argument that is a dense tensor of no subclass, or a plain value.

    Raises: TypeError for any other, AttributeError or RuntimeError for a tensor without strides.
    """
    kind = type(value)
    if kind is _Tensor or kind is _Parameter:
        stride = value.stride()
        if (not stride or 0 in stride) and value.layout is not _strided:  # sparse: all zeros
            raise TypeError(value.layout)
        return (value.shape, stride, value.dtype, value.device)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return tuple([plain_key(item) for item in value])
    if kind in _NUMBERS:
        return (kind, value) if value == value else NAN  # noqa: PLR0124 (nan)
    raise TypeError(kind)


def result_key(value: Any) -> Key:
    """The key of a result: that of `key_of`, most of them without its care."""
    try:
        return plain_key(value)
    except Exception:  # as for `plain_call`
        return key_of(value)


def key_of(value: Any) -> Key:
    """The key of anything: subclasses of Tensor, tensors without strides, unknown objects."""
    if isinstance(value, torch.Tensor):
        return _tensor_key(value)
    if isinstance(value, list | tuple):
        return tuple([key_of(item) for item in value])
    if isinstance(value, Mapping):
        return tuple([(name, key_of(item)) for name, item in value.items()])
    if type(value) in _PLAIN:
        return value
    if isinstance(value, bool | int | float | complex):
        return (type(value), value) if value == value else NAN  # noqa: PLR0124 (nan)
    kind = type(value)
    text = str(value) if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) else ""
    return ByText(f"{kind.__module__}.{kind.__qualname__}", text)


def _tensor_key(value: torch.Tensor) -> Key:
    more: tuple[Any, ...] = ()
    try:
        stride = tuple(value.stride()) if value.layout is torch.strided else None
    except Exception:  # nested tensors have none
        stride = None
    try:
        shape: Any = torch.Size(value.shape)
    except Exception:  # nested, in strided layout: its elements in a row
        shape, stride = torch.Size((value.numel(),)), (1,)
        more = (None, shapes_inside(value)) if value.is_nested else ()
    if not all(type(size) is int for size in (*shape, *(stride or ()))):
        shape, stride = _hints(shape), stride and tuple(_hints(stride))
    if value.layout in SPARSE:
        more = (stored(value),)
    return (shape, stride, value.dtype, value.device, *more)


def is_tensor_key(key: Key) -> bool:
    """Whether a key is a tensor's."""
    return type(key) is tuple and len(key) >= 4 and type(key[0]) is torch.Size


def has_complex(key: Key) -> bool:
    """Whether a complex tensor or number is in a key."""
    if type(key) is tuple:
        if is_tensor_key(key):
            return bool(key[2].is_complex)
        return any(map(has_complex, key))
    return key is complex or (type(key) is torch.dtype and key.is_complex)


def _hints(sizes: Any) -> torch.Size:
    """Symbolic sizes as the integers that they stand for now, adding no guard on them."""
    return torch.Size(size if type(size) is int else size.node.hint for size in sizes)


def value_of(key: Key) -> Any:
    """The argument that a key stands for, tensors as TensorSpec."""
    if type(key) is not tuple:
        return key
    if is_tensor_key(key):
        shape, stride, dtype, device, *more = key
        return TensorSpec(tuple(shape), dtype, stride, device, *more)
    if key == NAN:
        return math.nan  # the same object each time, so that equal calls compare equal
    if len(key) == 2 and key[0] in _NUMBERS:
        return key[1]
    return tuple(value_of(item) for item in key)


def without_numbers(key: Key) -> Key:
    """A key with its numbers left out, but for small multiples of one half and tensors' sizes."""
    if type(key) is tuple:
        if len(key) == 2 and key[0] in _NUMBERS:
            return key if key[0] is bool or _is_small(key[1]) else key[0]
        if key and type(key[0]) is torch.Size:
            return key
        return tuple([without_numbers(item) for item in key])
    return int if type(key) is int and not _is_small(key) else key


def _is_small(number: Any) -> bool:
    return type(number) in (int, float) and -SMALL <= number <= SMALL and number * 2 % 1 == 0
