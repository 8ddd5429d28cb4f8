"""Patterns: what one call's result tells of calls of the same operator on other sizes.

Where the sizes of an operator's results are sizes of its arguments (a sum, a product of
matrices, a normalization; not a convolution), the metadata that one kernel worked out holds
for every call that differs from it in nothing but which sizes they are. A pattern is a key
with each size above 1 replaced by the number of its first place: (8, 96, 7, 7) reads as
(a, b, c, c). Arguments are dense, or rows of wider tensors; results are dense, so that their
strides follow from the sizes and the order of the dimensions in memory.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch

from flopdispatch.capture.keys import Key

# Operators of which every size of a result is a size of an argument, or 1, besides pointwise ones.
_COPYING = (
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "native_layer_norm", "native_layer_norm_backward",
    "native_batch_norm", "native_batch_norm_backward", "_softmax", "_softmax_backward_data",
    "_safe_softmax", "_log_softmax", "_log_softmax_backward_data", "sum", "mean", "amax", "amin",
    "roll", "flip", "tril", "triu", "embedding", "zeros_like", "ones_like",
    "empty_like", "full_like", "cumsum", "native_dropout",
    "stack",
)  # fmt: skip

# Their arguments that are sizes too: by place.
_SIZES = {"native_layer_norm": 1, "native_layer_norm_backward": 2}


# The places of sizes that stand for themselves: these decide what is empty, what is broadcast.
LITERAL = {0: -1, 1: -2}


@cache
def _copies_sizes(overload: Any) -> bool:
    name = overload._schema.name.removeprefix("aten::")
    return name in _COPYING or torch.Tag.pointwise in overload.tags


def size_argument(overload: Any) -> int:
    """The place of the argument that is sizes, -2 if there is none."""
    return _SIZES.get(overload._schema.name.removeprefix("aten::"), -2)


def number_of_tensors(overload: Any, args: Any) -> int | None:
    """How many tensors an operator stacks: a size of its result that is none of an argument."""
    return len(args[0]) if overload._schema.name == "aten::stack" else None


def pattern_of(overload: Any, key: Key) -> tuple[Key, dict[int, int]] | None:
    """A plain call's key with its sizes replaced, and the place of each size, if it has one."""
    if not _copies_sizes(overload):
        return None
    places = dict(LITERAL)
    sizes = size_argument(overload) + 2
    parts: list[Any] = []
    for place, part in enumerate(key):
        found = _replaced(part, places, place == sizes)
        if found is None:
            return None
        parts.append(found)
    return tuple(parts), places


def _replaced(part: Any, places: dict[int, int], is_size: bool) -> Any:
    """An argument's key with its sizes replaced; None for a tensor of unusual strides."""
    if type(part) is not tuple:
        return (part,)
    if is_size:
        return tuple([places.setdefault(size, len(places)) for size in part])
    if len(part) == 4 and type(part[0]) is torch.Size:
        shape, stride, dtype, device = part
        if 0 in shape:
            return None  # of tensors without elements the kernels choose the strides freely
        order = order_of(shape, stride)
        if order is None:
            return None
        sizes = tuple([places.setdefault(size, len(places)) for size in shape])
        return sizes, order, dtype, device
    items = []
    for item in part:
        found = _replaced(item, places, False)
        if found is None:
            return None
        items.append(found)
    return tuple(items)


def order_of(shape: Any, stride: Any) -> tuple[tuple[int, ...], bool] | None:
    """The dimensions from the outermost in memory, and whether these are rows of wider ones.

    None for other strides: overlapping ones, or with gaps inside of rows.
    """
    order = tuple(range(len(shape)))
    if stride == strides_in(order, shape):
        return order, False
    if min(shape) < 2:
        return None  # the stride of one element says nothing, and kernels read it differently
    order = tuple(sorted(order, key=stride.__getitem__, reverse=True))
    if stride == strides_in(order, shape):
        return order, False
    inside = all(stride[i] >= stride[j] * shape[j] for i, j in pairwise(order))
    return (order, True) if inside and stride[order[-1]] == 1 else None


def strides_in(order: Any, shape: Any) -> tuple[int, ...]:
    """The strides that a dense tensor of this shape has, its dimensions in this order."""
    strides = [1] * len(shape)
    step = 1
    for place in reversed(order):
        strides[place] = step
        step *= shape[place] or 1
    return tuple(strides)


# A recipe (see meta.py) in places instead of sizes: a tensor is (places, order, dtype).


def template_of(recipe: Any, places: dict[int, int], number: int | None = None) -> Any:
    """A recipe with its sizes replaced, None if it has one that no argument has.

    `number` is a size that stands for itself too, unless an argument has one like it.
    """
    if number is not None:
        if places.get(number, -1) > 0:
            return None
        places = {**places, number: -1 - number}
    if recipe is None:
        return ()
    if type(recipe) is list:
        items = [template_of(item, places) for item in recipe[1:]]
        return None if None in items else [recipe[0], *items]
    shape, stride, dtype = recipe
    order = order_of(shape, stride)
    if order is None or order[1] or not all(size in places for size in shape):
        return None
    return tuple([places[size] for size in shape]), order[0], dtype


def recipe_of(template: Any, places: dict[int, int]) -> Any:
    """The recipe for the sizes of another call of the same pattern."""
    sizes = {place: size for size, place in places.items() if place > 0}
    return _filled(template, sizes)


def _filled(template: Any, sizes: dict[int, int]) -> Any:
    if template == ():
        return None
    if type(template) is list:
        return [template[0], *[_filled(item, sizes) for item in template[1:]]]
    places, order, dtype = template
    shape = torch.Size([sizes[p] if p > 0 else -1 - p for p in places])
    return shape, strides_in(order, shape), dtype
