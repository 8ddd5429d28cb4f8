"""ptflops itself beside its face: models of torchvision, functions, layers inside of models."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ptflops
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch.compat.ptflops import get_model_complexity_info
from flopdispatch.compat.ptflops_counts import Count, Part, counted
from flopdispatch.spec import spec

Image = tuple[int, ...]
SMALL, CLIP = (3, 64, 64), (3, 4, 32, 32)
PATCHES = (3, 224, 224)

# Models that the tool sees all of, and the sizes that they are run at.
EQUAL: dict[str, Image] = {
    **dict.fromkeys(
        (
            "alexnet", "deeplabv3_mobilenet_v3_large", "densenet121", "efficientnet_b0",
            "efficientnet_v2_s", "fcn_resnet50", "googlenet", "lraspp_mobilenet_v3_large",
            "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
            "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d",
            "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn",
            "wide_resnet50_2",
        ),
        SMALL,
    ),
    "inception_v3": (3, 96, 96),
    "r2plus1d_18": CLIP,
    "vit_b_32": PATCHES,
}  # fmt: skip


def build(name: str) -> nn.Module:
    """A model with zeros for weights and statistics: what is counted doesn't depend on them."""
    options: dict[str, Any] = {"weights": None}
    if name in torchvision.models.list_models(torchvision.models.segmentation):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name.startswith("regnet"):  # it reads a tensor while it is made
        return zeroed(torchvision.models.get_model(name, **options))
    with torch.device("meta"):
        model = torchvision.models.get_model(name, **options)
    return zeroed(model.to_empty(device="cpu"))


def zeroed(model: nn.Module) -> nn.Module:
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def theirs(model: nn.Module, shape: Image, **options: Any) -> tuple[int, int]:
    found = ptflops.get_model_complexity_info(
        model, shape, as_strings=False, print_per_layer_stat=False, **options
    )
    assert found != (None, None), "ptflops failed"
    macs, params = found
    return int(macs), params


def ours(model: nn.Module, shape: Image, **options: Any) -> tuple[int, int]:
    macs, params = get_model_complexity_info(
        model, shape, as_strings=False, print_per_layer_stat=False, **options
    )
    assert isinstance(macs, int)
    assert isinstance(params, int)
    return macs, params


@pytest.mark.parametrize("name", EQUAL)
def test_a_model_is_the_tools_to_the_digit(name: str) -> None:
    model = build(name)
    assert ours(model, EQUAL[name]) == theirs(model, EQUAL[name])


def of_class(*names: str) -> Callable[[Part], bool]:
    """What runs in modules of these classes."""
    return lambda part: type(part.modules[-1]).__name__ in names


def operator(name: str, classes: tuple[str, ...]) -> Callable[[Part], bool]:
    """One operator in modules of these classes."""
    return lambda part: part.operator is getattr(torch.ops.aten, name) and of_class(*classes)(part)


WINDOWS = ("ShiftedWindowAttention", "ShiftedWindowAttentionV2", "ShiftedWindowAttention3d")

# Models that the tool sees in part: the size, what it can't see, and why.
DIFFERENT: dict[str, tuple[Image, Callable[[Part], bool], str]] = {
    "convnext_tiny": (SMALL, of_class("LayerNorm2d"), "a subclass of LayerNorm"),
    "r3d_18": (CLIP, of_class("Conv3DSimple"), "a subclass of Conv3d"),
    "mc3_18": (CLIP, of_class("Conv3DSimple", "Conv3DNoTemporal"), "subclasses of Conv3d"),
    "swin_t": (SMALL, operator("addmm", WINDOWS), "F.linear"),
    "swin3d_t": ((3, 4, 64, 64), operator("addmm", WINDOWS), "F.linear"),
}


