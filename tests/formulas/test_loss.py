from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.loss import rules
from tests import oracles_loss as loops
from tests.oracles import Scalar, Tally, tensor_of
from tests.oracles_loss import MEAN, NONE, SUM
from tests.pricing import cost, price

aten = torch.ops.aten
f64 = torch.float64

X, Y, G, ONE = torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 3), torch.tensor(1.0)
W = torch.rand(2, 3)
SIGNS = torch.ones(2, 3)
SCORES, CLASSES, WEIGHTS = torch.rand(4, 5), torch.tensor([0, 3, 1, 4]), torch.rand(5)
IMAGES, PIXELS = torch.rand(2, 5, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int64)
LABELS = torch.tensor([[0, 2, -1, 0, 0]])

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("6 differences and squares", aten.mse_loss.default, (X, Y, NONE), Cost(adds=6, muls=6)),
    ("and their mean", aten.mse_loss.default, (X, Y, MEAN), Cost(adds=6 + 5, muls=6, divs=1)),
    ("and their sum", aten.mse_loss.default, (X, Y, SUM), Cost(adds=6 + 5, muls=6)),
    ("the target is broadcast", aten.mse_loss.default, (X, Y[0], SUM), Cost(adds=11, muls=6)),
    ("6 differences, doubled, times grad, 2/n", aten.mse_loss_backward.default,
     (ONE, X, Y, MEAN), Cost(adds=6, muls=12, divs=1)),
    ("the same without a mean", aten.mse_loss_backward.default, (G, X, Y, NONE),
     Cost(adds=6, muls=12)),
    ("difference, abs, the choice of 0.5·z·z/beta", aten.smooth_l1_loss.default,
     (X, Y, NONE, 0.5), Cost(adds=6, muls=12, divs=6, comparisons=12)),
    ("beta = 0: difference and abs, mean", aten.smooth_l1_loss.default, (X, Y, MEAN, 0.0),
     Cost(adds=6 + 5, divs=1, comparisons=6)),
    ("difference, over beta, 2 bounds, grad, and 1/n", aten.smooth_l1_loss_backward.default,
     (ONE, X, Y, MEAN, 0.5), Cost(adds=6, divs=6 + 1, comparisons=12, muls=12)),
    ("beta = 0: difference, sign, grad, and 1/n", aten.smooth_l1_loss_backward.default,
     (ONE, X, Y, MEAN, 0.0), Cost(adds=6, divs=1, comparisons=6, muls=12)),
    ("difference, abs, the choice of 0.5·z·z", aten.huber_loss.default,
     (X, Y, SUM, 0.5), Cost(adds=6 + 5, muls=12, comparisons=12)),
    ("difference, 2 bounds, grad", aten.huber_loss_backward.default, (G, X, Y, NONE, 0.5),
     Cost(adds=6, comparisons=12, muls=6)),
    ("2 logs, 2 bounds, −x, y − 1, 2 products, their difference; mean",
     aten.binary_cross_entropy.default, (X, Y, None, MEAN),
     Cost(adds=12 + 5, muls=12, divs=1, transcendentals=12, comparisons=18)),
    ("and the weight", aten.binary_cross_entropy.default, (X, Y, W, NONE),
     Cost(adds=12, muls=18, transcendentals=12, comparisons=18)),
    ("x − y, 1 − x, (1 − x)·x, bound, grad, over; 1/n; weight",
     aten.binary_cross_entropy_backward.default, (ONE, X, Y, W, MEAN),
     Cost(adds=12, muls=12 + 6 + 6, divs=6 + 1, comparisons=6)),
    ("log_sigmoid: abs, −, min, exp, log1p, −; 1 − y, ·x, −",
     aten.binary_cross_entropy_with_logits.default, (X, Y, None, None, NONE),
     Cost(adds=18, muls=6, transcendentals=12, comparisons=18)),
    ("3 of pos_weight less 1, ·y, + 1, ·log_sigmoid; weight; sum",
     aten.binary_cross_entropy_with_logits.default, (X, Y, W, torch.rand(3), SUM),
     Cost(adds=18 + 3 + 6 + 5, muls=6 + 12 + 6, transcendentals=12, comparisons=18)),
    ("−y, ·x, exp, log1p", aten.soft_margin_loss.default, (X, SIGNS, NONE),
     Cost(comparisons=6, muls=6, transcendentals=12)),
    ("−y, ·x, exp, ·z, 1 + z, over, ·grad; 1/n", aten.soft_margin_loss_backward.default,
     (ONE, X, SIGNS, MEAN), Cost(comparisons=6, muls=18 + 6, transcendentals=6, adds=6, divs=7)),
    ("4 signs, 3 adds, a division", aten.nll_loss_forward.default,
     (SCORES, CLASSES, None, MEAN, -100), Cost(comparisons=4, adds=3, divs=1)),
    ("4 weights", aten.nll_loss_forward.default, (SCORES, CLASSES, WEIGHTS, NONE, -100),
     Cost(comparisons=4, muls=4)),
    ("4 weights, which add up too", aten.nll_loss_forward.default,
     (SCORES, CLASSES, WEIGHTS, MEAN, -100), Cost(comparisons=4, muls=4, adds=3 + 3, divs=1)),
    ("18 pixels", aten.nll_loss2d_forward.default, (IMAGES, PIXELS, None, SUM, -100),
     Cost(comparisons=18, adds=17)),
    ("4 signs, over the total weight", aten.nll_loss_backward.default,
     (ONE, SCORES, CLASSES, None, MEAN, -100, ONE), Cost(comparisons=4, divs=1)),
    ("4 signs and weights", aten.nll_loss_backward.default,
     (torch.ones(4), SCORES, CLASSES, WEIGHTS, NONE, -100, ONE), Cost(comparisons=4, muls=4)),
    ("18 signs and weights", aten.nll_loss2d_backward.default,
     (ONE, IMAGES, PIXELS, WEIGHTS, SUM, -100, ONE), Cost(comparisons=18, muls=18)),
    ("4 rows: base, 4 others of an add and a bound, 3 adds, over c", aten.multi_margin_loss.default,
     (SCORES, CLASSES, 1, 1.0, None, NONE), Cost(adds=4 + 16 + 12, comparisons=16, divs=4)),
    ("16 squares, 4 weights, a mean", aten.multi_margin_loss.default,
     (SCORES, CLASSES, 2, 1.0, WEIGHTS, MEAN),
     Cost(adds=4 + 16 + 12 + 3, muls=16 + 4, comparisons=16, divs=4 + 1)),
    ("4 rows: base, 4 others, 3 adds and a sign at the target, grad/c",
     aten.multi_margin_loss_backward.default, (ONE, SCORES, CLASSES, 1, 1.0, None, MEAN),
     Cost(adds=4 + 16 + 12, comparisons=4, divs=4)),
    ("16 products, 4 doubled, 4 weights", aten.multi_margin_loss_backward.default,
     (ONE, SCORES, CLASSES, 2, 1.0, WEIGHTS, MEAN),
     Cost(adds=4 + 16 + 12, muls=16 + 4 + 4, comparisons=4, divs=4)),
    ("3 targets of 5: 3 bases, 3·2 pairs of an add and a bound, 5 adds, over c",
     aten.multilabel_margin_loss_forward.default, (torch.rand(1, 5), LABELS, NONE),
     Cost(adds=3 + 6 + 5, comparisons=6, divs=1)),
    ("a class alone: 1 base, over c", aten.multilabel_margin_loss_forward.default,
     (torch.rand(1), torch.tensor([0]), NONE), Cost(adds=1, divs=1)),
    ("3 bases, 6 pairs of 3 adds, grad/c", aten.multilabel_margin_loss_backward.default,
     (torch.ones(1), torch.rand(1, 5), LABELS, NONE, torch.zeros(1, 5)),
     Cost(adds=3 + 18, divs=1)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


@pytest.mark.parametrize(
    ("op", "each"),
    [(aten.smooth_l1_loss.default, loops.smooth_l1), (aten.huber_loss.default, loops.huber)],
)
def test_far_from_the_target_a_loss_costs_no_more(op: Any, each: Each) -> None:
    """The costlier branch stands for both: z − 0.5·beta is one add in place of 3 operations."""
    tally, near, far = Tally(), torch.tensor([2.0], dtype=f64), torch.tensor([9.0], dtype=f64)
    (x,), (y,) = tally.scalars(near).values(), tally.scalars(far).values()
    agree([each(x, y, 0.5)], NONE, op(near, far, NONE, 0.5))
    assert tally.cost.flops <= cost(op, near, far, NONE, 0.5).flops


reductions = st.sampled_from([NONE, MEAN, SUM])
sizes = st.integers(1, 5)
Each = Callable[..., Scalar]

FORWARD: dict[str, tuple[Any, Each, tuple[float, ...]]] = {
    "mse": (aten.mse_loss.default, loops.mse, ()),
    "smooth_l1": (aten.smooth_l1_loss.default, loops.smooth_l1, (1.5,)),
    "l1": (aten.smooth_l1_loss.default, loops.smooth_l1, (0.0,)),
    "huber": (aten.huber_loss.default, loops.huber, (1.5,)),
    "soft_margin": (aten.soft_margin_loss.default, loops.soft_margin, ()),
}
BACKWARD: dict[str, tuple[Any, Each, tuple[float, ...]]] = {
    "smooth_l1": (aten.smooth_l1_loss_backward.default, loops.smooth_l1_gradient, (0.5,)),
    "l1": (aten.smooth_l1_loss_backward.default, loops.smooth_l1_gradient, (0.0,)),
    "huber": (aten.huber_loss_backward.default, loops.huber_gradient, (0.5,)),
    "soft_margin": (aten.soft_margin_loss_backward.default, loops.soft_margin_gradient, ()),
}


def drawn(n: int) -> tuple[Tally, torch.Tensor, torch.Tensor, list[Scalar], list[Scalar]]:
    """Predictions and targets in (0, 1) with their scalars."""
    tally = Tally()
    x, y = torch.rand(n, dtype=f64) * 0.9 + 0.05, torch.rand(n, dtype=f64)
    return tally, x, y, list(tally.scalars(x).values()), list(tally.scalars(y).values())


def agree(losses: list[Scalar], reduction: int, value: torch.Tensor) -> None:
    """The loop's losses, reduced, are torch's value."""
    tally = losses[0].tally
    if reduction == NONE:
        ours = torch.tensor([loss.value for loss in losses], dtype=f64)
    else:
        ours = torch.tensor(loops.reduced(tally, losses, reduction).value, dtype=f64)
    torch.testing.assert_close(ours, value)


def gradients(n: int, reduction: int, tally: Tally) -> tuple[torch.Tensor, list[Scalar]]:
    """The gradient of a loss, and the scalar that each element meets."""
    grad = torch.rand(n if reduction == NONE else (), dtype=f64)
    return grad, [tally.scalar(v) for v in grad.expand(n).tolist()]


@pytest.mark.parametrize("name", FORWARD)
@given(n=sizes, reduction=reductions)
def test_a_loss_is_the_loop_over_elements(name: str, n: int, reduction: int) -> None:
    op, each, options = FORWARD[name]
    tally, x, y, xs, ys = drawn(n)
    losses = [each(a, b, *options) for a, b in zip(xs, ys)]
    agree(losses, reduction, op(x, y, reduction, *options))
    assert cost(op, x, y, reduction, *options) == tally.cost


@pytest.mark.parametrize("name", BACKWARD)
@given(n=sizes, reduction=reductions)
def test_a_gradient_is_the_loop_over_elements(name: str, n: int, reduction: int) -> None:
    op, each, options = BACKWARD[name]
    tally, x, y, xs, ys = drawn(n)
    grad, gs = gradients(n, reduction, tally)
    ours = loops.spread([each(a, b, g, *options) for a, b, g in zip(xs, ys, gs)], reduction)
    agree(ours, NONE, op(grad, x, y, reduction, *options))
    assert cost(op, grad, x, y, reduction, *options) == tally.cost


@given(n=sizes, reduction=reductions)
def test_mse_backward_is_the_loop(n: int, reduction: int) -> None:
    tally, x, y, xs, ys = drawn(n)
    grad, gs = gradients(n, reduction, tally)
    factor = 2.0 / tally.scalar(n) if reduction == MEAN else tally.scalar(2.0)
    ours = [loops.mse_gradient(a, b, g, factor) for a, b, g in zip(xs, ys, gs)]
    agree(ours, NONE, aten.mse_loss_backward.default(grad, x, y, reduction))
    assert cost(aten.mse_loss_backward.default, grad, x, y, reduction) == tally.cost


@given(n=sizes, reduction=reductions, weighted=st.booleans())
def test_binary_cross_entropy_is_the_loop(n: int, reduction: int, weighted: bool) -> None:
    tally, x, y, xs, ys = drawn(n)
    weight = torch.rand(n, dtype=f64) if weighted else None
    losses = [loops.binary_cross_entropy(a, b) for a, b in zip(xs, ys)]
    losses = by_weight(losses, weight)
    args = (x, y, weight, reduction)
    agree(losses, reduction, aten.binary_cross_entropy.default(*args))
    assert cost(aten.binary_cross_entropy.default, *args) == tally.cost


@given(n=sizes, reduction=reductions, weighted=st.booleans())
def test_binary_cross_entropy_backward_is_the_loop(n: int, reduction: int, weighted: bool) -> None:
    tally, x, y, xs, ys = drawn(n)
    grad, gs = gradients(n, reduction, tally)
    weight = torch.rand(n, dtype=f64) if weighted else None
    each = loops.binary_cross_entropy_gradient
    ours = by_weight([each(a, b, g) for a, b, g in zip(xs, ys, gs)], weight)
    args = (grad, x, y, weight, reduction)
    agree(loops.spread(ours, reduction), NONE, aten.binary_cross_entropy_backward.default(*args))
    assert cost(aten.binary_cross_entropy_backward.default, *args) == tally.cost


@given(rows=sizes, n=sizes, reduction=reductions, weighted=st.booleans(), positive=st.booleans())
def test_binary_cross_entropy_with_logits_is_the_loop(
    rows: int, n: int, reduction: int, weighted: bool, positive: bool
) -> None:
    tally, x, y, xs, ys = drawn(rows * n)
    weight = torch.rand(rows * n, dtype=f64) if weighted else None
    pos_weight = torch.rand(n, dtype=f64) if positive else None
    less_one = []
    if pos_weight is not None:
        less_one = [w - 1.0 for w in tally.scalars(pos_weight).values()]
    losses = [
        loops.with_logits(a, b, less_one[i % n] if less_one else None)
        for i, (a, b) in enumerate(zip(xs, ys))
    ]
    losses = by_weight(losses, weight)
    table = weight.view(rows, n) if weight is not None else None
    args = (x.view(rows, n), y.view(rows, n), table, pos_weight, reduction)
    value = aten.binary_cross_entropy_with_logits.default(*args)
    agree(losses, reduction, value.flatten() if reduction == NONE else value)
    assert cost(aten.binary_cross_entropy_with_logits.default, *args) == tally.cost


def by_weight(values: list[Scalar], weight: torch.Tensor | None) -> list[Scalar]:
    """Each value times its weight, if there are any."""
    if weight is None:
        return values
    return [value * w for value, w in zip(values, weight.tolist())]


@given(n=sizes, c=sizes, reduction=reductions, weighted=st.booleans(), data=st.data())
def test_nll_loss_is_the_loop(
    n: int, c: int, reduction: int, weighted: bool, data: st.DataObject
) -> None:
    tally, x = Tally(), torch.randn(n, c, dtype=f64)
    target = data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    weight = torch.rand(c, dtype=f64) + 0.1 if weighted else None
    xs, picked = tally.scalars(x), [1.0] * n
    losses = [-xs[i, y] for i, y in enumerate(target)]
    if weight is not None:
        picked = [weight[y].item() for y in target]
        losses = [loss * w for loss, w in zip(losses, picked)]
    args = (x, torch.tensor(target), weight, reduction, -100)
    value = aten.nll_loss_forward.default(*args)[0]
    if reduction == NONE:
        agree(losses, NONE, value)
    else:
        total = float(n)
        if weighted:
            total = tally.sum([tally.scalar(w) for w in picked]).value
        ours = loops.reduced(tally, losses, reduction, total)
        torch.testing.assert_close(torch.tensor(ours.value, dtype=f64), value)
    assert cost(aten.nll_loss_forward.default, *args) == tally.cost


@given(n=sizes, c=sizes, reduction=reductions, weighted=st.booleans(), data=st.data())
def test_nll_loss_backward_is_the_loop(
    n: int, c: int, reduction: int, weighted: bool, data: st.DataObject
) -> None:
    tally, x = Tally(), torch.randn(n, c, dtype=f64)
    target = data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    weight = torch.rand(c, dtype=f64) + 0.1 if weighted else None
    forward = (x, torch.tensor(target), weight, reduction, -100)
    total = aten.nll_loss_forward.default(*forward)[1]
    grad, gs = gradients(n, reduction, tally)
    if reduction == MEAN:
        gs = [gs[0] / total.item()] * n
    ours = {(i, j): Scalar(0.0, tally) for i in range(n) for j in range(c)}
    for i, y in enumerate(target):
        ours[i, y] = -gs[i] if weight is None else -gs[i] * weight[y].item()
    args = (grad, *forward, total)
    torch.testing.assert_close(tensor_of(ours, (n, c)), aten.nll_loss_backward.default(*args))
    assert cost(aten.nll_loss_backward.default, *args) == tally.cost


@given(
    n=sizes, c=st.integers(2, 5), reduction=reductions, weighted=st.booleans(),
    p=st.sampled_from([1, 2]), data=st.data(),
)  # fmt: skip
def test_multi_margin_loss_and_its_gradient_are_the_loops(
    n: int, c: int, reduction: int, weighted: bool, p: int, data: st.DataObject
) -> None:
    tally, x = Tally(), torch.randn(n, c, dtype=f64)
    target = data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    weight = torch.rand(c, dtype=f64) if weighted else None
    table = tally.scalars(x)
    rows = [[table[i, j] for j in range(c)] for i in range(n)]
    losses = [loops.multi_margin(tally, row, y, p, 0.5) / c for row, y in zip(rows, target)]
    if weight is not None:
        losses = [loss * weight[y].item() for loss, y in zip(losses, target)]
    args = (x, torch.tensor(target), p, 0.5, weight, reduction)
    agree(losses, reduction, aten.multi_margin_loss.default(*args))
    assert cost(aten.multi_margin_loss.default, *args) == tally.cost

    tally = Tally()
    grad, gs = gradients(n, reduction, tally)
    table = tally.scalars(x)
    ours = {}
    for i, y in enumerate(target):
        factor = gs[i] / float(n * c if reduction == MEAN else c)
        if weight is not None:
            factor = factor * weight[y].item()
        row = [table[i, j] for j in range(c)]
        for j, value in enumerate(loops.multi_margin_gradient(row, y, factor, p, 0.5)):
            ours[i, j] = value
    torch.testing.assert_close(
        tensor_of(ours, (n, c)), aten.multi_margin_loss_backward.default(grad, *args)
    )
    assert cost(aten.multi_margin_loss_backward.default, grad, *args) == tally.cost


@given(n=sizes, c=st.integers(1, 6), reduction=reductions)
def test_multilabel_margin_loss_with_half_the_classes_is_the_loop(
    n: int, c: int, reduction: int
) -> None:
    tally, x = Tally(), torch.randn(n, c, dtype=f64)
    targets = list(range(c - c // 2))
    labels = torch.tensor([[*targets, *[-1] * (c - len(targets))]] * n)
    table = tally.scalars(x)
    rows = [[table[i, j] for j in range(c)] for i in range(n)]
    losses = [loops.multilabel_margin(tally, row, targets) for row in rows]
    op = aten.multilabel_margin_loss_forward.default
    value, is_target = op(x, labels, reduction)
    agree(losses, reduction, value)
    assert cost(op, x, labels, reduction) == tally.cost

    tally = Tally()
    grad, gs = gradients(n, reduction, tally)
    table = tally.scalars(x)
    rows = [[table[i, j] for j in range(c)] for i in range(n)]
    over = n * c if reduction == MEAN else c
    ours = {
        (i, j): value
        for i, row in enumerate(rows)
        for j, value in enumerate(loops.multilabel_margin_gradient(row, targets, gs[i], over))
    }
    args = (grad, x, labels, reduction, is_target)
    op = aten.multilabel_margin_loss_backward.default
    torch.testing.assert_close(tensor_of(ours, (n, c)), op(*args))
    assert cost(op, *args) == tally.cost


@pytest.mark.parametrize("c", range(1, 8))
def test_other_numbers_of_targets_are_bounded(c: int) -> None:
    x, labels = torch.rand(1, c, dtype=f64), torch.arange(c).view(1, c)
    args = (x, labels, NONE)
    bound = cost(aten.multilabel_margin_loss_forward.default, *args)
    back = cost(aten.multilabel_margin_loss_backward.default, torch.ones(1, dtype=f64), *args, x)
    found, backs = [], []
    for targets in range(1, c + 1):
        tally = Tally()
        row = list(tally.scalars(x).values())
        loops.multilabel_margin(tally, row, list(range(targets)))
        found.append((tally.cost.comparisons, tally.cost.flops))
        tally = Tally()
        row = list(tally.scalars(x).values())
        loops.multilabel_margin_gradient(row, list(range(targets)), tally.scalar(1.0), c)
        backs.append(tally.cost.flops)
    assert max(found) == (bound.comparisons, bound.flops)
    assert max(flops for _, flops in found) == bound.flops
    assert max(backs) == back.flops


def test_bounds_are_marked() -> None:
    op = aten.multilabel_margin_loss_forward.default
    assert "bound" in price(op, torch.rand(1, 5), LABELS, NONE).estimate
    assert price(aten.mse_loss.default, X, Y, NONE).estimate == ""


def test_class_losses_touch_one_element_a_row() -> None:
    moved = price(aten.nll_loss_forward.default, SCORES, CLASSES, WEIGHTS, NONE, -100).cost
    # 4 scores, 4 targets of 8 bytes, 4 of 5 weights; 4 losses and their total weight
    assert (moved.bytes_read, moved.bytes_written) == (16 + 32 + 16, 16 + 4)
    args = (ONE, SCORES, CLASSES, None, MEAN, -100, ONE)
    moved = price(aten.nll_loss_backward.default, *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (4 + 32 + 4, 20 * 4)
