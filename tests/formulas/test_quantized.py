from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.ao import quantization as ao

from flopdispatch import FlopCounter
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.quantized import rules
from flopdispatch.spec import OpCall, TensorSpec, spec
from tests import oracles_quantized as loops
from tests.oracles import Tally
from tests.oracles_quantized import to_bytes
from tests.pricing import cost, cost_of_specs, overload_of
from tests.real_calls import counted, priced

quantized, wrapped = torch.ops.quantized, torch.ops._quantized

X = torch.rand(2, 4)
QX = to_bytes(X)
W, B = to_bytes(torch.rand(3, 4), dtype=torch.qint8, zero_point=0), torch.rand(3)
LINEAR = quantized.linear_prepack(W, B)
HALF = quantized.linear_prepack_fp16(torch.rand(3, 4), B)
SCALE, POINT = torch.tensor([0.1]), torch.tensor([0])


def ints(macs: int, ops: int) -> Cost:
    """Integer MACs, each two operations, and more operations."""
    return Cost(int_macs=macs, int_ops=2 * macs + ops)


# 2·3 outputs of 4 terms. Integers take a mul, an add and 3 comparisons, floats a mul. Quantizing
# 8 numbers: their range is 2·7 comparisons.
RANGE = Cost(comparisons=14)
TO_8 = Cost(adds=8, muls=8, comparisons=24)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("24 MACs, 6 outputs of 5", "quantized::linear.default", (QX, LINEAR, 0.1, 3), ints(24, 30)),
    ("a comparison more", "quantized::linear_relu.default", (QX, LINEAR, 0.1, 3), ints(24, 36)),
    ("as in the other namespace", "_quantized::linear.default",
     (QX, LINEAR, 0.1, 3), ints(24, 30)),
    ("quantized by its range; scaled", "quantized::linear_dynamic.default",
     (X, LINEAR), ints(24, 0) + RANGE + TO_8 + Cost(muls=6)),
    ("a comparison more", "quantized::linear_relu_dynamic.default",
     (X, LINEAR), ints(24, 0) + RANGE + TO_8 + Cost(muls=6, comparisons=6)),
    ("as in the other namespace", "_quantized::linear_dynamic.default",
     (X, LINEAR), ints(24, 0) + RANGE + TO_8 + Cost(muls=6)),
    ("floating", "quantized::linear_dynamic_fp16.default", (X, HALF), Cost(macs=24)),
    ("a comparison more", "quantized::linear_relu_dynamic_fp16.default",
     (X, HALF), Cost(macs=24, comparisons=6)),
    ("floating: 24 MACs and a bias", "quantized::linear_dynamic_fp16_unpacked_weight.default",
     (X, torch.rand(3, 4), B), Cost(macs=24, adds=6)),
    ("2 by 2 products of 3, scaled", "quantized::matmul.default",
     (to_bytes(torch.rand(2, 3)), to_bytes(torch.rand(3, 2)), 0.1, 3), ints(12, 20)),
    ("both quantized, and the result dequantized",
     "_quantized::wrapped_quantized_linear.default",
     (X, SCALE, POINT, torch.rand(3, 4), SCALE, POINT, B, SCALE, POINT, 3),
     ints(24, 36) + TO_8 + Cost(adds=12, muls=12, comparisons=36) + Cost(adds=6, muls=6)),
    ("the weight's 12 elements", "_quantized::_wrapped_linear_prepack.default",
     (torch.rand(3, 4), SCALE, POINT, B), Cost(adds=12, muls=12, comparisons=36)),
    ("packed", "quantized::linear_prepack.default", (W, B), Cost()),
    ("packed", "quantized::linear_prepack_fp16.default", (torch.rand(3, 4), B), Cost()),
]  # fmt: skip

