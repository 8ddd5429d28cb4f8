"""Patterns: what one call's result tells of calls of the same operator on other sizes.

Where the sizes of an operator's results are sizes of its arguments (a sum, a product of
matrices, a normalization; not a convolution), the metadata that one kernel worked out holds
for every call that differs from it in nothing but which sizes they are. A pattern is a key
with each size above 1 replaced by the number of its first place: (8, 96, 7, 7) reads as
(a, b, c, c). Only contiguous arguments and results have one, so that strides follow from sizes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from flopdispatch.capture.keys import Key

# Operators of which every size of a result is a size of an argument, or 1, besides pointwise ones.
_COPYING = (
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "native_layer_norm", "native_layer_norm_backward",
    "native_batch_norm", "native_batch_norm_backward", "_softmax", "_softmax_backward_data",
    "_safe_softmax", "_log_softmax", "_log_softmax_backward_data", "sum", "mean", "amax", "amin",
    "clone", "roll", "flip", "tril", "triu", "embedding", "zeros_like", "ones_like",
    "empty_like", "full_like", "cumsum", "native_dropout",
)  # fmt: skip

# Their arguments that are sizes too: by place.
_SIZES = {"native_layer_norm": 1, "native_layer_norm_backward": 2}


@cache
def _copies_sizes(overload: Any) -> bool:
    name = overload._schema.name.removeprefix("aten::")
    return name in _COPYING or torch.Tag.pointwise in overload.tags


def pattern_of(overload: Any, key: Key) -> tuple[Key, dict[int, int]] | None:
    """A plain call's key with its sizes replaced, and the place of each size, if it has one."""
    if not _copies_sizes(overload):
        return None
    places: dict[int, int] = {0: -1, 1: -2}
    sizes = _SIZES.get(overload._schema.name.removeprefix("aten::"), -1) + 2
    parts: list[Any] = []
    for place, part in enumerate(key):
        found = _replaced(part, places, place == sizes)
        if found is None:
            return None
        parts.append(found)
    return tuple(parts), places


def _replaced(part: Any, places: dict[int, int], is_size: bool) -> Any:
    """An argument's key with its sizes replaced; None for a tensor that is not contiguous."""
    if type(part) is not tuple:
        return (part,)
    if is_size:
        return tuple([places.setdefault(size, len(places)) for size in part])
    if len(part) == 4 and type(part[0]) is torch.Size:
        shape, stride, dtype, device = part
        if stride != contiguous(shape):
            return None
        return tuple([places.setdefault(size, len(places)) for size in shape]), dtype, device
    items = []
    for item in part:
        found = _replaced(item, places, False)
        if found is None:
            return None
        items.append(found)
    return tuple(items)


def contiguous(shape: Any) -> tuple[int, ...]:
    """The strides that a fresh contiguous tensor of this shape has."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size or 1
    return tuple(strides[::-1])


# A recipe (see meta.py) in places instead of sizes: a tensor is (places, dtype).


def template_of(recipe: Any, places: dict[int, int]) -> Any:
    """A recipe with its sizes replaced, None if it has one that no argument has."""
    if recipe is None:
        return ()
    if type(recipe) is list:
        items = [template_of(item, places) for item in recipe[1:]]
        return None if None in items else [recipe[0], *items]
    shape, stride, dtype = recipe
    if stride != contiguous(shape) or not all(size in places for size in shape):
        return None
    return tuple([places[size] for size in shape]), dtype


def recipe_of(template: Any, places: dict[int, int]) -> Any:
    """The recipe for the sizes of another call of the same pattern."""
    sizes = {place: size for size, place in places.items()}
    return _filled(template, sizes)


def _filled(template: Any, sizes: dict[int, int]) -> Any:
    if template == ():
        return None
    if type(template) is list:
        return [template[0], *[_filled(item, sizes) for item in template[1:]]]
    shape = torch.Size([sizes[place] for place in template[0]])
    return shape, contiguous(shape), template[1]
