from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas import convolution
from flopdispatch.spec import spec
from tests.pricing import cost, cost_of_specs, overload_of

aten = torch.ops.aten
ALL = [True, True, True]


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


X, W, B = ones(2, 8, 10, 10), ones(16, 2, 3, 3), ones(16)
GROUPED = [[1, 1], [1, 1], [1, 1], False, [0, 0], 4]  # stride, padding, dilation, ..., groups

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    (
        "2·16·10·10 outputs of 2 channels by 9 taps",
        "convolution.default",
        (X, W, None, *GROUPED),
        Cost(macs=57_600),
    ),
    (
        "and one add for each of 3,200 outputs",
        "convolution.default",
        (X, W, B, *GROUPED),
        Cost(macs=57_600, adds=3_200),
    ),
    (
        "1·4 outputs in 3 positions of 2 channels by 2 taps, 2 apart",
        "convolution.default",
        (ones(1, 2, 5), ones(4, 2, 2), None, [1], [0], [2], False, [0], 1),
        Cost(macs=48),
    ),
    (
        "transposed: 2·3 inputs in 4·4 positions, each spread over 5 channels by 9 taps; "
        "an add for each of 2·5·9·9 outputs",
        "convolution.default",
        (ones(2, 3, 4, 4), ones(3, 5, 3, 3), ones(5), [2, 2], [0, 0], [1, 1], True, [0, 0], 1),
        Cost(macs=4_320, adds=810),
    ),
    (
        "3 dimensions: 1·4 outputs in 2·2·2 positions of 3 channels by 8 taps",
        "convolution.default",
        (
            ones(1, 3, 3, 3, 3),
            ones(4, 3, 2, 2, 2),
            None,
            [1] * 3,
            [0] * 3,
            [1] * 3,
            False,
            [0] * 3,
            1,
        ),
        Cost(macs=768),
    ),
    (
        "as convolution",
        "_convolution.default",
        (X, W, B, *GROUPED, False, False, False, False),
        Cost(macs=57_600, adds=3_200),
    ),
    (
        "as convolution",
        "mkldnn_convolution.default",
        (X, W, B, [1, 1], [1, 1], [1, 1], 4),
        Cost(macs=57_600, adds=3_200),
    ),
    (
        "1·3 outputs in 3·3 positions of 2 channels by 4 taps, and the bias",
        "_slow_conv2d_forward.default",
        (ones(1, 2, 4, 4), ones(3, 2, 2, 2), [2, 2], ones(3), [1, 1], [0, 0]),
        Cost(macs=216, adds=27),
    ),
    (
        "1·3 outputs in 3·3·3 positions of 2 channels by 8 taps, and the bias",
        "slow_conv3d_forward.default",
        (ones(1, 2, 4, 4, 4), ones(3, 2, 2, 2, 2), [2] * 3, ones(3), [1] * 3, [0] * 3),
        Cost(macs=1_296, adds=81),
    ),
    (
        "1·3 outputs in 3·3 positions of 2 channels by 4 taps",
        "slow_conv_dilated2d.default",
        (ones(1, 2, 5, 5), ones(3, 2, 2, 2), [2, 2], None, [1, 1], [0, 0], [2, 2]),
        Cost(macs=216),
    ),
    (
        "1·3 outputs in 3·3·3 positions of 2 channels by 8 taps, and the bias",
        "slow_conv_dilated3d.default",
        (ones(1, 2, 5, 5, 5), ones(3, 2, 2, 2, 2), [2] * 3, ones(3), [1] * 3, [0] * 3, [2] * 3),
        Cost(macs=1_296, adds=81),
    ),
    (
        "1·2 inputs in 5·5 positions, each spread over 3 channels by 4 taps; 3·6·6 outputs",
        "slow_conv_transpose2d.default",
        (ones(1, 2, 5, 5), ones(2, 3, 2, 2), [2, 2], ones(3)),
        Cost(macs=600, adds=108),
    ),
    (
        "1·2 inputs in 3·3·3 positions, each spread over 3 channels by 8 taps",
        "slow_conv_transpose3d.default",
        (ones(1, 2, 3, 3, 3), ones(2, 3, 2, 2, 2), [2, 2, 2]),
        Cost(macs=1_296),
    ),
    (
        "6 times by 2 by 4 outputs of 2 taps by 3 channels, and the bias",
        "conv_tbc.default",
        (ones(7, 2, 3), ones(2, 3, 4), ones(4)),
        Cost(macs=288, adds=48),
    ),
    (
        "each of 57,600 products for the input and again for the weight; 16 sums of 200",
        "convolution_backward.default",
        (ones(2, 16, 10, 10), X, W, [16], *GROUPED, ALL),
        Cost(macs=115_200, adds=3_184),
    ),
    (
        "a first layer: the weight's gradient alone",
        "convolution_backward.default",
        (ones(2, 16, 10, 10), X, W, [16], *GROUPED, [False, True, False]),
        Cost(macs=57_600),
    ),
    (
        "a frozen layer: the input's gradient alone",
        "convolution_backward.default",
        (ones(2, 16, 10, 10), X, W, [16], *GROUPED, [True, False, False]),
        Cost(macs=57_600),
    ),
    (
        "the bias alone",
        "convolution_backward.default",
        (ones(2, 16, 10, 10), X, W, [16], *GROUPED, [False, False, True]),
        Cost(adds=3_184),
    ),
    (
        "an empty batch has nothing to sum",
        "convolution_backward.default",
        (ones(0, 16, 10, 10), ones(0, 8, 10, 10), W, [16], *GROUPED, ALL),
        Cost(),
    ),
    (
        "transposed: 4,320 products of the forward, twice; 5 sums of 2·9·9",
        "convolution_backward.default",
        (
            *(ones(2, 5, 9, 9), ones(2, 3, 4, 4), ones(3, 5, 3, 3), [5]),
            *([2, 2], [0, 0], [1, 1], True, [0, 0], 1, ALL),
        ),
        Cost(macs=8_640, adds=805),
    ),
    (
        "216 products of the forward, twice; 3 sums of 9",
        "_slow_conv2d_backward.output_mask",
        (ones(1, 3, 3, 3), ones(1, 2, 4, 4), ones(3, 2, 2, 2), [2, 2], [1, 1], [0, 0], ALL),
        Cost(macs=432, adds=24),
    ),
]

