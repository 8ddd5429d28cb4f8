"""torchstat's own figures, recorded, beside ours under its convention.

torchstat runs with pandas below 2 and numpy below 1.24 only: `tests/reference/torchstat.csv` says
how its figures were made.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from flopdispatch import (
    FlopCounter,
    Profile,
    UncountedOperatorWarning,
    count,
    default_registry,
)
from flopdispatch.conventions import convention

REFERENCE = Path(__file__).parents[1] / "reference" / "torchstat.csv"

# Not built on meta: they compute their sizes with tensors.
COMPUTE_SIZES = "regnet_x_400mf", "regnet_y_400mf", "swin_t", "convnext_tiny", "maxvit_t"

Figures = tuple[int, int, int, int]  # Flops, MAdd, bytes read, bytes written


def recorded() -> Iterator[dict[str, str]]:
    with REFERENCE.open() as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def built(name: str) -> nn.Module:
    """A model of torchvision's without weights, on meta."""
    segments = name.startswith(("fcn", "deeplab", "lraspp"))
    extra: dict[str, Any] = {"weights_backbone": None} if segments else {}
    if name in ("googlenet", "inception_v3"):
        extra["init_weights"] = False
    device = "cpu" if name in COMPUTE_SIZES else "meta"
    with torch.device(device):
        made: nn.Module = torchvision.models.get_model(name, weights=None, **extra)
    return made.to("meta").eval()


@torch.library.custom_op("flopdispatch_tests::squared", mutates_args=())
def squared(x: Tensor) -> Tensor:
    """An operator that nobody has a formula for."""
    return x * x


def figures(profile: Profile) -> Figures:
    total = profile.total
    return total.macs, total.muls + total.adds, total.bytes_read, total.bytes_written


def counted(model: Callable[..., Any], *inputs: Any) -> Figures:
    with torch.no_grad():
        return figures(count(model, *inputs, convention="torchstat"))


# Whole models

# Where torchstat doesn't see the whole, what it doesn't: functional calls, and all calls of a
# module but the last. What it hasn't a figure for is nothing here too.
UNSEEN = {
    "densenet121": {"relu"},
    "densenet169": {"relu"},
    "googlenet": {"relu"},
    "inception_v3": {"relu", "max_pool2d", "avg_pool2d"},
    "resnet18": {"ReLU again"},
    "resnet34": {"ReLU again"},
    "resnet50": {"ReLU again"},
    "resnet101": {"ReLU again"},
    "resnext50_32x4d": {"ReLU again"},
    "wide_resnet50_2": {"ReLU again"},
    "fcn_resnet50": {"ReLU again", "interpolate"},
    "deeplabv3_resnet50": {"ReLU again", "interpolate"},
    "lraspp_mobilenet_v3_large": {"interpolate"},
}
TOTALS = [row for row in recorded() if row["granularity"] == "1" and row["name"] == "total"]
WHOLE = [row for row in TOTALS if not row["error"]]


