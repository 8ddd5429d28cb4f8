"""Bytes (read, written) of operators that touch less than all of their arguments.

For the families to pass as `nbytes=`; everything else is priced by `traffic`.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

Mask = tuple[bool, ...]  # which gradients a backward is asked for


def nothing() -> tuple[int, int]:
    """A change of metadata, or memory that is reserved but not touched."""
    return 0, 0


def writes(result: Any) -> tuple[int, int]:
    """What fills its result from nothing: creation, fills, random numbers."""
    return 0, size(result)


def named(table: TensorSpec, elements: int) -> int:
    """So many elements of a table that indices name: each once, however often they name it."""
    return min(size(table), elements * table.dtype.itemsize)


def gradients(result: Any, asked: Mask) -> int:
    """What is written of a backward's results: those asked for, though a kernel may give more."""
    return size([one for one, wanted in zip(result or (), asked) if wanted])


def factor_gradients(
    grad: TensorSpec, left: TensorSpec, right: TensorSpec, asked: Mask, result: Any
) -> tuple[int, int]:
    """The gradients of a product's factors: that of the left one needs the right one, and so on.

    `asked` says which of (left, right) are wanted; what else is, needs `grad` alone.
    """
    by_left, by_right, *_ = asked
    read = size(grad, right if by_left else None, left if by_right else None)
    return read, gradients(result, asked)


def weighted_gradients(
    grad_output: TensorSpec,
    self: TensorSpec,
    weight: TensorSpec,
    output_mask: Mask,
    result: tuple[TensorSpec | None, ...],
) -> tuple[int, int]:
    """`factor_gradients` of a layer's backward, whose schema has these names."""
    return factor_gradients(grad_output, self, weight, output_mask, result)


def takes(result: TensorSpec) -> tuple[int, int]:
    """A copy of a part of a tensor, which is all of it that is read."""
    return size(result), size(result)
