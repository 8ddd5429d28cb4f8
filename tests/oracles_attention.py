"""Naive loops of attention, on instrumented scalars.

Shapes: q (b, h, s, d), k (b, g, t, d), v (b, g, t, e); h/g query heads share a key head.
"""

from __future__ import annotations

import torch

from tests.oracles import Scalar, Tally, tensor_of
from tests.oracles_normalization import Rows, softmax, softmax_backward

Index = tuple[int, int, int]


def probabilities(
    tally: Tally, q: torch.Tensor, k: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> dict[tuple[int, int], Rows]:
    """softmax(q·kᵀ·scale + mask): s rows of t for each batch and head."""
    (b, h, s, d), (_, g, t, _) = q.shape, k.shape
    x, y = tally.scalars(q), tally.scalars(k)
    bias = tally.scalars(mask) if mask is not None else None
    found = {}
    for i in range(b):
        for j in range(h):
            scores: Rows = []
            for row in range(s):
                line = []
                for column in range(t):
                    score = tally.weighted_sum(
                        (x[i, j, row, c], y[i, j * g // h, column, c]) for c in range(d)
                    )
                    if scale != 1:
                        score = score * scale
                    line.append(score if bias is None else score + bias[row, column])
                scores.append(line)
            found[i, j] = softmax(tally, scores)
    return found


def dropped(rows: Rows, kept: torch.Tensor | None, p: float) -> Rows:
    """rows·mask·1/(1 − p)."""
    if kept is None:
        return rows
    return [
        [item * float(mark) * (1 / (1 - p)) for item, mark in zip(row, marks)]
        for row, marks in zip(rows, kept.tolist())
    ]


def attention(
    tally: Tally,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float,
    mask: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
    p: float = 0.0,
) -> torch.Tensor:
    """The weighted sum of values by probabilities. `kept` (b, h, s, t) is dropout's mask."""
    (b, h, s, _), (_, g, t, e) = q.shape, v.shape
    z = tally.scalars(v)
    out = {}
    for (i, j), rows in probabilities(tally, q, k, scale, mask).items():
        weights = dropped(rows, None if kept is None else kept[i, j], p)
        for row in range(s):
            for c in range(e):
                out[i, j, row, c] = tally.weighted_sum(
                    (weights[row][n], z[i, j * g // h, n, c]) for n in range(t)
                )
    return tensor_of(out, (b, h, s, e))


def attention_backward(
    tally: Tally,
    do: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float,
    mask: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
    p: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four products. The forward's probabilities are known, dropped ones too: not counted."""
    (b, h, s, d), (_, g, t, e) = q.shape, v.shape
    forward = Tally()
    known = probabilities(forward, q, k, scale, mask)
    w = {
        (i, j): dropped(rows, None if kept is None else kept[i, j], p)
        for (i, j), rows in known.items()
    }
    o, x, y, z = (tally.scalars(tensor) for tensor in (do, q, k, v))
    ds: dict[tuple[int, int], Rows] = {}
    for (i, j), rows in known.items():
        dp = [
            [
                tally.weighted_sum((o[i, j, row, c], z[i, j * g // h, n, c]) for c in range(e))
                for n in range(t)
            ]
            for row in range(s)
        ]
        probs = [[tally.scalar(item.value) for item in row] for row in rows]
        ds[i, j] = softmax_backward(
            tally, dropped(dp, None if kept is None else kept[i, j], p), probs
        )
        if scale != 1:
            ds[i, j] = [[item * scale for item in row] for row in ds[i, j]]
    dq, dk, dv = {}, {}, {}
    for i in range(b):
        for j in range(h):
            for row in range(s):
                for c in range(d):
                    dq[i, j, row, c] = tally.weighted_sum(
                        (ds[i, j][row][n], y[i, j * g // h, n, c]) for n in range(t)
                    )
        for head in range(g):
            sharing = [(j, row) for j in range(h) if j * g // h == head for row in range(s)]
            for n in range(t):
                for c in range(d):
                    dk[i, head, n, c] = tally.weighted_sum(
                        (ds[i, j][row][n], x[i, j, row, c]) for j, row in sharing
                    )
                for c in range(e):
                    dv[i, head, n, c] = tally.weighted_sum(
                        (w[i, j][row][n], o[i, j, row, c]) for j, row in sharing
                    )
    shapes = (b, h, s, d), (b, g, t, d), (b, g, t, e)
    grads = [tensor_of(found, shape) for found, shape in zip((dq, dk, dv), shapes)]
    return grads[0], grads[1], grads[2]


def linear(tally: Tally, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x·Wᵀ + bias for rows of x."""
    a, w, c = tally.scalars(x), tally.scalars(weight), tally.scalars(bias)
    out: dict[tuple[int, int], Scalar] = {
        (i, j): tally.weighted_sum((a[i, k], w[j, k]) for k in range(x.shape[1])) + c[(j,)]
        for i in range(x.shape[0])
        for j in range(weight.shape[0])
    }
    return tensor_of(out, (x.shape[0], weight.shape[0]))


def multi_head(
    tally: Tally,
    x: torch.Tensor,
    heads: int,
    weights: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Self-attention of (b, s, m): its result, and the mean over heads of the probabilities.

    `weights` are qkv's weight (3m, m) and bias, and the projection's.
    """
    b, s, m = x.shape
    qkv = linear(tally, x.reshape(b * s, m), weights[0], weights[1])
    q, k, v = qkv.reshape(b, s, 3, heads, m // heads).permute(2, 0, 3, 1, 4)
    scale = float((m // heads) ** -0.5)
    out = attention(tally, q, k, v, scale=scale)
    joined = out.transpose(1, 2).reshape(b * s, m)
    rows = probabilities(Tally(), q, k, scale, None)  # known from the attention above
    mean = {}
    for i in range(b):
        for r in range(s):
            for c in range(s):
                of_heads = [tally.scalar(rows[i, j][r][c].value) for j in range(heads)]
                mean[i, r, c] = tally.sum(of_heads) / heads
    result = linear(tally, joined, weights[2], weights[3]).reshape(b, s, m)
    return result, tensor_of(mean, (b, s, s))
