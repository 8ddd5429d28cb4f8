"""What tests of known values ask with."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flopdispatch import Assume, DataDependentError, count
from flopdispatch.capture.steps import Step

NOTHING = Assume(nonzero=None, nms=None, condition=None, number=None, even=False)
REFUSED = "refused"


def answer(program: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """What a program returns on meta, where nothing may be assumed."""
    returned = []
    profile = count(lambda *given: returned.append(program(*given)), *inputs, **options)
    assert profile.assumptions == ()
    return returned[0]


def held(tensor: Tensor) -> Any:
    """A tensor's values, or that they were refused."""
    try:
        return tensor.tolist()
    except DataDependentError:
        return REFUSED


def counting(n: int, **options: Any) -> Tensor:
    return torch.arange(n, device="meta", **options)


def data(*shape: int) -> Tensor:
    return torch.rand(shape, device="meta")


def alive() -> int:
    """How many steps there are in this process."""
    gc.collect()
    return sum(type(value) is Step for value in gc.get_objects())