class Unseen(TorchFunctionMode):
    """Adds up by hand what torchstat doesn't see of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.calls: dict[nn.Module, list[Figures]] = {}
        self.found: Counter[str] = Counter()
        self.sums = [0, 0, 0, 0]

    def add(self, what: str, flops: int, madd: int, read: int, written: int) -> None:
        self.found[what] += 1
        added = flops, madd, 4 * read, 4 * written  # bytes of float32
        self.sums = [old + new for old, new in zip(self.sums, added)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.inside += 1
        out = func(*args, **(kwargs or {}))
        self.inside -= 1
        if self.inside or not isinstance(out, Tensor) or not isinstance(args[0], Tensor):
            return out
        name, into, n = func.__name__, args[0].numel(), out.numel()
        if name == "relu":
            self.add("relu", n, n, n, n)
        elif "max_pool2d" in name:
            self.add("max_pool2d", into, (3 * 3 - 1) * n, into, n)
        elif "avg_pool2d" in name and "adaptive" not in name:
            self.add("avg_pool2d", into, 3 * 3 * n, into, n)
        elif name == "interpolate":
            self.add("interpolate", n, 0, into, n)
        return out

    def watch(self, model: nn.Module) -> None:
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(self.begin)
                module.register_forward_hook(self.end)

    def begin(self, module: nn.Module, args: Any) -> None:
        self.inside += 1

    def end(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.inside -= 1
        n = out.numel()
        earlier = self.calls.setdefault(module, [])
        if earlier:
            assert type(module) is nn.ReLU
            self.add("ReLU again", *earlier[-1])
        earlier.append((n, n, n, n))


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: f"{row['model']} {row['size']}")
def test_whole_models_have_torchstats_figures(row: dict[str, str]) -> None:
    model, size = built(row["model"]), int(row["size"])
    theirs = [int(row[name]) for name in ("flops", "madd", "mem_read", "mem_write")]
    ours = counted(model, (1, 3, size, size))
    if row["model"] not in UNSEEN:
        assert list(ours) == theirs
        return
    unseen = Unseen()
    unseen.watch(model)
    image = torch.zeros(1, 3, size, size, device="meta")
    with torch.no_grad(), unseen:
        model(image)
    assert set(unseen.found) == UNSEEN[row["model"]]
    assert list(ours) == [theirs[i] + unseen.sums[i] for i in range(4)]


def test_the_table_is_of_more_than_twenty_models() -> None:
    assert len({row["model"] for row in WHOLE}) == 30
    assert len({row["model"] for row in WHOLE} - set(UNSEEN)) == 17


@pytest.mark.parametrize("name", [row["model"] for row in TOTALS if row["error"]])
def test_models_that_stop_torchstat_are_counted(name: str) -> None:
    """Layers of sequences: it takes nothing but (batch, features). Their products are ours."""
    model = built(name)
    with torch.no_grad():
        profile = count(model, (1, 3, 224, 224))
    flops, madd, _, _ = figures(profile.reprice("torchstat"))
    products = profile.comparable_flops // 2
    assert products < flops < 1.01 * products
    assert 1.97 * products < madd < 2.04 * products
    assert not profile.uncounted


# Layers: (layer, input, torchstat's own figures, ours where they differ, why)

X = (1, 3, 8, 8)
SAME = None
LAYERS: list[tuple[nn.Module, tuple[int, ...], Figures, Figures | None, str]] = [
    (nn.Conv2d(6, 12, 3, groups=3), (1, 6, 8, 8), (8208, 15552, 2448, 1728), SAME, ""),
    (
        nn.Conv2d(3, 4, 3, dilation=2, stride=2, padding=1, bias=False), X,
        (972, 1908, 1200, 144), SAME, "",
    ),
    (nn.ReLU6(), X, (192, 192, 768, 768), SAME, ""),
    (nn.PReLU(3), X, (192, 0, 780, 768), SAME, ""),
    (nn.ELU(), X, (192, 0, 768, 768), SAME, ""),
    (nn.LeakyReLU(), X, (192, 0, 768, 768), SAME, ""),
    (nn.AvgPool2d(3, 2), X, (192, 243, 768, 108), SAME, ""),
    (nn.MaxPool2d(3, 2, 1), X, (192, 384, 768, 192), SAME, ""),
    (nn.BatchNorm2d(3, affine=False), X, (192, 768, 792, 768), SAME, ""),
    (
        nn.Sequential(nn.Flatten(), nn.Softmax(1)), X, (0, 575, 0, 0),
        (0, 575, 768, 768), "softmax has no memory there",
    ),
    (
        nn.Softmax(1), X, (0, 575, 0, 0), (0, 3 * 192 - 64, 768, 768),
        "64 rows, of which each has an addition less; there one",
    ),
    (
        nn.Upsample(scale_factor=2), X, (256, 0, 0, 0), (3 * 256, 0, 768, 3072),
        "three channels, which are dropped there",
    ),
    (
        nn.ConvTranspose2d(3, 5, 3, stride=2), X, (0, 17280, 0, 0),
        (64 * 27 * 5 + 5 * 17**2, 17280, 4 * (192 + 140), 4 * 5 * 17**2),
        "no Flops and memory there",
    ),
    (
        nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), (1, 4, 8, 8), (0, 5760, 0, 0),
        (64 * 4 * 3 * 4, 5760, 4 * (256 + 48), 4 * 6 * 81),
        "no Flops and memory there",
    ),
    (nn.Hardtanh(), X, (0, 0, 0, 0), (192, 192, 768, 768), "it runs as ReLU6"),
    (nn.Hardswish(), X, (0, 0, 0, 0), SAME, ""),
    (nn.AdaptiveAvgPool2d(3), X, (0, 0, 0, 0), SAME, ""),
    (nn.Dropout(), X, (0, 0, 0, 0), SAME, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape", "theirs", "ours", "why"), LAYERS, ids=lambda value: type(value).__name__
)
def test_layers(
    layer: nn.Module, shape: tuple[int, ...], theirs: Figures, ours: Figures | None, why: str
) -> None:
    assert counted(layer.eval(), shape) == (theirs if ours is None else ours)
    assert (ours is None or ours == theirs) is (not why)


def test_a_bilinear_layer() -> None:
    """torchstat's MAdd of (1, 4) and (1, 5) to 6 features is 294: it adds no bias, has no Flops."""
    layer = nn.Bilinear(4, 5, 6)
    flops, madd, _, _ = counted(layer, (1, 4), (1, 5))
    assert (flops, madd) == (6 * (4 * 5 + 5), 294)


# What torchstat can't see, by hand


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT, -1) @ v


