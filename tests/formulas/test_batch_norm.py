from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.batch_norm import rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import TensorSpec, spec
from tests import oracles_batch_norm as loops
from tests.oracles import Tally
from tests.oracles_batch_norm import channels_back, channels_first
from tests.oracles_normalization import Row, back, flat, row_of, rows_of
from tests.pricing import cost, hand, price, scaled

aten = torch.ops.aten
f64 = torch.float64
size = st.integers(1, 3)
flag = st.booleans()
Mask = tuple[bool, bool, bool]

x = spec(2, 3, 4, dtype=torch.float32)
v = spec(3, dtype=torch.float32)  # one number a channel
pair = spec(2, 3, dtype=torch.float32)  # one number a channel, of each of two ranks
bytes_ = spec(0, dtype=torch.uint8)
ALL = (True, True, True)

# 3 channels of 8 elements. A channel: mean 7 additions and a division; 8 deviations; 8 squares,
# 7 additions and a division; eps and rsqrt; then a scale for it and 8 products and additions.
STATISTICS = Cost(adds=3 * (7 + 8 + 7 + 1), muls=24, divs=3 * 2, transcendentals=3)
RUNNING = Cost(muls=3 * 4, adds=3 * 2, divs=3)
TRAIN = Cost(
    adds=3 * (7 + 8 + 7 + 1) + 24 + 3 * 2,
    muls=24 + 3 + 24 + 3 * 4,
    divs=3 * 2 + 3,
    transcendentals=3,
)
# A channel: eps, rsqrt, a product for the scale, a product and a subtraction for the shift.
EVAL = Cost(adds=24 + 3 + 3, muls=24 + 3 + 3, transcendentals=3)
# A channel: 8 deviations, 2 sums of 8, 2 subtractions an element; 8 products for dy·d and 16 for
# the result, one each for grad_weight, k and the scale; two divisions by 8.
BACKWARD = Cost(adds=3 * (8 + 7 + 7 + 16), muls=3 * (8 + 16 + 3), divs=3 * 2)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("training", "native_batch_norm.default", (x, v, v, v, v, True, 0.1, 1e-5), TRAIN),
    (
        "training, no weight or bias, nothing kept: statistics and a product an element",
        "native_batch_norm.default",
        (x, None, None, None, None, True, 0.1, 1e-5),
        Cost(adds=3 * (7 + 8 + 7 + 1), muls=24 + 24, divs=3 * 2, transcendentals=3),
    ),
    ("evaluating", "native_batch_norm.default", (x, v, v, v, v, False, 0.1, 1e-5), EVAL),
    (
        "evaluating, no weight or bias: x·invstd − mean·invstd",
        "native_batch_norm.default",
        (x, None, None, v, v, False, 0.1, 1e-5),
        Cost(adds=24 + 3, muls=24 + 3, transcendentals=3),
    ),
    ("training", "_native_batch_norm_legit.default", (x, v, v, v, v, True, 0.1, 1e-5), TRAIN),
    (
        "training, nothing kept: weight and bias, no running statistics",
        "_native_batch_norm_legit.no_stats",
        (x, v, v, True, 0.1, 1e-5),
        Cost(adds=69 + 24, muls=24 + 3 + 24, divs=3 * 2, transcendentals=3),
    ),
    (
        "training",
        "_native_batch_norm_legit_functional.default",
        (x, v, v, v, v, True, 0.1, 1e-5),
        TRAIN,
    ),
    (
        "evaluating",
        "_native_batch_norm_legit_no_training.default",
        (x, v, v, v, v, 0.1, 1e-5),
        EVAL,
    ),
    ("evaluating", "_batch_norm_no_update.default", (x, v, v, v, v, 0.1, 1e-5), EVAL),
    ("training", "_native_batch_norm_legit.out", (x, v, v, v, v, True, 0.1, 1e-5), TRAIN),
    ("evaluating", "_native_batch_norm_legit.out", (x, v, v, v, v, False, 0.1, 1e-5), EVAL),
    ("training", "_batch_norm_with_update.default", (x, v, v, v, v, 0.1, 1e-5), TRAIN),
    ("training", "_batch_norm_with_update.out", (x, v, v, v, v, 0.1, 1e-5), TRAIN),
    ("training", "_batch_norm_with_update_functional.default", (x, v, v, v, v, 0.1, 1e-5), TRAIN),
    ("training", "cudnn_batch_norm.default", (x, v, v, v, v, True, 0.1, 1e-5), TRAIN),
    ("evaluating", "cudnn_batch_norm.default", (x, v, v, v, v, False, 0.1, 1e-5), EVAL),
    ("training", "miopen_batch_norm.default", (x, v, v, v, v, True, 0.1, 1e-5), TRAIN),
    (
        "training, all gradients",
        "native_batch_norm_backward.default",
        (x, x, v, v, v, v, v, True, 1e-5, ALL),
        BACKWARD,
    ),
    (
        "evaluating, all gradients: invstd again; 8 products by the scale; a deviation and a "
        "product each and two sums of 8; one more for the weight",
        "native_batch_norm_backward.default",
        (x, x, v, v, v, v, v, False, 1e-5, ALL),
        Cost(adds=3 * (1 + 8 + 7 + 7), muls=3 * (1 + 8 + 8 + 1), transcendentals=3),
    ),
    (
        "nothing asked for",
        "native_batch_norm_backward.default",
        (x, x, v, v, v, v, v, True, 1e-5, (False, False, False)),
        Cost(),
    ),
    (
        "training, all gradients",
        "batch_norm_backward.default",
        (x, x, v, v, v, v, v, True, 1e-5, ALL, bytes_),
        BACKWARD,
    ),
    (
        "evaluating: the bias alone is 3 sums of 8",
        "batch_norm_backward.default",
        (x, x, v, v, v, v, v, False, 1e-5, (False, False, True), bytes_),
        Cost(adds=3 * 7),
    ),
    (
        "training, all gradients",
        "cudnn_batch_norm_backward.default",
        (x, x, v, v, v, v, v, 1e-5, bytes_),
        BACKWARD,
    ),
    (
        "training, all gradients",
        "miopen_batch_norm_backward.default",
        (x, x, v, v, v, v, v, 1e-5),
        BACKWARD,
    ),
    ("mean and invstd", "batch_norm_stats.default", (x, 1e-5), STATISTICS),
    (
        "without eps and rsqrt, running statistics",
        "batch_norm_update_stats.default",
        (x, v, v, 0.1),
        Cost(adds=3 * (7 + 8 + 7) + 3 * 2, muls=24 + 3 * 4, divs=3 * 2 + 3),
    ),
    (
        "without eps, rsqrt and running statistics",
        "batch_norm_update_stats.default",
        (x, None, None, 0.1),
        Cost(adds=3 * (7 + 8 + 7), muls=24, divs=3 * 2),
    ),
    (
        "x·scale + shift by given statistics",
        "batch_norm_elemt.default",
        (x, v, v, v, v, 1e-5),
        Cost(adds=24 + 3, muls=24 + 3 + 3),
    ),
    (
        "a channel of 2 ranks: 4 products, 3 additions and a division each; 2 sums of 2; two "
        "divisions, eps, rsqrt",
        "batch_norm_gather_stats.default",
        (x, pair, pair, None, None, 0.1, 1e-5, 8),
        Cost(muls=3 * 8, adds=3 * (6 + 2 + 1), divs=3 * (2 + 2), transcendentals=3),
    ),
    (
        "the same, and running statistics",
        "batch_norm_gather_stats_with_counts.default",
        (x, pair, pair, v, v, 0.1, 1e-5, spec(2, dtype=torch.float32)),
        Cost(muls=24 + 12, adds=27 + 6, divs=12 + 3, transcendentals=3),
    ),
    (
        "a channel: 2 sums of 8, 8 deviations, 8 products; one for the weight",
        "batch_norm_backward_reduce.default",
        (x, x, v, v, v, True, True, True),
        Cost(adds=3 * (7 + 8 + 7), muls=3 * (8 + 1)),
    ),
    (
        "the weight alone: deviations, one sum of products, invstd",
        "batch_norm_backward_reduce.default",
        (x, x, v, v, v, False, True, False),
        Cost(adds=3 * (8 + 7), muls=3 * (8 + 1)),
    ),
    (
        "the bias alone: one sum",
        "batch_norm_backward_reduce.default",
        (x, x, v, v, v, False, False, True),
        Cost(adds=3 * 7),
    ),
    (
        "the input alone: both sums",
        "batch_norm_backward_reduce.default",
        (x, x, v, v, v, True, False, False),
        Cost(adds=3 * (7 + 8 + 7), muls=3 * 8),
    ),
    (
        "3 subtractions and 2 products an element; a channel: k, the scale, two divisions",
        "batch_norm_backward_elemt.default",
        (x, x, v, v, v, v, v, spec(1, dtype=torch.int32)),
        Cost(adds=3 * 24, muls=2 * 24 + 3 * (2 + 1), divs=3 * 2),
    ),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: str, args: tuple[Any, ...], expected: Cost) -> None:
    if overloads(op):
        assert hand(op, args) == expected, why


