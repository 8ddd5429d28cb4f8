"""Losses of one element or row, their gradients and their reductions, as loops."""

from __future__ import annotations

import math

import torch

from tests.oracles import Scalar, Tally, tensor_of
from tests.oracles_pointwise import branch
from tests.oracles_reduction import Row, log_add, magnitude

NONE, MEAN, SUM = 0, 1, 2


def reduced(tally: Tally, losses: Row, reduction: int, divisor: float | None = None) -> Scalar:
    total = tally.sum(losses)
    if reduction == SUM:
        return total
    return total / (float(len(losses)) if divisor is None else divisor)


def spread(gradients: Row, reduction: int) -> Row:
    """A mean's gradients, each times 1/n."""
    if reduction != MEAN:
        return gradients
    tally = gradients[0].tally
    share = 1.0 / tally.scalar(len(gradients))
    return [gradient * share for gradient in gradients]


# Per element: x, y, grad and, where there is one, the option


def mse(x: Scalar, y: Scalar) -> Scalar:
    d = x - y
    return d * d


def mse_gradient(x: Scalar, y: Scalar, grad: Scalar, factor: Scalar) -> Scalar:
    """`factor` is 2, or 2/n for a mean."""
    return (x - y) * factor * grad


def smooth_l1(x: Scalar, y: Scalar, beta: float) -> Scalar:
    z = magnitude(x - y)
    if beta == 0:
        return z
    return z * 0.5 * z / beta if branch(z, z.value < beta) else z - 0.5 * beta


def smooth_l1_gradient(x: Scalar, y: Scalar, grad: Scalar, beta: float) -> Scalar:
    if beta == 0:
        difference = x - y
        x.tally.note("comparisons")
        return Scalar(math.copysign(1.0, difference.value), x.tally) * grad
    return ((x - y) / beta).at_least(-1.0).at_most(1.0) * grad


def huber(x: Scalar, y: Scalar, delta: float) -> Scalar:
    z = magnitude(x - y)
    return z * 0.5 * z if branch(z, z.value <= delta) else (z - 0.5 * delta) * delta


def huber_gradient(x: Scalar, y: Scalar, grad: Scalar, delta: float) -> Scalar:
    return (x - y).at_least(-delta).at_most(delta) * grad


def binary_cross_entropy(x: Scalar, y: Scalar) -> Scalar:
    miss = (-x).apply("log1p").at_least(-100.0)
    return (y - 1.0) * miss - y * x.apply("log").at_least(-100.0)


def binary_cross_entropy_gradient(x: Scalar, y: Scalar, grad: Scalar) -> Scalar:
    return grad * (x - y) / ((1.0 - x) * x).at_least(1e-12)


def log_sigmoid(x: Scalar) -> Scalar:
    return x.at_most(0.0) - (-magnitude(x)).apply("exp").apply("log1p")


def with_logits(x: Scalar, y: Scalar, less_one: Scalar | None) -> Scalar:
    """`less_one` is pos_weight − 1."""
    likely = log_sigmoid(x)
    if less_one is not None:
        likely = (less_one * y + 1.0) * likely
    return (1.0 - y) * x - likely


def soft_margin(x: Scalar, y: Scalar) -> Scalar:
    return (-y * x).apply("exp").apply("log1p")


def soft_margin_gradient(x: Scalar, y: Scalar, grad: Scalar) -> Scalar:
    minus = -y
    z = (minus * x).apply("exp")
    return minus * z / (1.0 + z) * grad


# Per row


def multi_margin(tally: Tally, row: Row, y: int, p: int, margin: float) -> Scalar:
    base = margin - row[y]
    terms = [(base + x).at_least(0.0) for j, x in enumerate(row) if j != y]
    return tally.sum([t * t if p == 2 else t for t in terms])


def multi_margin_gradient(row: Row, y: int, factor: Scalar, p: int, margin: float) -> Row:
    """`factor` is grad/c, times the target's weight."""
    tally, base = factor.tally, margin - row[y]
    double = factor * 2.0 if p == 2 else factor
    out: dict[int, Scalar] = {}
    for j, x in enumerate(row):
        if j != y:
            z = base + x
            push = z * double if p == 2 else factor
            out[j] = push if z.value > 0 else Scalar(0.0, tally)
    out[y] = -tally.sum(out.values())
    return [out[j] for j in range(len(row))]


