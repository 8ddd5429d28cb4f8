from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pooling import rules
from flopdispatch.spec import OpCall, TensorSpec, spec
from tests.dispatched import Dispatched
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def quantized(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=torch.quint8)


def places(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.long)


# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    (
        "2·2·3 outputs of 2x3 = 6 cells: 5 adds and a division each",
        aten.avg_pool2d.default,
        (ones(1, 2, 4, 9), [2, 3]),
        Cost(adds=12 * 5, divs=12),
    ),
    (
        "one size stands for both: 4 outputs of 9 cells",
        aten.avg_pool2d.default,
        (ones(1, 6, 6), [3]),
        Cost(adds=4 * 8, divs=4),
    ),
    (
        "3x3 outputs with a border of padding: all 9 cells of each window are computed",
        aten.avg_pool2d.default,
        (ones(1, 1, 3, 3), [3, 3], [1, 1], [1, 1], False, False),
        Cost(adds=9 * 8, divs=9),
    ),
    (
        "2 outputs of 1x2x3 = 6 cells",
        aten.avg_pool3d.default,
        (ones(1, 1, 2, 2, 3), [1, 2, 3]),
        Cost(adds=2 * 5, divs=2),
    ),
    (
        "one size for three dimensions: 1 output of 8 cells",
        aten.avg_pool3d.default,
        (ones(1, 2, 2, 2), [2]),
        Cost(adds=7, divs=1),
    ),
    (
        "rows 5 to 3 in windows of 2, 3, 2; columns 4 to 2 in windows of 2, 2: 7·4 = 28 cells",
        aten._adaptive_avg_pool2d.default,
        (ones(1, 5, 4), [3, 2]),
        Cost(adds=28 - 6, divs=6),
    ),
    (
        "3 planes, each one window of 7·7",
        aten._adaptive_avg_pool2d.default,
        (ones(1, 3, 7, 7), [1, 1]),
        Cost(adds=3 * 48, divs=3),
    ),
    (
        "3 to 5: windows of 1, 2, 1, 2, 1 cells, in one of two dimensions; 2 planes",
        aten._adaptive_avg_pool2d.default,
        (ones(1, 2, 1, 3), [1, 5]),
        Cost(adds=2 * (7 - 5), divs=10),
    ),
    (
        "depth 5 to 3 in windows of 2, 3, 2, rows 2 to 1, columns 3 to 2 in windows of 2: 7·2·4",
        aten._adaptive_avg_pool3d.default,
        (ones(1, 1, 5, 2, 3), [3, 1, 2]),
        Cost(adds=56 - 6, divs=6),
    ),
    (
        "6 gradients, each divided and added to 4 cells",
        aten.avg_pool2d_backward.default,
        (ones(1, 1, 2, 3), ones(1, 1, 4, 6), [2, 2], [2, 2], [0, 0], False, True, None),
        Cost(adds=24, divs=6),
    ),
    (
        "2 gradients, each divided and added to 2·1·3 cells",
        aten.avg_pool3d_backward.default,
        (
            *(ones(1, 1, 1, 1, 2), ones(1, 1, 2, 1, 6)),
            *([2, 1, 3], [2, 1, 3], [0, 0, 0], False, True, None),
        ),
        Cost(adds=12, divs=2),
    ),
    (
        "one size for three dimensions: a gradient, divided and added to 8 cells",
        aten.avg_pool3d_backward.default,
        (ones(1, 1, 1, 1), ones(1, 2, 2, 2), [2], [2], [0], False, True, None),
        Cost(adds=8, divs=1),
    ),
    (
        "one size for both: a gradient, divided and added to 4 cells",
        aten.avg_pool2d_backward.default,
        (ones(1, 1, 1), ones(1, 2, 2), [2], [2], [0], False, True, None),
        Cost(adds=4, divs=1),
    ),
    (
        "one size for both: 1 output, the largest of 4",
        aten.max_pool2d_with_indices.default,
        (ones(1, 2, 2), [2]),
        Cost(comparisons=3),
    ),
    (
        "6 gradients to the 28 cells of their windows",
        aten._adaptive_avg_pool2d_backward.default,
        (ones(1, 1, 3, 2), ones(1, 1, 5, 4)),
        Cost(adds=28, divs=6),
    ),
    (
        "6 gradients to the 56 cells of their windows",
        aten._adaptive_avg_pool3d_backward.default,
        (ones(1, 1, 3, 1, 2), ones(1, 1, 5, 2, 3)),
        Cost(adds=56, divs=6),
    ),
    (
        "12 outputs, the largest of 6 each",
        aten.max_pool2d_with_indices.default,
        (ones(1, 2, 4, 9), [2, 3]),
        Cost(comparisons=12 * 5),
    ),
    (
        "2 outputs, the largest of 1·2·3 each",
        aten.max_pool3d_with_indices.default,
        (ones(1, 1, 2, 2, 3), [1, 2, 3]),
        Cost(comparisons=2 * 5),
    ),
    (
        "one size for three dimensions: 1 output, the largest of 8",
        aten.max_pool3d_with_indices.default,
        (ones(1, 2, 2, 2), [2]),
        Cost(comparisons=7),
    ),
    (
        "28 cells in 6 windows",
        aten.adaptive_max_pool2d.default,
        (ones(1, 1, 5, 4), [3, 2]),
        Cost(comparisons=28 - 6),
    ),
    (
        "56 cells in 6 windows",
        aten.adaptive_max_pool3d.default,
        (ones(1, 1, 5, 2, 3), [3, 1, 2]),
        Cost(comparisons=56 - 6),
    ),
    (
        "2·9 outputs, the largest of 4 each",
        aten.fractional_max_pool2d.default,
        (ones(1, 2, 7, 7), [2, 2], [3, 3], torch.zeros(1, 2, 2)),
        Cost(comparisons=18 * 3),
    ),
    (
        "8 outputs, the largest of 2·2·1 each",
        aten.fractional_max_pool3d.default,
        (ones(1, 1, 5, 5, 5), [2, 2, 1], [2, 2, 2], torch.zeros(1, 1, 3)),
        Cost(comparisons=8 * 3),
    ),
    (
        "6 gradients, one add each",
        aten.max_pool2d_with_indices_backward.default,
        (
            *(ones(1, 1, 2, 3), ones(1, 1, 4, 6)),
            *([2, 2], [2, 2], [0, 0], [1, 1], False, places(1, 1, 2, 3)),
        ),
        Cost(adds=6),
    ),
    (
        "2 gradients, one add each",
        aten.max_pool3d_with_indices_backward.default,
        (
            *(ones(1, 1, 1, 1, 2), ones(1, 1, 2, 1, 6)),
            *([2, 1, 3], [2, 1, 3], [0] * 3, [1] * 3, False, places(1, 1, 1, 1, 2)),
        ),
        Cost(adds=2),
    ),
    (
        "6 gradients, one add each",
        aten.adaptive_max_pool2d_backward.default,
        (ones(1, 1, 3, 2), ones(1, 1, 5, 4), places(1, 1, 3, 2)),
        Cost(adds=6),
    ),
    (
        "4 gradients, one add each",
        aten.adaptive_max_pool3d_backward.default,
        (ones(1, 1, 2, 1, 2), ones(1, 1, 4, 2, 3), places(1, 1, 2, 1, 2)),
        Cost(adds=4),
    ),
    (
        "9 gradients, one add each",
        aten.fractional_max_pool2d_backward.default,
        (ones(1, 1, 3, 3), ones(1, 1, 7, 7), [2, 2], [3, 3], places(1, 1, 3, 3)),
        Cost(adds=9),
    ),
    (
        "8 gradients, one add each",
        aten.fractional_max_pool3d_backward.default,
        (ones(1, 1, 2, 2, 2), ones(1, 1, 5, 5, 5), [2] * 3, [2] * 3, places(1, 1, 2, 2, 2)),
        Cost(adds=8),
    ),
    (
        "values are put in their places",
        aten.max_unpool2d.default,
        (ones(1, 1, 2, 2), places(1, 1, 2, 2), [4, 4]),
        Cost(),
    ),
    (
        "values are put in their places",
        aten.max_unpool3d.default,
        (ones(1, 1, 1, 2, 2), places(1, 1, 1, 2, 2), [2, 4, 4], [2, 2, 2], [0, 0, 0]),
        Cost(),
    ),
]

