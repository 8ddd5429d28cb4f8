"""fvcore's own figures beside ours: equal where it sees the whole model, else explained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from fvcore import nn as theirs
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch.compat import fvcore as ours

IMAGE = (1, 3, 64, 64)
CLIP = (1, 3, 4, 32, 32)

# What fvcore sees the whole of.
WHOLE = {
    "alexnet": IMAGE, "convnext_tiny": IMAGE, "deeplabv3_mobilenet_v3_large": IMAGE,
    "densenet121": IMAGE, "efficientnet_b0": IMAGE, "googlenet": IMAGE,
    "inception_v3": (1, 3, 80, 80), "lraspp_mobilenet_v3_large": IMAGE, "mc3_18": CLIP,
    "mnasnet0_5": IMAGE, "mobilenet_v2": IMAGE, "mobilenet_v3_small": IMAGE, "r2plus1d_18": CLIP,
    "r3d_18": CLIP, "regnet_x_400mf": IMAGE, "regnet_y_400mf": IMAGE, "resnet18": IMAGE,
    "resnet50": IMAGE, "resnext50_32x4d": IMAGE, "shufflenet_v2_x0_5": IMAGE,
    "squeezenet1_0": IMAGE, "swin_t": IMAGE, "vgg11_bn": IMAGE,
}  # fmt: skip

# What only a trace takes for operators: arithmetic on sizes.
ON_SIZES = {"swin_t": {"aten::mul", "aten::rsub", "aten::pow"}}

# `x[i] = 1`, which an older torch runs as a copy of a number where a mode is active.
OLDER = {"aten::fill_"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """fvcore logs what it leaves out, and the tracer warns."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@cache
def model(name: str) -> Any:
    options = {"weights_backbone": None} if name.startswith(("deeplab", "lraspp")) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torchvision.models.get_model(name, weights=None, **options).eval()


def both(made: nn.Module, *inputs: Any) -> tuple[Any, Any]:
    """The two analyses, run."""
    pair = ours.FlopCountAnalysis(made, inputs), theirs.FlopCountAnalysis(made, inputs)
    for analysis in pair:
        analysis.total()
    return pair


@pytest.mark.parametrize("name", WHOLE)
def test_counts_are_fvcores_to_the_digit(name: str) -> None:
    mine, other = both(model(name), torch.ones(WHOLE[name]))
    assert mine.total() == other.total() > 0
    assert mine.by_operator() == other.by_operator()
    assert mine.by_module() == other.by_module()
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.uncalled_modules() == other.uncalled_modules()
    assert not mine.unsupported_ops() - other.unsupported_ops()
    more = set(other.unsupported_ops() - mine.unsupported_ops())
    assert more - OLDER == ON_SIZES.get(name, set())


@pytest.mark.parametrize("name", list(WHOLE)[::2])
def test_activations_are_fvcores_to_the_digit(name: str) -> None:
    x = torch.ones(WHOLE[name])
    mine = ours.ActivationCountAnalysis(model(name), x)
    other = theirs.ActivationCountAnalysis(model(name), x)
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.total() == other.total() > 0
    assert set(mine.unsupported_ops()) <= set(other.unsupported_ops())


def test_training_is_counted_as_fvcore_counts_it() -> None:
    trained = torchvision.models.mobilenet_v2().train()
    mine, other = both(trained, torch.ones(2, 3, 32, 32))
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.total() > ours.FlopCountAnalysis(trained.eval(), torch.ones(2, 3, 32, 32)).total()


def test_older_calls() -> None:
    x = torch.ones(IMAGE)
    mine, other = (
        ours.flop_count(model("resnet18"), (x,)),
        theirs.flop_count(model("resnet18"), (x,)),
    )
    assert mine == other
    assert type(mine[0]) is type(other[0])
    acts = ours.activation_count(model("resnet18"), (x,))
    assert acts[0] == theirs.activation_count(model("resnet18"), (x,))[0]
    assert ours.flop_count(model("resnet18"), (x,), {"aten::linear": None})[0].keys() == {
        "conv", "batch_norm", "adaptive_avg_pool2d",
    }  # fmt: skip


