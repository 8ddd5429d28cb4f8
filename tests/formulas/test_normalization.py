from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.normalization import rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import spec
from tests import oracles_normalization as loops
from tests.oracles import Tally
from tests.oracles_normalization import back, flat, row_of, rows_of
from tests.pricing import cost, hand, price, scaled
from tests.versions import needs_torch

aten = torch.ops.aten
f64 = torch.float64
size = st.integers(1, 4)
flag = st.booleans()
f = torch.float32

x24, x4, x21 = spec(2, 4, dtype=f), spec(4, dtype=f), spec(2, 1, dtype=f)
x243, mean22, v34, v31 = (spec(*s, dtype=f) for s in [(2, 4, 3), (2, 2), (3, 4), (3, 1)])
ALL, BOTH = (True, True, True), (True, True)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    (
        "2 rows of 4: mean 3 adds, deviations 4, squares 3, eps 1; bias 8; squares, rstd, weight",
        "native_layer_norm.default",
        (x24, (4,), x4, x4, 1e-5),
        Cost(adds=2 * (3 + 4 + 3 + 1) + 8, muls=8 + 8 + 8, divs=2 * 2, transcendentals=2),
    ),
    (
        "without weight and bias: squares and rstd only",
        "native_layer_norm.default",
        (x24, (4,), None, None, 1e-5),
        Cost(adds=2 * (3 + 4 + 3 + 1), muls=8 + 8, divs=2 * 2, transcendentals=2),
    ),
    (
        "two normalized dimensions: one row of 8",
        "native_layer_norm.default",
        (x24, (2, 4), None, None, 1e-5),
        Cost(adds=7 + 8 + 7 + 1, muls=8 + 8, divs=2, transcendentals=1),
    ),
    (
        "x − mean, times rstd; g, g·h, h·k, ·rstd, 2 sums of 4 a row, 2 subtractions; columns of 2",
        "native_layer_norm_backward.default",
        (x24, x24, (4,), x21, x21, x4, x4, ALL),
        Cost(muls=8 + 4 * 8 + 8, adds=8 + 2 * 2 * 3 + 2 * 8 + 4 + 4, divs=2 * 2),
    ),
    (
        "the weight alone: h and dy·h, 4 columns of 2",
        "native_layer_norm_backward.default",
        (x24, x24, (4,), x21, x21, x4, x4, (False, True, False)),
        Cost(muls=8 + 8, adds=8 + 4),
    ),
    (
        "the bias alone: 4 sums of 2",
        "native_layer_norm_backward.default",
        (x24, x24, (4,), x21, x21, x4, x4, (False, False, True)),
        Cost(adds=4),
    ),
    (
        "4 rows of 6: 5 + 6 + 5 + 1 adds; a scale for each of 2·4 channels; 24 of each after it",
        "native_group_norm.default",
        (x243, x4, x4, 2, 4, 3, 2, 1e-5),
        Cost(adds=4 * 17 + 24, muls=24 + 8 + 24, divs=4 * 2, transcendentals=4),
    ),
    (
        "8 channels of 3: deviations 24, 2 sums of 3; 4 groups of 2: 2 sums; 2 subtractions each; "
        "4 columns of 2, twice. Products: dy·d 24, weights 3·8, 4 a group, 2 each, D·rstd 8",
        "native_group_norm_backward.default",
        (x243, x243, mean22, mean22, x4, 2, 4, 3, 2, ALL),
        Cost(
            adds=24 + 8 * 2 * 2 + 4 * 2 * 1 + 2 * 24 + 4 + 4,
            muls=24 + 3 * 8 + 4 * 4 + 2 * 24 + 8,
            divs=4 * 2,
        ),
    ),
    (
        "the weight alone: deviations 24, 8 sums of 3 products, D·rstd, 4 columns of 2",
        "native_group_norm_backward.default",
        (x243, x243, mean22, mean22, x4, 2, 4, 3, 2, (False, True, False)),
        Cost(adds=24 + 8 * 2 + 4, muls=24 + 8),
    ),
    (
        "the bias alone: 8 sums of 3, 4 columns of 2",
        "native_group_norm_backward.default",
        (x243, x243, mean22, mean22, x4, 2, 4, 3, 2, (False, False, True)),
        Cost(adds=8 * 2 + 4),
    ),
    (
        "2 rows of 4: squares, rstd, weight; 3 adds and eps, one division, one rsqrt",
        "_fused_rms_norm.default",
        (x24, (4,), x4, 1e-5),
        Cost(muls=8 + 8 + 8, adds=2 * (3 + 1), divs=2, transcendentals=2),
    ),
    (
        "h; g, g·h, h·k, ·rstd; a sum of 4 and 4 subtractions a row; dy·h and 4 columns of 2",
        "_fused_rms_norm_backward.default",
        (x24, x24, (4,), x21, x4, BOTH),
        Cost(muls=8 + 4 * 8 + 8, adds=2 * (3 + 4) + 4, divs=2),
    ),
    (
        "the weight alone: h and dy·h, 4 columns of 2",
        "_fused_rms_norm_backward.default",
        (x24, x24, (4,), x21, x4, (False, True)),
        Cost(muls=8 + 8, adds=4),
    ),
    (
        "3 slices of 4: squares and 3 adds, sqrt, one division, 4 products",
        "_weight_norm_interface.default",
        (v34, v31, 0),
        Cost(muls=12 + 12, adds=3 * 3, divs=3, transcendentals=3),
    ),
    (
        "4 slices of 3 along the last dimension",
        "_weight_norm_interface.default",
        (v34, spec(1, 4, dtype=f), 1),
        Cost(muls=12 + 12, adds=4 * 2, divs=4, transcendentals=4),
    ),
    (
        "3 slices of 4: dw·v, v·k, ·g/|v|; 3 adds and 4 subtractions; 3 divisions",
        "_weight_norm_interface_backward.default",
        (v34, v34, v31, v31, 0),
        Cost(muls=3 * 12, adds=3 * (3 + 4), divs=3 * 3),
    ),
    (
        "3 slices of 4: squares, 3 adds, sqrt; 1e-7 and a division; 4 products",
        "renorm.default",
        (v34, 2, 0, 1.0),
        Cost(muls=12 + 12, adds=3 * (3 + 1), divs=3, transcendentals=3),
    ),
    (
        "complex: 12 times 2 squares and an add, 3 sums of 4, sqrt; a real factor: 2 products",
        "renorm.default",
        (spec(3, 4, dtype=torch.complex64), 2, 0, 1.0),
        Cost(muls=24 + 24, adds=12 + 3 * (3 + 1), divs=3, transcendentals=3),
    ),
    (
        "complex, the largest: 12 roots, 3 maxima of 4",
        "renorm.default",
        (spec(3, 4, dtype=torch.complex64), torch.inf, 0, 1.0),
        Cost(muls=24 + 24, adds=12 + 3, divs=3, transcendentals=12, comparisons=9),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: str, args: tuple[Any, ...], expected: Cost) -> None:
    if overloads(op):
        assert hand(op, args) == expected, why


