"""Batch normalization, whole and in the parts that its synchronized form calls.

Letters: b batch, c channels, n elements of a channel.

What is constant along a channel is computed once for it. Variances take two passes: the mean,
then the squares of the deviations from it, which the normalization uses again.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import Mask, gradients
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.normalization import Tensor, normalize_channels, statistics
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("normalization")


def channels(input: TensorSpec) -> tuple[int, int]:
    """(B, C, ...) as C channels of n elements."""
    b, c, *rest = input.shape
    return c, b * math.prod(rest)


def running_update(c: int) -> Cost:
    """new = (1 − momentum)·old + momentum·found, for mean and unbiased variance.

    Counts, for a channel: 2 products and one addition each, and the division by n − 1.
    """
    return Cost(muls=4 * c, adds=2 * c, divs=c)


def scale_and_shift(c: int, n: int, weight: Tensor, bias: Tensor) -> Cost:
    """y = x·scale + shift, with scale = invstd·weight and shift = bias − mean·scale.

    Counts, for a channel: a product with a weight, a product for mean·scale, a subtraction with a
    bias; for an element: a product and an addition (without a bias, the subtraction of
    mean·scale).
    """
    return Cost(
        muls=c * n + c + (c if weight is not None else 0),
        adds=c * n + (c if bias is not None else 0),
    )


# Running statistics are written, whatever the schema says: by training, not by evaluating.


def batch_norm_bytes(
    input: TensorSpec,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    result: tuple[TensorSpec, ...],
) -> tuple[int, int]:
    """Reads everything; writes the output, and in training all statistics, running ones too.

    Some kernels give back statistics when they evaluate, too: copies that nothing needs.
    """
    running = size(running_mean, running_var)
    written = size(result) + running if training else size((result or ())[:1])
    return size(input, weight, bias) + running, written


def update_stats_bytes(
    input: TensorSpec, running_mean: Tensor, running_var: Tensor, result: tuple[TensorSpec, ...]
) -> tuple[int, int]:
    """Reads everything; writes the results and the running statistics."""
    running = size(running_mean, running_var)
    return size(input) + running, size(result) + running


@rules.formula(
    aten.native_batch_norm.default,
    aten._native_batch_norm_legit.default,
    *overloads("_native_batch_norm_legit.out"),
    aten.cudnn_batch_norm.default,
    aten.miopen_batch_norm.default,
    nbytes=batch_norm_bytes,
)
@rules.formula(aten._native_batch_norm_legit_functional.default)
def batch_norm(
    input: TensorSpec, weight: Tensor, bias: Tensor, running_mean: Tensor, training: bool
) -> Cost:
    """Batch normalization.

    Shapes: input (b, c, ...), weight and bias (c,).
    Counts: training: the statistics of each channel, normalizing, and updating the running
    statistics if there are any; otherwise as `batch_norm_inference`.
    Example: training (2, 3, 4) with all of it: 3·(7 + 8 + 7 + 1) + 24 + 2·3 = 99 adds.
    """
    if not training:
        return batch_norm_inference(input, weight, bias)
    c, n = channels(input)
    cost = statistics(c, n) + normalize_channels(c, n, weight, bias)
    return cost if running_mean is None else cost + running_update(c)


@rules.formula(aten._native_batch_norm_legit.no_stats)
def batch_norm_without_running(
    input: TensorSpec, weight: Tensor, bias: Tensor, training: bool
) -> Cost:
    """Batch normalization that keeps no running statistics."""
    return batch_norm(input, weight, bias, None, training)


@rules.formula(
    *overloads(
        "_batch_norm_with_update.default",
        "_batch_norm_with_update.out",
        "_batch_norm_with_update_functional.default",
    )
)
def batch_norm_with_update(
    input: TensorSpec, weight: Tensor, bias: Tensor, running_mean: TensorSpec
) -> Cost:
    """Batch normalization in training, running statistics updated."""
    return batch_norm(input, weight, bias, running_mean, True)


@rules.formula(
    aten._native_batch_norm_legit_no_training.default,
    *overloads("_batch_norm_no_update.default"),
)
def batch_norm_inference(input: TensorSpec, weight: Tensor, bias: Tensor) -> Cost:
    """Batch normalization by the running statistics: y = x·scale + shift.

    Counts: invstd = rsqrt(var + eps) for each channel, then `scale_and_shift`.
    Example: (2, 3, 4) with weight and bias: 24 + 3·2 muls, 24 + 3·2 adds, 3 rsqrt.
    """
    c, n = channels(input)
    return Cost(adds=c, transcendentals=c) + scale_and_shift(c, n, weight, bias)


def gradient_bytes(
    grad_out: TensorSpec,
    input: TensorSpec,
    weight: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    save_mean: Tensor,
    save_invstd: Tensor,
    train: bool,
    output_mask: Mask,
    result: tuple[Tensor, ...],
) -> tuple[int, int]:
    """Only what the gradients asked for need is read: statistics saved in training, or running."""
    by_input, by_weight, _ = output_mask
    mean, deviation = (save_mean, save_invstd) if train else (running_mean, running_var)
    centred = (input, mean) if by_weight or (by_input and train) else ()
    scaling = deviation if by_input or by_weight else None
    read = size(grad_out, centred, scaling, weight if by_input else None)
    return read, gradients(result, output_mask)


@rules.formula(aten.native_batch_norm_backward.default, nbytes=gradient_bytes)
def batch_norm_backward(input: TensorSpec, weight: Tensor, train: bool, output_mask: Mask) -> Cost:
    """The gradients of batch normalization that `output_mask` asks for: input, weight, bias.

    Counts: training: d = x − mean; grad_weight = (Σ dy·d)·invstd; grad_bias = Σ dy;
    grad_input = (dy − grad_bias/n − d·k)·(invstd·weight), k = grad_weight·invstd/n.
    Evaluating: invstd from the running variance; grad_input = dy·(invstd·weight), the others as
    in training. Sums that the input's gradient needs as well are made once.
    Example: training (2, 3, 4), all three: 3·(8 + 7 + 7 + 16) = 114 adds, 3·(8 + 16 + 3) = 81
    muls, 6 divs.
    """
    c, n = channels(input)
    by_input, by_weight, by_bias = output_mask
    scaled = c if weight is not None else 0
    cost = Cost()
    if by_weight or (by_input and train):
        cost += Cost(adds=c * n + folds(c, n), muls=c * n + c)
    if by_bias or (by_input and train):
        cost += Cost(adds=folds(c, n))
    if by_input and train:
        cost += Cost(adds=2 * c * n, muls=2 * c * n + c + scaled, divs=2 * c)
    if by_input and not train:
        cost += Cost(muls=c * n + scaled)
    if not train and (by_input or by_weight):
        cost += Cost(adds=c, transcendentals=c)
    return cost


def updated_gradient_bytes(
    grad_out: TensorSpec,
    input: TensorSpec,
    weight: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    save_mean: Tensor,
    save_var: Tensor,
    update: bool,
    output_mask: Mask,
    result: tuple[Tensor, ...],
) -> tuple[int, int]:
    """As `gradient_bytes`; what the forward may have reserved isn't read."""
    running, saved = (running_mean, running_var), (save_mean, save_var)
    return gradient_bytes(grad_out, input, weight, *running, *saved, update, output_mask, result)


