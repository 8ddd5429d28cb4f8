"""Calls, prices and costs as plain JSON values, and back."""

from __future__ import annotations

import math
from typing import Any

import torch

from flopdispatch.capture.keys import ByText
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.rules import Price, name_of
from flopdispatch.spec import OpCall, TensorSpec


def encode(value: Any) -> Any:
    """A value of an OpCall as JSON: what JSON has itself stays, the rest is `{kind: text}`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, TensorSpec):
        stride = None if value.stride is None else list(value.stride)
        fields: list[Any] = [list(value.shape), _name(value.dtype), stride, str(value.device)]
        if value.nnz is not None or value.parts is not None:
            fields += [value.nnz, encode(value.parts)]
        return {"tensor": fields}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        return {"torch": _name(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, complex):
        return {"complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, ByText):
        return {"object": [value.kind, value.text]}
    return {"object": [type(value).__qualname__, str(value)]}


def decode(value: Any) -> Any:
    """The inverse of `encode`; an object of another type comes back as ByText."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        shape, dtype, stride, device, *more = content
        stride = None if stride is None else tuple(stride)
        known = getattr(torch, dtype), stride, torch.device(device), *map(decode, more)
        return TensorSpec(tuple(shape), *known)
    if kind == "complex":
        return complex(*map(float, content))
    if kind == "torch":
        return getattr(torch, content)
    if kind == "device":
        return torch.device(content)
    if kind == "object":
        return ByText(*content)
    return math.nan if content == "nan" else float(content)


def encode_call(call: OpCall) -> dict[str, Any]:
    """A call with its operator by name."""
    return {
        "operator": name_of(call.overload),
        "args": encode(call.args),
        "kwargs": {name: encode(value) for name, value in call.kwargs},
        "result": encode(call.result),
        "taken": encode(call.taken),
    }


def decode_call(data: dict[str, Any]) -> OpCall:
    """The inverse of `encode_call`."""
    kwargs = tuple((name, decode(value)) for name, value in data["kwargs"].items())
    known = decode(data["args"]), kwargs, decode(data["result"]), decode(data["taken"])
    return OpCall(operator(data["operator"]), *known)


def encode_price(price: Price) -> dict[str, Any]:
    """A price with its dtype by name."""
    return {
        "cost": price.cost.to_dict(),
        "family": price.family,
        "state": price.state,
        "dtype": None if price.dtype is None else _name(price.dtype),
        "estimate": price.estimate,
        "error": price.error,
    }


def decode_price(data: dict[str, Any]) -> Price:
    """The inverse of `encode_price`."""
    dtype = None if data["dtype"] is None else getattr(torch, data["dtype"])
    words = data["family"], data["state"], dtype, data["estimate"], data["error"]
    return Price(Cost(**data["cost"]), *words)


def operator(name: str) -> Any:
    """The operator with a name that `name_of` gave.

    Raises: ArgumentError if this process has no such operator.
    """
    namespace, _, rest = name.partition("::")
    packet_name, _, overload_name = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), packet_name, None)
    found = getattr(packet, overload_name, None) if overload_name else packet
    if found is None:
        raise ArgumentError(
            f"the operator {name} is not known here; import the library that registers it first"
        )
    return found


def _name(value: Any) -> str:
    return str(value).removeprefix("torch.")
