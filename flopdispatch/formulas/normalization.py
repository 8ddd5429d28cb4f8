"""Normalizations: layer, group, RMS, weight, and renorm. Batch normalization is in batch_norm.py.

Letters: m rows, d elements of a row; b batch, c channels, n elements of a channel.

What is constant along a channel or a row is computed once for it. Variances take two passes:
the mean, then the squares of the deviations from it, which the normalization uses again.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import Mask, gradients
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.reduction import p_norm
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("normalization")

Tensor = TensorSpec | None


def statistics(m: int, d: int) -> Cost:
    """Mean, deviations and 1/sqrt(variance + eps), for each row.

    Counts, for a row: d − 1 additions and a division for the mean; d subtractions; d squares,
    d − 1 additions and a division for the variance; one addition (eps) and one rsqrt.
    """
    return Cost(adds=2 * folds(m, d) + m * d + m, muls=m * d, divs=2 * m, transcendentals=m)


def normalize_channels(c: int, n: int, weight: Tensor, bias: Tensor) -> Cost:
    """y = d·(invstd·weight) + bias, from the deviations d.

    Counts: a product for each channel with a weight; for each element a product, and an addition
    with a bias.
    """
    return Cost(
        muls=c * n + (c if weight is not None else 0),
        adds=c * n if bias is not None else 0,
    )


# Layer, group and RMS normalization


def rows_of(input: TensorSpec, normalized_shape: tuple[int, ...]) -> tuple[int, int]:
    """m rows of d elements: the last dimensions are normalized."""
    leading = input.ndim - len(normalized_shape)
    return math.prod(input.shape[:leading]), math.prod(input.shape[leading:])


@rules.formula(aten.native_layer_norm.default)
def layer_norm(
    input: TensorSpec, normalized_shape: tuple[int, ...], weight: Tensor, bias: Tensor
) -> Cost:
    """Layer normalization: y = (x − mean)·rstd·weight + bias.

    Counts: as `layer_norm_rows`.
    Example: (2, 4) with weight and bias: 2·(3 + 4 + 3 + 1) + 8 = 30 adds, 24 muls, 4 divs, 2
    rsqrt.
    """
    m, d = rows_of(input, normalized_shape)
    return layer_norm_rows(m, d, weight is not None, bias is not None)


def layer_norm_rows(m: int, d: int, weighted: bool, biased: bool) -> Cost:
    """Layer normalization of m rows.

    Counts: the statistics of each row; for an element a product with rstd, a product with a
    weight, an addition with a bias.
    """
    return statistics(m, d) + Cost(
        muls=m * d + (m * d if weighted else 0), adds=m * d if biased else 0
    )


def normalized_gradient_bytes(
    grad_out: TensorSpec,
    input: TensorSpec,
    mean: TensorSpec,
    rstd: TensorSpec,
    weight: Tensor,
    output_mask: Mask,
    result: tuple[Tensor, ...],
) -> tuple[int, int]:
    """Only what the gradients asked for need is read: the bias's needs `grad_out` alone."""
    by_input, by_weight, *_ = output_mask
    normalized = (input, mean, rstd) if by_input or by_weight else ()
    read = size(grad_out, normalized, weight if by_input else None)
    return read, gradients(result, output_mask)


@rules.formula(aten.native_layer_norm_backward.default, nbytes=normalized_gradient_bytes)
def layer_norm_backward(
    input: TensorSpec, normalized_shape: tuple[int, ...], weight: Tensor, output_mask: Mask
) -> Cost:
    """The gradients of layer normalization that `output_mask` asks for: input, weight, bias.

    Counts: h = (x − mean)·rstd, for input and weight; g = dy·weight;
    grad_input = (g − Σg/d − h·(Σ g·h)/d)·rstd; grad_weight = Σ dy·h and grad_bias = Σ dy, over
    rows.
    Example: (2, 4), all three, with a weight: 6·8 muls, 8 + (6 + 6 + 16) + 4 + 4 = 44 adds, 4 divs.
    """
    m, d = rows_of(input, normalized_shape)
    by_input, by_weight, by_bias = output_mask
    cost = Cost()
    if by_input or by_weight:
        cost += Cost(adds=m * d, muls=m * d)
    if by_input:
        cost += Cost(
            muls=3 * m * d + (m * d if weight is not None else 0),
            adds=2 * folds(m, d) + 2 * m * d,
            divs=2 * m,
        )
    if by_weight:
        cost += Cost(muls=m * d, adds=folds(d, m))
    if by_bias:
        cost += Cost(adds=folds(d, m))
    return cost


@rules.formula(aten.native_group_norm.default)
def group_norm(
    weight: Tensor,
    bias: Tensor,
    N: int,  # noqa: N803  the schema's names
    C: int,  # noqa: N803
    HxW: int,  # noqa: N803
    group: int,
) -> Cost:
    """Group normalization: y = (x − mean)·(rstd·weight) + bias.

    Shapes: input (N, C, HxW), weight and bias (C,).
    Counts: the statistics of N·group rows; a product for each of N·C channels with a weight; for
    each element a product, and an addition with a bias.
    Example: (2, 4, 3) in 2 groups, weight and bias: 4·(5 + 6 + 5 + 1) + 24 adds, 24 + 8 + 24 muls.
    """
    m, d = N * group, C // group * HxW
    return statistics(m, d) + normalize_channels(N * C, HxW, weight, bias)


