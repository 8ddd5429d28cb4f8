"""thop and our `profile` side by side: the same call, figures, tree and strings."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.video.resnet import Conv3DNoTemporal, Conv3DSimple

from flopdispatch import ArgumentError, UncountedOperatorWarning, default_registry
from flopdispatch.compat.thop import clever_format, profile

thop = pytest.importorskip("thop", reason="an extra; on Python 3.12 it needs setuptools")
basic_hooks = pytest.importorskip("thop.vision.basic_hooks")


def made(name: str) -> nn.Module:
    """A torchvision model on meta: both tools count it there."""
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    if "fcn" in name or "deeplab" in name:
        options = {"weights_backbone": None}
    with torch.device("meta"):
        found: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return found


def image(name: str) -> Tensor:
    shapes = {"inception_v3": (1, 3, 299, 299)}
    if name in ("r3d_18", "mc3_18", "r2plus1d_18"):
        return torch.empty(1, 3, 16, 112, 112, device="meta")
    return torch.empty(shapes.get(name, (1, 3, 224, 224)), device="meta")


def both(name: str, **theirs: Any) -> tuple[Any, Any]:
    """What each tool says of a torchvision model."""
    x = image(name)
    return (
        profile(made(name), inputs=(x,), verbose=False),
        thop.profile(made(name), inputs=(x,), verbose=False, **theirs),
    )


# Models

WHOLE = (
    "alexnet", "vgg11", "vgg16", "vgg16_bn", "vgg19_bn", "resnet18", "resnet34", "resnet50",
    "resnet101", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v3_small", "mobilenet_v3_large",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "squeezenet1_0", "squeezenet1_1",
    "r2plus1d_18",
)  # fmt: skip

# Their block widths need values when they are made.
ON_CPU = "regnet_x_400mf", "regnet_y_400mf", "regnet_x_800mf", "regnet_y_800mf"


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_that_thop_sees_whole_has_its_figures(name: str) -> None:
    ours, theirs = both(name)
    assert ours == theirs
    assert [type(figure) for figure in ours] == [float, float]


@pytest.mark.parametrize("name", ON_CPU)
def test_so_does_one_on_the_cpu(name: str) -> None:
    model, x = torchvision.models.get_model(name, weights=None), torch.randn(1, 3, 64, 64)
    ours = profile(model, inputs=(x,), verbose=False, ret_layer_info=True)
    assert ours == thop.profile(model, inputs=(x,), verbose=False, ret_layer_info=True)


def vit_attention() -> int:
    """12 layers of 12 heads, 197 positions of 768: four products of 768·768, attention."""
    heads = 12 * 197 * (197 + 196 + 197) + 2 * 197 * 197 * 768
    return 12 * (4 * 197 * 768 * 768 + heads)


# By how much thop is short, and what it doesn't see.
UNSEEN: dict[str, tuple[int, str]] = {
    "mobilenet_v2": (1280 * (49 + 1), "functional.adaptive_avg_pool2d"),
    "densenet121": (1024 * (49 + 1), "functional.adaptive_avg_pool2d"),
    "densenet169": (1664 * (49 + 1), "functional.adaptive_avg_pool2d"),
    "mnasnet0_5": (1280 * (49 + 1), "x.mean([2, 3])"),
    "shufflenet_v2_x0_5": (1024 * (49 + 1), "x.mean([2, 3])"),
    "inception_v3": (
        35 * 35 * (192 + 256 + 288) + 17 * 17 * 4 * 768 + 8 * 8 * (1280 + 2048),
        "functional.avg_pool2d",
    ),
    "fcn_resnet50": (11 * 21 * 224 * 224, "functional.interpolate"),
    "deeplabv3_resnet50": (11 * (21 * 224 * 224 + 256 * 28 * 28), "functional.interpolate"),
    "vit_b_16": (vit_attention(), "attention, which is a function"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_thop_cannot_see_is_added(name: str) -> None:
    (ours, params), (theirs, _) = both(name)
    assert ours - theirs == UNSEEN[name][0], UNSEEN[name][1]
    assert params == sum(p.numel() for p in made(name).parameters())


# Classes that are derived from a layer's, and thop's own rule for that.
DERIVED = {
    "convnext_tiny": {LayerNorm2d: basic_hooks.count_normalization},
    "r3d_18": {Conv3DSimple: basic_hooks.count_convNd},
    "mc3_18": {
        Conv3DSimple: basic_hooks.count_convNd,
        Conv3DNoTemporal: basic_hooks.count_convNd,
    },
}


@pytest.mark.parametrize("name", DERIVED)
def test_with_rules_for_derived_classes_thop_agrees(name: str) -> None:
    (ours, params), (theirs, _) = both(name, custom_ops=DERIVED[name])
    assert ours == theirs > both(name)[1][0]
    assert params == sum(p.numel() for p in made(name).parameters())


PARAMETERS = {
    "googlenet": (13_004_888, 6_624_904),  # auxiliary classifiers don't run in eval mode
    "inception_v3": (27_161_264, 23_834_568),
    "vit_b_16": (86_567_656, 58_067_176),  # bare parameters, and those of its attention
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_all_parameters_count(name: str) -> None:
    (_, ours), (_, theirs) = both(name)
    assert (ours, theirs) == PARAMETERS[name]


def test_the_documented_resnet50() -> None:
    model = made("resnet50")
    small = profile(model, inputs=(torch.randn(1, 3, 224, 224),), verbose=False)
    large = profile(model, inputs=((1, 3, 512, 512),), verbose=False)
    assert clever_format(small, "%.3f") == ("4.134G", "25.557M")
    assert clever_format(large, "%.3f") == ("21.588G", "25.557M")


# Interpolation


class Resize(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, **self.options)


@pytest.mark.parametrize(
    ("shape", "scale", "elements"),
    [
        ((2000, 3, 10, 10), 2, 2_400_000),
        ((2000, 3, 10, 10), (1.5, 1.5), 1_350_000),
        ((2000, 3, 10, 10), (0.5, 0.5), 150_000),
        ((1, 3, 7, 7), 1.7, 363),
    ],
)
@pytest.mark.parametrize(("mode", "each"), [("nearest", 1), ("bilinear", 11), ("bicubic", 259)])
def test_interpolation_is_counted_as_module_and_as_function(
    shape: tuple[int, ...], scale: Any, elements: int, mode: str, each: int
) -> None:
    x = torch.empty(shape, device="meta")
    module = nn.Sequential(nn.Upsample(scale_factor=scale, mode=mode))
    expected = (float(each * elements), 0.0)
    assert thop.profile(module, inputs=(x,), verbose=False) == expected
    assert profile(module, inputs=(x,), verbose=False) == expected
    function = Resize(scale_factor=scale, mode=mode)
    assert profile(function, inputs=(x,), verbose=False) == expected
    assert thop.profile(function, inputs=(x,), verbose=False) == (0, 0)


def test_another_convention_prices_otherwise() -> None:
    resize, x = Resize(scale_factor=2, mode="bilinear"), (2000, 3, 10, 10)
    assert profile(resize, (x,), verbose=False, convention="flopdispatch")[0] == 4 * 2_400_000
    assert profile(resize, (x,), verbose=False, convention=default_registry())[0] == 9_600_000
    assert profile(resize, (x,), verbose=False, convention="torch")[0] == 0


# The tree


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_the_tree_is_thops(name: str) -> None:
    x = image(name)
    ours = profile(made(name), (x,), verbose=False, ret_layer_info=True)
    assert ours == thop.profile(made(name), (x,), verbose=False, ret_layer_info=True)


class Block(nn.Module):
    """A module with work, parameters and a child that it uses twice of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4, bias=False)
        self.bare = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.inner(x)) @ self.bare
        return out


