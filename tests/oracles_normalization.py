"""Naive loops of softmax and of the normalizations, on instrumented scalars.

They take rows: a 2-D tensor, one row for each group that is normalized on its own.
"""

from __future__ import annotations

from itertools import product

import torch

from tests.oracles import Scalar, Tally

Row = list[Scalar]
Rows = list[Row]


def rows_of(tally: Tally, tensor: torch.Tensor) -> Rows:
    return [[tally.scalar(value) for value in row] for row in tensor.tolist()]


def row_of(tally: Tally, tensor: torch.Tensor | None) -> Row | None:
    return None if tensor is None else [tally.scalar(value) for value in tensor.tolist()]


def back(rows: Rows) -> torch.Tensor:
    return torch.tensor([[x.value for x in row] for row in rows], dtype=torch.float64)


def flat(row: Row) -> torch.Tensor:
    return torch.tensor([x.value for x in row], dtype=torch.float64)


def rsqrt(x: Scalar) -> Scalar:
    x.tally.note("transcendentals")
    return x.tally.scalar(x.value**-0.5)


def square(x: Scalar) -> Scalar:
    return x * x


def centred(tally: Tally, x: Row) -> tuple[Scalar, Row, Scalar]:
    """Mean, deviations, and the sum of their squares: the two passes."""
    mean = tally.sum(x) / len(x)
    d = [item - mean for item in x]
    return mean, d, tally.sum(item * item for item in d)


# Softmax


def softmax(tally: Tally, x: Rows) -> Rows:
    y = []
    for row in x:
        top = tally.max(row)
        e = [(item - top).apply("exp") for item in row]
        total = tally.sum(e)
        y.append([item / total for item in e])
    return y


def softmax_backward(tally: Tally, dy: Rows, y: Rows) -> Rows:
    dx = []
    for dy_row, y_row in zip(dy, y):
        dot = tally.sum(b * a for a, b in zip(dy_row, y_row))
        dx.append([b * (a - dot) for a, b in zip(dy_row, y_row)])
    return dx


def log_softmax(tally: Tally, x: Rows) -> Rows:
    y = []
    for row in x:
        top = tally.max(row)
        z = [item - top for item in row]
        log = tally.sum(item.apply("exp") for item in z).apply("log")
        y.append([item - log for item in z])
    return y


def log_softmax_backward(tally: Tally, dy: Rows, y: Rows) -> Rows:
    dx = []
    for dy_row, y_row in zip(dy, y):
        total = tally.sum(dy_row)
        dx.append([a - b.apply("exp") * total for a, b in zip(dy_row, y_row)])
    return dx


def logsumexp(tally: Tally, x: Rows) -> Row:
    y = []
    for row in x:
        top = tally.max(row)
        y.append(top + tally.sum((item - top).apply("exp") for item in row).apply("log"))
    return y


# Layer and RMS normalization: a row is what is normalized, weights run along it


def layer_norm(tally: Tally, x: Rows, w: Row | None, b: Row | None) -> Rows:
    y = []
    for row in x:
        _, d, squares = centred(tally, row)
        rstd = rsqrt(squares / len(row) + 1e-5)
        y.append(affine([item * rstd for item in d], w, b))
    return y


def affine(x: Row, w: Row | None, b: Row | None) -> Row:
    if w is not None:
        x = [item * factor for item, factor in zip(x, w)]
    return x if b is None else [item + shift for item, shift in zip(x, b)]


def layer_norm_backward(
    tally: Tally, dy: Rows, x: Rows, w: Row | None, mean: Row, rstd: Row, mask: tuple[bool, ...]
) -> tuple[Rows, Row, Row]:
    dx: Rows = []
    dw: Row = []
    db: Row = []
    if mask[0] or mask[1]:
        hat = [[(a - m) * s for a in row] for row, m, s in zip(x, mean, rstd)]
    if mask[0]:
        for g_row, h, s in zip(dy, hat, rstd):
            g = affine(g_row, w, None)
            average = tally.sum(g) / len(g)
            k = tally.sum(a * b for a, b in zip(g, h)) / len(g)
            dx.append([(a - average - b * k) * s for a, b in zip(g, h)])
    if mask[1]:
        dw = column_sums(tally, [[a * b for a, b in zip(g, h)] for g, h in zip(dy, hat)])
    if mask[2]:
        db = column_sums(tally, dy)
    return dx, dw, db


def column_sums(tally: Tally, rows: Rows) -> Row:
    return [tally.sum(column) for column in zip(*rows)]


def rms_norm(tally: Tally, x: Rows, w: Row | None) -> Rows:
    y = []
    for row in x:
        rstd = rsqrt(tally.sum(square(item) for item in row) / len(row) + 1e-5)
        y.append(affine([item * rstd for item in row], w, None))
    return y


