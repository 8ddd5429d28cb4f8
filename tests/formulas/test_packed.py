from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import mkldnn as mkldnn_utils

from flopdispatch import FlopCounter
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.packed import AFTER, rules
from flopdispatch.spec import OpCall, TensorSpec, spec
from tests.pricing import cost_of_specs, overload_of, price
from tests.real_calls import counted

mkldnn, onednn = torch.ops.mkldnn, torch.ops.onednn

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)

Row = tuple[str, str, tuple[Any, ...], TensorSpec | None, Cost]

X, BIAS = spec(2, 4), spec(3)
Y = spec(2, 3)
PLAIN = Cost(macs=24, adds=6)  # 2·3 outputs of 4 terms and a bias
IMAGE, FILTERS, OUT = spec(2, 4, 6, 6), spec(8, 2, 3, 3), spec(2, 8, 6, 6)
GEOMETRY = ((1, 1), (1, 1), (1, 1), 2)
CONV = Cost(macs=576 * 18, adds=576)  # 2·8·6·6 outputs of 2·9 taps and a bias
UP = spec(2, 5, 6, 6)


def quantized(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=torch.uint8)


def ints(macs: int, ops: int) -> Cost:
    """Integer MACs, each two operations, and more operations."""
    return Cost(int_macs=macs, int_ops=2 * macs + ops)


QX = quantized(2, 4)
QLINEAR = (QX, 0.1, 0, spec(4, 3, dtype=torch.int8), BIAS, BIAS)
QIMAGE = quantized(2, 4, 6, 6)
QCONV = (QIMAGE, 0.1, 0, spec(8, 2, 3, 3, dtype=torch.int8), spec(8), spec(8))
TENSORS = (QIMAGE, spec(), spec(), spec(8, 2, 3, 3, dtype=torch.int8), spec(8), spec(8))
INTO = (0.1, 0, torch.uint8)

