"""Connectionist temporal classification: a loss over all alignments of labels to steps.

Letters: n samples, T steps, S labels of a sample; a lattice has 2·S + 1 rows, blanks included.
"""

from __future__ import annotations

from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("loss")

Pair = tuple[TensorSpec, TensorSpec]
Lengths = tuple[int, ...]

CTC = "bound: every step takes all three predecessors (blanks and repeated labels take two)"


def lattice(input_lengths: Any, target_lengths: Any, log_alpha: TensorSpec) -> tuple[int, int]:
    """Positions (t, s) of all samples' lattices, and those that have a predecessor.

    Counts: a sample of T steps and S labels has T·(2·S + 1) positions, (T − 1)·(2·S + 1) of
    them after the first step. Where the lengths are tensors, `log_alpha` (batch, T, 2·S + 1)
    holds the longest: a bound.
    """
    if isinstance(input_lengths, TensorSpec) or isinstance(target_lengths, TensorSpec):
        batch, steps, width = log_alpha.shape
        return batch * steps * width, batch * combined(steps, 1) * width
    return lattice_of_lengths(input_lengths, target_lengths)


def lattice_of_lengths(steps: Lengths, labels: Lengths) -> tuple[int, int]:
    """The same, of samples of known lengths."""
    sizes = [(t, 2 * s + 1) for t, s in zip(steps, labels)]
    return sum(t * w for t, w in sizes), sum(combined(t, 1) * w for t, w in sizes)


def recursion(positions: int) -> Cost:
    """log(exp(a) + exp(b) + exp(c)) + logp, the largest of the three taken out.

    Counts: 2 comparisons, 3 + 2 + 1 + 1 adds, 3 exps and a log per position.
    """
    return Cost(comparisons=2 * positions, adds=7 * positions, transcendentals=4 * positions)


def losses(n: int) -> Cost:
    """−log of the sum of the last two alphas.

    Counts: per sample a comparison, a change of sign, 4 adds, 2 exps and a log.
    """
    return Cost(comparisons=2 * n, adds=4 * n, transcendentals=3 * n)


def gathered(positions: int) -> Cost:
    """alpha + beta of each position, added to its class by big + log1p(exp(small − big)).

    Counts: a comparison, 3 adds and 2 transcendentals per position.
    """
    return Cost(comparisons=positions, adds=3 * positions, transcendentals=2 * positions)


def gradients(n: int) -> Cost:
    """exp(logp) − exp(posterior + nll − logp): 3 adds and 2 exps per element."""
    return Cost(adds=3 * n, transcendentals=2 * n)


@rules.formula(aten._ctc_loss.default, aten._ctc_loss.Tensor, estimate=CTC)
def ctc_loss(input_lengths: Any, target_lengths: Any, result: Pair) -> Cost:
    """−log of the sum of the last two alphas, after the forward recursion.

    Counts: the recursion at every position after the first step; `losses` of the samples.
    """
    nll, log_alpha = result
    _, inner = lattice(input_lengths, target_lengths, log_alpha)
    return recursion(inner) + losses(nll.numel)


@rules.formula(aten._ctc_loss_backward.default, aten._ctc_loss_backward.Tensor, estimate=CTC)
def ctc_loss_backward(
    input_lengths: Any, target_lengths: Any, log_alpha: TensorSpec, result: TensorSpec
) -> Cost:
    """(exp(logp) − exp(posterior + nll − logp))·grad, after the backward recursion.

    Counts: the recursion at every position before the last step; `gathered` at every position;
    per element of the result `gradients`, and a mul.
    """
    positions, inner = lattice(input_lengths, target_lengths, log_alpha)
    n = result.numel
    return recursion(inner) + gathered(positions) + gradients(n) + Cost(muls=n)


# Loss and gradient at once


@rules.formula(
    *overloads(
        "_cudnn_ctc_loss.default",
        "_cudnn_ctc_loss.Tensor",
        "miopen_ctc_loss.default",
        "miopen_ctc_loss.Tensor",
    ),
    estimate=CTC,
)
def fused_ctc_loss(
    targets: TensorSpec, input_lengths: Any, target_lengths: Any, result: Pair
) -> Cost:
    """The losses, and the gradients of their sum.

    Shapes: targets (the labels of all samples in a row), result[1] (T, n, classes).
    Counts: as `ctc_loss` and `ctc_loss_backward`, without the mul by grad. Where the lengths are
    tensors, all samples have T steps: a bound.
    """
    nll, gradient = result
    n, longest = nll.numel, gradient.shape[0]
    if isinstance(input_lengths, TensorSpec) or isinstance(target_lengths, TensorSpec):
        rows = 2 * targets.numel + n
        positions, inner = longest * rows, combined(longest, 1) * rows
    else:
        positions, inner = lattice_of_lengths(input_lengths, target_lengths)
    return losses(n) + 2 * recursion(inner) + gathered(positions) + gradients(gradient.numel)
