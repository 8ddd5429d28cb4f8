"""Examples: a pattern's template from one tiny run on the CPU.

The first call of a pattern would run its kernel on meta, in Python: milliseconds, and seconds
for the first of a process, in which PyTorch imports what these kernels need. Where CPU and
meta give results of the same metadata, the CPU's own kernel is asked instead, for tensors of
the same pattern with sizes 2, 3, 4, ...: microseconds.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch

from flopdispatch.capture.keys import plain_call
from flopdispatch.capture.patterns import number_of_tensors, order_of
from flopdispatch.capture.private import cpu_autocast, runs_on_meta

# Operators besides pointwise ones whose results of contiguous arguments are alike on both.
_ALIKE = (
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "_softmax",
    "_softmax_backward_data", "_safe_softmax", "_log_softmax", "_log_softmax_backward_data",
    "sum", "mean", "amax", "amin", "roll", "flip", "tril", "triu", "embedding", "stack",
)  # fmt: skip

# Operators whose results of contiguous arguments are alike on both if all are float32: of
# others the two keep different statistics.
_ALIKE_IN_FLOAT32 = ("native_layer_norm", "native_layer_norm_backward")

# Those of which the results of transposed arguments are alike too, and those of narrowed ones.
_ALIKE_STRIDED = (
    "mm", "bmm", "addmm", "baddbmm", "add", "sub", "mul", "div", "neg", "exp", "sigmoid", "tanh",
    "relu", "gelu", "silu", "add_", "sub_", "mul_", "div_", "sigmoid_", "tanh_", "relu_",
)  # fmt: skip

# More elements than this aren't tiny.
MAX_ELEMENTS = 1 << 16


def example(overload: Any, args: Any, kwargs: Any, places: dict[int, int], sizes: int) -> Any:
    """Tiny arguments, their key and the CPU's result for them, None where it can't tell of meta.

    `places` are the sizes of the pattern, `sizes` the place of an argument that is sizes too.
    """
    if not _is_alike(overload) or cpu_autocast() or torch.get_default_dtype() is not torch.float32:
        return None
    if kwargs.get("device") is not None or "out" in kwargs:  # it would warn of a resized one
        return None
    tiny = tiny_sizes(places, number_of_tensors(overload, args) or 0)
    strided = _name(overload) in _ALIKE_STRIDED
    try:
        small = [
            [tiny[n] for n in value] if place == sizes else _shrunk(value, tiny, strided)
            for place, value in enumerate(args)
        ]
        named = {name: _shrunk(value, tiny, strided) for name, value in kwargs.items()}
        if _name(overload) in _ALIKE_IN_FLOAT32 and not _are_float32(small):
            return None
        key = plain_call(overload, small, named)  # before it may resize one of them
        return small, named, key, overload(*small, **named)
    except Exception:  # no kernel for this dtype, an index out of range: meta must tell
        return None


def tiny_sizes(places: dict[int, int], above: int) -> dict[int, int]:
    """A small size for each size of a pattern, all greater than `above`."""
    return {size: above + place if place > 0 else size for size, place in places.items()}


@cache
def _is_alike(overload: Any) -> bool:
    if overload.namespace != "aten" or torch.Tag.nondeterministic_seeded in overload.tags:
        return False
    if not runs_on_meta(overload):
        return False  # an error on meta
    listed = _name(overload) in _ALIKE or _name(overload) in _ALIKE_IN_FLOAT32
    return listed or torch.Tag.pointwise in overload.tags


def _are_float32(values: list[Any]) -> bool:
    return all(v.dtype is torch.float32 for v in values if isinstance(v, torch.Tensor))


def _name(overload: Any) -> str:
    return str(overload._schema.name.removeprefix("aten::"))


def _shrunk(value: Any, tiny: dict[int, int], strided: bool) -> Any:
    """An argument with its tensors replaced by tiny ones on the CPU."""
    if isinstance(value, torch.Tensor):
        shape = [tiny[size] for size in value.shape]
        found = order_of(value.shape, value.stride())
        if prod(shape) > MAX_ELEMENTS or found is None:
            raise ValueError(shape)
        order, wider = found
        if not strided and (wider or order != tuple(range(len(order)))):
            raise ValueError(order)
        sizes = [shape[place] for place in order]
        if wider:
            sizes[-1] += 1
        ones = torch.ones(sizes, dtype=value.dtype, device="cpu")
        if wider:
            ones = torch.narrow(ones, -1, 0, sizes[-1] - 1)
        return torch.permute(ones, [order.index(place) for place in range(len(order))])
    if isinstance(value, list | tuple):
        return [_shrunk(item, tiny, strided) for item in value]
    return value
