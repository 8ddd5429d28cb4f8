"""Naive loops of batch normalization, on instrumented scalars; a row is a channel."""

from __future__ import annotations

import torch

from tests.oracles import Tally
from tests.oracles_normalization import Row, Rows, centred, rsqrt, square


def channels_first(tensor: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) as (C, B·...): a row a channel."""
    return tensor.transpose(0, 1).reshape(tensor.shape[1], -1)


def channels_back(rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The inverse of `channels_first`."""
    b, c, *rest = shape
    return rows.reshape(c, b, *rest).transpose(0, 1)


def batch_norm_train(
    tally: Tally, x: Rows, w: Row | None, b: Row | None, running: tuple[Row, Row] | None
) -> tuple[Rows, Row, Row]:
    """y, running mean, running variance; momentum 0.1, eps 1e-5."""
    y, means, variances = [], [], []
    for c, row in enumerate(x):
        mean, d, squares = centred(tally, row)
        scale = rsqrt(squares / len(row) + 1e-5)
        if w is not None:
            scale = scale * w[c]
        out = [item * scale for item in d]
        y.append(out if b is None else [item + b[c] for item in out])
        if running is not None:
            unbiased = squares / (len(row) - 1)
            means.append(running[0][c] * 0.9 + mean * 0.1)
            variances.append(running[1][c] * 0.9 + unbiased * 0.1)
    return y, means, variances


def batch_norm_eval(x: Rows, mean: Row, var: Row, w: Row | None, b: Row | None) -> Rows:
    scale = [rsqrt(v + 1e-5) for v in var]
    return scale_and_shift(x, mean, scale, w, b)


def scale_and_shift(x: Rows, mean: Row, scale: Row, w: Row | None, b: Row | None) -> Rows:
    """x·(s·w) + (b − mean·(s·w)), both factors made once a channel."""
    y = []
    for c, row in enumerate(x):
        factor = scale[c] if w is None else scale[c] * w[c]
        offset = mean[c] * factor
        if b is None:
            y.append([item * factor - offset for item in row])
        else:
            shift = b[c] - offset
            y.append([item * factor + shift for item in row])
    return y


def batch_norm_backward_train(
    tally: Tally, dy: Rows, x: Rows, w: Row | None, mean: Row, invstd: Row, mask: tuple[bool, ...]
) -> tuple[Rows, Row, Row]:
    dx, dw, db = [], [], []
    for c, (g, row) in enumerate(zip(dy, x)):
        if mask[0] or mask[1]:
            d = [item - mean[c] for item in row]
            grad_w = tally.sum(a * b for a, b in zip(g, d)) * invstd[c]
            dw.append(grad_w)
        if mask[0] or mask[2]:
            total = tally.sum(g)
            db.append(total)
        if mask[0]:
            k = grad_w * invstd[c] / len(row)
            average = total / len(row)
            scale = invstd[c] if w is None else invstd[c] * w[c]
            dx.append([(a - average - b * k) * scale for a, b in zip(g, d)])
    return dx, dw, db


def batch_norm_backward_eval(
    tally: Tally, dy: Rows, x: Rows, w: Row | None, mean: Row, var: Row, mask: tuple[bool, ...]
) -> tuple[Rows, Row, Row]:
    dx, dw, db = [], [], []
    for c, (g, row) in enumerate(zip(dy, x)):
        if mask[0] or mask[1]:
            invstd = rsqrt(var[c] + 1e-5)
        if mask[0]:
            scale = invstd if w is None else invstd * w[c]
            dx.append([item * scale for item in g])
        if mask[1]:
            dw.append(tally.sum(a * (b - mean[c]) for a, b in zip(g, row)) * invstd)
        if mask[2]:
            db.append(tally.sum(g))
    return dx, dw, db


def batch_norm_stats(tally: Tally, x: Rows) -> tuple[Row, Row]:
    """Mean and 1/sqrt(variance + eps) of each channel."""
    found = [centred(tally, row) for row in x]
    return [m for m, _, _ in found], [
        rsqrt(s / len(row) + 1e-5) for (_, _, s), row in zip(found, x)
    ]


def batch_norm_gather(
    tally: Tally, mean: Rows, invstd: Rows, counts: Row, running: tuple[Row, Row] | None
) -> tuple[Row, Row, Row, Row]:
    """One mean and 1/sqrt(variance + eps) from those of each rank (a row is a channel)."""
    means, scales, running_mean, running_var = [], [], [], []
    n = sum(item.value for item in counts)
    for c, (m, s) in enumerate(zip(mean, invstd)):
        centre = tally.sum(a * b for a, b in zip(m, counts)) / n
        squares = tally.sum(
            (1.0 / (b * b) - 1e-5 + square(a - centre)) * k for a, b, k in zip(m, s, counts)
        )
        means.append(centre)
        scales.append(rsqrt(squares / n + 1e-5))
        if running is not None:
            running_mean.append(running[0][c] * 0.9 + centre * 0.1)
            running_var.append(running[1][c] * 0.9 + squares / (n - 1) * 0.1)
    return means, scales, running_mean, running_var


def sync_backward_reduce(
    tally: Tally, dy: Rows, x: Rows, mean: Row, invstd: Row, wanted: tuple[bool, ...]
) -> tuple[Row, Row, Row]:
    """Σdy, Σdy·(x − mean), and the weight's gradient."""
    sums, dots, dw = [], [], []
    for c, (g, row) in enumerate(zip(dy, x)):
        if wanted[0] or wanted[2]:
            sums.append(tally.sum(g))
        if wanted[0] or wanted[1]:
            dots.append(tally.sum(a * (b - mean[c]) for a, b in zip(g, row)))
        if wanted[1]:
            dw.append(dots[c] * invstd[c])
    return sums, dots, dw


def sync_backward_elemt(
    dy: Rows, x: Rows, mean: Row, invstd: Row, w: Row | None, sums: Row, dots: Row, n: int
) -> Rows:
    dx = []
    for c, (g, row) in enumerate(zip(dy, x)):
        k = dots[c] * invstd[c] * invstd[c] / n
        average = sums[c] / n
        scale = invstd[c] if w is None else invstd[c] * w[c]
        dx.append([(a - average - (b - mean[c]) * k) * scale for a, b in zip(g, row)])
    return dx