def count_of(model: nn.Module, shape: Image) -> Count:
    return counted(
        model.eval(), spec(1, *shape), frozenset(), {}, engine="pytorch", patched=True,
        convention=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_all_of_what_the_tool_cannot_see(name: str) -> None:
    shape, unseen, why = DIFFERENT[name]
    model = build(name)
    macs, _ = theirs(model, shape)
    parts = count_of(model, shape).parts
    missing = sum(part.macs for part in parts if unseen(part))
    assert missing > 0
    assert ours(model, shape)[0] == macs + missing, why


def test_swins_second_version_multiplies_by_a_sign() -> None:
    """It misses F.linear, and `@` of queries and keys: one of two products of equal size."""
    model = build("swin_v2_t")
    parts = count_of(model, SMALL).parts
    linear, products = (
        sum(part.macs for part in parts if operator(name, WINDOWS)(part))
        for name in ("addmm", "bmm")
    )
    assert ours(model, SMALL)[0] == theirs(model, SMALL)[0] + linear + products // 2


def test_maxvits_attention_is_written_as_einsum() -> None:
    model = zeroed(
        torchvision.models.MaxVit(
            input_size=(64, 64), stem_channels=8, block_channels=[8, 8], block_layers=[1, 1],
            head_dim=4, stochastic_depth_prob=0.0, partition_size=4,
        )
    )  # fmt: skip
    unseen = operator("bmm", ("RelativePositionalMultiHeadAttention",))
    missing = sum(part.macs for part in count_of(model, SMALL).parts if unseen(part))
    assert missing > 0
    assert ours(model, SMALL)[0] == theirs(model, SMALL)[0] + missing


def test_timms_classes_hide_layers_from_the_tool() -> None:
    """Its formula for Attention leaves out the layers inside; timm's LayerNorm is a subclass."""
    model = timm.create_model(
        "vit_tiny_patch16_224", depth=2, embed_dim=32, num_heads=2, num_classes=4
    )
    parts = count_of(model, PATCHES).parts
    inside = [part for part in parts if len(part.modules) > 1]
    hidden = sum(p.macs for p in inside if type(p.modules[-2]).__name__ == "Attention")
    assert hidden == 2 * 197 * (32 * (3 * 32 + 3) + 32 * 33)
    norms = sum(part.macs for part in parts if part.operator is torch.ops.aten.native_layer_norm)
    assert norms == 5 * 197 * 32
    assert ours(model, PATCHES)[0] == theirs(model, PATCHES)[0] + hidden + norms


class Calls(nn.Module):
    """A model that is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, **keywords: Any) -> Any:
        return self.function(x, **keywords)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LSTM(6, 5, batch_first=True), (7, 6)),
        (nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True), (7, 6)),
        (nn.GRU(6, 5, num_layers=2, batch_first=True), (7, 6)),
        (nn.RNN(6, 5, nonlinearity="relu", batch_first=True), (7, 6)),
        (nn.LSTMCell(6, 5), (6,)),
        (nn.GRUCell(6, 5, bias=False), (6,)),
        (nn.RNNCell(6, 5), (6,)),
        (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (2, 4)), nn.Linear(4, 3)), (6, 2, 4)),
    ],
)
def test_layers_that_come_apart_are_the_tools(layer: nn.Module, shape: Image) -> None:
    assert ours(layer, shape) == theirs(layer, shape)


def test_a_linear_layer_has_its_bias_whatever_its_input_is() -> None:
    """Of a permuted input torch adds the bias by an operator of its own."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Any:
            return self.layer(x.permute(0, 2, 3, 1))

    assert ours(Net(), (3, 4, 4)) == theirs(Net(), (3, 4, 4)) == (16 * 5 * 4, 20)


class Attention(nn.Module):
    """Attention of an input with itself, or with another of 8 features."""

    def __init__(self, weights: bool, other: bool = False) -> None:
        super().__init__()
        sizes = {"kdim": 8, "vdim": 8} if other else {}
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **sizes)
        self.weights, self.other = weights, other

    def forward(self, x: Tensor) -> Any:
        y = x[..., :8] if self.other else x
        return self.attention(x, y, y, need_weights=self.weights)


def test_attention_is_the_tools_in_any_batch() -> None:
    def given(shape: Image) -> Tensor:
        return torch.zeros(3, *shape)

    model = Attention(weights=False)
    expected = theirs(model, (5, 16))
    assert ours(model, (5, 16)) == expected
    assert ours(model, (5, 16), input_constructor=given) == expected
    assert theirs(model, (5, 16), input_constructor=given) == expected


def test_masks_of_attention_are_no_biases() -> None:
    class Masked(Attention):
        def forward(self, x: Tensor) -> Any:
            lengths = torch.zeros(1, 5, device=x.device)
            return self.attention(
                x, x, x, lengths, need_weights=False, attn_mask=torch.zeros(5, 5, device=x.device)
            )

    assert ours(Masked(False), (5, 16)) == ours(Attention(False), (5, 16))


def test_attention_that_gives_weights_counts_once() -> None:
    """The tool counts two products and a softmax again, as functions: 4 heads, 5 by 5, 4 wide."""
    again = 4 * 25 * (4 + 4 + 1)
    assert ours(Attention(True), (5, 16)) == ours(Attention(False), (5, 16))
    assert theirs(Attention(True), (5, 16))[0] == ours(Attention(True), (5, 16))[0] + again


def test_attention_to_another_size_has_its_own_projections() -> None:
    """Keys and values of 8 become 16: the tool multiplies 8 by 8, and takes 8 for the result."""
    queries, keys, last = 5 * 16 * 17, 2 * 5 * 16 * (8 + 1), 5 * 16 * 17
    heads = 4 * 25 * (4 + 4 + 1) + 5 * 16
    assert ours(Attention(False, other=True), (5, 16))[0] == queries + keys + heads + last
    wrong = 5 * 16 * 16 + 2 * 5 * 8 * 8 + 15 * 16 + 4 * 25 * (4 + 2 + 1) + 5 * 16 + 5 * 8 * 9
    assert theirs(Attention(False, other=True), (5, 16))[0] == wrong