# The same, with the result, for operators that have no kernel here.
FORWARD = (spec(2, 8, 10, 10), spec(16, 2, 3, 3))
RESULT = spec(2, 16, 10, 10)
SPREAD = (spec(2, 3, 4, 4), spec(3, 5, 3, 3))
SPREAD_RESULT = spec(2, 5, 9, 9)
FLAGS = (False, False)
SPEC_ROWS: list[tuple[str, str, tuple[Any, ...], Any, Cost]] = [
    (
        "as convolution",
        "convolution_overrideable.default",
        (*FORWARD, spec(16), (1, 1), (1, 1), (1, 1), False, (0, 0), 4),
        RESULT,
        Cost(macs=57_600, adds=3_200),
    ),
    (
        "transposed: over the inputs; the bias over the outputs",
        "convolution_overrideable.default",
        (*SPREAD, spec(5), (2, 2), (0, 0), (1, 1), True, (0, 0), 1),
        SPREAD_RESULT,
        Cost(macs=4_320, adds=810),
    ),
    (
        "the kernel takes no bias",
        "cudnn_convolution.default",
        (*FORWARD, (1, 1), (1, 1), (1, 1), 4, *FLAGS, True),
        RESULT,
        Cost(macs=57_600),
    ),
    (
        "2·3·4·4 inputs, each spread over 5 channels by 9 taps",
        "cudnn_convolution_transpose.default",
        (*SPREAD, (0, 0), (0, 0), (2, 2), (1, 1), 1, *FLAGS, True),
        SPREAD_RESULT,
        Cost(macs=4_320),
    ),
    (
        "2·3·4·4 inputs, each spread over 5 channels by 9 taps",
        "_mps_convolution_transpose.default",
        (*SPREAD, (0, 0), (0, 0), (2, 2), (1, 1), 1),
        SPREAD_RESULT,
        Cost(macs=4_320),
    ),
    (
        "2·3·4·4 inputs, each spread over 5 channels by 9 taps; the bias",
        "miopen_convolution_transpose.default",
        (*SPREAD, spec(5), (0, 0), (0, 0), (2, 2), (1, 1), 1, *FLAGS),
        SPREAD_RESULT,
        Cost(macs=4_320, adds=810),
    ),
    *(
        (
            "as convolution",
            name,
            (*FORWARD, spec(16), (1, 1), (1, 1), (1, 1), 4, *flags),
            RESULT,
            Cost(macs=57_600, adds=3_200),
        )
        for name, flags in (
            ("miopen_convolution.default", FLAGS),
            ("miopen_depthwise_convolution.default", FLAGS),
            ("_mps_convolution.default", ()),
        )
    ),
    (
        "2·16·10·10 outputs of 2 channels by 9 taps; the bias",
        "_nnpack_spatial_convolution.default",
        (spec(2, 2, 10, 10), spec(16, 2, 3, 3), spec(16), (1, 1)),
        RESULT,
        Cost(macs=57_600, adds=3_200),
    ),
    (
        "one channel and 4 taps for each of 1·2·4·4 outputs",
        "_conv_depthwise2d.default",
        (spec(1, 2, 5, 5), spec(2, 1, 2, 2), (2, 2), None, (1, 1), (0, 0), (1, 1)),
        spec(1, 2, 4, 4),
        Cost(macs=128),
    ),
    (
        "one channel and 8 taps for each of 1·2·4·4·4 outputs; the bias",
        "conv_depthwise3d.default",
        (spec(1, 2, 5, 5, 5), spec(2, 1, 2, 2, 2), (2,) * 3, spec(2), (1,) * 3, (0,) * 3, (1,) * 3),
        spec(1, 2, 4, 4, 4),
        Cost(macs=1_024, adds=128),
    ),
    *(
        (
            "each of 3,200 outputs gets the bias and is compared with 0",
            f"{library}_convolution_relu.default",
            (*FORWARD, spec(16), (1, 1), (1, 1), (1, 1), 4),
            RESULT,
            Cost(macs=57_600, adds=3_200, comparisons=3_200),
        )
        for library in ("cudnn", "miopen")
    ),
    *(
        (
            "each of 3,200 outputs gets the bias and alpha·z and is compared with 0",
            f"{library}_convolution_add_relu.default",
            (*FORWARD, RESULT, alpha, spec(16), (1, 1), (1, 1), (1, 1), 4),
            RESULT,
            Cost(macs=57_600, adds=6_400, muls=muls, comparisons=3_200),
        )
        for library in ("cudnn", "miopen")
        for alpha, muls in ((None, 0), (1, 0), (0.5, 3_200))
    ),
    (
        "as convolution_backward",
        "convolution_backward_overrideable.default",
        (RESULT, *FORWARD, (1, 1), (1, 1), (1, 1), False, (0, 0), 4, (True, True, True)),
        (*FORWARD, spec(16)),
        Cost(macs=115_200, adds=3_184),
    ),
    (
        "as convolution_backward, transposed",
        "convolution_backward_overrideable.default",
        (SPREAD_RESULT, *SPREAD, (2, 2), (0, 0), (1, 1), True, (0, 0), 1, (True, False, True)),
        (SPREAD[0], None, spec(5)),
        Cost(macs=4_320, adds=805),
    ),
    (
        "as convolution_backward",
        "mps_convolution_backward.default",
        (FORWARD[0], RESULT, FORWARD[1], (1, 1), (1, 1), (1, 1), 4, (True, True, True)),
        (*FORWARD, spec(16)),
        Cost(macs=115_200, adds=3_184),
    ),
    (
        "4,320 products of the forward, twice",
        "mps_convolution_transpose_backward.default",
        (SPREAD[0], SPREAD_RESULT, SPREAD[1], (0, 0), (0, 0), (2, 2), (1, 1), 1, (True, True)),
        SPREAD,
        Cost(macs=8_640),
    ),
]