def rms_norm_backward(
    tally: Tally, dy: Rows, x: Rows, w: Row | None, rstd: Row, mask: tuple[bool, ...]
) -> tuple[Rows, Row]:
    dx: Rows = []
    dw: Row = []
    if mask[0] or mask[1]:
        hat = [[a * s for a in row] for row, s in zip(x, rstd)]
    if mask[0]:
        for g_row, h, s in zip(dy, hat, rstd):
            g = affine(g_row, w, None)
            k = tally.sum(a * b for a, b in zip(g, h)) / len(g)
            dx.append([(a - b * k) * s for a, b in zip(g, h)])
    if mask[1]:
        dw = column_sums(tally, [[a * b for a, b in zip(g, h)] for g, h in zip(dy, hat)])
    return dx, dw


# Group normalization: x[n][c] is a row of positions; a group is c // (C / groups)


def group_norm(
    tally: Tally, x: list[Rows], groups: int, w: Row | None, b: Row | None
) -> list[Rows]:
    y = []
    for image in x:
        size = len(image) // groups
        out: Rows = []
        for group in range(groups):
            channels = range(group * size, (group + 1) * size)
            _, d, squares = centred(tally, [item for c in channels for item in image[c]])
            rstd = rsqrt(squares / len(d) + 1e-5)
            deviations = iter(d)
            for c in channels:
                scale = rstd if w is None else rstd * w[c]
                row = [next(deviations) * scale for _ in image[c]]
                out.append(row if b is None else [item + b[c] for item in row])
        y.append(out)
    return y


def group_norm_backward(
    tally: Tally,
    dy: list[Rows],
    x: list[Rows],
    w: Row | None,
    mean: Rows,
    rstd: Rows,
    mask: tuple[bool, ...],
) -> tuple[list[Rows], Row, Row]:
    dx: list[Rows] = []
    dw: Row = []
    db: Row = []
    groups, channels, positions = len(mean[0]), len(x[0]), len(x[0][0])
    size = channels // groups
    dots: Rows = []
    sums: Rows = []
    deviations: list[Rows] = []
    for i, (image, grads) in enumerate(zip(x, dy)):
        if mask[0] or mask[1]:
            deviations.append(
                [[a - mean[i][c // size] for a in row] for c, row in enumerate(image)]
            )
            dots.append(
                [tally.sum(a * b for a, b in zip(g, d)) for g, d in zip(grads, deviations[i])]
            )
        if mask[0] or mask[2]:
            sums.append([tally.sum(g) for g in grads])
    if mask[0]:
        for i, grads in enumerate(dy):
            out: Rows = []
            for group in range(groups):
                members = range(group * size, (group + 1) * size)
                s = rstd[i][group]
                total = tally.sum(sums[i][c] if w is None else sums[i][c] * w[c] for c in members)
                dot = tally.sum(dots[i][c] if w is None else dots[i][c] * w[c] for c in members)
                average = total / (size * positions) * s
                k = dot / (size * positions) * s * s * s
                for c in members:
                    scale = s if w is None else s * w[c]
                    d = deviations[i][c]
                    out.append([a * scale - average - b * k for a, b in zip(grads[c], d)])
            dx.append(out)
    if mask[1]:
        dw = column_sums(
            tally,
            [[dots[i][c] * rstd[i][c // size] for c in range(channels)] for i in range(len(x))],
        )
    if mask[2]:
        db = column_sums(tally, sums)
    return dx, dw, db


# Weight normalization and renorm: a row is one output's weights


def weight_norm(tally: Tally, v: Rows, g: Row) -> tuple[Rows, Row]:
    norms = [tally.sum(square(item) for item in row).apply("sqrt") for row in v]
    factors = [a / b for a, b in zip(g, norms)]
    return [[item * k for item in row] for row, k in zip(v, factors)], norms


def weight_norm_backward(tally: Tally, dw: Rows, v: Rows, g: Row, norms: Row) -> tuple[Rows, Row]:
    dv, dg = [], []
    for grads, row, gain, norm in zip(dw, v, g, norms):
        grad_gain = tally.sum(a * b for a, b in zip(grads, row)) / norm
        k, factor = grad_gain / norm, gain / norm
        dv.append([(a - b * k) * factor for a, b in zip(grads, row)])
        dg.append(grad_gain)
    return dv, dg


def renorm(tally: Tally, x: Rows, p: float, maxnorm: float) -> Rows:
    y = []
    for row in x:
        norm = vector_norm(tally, row, p)
        factor = maxnorm / (norm + 1e-7)
        shrink = factor.value if norm.value > maxnorm else 1.0
        y.append([item * shrink for item in row])
    return y


def vector_norm(tally: Tally, row: Row, p: float) -> Scalar:
    if p == 2:
        return tally.sum(square(item) for item in row).apply("sqrt")
    sizes = [item if item.value >= 0 else tally.scalar(-item.value) for item in row]
    tally.note("comparisons", len(row))
    if p == float("inf"):
        return tally.max(sizes)
    if p == 1:
        return tally.sum(sizes)
    return power(tally.sum(power(item, p) for item in sizes), 1 / p)


def power(x: Scalar, p: float) -> Scalar:
    x.tally.note("transcendentals")
    return x.tally.scalar(x.value**p)


def modes(count: int) -> list[tuple[bool, ...]]:
    """All choices of `count` options."""
    return list(product((True, False), repeat=count))