@rules.formula(aten.native_group_norm_backward.default, nbytes=normalized_gradient_bytes)
def group_norm_backward(
    weight: Tensor,
    N: int,  # noqa: N803  the schema's names
    C: int,  # noqa: N803
    HxW: int,  # noqa: N803
    group: int,
    output_mask: Mask,
) -> Cost:
    """The gradients of group normalization that `output_mask` asks for: input, weight, bias.

    Counts: for each of N·C channels D = Σ dy·(x − mean) (input, weight) and S = Σ dy (input,
    bias). grad_weight = Σ D·rstd and grad_bias = Σ S, over the batch. For each of N·group rows of d
    elements: a = (Σ S·weight)/d·rstd, k = (Σ D·weight)/d·rstd³ (3 products);
    grad_input = dy·(rstd·weight) − a − (x − mean)·k.
    """
    b, c, n, m = N, C, HxW, N * group
    by_input, by_weight, by_bias = output_mask
    cost = Cost()
    if by_input or by_weight:
        cost += Cost(adds=b * c * n + folds(b * c, n), muls=b * c * n)
    if by_input or by_bias:
        cost += Cost(adds=folds(b * c, n))
    if by_input:
        cost += Cost(
            adds=2 * folds(m, c // group) + 2 * b * c * n,
            muls=(3 * b * c if weight is not None else 0) + 4 * m + 2 * b * c * n,
            divs=2 * m,
        )
    if by_weight:
        cost += Cost(muls=b * c, adds=folds(c, b))
    if by_bias:
        cost += Cost(adds=folds(c, b))
    return cost


@rules.formula(*overloads("_fused_rms_norm.default"))
def rms_norm(input: TensorSpec, normalized_shape: tuple[int, ...], weight: Tensor) -> Cost:
    """RMS normalization: y = x·rsqrt(Σ x²/d + eps)·weight.

    Counts, for a row: d squares, d − 1 additions, one division, one addition (eps), one rsqrt;
    for an element a product, and another with a weight.
    Example: (2, 4) with a weight: 24 muls, 2·(3 + 1) = 8 adds, 2 divs, 2 rsqrt.
    """
    m, d = rows_of(input, normalized_shape)
    return Cost(
        muls=2 * m * d + (m * d if weight is not None else 0),
        adds=folds(m, d) + m,
        divs=m,
        transcendentals=m,
    )


def rms_gradient_bytes(
    grad_out: TensorSpec,
    input: TensorSpec,
    rstd: TensorSpec,
    weight: Tensor,
    output_mask: Mask,
    result: tuple[Tensor, ...],
) -> tuple[int, int]:
    """Only what the gradients asked for need is read."""
    by_input, _ = output_mask
    normalized = (input, rstd) if any(output_mask) else ()
    read = size(grad_out, normalized, weight if by_input else None)
    return read, gradients(result, output_mask)


@rules.formula(*overloads("_fused_rms_norm_backward.default"), nbytes=rms_gradient_bytes)
def rms_norm_backward(
    input: TensorSpec, normalized_shape: tuple[int, ...], weight: Tensor, output_mask: Mask
) -> Cost:
    """The gradients of RMS normalization that `output_mask` asks for: input, weight.

    Counts: h = x·rstd; g = dy·weight; grad_input = (g − h·(Σ g·h)/d)·rstd;
    grad_weight = Σ dy·h over rows.
    """
    m, d = rows_of(input, normalized_shape)
    by_input, by_weight = output_mask
    cost = Cost()
    if by_input or by_weight:
        cost += Cost(muls=m * d)
    if by_input:
        cost += Cost(
            muls=3 * m * d + (m * d if weight is not None else 0),
            adds=folds(m, d) + m * d,
            divs=m,
        )
    if by_weight:
        cost += Cost(muls=m * d, adds=folds(d, m))
    return cost


# Weight normalization and renorm


def slices(tensor: TensorSpec, dim: int) -> tuple[int, int]:
    """m = the size along `dim`, and the elements d of each slice there."""
    dim %= tensor.ndim
    return tensor.shape[dim], math.prod(tensor.shape[:dim] + tensor.shape[dim + 1 :])


@rules.formula(aten._weight_norm_interface.default)
def weight_norm(v: TensorSpec, dim: int) -> Cost:
    """w = v·(g/|v|), with a norm for each slice along `dim`.

    Counts, for each of m slices of d: d squares, d − 1 additions, one sqrt, one division, d
    products.
    Example: (3, 4) along 0: 24 muls, 9 adds, 3 divs, 3 sqrt.
    """
    m, d = slices(v, dim)
    return Cost(muls=2 * m * d, adds=folds(m, d), divs=m, transcendentals=m)


@rules.formula(aten._weight_norm_interface_backward.default)
def weight_norm_backward(saved_v: TensorSpec, dim: int) -> Cost:
    """grad_g = (Σ dw·v)/|v|; grad_v = (dw − v·(grad_g/|v|))·(g/|v|).

    Counts, for each of m slices of d: 3d products, d − 1 additions, d subtractions, 3 divisions.
    Example: (3, 4) along 0: 36 muls, 9 + 12 adds, 9 divs.
    """
    m, d = slices(saved_v, dim)
    return Cost(muls=3 * m * d, adds=folds(m, d) + m * d, divs=3 * m)


@rules.formula(aten.renorm.default, typed=False)
def renorm(self: TensorSpec, p: float, dim: int) -> Cost:
    """Scale each slice along `dim` whose p-norm is above `maxnorm` down to it.

    Counts, for each of m slices: its norm; one addition (1e-7) and one division for the factor;
    a product for each element, slices below `maxnorm` included. A norm is real, so a complex
    element takes two products.
    """
    m, d = slices(self, dim)
    is_complex = self.dtype.is_complex
    scaled = m * d * (2 if is_complex else 1)
    return p_norm(m * d, m, p, is_complex) + Cost(adds=m, divs=m, muls=scaled)
