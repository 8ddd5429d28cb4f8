"""Attention: scaled dot products. Packed sequences are in attention_packed.py, the fused layers
around attention in attention_layers.py.

Letters: b batch, h query heads, s queries, t keys, d size of a query or key, e of a value.

Scores are dense: masked, causal and windowed positions are computed. A grouped query counts at
its own heads, however few its keys have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("attention")

Tensor = TensorSpec | None


def attend(
    queries: int,
    scores: int,
    sizes: tuple[int, int],
    scale: float | None = None,
    bias: Tensor = None,
    dropout_p: float = 0.0,
) -> Cost:
    """softmax(Q·Kᵀ·scale + bias)·V.

    Shapes: `queries` are b·h·s rows of d that see a key, b·h·s·t `scores`; `sizes` are (d, e).
    Counts, for each score: d MACs for Q·Kᵀ and e for P·V; one mul for a scale other than 1; one
    add for a bias of numbers (a boolean one selects); 2 muls for dropout (mask, scale). And the
    softmax of each row of scores: t − 1 comparisons; t subtractions; t exp; t − 1 additions; t
    divisions.
    Ignores: the log-sum-exp that fused kernels keep for the backward; the scale itself, once.
    """
    d, e = sizes
    others = combined(scores, queries)
    return scale_and_drop(scores, scale, dropout_p) + Cost(
        macs=scores * (d + e),
        adds=scores + others + (scores if additive(bias) else 0),
        divs=scores,
        transcendentals=scores,
        comparisons=others,
    )


def attend_backward(
    queries: int,
    scores: int,
    sizes: tuple[int, int],
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Cost:
    """The gradients of `attend`, probabilities P known.

    Counts, for each score: e MACs each for dV = Pᵀ·dO and dP = dO·Vᵀ, d each for dQ = dS·K and
    dK = dSᵀ·Q: twice the forward's. One mul for a scale other than 1, 2 for dropout, and the
    softmax's backward: 2 products and a subtraction, and t − 1 additions a row. The bias's
    gradient is dS as it is.
    Ignores: computing P again, as kernels that keep only its log-sum-exp do.
    """
    d, e = sizes
    return scale_and_drop(scores, scale, dropout_p) + Cost(
        macs=2 * scores * (d + e), muls=2 * scores, adds=scores + combined(scores, queries)
    )


def paired(queries: Iterable[int], keys: Iterable[int]) -> tuple[int, int]:
    """Queries that see a key, and pairs of both, of sequences with so many queries and keys each.

    Example: 2 and 3 queries of 4 keys and 1 are 5 queries and 2·4 + 3·1 = 11 pairs.
    """
    lengths = list(zip(queries, keys, strict=True))
    return sum(s for s, t in lengths if t), sum(s * t for s, t in lengths)


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
    queries, sizes = rows(query), (query.shape[-1], value.shape[-1])
    return attend(queries, queries * key.shape[-2], sizes, scale, attn_bias, dropout_p)


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
    queries, sizes = rows(query), (query.shape[-1], value.shape[-1])
    return attend_backward(queries, queries * key.shape[-2], sizes, scale, dropout_p)


@rules.formula(*overloads("_triton_scaled_dot_attention.default"))
def triton_sdpa(q: TensorSpec, k: TensorSpec, v: TensorSpec, dropout_p: float) -> Cost:
    """Scaled dot product attention without a mask."""
    return sdpa(q, k, v, dropout_p, None)


rules.zero(*overloads("_fused_sdp_choice.default"), nbytes=lambda: (0, 0))
