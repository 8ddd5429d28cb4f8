"""Activations by hand, as fvcore counts them and as timm published them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torchvision import models

from flopdispatch import Cost, FlopCounter, count, default_registry
from flopdispatch.activations import by_scope
from flopdispatch.spec import TensorSpec

PACKED = torch.ops.aten._flash_attention_forward
PUBLISHED = Path(__file__).parent / "reference" / "timm_activations.csv"


def written(program: Callable[[], Any]) -> int:
    with FlopCounter(display=False, strict=True) as counter:
        program()
    return counter.profile.activations


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("why", "program", "expected"),
    [
        ("3 rows of 4", lambda: nn.Linear(8, 4)(torch.ones(3, 8)), 12),
        ("without a bias too", lambda: nn.Linear(8, 4, bias=False)(torch.ones(3, 8)), 12),
        ("5 channels of 6 by 6", lambda: nn.Conv2d(2, 5, 3)(torch.ones(1, 2, 8, 8)), 180),
        ("transposed: of 10 by 10",
         lambda: nn.ConvTranspose2d(2, 5, 3)(torch.ones(1, 2, 8, 8)), 500),
        ("two batches of 2 by 4", lambda: torch.ones(2, 2, 3) @ torch.ones(2, 3, 4), 16),
        ("2 heads of 4 queries: 4 scores and 8 outputs each",
         lambda: Attending()(torch.ones(1, 2, 4, 8)), 2 * 4 * (4 + 8)),
        ("the same, packed: 4 heads of 2 queries, 2 scores and 8 outputs each",
         lambda: PACKED(*[torch.ones(1, 2, 4, 8, device="meta", dtype=torch.half)] * 3,
                        None, None, 2, 2, 0.0, False, False), 4 * 2 * (2 + 8)),
        ("added to its target in place: 2 by 4",
         lambda: torch.ones(2, 4).addmm_(torch.ones(2, 3), torch.ones(3, 4)), 8),
        ("integers", lambda: torch.ones(2, 3, dtype=torch.int) @ torch.ones(
            3, 4, dtype=torch.int), 8),
        ("nothing else writes any", lambda: torch.ones(9).exp().sum(), 0),
    ],
)  # fmt: skip
def test_activations_by_hand(why: str, program: Callable[[], Any], expected: int) -> None:
    assert written(program) == expected, why


def test_an_attention_has_the_same_by_whatever_kernel_it_runs() -> None:
    """2 heads of 4 queries: 4·4 scores and 4·8 outputs each."""
    x = torch.ones(1, 2, 4, 8)
    expected = 2 * (16 + 32)
    assert count(Attending(), x).activations == expected
    assert count(Attending(), x, convention="causal").activations == expected
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        assert count(Attending(), x).activations == expected


def test_a_transformer_layer_that_is_one_operator_writes_as_much() -> None:
    """2 sequences of 10 by 16: qkv, attention, projections and 32 hidden; 4 heads' scores."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    expected = 20 * (3 * 16 + 16 + 16 + 32 + 16) + 2 * 4 * 10 * 10
    for device in ("meta", "cpu"):
        assert count(layer, (2, 10, 16), device=device).activations == expected
    with torch.no_grad():
        fused = count(layer, (2, 10, 16), device="cpu")
    assert len(fused.by_op()) == 1
    assert fused.activations == expected
    tokens, weights = torch.ones(2, 5, 8), [torch.ones(24, 8), torch.ones(24)]
    attention = torch.ops.aten._native_multi_head_attention
    found = written(
        lambda: attention(tokens, tokens, tokens, 8, 2, *weights, torch.ones(8, 8), torch.ones(8))
    )
    assert found == 10 * (3 * 8 + 8 + 8) + 2 * 2 * 5 * 5


def test_an_attention_of_the_users_own_writes_its_result() -> None:
    rules = default_registry().overlay("mine")

    @rules.formula(torch.ops.aten.mm.default, family="attention")
    def mine(self: TensorSpec, result: TensorSpec) -> Cost:
        return Cost(macs=result.numel)

    with FlopCounter(display=False, convention=rules) as counter:
        torch.ones(3, 8) @ torch.ones(8, 4)
    assert counter.profile.activations == 3 * 4


def test_gradients_and_recomputation_are_no_activations() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.ones(3, 8, requires_grad=True)
    forward = written(lambda: model(x))
    assert forward == 3 * 4 + 3 * 2
    assert written(lambda: model(x).sum().backward()) == forward
    again = written(lambda: checkpoint(model, x, use_reentrant=False).sum().backward())
    assert again == forward


@pytest.mark.parametrize(
    "make", [models.resnet18, models.mobilenet_v2, models.squeezenet1_1], ids=lambda f: f.__name__
)
def test_activations_are_fvcores_module_by_module(make: Callable[[], nn.Module]) -> None:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    model, shape = make().eval(), (2, 3, 64, 64)
    theirs = ActivationCountAnalysis(model, torch.ones(shape))
    profile = count(model, shape)
    ours, root = by_scope(profile), type(model).__name__
    assert profile.activations == theirs.total() > 0
    for name, number in theirs.by_module().items():
        assert ours.get(f"{root}.{name}" if name else root, 0) == number, name


def test_own_activations_add_up_to_the_whole() -> None:
    profile = count(models.resnet18(), (1, 3, 64, 64))
    assert sum(by_scope(profile, own=True).values()) == by_scope(profile)[""]
    assert profile.activations == by_scope(profile)["ResNet"]


def published() -> list[tuple[str, int, float]]:
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return [
            (row["model"], int(row["img"]), float(row["published_mact"]))
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(("name", "size", "millions"), published())
def test_activations_are_timms_published_ones(name: str, size: int, millions: float) -> None:
    """The column `infer_macts` of timm's benchmark tables, rounded to 0.01 million.

    Source: huggingface/pytorch-image-models,
    results/benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv.
    """
    timm = pytest.importorskip("timm")
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(name).eval()
        found = count(model, (1, 3, size, size)).activations
    assert abs(found / 1e6 - millions) <= 0.005 + 1e-9


def test_an_operator_that_returns_nothing_writes_its_out() -> None:
    with torch.library._scoped_library("writing", "FRAGMENT") as library:
        rules = default_registry().overlay("mine")
        for name, more in (("given", "*, Tensor(a!) out"), ("into", "Tensor(a!) b")):
            library.define(f"{name}(Tensor a, {more}) -> ()")
            library.impl(name, lambda *args, **kwargs: None, "CPU")
            overload = getattr(torch.ops.writing, name).default
            rules.formula(overload, family="matmul")(lambda a: Cost(macs=a.numel))
        with FlopCounter(display=False, convention=rules) as counter:
            torch.ops.writing.given(torch.ones(2, 4), out=torch.zeros(2, 3))
            torch.ops.writing.into(torch.ones(2, 4), torch.zeros(2, 3))
    assert counter.profile.macs == 16
    assert counter.profile.activations == 6