# The same for operators that this machine may not run, with their result's shape.
# (why; operators; arguments; result; expected)
UNRUN: list[tuple[str, list[Any], tuple[Any, ...], TensorSpec, Cost]] = [
    (
        "12 outputs, the largest of 6 each",
        overloads("mkldnn_max_pool2d.default"),
        (spec(1, 2, 4, 9), (2, 3)),
        spec(1, 2, 2, 3),
        Cost(comparisons=60),
    ),
    (
        "2 outputs, the largest of 6 each",
        overloads("mkldnn_max_pool3d.default"),
        (spec(1, 1, 2, 2, 3), (1, 2, 3)),
        spec(1, 1, 2, 1, 1),
        Cost(comparisons=10),
    ),
    (
        "one size for both: an output, the largest of 4",
        overloads("mkldnn_max_pool2d.default"),
        (spec(1, 1, 2, 2), (2,)),
        spec(1, 1, 1, 1),
        Cost(comparisons=3),
    ),
    (
        "one size for three dimensions: an output, the largest of 8",
        overloads("mkldnn_max_pool3d.default"),
        (spec(1, 1, 2, 2, 2), (2,)),
        spec(1, 1, 1, 1, 1),
        Cost(comparisons=7),
    ),
    (
        "28 cells in 6 windows",
        overloads("mkldnn_adaptive_avg_pool2d.default"),
        (spec(1, 1, 5, 4), (3, 2)),
        spec(1, 1, 3, 2),
        Cost(adds=22, divs=6),
    ),
    (
        "6 gradients to 28 cells",
        overloads("mkldnn_adaptive_avg_pool2d_backward.default"),
        (spec(1, 1, 3, 2), spec(1, 1, 5, 4)),
        spec(1, 1, 5, 4),
        Cost(adds=28, divs=6),
    ),
    (
        "6 gradients, one add each",
        overloads("max_pool2d_backward.default"),
        (spec(1, 1, 2, 3), spec(1, 1, 4, 6), (2, 2)),
        spec(1, 1, 4, 6),
        Cost(adds=6),
    ),
    (
        "6 gradients, one add each",
        overloads("mkldnn_max_pool2d_backward.default"),
        (spec(1, 1, 2, 3), spec(1, 1, 2, 3), spec(1, 1, 4, 6), (2, 2)),
        spec(1, 1, 4, 6),
        Cost(adds=6),
    ),
    (
        "2 gradients, one add each",
        overloads("mkldnn_max_pool3d_backward.default"),
        (spec(1, 1, 1, 1, 2), spec(1, 1, 1, 1, 2), spec(1, 1, 2, 1, 6), (2, 1, 3)),
        spec(1, 1, 2, 1, 6),
        Cost(adds=2),
    ),
    (
        "integers: 4 outputs, the largest of 3 each",
        overloads("quantized_max_pool1d.default", "quantized::max_pool1d.default"),
        (quantized(1, 12), (3,), (3,), (0,), (1,), False),
        quantized(1, 4),
        Cost(int_ops=8),
    ),
    (
        "integers: 6 outputs, the largest of 2x3 each",
        overloads("quantized_max_pool2d.default", "quantized::max_pool2d.default"),
        (quantized(1, 4, 9), (2, 3), (2, 3), (0, 0), (1, 1), False),
        quantized(1, 2, 3),
        Cost(int_ops=30),
    ),
    (
        "integers: 1 output, the largest of 8",
        overloads("quantized_max_pool3d.default"),
        (quantized(1, 2, 2, 2), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), False),
        quantized(1, 1, 1, 1),
        Cost(int_ops=7),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


@pytest.mark.parametrize(("why", "ops", "args", "result", "expected"), UNRUN)
def test_hand_arithmetic_without_running(
    why: str, ops: list[Any], args: tuple[Any, ...], result: TensorSpec, expected: Cost
) -> None:
    for op in ops:
        priced = default_registry().price(OpCall(op, args, (), result))
        assert priced.state == "counted"
        assert priced.cost.moving(0, 0) == expected, why


def test_every_rule_has_a_row() -> None:
    rows = {op for _, op, *_ in ROWS} | {op for _, ops, *_ in UNRUN for op in ops}
    assert {rule.overload for rule in rules} == rows


def test_pooling_is_linear_in_the_batch_and_the_same_on_meta() -> None:
    for op, args in [
        (aten.avg_pool2d.default, ([3, 3], [2, 2], [1, 1], True)),
        (aten.max_pool2d_with_indices.default, ([3, 3], [2, 2], [1, 1])),
        (aten._adaptive_avg_pool2d.default, ([3, 2],)),
        (aten.adaptive_max_pool2d.default, ([3, 2],)),
    ]:
        one = cost(op, ones(1, 2, 8, 7), *args)
        assert cost(op, ones(5, 2, 8, 7), *args) == scaled(one, 5)
        assert cost(op, torch.ones(1, 2, 8, 7, device="meta"), *args) == one


def test_adaptive_pooling_that_divides_evenly_is_plain_pooling() -> None:
    x = ones(1, 2, 12, 8)
    plain = cost(aten.avg_pool2d.default, x, [3, 2])
    assert cost(aten._adaptive_avg_pool2d.default, x, [4, 4]) == plain


# (why; program; expected)
ONE_DIMENSION: list[tuple[str, Callable[[torch.Tensor], object], Cost]] = [
    ("2·3·4 outputs of 2 cells", lambda x: F.max_pool1d(x, 2), Cost(comparisons=24)),
    ("2·3·2 outputs of 3 cells", lambda x: F.avg_pool1d(x, 3), Cost(adds=24, divs=12)),
    (
        "windows of 3, 4 and 3 cells",
        lambda x: F.adaptive_avg_pool1d(x, 3),
        Cost(adds=6 * 7, divs=18),
    ),
    (
        "windows of 3, 4 and 3 cells",
        lambda x: F.adaptive_max_pool1d(x, 3),
        Cost(comparisons=6 * 7),
    ),
]


@pytest.mark.parametrize(("why", "program", "expected"), ONE_DIMENSION)
def test_one_dimension_is_counted_in_every_grad_mode(
    why: str, program: Callable[[torch.Tensor], object], expected: Cost
) -> None:
    x = torch.ones(2, 3, 8)
    for grad_mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        calls = Dispatched()
        with grad_mode(), calls:
            program(x)
        assert calls.cost("pooling") == expected, why


def test_a_backward_reads_gradients_and_indices_only() -> None:
    # float32: 2·2 gradients of 4 bytes, as many indices of 8; 4·4 gradients written
    grad, x = ones(1, 1, 2, 2), ones(1, 1, 4, 4)
    average = price(
        *(aten.avg_pool2d_backward.default, grad, x),
        *([2, 2], [2, 2], [0, 0], False, True, None),
    )
    assert (average.cost.bytes_read, average.cost.bytes_written) == (16, 64)
    largest = price(
        *(aten.max_pool2d_with_indices_backward.default, grad, x),
        *([2, 2], [2, 2], [0, 0], [1, 1], False, places(1, 1, 2, 2)),
    )
    assert (largest.cost.bytes_read, largest.cost.bytes_written) == (48, 64)
