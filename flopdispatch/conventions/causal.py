"""Attention by the positions that a causal query sees; the rest as flopdispatch counts it.

It goes by what a fused kernel is told (`is_causal`). Where torch runs attention as plain products
and a mask, as it does on meta, they are products like others.
"""

from __future__ import annotations

from functools import cache
from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.attention import Tensor, attend, attend_backward, rows
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec


@cache
def registry() -> Registry:
    """The rules, frozen."""
    default = default_registry()
    words = "no positions after a causal query, where a fused kernel is told of it"
    rules = default.overlay("causal", f"{default.description}; {words}")
    rules.formula(*overloads("_scaled_dot_product_flash_attention.default"), family="attention")(
        flash
    )
    rules.formula(
        *overloads("_scaled_dot_product_flash_attention_for_cpu.default"), family="attention"
    )(with_mask)
    rules.formula(
        *overloads(
            "_scaled_dot_product_efficient_attention.default",
            "_scaled_dot_product_cudnn_attention.default",
            "_scaled_dot_product_fused_attention_overrideable.default",
        ),
        family="attention",
    )(with_bias)
    rules.formula(
        *overloads(
            "_scaled_dot_product_flash_attention_backward.default",
            "_scaled_dot_product_flash_attention_for_cpu_backward.default",
            "_scaled_dot_product_efficient_attention_backward.default",
            "_scaled_dot_product_cudnn_attention_backward.default",
            "_scaled_dot_product_fused_attention_overrideable_backward.default",
        ),
        family="attention",
    )(backward)
    return rules.freeze()


def seen(s: int, t: int, is_causal: bool) -> int:
    """Pairs of s queries and t keys of which the query sees the key: query i the first i + 1.

    Example: 3 queries and 2 keys: 1 + 2 + 2.
    """
    return sum(min(i + 1, t) for i in range(s)) if is_causal else s * t


def scores(query: TensorSpec, key: TensorSpec, is_causal: bool) -> int:
    """Scores of all heads."""
    return prod(query.shape[:-2]) * seen(query.shape[-2], key.shape[-2], is_causal)


def with_bias(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_bias: Tensor,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Cost:
    """Scaled dot product attention.

    Shapes: query (b, h, s, d), key (b, g, t, d), value (b, g, t, e).
    Counts: as `attend`, for the scores that are seen.
    Example: one head, 3 queries and keys of 4: 6 scores, 6·(4 + 4) = 48 MACs.
    """
    sizes = query.shape[-1], value.shape[-1]
    return attend(rows(query), scores(query, key, is_causal), sizes, scale, attn_bias, dropout_p)


def with_mask(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_mask: Tensor,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Cost:
    """As `with_bias`, by another name of the argument."""
    return with_bias(query, key, value, attn_mask, dropout_p, is_causal, scale)


def flash(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Cost:
    """Attention without a mask."""
    return with_bias(query, key, value, None, dropout_p, is_causal, scale)


def backward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Cost:
    """The gradients: as `attend_backward`, for the scores that are seen."""
    sizes = query.shape[-1], value.shape[-1]
    return attend_backward(rows(query), scores(query, key, is_causal), sizes, scale, dropout_p)