# (why, in words; operator; arguments; result; expected)
ROWS: list[Row] = [
    ("24 MACs, 6 biases", "mkldnn::_linear_pointwise.default",
     (X, spec(3, 4), BIAS, "none", (), ""), Y, PLAIN),
    ("and 6 sigmoids", "mkldnn::_linear_pointwise.default",
     (X, spec(3, 4), None, "swish", (), ""), Y,
     Cost(macs=24, comparisons=6, transcendentals=6, adds=6, divs=6)),
    ("3 muls, an add and an erf", "mkldnn::_linear_pointwise.default",
     (X, spec(3, 4), None, "gelu", (), "none"), Y,
     Cost(macs=24, muls=18, adds=6, transcendentals=6)),
    ("6 muls, 2 adds and a tanh", "mkldnn::_linear_pointwise.default",
     (X, spec(3, 4), None, "gelu", (), "tanh"), Y,
     Cost(macs=24, muls=36, adds=12, transcendentals=6)),
    ("and 6 sums", "mkldnn::_linear_pointwise.binary",
     (X, Y, spec(3, 4), BIAS, "add"), Y, PLAIN + Cost(adds=6)),
    ("a packed weight of any shape", "mkl::_mkl_linear.default",
     (X, spec(1), spec(3, 4), BIAS, 2), Y, PLAIN),
    ("24 MACs, 6 biases", "onednn::linear_dynamic_fp16.default", (X, spec(4, 3), BIAS), Y, PLAIN),
    ("and 6 maxima", "onednn::linear_relu_dynamic_fp16.default",
     (X, spec(4, 3), BIAS), Y, PLAIN + Cost(comparisons=6)),
    ("4 MACs for each of 6 gradients", "mkldnn_linear_backward_input.default",
     ((2, 4), Y, spec(3, 4)), X, Cost(macs=24)),
    ("as many, and 3 sums of 2 rows", "mkldnn_linear_backward_weights.default",
     (Y, X, spec(3, 4), True), None, Cost(macs=24, adds=3)),
    ("no bias", "mkldnn_linear_backward_weights.default",
     (Y, X, spec(3, 4), False), None, Cost(macs=24)),
    ("576 outputs of 18 taps", "mkldnn::_convolution_pointwise.default",
     (IMAGE, FILTERS, spec(8), *GEOMETRY, "none", (), ""), OUT, CONV),
    ("the weight's channels may be laid out by group", "mkldnn::_convolution_pointwise.default",
     (IMAGE, spec(2, 4, 2, 3, 3), spec(8), *GEOMETRY, "relu", (), ""), OUT,
     CONV + Cost(comparisons=576)),
    ("plus the other tensor, then a maximum", "mkldnn::_convolution_pointwise.binary",
     (IMAGE, OUT, FILTERS, spec(8), *GEOMETRY, "add", None, "relu", (), ""), OUT,
     CONV + Cost(adds=576, comparisons=576)),
    ("plus twice the other tensor", "mkldnn::_convolution_pointwise_.binary",
     (OUT, IMAGE, FILTERS, spec(8), *GEOMETRY, "add", 2.0, None, (), ""), OUT,
     CONV + Cost(adds=576, muls=576)),
    ("288 inputs of 5·9 taps, 360 biases", "mkldnn::_convolution_transpose_pointwise.default",
     (IMAGE, spec(4, 5, 3, 3), spec(5), (1, 1), (0, 0), (1, 1), (1, 1), 1, "none", (), ""), UP,
     Cost(macs=288 * 45, adds=360)),
    ("integers: a bias, a mul, an add, 3 comparisons", "onednn::qlinear_pointwise.default",
     (*QLINEAR, BIAS, *INTO, "none", (), ""), quantized(2, 3), ints(24, 36)),
    ("and a maximum", "onednn::qlinear_pointwise.tensor",
     (QX, spec(), spec(), *QLINEAR[3:], None, *INTO, "relu", (), ""), quantized(2, 3),
     ints(24, 36)),
    ("to floats: a mul and a bias", "onednn::qlinear_pointwise.default",
     (*QLINEAR, BIAS, 1.0, 0, torch.float32, "none", (), ""), Y,
     ints(24, 0) + Cost(muls=6, adds=6)),
    ("8-bit floats are floating", "onednn::qlinear_pointwise.default",
     (spec(2, 4, dtype=torch.float8_e4m3fn), *QLINEAR[1:], BIAS, 1.0, 0, torch.float32, "none",
      (), ""), Y, Cost(macs=24, muls=6, adds=6)),
    ("a float added, a maximum", "onednn::qlinear_pointwise.binary",
     (*QLINEAR, Y, None, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "relu", (), ""), Y,
     ints(24, 0) + Cost(muls=6, adds=6, comparisons=6)),
    ("an integer is dequantized first: 3 more", "onednn::qlinear_pointwise.binary_tensor",
     (QX, spec(), spec(), *QLINEAR[3:], quantized(2, 3), None, *INTO, 1.0, 0, "sum", 1.0, "none",
      (), ""), quantized(2, 3), ints(24, 6 * (5 + 3))),
    ("sums of 18 taps in integers; a bias, 5 to quantize", "onednn::qconv2d_pointwise.default",
     (*QCONV, spec(8), *GEOMETRY, *INTO, "none", (), ""), quantized(2, 8, 6, 6),
     ints(576 * 18, 576 * 6)),
    ("and a maximum", "onednn::qconv2d_pointwise.tensor",
     (*TENSORS, spec(8), *GEOMETRY, *INTO, "relu", (), ""), quantized(2, 8, 6, 6),
     ints(576 * 18, 576 * 7)),
    ("the same", "onednn::qconv_pointwise.default",
     (*QCONV, spec(8), *GEOMETRY, *INTO, "none", (), ""), quantized(2, 8, 6, 6),
     ints(576 * 18, 576 * 6)),
    ("the same", "onednn::qconv_pointwise.tensor",
     (*TENSORS, spec(8), *GEOMETRY, *INTO, "none", (), ""), quantized(2, 8, 6, 6),
     ints(576 * 18, 576 * 6)),
    ("2·8·6 outputs of 4·3 taps", "onednn::qconv1d_pointwise.default",
     (quantized(2, 4, 6), 0.1, 0, spec(8, 4, 3, dtype=torch.int8), spec(8), spec(8), None,
      (1,), (1,), (1,), 1, *INTO, "none", (), ""), quantized(2, 8, 6), ints(96 * 12, 96 * 5)),
    ("2·8·27 outputs of 4·27 taps", "onednn::qconv3d_pointwise.default",
     (quantized(2, 4, 3, 3, 3), 0.1, 0, spec(8, 4, 3, 3, 3, dtype=torch.int8), spec(8), spec(8),
      None, (1,) * 3, (1,) * 3, (1,) * 3, 1, *INTO, "none", (), ""), quantized(2, 8, 3, 3, 3),
     ints(432 * 108, 432 * 5)),
    ("an integer is dequantized and added: 3; a maximum", "onednn::qconv2d_pointwise.binary",
     (*QCONV, quantized(2, 8, 6, 6), spec(8), *GEOMETRY, *INTO, 1.0, 0, "sum", 1.0, "relu", (),
      ""), quantized(2, 8, 6, 6), ints(576 * 18, 576 * (1 + 5 + 3 + 1))),
    ("the same", "onednn::qconv2d_pointwise.binary_tensor",
     (*TENSORS, quantized(2, 8, 6, 6), spec(8), *GEOMETRY, *INTO, 1.0, 0, "sum", 1.0, "relu", (),
      ""), quantized(2, 8, 6, 6), ints(576 * 18, 576 * (1 + 5 + 3 + 1))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, name: str, args: tuple[Any, ...], result: TensorSpec | None, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result) == expected, why


def test_every_counted_rule_has_a_row() -> None:
    rows = {overload_of(row[1]) for row in ROWS} | {
        overload_of("mkldnn_prepacked::conv2d_run.default")
    }
    assert {rule.overload for rule in rules if rule.state == "counted"} == rows


def test_zeros_are_packing_and_questions() -> None:
    zeros = [str(rule.overload) for rule in rules if rule.state == "zero"]
    told = ("pack", "reorder", "data_ptr", "nbytes", "serialized")
    assert zeros
    assert all(any(word in zero for word in told) for zero in zeros), zeros


# What oneDNN itself runs


def test_real_convolutions_with_packed_weights() -> None:
    image, filters, bias = torch.rand(2, 4, 6, 6), torch.rand(8, 2, 3, 3), torch.rand(8)
    geometry = ([1, 1], [1, 1], [1, 1], 2)
    packed = mkldnn._reorder_convolution_weight(filters, *geometry, list(image.shape))
    args: tuple[Any, ...] = (image, packed, bias, *geometry, "relu", [], "")
    assert counted(mkldnn._convolution_pointwise, *args) == CONV + Cost(comparisons=576)
    args = (image, torch.rand(2, 8, 6, 6), packed, bias, *geometry, "mul", None, None, [], "")
    assert counted(mkldnn._convolution_pointwise.binary, *args) == CONV + Cost(muls=576)


def test_real_quantized_convolutions() -> None:
    image = torch.randint(0, 5, (2, 4, 6, 6), dtype=torch.uint8)
    filters = torch.randint(-5, 5, (8, 2, 3, 3), dtype=torch.int8)
    ones, zeros = torch.ones(8), torch.zeros(8, dtype=torch.int32)
    geometry = ([1, 1], [1, 1], [1, 1], 2)
    packed = onednn.qconv_prepack(filters, ones, 1.0, 0, *geometry, None)
    before = (image, 1.0, 0, packed, ones, zeros, torch.rand(8), *geometry, 1.0, 0)
    into_ints = counted(onednn.qconv2d_pointwise, *before, torch.uint8, "none", [], "")
    assert into_ints == ints(576 * 18, 576 * 6)
    into_floats = counted(onednn.qconv2d_pointwise, *before, torch.float32, "relu", [], "")
    assert into_floats == ints(576 * 18, 0) + Cost(muls=576, adds=576, comparisons=576)


def test_a_packed_weight_is_read_once() -> None:
    """2·4 numbers, 3·4 weights and 3 biases, however large the packed weight is; 2·3 results."""
    overload = overload_of("mkl::_mkl_linear.default")
    weight = torch.rand(3, 4)
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, 2)
    moved = price(overload, torch.rand(2, 4), packed, weight, torch.rand(3), 2).cost
    assert (moved.bytes_read, moved.bytes_written) == (4 * (8 + 12 + 3), 4 * 6)
    assert moved.moving(0, 0) == PLAIN