def test_every_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {o for _, op, _, _ in ROWS for o in overloads(op)}


def test_it_belongs_to_the_normalizations() -> None:
    t = torch.ones(2, 3, 4)
    priced = price(aten.native_batch_norm.default, t, None, None, None, None, True, 0.1, 1e-5)
    assert (priced.family, priced.state) == ("normalization", "counted")


def vectors(c: int, count: int) -> list[torch.Tensor]:
    return [torch.rand(c, dtype=f64) + 0.5 for _ in range(count)]


def row(tally: Tally, tensor: torch.Tensor) -> Row:
    return row_of(tally, tensor) or []


@given(b=st.integers(2, 3), c=size, n=size, weighted=flag, biased=flag, kept=flag)
def test_training_is_the_two_pass_loop(
    b: int, c: int, n: int, weighted: bool, biased: bool, kept: bool
) -> None:
    data = torch.randn(b, c, n, dtype=f64)
    weight, bias, mean, var = vectors(c, 4)
    w, shift = (weight if weighted else None), (bias if biased else None)
    tally = Tally()
    running = (row(tally, mean), row(tally, var)) if kept else None
    y, means, variances = loops.batch_norm_train(
        tally,
        rows_of(tally, channels_first(data)),
        row_of(tally, w),
        row_of(tally, shift),
        running,
    )
    stats = (mean, var) if kept else (None, None)
    assert cost(aten.native_batch_norm.default, data, w, shift, *stats, True, 0.1, 1e-5) == (
        tally.cost
    )
    expected = aten.native_batch_norm(data, w, shift, None, None, True, 0.1, 1e-5)[0]
    torch.testing.assert_close(channels_back(back(y), (b, c, n)), expected)
    if kept:  # updated in place by the call that was priced
        torch.testing.assert_close(flat(means), mean)
        torch.testing.assert_close(flat(variances), var)