def test_functions_count_once_and_modules_twice() -> None:
    model = nn.Sequential(nn.ReLU(), Calls(lambda x: functional.relu(x)))  # noqa: PLW0108
    assert ours(model, (4, 5)) == theirs(model, (4, 5)) == (3 * 20, 0)


@pytest.mark.parametrize("functions", [False, True])
def test_modules_alone(functions: bool) -> None:
    """A ReLU as a module, as a function and in a class derived from it; softmax is a function."""

    class Derived(nn.ReLU):
        pass

    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), Derived(), nn.BatchNorm2d(4), nn.Softmax(-1),
        Calls(lambda x: functional.relu(x) @ x), nn.Upsample(scale_factor=2),
    )  # fmt: skip
    config = {"count_functional": functions}
    product = 4 * 36 * 6  # the tool doesn't see `@`
    expected, _ = theirs(model, (3, 8, 8), backend_specific_config=config)
    found, _ = ours(model, (3, 8, 8), backend_specific_config=config)
    assert found == expected + (product if functions else 0)


# Interpolation. The tool's own figures are given where they are wrong.


@pytest.mark.parametrize(
    ("options", "outputs", "tools"),
    [
        ({"scale_factor": 2}, 2_400_000, 2_400_000),
        ({"scale_factor": 2, "mode": "bilinear"}, 2_400_000, 2_400_000),
        ({"scale_factor": (2, 2), "mode": "bilinear"}, 2_400_000, 2_400_000),
        ({"scale_factor": [2, 2], "mode": "bilinear"}, 2_400_000, None),
        ({"scale_factor": (1.5, 1.5), "mode": "bilinear"}, 1_350_000, 600_000),
        ({"scale_factor": (0.5, 0.5), "mode": "bilinear"}, 150_000, 0),
        ({"size": (20, 20), "mode": "bicubic"}, 2_400_000, 2_400_000),
    ],
)
def test_interpolation_is_an_output_element_each(
    options: dict[str, Any], outputs: int, tools: int | None
) -> None:
    """2000 images of 3 channels, 10x10, given by keyword: nothing is divided by the batch."""
    model = Calls(lambda x: functional.interpolate(x, **options))

    def given(shape: Image) -> dict[str, Any]:
        return {"x": torch.zeros(2000, *shape)}

    assert ours(model, (3, 10, 10), input_constructor=given)[0] == outputs
    found = ptflops.get_model_complexity_info(
        model, (3, 10, 10), as_strings=False, print_per_layer_stat=False, input_constructor=given
    )
    assert found[0] == tools


def test_a_fractional_factor() -> None:
    """7x7 by 1.7 is 11x11; of 3 channels, 363."""
    model = Calls(lambda x: functional.interpolate(x, scale_factor=1.7))
    assert ours(model, (3, 7, 7))[0] == 3 * 11 * 11
    assert theirs(model, (3, 7, 7))[0] == 424


def test_a_batch_divides_layers_and_functions_alike() -> None:
    """2000 images of 1,200 output elements, once as a function, twice as a layer."""

    def given(shape: Image) -> Tensor:
        return torch.zeros(2000, *shape)

    function = Calls(lambda x: functional.interpolate(x, scale_factor=2))
    layer = nn.Upsample(scale_factor=2)
    assert ours(function, (3, 10, 10), input_constructor=given)[0] == 1200
    assert ours(layer, (3, 10, 10), input_constructor=given)[0] == 2 * 1200
    assert theirs(function, (3, 10, 10), input_constructor=given)[0] == 2_400_000
    assert theirs(layer, (3, 10, 10), input_constructor=given)[0] == 2_400_000


# The printout


def printed(tool: Any, model: nn.Module, shape: Image, **options: Any) -> tuple[str, Any]:
    stream = io.StringIO()
    found = tool.get_model_complexity_info(model, shape, ost=stream, **options)
    return stream.getvalue(), found


@pytest.mark.parametrize(
    "options",
    [{}, {"flops_units": "KMac", "param_units": "K", "output_precision": 4}, {"as_strings": False}],
)
def test_the_printout_is_the_tools(options: dict[str, Any]) -> None:
    """Where nothing is counted twice, character by character; lists print alike layers once."""
    from flopdispatch.compat import ptflops as face  # noqa: PLC0415

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU())
            self.many = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
            self.named = nn.ModuleDict({"head": nn.Linear(1152, 10), "rest": nn.Identity()})
            self.missing = None

        def forward(self, x: Tensor) -> Any:
            x = self.first(x)
            for layer in self.many:
                x = layer(x)
            return self.named["rest"](self.named["head"](x.flatten(1)))

    model = Net()
    assert printed(face, model, (3, 14, 14), **options) == printed(
        ptflops, model, (3, 14, 14), **options
    )


def test_the_other_engines_printout_and_figure_are_the_tools() -> None:
    from flopdispatch.compat import ptflops as face  # noqa: PLC0415

    model = build("squeezenet1_1").requires_grad_(False)
    text, found = printed(ptflops, model, SMALL, backend="aten")
    assert "aten.convolution" in text
    assert printed(face, model, SMALL, backend="aten") == (text, found)
