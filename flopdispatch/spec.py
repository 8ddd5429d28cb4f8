"""TensorSpec and OpCall: all that a formula may see of the user's program."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from operator import mul
from typing import Any

import torch

from flopdispatch.errors import ArgumentError

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor is made of, without its data.

    Shapes: `shape` and `stride` count elements; `stride` is None where the layout has none
    (sparse, mkldnn). `nnz` is how many elements a sparse tensor stores, those of its blocks and
    dense dimensions included; None of a dense one. A nested tensor in strided layout is given as
    its elements in a row, `parts` are the shapes of the tensors in it; None of any other.

    Example:

        >>> TensorSpec((2, 3), torch.float16).numel
        6
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    stride: tuple[int, ...] | None = None
    device: torch.device = META
    nnz: int | None = None
    parts: tuple[tuple[int, ...], ...] | None = None

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that hold the elements; what repeats or overlaps by its strides is held once.

        Ignores: the indices of a sparse tensor.
        """
        if self.stride is None:
            return (self.numel if self.nnz is None else self.nnz) * self.dtype.itemsize
        held = math.prod(self.shape)
        if held:
            # Places from the first to the last, (n - 1)·s further on in each dimension.
            held = min(held, 1 + sum(map(mul, self.shape, self.stride)) - sum(self.stride))
            if 0 in self.stride:
                held = min(held, math.prod(n for n, s in zip(self.shape, self.stride) if s))
        return held * self.dtype.itemsize


def spec(*shape: int, dtype: torch.dtype | None = None) -> TensorSpec:
    """A contiguous tensor to be, for `count`.

    Shapes: the sizes, as separate integers. `dtype` is torch's default dtype if not given.

    Raises: ArgumentError if a size is not an integer >= 0 or `dtype` is no torch.dtype.

    Example:

        >>> spec(2, 128, dtype=torch.long).nbytes
        2048
    """
    for size in shape:
        if type(size) is not int or size < 0:
            raise ArgumentError(
                f"spec() takes sizes as separate integers >= 0, got {size!r} in {shape!r}; "
                "write spec(2, 3), not spec((2, 3))"
            )
    if dtype is None:
        dtype = torch.get_default_dtype()
    if not isinstance(dtype, torch.dtype):
        raise ArgumentError(f"spec() takes dtype as a torch.dtype, got {dtype!r}")
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return TensorSpec(shape, dtype, tuple(reversed(strides)) if shape else ())


@dataclass(frozen=True, slots=True)
class OpCall:
    """One distinct call: an overload, its arguments and its result, tensors as specs.

    `args` and `kwargs` are as the dispatcher gave them, trailing defaults left out. `taken` is
    what was taken from the tensors when it ran, for an operator whose cost lies in their values.
    """

    overload: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    result: Any
    taken: tuple[int, ...] | None = None

    def arguments(self) -> dict[str, Any]:
        """All arguments by their schema names, defaults filled in."""
        names, defaults = signature(self.overload)
        bound = dict(zip(names, defaults))
        bound.update(zip(names, self.args))
        bound.update(self.kwargs)
        return bound


@cache
def signature(overload: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names of an overload's arguments and their defaults (None where there is none).

    A higher-order operator has no schema: they are those of its Python method.
    """
    schema = getattr(overload, "_schema", None)
    if schema is not None:
        arguments = schema.arguments
        return tuple(a.name for a in arguments), tuple(a.default_value for a in arguments)
    found = inspect.signature(type(overload).__call__).parameters.values()
    known = [p for p in found if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    none = inspect.Parameter.empty
    return tuple(p.name for p in known), tuple(
        None if p.default is none else p.default for p in known
    )


def tensors(value: Any) -> list[TensorSpec]:
    """The specs in an argument or a result, in order."""
    kind = type(value)
    if kind is TensorSpec:
        return [value]
    if kind is tuple or kind is list:
        return [found for item in value for found in tensors(item)]
    return []
