"""Embeddings and embedding bags.

Letters: n indices, d the embedding's size, b bags.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import named
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.reduction import p_norm
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("embedding")

BAG_MEAN, BAG_MAX = 1, 2  # at::native::EmbeddingBagMode; 0 is the sum
Results = tuple[TensorSpec, ...]


def row_bytes(weight: TensorSpec, indices: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The indices and the rows that they name are read, none of these twice."""
    return size(indices) + named(weight, result.numel), size(result)


rules.zero(aten.embedding.default, nbytes=row_bytes)


@rules.formula(aten.embedding_dense_backward.default)
def embedding_dense_backward(
    grad_output: TensorSpec, indices: TensorSpec, scale_grad_by_freq: bool
) -> Cost:
    """Each index's row of gradients is added to its row of the table.

    Shapes: indices (...), grad_output (..., d).
    Counts: one add per element; by frequency a division per index and a mul per element.

    Ignores: `padding_idx`, whose rows are dropped; the count of each index.
    Example: 3 indices of rows of 4 are 12 adds.
    """
    scaled = Cost(muls=grad_output.numel, divs=indices.numel) if scale_grad_by_freq else Cost()
    return Cost(adds=grad_output.numel) + scaled


def renorm_bytes(self: TensorSpec, indices: TensorSpec) -> tuple[int, int]:
    """The rows that the indices name are read and written."""
    rows = named(self, indices.numel * self.shape[1])
    return rows + size(indices), rows


LONG_ROWS = "bound: all indices differ and all their rows are longer than max_norm"


@rules.formula(aten.embedding_renorm_.default, nbytes=renorm_bytes, estimate=LONG_ROWS)
@rules.formula(*overloads("embedding_renorm.default"), estimate=LONG_ROWS)
def embedding_renorm(self: TensorSpec, indices: TensorSpec, norm_type: float) -> Cost:
    """Rows longer than max_norm are scaled to it.

    Shapes: self (rows, d), indices (...).
    Counts: per index the norm, max_norm/(norm + eps) and d muls.
    """
    n, d = indices.numel, self.shape[1]
    return p_norm(n * d, n, norm_type) + Cost(adds=n, divs=n, muls=n * d)


# Bags


def bag_bytes(
    weight: TensorSpec,
    indices: TensorSpec,
    offsets: TensorSpec,
    per_sample_weights: TensorSpec | None,
    result: Results,
) -> tuple[int, int]:
    """The indices and the rows that they name are read."""
    rows = named(weight, indices.numel * weight.shape[1])
    return rows + size(indices, offsets, per_sample_weights), size(result)


@rules.formula(
    aten._embedding_bag.default, aten._embedding_bag_forward_only.default, nbytes=bag_bytes
)
def embedding_bag(
    weight: TensorSpec,
    indices: TensorSpec,
    mode: int,
    per_sample_weights: TensorSpec | None,
    result: Results,
) -> Cost:
    """Sum, mean or maximum of each bag's rows.

    Shapes: weight (rows, d), indices (n), result[0] (b, d).
    Counts: sum: (n − b)·d adds, or n·d MACs with per-sample weights; mean: the sum and b·d
    divisions; max: (n − b)·d comparisons.

    Ignores: empty bags and `padding_idx`.
    """
    n, out = indices.numel * weight.shape[1], result[0].numel
    if mode == BAG_MAX:
        return Cost(comparisons=combined(n, out))
    if per_sample_weights is not None:
        return Cost(macs=n)
    return Cost(adds=combined(n, out), divs=out if mode == BAG_MEAN else 0)


def bag_gradient(
    grad: TensorSpec, n: int, mode: int, weighted: bool, scale_grad_by_freq: bool
) -> Cost:
    """The bags' gradients added to the rows of their indices.

    Counts: sum and mean: n·d adds, a mul of each by its per-sample weight, a mul of each and a
    division per index by frequency; mean: b·d divisions by the bags' sizes; max: b·d adds.
    """
    out, d = grad.numel, grad.shape[1]
    if mode == BAG_MAX:
        return Cost(adds=out)
    muls = (n * d if weighted else 0) + (n * d if scale_grad_by_freq else 0)
    divs = (out if mode == BAG_MEAN else 0) + (n if scale_grad_by_freq else 0)
    return Cost(adds=n * d, muls=muls, divs=divs)


@rules.formula(aten._embedding_bag_dense_backward.default)
def embedding_bag_dense_backward(
    grad: TensorSpec,
    indices: TensorSpec,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: TensorSpec | None,
) -> Cost:
    """The gradient by the table: `bag_gradient`.

    Shapes: grad (b, d), indices (n).
    """
    weighted = per_sample_weights is not None
    return bag_gradient(grad, indices.numel, mode, weighted, scale_grad_by_freq)


@rules.formula(aten._embedding_bag_backward.default)
def embedding_bag_backward(
    grad: TensorSpec,
    indices: TensorSpec,
    *,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: TensorSpec | None,
) -> Cost:
    """The gradient by the table: as of `embedding_bag_dense_backward`.

    Counts: a sparse one has the rows of all indices side by side: nothing is added.
    """
    gradient = embedding_bag_dense_backward(
        grad, indices, scale_grad_by_freq, mode, per_sample_weights
    )
    return replace(gradient, adds=0) if sparse else gradient


def sample_weight_bytes(
    grad: TensorSpec,
    weight: TensorSpec,
    indices: TensorSpec,
    offset2bag: TensorSpec,
    result: TensorSpec,
) -> tuple[int, int]:
    """The gradients, the bags of the indices and, of the table, the rows that these name."""
    rows = named(weight, indices.numel * weight.shape[1])
    return rows + size(grad, indices, offset2bag), size(result)


@rules.formula(aten._embedding_bag_per_sample_weights_backward.default, nbytes=sample_weight_bytes)
def per_sample_weights_backward(grad: TensorSpec, indices: TensorSpec) -> Cost:
    """Per index, the product of its row and its bag's gradient.

    Shapes: grad (b, d), indices (n).
    Counts: n·d MACs.
    """
    return Cost(macs=indices.numel * grad.shape[1])
