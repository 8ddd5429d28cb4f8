"""Bytes that a call reads and writes, from its specs alone: what eager execution moves."""

from __future__ import annotations

from functools import cache
from typing import Any

from flopdispatch.spec import OpCall, tensors
from flopdispatch.variants import inputs


def traffic(call: OpCall) -> tuple[int, int]:
    """(bytes read, bytes written) by the rules that hold for nearly every operator.

    Counts: each input once and each output once, at its dtype's size; a dimension of stride
    0 once; a view nothing; an in-place operator reads and writes its target; an `out=`
    tensor is written only.

    Ignores: an argument that is passed twice is read twice, since a spec has no identity; what a
    stride or a smaller size skips (a 1x1 convolution of stride 2, subsampling) is read like the
    rest, since memory comes in lines.
    """
    roles = _roles(call.overload)
    if roles is None:
        return 0, 0
    targets, returned = roles
    read, written = sum([t.nbytes for t in inputs(call)]), 0
    if targets:
        values = call.arguments()
        written = size([values[name] for name in targets])
    if any(returned):
        results = call.result if len(returned) > 1 else (call.result,)
        written += sum([size(value) for own, value in zip(returned, results or ()) if own])
    return read, written


@cache
def _roles(overload: Any) -> tuple[tuple[str, ...], tuple[bool, ...]] | None:
    """Which arguments are written and not returned, and which returns are written; None for views.

    An `out=` tensor has its size when it is returned: it may be resized.
    """
    schema = getattr(overload, "_schema", None)
    if schema is None or is_view(schema):
        return None
    returned = [r.alias_info for r in schema.returns]
    sets = [alias.before_set for alias in returned if alias is not None and alias.is_write]
    targets = [
        a.name
        for a in schema.arguments
        if a.alias_info is not None
        and a.alias_info.is_write
        and a.alias_info.before_set not in sets
    ]
    return tuple(targets), tuple(alias is None or alias.is_write for alias in returned)


def size(*values: Any) -> int:
    """Bytes held by all tensors in these arguments or results."""
    return sum([t.nbytes for t in tensors(values)])


def is_view(schema: Any) -> bool:
    """Whether every result is a view of an argument: nothing is read or written."""
    return bool(schema.returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in schema.returns
    )
