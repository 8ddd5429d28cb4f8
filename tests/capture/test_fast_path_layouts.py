"""Operators on tensors of many layouts: a first call and one like others are the kernel's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor

from flopdispatch.capture.meta import clear_cache
from tests.observed import Program, differences, observe

aten = torch.ops.aten

with warnings.catch_warnings():  # torch says this once a process: not in the middle of a test
    warnings.simplefilter("ignore")
    torch.empty(()).mT  # noqa: B018

# Shapes with their strides. Where a size is 1 its stride says nothing, and kernels differ.
LAYOUTS = (
    ((), ()), ((3,), (1,)), ((6,), (1,)), ((6,), (2,)),
    ((4, 3), (3, 1)), ((4, 3), (1, 4)), ((4, 3), (6, 1)), ((8, 6), (6, 1)), ((3, 3), (1, 3)),
    ((5, 1), (1, 5)), ((5, 1), (1, 1)), ((5, 1), (5, 1)), ((1, 5), (1, 1)), ((1, 5), (7, 1)),
    ((2, 3, 4), (12, 4, 1)), ((2, 3, 4), (1, 8, 2)), ((4, 6, 8), (48, 1, 6)),
    ((2, 0, 4), (4, 4, 1)),
    ((2, 1, 4), (4, 1, 1)), ((2, 1, 4), (1, 1, 2)), ((1, 3, 1), (3, 1, 3)), ((4, 4, 4), (16, 1, 4)),
    ((2, 3, 4, 4), (48, 1, 12, 3)), ((2, 1, 4, 4), (16, 1, 4, 1)), ((2, 3, 1, 1), (3, 1, 3, 3)),
    ((2, 3, 1, 1), (3, 1, 1, 1)), ((1, 3, 1, 1), (3, 1, 3, 3)), ((4, 3), (0, 1)), ((4, 3), (3, 0)),
)  # fmt: skip
DTYPES = (torch.float32, torch.bfloat16)


def dense(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def norm_backward(x: Tensor) -> Any:
    stat = dense(*x.shape[:-1], 1)
    sizes = [x.shape[-1]]
    return aten.native_layer_norm_backward(
        x, x, sizes, stat, stat, None, None, [True, False, False]
    )


def batch_norm(x: Tensor) -> Any:
    mean = dense(x.shape[1])
    return aten.native_batch_norm(x, None, None, mean, mean, True, 0.1, 1e-5)


OPERATORS: dict[str, Callable[[Tensor], Any]] = {
    "exp": torch.exp,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "negative": torch.neg,
    "not": torch.logical_not,
    "is nan": torch.isnan,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "softplus": F.softplus,
    "gated": lambda x: F.glu(x, 0),
    "gelu backward": lambda x: aten.gelu_backward(x, x),
    "silu backward": lambda x: aten.silu_backward(x, x),
    "sigmoid backward": lambda x: aten.sigmoid_backward(x, x),
    "threshold backward": lambda x: aten.threshold_backward(x, x, 0),
    "leaky backward": lambda x: aten.leaky_relu_backward(x, x, 0.1, False),
    "add number": lambda x: x + 1.5,
    "multiply scalar": lambda x: aten.mul.Scalar(x, 2),
    "divide scalar": lambda x: aten.div.Scalar(x, 2),
    "number minus": lambda x: 1 - x,
    "power": lambda x: x**2,
    "number to power": lambda x: 2**x,
    "compare": lambda x: x >= 0,
    "clamp": lambda x: x.clamp(0, 1),
    "where": lambda x: torch.where(x > 0, x, x),
    "where number": lambda x: torch.where(x > 0, x, 0.0),
    "masked fill": lambda x: x.masked_fill(x > 0, 1),
    "addcmul": lambda x: torch.addcmul(x, x, x),
    "lerp": lambda x: torch.lerp(x, x, 0.5),
    "add scaled": lambda x: torch.add(x, x, alpha=2),
    "promoted": lambda x: x.bfloat16() + x,
    "doubled": lambda x: x.double() * 2,
    "divided integers": lambda x: x.long() / 2,
    "floored integers": lambda x: x.long() // 2,
    "bits": lambda x: x.long() & 1,
    "add a row": lambda x: x + x.sum(0, True),
    "times a column": lambda x: x * x.sum(-1, True),
    "add a vector": lambda x: x + dense(x.shape[-1]),
    "add a scalar tensor": lambda x: x + dense(dtype=torch.float64),
    "add transposed": lambda x: x + x.mT.contiguous().mT,
    "add contiguous": lambda x: x + dense(*x.shape),
    "add to contiguous": lambda x: dense(*x.shape) + x,
    "sum": lambda x: x.sum(),
    "sum last": lambda x: x.sum(-1),
    "sum first": lambda x: x.sum(0, True),
    "sum of integers": lambda x: x.int().sum(-1),
    "sum to double": lambda x: x.sum(-1, dtype=torch.float64),
    "mean": lambda x: x.mean(-1, True),
    "largest": lambda x: x.amax(-1),
    "smallest": lambda x: x.amin(0, True),
    "softmax": lambda x: x.softmax(-1),
    "softmax in float": lambda x: x.softmax(-1, dtype=torch.float32),
    "log softmax": lambda x: x.log_softmax(0),
    "softmax backward": lambda x: aten._softmax_backward_data(x, x, -1, x.dtype),
    "log softmax backward": lambda x: aten._log_softmax_backward_data(x, x, 0, x.dtype),
    "roll": lambda x: torch.roll(x, 1, 0),
    "flip": lambda x: x.flip(-1),
    "lower": torch.tril,
    "cumulative": lambda x: x.cumsum(-1),
    "product": lambda x: x @ x.mT,
    "product of transposed": lambda x: x.mT @ x,
    "batched product": lambda x: torch.bmm(x, x.mT),
    "added product": lambda x: torch.addmm(x @ x.t(), x, x.t()),
    "biased product": lambda x: torch.addmm(dense(x.shape[0], dtype=x.dtype), x, x.t()),
    "layer norm": lambda x: aten.native_layer_norm(x, [x.shape[-1]], None, None, 1e-5),
    "layer norm backward": norm_backward,
    "batch norm": batch_norm,
    "look-up": lambda x: aten.embedding(x, torch.empty(7, 2, dtype=torch.long, device="meta")),
    "look-up of": lambda x: aten.embedding(dense(7, 3), x.long()),
    "stack": lambda x: torch.stack([x, x]),
    "stack last": lambda x: torch.stack([x, x, x], -1),
    "clone": torch.clone,
    "zeros like": torch.zeros_like,
    "full like": lambda x: torch.full_like(x, 1),
    "dropout": lambda x: aten.native_dropout(x, 0.5, True),
    "fraction and exponent": torch.frexp,
    "rounded": lambda x: torch.round(x, decimals=1),
    "in place": lambda x: (x.add_(1), x.mul_(x)),
    "out": lambda x: torch.exp(x, out=torch.empty_like(x)),
    "out resized": lambda x: torch.exp(x, out=x.new_empty(0)),
    "out transposed": lambda x: torch.add(x, 1, out=torch.empty_like(x.mT).mT),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATORS)
def test_a_first_call_and_one_like_others_are_the_kernels(name: str) -> None:
    programs = [
        Program(
            f"{name} of {dtype} {shape} {stride}",
            partial(torch.empty_strided, shape, stride, dtype=dtype, device="meta"),
            OPERATORS[name],
        )
        for dtype in DTYPES
        for shape, stride in LAYOUTS
    ]
    expected = observe(programs, 1, meta_cache=False)
    assert any(not outcome.error for outcome in expected.outcomes)
    clear_cache()
    assert differences(expected, observe(programs, 1, meta_cache=True)) == []
    for program in programs:
        alone = observe([program], 1, meta_cache=False)
        clear_cache()
        assert differences(alone, observe([program], 1, meta_cache=True)) == []