@pytest.mark.parametrize(("why", "name", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(overload_of(name), *args) == expected, why


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), SPEC_ROWS)
def test_hand_arithmetic_from_specs(
    why: str, name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result) == expected, why


def test_the_out_variant_of_slow_conv2d_backward_gives_all_three() -> None:
    args = ones(1, 3, 3, 3), ones(1, 2, 4, 4), ones(3, 2, 2, 2), [2, 2], [1, 1], [0, 0]
    outs = {"grad_input": ones(1, 2, 4, 4), "grad_weight": ones(3, 2, 2, 2), "grad_bias": ones(3)}
    op = aten._slow_conv2d_backward.grad_input
    assert cost(op, *args, **outs) == Cost(macs=432, adds=24)


def test_every_rule_has_a_row() -> None:
    rows = {row[1] for row in ROWS} | {row[1] for row in SPEC_ROWS}
    rows.add("_slow_conv2d_backward.grad_input")
    assert {str(rule.overload).removeprefix("aten.") for rule in convolution.rules} <= rows


def test_out_variants_cost_the_same() -> None:
    args = X, W, B, *GROUPED
    expected = cost(aten.convolution.default, *args)
    assert cost(aten.convolution.out, *args, out=ones(2, 16, 10, 10)) == expected
    grad = ones(2, 16, 10, 10)
    backward = grad, X, W, [16], *GROUPED, ALL
    outs = {f"out{i}": torch.empty_like(t) for i, t in enumerate((X, W, B))}
    expected = cost(aten.convolution_backward.default, *backward)
    assert cost(aten.convolution_backward.out, *backward, **outs) == expected


