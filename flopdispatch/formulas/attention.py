"""Attention: scaled dot products. The fused layers around them are in attention_layers.py.

Letters: b batch, h query heads, s queries, t keys, d size of a query or key, e of a value.

Scores are dense: masked, causal and windowed positions are computed. A grouped query counts at
its own heads, however few its keys have.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.softmax import softmax_backward_rows, softmax_rows
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("attention")

Tensor = TensorSpec | None

PACKED = "in packed sequences each query is taken to see max_k keys"


def has_cum_seq(cum_seq_q: Tensor) -> bool:
    """Whether sequences are packed."""
    return cum_seq_q is not None


def has_cu_seqlens(cu_seqlens_q: Tensor) -> bool:
    """Whether sequences are packed."""
    return cu_seqlens_q is not None


def attend(
    queries: int,
    t: int,
    sizes: tuple[int, int],
    scale: float | None = None,
    bias: Tensor = None,
    dropout_p: float = 0.0,
) -> Cost:
    """softmax(Q·Kᵀ·scale + bias)·V.

    Shapes: `queries` are b·h·s rows of d; t keys of d and values of e; `sizes` are (d, e).
    Counts, for each of queries·t scores: d MACs for Q·Kᵀ and e for P·V; one mul for a scale other
    than 1; one add for a bias of numbers (a boolean one selects); 2 muls for dropout (mask, scale).
    And the softmax of each row.
    Ignores: the log-sum-exp that fused kernels keep for the backward; the scale itself, once.
    """
    d, e = sizes
    scores = queries * t
    return (
        Cost(macs=scores * (d + e), adds=scores if additive(bias) else 0)
        + scale_and_drop(scores, scale, dropout_p)
        + softmax_rows(queries, t)
    )


def attend_backward(
    queries: int,
    t: int,
    sizes: tuple[int, int],
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Cost:
    """The gradients of `attend`, probabilities P known.

    Counts, for each score: e MACs each for dV = Pᵀ·dO and dP = dO·Vᵀ, d each for dQ = dS·K and
    dK = dSᵀ·Q: twice the forward's. One mul for a scale other than 1, 2 for dropout, and the
    softmax's backward. The bias's gradient is dS as it is.
    Ignores: computing P again, as kernels that keep only its log-sum-exp do.
    """
    d, e = sizes
    scores = queries * t
    return (
        Cost(macs=2 * scores * (d + e))
        + scale_and_drop(scores, scale, dropout_p)
        + softmax_backward_rows(queries, t)
    )


def additive(bias: Tensor) -> bool:
    """Whether a mask is added to the scores; a boolean one selects among them."""
    return bias is not None and bias.dtype is not torch.bool


def scale_and_drop(scores: int, scale: float | None, dropout_p: float) -> Cost:
    """One mul a score for a scale other than 1, and 2 for dropout."""
    return Cost(muls=(scores if scale != 1 else 0) + (2 * scores if dropout_p else 0))


def rows(tensor: TensorSpec) -> int:
    """All but the last dimension, in whichever order batch, heads and positions are."""
    return math.prod(tensor.shape[:-1])


# (b, h, s, d): what scaled_dot_product_attention calls


@rules.formula(
    *overloads(
        "_scaled_dot_product_flash_attention.default",
        "_scaled_dot_product_flash_attention.quantized",
    )
)
def sdpa(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, dropout_p: float, scale: float | None
) -> Cost:
    """Scaled dot product attention without a mask.

    Shapes: query (b, h, s, d), key (b, g, t, d), value (b, g, t, e), g a divisor of h.
    Counts: as `attend`, b·h·s·t·(d + e) MACs.
    Example: (1, 2, 3, 4) with 5 keys: 30·(4 + 4) = 240 MACs, 30 muls.
    """
    return sdpa_with_bias(query, key, value, None, dropout_p, scale)


@rules.formula(
    *overloads(
        "_scaled_dot_product_efficient_attention.default",
        "_scaled_dot_product_cudnn_attention.default",
        "_scaled_dot_product_fused_attention_overrideable.default",
    )
)
def sdpa_with_bias(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_bias: Tensor,
    dropout_p: float,
    scale: float | None,
) -> Cost:
    """Scaled dot product attention with a mask, if any."""
    sizes = query.shape[-1], value.shape[-1]
    return attend(rows(query), key.shape[-2], sizes, scale, attn_bias, dropout_p)


@rules.formula(
    *overloads(
        "_scaled_dot_product_flash_attention_for_cpu.default",
        "_scaled_dot_product_attention_math_for_mps.default",
    )
)
def sdpa_with_mask(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_mask: Tensor,
    dropout_p: float,
    scale: float | None,
) -> Cost:
    """As `sdpa_with_bias`, by another name of the argument."""
    return sdpa_with_bias(query, key, value, attn_mask, dropout_p, scale)


@rules.formula(
    *overloads(
        "_scaled_dot_product_flash_attention_backward.default",
        "_scaled_dot_product_flash_attention_for_cpu_backward.default",
        "_scaled_dot_product_efficient_attention_backward.default",
        "_scaled_dot_product_cudnn_attention_backward.default",
        "_scaled_dot_product_fused_attention_overrideable_backward.default",
    )
)
def sdpa_backward(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, dropout_p: float, scale: float | None
) -> Cost:
    """The gradients of query, key and value.

    Counts: as `attend_backward`, 2·b·h·s·t·(d + e) MACs, whichever gradients are kept.
    Example: (1, 2, 3, 4) with 5 keys: 480 MACs.
    """
    sizes = query.shape[-1], value.shape[-1]
    return attend_backward(rows(query), key.shape[-2], sizes, scale, dropout_p)


@rules.formula(*overloads("_triton_scaled_dot_attention.default"))
def triton_sdpa(q: TensorSpec, k: TensorSpec, v: TensorSpec, dropout_p: float) -> Cost:
    """Scaled dot product attention without a mask."""
    return sdpa(q, k, v, dropout_p, None)


rules.zero(*overloads("_fused_sdp_choice.default"), nbytes=lambda: (0, 0))


# (b, s, h, d), or packed sequences (Σs, h, d)


@rules.formula(
    *overloads("_flash_attention_forward.default", "_flash_attention_forward.quantized"),
    estimate=PACKED,
    estimated_if=has_cum_seq,
)
def flash_attention(
    query: TensorSpec, value: TensorSpec, max_k: int, dropout_p: float, scale: float | None
) -> Cost:
    """Flash attention.

    Shapes: query (b, s, h, d), value (b, t, g, e), max_k = t; packed: query (Σs, h, d), value
    (Σt, g, e), max_k the most keys of a sequence.
    Counts: as `attend`.
    Ignores: ALiBi slopes.
    """
    sizes = query.shape[-1], value.shape[-1]
    return attend(rows(query), max_k, sizes, scale, None, dropout_p)


@rules.formula(
    *overloads(
        "_flash_attention_forward_no_dropout_inplace.default",
        "_cudnn_attention_forward_no_dropout_inplace.default",
    ),
    estimate=PACKED,
    estimated_if=has_cum_seq,
)
def flash_attention_into(
    query: TensorSpec, value: TensorSpec, max_k: int, scale: float | None
) -> Cost:
    """As `flash_attention`, into a given output."""
    return flash_attention(query, value, max_k, 0.0, scale)


@rules.formula(
    *overloads("_cudnn_attention_forward.default"), estimate=PACKED, estimated_if=has_cum_seq
)
def cudnn_attention(
    query: TensorSpec,
    value: TensorSpec,
    attn_bias: Tensor,
    max_k: int,
    dropout_p: float,
    scale: float | None,
) -> Cost:
    """As `flash_attention`, with a bias; here a dense query is (b, h, s, d)."""
    sizes = query.shape[-1], value.shape[-1]
    return attend(rows(query), max_k, sizes, scale, attn_bias, dropout_p)


@rules.formula(
    *overloads("_efficient_attention_forward.default"), estimate=PACKED, estimated_if=has_cu_seqlens
)
def efficient_attention(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_k: int,
    dropout_p: float,
    scale: float | None,
) -> Cost:
    """Memory-efficient attention.

    Shapes: query (b, s, h, d), key (b, t, h, d), value (b, t, h, e); packed: b = 1, at most
    max_seqlen_k keys a sequence.
    Counts: as `attend`.
    """
    t = keys_of(key, cu_seqlens_k, max_seqlen_k)
    return attend(rows(query), t, (query.shape[-1], value.shape[-1]), scale, bias, dropout_p)


def keys_of(key: TensorSpec, cu_seqlens_k: Tensor, max_seqlen_k: int) -> int:
    """Keys of (b, t, h, d), or the most that one of its packed sequences has."""
    return key.shape[1] if cu_seqlens_k is None else max_seqlen_k


@rules.formula(
    *overloads("_flash_attention_backward.default", "_cudnn_attention_backward.default"),
    estimate=PACKED,
    estimated_if=has_cum_seq,
)
def flash_attention_backward(
    query: TensorSpec, value: TensorSpec, max_k: int, dropout_p: float, scale: float | None
) -> Cost:
    """The gradients of `flash_attention`."""
    sizes = query.shape[-1], value.shape[-1]
    return attend_backward(rows(query), max_k, sizes, scale, dropout_p)


@rules.formula(
    *overloads("_efficient_attention_backward.default"),
    estimate=PACKED,
    estimated_if=has_cu_seqlens,
)
def efficient_attention_backward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cu_seqlens_k: Tensor,
    max_seqlen_k: int,
    dropout_p: float,
    scale: float | None,
) -> Cost:
    """The gradients of `efficient_attention`."""
    t = keys_of(key, cu_seqlens_k, max_seqlen_k)
    return attend_backward(rows(query), t, (query.shape[-1], value.shape[-1]), scale, dropout_p)
