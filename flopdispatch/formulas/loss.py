"""Losses and their gradients.

Letters: n elements (or rows, for class losses), c classes. A loss is worked out per element
and then reduced; its gradient per element is scaled by the reduction's factor.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import named
from flopdispatch.formulas.folds import combined
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("loss")

NONE, MEAN, SUM = 0, 1, 2  # at::Reduction
Number = int | float
Pair = tuple[TensorSpec, TensorSpec]


def reduced(n: int, reduction: int) -> Cost:
    """What the reduction of n losses adds.

    Counts: mean: n − 1 adds and a division; sum: n − 1 adds; none: nothing.
    """
    if reduction == NONE:
        return Cost()
    return Cost(adds=combined(n, 1), divs=1 if reduction == MEAN else 0)


def spread(n: int, reduction: int) -> Cost:
    """What the mean's 1/n adds to n gradients: one division, and a mul of each."""
    return Cost(muls=n, divs=1) if reduction == MEAN else Cost()


def elements(*operands: TensorSpec) -> int:
    """Elements of the shape that these operands broadcast to."""
    return math.prod(torch.broadcast_shapes(*(operand.shape for operand in operands)))


# Regression


@rules.formula(aten.mse_loss.default)
def mse_loss(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """(x − y)².

    Counts: per element an add and a mul; then the reduction.
    Example: the mean over 6 elements is 6 + 5 adds, 6 muls and a division.
    """
    n = elements(self, target)
    return Cost(adds=n, muls=n) + reduced(n, reduction)


@rules.formula(aten.mse_loss_backward.default)
def mse_loss_backward(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """2·(x − y)·grad, where a mean turns the constant 2 into 2/n.

    Counts: per element an add and 2 muls; a division for 2/n.
    """
    n = elements(self, target)
    return Cost(adds=n, muls=2 * n, divs=1 if reduction == MEAN else 0)


@rules.formula(aten.smooth_l1_loss.default)
def smooth_l1_loss(self: TensorSpec, target: TensorSpec, reduction: int, beta: float) -> Cost:
    """With z = |x − y|: 0.5·z·z/beta if z < beta, else z − 0.5·beta. beta = 0 is |x − y|.

    Counts: per element an add and an absolute value; the choice; the costlier branch, which is
    2 muls and a division.
    """
    n = elements(self, target)
    if beta == 0:
        return Cost(adds=n, comparisons=n) + reduced(n, reduction)
    return Cost(adds=n, muls=2 * n, divs=n, comparisons=2 * n) + reduced(n, reduction)


@rules.formula(aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(
    self: TensorSpec, target: TensorSpec, reduction: int, beta: float
) -> Cost:
    """clamp((x − y)/beta, −1, 1)·grad. beta = 0 is sign(x − y)·grad.

    Counts: per element an add, a division, 2 bounds and a mul, without beta an add, a sign and a
    mul; a mean's factor.
    """
    n = elements(self, target)
    if beta == 0:
        return Cost(adds=n, comparisons=n, muls=n) + spread(n, reduction)
    return Cost(adds=n, divs=n, comparisons=2 * n, muls=n) + spread(n, reduction)


@rules.formula(aten.huber_loss.default)
def huber_loss(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """With z = |x − y|: 0.5·z·z if z <= delta, else delta·(z − 0.5·delta).

    Counts: per element an add and an absolute value; the choice; the costlier branch, which is
    2 muls, or a mul and an add.
    """
    n = elements(self, target)
    return Cost(adds=n, muls=2 * n, comparisons=2 * n) + reduced(n, reduction)


@rules.formula(aten.huber_loss_backward.default)
def huber_loss_backward(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """clamp(x − y, −delta, delta)·grad.

    Counts: per element an add, 2 bounds and a mul; a mean's factor.
    """
    n = elements(self, target)
    return Cost(adds=n, comparisons=2 * n, muls=n) + spread(n, reduction)


# Binary classes


@rules.formula(aten.binary_cross_entropy.default)
def binary_cross_entropy(
    self: TensorSpec, target: TensorSpec, weight: TensorSpec | None, reduction: int
) -> Cost:
    """(y − 1)·max(log1p(−x), −100) − y·max(log(x), −100), times the weight.

    Counts: per element 2 logs, 2 adds, 2 muls, 2 bounds and a change of sign; a mul by the
    weight.
    """
    n = elements(self, target)
    weighted = 0 if weight is None else n
    each = Cost(adds=2 * n, muls=2 * n + weighted, transcendentals=2 * n, comparisons=3 * n)
    return each + reduced(n, reduction)


@rules.formula(aten.binary_cross_entropy_backward.default)
def binary_cross_entropy_backward(
    self: TensorSpec, target: TensorSpec, weight: TensorSpec | None, reduction: int
) -> Cost:
    """grad·(x − y)/max((1 − x)·x, eps), times the weight.

    Counts: per element 2 adds, 2 muls, a division and a bound; a mul by the weight; a mean's
    factor.
    """
    n = elements(self, target)
    weighted = 0 if weight is None else n
    each = Cost(adds=2 * n, muls=2 * n + weighted, divs=n, comparisons=n)
    return each + spread(n, reduction)


@rules.formula(aten.binary_cross_entropy_with_logits.default)
def binary_cross_entropy_with_logits(
    self: TensorSpec,
    target: TensorSpec,
    weight: TensorSpec | None,
    pos_weight: TensorSpec | None,
    reduction: int,
) -> Cost:
    """(1 − y)·x − w·log_sigmoid(x), where w = (pos_weight − 1)·y + 1; times the weight.

    log_sigmoid(x) is min(x, 0) − log1p(exp(−|x|)).
    Counts: per element log_sigmoid (abs, sign, min, exp, log1p, an add), 2 adds and a mul;
    for w 2 muls and an add, and an add per element of pos_weight; a mul by the weight.
    """
    n = elements(self, target)
    each = Cost(adds=3 * n, muls=n, transcendentals=2 * n, comparisons=3 * n)
    if pos_weight is not None:
        each += Cost(adds=n + pos_weight.numel, muls=2 * n)
    if weight is not None:
        each += Cost(muls=n)
    return each + reduced(n, reduction)


@rules.formula(aten.soft_margin_loss.default)
def soft_margin_loss(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """log1p(exp(−y·x)).

    Counts: per element a change of sign, a mul, an exp and a log1p.
    """
    n = elements(self, target)
    return Cost(comparisons=n, muls=n, transcendentals=2 * n) + reduced(n, reduction)


@rules.formula(aten.soft_margin_loss_backward.default)
def soft_margin_loss_backward(self: TensorSpec, target: TensorSpec, reduction: int) -> Cost:
    """−y·z/(1 + z)·grad, where z = exp(−y·x).

    Counts: per element a change of sign, 3 muls, an exp, an add and a division; a mean's
    factor.
    """
    n = elements(self, target)
    each = Cost(comparisons=n, muls=3 * n, transcendentals=n, adds=n, divs=n)
    return each + spread(n, reduction)


# Classes


def picked_bytes(
    self: TensorSpec, target: TensorSpec, weight: TensorSpec | None, result: Pair
) -> tuple[int, int]:
    """One element per row is read, not the whole of `self`, and the weights of the targets."""
    picked = named(self, target.numel) + weights_named(weight, target)
    return picked + size(target), size(result)


def weights_named(weight: TensorSpec | None, target: TensorSpec) -> int:
    """Bytes of the weights of these targets."""
    return 0 if weight is None else named(weight, target.numel)


def filled_bytes(
    grad_output: TensorSpec,
    target: TensorSpec,
    weight: TensorSpec | None,
    total_weight: TensorSpec,
    result: TensorSpec,
) -> tuple[int, int]:
    """The gradient is written from the targets alone: of `self` only the shape counts."""
    read = size(grad_output, target, total_weight) + weights_named(weight, target)
    return read, size(result)


@rules.formula(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default, nbytes=picked_bytes)
def nll_loss(target: TensorSpec, weight: TensorSpec | None, reduction: int) -> Cost:
    """−w[y]·x[y] per row; a mean divides their sum by the sum of the weights.

    Shapes: target (n) or, in 2-d, (n, h, w): a row for each.
    Counts: per row a change of sign and, weighted, a mul; the reduction; and, weighted and
    reduced, the sum of the weights, n − 1 adds.

    Ignores: `ignore_index`; without weights, the sum of the weights is a count.
    Example: the mean over 6 rows is 5 adds, a division and 6 changes of sign.
    """
    n = target.numel
    losses = Cost(comparisons=n) + reduced(n, reduction)
    if weight is None:
        return losses
    total = 0 if reduction == NONE else combined(n, 1)
    return losses + Cost(muls=n, adds=total)


@rules.formula(
    aten.nll_loss_backward.default, aten.nll_loss2d_backward.default, nbytes=filled_bytes
)
def nll_loss_backward(target: TensorSpec, weight: TensorSpec | None, reduction: int) -> Cost:
    """−w[y]·grad at each row's target, 0 elsewhere; a mean divides grad by the total weight.

    Counts: per row a change of sign and, weighted, a mul; a division.
    """
    n = target.numel
    weighted = 0 if weight is None else n
    return Cost(comparisons=n, muls=weighted, divs=1 if reduction == MEAN else 0)


@rules.formula(aten.multi_margin_loss.default)
def multi_margin_loss(
    self: TensorSpec, p: Number, weight: TensorSpec | None, reduction: int
) -> Cost:
    """Per row, the sum over the other classes j of max(0, margin − x[y] + x[j])^p, over c.

    Shapes: self (n, c) or (c).
    Counts: per row an add for margin − x[y]; c − 1 times an add, a bound and, for p = 2, a mul;
    c − 2 adds; a mul by the weight; a division.
    """
    c = self.shape[-1] if self.shape else 1
    rows = math.prod(self.shape[:-1])
    others = rows * (c - 1)
    each = Cost(
        adds=rows + others + combined(others, rows),
        muls=(others if p == 2 else 0) + (0 if weight is None else rows),
        divs=rows,
        comparisons=others,
    )
    return each + reduced(rows, reduction)


@rules.formula(aten.multi_margin_loss_backward.default)
def multi_margin_loss_backward(self: TensorSpec, p: Number, weight: TensorSpec | None) -> Cost:
    """Per row, with f = grad/c (a mean: grad/(n·c)): f where the margin is violated, 2·f·z for
    p = 2; at the target the sum of these, negated.

    Counts: per row a division, a mul by the weight, an add for margin − x[y]; c − 1 times an
    add and, for p = 2, a mul (and a mul per row for 2·f); c − 2 adds and a change of sign.
    """
    c = self.shape[-1] if self.shape else 1
    rows = math.prod(self.shape[:-1])
    others = rows * (c - 1)
    return Cost(
        adds=rows + others + combined(others, rows),
        muls=(others + rows if p == 2 else 0) + (0 if weight is None else rows),
        divs=rows,
        comparisons=rows,
    )


MULTILABEL = "bound: half the classes are targets, so that most pairs are compared"


def label_pairs(self: TensorSpec) -> tuple[int, int, int]:
    """Rows, and the targets and (target, other) pairs that cost the most.

    Of an odd number of classes, half and one more: as many pairs as half and one less, but a
    target more.
    Example: one row of 5 classes has at most 3·2 pairs.
    """
    c = self.shape[-1] if self.shape else 1
    rows = math.prod(self.shape[:-1])
    targets = (c + 1) // 2
    return rows, rows * targets, rows * targets * (c - targets)


@rules.formula(aten.multilabel_margin_loss_forward.default, estimate=MULTILABEL)
def multilabel_margin_loss(self: TensorSpec, reduction: int) -> Cost:
    """Per row, over its targets y and the other classes j: the sum of max(0, 1 − x[y] + x[j]), /c.

    Shapes: self (n, c) or (c).
    Counts: per target an add for 1 − x[y]; per pair an add, a bound and, but for a row's first,
    an add into the sum; a division per row.
    """
    rows, targets, pairs = label_pairs(self)
    each = Cost(adds=targets + pairs + combined(pairs, rows), comparisons=pairs, divs=rows)
    return each + reduced(rows, reduction)


@rules.formula(aten.multilabel_margin_loss_backward.default, estimate=MULTILABEL)
def multilabel_margin_loss_backward(self: TensorSpec) -> Cost:
    """Per violated pair, grad/c is added to the other class and taken from the target.

    Counts: per target an add; per pair an add for the margin and 2 into the gradient; a
    division per row.
    """
    rows, targets, pairs = label_pairs(self)
    return Cost(adds=targets + 3 * pairs, divs=rows)