# Differences, by name


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def bilinear(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear")


A, B = torch.ones(2, 3), torch.ones(4, 3, 5)
X, V = torch.ones(2, 3, 8, 8), torch.ones(3)

# A model, its inputs, our count, fvcore's (or its error), and why.
DIFFERENCES: dict[str, tuple[nn.Module, tuple[Tensor, ...], int, Any, str]] = {
    "fused attention": (
        Call(functional.scaled_dot_product_attention), (torch.ones(1, 2, 6, 4),) * 3,
        2 * 6 * 6 * (4 + 4), 0, "it has no handle: aten::scaled_dot_product_attention",
    ),
    "a recurrent layer": (
        nn.LSTM(4, 5), (torch.ones(6, 2, 4),),
        6 * 2 * 4 * 5 * (4 + 5), 0, "it has no handle: aten::lstm",
    ),
    "padding by name": (
        nn.Conv2d(3, 4, 3, padding="same"), (X,),
        2 * 4 * 64 * 27, 0, "it has no handle: aten::_convolution_mode",
    ),
    "a first factor that broadcasts": (
        Call(torch.matmul), (A, B),
        4 * 2 * 3 * 5, 2 * 3 * 5, "it takes the first factor's elements for the product's rows",
    ),
    "a matrix and a vector": (
        Call(torch.matmul), (A, V),
        2 * 3, IndexError, "it asks the vector for a second size",
    ),
    "an outer product by einsum": (
        Call(lambda x, y: torch.einsum("i,j->ij", x, y)), (torch.ones(5), torch.ones(7)),
        0, 18, "it halves one more than the products, though nothing is summed",
    ),
    "a product by einsum": (
        Call(lambda x, y: torch.einsum("ij,jk->ik", x, y)),
        (torch.ones(7, 111), torch.ones(111, 17)),
        7 * 111 * 17, 13_210, "it reads four digits of NumPy's estimate, 2.642e+04, and halves it",
    ),
    "instance normalization by running statistics": (
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True).eval(), (X,),
        2 * X.numel(), 5 * X.numel(), "it counts it as by the input's own",
    ),
    "one row to normalize": (
        nn.LayerNorm(3), (V,),
        5 * 3, AssertionError, "it takes two to five dimensions",
    ),
    "one dimension to pool": (
        nn.AdaptiveAvgPool1d(1), (torch.ones(2, 3, 8),),
        2 * 3 * 8, 0, "it has no handle: aten::adaptive_avg_pool1d",
    ),
    "a mean that is written as a pooling runs": (
        Call(lambda x: x.mean((-1, -2), keepdim=True)), (X,),
        X.numel(), 0, "to us they are the same",
    ),
    "what isn't used": (
        Call(lambda x, y: (x @ y, x + 1)[1]), (A, A.T),
        2 * 2 * 3, 0, "the trace leaves it out",
    ),
    "complex numbers": (
        Call(torch.mm), (A.to(torch.cfloat), A.T.to(torch.cfloat)),
        4 * 2 * 3 * 2, 2 * 3 * 2, "a complex MAC is four",
    ),
    "integers": (
        Call(torch.mm), (A.long(), A.T.long()),
        0, 2 * 3 * 2, "these are no floating-point operations; we list aten::mm as unsupported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_has_its_reason(name: str) -> None:
    made, inputs, mine, other, why = DIFFERENCES[name]
    assert why
    assert ours.FlopCountAnalysis(made.eval(), inputs).total() == mine
    analysis = theirs.FlopCountAnalysis(made, inputs)
    if isinstance(other, type):
        with pytest.raises(other):
            analysis.total()
    else:
        assert analysis.total() == other


def test_what_is_counted_in_addition_is_not_unsupported() -> None:
    attention = Call(functional.scaled_dot_product_attention)
    mine, other = both(attention, *(torch.ones(1, 2, 6, 4),) * 3)
    assert mine.by_operator() == {"scaled_dot_product_attention": 2 * 6 * 6 * 8}
    assert not mine.unsupported_ops()
    assert set(other.unsupported_ops()) == {"aten::scaled_dot_product_attention"}
    same = ours.FlopCountAnalysis(nn.Conv2d(3, 4, 3, padding="same"), X)
    assert same.by_operator() == {"conv": 2 * 4 * 64 * 27}
    integers = ours.FlopCountAnalysis(Call(torch.mm), DIFFERENCES["integers"][1])
    integers.total()
    assert integers.unsupported_ops() == {"aten::mm": 1}


def test_a_vision_transformer_is_fvcores_and_its_attention() -> None:
    """2 layers of 17 tokens by 48: each pair of tokens has two products of 48."""
    made = torchvision.models.VisionTransformer(64, 16, 2, 4, 48, 96).eval()
    mine, other = both(made, torch.ones(IMAGE))
    attention = 2 * 2 * 17 * 17 * 48
    assert mine.by_operator() - other.by_operator() == {"scaled_dot_product_attention": attention}
    assert mine.total() == other.total() + attention
    layer = "encoder.layers.encoder_layer_0"
    assert mine.total(layer) == other.total(layer) + attention // 2


def test_maxvit_is_fvcores_but_for_einsums_digits() -> None:
    made = torchvision.models.MaxVit((56, 56), 16, 7, [16, 32], [1, 1], 8, 0.0).eval()
    mine, other = both(made, torch.ones(1, 3, 56, 56))
    products, rounded = (found.by_operator().pop("einsum") for found in (mine, other))
    assert products != rounded
    assert products == pytest.approx(rounded, rel=5e-4)
    assert mine.by_operator() == other.by_operator()


@pytest.mark.parametrize(
    ("function", "per_element", "size"),
    [
        (bilinear, 4, 20),
        (lambda x: functional.interpolate(x, scale_factor=2), 1, 20),
        (lambda x: functional.interpolate(x, scale_factor=[1.5, 1.5], mode="bilinear"), 4, 15),
        (lambda x: functional.interpolate(x, scale_factor=0.5, mode="bilinear"), 4, 5),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 4, 20),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"), 0, 20),
    ],
)  # fmt: skip
def test_interpolation(function: Any, per_element: int, size: int) -> None:
    mine, other = both(Call(function), torch.ones(2000, 3, 10, 10))
    assert mine.total() == other.total() == 2000 * 3 * size * size * per_element
    assert mine.by_operator() == other.by_operator()
    assert mine.unsupported_ops() == other.unsupported_ops()


def test_another_convention() -> None:
    layer = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    x = torch.ones(2, 8)
    assert ours.FlopCountAnalysis(layer, x).total() == 2 * 8 * 8 + 5 * 16
    assert ours.FlopCountAnalysis(layer, x, convention="torch").total() == 2 * 8 * 8