@given(b=size, c=size, n=size, weighted=flag, biased=flag)
def test_evaluating_is_one_product_and_one_sum_an_element(
    b: int, c: int, n: int, weighted: bool, biased: bool
) -> None:
    data = torch.randn(b, c, n, dtype=f64)
    weight, bias, mean, var = vectors(c, 4)
    w, shift = (weight if weighted else None), (bias if biased else None)
    tally = Tally()
    y = loops.batch_norm_eval(
        rows_of(tally, channels_first(data)),
        row(tally, mean),
        row(tally, var),
        row_of(tally, w),
        row_of(tally, shift),
    )
    args = (data, w, shift, mean, var, False, 0.1, 1e-5)
    torch.testing.assert_close(channels_back(back(y), (b, c, n)), aten.native_batch_norm(*args)[0])
    assert cost(aten.native_batch_norm.default, *args) == tally.cost


@given(
    b=st.integers(2, 3),
    c=size,
    n=size,
    weighted=flag,
    train=flag,
    mask=st.tuples(flag, flag, flag),
)
def test_the_backward_is_the_loop(
    b: int, c: int, n: int, weighted: bool, train: bool, mask: Mask
) -> None:
    mask = (mask[0], mask[1] and weighted, mask[2] and weighted)
    data, dy = torch.randn(b, c, n, dtype=f64), torch.randn(b, c, n, dtype=f64)
    weight, mean, var = vectors(c, 3)
    w = weight if weighted else None
    _, found_mean, invstd = aten.native_batch_norm(data, w, w, None, None, True, 0.1, 1e-5)
    args = (dy, data, w, mean, var, found_mean, invstd, train, 1e-5, mask)
    tally = Tally()
    dy_rows, rows = (rows_of(tally, channels_first(t)) for t in (dy, data))
    if train:
        centre, scale = row(tally, found_mean), row(tally, invstd)
        found = loops.batch_norm_backward_train(
            tally, dy_rows, rows, row_of(tally, w), centre, scale, mask
        )
    else:
        found = loops.batch_norm_backward_eval(
            tally, dy_rows, rows, row_of(tally, w), row(tally, mean), row(tally, var), mask
        )
    dx, dw, db = aten.native_batch_norm_backward(*args)
    if mask[0]:
        torch.testing.assert_close(channels_back(back(found[0]), (b, c, n)), dx)
    if mask[1]:
        torch.testing.assert_close(flat(found[1]), dw)
    if mask[2]:
        torch.testing.assert_close(flat(found[2]), db)
    assert cost(aten.native_batch_norm_backward.default, *args) == tally.cost