IMAGE = torch.rand(2, 4, 6, 6)
QIMAGE = to_bytes(IMAGE)
FILTERS = to_bytes(torch.rand(8, 2, 3, 3), dtype=torch.qint8, zero_point=0)
CONV = quantized.conv2d_prepack(FILTERS, torch.rand(8), [1, 1], [1, 1], [1, 1], 2)
ROW_FILTERS = to_bytes(torch.rand(8, 4, 3), dtype=torch.qint8, zero_point=0)
CONV1 = quantized.conv1d_prepack(ROW_FILTERS, torch.rand(8), [1], [1], [1], 1)
CUBES = to_bytes(torch.rand(8, 4, 1, 3, 3), dtype=torch.qint8, zero_point=0)
CONV3 = quantized.conv3d_prepack(CUBES, torch.rand(8), [1] * 3, [0, 1, 1], [1] * 3, 1)
UP = to_bytes(torch.rand(4, 5, 3, 3), dtype=torch.qint8, zero_point=0)
TRANSPOSED = quantized.conv_transpose2d_prepack(
    UP, torch.rand(5), [1, 1], [1, 1], [0, 0], [1, 1], 1
)
ADDED = to_bytes(torch.rand(2, 8, 6, 6))
QROWS, QCUBES = to_bytes(torch.rand(2, 4, 6)), to_bytes(torch.rand(2, 4, 1, 6, 6))
OUT = 2 * 8 * 6 * 6  # outputs of the two-dimensional convolution, of 2·9 taps
N = 2 * 4 * 6 * 6  # inputs
TO_N = Cost(adds=N, muls=N, comparisons=3 * N + 2 * (N - 1))

ROWS += [
    ("18 taps; bias, mul, add, 3 comparisons", "quantized::conv2d.new",
     (QIMAGE, CONV, 0.1, 3), ints(OUT * 18, OUT * 6)),
    ("a comparison more", "quantized::conv2d_relu.new",
     (QIMAGE, CONV, 0.1, 3), ints(OUT * 18, OUT * 7)),
    ("as in the other namespace", "_quantized::conv2d.default",
     (QIMAGE, CONV, 0.1, 3), ints(OUT * 18, OUT * 6)),
    ("its arguments once more", "quantized::conv2d.default",
     (QIMAGE, CONV, [1, 1], [1, 1], [1, 1], 2, 0.1, 3), ints(OUT * 18, OUT * 6)),
    ("and a comparison", "quantized::conv2d_relu.default",
     (QIMAGE, CONV, [1, 1], [1, 1], [1, 1], 2, 0.1, 3), ints(OUT * 18, OUT * 7)),
    ("quantized by its range; scaled, biased", "quantized::conv2d_dynamic.default",
     (IMAGE, CONV), ints(OUT * 18, 0) + TO_N + Cost(muls=OUT, adds=OUT)),
    ("2·8·6 outputs of 12 taps", "quantized::conv1d.default",
     (QROWS, CONV1, 0.1, 3), ints(96 * 12, 96 * 6)),
    ("OUT outputs of 36 taps", "quantized::conv3d.new",
     (QCUBES, CONV3, 0.1, 3), ints(OUT * 36, OUT * 6)),
    ("N inputs of 45 taps; 2·5·36 outputs", "quantized::conv_transpose2d.default",
     (QIMAGE, TRANSPOSED, 0.1, 3), ints(N * 45, 360 * 6)),
    ("N inputs of 45 taps; quantized, 2·5·36 outputs",
     "quantized::conv_transpose2d_dynamic.default",
     (IMAGE, TRANSPOSED), ints(N * 45, 0) + TO_N + Cost(muls=360, adds=360)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "expected"), ROWS)
@pytest.mark.filterwarnings("ignore:Arguments")
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    try:
        found = counted(overload_of(name), *args)
    except RuntimeError as error:
        pytest.skip(f"the engine {torch.backends.quantized.engine} says: {error}")
    assert found == expected, why


def from_taken(name: str, *args: Any, result: TensorSpec, taken: tuple[int, ...] | None) -> Cost:
    """The cost of a call whose packed weight said this."""
    call = OpCall(overload_of(name), args, (), result, taken)
    return default_registry().price(call).cost.moving(0, 0)


