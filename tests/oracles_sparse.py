"""Naive loops over the entries of sparse tensors, on instrumented scalars.

An entry is an index and a value; a tensor of blocks or with dense dimensions has one for each of
their elements. Results are dense, but for what a loop over entries gives.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from tests.oracles import Scalar, Tally, tensor_of
from tests.oracles_normalization import softmax, softmax_backward

Index = tuple[int, ...]
Entries = list[tuple[Index, Scalar]]
Terms = dict[Index, list[tuple[Scalar, Scalar]]]


def entries(tally: Tally, tensor: torch.Tensor) -> Entries:
    """All that a sparse tensor stores, zeros too, in order."""
    coo = tensor if tensor.layout is torch.sparse_coo else tensor.to_sparse_coo()
    values = coo._values()
    found: Entries = []
    for e, index in enumerate(coo._indices().T.tolist()):
        inner = tally.scalars(values[e])
        found += [((*index, *rest), value) for rest, value in inner.items()]
    return found


def summed(tally: Tally, terms: Terms, shape: Index) -> torch.Tensor:
    """A weighted sum for each element that has terms."""
    return tensor_of({index: tally.weighted_sum(t) for index, t in terms.items()}, shape)


def sparse_by_dense(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(..., m, k) by (..., k, n), each entry with a row."""
    terms: Terms = defaultdict(list)
    y, n = tally.scalars(b), b.shape[-1]
    for (*batch, i, p), value in entries(tally, a):
        for j in range(n):
            out, column = (*batch, i, j), (*batch, p, j)
            terms[out].append((value, y[column]))
    return summed(tally, terms, (*a.shape[:-1], n))


