from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.upsample import axis_taps, rules
from tests import oracles_upsample as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    *(
        ("a copy", op, (ones(1, 2, *[3] * dims), [5] * dims), Cost())
        for dims in (1, 2, 3)
        for op in overloads(
            f"upsample_nearest{dims}d.default", f"_upsample_nearest_exact{dims}d.default"
        )
    ),
    *(
        (
            "one add for each of 2 channels' gradients",
            op,
            (ones(1, 2, *[5] * dims), [5] * dims, [1, 2, *[3] * dims]),
            Cost(adds=2 * gradients),
        )
        for dims, gradients in ((1, 5), (2, 25), (3, 125))
        for op in overloads(
            f"upsample_nearest{dims}d_backward.default",
            f"_upsample_nearest_exact{dims}d_backward.default",
        )
    ),
    (
        "2·5 outputs of 2 taps",
        aten.upsample_linear1d.default,
        (ones(1, 2, 3), [5], False),
        Cost(macs=20),
    ),
    (
        "2·5 gradients to 2 taps",
        aten.upsample_linear1d_backward.default,
        (ones(1, 2, 5), [5], [1, 2, 3], True),
        Cost(macs=20),
    ),
    (
        "3·5·4 outputs of 4 taps",
        aten.upsample_bilinear2d.default,
        (ones(1, 3, 2, 2), [5, 4], True),
        Cost(macs=240),
    ),
    (
        "3·5·4 gradients to 4 taps",
        aten.upsample_bilinear2d_backward.default,
        (ones(1, 3, 5, 4), [5, 4], [1, 3, 2, 2], False),
        Cost(macs=240),
    ),
    (
        "2·3·2·2 outputs of 8 taps",
        aten.upsample_trilinear3d.default,
        (ones(2, 1, 2, 4, 4), [3, 2, 2], False),
        Cost(macs=192),
    ),
    (
        "2·3·2·2 gradients to 8 taps",
        aten.upsample_trilinear3d_backward.default,
        (ones(2, 1, 3, 2, 2), [3, 2, 2], [2, 1, 2, 4, 4], False),
        Cost(macs=192),
    ),
    (
        "3·5·4 outputs of 16 taps",
        aten.upsample_bicubic2d.default,
        (ones(1, 3, 2, 2), [5, 4], False),
        Cost(macs=960),
    ),
    (
        "3·5·4 gradients to 16 taps",
        aten.upsample_bicubic2d_backward.default,
        (ones(1, 3, 5, 4), [5, 4], [1, 3, 2, 2], False),
        Cost(macs=960),
    ),
    # 4 to 2, linear: steps of 2, so filters 4 wide around 1 and 3, that is pixels 0 to 2
    # (the middles 0.5, 1.5 and 2.5) and 1 to 3: 6 taps.
    (
        "2 channels: 3 rows of 6 taps, then 2 columns whose height stays",
        aten._upsample_bilinear2d_aa.default,
        (ones(1, 2, 3, 4), [3, 2], False),
        Cost(macs=2 * 3 * 6),
    ),
    (
        "2 channels: 4 rows of 6 taps, then 2 columns of 6 taps",
        aten._upsample_bilinear2d_aa.default,
        (ones(1, 2, 4, 4), [2, 2], False),
        Cost(macs=2 * (4 * 6 + 2 * 6)),
    ),
    (
        "height first would be 2·(6·12 + 2·6): width first takes 12 rows of 6 taps, then 2 "
        "columns; 12 to 6 has 3 + 4·4 + 3 taps",
        aten._upsample_bilinear2d_aa.default,
        (ones(1, 1, 12, 4), [6, 2], False),
        Cost(macs=12 * 6 + 2 * 22),
    ),
    (
        "the same, transposed",
        aten._upsample_bilinear2d_aa_backward.default,
        (ones(1, 1, 6, 2), [6, 2], [1, 1, 12, 4], False),
        Cost(macs=12 * 6 + 2 * 22),
    ),
    # 8 to 4, cubic: filters 8 wide around 1, 3, 5 and 7: pixels 0 to 4, 0 to 6, 1 to 7 and
    # 3 to 7: 24 taps.
    (
        "8 rows of 24 taps, then 4 columns of 24 taps",
        aten._upsample_bicubic2d_aa.default,
        (ones(1, 1, 8, 8), [4, 4], False),
        Cost(macs=8 * 24 + 4 * 24),
    ),
    (
        "the same, transposed",
        aten._upsample_bicubic2d_aa_backward.default,
        (ones(1, 1, 4, 4), [4, 4], [1, 1, 8, 8], False),
        Cost(macs=8 * 24 + 4 * 24),
    ),
    # 8 to 4, three lobes: filters 12 wide around 1, 3, 5 and 7: pixels 0 to 6, 0 to 7, 0 to 7
    # and 1 to 7: 30 taps.
    *(
        ("8 rows of 30 taps, then 4 columns of 30 taps", op, args, Cost(macs=8 * 30 + 4 * 30))
        for name, args in (
            ("_upsample_lanczos2d_aa.default", (ones(1, 1, 8, 8), [4, 4], False)),
            (
                "_upsample_lanczos2d_aa_backward.default",
                (ones(1, 1, 4, 4), [4, 4], [1, 1, 8, 8], False),
            ),
        )
        for op in overloads(name)
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert price(op, *args).family == "upsample"
    assert cost(op, *args) == expected, why


def test_every_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, *_ in ROWS}