def test_a_convolution_that_torchscript_packed() -> None:
    image, filters = torch.rand(1, 4, 6, 6), torch.rand(8, 2, 3, 3)
    packed = torch.ops.mkldnn_prepacked.conv2d_prepack(
        filters, torch.rand(8), [1, 1], [1, 1], [1, 1], 2, [1, 4, 6, 6], "none"
    )
    found = counted(torch.ops.mkldnn_prepacked.conv2d_run, image, packed)
    assert found == Cost(macs=288 * 18, adds=288)
    image_spec, result = spec(1, 4, 6, 6), spec(1, 8, 6, 6)
    call = OpCall(overload_of("mkldnn_prepacked::conv2d_run.default"), (image_spec, None), (),
                  result)  # fmt: skip
    failed = default_registry().price_or_error(call)
    assert failed.state == "uncounted"
    assert "can't be read here" in failed.error


@pytest.mark.parametrize("name", [name for name in AFTER if name])
def test_each_activation_is_one_that_onednn_knows(name: str) -> None:
    x, weight = torch.rand(2, 4), torch.rand(3, 4)
    scalars = {"leaky_relu": [0.1], "hardtanh": [-1.0, 1.0]}.get(name, [])
    result = mkldnn._linear_pointwise(x, weight, None, name, scalars, "")
    plain = x @ weight.t()
    functions: dict[str, Any] = {
        "none": lambda t: t, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
        "swish": nn.functional.silu, "hardswish": nn.functional.hardswish,
        "hardsigmoid": nn.functional.hardsigmoid, "hardtanh": nn.functional.hardtanh,
        "leaky_relu": lambda t: nn.functional.leaky_relu(t, 0.1),
    }  # fmt: skip
    torch.testing.assert_close(result, functions[name](plain))


def test_a_model_of_mkldnn_tensors_costs_what_the_model_costs() -> None:
    """Convolution, pooling and a linear layer, whose tensors have no strides."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()  # fmt: skip
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), FlopCounter(display=False) as plain:
        model(x)
    packed = mkldnn_utils.to_mkldnn(model)
    with torch.no_grad(), FlopCounter(display=False) as counter:
        packed(x.to_mkldnn()).to_dense()
    assert counter.profile.uncounted == {}
    assert counter.profile.total.moving(0, 0) == plain.profile.total.moving(0, 0)
    assert counter.profile.total.macs == math.prod((2, 8, 6, 6)) * 27 + 2 * 4 * 8