@given(ranks=st.integers(1, 3), c=size, n=st.integers(2, 4), kept=flag)
def test_synchronized_statistics_are_the_whole_batch(
    ranks: int, c: int, n: int, kept: bool
) -> None:
    """Statistics of each rank, gathered, are those of all ranks' data together."""
    data = torch.randn(ranks, c, n, dtype=f64)  # one image a rank
    mean, var = vectors(c, 2)
    one = spec(1, c, n, dtype=f64)
    parts = []
    for image in data:
        tally = Tally()
        parts.append(loops.batch_norm_stats(tally, rows_of(tally, image)))
        assert hand("batch_norm_stats.default", (one, 1e-5)) == tally.cost
    tally = Tally()
    means, invstds = (torch.stack([flat(p[i]) for p in parts], dim=1) for i in (0, 1))
    running = (row(tally, mean), row(tally, var)) if kept else None
    found = loops.batch_norm_gather(
        tally,
        rows_of(tally, means),
        rows_of(tally, invstds),
        row(tally, torch.full((ranks,), float(n))),
        running,
    )
    kept_specs = (spec(c, dtype=f64),) * 2 if kept else (None, None)
    of_ranks = spec(ranks, c, dtype=f64)
    args = (one, of_ranks, of_ranks, *kept_specs, 0.1, 1e-5, n)
    assert hand("batch_norm_gather_stats.default", args) == tally.cost
    _, whole_mean, whole_invstd = aten.native_batch_norm(
        data, None, None, mean, var, True, 0.1, 1e-5
    )
    torch.testing.assert_close(flat(found[0]), whole_mean)
    torch.testing.assert_close(flat(found[1]), whole_invstd)
    if kept:
        torch.testing.assert_close(flat(found[2]), mean)
        torch.testing.assert_close(flat(found[3]), var)