def dense_by_sparse(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(m, k) by (k, n), each entry with a column."""
    terms: Terms = defaultdict(list)
    x, m = tally.scalars(a), a.shape[0]
    for (p, j), value in entries(tally, b):
        for i in range(m):
            terms[i, j].append((x[i, p], value))
    return summed(tally, terms, (m, b.shape[1]))


def sparse_by_sparse(tally: Tally, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(m, k) by (k, n): all pairs of entries, of which those with the same inner index meet."""
    terms: Terms = defaultdict(list)
    for (i, p), left in entries(tally, a):
        for (q, j), right in entries(tally, b):
            if p == q:
                terms[i, j].append((left, right))
    return summed(tally, terms, (a.shape[0], b.shape[1]))


def sampled(
    tally: Tally, pattern: torch.Tensor, a: torch.Tensor, b: torch.Tensor, beta: float, alpha: float
) -> torch.Tensor:
    """beta·pattern + alpha·(a @ b), where the pattern has entries."""
    x, y, out = tally.scalars(a), tally.scalars(b), {}
    for (i, j), value in entries(tally, pattern):
        term = tally.weighted_sum((x[i, p], y[p, j]) for p in range(a.shape[1]))
        term = term * alpha if alpha != 1 else term
        out[i, j] = term if beta == 0 else (value * beta if beta != 1 else value) + term
    return tensor_of(out, tuple(pattern.shape))


def scaled_sum(
    tally: Tally, start: torch.Tensor, product: torch.Tensor, beta: float, alpha: float
) -> torch.Tensor:
    """beta·start + alpha·product, element by element."""
    x, y, out = tally.scalars(start), tally.scalars(product), {}
    for index, plain in y.items():
        term = plain * alpha if alpha != 1 else plain
        out[index] = term if beta == 0 else (x[index] * beta if beta != 1 else x[index]) + term
    return tensor_of(out, tuple(product.shape))


def reduced_product(tally: Tally, a: torch.Tensor, b: torch.Tensor, reduce: str) -> torch.Tensor:
    """The sum, mean, maximum or minimum of the products of each row with each column."""
    y, n = tally.scalars(b), b.shape[1]
    terms: Terms = defaultdict(list)
    for (i, p), value in entries(tally, a):
        for j in range(n):
            terms[i, j].append((value, y[p, j]))
    out = {}
    for index, pairs in terms.items():
        if reduce in ("sum", "mean"):
            out[index] = tally.weighted_sum(pairs)
            if reduce == "mean":
                out[index] = out[index] / float(len(pairs))
        else:
            products = [left * right for left, right in pairs]
            sign = 1.0 if reduce == "amax" else -1.0
            turned = [Scalar(sign * item.value, tally) for item in products]
            out[index] = Scalar(sign * tally.max(turned).value, tally)
    return tensor_of(out, (a.shape[0], n))


def reduced_product_backward(
    tally: Tally, a: torch.Tensor, g: torch.Tensor, b: torch.Tensor, reduce: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `reduced_product` by the stored elements of a, and by b."""
    y, dy, n = tally.scalars(b), tally.scalars(g), b.shape[1]
    rows: dict[int, list[tuple[int, Scalar]]] = defaultdict(list)
    for (i, p), value in entries(tally, a):
        rows[i].append((p, value))
    by_a: Terms = defaultdict(list)
    by_b: Terms = defaultdict(list)
    for i, row in rows.items():
        shares = [(p, v / float(len(row))) if reduce == "mean" else (p, v) for p, v in row]
        for j in range(n):
            products = [value.value * y[p, j].value for p, value in row]
            taking = range(len(row))
            if reduce in ("amax", "amin"):
                best = max(products) if reduce == "amax" else min(products)
                taking = range(products.index(best), products.index(best) + 1)
            for e in taking:
                p, share = shares[e]
                by_a[i, p].append((dy[i, j], y[p, j]))
                by_b[p, j].append((share, dy[i, j]))
    own = {index: tally.weighted_sum(terms) for index, terms in by_a.items()}
    if reduce == "mean":
        own = {index: total / float(len(rows[index[0]])) for index, total in own.items()}
    return tensor_of(own, tuple(a.shape)), summed(tally, by_b, tuple(b.shape))


def solve_triangular(
    tally: Tally, a: torch.Tensor, b: torch.Tensor, unitriangular: bool, upper: bool = True
) -> torch.Tensor:
    """X of A·X = B, A upper triangular: from the last row up; lower: from the first one down."""
    rows: dict[int, list[tuple[int, Scalar]]] = defaultdict(list)
    for (i, j), value in entries(tally, a):
        rows[i].append((j, value))
    right, x = tally.scalars(b), dict[Index, Scalar]()
    order = list(reversed(range(b.shape[0]))) if upper else list(range(b.shape[0]))
    for i in order:
        others = [(j, value) for j, value in rows[i] if (j > i if upper else j < i)]
        (diagonal,) = [value for j, value in rows[i] if j == i] or [tally.scalar(1)]
        for c in range(b.shape[1]):
            done = tally.weighted_sum((value, x[j, c]) for j, value in others).value
            # The subtraction is the last term's of the sum that begins with b.
            left = Scalar(right[i, c].value - done, tally)
            x[i, c] = left if unitriangular else left / diagonal
    return tensor_of(x, tuple(b.shape))


def rows_along(found: Entries, dim: int) -> list[Entries]:
    """The entries that differ in one dimension only, together."""
    groups: dict[Index, Entries] = defaultdict(list)
    for index, value in found:
        groups[index[:dim] + index[dim + 1 :]].append((index, value))
    return list(groups.values())


def row_softmax(tally: Tally, tensor: torch.Tensor, dim: int, log: bool) -> torch.Tensor:
    """Softmax of the entries of each row, or its logarithm."""
    out = {}
    for row in rows_along(entries(tally, tensor), dim):
        values = [value for _, value in row]
        if log:
            big = tally.max(values)
            shifted = [value - big for value in values]
            total = tally.sum(item.apply("exp") for item in shifted).apply("log")
            line = [item - total for item in shifted]
        else:
            (line,) = softmax(tally, [values])
        out.update({index: value for (index, _), value in zip(row, line)})
    return tensor_of(out, tuple(tensor.shape))


def row_softmax_backward(
    tally: Tally, grad: torch.Tensor, output: torch.Tensor, dim: int, log: bool
) -> torch.Tensor:
    """The gradient of `row_softmax` from its output, both with entries in the same places."""
    out = {}
    outputs = rows_along(entries(tally, output), dim)
    for dys, ys in zip(rows_along(entries(tally, grad), dim), outputs):
        dy, y = [value for _, value in dys], [value for _, value in ys]
        if log:
            total = tally.sum(dy)
            line = [g - value.apply("exp") * total for g, value in zip(dy, y)]
        else:
            (line,) = softmax_backward(tally, [dy], [y])
        out.update({index: value for (index, _), value in zip(ys, line)})
    return tensor_of(out, tuple(output.shape))


def merged(tally: Tally, *tensors: torch.Tensor, alpha: float = 1) -> torch.Tensor:
    """The sum of tensors by their entries: those of the same index are added up.

    All but the first tensor are multiplied by alpha.
    """
    out: dict[Index, Scalar] = {}
    for t, tensor in enumerate(tensors):
        for index, value in entries(tally, tensor):
            item = value * alpha if t and alpha != 1 else value
            out[index] = out[index] + item if index in out else item
    return tensor_of(out, tuple(tensors[0].shape))


def added_to_dense(
    tally: Tally, dense: torch.Tensor, sparse: torch.Tensor, alpha: float
) -> torch.Tensor:
    """dense + alpha·sparse: each entry is added."""
    out = tally.scalars(dense)
    for index, value in entries(tally, sparse):
        out[index] = out[index] + (value * alpha if alpha != 1 else value)
    return tensor_of(out, tuple(dense.shape))


def along(
    tally: Tally, tensor: torch.Tensor, dims: tuple[int, ...], keep: bool, times: bool = False
) -> torch.Tensor:
    """The sum, or the product, of the entries of each row."""
    groups: dict[Any, list[Scalar]] = defaultdict(list)
    for index, value in entries(tally, tensor):
        left = [0 if d in dims else i for d, i in enumerate(index) if keep or d not in dims]
        groups[tuple(left)].append(value)
    out = {}
    for index, values in groups.items():
        first = values[0]
        for value in values[1:]:
            first = first * value if times else first + value
        out[index] = first
    sizes = [1 if d in dims else n for d, n in enumerate(tensor.shape) if keep or d not in dims]
    return tensor_of(out, tuple(sizes))
