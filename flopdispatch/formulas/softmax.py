"""Softmax, its logarithm and the log-sum-exp, over rows.

Letters: r rows, n elements of a row.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("softmax")


def rows_of(tensor: TensorSpec, dim: int) -> tuple[int, int]:
    """How many rows a tensor has along `dim`, and how many elements each.

    Example: (2, 3, 5) along 1 is 10 rows of 3; a tensor without dimensions is 1 row of 1.
    """
    if tensor.ndim == 0:
        return 1, 1
    dim %= tensor.ndim
    return math.prod(tensor.shape[:dim] + tensor.shape[dim + 1 :]), tensor.shape[dim]


def softmax_rows(r: int, n: int) -> Cost:
    """e = exp(x − max x); y = e / Σe, for each row.

    Counts, for a row: n − 1 comparisons; n subtractions; n exp; n − 1 additions; n divisions.
    """
    return Cost(
        comparisons=folds(r, n),
        adds=r * n + folds(r, n),
        transcendentals=r * n,
        divs=r * n,
    )


def softmax_backward_rows(r: int, n: int) -> Cost:
    """dx = y·(dy − Σ y·dy), for each row.

    Counts, for a row: n products and n − 1 additions for the sum; n subtractions; n products.
    """
    return Cost(muls=2 * r * n, adds=r * n + folds(r, n))


@rules.formula(aten._softmax.default, *overloads("_safe_softmax.default"))
def softmax(self: TensorSpec, dim: int) -> Cost:
    """Softmax along one dimension.

    Counts: as `softmax_rows`. Clearing rows that are all −inf (the safe one) is a selection.
    Example: (2, 3) along 1 is 10 adds, 6 divs, 6 exp, 4 comparisons.
    """
    return softmax_rows(*rows_of(self, dim))


@rules.formula(aten._softmax_backward_data.default)
def softmax_backward(output: TensorSpec, dim: int) -> Cost:
    """The gradient of softmax from its output.

    Example: (2, 3) along 1 is 12 muls and 10 adds.
    """
    return softmax_backward_rows(*rows_of(output, dim))


@rules.formula(aten._masked_softmax.default)
def masked_softmax(self: TensorSpec, dim: int | None) -> Cost:
    """Softmax in which masked positions give 0; the last dimension if `dim` is None.

    Counts: dense, as softmax; masking is a selection.
    """
    return softmax_rows(*rows_of(self, -1 if dim is None else dim))


@rules.formula(aten._masked_softmax_backward.default)
def masked_softmax_backward(output: TensorSpec, dim: int | None) -> Cost:
    """The gradient of the masked softmax: dense, as softmax's."""
    return softmax_backward_rows(*rows_of(output, -1 if dim is None else dim))


@rules.formula(aten._log_softmax.default)
def log_softmax(self: TensorSpec, dim: int) -> Cost:
    """z = x − max x; y = z − log Σ exp z, for each row.

    Counts, for a row: n − 1 comparisons; n subtractions; n exp; n − 1 additions; one log (none
    without elements); n subtractions.
    Example: (2, 3) along 1 is 16 adds, 8 exp and log, 4 comparisons.
    """
    r, n = rows_of(self, dim)
    logs = r * n - folds(r, n)  # one for each row that has elements
    return Cost(
        comparisons=folds(r, n),
        adds=2 * r * n + folds(r, n),
        transcendentals=r * n + logs,
    )


@rules.formula(aten._log_softmax_backward_data.default)
def log_softmax_backward(output: TensorSpec, dim: int) -> Cost:
    """dx = dy − exp(y)·Σ dy, for each row.

    Counts, for a row: n − 1 additions; n exp; n products; n subtractions.
    Example: (2, 3) along 1 is 6 muls, 10 adds, 6 exp.
    """
    r, n = rows_of(output, dim)
    return Cost(adds=folds(r, n) + r * n, transcendentals=r * n, muls=r * n)


@rules.formula(aten.logsumexp.default)
def logsumexp(self: TensorSpec, dim: tuple[int, ...]) -> Cost:
    """m + log Σ exp(x − m), m = max x, over the dimensions `dim` (all if it is empty).

    Counts, for each of r results from n elements: n − 1 comparisons; n subtractions; n exp;
    n − 1 additions; one log; one addition.
    Example: (2, 3) along 1 is 12 adds, 8 exp and log, 4 comparisons.
    """
    reduced = {d % self.ndim for d in dim} if self.ndim and dim else set(range(self.ndim))
    n = math.prod(size for d, size in enumerate(self.shape) if d in reduced)
    r = math.prod(size for d, size in enumerate(self.shape) if d not in reduced)
    return Cost(
        comparisons=folds(r, n),
        adds=r * n + folds(r, n) + r,
        transcendentals=r * n + r,
    )