def test_every_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {o for _, op, _, _ in ROWS for o in overloads(op)}


def test_it_is_a_family_of_its_own() -> None:
    x = torch.ones(2, 4)
    priced = price(aten.native_layer_norm.default, x, [4], None, None, 1e-5)
    assert (priced.family, priced.state) == ("normalization", "counted")


@given(m=size, d=size, weighted=flag, biased=flag)
def test_layer_norm_is_the_loop(m: int, d: int, weighted: bool, biased: bool) -> None:
    x = torch.randn(m, d, dtype=f64)
    w = torch.randn(d, dtype=f64) if weighted else None
    b = torch.randn(d, dtype=f64) if biased else None
    tally = Tally()
    found = loops.layer_norm(tally, rows_of(tally, x), row_of(tally, w), row_of(tally, b))
    torch.testing.assert_close(back(found), aten.native_layer_norm(x, [d], w, b, 1e-5)[0])
    assert cost(aten.native_layer_norm.default, x, [d], w, b, 1e-5) == tally.cost


@given(m=size, d=size, weighted=flag, mask=st.tuples(flag, flag, flag))
def test_layer_norm_backward_is_the_loop(
    m: int, d: int, weighted: bool, mask: tuple[bool, bool, bool]
) -> None:
    mask = (mask[0], mask[1] and weighted, mask[2] and weighted)  # no gradient of what isn't there
    x, dy = torch.randn(m, d, dtype=f64), torch.randn(m, d, dtype=f64)
    w = torch.randn(d, dtype=f64) if weighted else None
    _, mean, rstd = aten.native_layer_norm(x, [d], w, w, 1e-5)
    args = (dy, x, [d], mean, rstd, w, w, mask)
    tally = Tally()
    found = loops.layer_norm_backward(
        tally,
        rows_of(tally, dy),
        rows_of(tally, x),
        row_of(tally, w),
        row_of(tally, mean.flatten()) or [],
        row_of(tally, rstd.flatten()) or [],
        mask,
    )
    dx, dw, db = aten.native_layer_norm_backward(*args)
    if mask[0]:
        torch.testing.assert_close(back(found[0]), dx)
    if mask[1]:
        torch.testing.assert_close(flat(found[1]), dw)
    if mask[2]:
        torch.testing.assert_close(flat(found[2]), db)
    assert cost(aten.native_layer_norm_backward.default, *args) == tally.cost