OTHERS: list[tuple[str, Callable[..., Any], list[tuple[int, ...]], int, int]] = [
    ("a batch", nn.Linear(5, 3), [(2, 5)], 2 * 15, 2 * 3 * 9),
    ("a sequence", nn.Linear(5, 3, bias=False), [(2, 4, 5)], 8 * 15, 8 * 3 * 9),
    ("a product", torch.matmul, [(2, 3, 4), (2, 4, 5)], 2 * 60, 2 * 15 * 7),
    ("an outer product", torch.outer, [(3,), (4,)], 0, 0),
    ("a matrix and a vector", torch.mv, [(3, 4), (4,)], 12, 3 * 7),
    (
        "attention by products", attention, [(1, 3, 4), (1, 5, 4), (1, 5, 2)],
        15 * 4 + 15 * 2, 15 * 7 + 3 * (3 * 5 - 1) + 6 * 9,
    ),
    (
        "a convolution in one dimension", nn.Conv1d(2, 3, 3), [(2, 2, 6)],
        2 * 4 * 3 * (6 + 1), 2 * 4 * 3 * 12,
    ),
    ("in three", nn.Conv3d(2, 3, 2, bias=False), [(1, 2, 3, 3, 3)], 8 * 3 * 16, 8 * 3 * 31),
    ("pooling in one dimension", nn.MaxPool1d(2), [(1, 2, 6)], 12, 6),
    ("in three dimensions", nn.AvgPool3d(2), [(1, 2, 4, 4, 4)], 128, 8 * 16),
    ("functional calls", lambda x: functional.relu(x) + functional.elu(x), [(7,)], 14, 7),
    ("what it has no figure for", lambda x: functional.gelu(x).cumsum(0).sort(), [(7,)], 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "shapes", "flops", "madd"), [case[1:] for case in OTHERS], ids=[c[0] for c in OTHERS]
)
def test_what_torchstat_does_not_see(
    run: Callable[..., Any], shapes: list[tuple[int, ...]], flops: int, madd: int
) -> None:
    assert counted(run, *shapes)[:2] == (flops, madd)


def test_fused_attention_recurrent_layers_and_backwards_are_products() -> None:
    """2 x MACs as MAdd: 15·(4 + 2) of attention; 3 steps of 4·6·(5 + 6); 2 gradients of 2·15."""
    with FlopCounter(display=False, convention="torchstat") as counter, torch.no_grad():
        q, k, v = (torch.zeros(1, 1, n, d) for n, d in ((3, 4), (5, 4), (5, 4)))
        functional.scaled_dot_product_attention(q, k, v)
    assert figures(counter.profile)[:2] == (15 * 8, 2 * 15 * 8)
    with counter, torch.no_grad():
        nn.LSTM(5, 6)(torch.zeros(3, 1, 5))
    assert counter.macs == 3 * 4 * 6 * 11
    x = torch.zeros(2, 5, requires_grad=True)
    out = nn.Linear(5, 3, bias=False)(x).sum()
    with counter:
        out.backward()
    assert counter.macs == 2 * 30


def test_what_has_no_figure_moves_nothing() -> None:
    x = torch.zeros(4, 5)
    with FlopCounter(display=False, convention="torchstat") as counter:
        torch.cat([x + 1, x.sigmoid()]).clone()
    assert counter.profile.total == type(counter.profile.total)()
    assert not counter.profile.uncounted


def test_sparse_and_complex_operands() -> None:
    """Sparse products have no figure; a complex MAC is four."""
    sparse = torch.eye(4).to_sparse()
    with FlopCounter(display=False, convention="torchstat") as counter:
        torch.sparse.mm(sparse, torch.ones(4, 5))
    assert figures(counter.profile)[:2] == (0, 0)
    with counter:
        torch.zeros(2, 3, dtype=torch.complex64) @ torch.zeros(3, 4, dtype=torch.complex64)
    assert counter.macs == 4 * 24


def test_nothing_known_becomes_unknown() -> None:
    """Each operator with a rule has one here, and one without is reported as ever."""
    ours = convention("torchstat")
    assert {rule.overload for rule in default_registry()} == {rule.overload for rule in ours}
    with (
        pytest.warns(UncountedOperatorWarning, match="squared"),
        FlopCounter(display=False, convention="torchstat") as counter,
    ):
        squared(torch.ones(3))
    assert list(counter.profile.uncounted.values()) == [1]


def test_a_recording_is_priced_again() -> None:
    model = built("squeezenet1_1")
    with torch.no_grad():
        plain = count(model, (1, 3, 64, 64))
    again = plain.reprice("torchstat")
    assert again.convention == "torchstat"
    assert figures(again) == counted(model, (1, 3, 64, 64))
    assert again.params == plain.params == 1_235_496
