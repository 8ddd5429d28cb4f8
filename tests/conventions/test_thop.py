"""thop itself beside its convention, layer by layer; by hand what thop gets wrong or can't see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence

from flopdispatch import Cost, FlopCounter, Profile, count, default_registry
from flopdispatch.conventions.thop import NORMALIZATION, recurrent, registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import OpCall, spec

thop = pytest.importorskip("thop", reason="an extra; on Python 3.12 it needs setuptools")

aten = torch.ops.aten


def counted(run: Callable[[], Any]) -> Profile:
    with FlopCounter(display=False, convention="thop") as counter, torch.no_grad():
        run()
    return counter.profile


def theirs(layer: nn.Module, x: Any) -> int:
    macs, _ = thop.profile(nn.Sequential(layer), inputs=(x,), verbose=False)
    assert macs == int(macs)
    return int(macs)


IMAGE, LINE, VOLUME = (2, 6, 8, 10), (2, 6, 12), (2, 6, 4, 6, 8)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv1d(6, 4, 3, padding=1), LINE),
    "Conv2d": (lambda: nn.Conv2d(6, 4, 3, stride=2), IMAGE),
    "Conv2d in groups": (lambda: nn.Conv2d(6, 9, (3, 2), groups=3, dilation=2, bias=False), IMAGE),
    "Conv2d depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), IMAGE),
    "Conv3d": (lambda: nn.Conv3d(6, 4, 3), VOLUME),
    "Linear": (lambda: nn.Linear(12, 5), LINE),
    "Linear without bias": (lambda: nn.Linear(6, 5, bias=False), (3, 6)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (4, 6)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(6), IMAGE),
    "BatchNorm2d without weights": (lambda: nn.BatchNorm2d(6, affine=False), IMAGE),
    "BatchNorm2d of the batch": (lambda: nn.BatchNorm2d(6, track_running_stats=False), IMAGE),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(6), VOLUME),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(6), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm((8, 10)), IMAGE),
    "LayerNorm without weights": (lambda: nn.LayerNorm(12, elementwise_affine=False), LINE),
    "LayerNorm without bias": (lambda: nn.LayerNorm(12, bias=False), LINE),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(6, affine=True), LINE),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(6), IMAGE),
    "InstanceNorm3d tracked": (lambda: nn.InstanceNorm3d(6, track_running_stats=True), VOLUME),
    "PReLU": (lambda: nn.PReLU(6), IMAGE),
    "Softmax of channels": (lambda: nn.Softmax(1), IMAGE),
    "Softmax of the last": (lambda: nn.Softmax(-1), LINE),
    "ReLU": (nn.ReLU, IMAGE),
    "ReLU6": (nn.ReLU6, IMAGE),
    "LeakyReLU": (nn.LeakyReLU, IMAGE),
    "Dropout": (nn.Dropout, IMAGE),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), LINE),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), IMAGE),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), VOLUME),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), IMAGE),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2), LINE),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "AvgPool3d": (lambda: nn.AvgPool3d(2), VOLUME),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(4), LINE),
    "AdaptiveAvgPool1d to one": (lambda: nn.AdaptiveAvgPool1d(1), LINE),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((4, 5)), IMAGE),
    "AdaptiveAvgPool2d to more": (lambda: nn.AdaptiveAvgPool2d(16), (2, 6, 8, 8)),
    "AdaptiveAvgPool2d to one": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), VOLUME),
    "AdaptiveAvgPool3d to one": (lambda: nn.AdaptiveAvgPool3d(1), VOLUME),
    "Upsample nearest 1d": (lambda: nn.Upsample(scale_factor=2), LINE),
    "Upsample nearest 2d": (lambda: nn.Upsample(size=(9, 11)), IMAGE),
    "Upsample nearest 3d": (lambda: nn.Upsample(scale_factor=2), VOLUME),
    "Upsample linear": (lambda: nn.Upsample(scale_factor=1.5, mode="linear"), LINE),
    "Upsample bilinear": (lambda: nn.Upsample(scale_factor=0.5, mode="bilinear"), IMAGE),
    "Upsample bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(size=3), IMAGE),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (2, 8, 4, 4)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(2), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_figure_is_thops(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make().eval(), torch.randn(*shape)
    expected = theirs(layer, x)
    assert counted(lambda: layer(x)).macs == expected
    with torch.inference_mode():
        assert count(layer, shape, convention="thop").macs == expected


def test_all_layers_but_the_idle_ones_have_a_figure() -> None:
    idle = {"ReLU", "ReLU6", "LeakyReLU", "Dropout", "PixelShuffle", "ZeroPad2d"}
    for name, (make, shape) in LAYERS.items():
        macs = theirs(make().eval(), torch.randn(*shape))
        assert (macs == 0) == (name in idle or "MaxPool" in name), name


# What thop gets wrong: its figure, the right one, why.
WRONG: dict[str, tuple[nn.Module, tuple[int, ...], int, int]] = {
    "a transposed convolution's taps at output positions":
        (nn.ConvTranspose2d(8, 16, 3, stride=2), (1, 8, 10, 10),
         21 * 21 * 16 * 8 * 9, 10 * 10 * 16 * 8 * 9),
    "and in groups, its channels in":
        (nn.ConvTranspose1d(8, 4, 2, stride=2, groups=2), (1, 8, 5),
         10 * 4 * (8 // 2) * 2, 5 * 8 * (4 // 2) * 2),
    "height taken for channels":
        (nn.Conv2d(3, 4, 3), (3, 8, 8), 4 * 6 * 6 * 8 * 9, 4 * 6 * 6 * 3 * 9),
    "an input without a batch, pooled in one dimension":
        (nn.AdaptiveAvgPool2d(2), (3, 8, 8), 12 * (4 + 1), 3 * (64 + 4)),
    "13/3·13/3 isn't 169/9 in floating point":
        (nn.AdaptiveAvgPool2d(3), (1, 1, 13, 13), 177, 169 + 9),
    "trilinear isn't looked up":
        (nn.Upsample(scale_factor=2, mode="trilinear"), (1, 2, 3, 3, 3), 0, 31 * 2 * 216),
    "nor is nearest-exact":
        (nn.Upsample(scale_factor=2, mode="nearest-exact"), (1, 2, 3), 0, 2 * 6),
    "a derived class has no rule":
        (type("Mine", (nn.Linear,), {})(4, 5), (2, 4), 0, 2 * 4 * 5),
    "group normalization has no rule": (nn.GroupNorm(2, 4), (3, 4, 5), 0, 4 * 60),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_thop_gets_wrong_isnt_copied(name: str) -> None:
    layer, shape, wrong, right = WRONG[name]
    x = torch.randn(*shape)
    assert theirs(layer, x) == wrong
    assert counted(lambda: layer.eval()(x)).macs == right


KERNELS = NORMALIZATION.split()


@pytest.mark.parametrize("name", KERNELS)
def test_whichever_kernel_normalizes(name: str) -> None:
    """Also those of other devices, which don't run here: (2, 3, 4), with weights and without."""
    for overload in overloads(name):
        for weight, expected in ((spec(3), 4 * 24), (None, 2 * 24)):
            call = OpCall(overload, (spec(2, 3, 4),), (("weight", weight),), (spec(2, 3, 4),))
            assert registry().price(call).cost.moving(0, 0) == Cost(macs=expected)


