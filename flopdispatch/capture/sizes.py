"""Sizes worked out: results whose sizes are no argument's, of dense contiguous arguments.

A pattern (see patterns.py) can't tell the sizes of a convolution's result. These few
functions do; where a call is in any way unusual they say None, and its kernel decides, or
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flopdispatch.capture.patterns import strides_in

Recipe = tuple[torch.Size, tuple[int, ...], torch.dtype]


def worked_out(overload: Any, args: Any, kwargs: Any) -> Recipe | None:
    """The shape, strides and dtype of an overload's result, None to leave it to the kernel."""
    function = _FUNCTIONS.get(overload)
    if function is None or kwargs:
        return None
    return function(*args)


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Recipe | None:
    """Shapes: x (N, C_in, *), weight (C_out, C_in/groups, *), bias (C_out,)."""
    if transposed or groups < 1 or not _are_plain([x, weight] + ([] if bias is None else [bias])):
        return None
    places = x.ndim - 2
    lengths = {len(stride), len(padding), len(dilation), weight.ndim - 2, places}
    if len(lengths) != 1 or not 1 <= places <= 3:
        return None
    channels = weight.shape[0]
    if x.shape[1] != weight.shape[1] * groups or channels % groups:
        return None
    if bias is not None and tuple(bias.shape) != (channels,):
        return None
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        return None
    sizes = [
        (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, spread in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation
        )
    ]
    return None if min(sizes) < 1 else _contiguous([x.shape[0], channels, *sizes], x.dtype)


def _cat(tensors: list[torch.Tensor], dim: int = 0) -> Recipe | None:
    """Shapes: all alike but in `dim`."""
    sizes = list(tensors[0].shape) if tensors else []
    if not -len(sizes) <= dim < len(sizes) or not any(map(_is_row_major, tensors)):
        return None
    dtype = tensors[0].dtype
    sizes[dim] = -1
    total = 0
    for tensor in tensors:
        others = list(tensor.shape)
        if tensor.dtype != dtype or 0 in others or len(others) != len(sizes):
            return None
        total += others[dim]
        others[dim] = -1
        if others != sizes:
            return None
    sizes[dim] = total
    return _contiguous(sizes, dtype)


def _is_row_major(tensor: torch.Tensor) -> bool:
    """Whether a tensor certainly isn't in a channels-last format: then a result isn't either."""
    return tensor.ndim not in (4, 5) or tensor.stride(1) > tensor.stride(-1)


def _are_plain(tensors: list[torch.Tensor]) -> bool:
    """Whether all are of one dtype, contiguous by their strides, and none is empty."""
    dtype = tensors[0].dtype
    for tensor in tensors:
        shape = tensor.shape
        if tensor.dtype != dtype or 0 in shape:
            return False
        if tensor.stride() != strides_in(range(len(shape)), shape):
            return False
    return True


def _contiguous(sizes: list[int], dtype: torch.dtype) -> Recipe:
    return torch.Size(sizes), strides_in(range(len(sizes)), sizes), dtype


_FUNCTIONS: dict[Any, Callable[..., Recipe | None]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.cat.default: _cat,
}
