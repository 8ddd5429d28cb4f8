"""Brackets: the lists in `x[:, [0, -1]]`, which torch throws away where `x` is on meta.

It makes a tensor of such a list below Python, where nobody sees the numbers. A `__getitem__` put
around torch's would, but a class with one is a sequence to C, and `torch.tensor([x, 1])` then fails
in all of the process. So the program's own line is read, which says what is in the brackets: a
list that is written there, or a name that has one. What else is there isn't known, and before
Python 3.11, which doesn't say which brackets of a line run, nothing is.
"""

from __future__ import annotations

import ast
import dis
import linecache
from itertools import islice
from typing import Any

import torch

from flopdispatch.capture.frames import caller
from flopdispatch.capture.known import Known, has_data
from flopdispatch.capture.literals import TENSOR
from flopdispatch.capture.private import unwatched, without_dispatch
from flopdispatch.capture.steps import given

# Operators whose second argument has a tensor for each list in brackets.
INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})

_SUBSCRIPTS = ("BINARY_SUBSCR", "STORE_SUBSCR", "BINARY_OP")  # the last one from Python 3.14 on
_UNTOLD = object()  # what isn't written there
_MANY = 32  # a list of as many items is never taken for a tuple of indices


def know_index(known: Known, index: torch.Tensor) -> None:
    """Know a tensor that torch has just made, if of the only list of its shape in brackets."""
    if has_data(index) or known.part(index) is not None:
        return
    with without_dispatch(), unwatched():
        made = [_made_of(item, index) for item in _items() or ()]
        fitting = [real for real in made if real is not None]
        one = bool(fitting) and all(torch.equal(real, fitting[0]) for real in fitting)
    if one:
        known.bind(index, given(fitting[0]))


def know_indices(known: Known, indices: Any) -> None:
    """Know what lists hold of which torch made the indices of the operator that runs now."""
    made = [index for index in indices if index is not None]
    if all(has_data(index) or known.part(index) is not None for index in made):
        return
    items = _items() or []
    if len(items) != len(made):  # what isn't known may be single numbers, which take no tensor
        items = [item for item in items if item is not _UNTOLD]
    if len(items) != len(made):
        return
    for index, item in zip(made, items):
        if not has_data(index) and known.part(index) is None:
            with without_dispatch(), unwatched():
                real = _made_of(item, index)
            if real is not None:
                known.bind(index, given(real))


def _made_of(item: Any, index: torch.Tensor) -> torch.Tensor | None:
    """What torch makes of a list in brackets; None of what is none, or can't have made `index`."""
    if not (isinstance(item, list | tuple | range) or hasattr(item, "__array_interface__")):
        return None
    try:
        real = TENSOR(item, device="cpu")
    except Exception:  # of other things than numbers
        return None
    fits = real.shape == index.shape and (real.dtype is torch.bool) == (index.dtype is torch.bool)
    return real.to(index.dtype) if fits else None


def _items() -> list[Any] | None:
    """What the brackets that the program is at hold for tensors in the index, None if none."""
    frame = caller()
    node = _brackets(frame)
    if node is None:
        return None
    index = _read(node, frame)
    if type(index) is tuple or (type(index) is list and _is_tuple(index)):
        return [item for item in index if _takes_tensor(item)]
    return [index]


def _brackets(frame: Any) -> ast.expr | None:
    """What is written in the brackets that a frame is at."""
    positions = getattr(frame.f_code, "co_positions", None)
    if positions is None or dis.opname[frame.f_code.co_code[frame.f_lasti]] not in _SUBSCRIPTS:
        return None
    place: Any = next(islice(positions(), frame.f_lasti // 2, None), (None,) * 4)
    if None in place:
        return None
    first, last, begin, end = place
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)[first - 1 : last]
    text = [line.encode() for line in lines]
    if not text:
        return None
    text[-1] = text[-1][:end]
    text[0] = text[0][begin:]
    try:
        found = ast.parse(b"(" + b"".join(text) + b")", mode="eval").body
    except SyntaxError:  # the file isn't the one that runs
        return None
    return found.slice if isinstance(found, ast.Subscript) else None


def _read(node: ast.expr, frame: Any) -> Any:
    """What is written, _UNTOLD for all that would have to be run."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id, _UNTOLD))
    if isinstance(node, ast.Slice):
        return slice(None)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _read(node.operand, frame)
        return -number if isinstance(number, int) else _UNTOLD
    if isinstance(node, ast.Tuple):
        return tuple([_read(item, frame) for item in node.elts])
    if isinstance(node, ast.List):
        return [_read(item, frame) for item in node.elts]
    return _UNTOLD


def _is_tuple(index: list[Any]) -> bool:
    """Whether torch takes a list for a tuple of indices."""
    kinds = (list, tuple, range, slice, torch.Tensor)
    return len(index) < _MANY and any(
        item is None or item is ... or isinstance(item, kinds) for item in index
    )


def _takes_tensor(item: Any) -> bool:
    """Whether an index has a tensor for this item, as it has none for a number or a slice."""
    if isinstance(item, torch.Tensor):
        return item.dim() > 0 or item.dtype in (torch.bool, torch.uint8)
    return not (item is None or item is ... or type(item) in (int, slice))