def test_these_are_the_kernels_that_normalize_forward() -> None:
    """But for RMS normalization and weights', which thop has none of."""
    forward = {
        str(rule.overload).removeprefix("aten.")
        for rule in default_registry()
        if rule.family == "normalization" and str(rule.overload).startswith("aten.")
    }
    others = "backward", "rms", "weight_norm", "renorm", "_stats.d", "stats_with", "quantized"
    assert {name for name in forward if not any(o in name for o in others)} <= set(KERNELS)


def test_rms_normalization_is_nothing_to_both() -> None:
    layer, x = nn.RMSNorm(8), torch.randn(3, 8)
    assert theirs(layer, x) == counted(lambda: layer(x)).macs == 0


# Functions


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        ((2, 3), 784 + 16),
        ((-1, -2), 784 + 16),
        ((1, 2, 3), 784 + 2),
        ((3,), 0),
        ((1,), 0),
        ((1, 2), 0),
        ((0, 1, 2, 3), 0),
    ],
)
def test_a_mean_over_an_image_is_pooling(dim: tuple[int, ...], expected: int) -> None:
    x = torch.randn(2, 8, 7, 7)
    assert counted(lambda: x.mean(dim)).macs == expected
    assert counted(lambda: x.mean(dim, keepdim=True)).macs == expected


