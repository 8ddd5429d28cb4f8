"""fvcore's rules by hand, and its own count beside ours by operator calls alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch import Cost, FlopCounter, count, spec
from flopdispatch.conventions.fvcore import registry
from flopdispatch.spec import OpCall
from tests.pricing import overload_of

aten = torch.ops.aten

SIZE = 2 * 6 * 5 * 4
X = torch.ones(2, 6, 5, 4)


def normalized(x: Tensor, weight: bool) -> Tensor:
    ones = x.new_ones(6) if weight else None
    return functional.batch_norm(x, None, None, ones, ones, training=True)


def evaluated(x: Tensor) -> Tensor:
    return functional.batch_norm(x, x.new_zeros(6), x.new_ones(6))


def sampled(x: Tensor, mode: str = "bilinear") -> Tensor:
    return functional.grid_sample(x, x.new_zeros(2, 3, 3, 2), mode, align_corners=False)


# A program on X, what is counted (all of it in MACs), why.
PROGRAMS: dict[str, tuple[Callable[[Tensor], Any], int, str]] = {
    "batch norm": (evaluated, 1 * SIZE, "without a weight"),
    "batch norm, weight": (nn.BatchNorm2d(6).eval(), 2 * SIZE, "running statistics"),
    "batch norm in training": (lambda x: normalized(x, False), 4 * SIZE, "without a weight"),
    "batch norm in training, weight": (lambda x: normalized(x, True), 5 * SIZE, "with one"),
    "batch norm module in training": (nn.BatchNorm2d(6).train(), 5 * SIZE, "it updates some"),
    "layer norm": (lambda x: functional.layer_norm(x, (5, 4)), 4 * SIZE, "without a weight"),
    "layer norm, weight": (nn.LayerNorm((5, 4)), 5 * SIZE, "with one"),
    "group norm": (nn.GroupNorm(3, 6, affine=False), 4 * SIZE, "without a weight"),
    "group norm, weight": (nn.GroupNorm(3, 6), 5 * SIZE, "with one"),
    "instance norm": (nn.InstanceNorm2d(6), 4 * SIZE, "it has no weight"),
    "instance norm, weight": (nn.InstanceNorm2d(6, affine=True), 5 * SIZE, "it has one"),
    "adaptive pooling": (nn.AdaptiveAvgPool2d((2, 3)), SIZE, "1 an element of the input"),
    "adaptive pooling to one": (nn.AdaptiveAvgPool2d(1), SIZE, "a mean, as ATen runs it"),
    "another mean": (lambda x: x.mean((2, 3), keepdim=True), 0, "by dimensions as people write"),
    "a mean without its dimensions": (lambda x: x.mean((-1, -2)), 0, "they don't stay"),
    "a mean of all": (lambda x: x.mean(), 0, "it has no handle"),
    "nearest": (lambda x: functional.interpolate(x, (7, 3)), 2 * 6 * 21, "1 an output"),
    "bilinear": (
        lambda x: functional.interpolate(x, (7, 3), mode="bilinear"), 4 * 2 * 6 * 21, "4 an output",
    ),
    "bicubic": (lambda x: functional.interpolate(x, (7, 3), mode="bicubic"), 0, "no handle"),
    "antialiased": (
        lambda x: functional.interpolate(x, (7, 3), mode="bilinear", antialias=True), 0, "none",
    ),
    "grid": (sampled, 4 * 2 * 6 * 9, "4 an output"),
    "grid, nearest": (lambda x: sampled(x, "nearest"), 4 * 2 * 6 * 9, "whatever the mode"),
    "convolution": (nn.Conv2d(6, 4, 3, groups=2), 2 * 4 * 3 * 2 * 27, "no bias"),
    "transposed convolution": (nn.ConvTranspose2d(6, 4, 3), 2 * 20 * 6 * 4 * 9, "by inputs"),
    "linear": (nn.Linear(4, 7), SIZE * 7, "no bias"),
    "product": (lambda x: x @ x.transpose(-1, -2), SIZE * 5, "5 by 4 by 5"),
    "elements": (lambda x: functional.max_pool2d(x.exp().softmax(1) + 1, 2), 0, "no handle"),
}  # fmt: skip


class Program(nn.Module):
    """A function as a model, whose layer is in the mode that it was made in."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_by_hand(name: str, device: str) -> None:
    program, expected, why = PROGRAMS[name]
    assert why
    found = count(Program(program), tuple(X.shape), convention="fvcore", device=device)
    assert found.total.moving(0, 0) == Cost(macs=expected)
    assert not found.uncounted


