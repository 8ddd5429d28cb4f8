"""Layers around attention that a kernel runs whole: what they do operator by operator.

Letters: b batch, s queries, t keys, m embedding size, f size of the feed-forward layer.

A nested batch costs what its sequences do, each by itself, though a kernel may pad them. Bytes are
those of the kernels that a layer runs one after the other, attention being one of them.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import Tensor, attend, paired
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.normalization import layer_norm_rows
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("attention")

UNKNOWN_PARTS = "a nested batch of unknown sizes is taken as a single sequence"


def is_unknown(batch: TensorSpec) -> bool:
    """Whether a batch is nested, its elements in a row, and the sizes inside aren't known."""
    return batch.ndim == 1 and batch.parts is None


def is_unknown_query(query: TensorSpec) -> bool:
    """`is_unknown`."""
    return is_unknown(query)


def is_unknown_src(src: TensorSpec) -> bool:
    """`is_unknown`."""
    return is_unknown(src)


@rules.formula(*overloads("_transform_bias_rescale_qkv.default"))
def transform_bias_rescale_qkv(qkv: TensorSpec) -> Cost:
    """Add the bias, split in three, and scale the queries by 1/√d.

    Shapes: qkv (b, s, 3·m).
    Counts: one add an element, one mul a query element.
    """
    return Cost(adds=qkv.numel, muls=qkv.numel // 3)


def lengths(batch: TensorSpec, m: int) -> list[int]:
    """The positions of each sequence of (b, s, m), or of a nested batch of (s, m).

    Those of a nested batch whose sizes aren't known are one long sequence.
    """
    if batch.parts is not None:
        return [s for s, _ in batch.parts]
    if batch.ndim == 1:
        return [batch.numel // m]
    return batch.shape[0] * [batch.shape[1]]


def linear(outputs: int, terms: int) -> Cost:
    """x·Wᵀ + bias: `terms` MACs and one add an output."""
    return Cost(macs=outputs * terms, adds=outputs)


def multi_head(query: TensorSpec, key: TensorSpec, m: int, heads: int, mask: Tensor) -> Cost:
    """Projections of query, key and value, attention in each head, projection of the result.

    Counts: 4 linear layers of m·m weights with a bias, 2 at the queries and 2 at the keys, and
    `attend`.
    """
    queries, keys, d = lengths(query, m), lengths(key, m), m // heads
    seeing, pairs = paired(queries, keys)
    return (
        2 * linear(sum(queries) * m, m)
        + 2 * linear(sum(keys) * m, m)
        + attend(heads * seeing, heads * pairs, (d, d), bias=mask)
    )


def multi_head_bytes(
    query: TensorSpec, mask: Tensor, weights: tuple[Tensor, ...]
) -> tuple[int, int]:
    """Of x bytes of positions, which are queries, keys and values: reads weights and mask.

    Projection: reads x and writes 3x; attention: reads 3x and writes x; projection: x to x.
    """
    x = size(query)
    return 5 * x + size(mask, weights), 5 * x


def native_attention_bytes(
    query: TensorSpec,
    qkv_weight: TensorSpec,
    qkv_bias: Tensor,
    proj_weight: TensorSpec,
    proj_bias: Tensor,
    mask: Tensor,
    result: tuple[TensorSpec | None, ...],
) -> tuple[int, int]:
    """As `multi_head_bytes`; the weights that are asked for are written too."""
    weights = qkv_weight, qkv_bias, proj_weight, proj_bias
    read, written = multi_head_bytes(query, mask, weights)
    return read, written + size((result or ())[1:])


@rules.formula(
    aten._native_multi_head_attention.default,
    nbytes=native_attention_bytes,
    estimate=UNKNOWN_PARTS,
    estimated_if=is_unknown_query,
)
def native_multi_head_attention(
    query: TensorSpec,
    key: TensorSpec,
    embed_dim: int,
    num_head: int,
    mask: Tensor,
    need_weights: bool,
    average_attn_weights: bool,
) -> Cost:
    """nn.MultiheadAttention, evaluated without gradients.

    Shapes: query (b, s, m), key and value (b, t, m).
    Counts: as `multi_head`: what the layer does operator by operator; if averaged weights are
    asked for, also the mean of the heads' probabilities: h − 1 additions and a division each.
    Example: (2, 10, 16) with 4 heads: 4·20·16·16 + 2·20·10·16 = 26,880 MACs.
    """
    cost = multi_head(query, key, embed_dim, num_head, mask)
    if need_weights and average_attn_weights:
        _, pairs = paired(lengths(query, embed_dim), lengths(key, embed_dim))
        cost += Cost(adds=folds(pairs, num_head), divs=pairs)
    return cost


@rules.formula(
    *overloads("_triton_multi_head_attention.default"),
    estimate=UNKNOWN_PARTS,
    estimated_if=is_unknown_query,
)
def triton_multi_head_attention(
    query: TensorSpec, key: TensorSpec, embed_dim: int, num_head: int, mask: Tensor
) -> Cost:
    """As `native_multi_head_attention`, weights not returned."""
    return multi_head(query, key, embed_dim, num_head, mask)


def encoder_layer_bytes(
    src: TensorSpec,
    embed_dim: int,
    qkv_weight: TensorSpec,
    qkv_bias: Tensor,
    proj_weight: TensorSpec,
    proj_bias: Tensor,
    norm_weight_1: TensorSpec,
    norm_bias_1: Tensor,
    norm_weight_2: TensorSpec,
    norm_bias_2: Tensor,
    ffn_weight_1: TensorSpec,
    ffn_bias_1: Tensor,
    ffn_weight_2: TensorSpec,
    ffn_bias_2: Tensor,
    mask: Tensor,
) -> tuple[int, int]:
    """`multi_head_bytes`, then, of x bytes of positions and h of hidden ones, reads weights.

    Each of 2 sums: reads 2x and writes x; of 2 norms: x to x; the feed-forward layer, its
    activation in the same kernel: x to h, and h to x.
    """
    attention = qkv_weight, qkv_bias, proj_weight, proj_bias
    norms = norm_weight_1, norm_bias_1, norm_weight_2, norm_bias_2
    forward = ffn_weight_1, ffn_bias_1, ffn_weight_2, ffn_bias_2
    read, written = multi_head_bytes(src, mask, (*attention, *norms, *forward))
    x, h = size(src), size(src) // embed_dim * ffn_weight_1.shape[0]
    return read + 7 * x + h, written + 5 * x + h


@rules.formula(
    aten._transformer_encoder_layer_fwd.default,
    nbytes=encoder_layer_bytes,
    estimate=UNKNOWN_PARTS,
    estimated_if=is_unknown_src,
)
def transformer_encoder_layer(
    src: TensorSpec,
    embed_dim: int,
    num_heads: int,
    use_gelu: bool,
    ffn_weight_1: TensorSpec,
    mask: Tensor,
) -> Cost:
    """nn.TransformerEncoderLayer, evaluated without gradients.

    Shapes: src (b, s, m), ffn_weight_1 (f, m).
    Counts: `multi_head`; a linear layer to f and one back; for each hidden element the activation:
    one comparison (ReLU), or 3 muls, one add, one erf (GELU); 2 residual additions and 2 layer
    norms with weight and bias.
    Example: (2, 10, 16), 4 heads, f = 32: 26,880 + 2·20·16·32 = 47,360 MACs.
    """
    rows, m, f = sum(lengths(src, embed_dim)), embed_dim, ffn_weight_1.shape[0]
    hidden = rows * f
    active = (
        Cost(muls=3 * hidden, adds=hidden, transcendentals=hidden)
        if use_gelu
        else Cost(comparisons=hidden)
    )
    return (
        multi_head(src, src, m, num_heads, mask)
        + linear(hidden, m)
        + active
        + linear(rows * m, f)
        + Cost(adds=2 * rows * m)
        + 2 * layer_norm_rows(rows, m, weighted=True, biased=True)
    )