class Net(nn.Module):
    """Two blocks and what they share; one module that never runs."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(4, 4)
        self.one, self.two = nn.Sequential(Block(), shared), nn.Sequential(Block(), shared)
        self.idle = nn.Linear(10, 10, bias=False)
        self.idle.weight.requires_grad_(False)

    def forward(self, x: Tensor, *, more: Tensor | None = None) -> dict[str, Tensor]:
        out = self.two(self.one(x))
        return {"out": out if more is None else out @ more}


X = torch.randn(2, 4)
PRODUCT = 2 * 4 * 4


def test_the_tree_has_what_a_module_does_itself_and_shared_modules_once() -> None:
    macs, params, layers = profile(Net(), (X,), verbose=False, ret_layer_info=True)
    assert macs == 8 * PRODUCT == sum(layers[name][0] for name in ("one", "two"))
    assert params == 2 * 32 + 20 + 100
    assert layers["one"][0] == layers["two"][0] == 4 * PRODUCT
    block = layers["one"][2]["0"]
    assert block == (3 * PRODUCT, 32.0, {"inner": (2 * PRODUCT, 16.0, {})})
    assert layers["idle"] == (0.0, 100.0, {})


def test_leaf_root() -> None:
    """thop has a layer's MACs, and no parameters."""
    layer = nn.Linear(8, 4)
    assert profile(layer, inputs=(torch.ones(2, 8),), verbose=False) == (64.0, 36.0)
    assert thop.profile(nn.Linear(8, 4), (torch.ones(2, 8),), verbose=False) == (64, 0)
    assert profile(layer, ((2, 8),), verbose=False, ret_layer_info=True)[2] == {}


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert profile(model, (X,), verbose=False) == (2 * PRODUCT, 16 + 2 * 4)


