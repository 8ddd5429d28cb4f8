"""Bytes (read, written) of operators that touch less than all of their arguments.

For the families to pass as `nbytes=`; everything else is priced by `traffic`.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size


def nothing() -> tuple[int, int]:
    """A change of metadata, or memory that is reserved but not touched."""
    return 0, 0


def writes(result: Any) -> tuple[int, int]:
    """What fills its result from nothing: creation, fills, random numbers."""
    return 0, size(result)


def takes(result: TensorSpec) -> tuple[int, int]:
    """A copy of a part of a tensor, which is all of it that is read."""
    return size(result), size(result)