def test_a_grouped_training_step_is_three_times_its_forward() -> None:
    """Conv2d(8, 16, 3, padding=1, groups=4, bias=False) on (2, 8, 10, 10)."""
    forward = cost(aten.convolution.default, X, W, None, *GROUPED)
    grads = ones(2, 16, 10, 10), X, W, None, *GROUPED, [True, True, False]
    backward = cost(aten.convolution_backward.default, *grads)
    assert forward.flops + backward.flops == 3 * 2 * (2 * 16 * 10 * 10) * (2 * 9)  # 345,600


def test_a_transposed_convolution_counts_the_inputs_positions() -> None:
    """ConvTranspose2d(16, 8, 3, stride=2) on (1, 16, 10, 10): 1,600 inputs by 8·9 taps."""
    args = ones(1, 16, 10, 10), ones(16, 8, 3, 3), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1
    assert cost(aten.convolution.default, *args).macs == 1_600 * 72  # 115,200
    assert 8 * 21 * 21 * 16 * 9 == 508_032  # what the output's positions would give


def test_complex_convolution_counts_four_real_ones() -> None:
    x, w = X.to(torch.complex64), W.to(torch.complex64)
    priced = cost_of_specs(
        aten.convolution.default,
        *(spec(*x.shape, dtype=x.dtype), spec(*w.shape, dtype=w.dtype), None),
        *((1, 1), (1, 1), (1, 1), False, (0, 0), 4),
        result=spec(2, 16, 10, 10, dtype=x.dtype),
    )
    assert priced == Cost(macs=4 * 57_600)