def test_a_wrapper_has_the_figures_of_what_is_inside() -> None:
    inside = nn.Sequential(nn.Linear(4, 4), nn.LSTMCell(4, 6))
    wrapped = profile(nn.DataParallel(inside), (X,), verbose=False, ret_layer_info=True)
    assert wrapped == profile(inside, (X,), verbose=False, ret_layer_info=True)
    assert wrapped[0] > PRODUCT


def add_seven(module: Any, inputs: Any, output: Any) -> None:
    """A rule of the user's."""
    module.total_ops += torch.DoubleTensor([7])


# Inputs


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ((X,), None),
        ([X], None),
        (iter([X]), None),
        (((2, 4),), None),
        ({"x": X}, None),
        ((), {"x": X}),
    ],
    ids=["tuple", "list", "iterator", "shape", "dict", "kwargs"],
)
def test_inputs(inputs: Any, named: Any) -> None:
    assert profile(Net(), inputs, verbose=False, kwargs=named)[0] == 8 * PRODUCT


def test_inputs_and_keywords_together() -> None:
    more = torch.randn(4, 4)
    assert profile(Net(), (X,), verbose=False, kwargs={"more": more})[0] == 9 * PRODUCT
    assert profile(Net(), {"x": X}, verbose=False, kwargs={"more": more})[0] == 9 * PRODUCT


def test_several_inputs() -> None:
    layer = nn.Bilinear(3, 4, 5, bias=False)
    assert profile(layer, (torch.ones(2, 3), torch.ones(2, 4)), verbose=False)[1] == 60


def test_ultralytics_stride_is_taken_and_the_true_size_runs() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    x = torch.empty(1, 3, 640, 640, device="meta")
    expected = profile(model, inputs=[x], verbose=False)
    assert profile(model, inputs=[x], verbose=False, stride=32, min_cells=2) == expected
    assert expected[0] == 640 * 640 * 4 * 27 + 4 * (640 * 640 + 1)


# What is printed


def test_verbose_prints_the_rules_of_modules(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.LSTMCell(4, 6))
    profile(model, (X,), custom_ops={nn.Linear: add_seven})
    ours = capsys.readouterr().out.splitlines()
    thop.profile(model, (X,), custom_ops={nn.Linear: add_seven})
    theirs = capsys.readouterr().out.splitlines()
    assert len(ours) == 2
    assert ours == [line for line in theirs if "Sequential" not in line]
    profile(model, (X,), custom_ops={nn.Linear: add_seven}, verbose=False)
    assert capsys.readouterr().out == ""
    profile(model, (X,), custom_ops={nn.Linear: add_seven}, verbose=False, report_missing=True)
    assert capsys.readouterr().out.splitlines() == ours


@torch.library.custom_op("flopdispatch_thop::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    """2·x, of which no formula is known."""
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = twice(x)
        return out


def test_an_operator_without_a_formula_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UncountedOperatorWarning, match="flopdispatch_thop::twice"):
        profile(Unknown(), (X,), verbose=False, report_missing=True)
    assert capsys.readouterr().out == (
        "\033[91m[WARN] Cannot find rule for flopdispatch_thop::twice.default. "
        "Treat it as zero Macs.\n\033[00m"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile(nn.Linear(4, 4), (X,), report_missing=True)
    assert capsys.readouterr().out == ""


# Errors


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((lambda x: x, (X,)), {}, "profile() takes a module as its model, got function"),
        ((nn.ReLU(), X), {}, "in a tuple, such as (x,) or ((1, 3, 224, 224),), or a dict of them "
         "by name, got a tensor of shape (2, 4)"),
        ((nn.ReLU(), (2, 4)), {}, "in a tuple, such as (x,) or ((1, 3, 224, 224),), or a dict of "
         "them by name, got (2, 4)"),
        ((nn.ReLU(), "x"), {}, "inputs= takes the arguments that the model is called with"),
        ((nn.ReLU(), 3), {}, "inputs= takes the arguments that the model is called with"),
        ((nn.ReLU(), (X,)), {"kwargs": [X]}, "kwargs= takes arguments by name, got [tensor"),
        ((nn.ReLU(), (X,), [add_seven]), {}, "custom_ops= takes a dict of hooks by class, got ["),
        ((nn.ReLU(), (X,), {"ReLU": add_seven}), {}, "such as {nn.Linear: fn}, got 'ReLU': "),
        ((nn.ReLU(), (X,), {nn.ReLU: None}), {}, "got <class 'torch.nn.modules.activation.ReLU'>: "
         "None"),
        ((nn.ReLU(), (X,)), {"convention": "thop2"}, "convention= takes a Registry or one of"),
        ((nn.ReLU(), ((-1, 4),)), {}, "a shape has sizes >= 0, got (-1, 4)"),
        ((nn.LazyLinear(4), (X,)), {}, "is uninitialized (a lazy module)"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: Any, options: Any, said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        profile(*arguments, **options)
    assert said in str(caught.value)


def test_what_the_model_raises_comes_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        profile(nn.Linear(8, 4), (X,), verbose=False)