@pytest.mark.parametrize("shape", [(7, 7), (2, 7, 7)])
def test_a_mean_of_all_is_no_pooling(shape: tuple[int, ...]) -> None:
    assert counted(lambda: torch.randn(shape).mean(tuple(range(len(shape))))).macs == 0


@pytest.mark.parametrize(
    ("mode", "each"),
    [("nearest", 1), ("nearest-exact", 1), ("bilinear", 11), ("bicubic", 259), ("area", None)],
)
def test_interpolation(mode: str, each: int | None) -> None:
    """An area's average is adaptive pooling: an operation an input and one a result."""
    x = torch.randn(2, 3, 10, 10)
    found = counted(lambda: functional.interpolate(x, scale_factor=(2, 1.5), mode=mode)).macs
    elements = 2 * 3 * 20 * 15
    assert found == (elements + 600 if each is None else elements * each)


@pytest.mark.parametrize(("mode", "each"), [("bilinear", 11), ("bicubic", 259)])
def test_antialiased_interpolation_goes_by_its_mode(mode: str, each: int) -> None:
    x = torch.randn(2, 3, 10, 10)
    found = counted(lambda: functional.interpolate(x, size=5, mode=mode, antialias=True))
    assert found.macs == 2 * 3 * 25 * each


def test_operations_are_counted_whatever_the_type() -> None:
    x = torch.ones(1, 3, 4, 4, dtype=torch.uint8)
    assert counted(lambda: functional.interpolate(x, scale_factor=2.0)).macs == 3 * 64


def attention_by_loops(b: int, s: int, t: int, d: int, e: int) -> int:
    """Products and softmax of b heads, one at a time."""
    found = 0
    for _ in range(b * s):  # a query
        found += t * d  # its scores
        found += t + (t - 1) + t  # exponentials, their sum, divisions
        found += t * e
    return found


def test_attention_is_products_and_a_softmax_on_any_device() -> None:
    q, k, v = torch.randn(2, 4, 10, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 8)
    attend = functional.scaled_dot_product_attention
    fused = counted(lambda: attend(q, k, v))
    plain = count(attend, (2, 4, 10, 8), (2, 4, 7, 8), (2, 4, 7, 8), convention="thop")
    assert aten._scaled_dot_product_flash_attention_for_cpu.default in fused.by_op()
    assert aten.bmm.default in plain.by_op()
    assert fused.macs == plain.macs == attention_by_loops(8, 10, 7, 8, 8)


def test_attentions_gradient_is_products() -> None:
    q = torch.randn(2, 4, 10, 8, requires_grad=True)
    out = functional.scaled_dot_product_attention(q, q, q)
    with FlopCounter(display=False, convention="thop") as counter:
        out.sum().backward()
    assert counter.macs == 8 * 10 * 10 * 4 * 8