def images(tally: Tally, x: torch.Tensor) -> list[loops.Rows]:
    return [rows_of(tally, image) for image in x]


@given(b=size, groups=st.integers(1, 3), k=st.integers(1, 3), n=size, weighted=flag, biased=flag)
def test_group_norm_is_the_loop(
    b: int, groups: int, k: int, n: int, weighted: bool, biased: bool
) -> None:
    c = groups * k
    x = torch.randn(b, c, n, dtype=f64)
    weight = torch.randn(c, dtype=f64) if weighted else None
    bias = torch.randn(c, dtype=f64) if biased else None
    args = (x, weight, bias, b, c, n, groups, 1e-5)
    tally = Tally()
    found = loops.group_norm(
        tally, images(tally, x), groups, row_of(tally, weight), row_of(tally, bias)
    )
    torch.testing.assert_close(
        torch.stack([back(image) for image in found]), aten.native_group_norm(*args)[0]
    )
    assert cost(aten.native_group_norm.default, *args) == tally.cost


@needs_torch(2, 15, "group norm can not leave out the gradient of its input")
@given(
    b=size,
    groups=st.integers(1, 3),
    k=st.integers(1, 3),
    n=size,
    weighted=flag,
    mask=st.tuples(flag, flag, flag),
)
def test_group_norm_backward_is_the_loop(
    b: int, groups: int, k: int, n: int, weighted: bool, mask: tuple[bool, bool, bool]
) -> None:
    c = groups * k
    x, dy = torch.randn(b, c, n, dtype=f64), torch.randn(b, c, n, dtype=f64)
    weight = torch.randn(c, dtype=f64) if weighted else None
    _, mean, rstd = aten.native_group_norm(x, weight, None, b, c, n, groups, 1e-5)
    args = (dy, x, mean, rstd, weight, b, c, n, groups, mask)
    tally = Tally()
    found = loops.group_norm_backward(
        tally,
        images(tally, dy),
        images(tally, x),
        row_of(tally, weight),
        rows_of(tally, mean),
        rows_of(tally, rstd),
        mask,
    )
    dx, dw, db = aten.native_group_norm_backward(*args)
    if mask[0]:
        torch.testing.assert_close(torch.stack([back(image) for image in found[0]]), dx)
    if mask[1]:
        torch.testing.assert_close(flat(found[1]), dw)
    if mask[2]:
        torch.testing.assert_close(flat(found[2]), db)
    assert cost(aten.native_group_norm_backward.default, *args) == tally.cost


@given(m=size, d=size, weighted=flag)
def test_rms_norm_is_the_loop(m: int, d: int, weighted: bool) -> None:
    x = torch.randn(m, d, dtype=f64)
    w = torch.randn(d, dtype=f64) if weighted else None
    tally = Tally()
    found = loops.rms_norm(tally, rows_of(tally, x), row_of(tally, w))
    torch.testing.assert_close(back(found), torch.nn.functional.rms_norm(x, [d], w, 1e-5))
    of_w = None if w is None else spec(d, dtype=f64)
    if overloads("_fused_rms_norm.default"):
        args = (spec(m, d, dtype=f64), (d,), of_w, 1e-5)
        assert hand("_fused_rms_norm.default", args) == tally.cost


@given(m=size, d=size, weighted=flag, mask=st.tuples(flag, flag))
def test_rms_norm_backward_is_the_loop(
    m: int, d: int, weighted: bool, mask: tuple[bool, bool]
) -> None:
    mask = (mask[0], mask[1] and weighted)
    x, dy = torch.randn(m, d, dtype=f64, requires_grad=True), torch.randn(m, d, dtype=f64)
    w = torch.randn(d, dtype=f64, requires_grad=True) if weighted else None
    torch.nn.functional.rms_norm(x, [d], w, 1e-5).backward(dy)
    rstd = (x.detach().square().mean(1) + 1e-5).rsqrt()
    tally = Tally()
    dx, dw = loops.rms_norm_backward(
        tally,
        rows_of(tally, dy),
        rows_of(tally, x.detach()),
        None if w is None else row_of(tally, w.detach()),
        row_of(tally, rstd) or [],
        mask,
    )
    if mask[0]:
        torch.testing.assert_close(back(dx), x.grad)
    if mask[1] and w is not None:
        torch.testing.assert_close(flat(dw), w.grad)
    if overloads("_fused_rms_norm_backward.default"):
        big, of_w = spec(m, d, dtype=f64), None if w is None else spec(d, dtype=f64)
        args = (big, big, (d,), spec(m, 1, dtype=f64), of_w, mask)
        assert hand("_fused_rms_norm_backward.default", args) == tally.cost


