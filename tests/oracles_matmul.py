"""Naive loops of matrix products; `oracles.matmul` is the triple loop itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from tests.oracles import Scalar, Tally, tensor_of


def batched(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> dict[tuple[int, ...], Scalar]:
    """(b, m, k) by (b, k, n), element by element."""
    (batch, m, k), n = a.shape, b.shape[2]
    x, y = tally.scalars(a), tally.scalars(b)
    return {
        (s, i, j): tally.weighted_sum((x[s, i, p], y[s, p, j]) for p in range(k))
        for s, i, j in product(range(batch), range(m), range(n))
    }


def summed_batches(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> dict[tuple[int, ...], Scalar]:
    """The sum over the batch of (b, m, k) by (b, k, n), each output one weighted sum."""
    (batch, m, k), n = a.shape, b.shape[2]
    x, y = tally.scalars(a), tally.scalars(b)
    return {
        (i, j): tally.weighted_sum((x[s, i, p], y[s, p, j]) for s in range(batch) for p in range(k))
        for i, j in product(range(m), range(n))
    }


def outer(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> dict[tuple[int, ...], Scalar]:
    """Each element of one vector times each of the other."""
    x, y = tally.scalars(a), tally.scalars(b)
    return {(i, j): x[(i,)] * y[(j,)] for i, j in product(range(len(a)), range(len(b)))}


def scaled_sum(
    tally: Tally,
    products: dict[tuple[int, ...], Scalar],
    added: torch.Tensor,
    beta: float,
    alpha: float,
) -> torch.Tensor:
    """beta·added + alpha·products, skipping what changes nothing."""
    z = tally.scalars(added)
    out = {}
    for index, value in products.items():
        term = value if alpha == 1 else value * alpha
        if beta != 0:
            old = z[index]
            term = term + (old if beta == 1 else old * beta)
        out[index] = term
    return tensor_of(out, tuple(added.shape))


def grouped_rows(
    tally: Tally, a: torch.Tensor, b: torch.Tensor, ends: Sequence[int]
) -> torch.Tensor:
    """Rows of (t, k), each by the matrix of its group in (g, k, n); `ends` cuts the rows."""
    (t, k), n = a.shape, b.shape[2]
    x, y = tally.scalars(a), tally.scalars(b)
    out = {}
    for row, column in product(range(t), range(n)):
        group = sum(row >= end for end in ends)
        out[row, column] = tally.weighted_sum((x[row, p], y[group, p, column]) for p in range(k))
    return tensor_of(out, (t, n))


def grouped_columns(
    tally: Tally, a: torch.Tensor, b: torch.Tensor, ends: Sequence[int]
) -> torch.Tensor:
    """Columns of (k, t), each under the matrix of its group in (g, m, k)."""
    (_, m, k), t = a.shape, b.shape[1]
    x, y = tally.scalars(a), tally.scalars(b)
    out = {}
    for row, column in product(range(m), range(t)):
        group = sum(column >= end for end in ends)
        out[row, column] = tally.weighted_sum((x[group, row, p], y[p, column]) for p in range(k))
    return tensor_of(out, (m, t))


def grouped_inner(
    tally: Tally, a: torch.Tensor, b: torch.Tensor, ends: Sequence[int]
) -> torch.Tensor:
    """One product for each group of the inner dimension of (m, t) by (t, n)."""
    m, n = a.shape[0], b.shape[1]
    x, y = tally.scalars(a), tally.scalars(b)
    out = {}
    starts = [0, *ends]
    for group, (start, end) in enumerate(zip(starts, ends)):
        for i, j in product(range(m), range(n)):
            out[group, i, j] = tally.weighted_sum((x[i, p], y[p, j]) for p in range(start, end))
    return tensor_of(out, (len(ends), m, n))


def bilinear(tally: Tally, a: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """out[s, o] = the sum of a[s, i]·w[o, i, j]·b[s, j], over i first."""
    (batch, rows), (outputs, _, columns) = a.shape, w.shape
    x, y, z = tally.scalars(a), tally.scalars(w), tally.scalars(b)
    out = {}
    for s, o in product(range(batch), range(outputs)):
        half = [
            tally.weighted_sum((x[s, i], y[o, i, j]) for i in range(rows)) for j in range(columns)
        ]
        out[s, o] = tally.weighted_sum((half[j], z[s, j]) for j in range(columns))
    return tensor_of(out, (batch, outputs))


def bilinear_weight_gradient(
    tally: Tally, a: torch.Tensor, grad: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """out[o, i, j] = the sum over s of (a[s, i]·grad[s, o])·b[s, j]."""
    (batch, rows), outputs, columns = a.shape, grad.shape[1], b.shape[1]
    x, g, z = tally.scalars(a), tally.scalars(grad), tally.scalars(b)
    outer = {
        (s, o, i): x[s, i] * g[s, o]
        for s, o, i in product(range(batch), range(outputs), range(rows))
    }
    out = {
        (o, i, j): tally.weighted_sum((outer[s, o, i], z[s, j]) for s in range(batch))
        for o, i, j in product(range(outputs), range(rows), range(columns))
    }
    return tensor_of(out, (outputs, rows, columns))


def linear_gradients(
    tally: Tally, grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x, w and the bias of x @ w.T + bias."""
    (rows, n), k = grad.shape, x.shape[1]
    g, a, b = tally.scalars(grad), tally.scalars(x), tally.scalars(w)
    dx = {
        (r, p): tally.weighted_sum((g[r, c], b[c, p]) for c in range(n))
        for r, p in product(range(rows), range(k))
    }
    dw = {
        (c, p): tally.weighted_sum((g[r, c], a[r, p]) for r in range(rows))
        for c, p in product(range(n), range(k))
    }
    db = {(c,): tally.sum(g[r, c] for r in range(rows)) for c in range(n)}
    return tensor_of(dx, (rows, k)), tensor_of(dw, (n, k)), tensor_of(db, (n,))
