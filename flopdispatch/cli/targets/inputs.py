"""The grammar of `--input`, and what goes to the model."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from flopdispatch.cli.targets.target import Call, Sizes
from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import is_shape
from flopdispatch.spec import TensorSpec, spec

_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:[x,]\d+)*)(?::(?P<dtype>[\w.]+))?"
)
_SHORT = {
    "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64,
}  # fmt: skip


def dtype_named(name: str) -> torch.dtype:
    """The dtype of that name in torch, or by the short names of the field (bf16).

    Raises: ArgumentError if there is none.
    """
    found = _SHORT.get(name) or getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ArgumentError(
            f"unknown dtype {name!r}: take one of torch's, such as float32, bfloat16, long, bool"
        )
    return found


def image_size(text: str) -> tuple[int, int]:
    """`224` or `224x320` as the height and the width of an image.

    Raises: ArgumentError if it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise ArgumentError(f"--size takes a height and a width, 224x320, or 224, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def json_object(option: str, text: str | None, example: str) -> dict[str, Any]:
    """The object in JSON that is given to an option, empty if none is.

    Raises: ArgumentError if it is none.
    """
    wanted = f"{option} takes an object in JSON, such as '{example}', got {text!r}"
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{wanted}: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentError(wanted)
    return found


def given_inputs(texts: Sequence[str], sizes: Sizes) -> Call:
    """The inputs that `--input` describes, with the batch that is asked for, if one is.

    Raises: ArgumentError for a text that is no input, and a name that is given twice.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise ArgumentError(
                f"can't read --input {text!r}: expected [NAME=]SHAPE[:DTYPE], such as 1x3x224x224, "
                "2x128:long or input_ids=2x128:long"
            )
        first, *rest = map(int, re.split("[x,]", match["shape"]))
        shape = (sizes.batch(first), *rest)
        value = spec(*shape, dtype=dtype_named(match["dtype"])) if match["dtype"] else shape
        if match["name"] is None:
            args.append(value)
        elif match["name"] in kwargs:
            raise ArgumentError(f"--input {match['name']}= is given twice; name each input once")
        else:
            kwargs[match["name"]] = value
    return Call(tuple(args), kwargs)


def in_model_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Inputs with their shapes as tensors of this dtype."""
    if is_shape(value):
        return spec(*value, dtype=dtype)
    if isinstance(value, list | tuple):
        return type(value)(in_model_dtype(one, dtype) for one in value)
    if isinstance(value, dict):
        return {name: in_model_dtype(one, dtype) for name, one in value.items()}
    return value


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of a model's floating-point parameters: its first one's."""
    found = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
    return next(found, torch.get_default_dtype())


def described(call: Call) -> str:
    """Inputs as `--input` would give them: `1x3x224x224:float32, ids=2x128:int64`."""
    named = [("", one) for one in call.args] + [(f"{k}=", v) for k, v in call.kwargs.items()]
    return ", ".join(f"{name}{_described(one)}" for name, one in named) or "none"


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor | TensorSpec):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{'x'.join(map(str, value.shape))}:{dtype}"
    if is_shape(value):
        return "x".join(map(str, value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_described(one)}" for name, one in value.items()) + "}"
    return repr(value)


def signature(model: nn.Module) -> str:
    """What a model is called with, for people: `forward(x, mask=None)`."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return "forward(...)"
    plain = [str(one.replace(annotation=inspect.Parameter.empty)) for one in parameters]
    return f"forward({', '.join(plain)})"


def needs_inputs(model: nn.Module) -> bool:
    """Whether a model can't be called with nothing; transformers' only say so when they are."""
    if hasattr(model, "main_input_name"):
        return True
    try:
        inspect.signature(model.forward).bind()
    except (TypeError, ValueError):
        return True
    return False