# The naive loops

MODES: list[tuple[str, int, Any]] = [
    ("upsample_linear1d", 1, loops.linear_axis),
    ("upsample_bilinear2d", 2, loops.linear_axis),
    ("upsample_trilinear3d", 3, loops.linear_axis),
    ("upsample_bicubic2d", 2, loops.cubic_axis),
]
planes = st.tuples(st.integers(1, 2), st.integers(1, 2))


@given(
    mode=st.sampled_from(MODES),
    shape=planes,
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=3),
    align_corners=st.booleans(),
)
def test_interpolation_is_the_weighted_sum_of_its_taps(
    mode: tuple[str, int, Any],
    shape: tuple[int, int],
    sizes: list[tuple[int, int]],
    align_corners: bool,
) -> None:
    name, dims, make_axis = mode
    forward = getattr(aten, name).default
    backward = getattr(aten, f"{name}_backward").default
    inside, outputs = zip(*sizes[:dims])
    axes = [make_axis(n, o, align_corners, None) for n, o in sizes[:dims]]
    x = torch.randn(*shape, *inside, dtype=f64)
    tally = Tally()
    expected = forward(x, outputs, align_corners)
    torch.testing.assert_close(loops.interpolate(tally, x, axes), expected)
    assert cost(forward, x, outputs, align_corners) == tally.cost
    grad = torch.randn_like(expected)
    args = (grad, outputs, x.shape, align_corners)
    tally = Tally()
    torch.testing.assert_close(
        loops.interpolate_backward(tally, grad, axes, inside), backward(*args)
    )
    assert cost(backward, *args) == tally.cost


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3),
    exact=st.booleans(),
)
def test_nearest_backward_adds_each_gradient(sizes: list[tuple[int, int]], exact: bool) -> None:
    dims = len(sizes)
    name = f"_upsample_nearest_exact{dims}d" if exact else f"upsample_nearest{dims}d"
    inside, outputs = zip(*sizes)
    x = torch.randn(2, 1, *inside, dtype=f64)
    assert cost(getattr(aten, name).default, x, outputs) == Cost()
    grad = torch.randn(2, 1, *outputs, dtype=f64)
    backward = getattr(aten, f"{name}_backward").default
    tally = Tally()
    chosen = [loops.nearest_axis(n, o, exact) for n, o in sizes]
    torch.testing.assert_close(
        loops.nearest_backward(tally, grad, chosen, inside),
        backward(grad, outputs, x.shape),
    )
    assert cost(backward, grad, outputs, x.shape) == tally.cost


# Antialiased

# An image that is resized in height must be this wide: torch 2.15 on CPU gives wrong values
# for images one pixel wide (it resizes [[0], [1]] to three rows of zeros).
NARROW = 2


