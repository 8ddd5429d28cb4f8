"""Promotion: the dtype that a call computes in."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from flopdispatch.spec import OpCall, TensorSpec, signature, tensors
from flopdispatch.variants import inputs


def compute_dtype(call: OpCall) -> torch.dtype | None:
    """The dtype that a call computes in: its tensor operands' promoted type.

    Operands of integers that give a floating result (a mean, a true division, a product with a
    Python float) are converted first, so these compute in the result's type; real ones that meet a
    complex Python number compute in complex numbers. All operands of a call of aten's that asks
    for a `dtype` are converted to it, unless that is a quantized one.
    """
    if _may_ask(call.overload):
        wanted = call.arguments()["dtype"]
        if wanted in _ORDERED:
            return wanted  # type: ignore[no-any-return]
    dtype = promoted(inputs(call) or tensors(call.result))
    if dtype is not None and dtype.is_floating_point and has_complex_number(call):
        return dtype.to_complex()
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        wider = promoted(tensors(call.result))
        if wider is not None and (wider.is_floating_point or wider.is_complex):
            return wider
    return dtype


@cache
def _may_ask(overload: Any) -> bool:
    """Whether an overload has an argument for the dtype to compute in."""
    return getattr(overload, "namespace", "") == "aten" and "dtype" in signature(overload)[0]


def has_complex_number(call: OpCall) -> bool:
    """Whether an argument is a complex number in Python."""
    return complex in map(type, call.args) or any(type(v) is complex for _, v in call.kwargs)


def promoted(operands: list[TensorSpec]) -> torch.dtype | None:
    """torch's promotion of operands: those without dimensions count only for their kind."""
    if len({t.dtype for t in operands}) == 1:
        return operands[0].dtype
    dtype: torch.dtype | None = None
    scalars = [t.dtype for t in operands if t.ndim == 0]
    for operand in [t.dtype for t in operands if t.ndim > 0] or scalars:
        dtype = operand if dtype is None else _wider(dtype, operand)
    for scalar in scalars:
        if dtype is not None and _kind(scalar) > _kind(dtype):
            real = dtype.is_floating_point and scalar.is_complex
            dtype = dtype.to_complex() if real else _wider(dtype, scalar)
    return dtype


# Asked for once, here: a mode around the pricing would see `aten::promote_types` run.
_PROMOTING = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128,
)  # fmt: skip
_ORDERED = frozenset(_PROMOTING)
_PROMOTED = {(a, b): torch.promote_types(a, b) for a in _PROMOTING for b in _PROMOTING}


def _wider(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    if (a, b) in _PROMOTED:
        return _PROMOTED[a, b]
    # float8 and quantized types have no promotion
    return max(a, b, key=lambda dtype: (_kind(dtype), dtype.itemsize))


def _kind(dtype: torch.dtype) -> int:
    if dtype.is_complex:
        return 3
    if dtype.is_floating_point:
        return 2
    return 0 if dtype is torch.bool else 1