@rules.formula(*overloads("batch_norm_backward.default"), nbytes=updated_gradient_bytes)
def batch_norm_backward_by_update(
    input: TensorSpec, weight: Tensor, update: bool, output_mask: Mask
) -> Cost:
    """As `batch_norm_backward`; `update` says that the forward was training."""
    return batch_norm_backward(input, weight, update, output_mask)


def saved_gradient_bytes(
    input: TensorSpec,
    grad_output: TensorSpec,
    weight: TensorSpec,
    save_mean: Tensor,
    save_var: Tensor,
    result: tuple[TensorSpec, ...],
) -> tuple[int, int]:
    """All but the running statistics, and what the forward may have reserved, is read."""
    return size(input, grad_output, weight, save_mean, save_var), size(result)


@rules.formula(
    aten.cudnn_batch_norm_backward.default,
    aten.miopen_batch_norm_backward.default,
    nbytes=saved_gradient_bytes,
)
def batch_norm_backward_in_training(input: TensorSpec, weight: Tensor) -> Cost:
    """As `batch_norm_backward`: training, all three gradients."""
    return batch_norm_backward(input, weight, True, (True, True, True))


# Batch normalization in parts, as synchronized batch normalization calls it


@rules.formula(aten.batch_norm_stats.default)
def batch_norm_stats(input: TensorSpec) -> Cost:
    """Mean and invstd of each channel.

    Example: (2, 3, 4): 3·(7 + 8 + 7 + 1) = 69 adds, 24 muls, 6 divs, 3 rsqrt.
    """
    return statistics(*channels(input))


