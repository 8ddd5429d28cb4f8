"""Loops over what embeddings and scatters combine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from tests.oracles import Scalar, Tally, tensor_of
from tests.oracles_reduction import p_norm

Index = tuple[int, ...]

COMBINE: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "amax": lambda a, b: a.tally.max([a, b]),
    "amin": lambda a, b: a.at_most(b.value),
}


def indices(shape: Sequence[int]) -> list[Index]:
    return list(itertools.product(*(range(n) for n in shape)))


def scattered(
    tally: Tally, x: torch.Tensor, targets: dict[Index, Index], src: torch.Tensor, reduce: str
) -> torch.Tensor:
    """Each source element combined with its target; a mean then divides every target."""
    out, source = tally.scalars(x), tally.scalars(src)
    hits = dict.fromkeys(out, 1)
    for index, target in targets.items():
        out[target] = COMBINE[reduce](out[target], source[index])
        hits[target] += 1
    if reduce == "mean":
        out = {index: value / float(hits[index]) for index, value in out.items()}
    return tensor_of(out, tuple(x.shape))


def fold(
    tally: Tally, blocks: torch.Tensor, size: tuple[int, int], kernel: tuple[int, int],
    dilation: tuple[int, int], padding: tuple[int, int], stride: tuple[int, int],
) -> torch.Tensor:  # fmt: skip
    """Blocks (channels·kernel, places) added onto a padded canvas, which is then cropped."""
    channels = blocks.shape[0] // (kernel[0] * kernel[1])
    height, width = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    canvas = {index: Scalar(0.0, tally) for index in indices((channels, height, width))}
    source = tally.scalars(blocks)
    rows = range(0, height - dilation[0] * (kernel[0] - 1), stride[0])
    columns = range(0, width - dilation[1] * (kernel[1] - 1), stride[1])
    for place, (y, x) in enumerate(itertools.product(rows, columns)):
        for row, (c, i, j) in enumerate(indices((channels, *kernel))):
            at = (c, y + i * dilation[0], x + j * dilation[1])
            canvas[at] = canvas[at] + source[row, place]
    full = tensor_of(canvas, (channels, height, width))
    return full[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def shown(position: int, before: int, n: int, mode: str) -> int:
    """The element that a padded position shows."""
    i = position - before
    if mode == "replicate":
        return min(max(i, 0), n - 1)
    i = -i if i < 0 else i
    return 2 * (n - 1) - i if i >= n else i


def pad_gradient(
    tally: Tally, grad: torch.Tensor, shape: Sequence[int], pads: Sequence[tuple[int, int]],
    mode: str,
) -> torch.Tensor:  # fmt: skip
    """`pads` are (before, after) of the last dimensions, outermost first."""
    out = {index: Scalar(0.0, tally) for index in indices(shape)}
    plain = len(shape) - len(pads)
    for index, value in tally.scalars(grad).items():
        inner = [
            shown(position, before, n, mode)
            for position, (before, _), n in zip(index[plain:], pads, shape[plain:])
        ]
        target = (*index[:plain], *inner)
        out[target] = out[target] + value
    return tensor_of(out, tuple(shape))


# Embeddings


def table_gradient(
    tally: Tally, grad: torch.Tensor, rows: list[int], table: int, by_frequency: bool = False
) -> torch.Tensor:
    """Row i of the gradients added to row rows[i] of the table."""
    g, d = tally.scalars(grad), grad.shape[1]
    out = {index: Scalar(0.0, tally) for index in indices((table, d))}
    for i, row in enumerate(rows):
        scale = 1.0 / tally.scalar(rows.count(row)) if by_frequency else None
        for k in range(d):
            push = g[i, k] if scale is None else g[i, k] * scale
            out[row, k] = out[row, k] + push
    return tensor_of(out, (table, d))


def renormed(
    tally: Tally, table: torch.Tensor, rows: list[int], limit: float, p: float
) -> torch.Tensor:
    """Each named row scaled to the limit."""
    a, d = tally.scalars(table), table.shape[1]
    for row in rows:
        scale = limit / (p_norm(tally, [a[row, k] for k in range(d)], p) + 1e-7)
        for k in range(d):
            a[row, k] = a[row, k] * scale
    return tensor_of(a, tuple(table.shape))


def bag(
    tally: Tally, table: torch.Tensor, bags: list[list[int]], mode: str,
    weights: list[list[float]] | None,
) -> torch.Tensor:  # fmt: skip
    a, d = tally.scalars(table), table.shape[1]
    out = {}
    for b, rows in enumerate(bags):
        for k in range(d):
            column = [a[row, k] for row in rows]
            if mode == "max":
                out[b, k] = tally.max(column)
            elif weights is not None:
                out[b, k] = tally.weighted_sum(
                    (value, tally.scalar(w)) for value, w in zip(column, weights[b])
                )
            elif mode == "mean":
                out[b, k] = tally.sum(column) / float(len(rows))
            else:
                out[b, k] = tally.sum(column)
    return tensor_of(out, (len(bags), d))


def bag_table_gradient(
    tally: Tally, grad: torch.Tensor, table: torch.Tensor, bags: list[list[int]], mode: str,
    weights: list[list[float]] | None,
) -> torch.Tensor:  # fmt: skip
    g, d = tally.scalars(grad), grad.shape[1]
    out = {index: Scalar(0.0, tally) for index in indices(table.shape)}
    for b, rows in enumerate(bags):
        for k in range(d):
            share = g[b, k] / float(len(rows)) if mode == "mean" else g[b, k]
            hit = rows
            if mode == "max":
                hit = [rows[int(table[rows, k].argmax())]]
            for i, row in enumerate(hit):
                push = share if weights is None else share * weights[b][i]
                out[row, k] = out[row, k] + push
    return tensor_of(out, tuple(table.shape))
