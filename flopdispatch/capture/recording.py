"""Recording: how often each distinct call ran, by scope and phase.

A *key* is a call as nested plain tuples, built on the hot path: a tensor is (shape, stride,
dtype, device) with a torch.Size in front, a list is a tuple, a number that isn't an int
carries its type (1, 1.0 and True are different calls). Nothing in a key keeps a tensor, a
module or another object of the user's alive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from flopdispatch.spec import OpCall, TensorSpec

FORWARD, RECOMPUTE, BACKWARD, OPTIMIZER = PHASES = "forward", "recompute", "backward", "optimizer"

Key = Any
Bucket = dict[Key, list[int]]  # a distinct call and how often it ran, in one scope and phase

_PLAIN = frozenset(
    {int, type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format}
)
_NUMBERS = frozenset({float, bool, complex})
NAN = (float, "nan")  # nan != nan would make every call with one a new one

# Calls that differ in numbers only, of which one stands for all further ones: a step size or
# the start of a slice is new at every iteration, and the recording must not grow with it.
MAX_NUMBERS = 64
SMALL = 8  # up to here a number may choose between algorithms (a norm's p, a dimension)


@dataclass(frozen=True, slots=True)
class ByText:
    """An argument that can't be kept or hashed, known by its type and text only."""

    kind: str
    text: str


def key_of(value: Any, tensor: Any = torch.Tensor, parameter: Any = torch.nn.Parameter) -> Key:
    """The key of one argument or result."""
    kind = type(value)
    if kind is tensor or kind is parameter:
        stride = value.stride()
        if 0 in stride:  # expanded, or sparse: a sparse tensor's strides are zeros
            return careful_key(value)
        return (value.shape, stride, value.dtype, value.device)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return tuple([key_of(item) for item in value])
    if kind in _NUMBERS:
        return (kind, value) if value == value else NAN  # noqa: PLR0124 (nan)
    return careful_key(value)


def careful_key(value: Any) -> Key:
    """The key of anything: subclasses of Tensor, tensors without strides, unknown objects."""
    if isinstance(value, torch.Tensor):
        try:
            stride = tuple(value.stride()) if value.layout is torch.strided else None
        except Exception:  # nested tensors have none
            stride = None
        try:
            shape: Any = torch.Size(value.shape)
        except Exception:  # nested, in strided layout: its elements in a row
            shape, stride = torch.Size((value.numel(),)), (1,)
        if not all(type(size) is int for size in (*shape, *(stride or ()))):
            shape, stride = _hints(shape), stride and tuple(_hints(stride))
        return (shape, stride, value.dtype, value.device)
    if isinstance(value, list | tuple):
        return tuple([careful_key(item) for item in value])
    if isinstance(value, Mapping):
        return tuple([(name, careful_key(item)) for name, item in value.items()])
    if type(value) in _PLAIN:
        return value
    if isinstance(value, bool | int | float | complex):
        return (type(value), value) if value == value else NAN  # noqa: PLR0124 (nan)
    kind = type(value)
    text = str(value) if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) else ""
    return ByText(f"{kind.__module__}.{kind.__qualname__}", text)


def _hints(sizes: Any) -> torch.Size:
    """Symbolic sizes as the integers that they stand for now, adding no guard on them."""
    return torch.Size(size if type(size) is int else size.node.hint for size in sizes)


def value_of(key: Key) -> Any:
    """The argument that a key stands for, tensors as TensorSpec."""
    if type(key) is not tuple:
        return key
    if len(key) == 4 and type(key[0]) is torch.Size:
        shape, stride, dtype, device = key
        return TensorSpec(tuple(shape), dtype, stride, device)
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


def call_of(overload: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> OpCall:
    """The OpCall of a call that ran."""
    return OpCall(
        overload,
        tuple(value_of(careful_key(a)) for a in args),
        tuple((name, value_of(careful_key(value))) for name, value in kwargs.items()),
        value_of(careful_key(result)),
    )


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """One module: its scope, class, own parameters as (identity, elements), number of calls."""

    scope: str
    module_type: str
    params: tuple[tuple[int, int], ...]
    calls: int


@dataclass(slots=True)
class Recording:
    """What ran: for each scope and phase, its distinct calls and their numbers.

    Memory grows with the distinct (scope, phase, call), not with iterations. `alike` holds
    the calls that differ in nothing but numbers: at most MAX_NUMBERS of them are told apart.
    """

    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    calls: dict[Key, OpCall] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    alike: dict[Key, list[Key]] = field(default_factory=dict)

    def bucket(self, scope: str, phase: str) -> Bucket:
        """The counts of one scope and phase, to add to."""
        found = self.buckets.get((scope, phase))
        if found is None:
            found = self.buckets[scope, phase] = {}
        return found

    def add(self, bucket: Bucket, key: Key, result: Any) -> None:
        """Count one call that the bucket may not have seen before."""
        if key not in self.calls:
            key = self.stand_in(key, careful_key(result))
        cell = bucket.get(key)
        if cell is not None:
            cell[0] += 1
            return
        if key not in self.calls:
            overload, args, kwargs = key[:3]
            self.calls[key] = OpCall(
                overload,
                tuple(value_of(item) for item in args),
                tuple((name, value_of(item)) for name, item in kwargs or ()),
                value_of(careful_key(result)),
            )
        bucket[key] = [1]

    def stand_in(self, key: Key, result: Key) -> Key:
        """The call that a new one is counted as: itself, until too many like it are known."""
        pattern = without_numbers(key), without_numbers(result)
        known = self.alike.setdefault(pattern, [])
        if len(known) < MAX_NUMBERS:
            known.append(key)
            return key
        return known[-1]