def multilabel_margin(tally: Tally, row: Row, targets: list[int]) -> Scalar:
    terms = []
    for y in targets:
        base = 1.0 - row[y]
        terms += [(base + x).at_least(0.0) for j, x in enumerate(row) if j not in targets]
    return tally.sum(terms) / float(len(row))


def multilabel_margin_gradient(row: Row, targets: list[int], grad: Scalar, over: int) -> Row:
    """`over` is c, or n·c for a mean."""
    tally = grad.tally
    share = grad / float(over)
    out = [Scalar(0.0, tally) for _ in row]
    for y in targets:
        base = 1.0 - row[y]
        for j, x in enumerate(row):
            if j not in targets:
                push = share if (base + x).value > 0 else Scalar(0.0, tally)
                out[j], out[y] = out[j] + push, out[y] - push
    return out


# Connectionist temporal classification, on -inf for what is impossible

NEVER = -math.inf


def log_sum(terms: Row) -> Scalar:
    """log of a sum of exponentials, the largest taken out."""
    tally = terms[0].tally
    big = tally.max(terms)
    shift = Scalar(0.0 if big.value == NEVER else big.value, tally)
    total = tally.sum([(term - shift).apply("exp") for term in terms])
    tally.note("transcendentals")
    return Scalar(math.log(total.value) if total.value else NEVER, tally) + shift


def forward_lattice(logp: list[Row], labels: list[int]) -> list[Row]:
    """alpha[t][s] of the labels with blanks (0) between and around them."""
    tally = logp[0][0].tally
    never = Scalar(NEVER, tally)
    width = len(labels)
    alpha = [[logp[0][labels[s]] if s < 2 else never for s in range(width)]]
    for row in logp[1:]:
        last = alpha[-1]
        step = []
        for s, label in enumerate(labels):
            skips = s > 1 and label != 0 and label != labels[s - 2]
            before = last[s - 1] if s else never
            step.append(log_sum([last[s], before, last[s - 2] if skips else never]) + row[label])
        alpha.append(step)
    return alpha


def ctc(tally: Tally, x: torch.Tensor, labels: list[int]) -> Scalar:
    """−log of the probability of one sample's labels (with blanks), x being (T, C)."""
    a, (steps, classes) = tally.scalars(x), x.shape
    logp = [[a[t, c] for c in range(classes)] for t in range(steps)]
    last = forward_lattice(logp, labels)[-1]
    return -log_sum(last[-2:])


def ctc_gradient(tally: Tally, x: torch.Tensor, labels: list[int], grad: float) -> torch.Tensor:
    """The gradient that torch gives by log-probabilities which stem from a log-softmax."""
    plain = Tally()
    nll = ctc(plain, x, labels).value
    a, (steps, classes) = tally.scalars(x), x.shape
    logp = [[a[t, c] for c in range(classes)] for t in range(steps)]
    alpha = forward_lattice([[Scalar(v.value, plain) for v in row] for row in logp], labels)
    beta = forward_lattice(logp[::-1], labels[::-1])
    out = {}
    for t in range(steps):
        gathered = [Scalar(NEVER, tally) for _ in range(classes)]
        for s, label in enumerate(labels):
            back = beta[steps - 1 - t][len(labels) - 1 - s]
            gathered[label] = log_add_or_never(gathered[label], back + alpha[t][s])
        for c in range(classes):
            posterior = gathered[c] + nll - logp[t][c]
            out[t, c] = (logp[t][c].apply("exp") - posterior.apply("exp")) * grad
    return tensor_of(out, (steps, classes))


def log_add_or_never(a: Scalar, b: Scalar) -> Scalar:
    """log_add, of two impossible ones too."""
    if a.value == b.value == NEVER:
        log_add(Scalar(0.0, a.tally), Scalar(0.0, a.tally))  # takes as long, for no value
        return a
    return log_add(a, b)