FUSED = {
    "_native_multi_head_attention": nn.MultiheadAttention(16, 4, batch_first=True),
    "_transformer_encoder_layer_fwd": nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
    "_transformer_encoder_layer_fwd and GELU": nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, activation="gelu"
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_a_layer_that_a_kernel_runs_whole_has_the_figure_of_its_parts(name: str) -> None:
    layer, x = FUSED[name].eval(), torch.randn(2, 10, 16)
    attends = isinstance(layer, nn.MultiheadAttention)
    inputs = (x, x, x) if attends else (x,)
    whole = counted(lambda: layer(*inputs))
    with torch.no_grad():
        parts = count(layer, *(x.shape for x in inputs), convention="thop")
    assert getattr(aten, name.split(maxsplit=1)[0]).default in whole.by_op()
    attention = 4 * 20 * 16 * 16 + attention_by_loops(2 * 4, 10, 10, 4, 4)
    feed_forward = 2 * 20 * 16 * 32 + 2 * 4 * 20 * 16
    expected = attention if attends else attention + feed_forward
    assert whole.macs == parts.macs == expected


# Training


def test_a_training_step_is_a_forward_and_products_of_the_backward() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU())
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with FlopCounter(display=False, convention="thop") as counter:
        model(x).sum().backward()
    products, elements = 2 * 36 * 4 * 27, 2 * 36 * 4
    assert counter.macs == 3 * products + 4 * elements + elements


def test_bytes_and_operators_are_those_of_any_convention() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Upsample(scale_factor=2), nn.Softmax(1),
        nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip
    profile = count(model, (2, 3, 8, 8))
    again = profile.reprice("thop")
    assert again.total.nbytes == profile.total.nbytes > 0
    assert again.convention == "thop"
    assert again.flops == 2 * again.macs > profile.macs
    assert not again.uncounted


# Recurrent layers, by module

RECURRENT: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.RNN(4, 6), (3, 2, 4)),
    (nn.GRU(4, 6), (3, 2, 4)),
    (nn.LSTM(4, 6), (3, 2, 4)),
    (nn.LSTM(4, 6, bias=False, batch_first=True), (3, 2, 4)),
    (nn.GRU(4, 6, num_layers=3), (3, 2, 4)),
    (nn.RNN(4, 6, num_layers=2, bidirectional=True, nonlinearity="relu"), (3, 2, 4)),
    (nn.LSTM(4, 6, num_layers=3, bidirectional=True, dropout=0.5), (5, 2, 4)),
    (nn.GRU(4, 6, num_layers=2, bidirectional=True, bias=False), (5, 2, 4)),
    (nn.RNNCell(4, 6), (3, 4)),
    (nn.GRUCell(4, 6), (3, 4)),
    (nn.LSTMCell(4, 6), (3, 4)),
    (nn.LSTMCell(4, 6, bias=False), (3, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), RECURRENT, ids=str)
def test_a_recurrent_layers_figure_is_thops(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape)
    assert recurrent(layer, layer(x)) == theirs(layer, x) > 0


def test_a_recurrent_layer_by_hand() -> None:
    """A gate: 6 units of 4 inputs and 6 states, an addition of both and of 2 biases."""
    layer = nn.LSTM(4, 6)
    steps = 3 * 2
    assert recurrent(layer, layer(torch.randn(3, 2, 4))) == steps * (4 * (60 + 18) + 24) == 2_016


def test_a_sequence_without_a_batch_has_its_steps() -> None:
    layer, x = nn.GRU(4, 6), torch.randn(3, 4)
    assert recurrent(layer, layer(x)) == recurrent(layer, layer(x[:, None]))


def test_packed_sequences_have_the_steps_that_they_have() -> None:
    layer = nn.LSTM(4, 6)
    packed = pack_sequence([torch.randn(3, 4), torch.randn(1, 4)])
    assert recurrent(layer, layer(packed)) * 6 == 2_016 * 4
    assert theirs(layer, packed) == 2_016


def test_an_lstms_projection_counts() -> None:
    layer, x = nn.LSTM(4, 6, proj_size=5), torch.randn(3, 2, 4)
    assert recurrent(layer, layer(x)) == 6 * (4 * (6 * (4 + 5) + 18) + 24 + 6 * 5)


def test_by_operators_a_recurrent_layer_is_matrix_products_on_any_device() -> None:
    layer, x = nn.LSTM(4, 6), torch.randn(3, 2, 4)
    fused = counted(lambda: layer(x))
    assert aten.mkldnn_rnn_layer.default in fused.by_op()
    assert fused.macs == count(layer, (3, 2, 4), convention="thop").macs == 6 * 4 * 6 * (4 + 6)