@given(a=size, b=size, c=size, last=flag)
def test_weight_norm_is_the_loop_both_ways(a: int, b: int, c: int, last: bool) -> None:
    dim = 2 if last else 0
    v, dw = torch.randn(a, b, c, dtype=f64), torch.randn(a, b, c, dtype=f64)
    g = torch.randn([n if i == dim else 1 for i, n in enumerate(v.shape)], dtype=f64)

    def slices(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.movedim(dim, 0).flatten(1)

    w, norms = aten._weight_norm_interface(v, g, dim)
    tally = Tally()
    v_rows, g_row = rows_of(tally, slices(v)), row_of(tally, g.flatten()) or []
    found, found_norms = loops.weight_norm(tally, v_rows, g_row)
    torch.testing.assert_close(back(found), slices(w))
    assert cost(aten._weight_norm_interface.default, v, g, dim) == tally.cost

    args = (dw, v, g, norms, dim)
    dv, dg = aten._weight_norm_interface_backward(*args)
    tally = Tally()
    norm_row = row_of(tally, flat(found_norms)) or []
    v_rows, g_row = rows_of(tally, slices(v)), row_of(tally, g.flatten()) or []
    found, gains = loops.weight_norm_backward(
        tally, rows_of(tally, slices(dw)), v_rows, g_row, norm_row
    )
    torch.testing.assert_close(back(found), slices(dv))
    torch.testing.assert_close(flat(gains), dg.flatten())
    assert cost(aten._weight_norm_interface_backward.default, *args) == tally.cost


@given(a=size, b=size, dim=st.sampled_from([-2, 0, 1]), p=st.sampled_from([1, 2, 3.0, torch.inf]))
def test_renorm_is_the_loop(a: int, b: int, dim: int, p: float) -> None:
    x = torch.randn(a, b, dtype=f64)
    rows = x.movedim(dim, 0)
    tally = Tally()
    found = loops.renorm(tally, rows_of(tally, rows), p, 0.7)
    torch.testing.assert_close(back(found).movedim(0, dim), torch.renorm(x, p, dim, 0.7))
    assert cost(aten.renorm.default, x, p, dim, 0.7) == tally.cost


@given(b=size, c=size, n=size, times=st.integers(2, 3))
def test_norms_are_linear_in_the_batch_and_the_same_on_meta(
    b: int, c: int, n: int, times: int
) -> None:
    once, more = torch.ones(b, c, n), torch.ones(times * b, c, n)
    w = torch.ones(c)
    for op, one, many in [
        (
            aten.native_layer_norm.default,
            (once, [c, n], None, None, 1e-5),
            (more, [c, n], None, None, 1e-5),
        ),
        (
            aten.native_group_norm.default,
            (once, w, w, b, c, n, 1, 1e-5),
            (more, w, w, times * b, c, n, 1, 1e-5),
        ),
    ]:
        assert cost(op, *many) == scaled(cost(op, *one), times)
        on_meta = tuple(a.to("meta") if isinstance(a, torch.Tensor) else a for a in one)
        assert cost(op, *on_meta) == cost(op, *one)


@given(b=size, c=size, n=size)
def test_a_group_a_channel_is_instance_normalization(b: int, c: int, n: int) -> None:
    x, w = torch.ones(b, c, n), torch.ones(c)
    grouped = cost(aten.native_group_norm.default, x, w, w, b, c, n, c, 1e-5)
    repeated = w.repeat(b)
    args = (x.view(1, b * c, n), repeated, repeated, None, None, True, 0.1, 1e-5)
    assert grouped == cost(aten.native_batch_norm.default, *args)


@given(b=size, c=size)
def test_one_group_of_one_position_is_layer_normalization(b: int, c: int) -> None:
    x, w = torch.ones(b, c), torch.ones(c)
    grouped = cost(aten.native_group_norm.default, x, w, w, b, c, 1, 1, 1e-5)
    assert grouped == cost(aten.native_layer_norm.default, x, [c], w, w, 1e-5)
