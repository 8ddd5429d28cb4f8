from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.grid import rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import OpCall, TensorSpec, spec
from tests import oracles_grid as loops
from tests.dispatched import Dispatched
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2

IMAGE, VOLUME = torch.ones(1, 3, 4, 5), torch.ones(1, 3, 4, 5, 6)
GRID, GRID_3D = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 3)  # two locations each
GRAD, GRAD_3D = torch.ones(1, 3, 1, 2), torch.ones(1, 3, 1, 1, 2)

Sampling = tuple[int, torch.Tensor, torch.Tensor, tuple[int, int, bool]]

# One coordinate, by hand. To pixels: a mul and an add. Linear weights: floor, t, 1 − t; in all
# 1 mul, 3 adds, 1 comparison. Cubic weights: floor, t, three other distances, and 3 + 3 + 3 + 3
# muls, 3 + 2 + 2 + 3 adds; in all 13 muls, 15 adds, 1 comparison.

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    (
        "2 locations: 3 channels of 4 taps; 2 linear coordinates; 4 products of weights",
        aten.grid_sampler_2d.default,
        (IMAGE, GRID, BILINEAR, ZEROS, False),
        Cost(macs=2 * 3 * 4, muls=2 * (2 + 4), adds=2 * 2 * 3, comparisons=2 * 2),
    ),
    (
        "2 locations, 2 coordinates each: to pixels, and rounded",
        aten.grid_sampler_2d.default,
        (IMAGE, GRID, NEAREST, ZEROS, True),
        Cost(muls=4, adds=4, comparisons=4),
    ),
    (
        "2 locations, 2 coordinates each: to pixels, clamped at both ends, and rounded",
        aten.grid_sampler_2d.default,
        (IMAGE, GRID, NEAREST, BORDER, True),
        Cost(muls=4, adds=4, comparisons=12),
    ),
    (
        "as with zeros, and for 4 coordinates a fold: − low, abs, / span, floor, · span, −, "
        "span −, + low, and two clamps",
        aten.grid_sampler_2d.default,
        (IMAGE, GRID, BILINEAR, REFLECTION, False),
        Cost(macs=24, muls=12 + 4, adds=12 + 16, divs=4, comparisons=4 + 16),
    ),
    (
        "2 locations: 3 channels of 16 taps; 2 cubic coordinates; 16 products of weights",
        aten.grid_sampler_2d.default,
        (IMAGE, GRID, BICUBIC, BORDER, False),
        Cost(macs=2 * 3 * 16, muls=2 * (2 * 13 + 16), adds=2 * 2 * 15, comparisons=4),
    ),
    (
        "2 locations: 3 channels of 8 taps; 3 linear coordinates; 4 + 8 products of weights",
        aten.grid_sampler_3d.default,
        (VOLUME, GRID_3D, BILINEAR, ZEROS, False),
        Cost(macs=2 * 3 * 8, muls=2 * (3 + 12), adds=2 * 3 * 3, comparisons=2 * 3),
    ),
    (
        "as the operator that it stands for",
        aten._grid_sampler_2d_cpu_fallback.default,
        (IMAGE, GRID, BILINEAR, ZEROS, False),
        Cost(macs=24, muls=12, adds=12, comparisons=4),
    ),
    (
        "the image alone: 2 locations' weights, and 3 channels of 4 taps",
        aten.grid_sampler_2d_backward.default,
        (GRAD, IMAGE, GRID, BILINEAR, ZEROS, False, [True, False]),
        Cost(macs=2 * 12, muls=12, adds=12, comparisons=4),
    ),
    (
        "the grid too: 2 locations' 12 MACs to 4 taps' weights, 8 to the axes' weights, and "
        "2 coordinates of a difference and a mul",
        aten.grid_sampler_2d_backward.default,
        (GRAD, IMAGE, GRID, BILINEAR, ZEROS, False, [True, True]),
        Cost(macs=24 + 2 * (12 + 8), muls=12 + 4, adds=12 + 4, comparisons=4),
    ),
    (
        "2 locations' coordinates, and 3 adds each; the grid's gradient is zero",
        aten.grid_sampler_2d_backward.default,
        (GRAD, IMAGE, GRID, NEAREST, ZEROS, False, [True, True]),
        Cost(muls=4, adds=4 + 6, comparisons=4),
    ),
    (
        "the grid alone: weights as forward; 48 MACs to 16 taps' weights, 2·16 to the axes', "
        "and 2 coordinates of 4 MACs, 8 + 1 muls and 6 adds",
        aten.grid_sampler_2d_backward.default,
        (GRAD, IMAGE, GRID, BICUBIC, ZEROS, False, [False, True]),
        Cost(
            macs=2 * (48 + 32 + 8),
            muls=2 * (2 * 13 + 16) + 2 * 2 * 9,
            adds=2 * 2 * 15 + 2 * 2 * 6,
            comparisons=4,
        ),
    ),
    (
        "2 locations: 3 channels of 8 taps twice, 8 + 8 + 4 + 4 MACs to the axes' weights",
        aten.grid_sampler_3d_backward.default,
        (GRAD_3D, VOLUME, GRID_3D, BILINEAR, ZEROS, False, [True, True]),
        Cost(
            macs=2 * (24 + 24 + 24),
            muls=2 * (3 + 12) + 2 * 3,
            adds=2 * 9 + 2 * 3,
            comparisons=6,
        ),
    ),
    (
        "image and grid",
        aten._grid_sampler_2d_cpu_fallback_backward.default,
        (GRAD, IMAGE, GRID, BILINEAR, ZEROS, False),
        Cost(macs=64, muls=16, adds=16, comparisons=4),
    ),
    (
        "2 images of 2·3 locations of 2 coordinates, 3 terms each",
        aten.affine_grid_generator.default,
        (torch.ones(2, 2, 3), [2, 7, 2, 3], False),
        Cost(macs=2 * 6 * 2 * 3),
    ),
    (
        "2·2·2 locations of 3 coordinates, 4 terms each",
        aten.affine_grid_generator.default,
        (torch.ones(1, 3, 4), [1, 7, 2, 2, 2], True),
        Cost(macs=8 * 3 * 4),
    ),
]