@given(
    filtered=st.sampled_from(loops.FILTERS),
    shape=planes,
    inside=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    outputs=st.tuples(st.integers(1, 6), st.integers(NARROW, 6)),
    align_corners=st.booleans(),
)
def test_antialiased_resize_is_two_passes(
    filtered: tuple[str, int, Callable[[float], float]],
    shape: tuple[int, int],
    inside: tuple[int, int],
    outputs: tuple[int, int],
    align_corners: bool,
) -> None:
    name, _, kernel = filtered
    forward = getattr(aten, name).default
    backward = getattr(aten, f"{name}_backward").default
    rows, columns = (
        loops.axis_of(name, kernel, n, o, align_corners, None) for n, o in zip(inside, outputs)
    )
    x = torch.randn(*shape, *inside, dtype=f64)
    tally = Tally()
    expected = forward(x, outputs, align_corners)
    torch.testing.assert_close(loops.resize(tally, x, rows, columns), expected)
    assert cost(forward, x, outputs, align_corners) == tally.cost
    grad = torch.randn_like(expected)
    args = (grad, outputs, x.shape, align_corners)
    tally = Tally()
    torch.testing.assert_close(
        loops.resize_backward(tally, grad, rows, columns, inside), backward(*args)
    )
    assert cost(backward, *args) == tally.cost


@given(
    filtered=st.sampled_from(loops.FILTERS),
    sizes=st.tuples(st.integers(4, 20), st.integers(4 * NARROW, 10)),
    scales=st.tuples(*[st.floats(0.25, 3.5) | st.sampled_from([0.5, 1.7, 2.0, 1 / 3])] * 2),
)
def test_antialiased_taps_follow_the_scale_that_was_given(
    filtered: tuple[str, int, Callable[[float], float]],
    sizes: tuple[int, int],
    scales: tuple[float, float],
) -> None:
    name, _, kernel = filtered
    outputs = [int(n * s) for n, s in zip(sizes, scales)]
    rows, columns = (
        loops.axis_of(name, kernel, n, o, False, s) for n, o, s in zip(sizes, outputs, scales)
    )
    x = torch.randn(1, 1, *sizes, dtype=f64)
    tally = Tally()
    expected = getattr(aten, name)(x, outputs, False, *scales)
    torch.testing.assert_close(loops.resize(tally, x, rows, columns), expected)
    assert cost(getattr(aten, name).default, x, outputs, False, *scales) == tally.cost


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("name", "width", "kernel"), loops.FILTERS)
def test_taps_are_those_that_torch_reads(
    name: str, width: int, kernel: Callable[[float], float], align_corners: bool
) -> None:
    for size in range(1, 17):
        for outputs in range(1, 17):
            axis = loops.axis_of(name, kernel, size, outputs, align_corners, None)
            if axis is not None:
                found = axis_taps(size, outputs, width, align_corners, None)
                assert found == sum(len(taps) for taps in axis), (size, outputs)


def test_an_output_outside_of_the_input_has_no_taps() -> None:
    # one pixel to two at a scale of 1/4: filters 8 wide around 2 and 6, the second past the end
    assert axis_taps(1, 2, 2, False, 0.25) == 1


def test_taps_of_image_sizes() -> None:
    assert axis_taps(224, 112, 2, False, None) == 446
    assert axis_taps(224, 112, 4, False, None) == 888
    assert axis_taps(512, 224, 2, False, None) == 1022
    assert axis_taps(512, 224, 4, False, None) == 2040


def test_interpolation_is_linear_in_the_batch_and_the_same_on_meta() -> None:
    for op, args in [
        (aten.upsample_bilinear2d.default, ([5, 9], False)),
        (aten.upsample_bicubic2d.default, ([5, 9], True)),
        (aten._upsample_bilinear2d_aa.default, ([5, 9], False)),
        (aten._upsample_bicubic2d_aa.default, ([3, 2], True)),
    ]:
        one = cost(op, ones(1, 2, 8, 7), *args)
        assert cost(op, ones(5, 2, 8, 7), *args) == scaled(one, 5)
        assert cost(op, torch.ones(1, 2, 8, 7, device="meta"), *args) == one


def test_images_in_bytes_are_integer_work() -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    # 3·4·4 outputs of 4 taps; a MAC is two integer operations
    expected = Cost(int_macs=192, int_ops=384)
    assert cost(aten.upsample_bilinear2d.default, image, [4, 4], False) == expected