@rules.formula(aten.batch_norm_update_stats.default, nbytes=update_stats_bytes)
def batch_norm_update_stats(input: TensorSpec, running_mean: Tensor) -> Cost:
    """Mean and variance of each channel, and the running statistics.

    Counts: as `statistics` without eps and rsqrt.
    """
    c, n = channels(input)
    cost = Cost(adds=2 * folds(c, n) + c * n, muls=c * n, divs=2 * c)
    return cost if running_mean is None else cost + running_update(c)


@rules.formula(aten.batch_norm_elemt.default)
def batch_norm_elemt(input: TensorSpec, weight: Tensor, bias: Tensor) -> Cost:
    """Normalize by given mean and invstd: `scale_and_shift`."""
    return scale_and_shift(*channels(input), weight, bias)


def gather_stats_bytes(
    mean: TensorSpec,
    invstd: TensorSpec,
    running_mean: Tensor,
    running_var: Tensor,
    result: tuple[TensorSpec, ...],
) -> tuple[int, int]:
    """Reads the parts' statistics, not the input; writes the results and the running statistics."""
    running = size(running_mean, running_var)
    return size(mean, invstd) + running, size(result) + running


def gather_stats_with_counts_bytes(
    mean: TensorSpec,
    invstd: TensorSpec,
    running_mean: Tensor,
    running_var: Tensor,
    counts: TensorSpec,
    result: tuple[TensorSpec, ...],
) -> tuple[int, int]:
    """As `gather_stats_bytes`; the parts' sizes are read too."""
    read, written = gather_stats_bytes(mean, invstd, running_mean, running_var, result)
    return read + size(counts), written


@rules.formula(aten.batch_norm_gather_stats.default, nbytes=gather_stats_bytes)
@rules.formula(
    aten.batch_norm_gather_stats_with_counts.default, nbytes=gather_stats_with_counts_bytes
)
def batch_norm_gather_stats(mean: TensorSpec, running_mean: Tensor) -> Cost:
    """The mean and invstd of a whole batch from those of its w parts, k elements each.

    Shapes: mean and invstd (w, c).
    Counts, for a channel: μ = (Σ mean·k)/n: w products, w − 1 additions, one division;
    S = Σ (1/invstd² − eps + (mean − μ)²)·k: 3w products, w divisions, 3w + w − 1 additions;
    rsqrt(S/n + eps): one division, addition and rsqrt; and the running statistics.
    Ignores: n = Σ k, once.
    """
    w, c = mean.shape
    cost = Cost(
        muls=4 * c * w,
        adds=3 * c * w + 2 * folds(c, w) + c,
        divs=c * w + 2 * c,
        transcendentals=c,
    )
    return cost if running_mean is None else cost + running_update(c)


@rules.formula(aten.batch_norm_backward_reduce.default)
def batch_norm_backward_reduce(
    input: TensorSpec, input_g: bool, weight_g: bool, bias_g: bool
) -> Cost:
    """The sums of the backward: Σ dy, Σ dy·(x − mean), and grad_weight = the latter·invstd.

    Counts, for a channel of n: n − 1 additions; n subtractions, n products, n − 1 additions; one
    product. Each only if a gradient that needs it is asked for.
    """
    c, n = channels(input)
    cost = Cost()
    if input_g or bias_g:
        cost += Cost(adds=folds(c, n))
    if input_g or weight_g:
        cost += Cost(adds=c * n + folds(c, n), muls=c * n)
    if weight_g:
        cost += Cost(muls=c)
    return cost


@rules.formula(aten.batch_norm_backward_elemt.default)
def batch_norm_backward_elemt(input: TensorSpec, weight: Tensor) -> Cost:
    """The input's gradient from the sums: (dy − Σdy/n − (x − mean)·k)·(invstd·weight).

    Counts: k = Σ dy·(x − mean)·invstd²/n for each channel: 2 products, one division; one division
    for Σdy/n; a product with a weight. For each element: 3 subtractions, 2 products.
    """
    c, n = channels(input)
    return Cost(
        adds=3 * c * n,
        muls=2 * c * n + 2 * c + (c if weight is not None else 0),
        divs=2 * c,
    )