@pytest.mark.parametrize("name", PROGRAMS)
def test_counts_are_fvcores(name: str) -> None:
    program, expected, _ = PROGRAMS[name]
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = FlopCountAnalysis(Program(program), X).total()
    logging.disable(logging.NOTSET)
    assert found == expected


W, X6 = spec(6), spec(2, 6, 5, 4)

# Operators of other devices and of exported programs.
ELSEWHERE: list[tuple[str, tuple[Any, ...], int]] = [
    ("cudnn_batch_norm.default", (X6, W, W, W, W, True, 0.1, 1e-5), 5 * SIZE),
    ("miopen_batch_norm.default", (X6, W, W, W, W, False, 0.1, 1e-5), 2 * SIZE),
    ("_native_batch_norm_legit.no_stats", (X6, None, None, True, 0.1, 1e-5), 4 * SIZE),
    ("_native_batch_norm_legit_no_training.default", (X6, W, W, W, W, 0.1, 1e-5), 2 * SIZE),
    ("_batch_norm_with_update.default", (X6, W, W, W, W, 0.1, 1e-5), 5 * SIZE),
    ("_batch_norm_no_update.default", (X6, None, None, W, W, 0.1, 1e-5), SIZE),
    ("mkldnn_adaptive_avg_pool2d.default", (X6, (1, 1)), SIZE),
    ("cudnn_grid_sampler.default", (X6, spec(2, 5, 4, 2)), 4 * SIZE),
    ("grid_sampler_3d.default", (X6, X6, 0, 0, False), 4 * SIZE),
    ("native_batch_norm_backward.default",
     (X6, X6, W, W, W, W, W, True, 1e-5, (True, True, True)), 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "macs"), ELSEWHERE)
def test_operators_of_other_devices(name: str, args: tuple[Any, ...], macs: int) -> None:
    overload = overload_of(name)
    results = len(overload._schema.returns)
    result = X6 if results == 1 else (X6, *[W] * (results - 1))
    price = registry().price(OpCall(overload, args, (), result))
    assert price.cost.moving(0, 0) == Cost(macs=macs)


def test_counts_do_not_go_by_the_dtype() -> None:
    for dtype in (torch.half, torch.cfloat):
        call = OpCall(aten._adaptive_avg_pool2d.default, (spec(2, 3, dtype=dtype), (1, 1)), (), X6)
        assert registry().price(call).cost.macs == 6


def test_attention_and_recurrent_layers_are_products() -> None:
    """Two products of 2 heads, 5 by 5 pairs and 4; 3 steps of 4·(4 + 5) by 5."""
    q = torch.ones(1, 2, 5, 4)
    with FlopCounter(display=False, convention="fvcore") as counter:
        functional.scaled_dot_product_attention(q, q, q)
    assert counter.macs == 2 * 2 * 25 * 4
    assert count(nn.LSTM(4, 5), (3, 4), convention="fvcore").macs == 3 * 4 * 5 * (4 + 5)


def test_a_recording_is_priced_again() -> None:
    model = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    profile = count(model.eval(), tuple(X.shape))
    again = profile.reprice("fvcore")
    assert again.macs == 6 * SIZE + 2 * SIZE + SIZE
    assert {name: cost.macs for name, cost in again.by_family().items() if cost.macs} == {
        "convolution": 6 * SIZE, "normalization": 2 * SIZE, "pooling": SIZE,
    }  # fmt: skip
    assert again.convention == "fvcore"
