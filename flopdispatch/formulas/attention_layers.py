"""Layers around attention that a kernel runs whole: what they do operator by operator.

Letters: b batch, s queries, t keys, m embedding size, f size of the feed-forward layer.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import Tensor, attend
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.normalization import layer_norm_rows
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("attention")

NESTED = "a nested batch is taken as a single sequence"


def is_nested_query(query: TensorSpec) -> bool:
    """Whether the batch is nested: its elements stand in a row."""
    return query.ndim == 1


def is_nested_src(src: TensorSpec) -> bool:
    """Whether the batch is nested: its elements stand in a row."""
    return src.ndim == 1


@rules.formula(*overloads("_transform_bias_rescale_qkv.default"))
def transform_bias_rescale_qkv(qkv: TensorSpec) -> Cost:
    """Add the bias, split in three, and scale the queries by 1/√d.

    Shapes: qkv (b, s, 3·m).
    Counts: one add an element, one mul a query element.
    """
    return Cost(adds=qkv.numel, muls=qkv.numel // 3)


def positions(tensor: TensorSpec, m: int) -> tuple[int, int]:
    """(b, s) of (b, s, m); a nested tensor's shape is unknown, so it is one long sequence."""
    if tensor.ndim == 1:
        return 1, tensor.numel // m
    return tensor.shape[0], tensor.shape[1]


def linear(outputs: int, terms: int) -> Cost:
    """x·Wᵀ + bias: `terms` MACs and one add an output."""
    return Cost(macs=outputs * terms, adds=outputs)


def multi_head(query: TensorSpec, key: TensorSpec, m: int, heads: int, mask: Tensor) -> Cost:
    """Projections of query, key and value, attention in each head, projection of the result.

    Counts: 4 linear layers of m·m weights with a bias, 2 at the queries and 2 at the keys, and
    `attend`.
    """
    (b, s), (_, t) = positions(query, m), positions(key, m)
    d = m // heads
    return (
        2 * linear(b * s * m, m)
        + 2 * linear(b * t * m, m)
        + attend(b * heads * s, t, (d, d), bias=mask)
    )


@rules.formula(
    aten._native_multi_head_attention.default, estimate=NESTED, estimated_if=is_nested_query
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
        (b, s), (_, t) = positions(query, embed_dim), positions(key, embed_dim)
        cost += Cost(adds=folds(b * s * t, num_head), divs=b * s * t)
    return cost


@rules.formula(
    *overloads("_triton_multi_head_attention.default"),
    estimate=NESTED,
    estimated_if=is_nested_query,
)
def triton_multi_head_attention(
    query: TensorSpec, key: TensorSpec, embed_dim: int, num_head: int, mask: Tensor
) -> Cost:
    """As `native_multi_head_attention`, weights not returned."""
    return multi_head(query, key, embed_dim, num_head, mask)


@rules.formula(
    aten._transformer_encoder_layer_fwd.default, estimate=NESTED, estimated_if=is_nested_src
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
    b, s = positions(src, embed_dim)
    m, f = embed_dim, ffn_weight_1.shape[0]
    hidden = b * s * f
    active = (
        Cost(muls=3 * hidden, adds=hidden, transcendentals=hidden)
        if use_gelu
        else Cost(comparisons=hidden)
    )
    return (
        multi_head(src, src, m, num_heads, mask)
        + linear(hidden, m)
        + active
        + linear(b * s * m, f)
        + Cost(adds=2 * b * s * m)
        + 2 * layer_norm_rows(b * s, m, weighted=True, biased=True)
    )