@given(b=st.integers(2, 3), c=size, n=size, weighted=flag, wanted=st.tuples(flag, flag, flag))
def test_the_synchronized_backward_is_the_loop_in_two_parts(
    b: int, c: int, n: int, weighted: bool, wanted: Mask
) -> None:
    data, dy = torch.randn(b, c, n, dtype=f64), torch.randn(b, c, n, dtype=f64)
    weight = vectors(c, 1)[0]
    w = weight if weighted else None
    of_x, of_c = spec(b, c, n, dtype=f64), spec(c, dtype=f64)
    given_w: TensorSpec | None = of_c if weighted else None
    _, mean, invstd = aten.native_batch_norm(data, w, w, None, None, True, 0.1, 1e-5)
    tally = Tally()
    dy_rows, rows = (rows_of(tally, channels_first(t)) for t in (dy, data))
    centre, scale = row(tally, mean), row(tally, invstd)
    loops.sync_backward_reduce(tally, dy_rows, rows, centre, scale, wanted)
    reduce_args = (of_x, of_x, of_c, of_c, given_w, *wanted)
    assert hand("batch_norm_backward_reduce.default", reduce_args) == tally.cost

    sums, dots, dw = loops.sync_backward_reduce(Tally(), dy_rows, rows, centre, scale, ALL)
    again = Tally()
    dy_rows, rows = (rows_of(again, channels_first(t)) for t in (dy, data))
    dx = loops.sync_backward_elemt(
        dy_rows,
        rows,
        row(again, mean),
        row(again, invstd),
        row_of(again, w),
        row(again, flat(sums)),
        row(again, flat(dots)),
        b * n,
    )
    args = (of_x, of_x, of_c, of_c, given_w, of_c, of_c, spec(1, dtype=torch.int32))
    assert hand("batch_norm_backward_elemt.default", args) == again.cost
    whole = (dy, data, w, None, None, mean, invstd, True, 1e-5, (True, weighted, weighted))
    expected = aten.native_batch_norm_backward(*whole)
    torch.testing.assert_close(channels_back(back(dx), (b, c, n)), expected[0])
    if weighted:
        torch.testing.assert_close(flat(dw), expected[1])
        torch.testing.assert_close(flat(sums), expected[2])


@given(b=size, c=size, n=size, weighted=flag, biased=flag)
def test_normalizing_by_gathered_statistics_is_the_loop(
    b: int, c: int, n: int, weighted: bool, biased: bool
) -> None:
    data = torch.randn(b, c, n, dtype=f64)
    weight, bias, mean, var = vectors(c, 4)
    w, shift = (weight if weighted else None), (bias if biased else None)
    tally = Tally()
    y = loops.scale_and_shift(
        rows_of(tally, channels_first(data)),
        row(tally, mean),
        row(tally, (var + 1e-5).rsqrt()),
        row_of(tally, w),
        row_of(tally, shift),
    )
    expected = aten.native_batch_norm(data, w, shift, mean, var, False, 0.1, 1e-5)[0]
    torch.testing.assert_close(channels_back(back(y), (b, c, n)), expected)
    of_c = spec(c, dtype=f64)
    options = (of_c if weighted else None, of_c if biased else None)
    args = (spec(b, c, n, dtype=f64), *options, of_c, of_c, 1e-5)
    assert hand("batch_norm_elemt.default", args) == tally.cost


@given(b=size, c=size, n=size, times=st.integers(2, 3))
def test_channels_add_up_and_meta_agrees(b: int, c: int, n: int, times: int) -> None:
    op = aten.native_batch_norm.default
    tail = (None, None, None, None, True, 0.1, 1e-5)
    once = cost(op, torch.ones(b, c, n), *tail)
    assert cost(op, torch.ones(b, times * c, n), *tail) == scaled(once, times)
    assert cost(op, torch.ones(b, c, n, device="meta"), *tail) == once