def test_a_sum_with_another_tensor_dequantizes_it_first() -> None:
    """Per output of 18 taps: a bias; an add and a mul to dequantize, an add; 5 to quantize."""
    image, sums = spec(2, 4, 6, 6, dtype=torch.quint8), spec(2, 8, 6, 6, dtype=torch.quint8)
    args = (image, sums, None, 0.1, 3)
    plain = from_taken("quantized::conv2d_add.default", *args, result=sums, taken=(18, 1))
    assert plain == ints(OUT * 18, OUT * (1 + 3 + 5))
    relu = from_taken("quantized::conv2d_add_relu.default", *args, result=sums, taken=(18, 0))
    assert relu == ints(OUT * 18, OUT * (3 + 1 + 5))
    call = OpCall(overload_of("quantized::conv2d_add.default"), args, (), sums, (18, 1))
    moved = default_registry().price(call).cost
    assert moved.bytes_read == N + OUT + 8 * 18 + 8 * 4, "what is added, too"
    assert moved.bytes_written == OUT


BYTES, NUMBERS = spec(2, 4, dtype=torch.quint8), spec(2, 4)

# Engines that this machine may lack: (why, in words; operator; arguments; result; expected)
SPECS: list[tuple[str, str, tuple[Any, ...], TensorSpec, Cost]] = [
    ("a comparison and a mul more", "quantized::linear_leaky_relu.default",
     (BYTES, None, 0.1, 3, 0.1), spec(2, 3, dtype=torch.quint8), ints(24, 42)),
    ("a tanh more", "quantized::linear_tanh.default", (BYTES, None, 0.1, 3),
     spec(2, 3, dtype=torch.quint8), ints(24, 36)),
    ("its range is given", "quantized::linear_with_input_q_dq_qweight_dq_output_fp32.default",
     (NUMBERS, 0.1, 3, None), spec(2, 3), ints(24, 0) + TO_8 + Cost(muls=6)),
    ("a comparison more",
     "quantized::linear_with_input_q_dq_qweight_dq_relu_output_fp32.default",
     (NUMBERS, 0.1, 3, None), spec(2, 3), ints(24, 0) + TO_8 + Cost(muls=6, comparisons=6)),
    ("24 MACs and a bias", "_quantized::wrapped_fbgemm_linear_fp16_weight.default",
     (NUMBERS, spec(3, 4), spec(3), 3), spec(2, 3), Cost(macs=24, adds=6)),
    ("8 quantized, 6 dequantized; a bias, 5 to quantize",
     "_quantized::_wrapped_quantized_linear_prepacked.default",
     (NUMBERS, spec(1), spec(1), spec(1), spec(1), spec(1), 3), spec(2, 3),
     ints(24, 36) + TO_8 + Cost(adds=6, muls=6)),
    ("3·32 weights dequantized, 6 outputs of 32", "quantized::int4mm_packed_weight_cpu.default",
     (spec(2, 32), spec(3, 16, dtype=torch.uint8), spec(1), spec(1, 3, 2)), spec(2, 3),
     Cost(macs=192, muls=96, adds=96)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), SPECS)
def test_hand_arithmetic_of_specs(
    why: str, name: str, args: tuple[Any, ...], result: TensorSpec, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result) == expected, why


def test_every_counted_rule_is_of_a_kind_that_has_a_row() -> None:
    """Overloads share their formulas: one row each is enough."""
    added = {"quantized::conv2d_add.default", "quantized::conv2d_add_relu.default"}
    proved = {row[1] for row in ROWS} | {row[1] for row in SPECS} | added
    shown = {rule.formula for rule in rules if rule.overload in overloads(*proved)}
    assert {rule.formula for rule in rules} == shown


size = st.integers(1, 4)


@given(m=size, k=size, n=size)
def test_a_quantized_linear_layer_is_its_loop(m: int, k: int, n: int) -> None:
    x, tally = to_bytes(torch.rand(m, k)), Tally()
    weight = to_bytes(torch.rand(n, k) - 0.5, dtype=torch.qint8, zero_point=0)
    packed = quantized.linear_prepack(weight, None)
    found = loops.linear(tally, x, weight, 0.05, 7)
    expected = quantized.linear(x, packed, 0.05, 7).int_repr().double()
    torch.testing.assert_close(found, expected, atol=1, rtol=0)
    assert cost(quantized.linear.default, x, packed, 0.05, 7) == tally.cost.in_dtype(torch.quint8)


