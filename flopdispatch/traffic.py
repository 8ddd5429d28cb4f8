"""Bytes that a call reads and writes, from its specs alone: what eager execution moves."""

from __future__ import annotations

from typing import Any

from flopdispatch.spec import OpCall, tensors
from flopdispatch.variants import is_out


def traffic(call: OpCall) -> tuple[int, int]:
    """(bytes read, bytes written) by the rules that hold for nearly every operator.

    Counts: each input once and each output once, at its dtype's size; a dimension of stride
    0 once; a view nothing; an in-place operator reads and writes its target; an `out=`
    tensor is written only.

    Ignores: an argument that is passed twice is read twice, since a spec has no identity.
    """
    schema = getattr(call.overload, "_schema", None)
    if schema is None or is_view(schema):
        return 0, 0
    values = call.arguments()
    read = written = 0
    for argument in schema.arguments:
        nbytes = size(values[argument.name])
        if not is_out(argument):
            read += nbytes
        if argument.alias_info is not None and argument.alias_info.is_write:
            written += nbytes
    results = call.result if len(schema.returns) > 1 else (call.result,)
    for returned, value in zip(schema.returns, results or ()):
        if returned.alias_info is None:
            written += size(value)
    return read, written


def size(*values: Any) -> int:
    """Bytes held by all tensors in these arguments or results."""
    return sum(t.nbytes for t in tensors(values))


def is_view(schema: Any) -> bool:
    """Whether every result is a view of an argument: nothing is read or written."""
    return bool(schema.returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in schema.returns
    )