# Operators of cuDNN, with their result. (why; operators; arguments; result; expected)
UNRUN: list[tuple[str, list[Any], tuple[Any, ...], Any, Cost]] = [
    (
        "bilinear, zeros outside",
        overloads("cudnn_grid_sampler.default"),
        (spec(1, 3, 4, 5), spec(1, 1, 2, 2)),
        spec(1, 3, 1, 2),
        Cost(macs=24, muls=12, adds=12, comparisons=4),
    ),
    (
        "image and grid",
        overloads("cudnn_grid_sampler_backward.default"),
        (spec(1, 3, 4, 5), spec(1, 1, 2, 2), spec(1, 3, 1, 2)),
        (spec(1, 3, 4, 5), spec(1, 1, 2, 2)),
        Cost(macs=64, muls=16, adds=16, comparisons=4),
    ),
    (
        "2 images of 2·3 locations of 2 coordinates, 3 terms each",
        overloads("cudnn_affine_grid_generator.default"),
        (spec(2, 2, 3), 2, 7, 2, 3),
        spec(2, 2, 3, 2),
        Cost(macs=72),
    ),
    (
        "2 images, 2 by 3 matrices of 6 terms each",
        overloads("cudnn_affine_grid_generator_backward.default"),
        (spec(2, 2, 3, 2), 2, 7, 2, 3),
        spec(2, 2, 3),
        Cost(macs=72),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert price(op, *args).family == "grid_sample"
    assert cost(op, *args) == expected, why


@pytest.mark.parametrize(("why", "ops", "args", "result", "expected"), UNRUN)
def test_hand_arithmetic_without_running(
    why: str, ops: list[Any], args: tuple[Any, ...], result: TensorSpec, expected: Cost
) -> None:
    for op in ops:
        priced = default_registry().price(OpCall(op, args, (), result))
        assert priced.cost.moving(0, 0) == expected, why


def test_every_rule_has_a_row() -> None:
    rows = {op for _, op, *_ in ROWS} | {op for _, ops, *_ in UNRUN for op in ops}
    assert {rule.overload for rule in rules} == rows


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    """Dimensions, image, grid (some of it outside) and modes; volumes have no bicubic."""
    dims = draw(st.integers(2, 3))
    n, c = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    inside = [draw(st.integers(2, 5)) for _ in range(dims)]
    outputs = [draw(st.integers(1, 2)) for _ in range(dims)]
    mode = draw(st.sampled_from([BILINEAR, NEAREST] + [BICUBIC] * (dims == 2)))
    grid = torch.rand(n, *outputs, dims, dtype=f64) * 5 - 2.5
    padding, align_corners = draw(st.sampled_from([ZEROS, BORDER, REFLECTION])), draw(st.booleans())
    return dims, torch.randn(n, c, *inside, dtype=f64), grid, (mode, padding, align_corners)


@given(case=samplings())
def test_sampling_is_the_loop_over_locations(
    case: Sampling,
) -> None:
    dims, x, grid, options = case
    op = {2: aten.grid_sampler_2d.default, 3: aten.grid_sampler_3d.default}[dims]
    tally = Tally()
    torch.testing.assert_close(loops.grid_sample(tally, x, grid, *options), op(x, grid, *options))
    assert cost(op, x, grid, *options) == tally.cost


@given(
    case=samplings(),
    mask=st.sampled_from([(True, False), (False, True), (True, True)]),
)
def test_backward_is_the_chain_rule_through_that_loop(
    case: Sampling, mask: tuple[bool, bool]
) -> None:
    dims, x, grid, options = case
    op = {2: aten.grid_sampler_2d_backward.default, 3: aten.grid_sampler_3d_backward.default}[dims]
    grad = torch.randn(*x.shape[:2], *grid.shape[1:-1], dtype=f64)
    tally = Tally()
    found = loops.grid_sample_backward(tally, grad, x, grid, *options, mask)
    expected = op(grad, x, grid, *options, [True, True])
    for asked, ours, theirs in zip(mask, found, expected):
        if asked:
            torch.testing.assert_close(ours, theirs)
    assert cost(op, grad, x, grid, *options, list(mask)) == tally.cost


@given(
    n=st.integers(1, 2),
    outputs=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    align_corners=st.booleans(),
)
def test_affine_grid_is_a_matrix_product(n: int, outputs: list[int], align_corners: bool) -> None:
    dims = len(outputs)
    theta = torch.randn(n, dims, dims + 1, dtype=f64)
    args = (theta, [n, 3, *outputs], align_corners)
    tally = Tally()
    torch.testing.assert_close(
        loops.affine_grid(tally, theta, tuple(outputs), align_corners),
        aten.affine_grid_generator.default(*args),
    )
    assert cost(aten.affine_grid_generator.default, *args) == tally.cost


def test_weights_are_shared_by_channels_and_everything_is_linear_in_the_batch() -> None:
    op = aten.grid_sampler_2d.default
    grid = torch.zeros(1, 2, 2, 2)
    one, two = (cost(op, torch.ones(1, c, 4, 4), grid, BILINEAR, ZEROS, False) for c in (1, 2))
    assert two == one + Cost(macs=4 * 4)
    five = cost(op, torch.ones(5, 1, 4, 4), grid.repeat(5, 1, 1, 1), BILINEAR, ZEROS, False)
    assert five == scaled(one, 5)
    meta = cost(op, torch.ones(1, 1, 4, 4, device="meta"), grid.to("meta"), BILINEAR, ZEROS, False)
    assert meta == one


def test_every_grad_mode_costs_the_same() -> None:
    x, theta = torch.ones(1, 3, 4, 5), torch.ones(1, 2, 3)
    costs = []
    for grad_mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        calls = Dispatched()
        with grad_mode(), calls:
            grid = F.affine_grid(theta, [1, 3, 1, 2], align_corners=False)
            F.grid_sample(x, grid, align_corners=False)
        costs.append(calls.cost("grid_sample"))
    # 2 locations: 2·2·3 MACs make them; the rest is the first row above
    assert costs == [Cost(macs=12 + 24, muls=12, adds=12, comparisons=4)] * 3