def test_a_kernel_that_cannot_be_read_leaves_its_call_uncounted() -> None:
    result = spec(2, 3, dtype=torch.quint8)
    image = spec(2, 4, 6, 6, dtype=torch.quint8)
    call = OpCall(overload_of("quantized::conv2d.new"), (image, None, 0.1, 3), (), result)
    failed = default_registry().price_or_error(call)
    assert failed.state == "uncounted"
    assert "a kernel in a packed weight can't be read here" in failed.error


def test_packed_weights_move_too() -> None:
    linear = priced(quantized.linear, QX, LINEAR, 0.1, 3)
    assert linear.cost.bytes_read == 8 + 12, "rows and bytes of weights"
    assert linear.cost.bytes_written == 6
    half = priced(quantized.linear_dynamic_fp16, X, HALF)
    assert half.cost.bytes_read == 8 * 4 + 12 * 2
    conv = priced(quantized.conv2d, QIMAGE, CONV, 0.1, 3)
    assert conv.cost.bytes_read == N + 8 * 18 + 8 * 4, "and floats of biases"
    assert conv.cost.bytes_written == OUT
    transposed = priced(quantized.conv_transpose2d, QIMAGE, TRANSPOSED, 0.1, 3)
    assert transposed.cost.bytes_read == N + 4 * 45 + 5 * 4
    assert transposed.cost.bytes_written == 2 * 5 * 36


# Whole models


def converted(model: nn.Module, example: torch.Tensor, engine: str) -> nn.Module:
    """Quantized after training, by an example's ranges."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.qconfig = ao.get_default_qconfig(engine)
        prepared = ao.prepare(model.eval())
        prepared(example)
        small: nn.Module = ao.convert(prepared)
    return small


class Net(nn.Module):
    """Convolutions, grouped and pointwise, and a linear layer between two stubs."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False),
            nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.layers(self.quant(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["x86", "fbgemm", "qnnpack", "onednn"])
def test_a_quantized_model_has_the_macs_of_the_model(engine: str) -> None:
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip("not built in")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        example, model = torch.rand(2, 4, 6, 6), Net().eval()
        with torch.no_grad(), FlopCounter(display=False) as plain:
            model(example)
        small = converted(model, example, engine)
        with torch.no_grad(), FlopCounter(display=False) as counter:
            small(example)
    finally:
        torch.backends.quantized.engine = before
    profile = counter.profile
    assert profile.uncounted == {}
    assert profile.estimates == {}
    assert profile.total.int_macs == plain.profile.total.macs == 576 * 18 + 576 * 8 + 2 * 5 * 8
    assert profile.total.macs == 0
    stubs = 2 * 4 * 6 * 6 + 2 * 5  # quantized on the way in, dequantized on the way out
    assert (profile.total.muls, profile.total.adds) == (stubs, stubs)


def test_a_dynamically_quantized_model_has_the_macs_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4, bias=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = ao.quantize_dynamic(model, {nn.Linear})
        half = ao.quantize_dynamic(model, {nn.Linear}, dtype=torch.float16)
    x = torch.rand(5, 8)
    with torch.no_grad(), FlopCounter(display=False) as counter:
        small(x)
    assert counter.profile.uncounted == {}
    assert counter.profile.total.int_macs == 5 * (8 * 16 + 16 * 4)
    assert counter.profile.total.macs == 0
    with torch.no_grad(), FlopCounter(display=False) as counter:
        half(x)
    assert counter.profile.total.int_macs == 0
    assert counter.profile.total.macs == 5 * (8 * 16 + 16 * 4)
    assert counter.profile.by_family()["matmul"].macs == 5 * (8 * 16 + 16 * 4)
