"""Attention kernels of the library flash-attn (2.7 and later), by the names that it registers.

Letters: as in attention.py; packed sequences as in attention_packed.py. Causal and windowed
positions are computed, ALiBi slopes and soft caps left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import Tensor, attend, attend_backward, rows
from flopdispatch.formulas.attention_packed import (
    PACKED,
    Taken,
    asking,
    has_unknown_lengths,
    packed_lengths,
    queries_and_scores,
)
from flopdispatch.registry import Registry
from flopdispatch.rules import Traffic
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("attention")

Formula = TypeVar("Formula", bound=Callable[..., Cost])


def packed(
    operator: str, *names: str, nbytes: Traffic | None = None
) -> Callable[[Formula], Formula]:
    """Register a formula whose lengths are in the arguments of these names."""
    return rules.formula(
        operator,
        estimate=PACKED,
        estimated_if=asking(has_unknown_lengths, names[0], "taken"),
        takes=asking(packed_lengths, *names),
        nbytes=nbytes,
    )


def gradient_bytes(
    dout: TensorSpec,
    q: TensorSpec,
    k: TensorSpec,
    v: TensorSpec,
    out: TensorSpec,
    softmax_lse: TensorSpec,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    result: TensorSpec,
) -> tuple[int, int]:
    """The gradients are written, into tensors that are arguments; all other tensors are read."""
    return size(dout, q, k, v, out, softmax_lse), size(dq, dk, dv, result)


@rules.formula("flash_attn::_flash_attn_forward.default")
def flash_attention(
    q: TensorSpec, k: TensorSpec, v: TensorSpec, dropout_p: float, softmax_scale: float
) -> Cost:
    """Flash attention.

    Shapes: q (b, s, h, d), k (b, t, g, d), v (b, t, g, e), g a divisor of h.
    Counts: as `attend`, b·h·s·t·(d + e) MACs.
    Example: (1, 3, 2, 4) with 5 keys: 30·(4 + 4) = 240 MACs.
    """
    sizes = q.shape[-1], v.shape[-1]
    return attend(rows(q), rows(q) * k.shape[1], sizes, softmax_scale, None, dropout_p)


@rules.formula("flash_attn::_flash_attn_backward.default", nbytes=gradient_bytes)
def flash_attention_backward(
    q: TensorSpec, k: TensorSpec, v: TensorSpec, dropout_p: float, softmax_scale: float
) -> Cost:
    """The gradients of `flash_attention`: as `attend_backward`."""
    sizes = q.shape[-1], v.shape[-1]
    return attend_backward(rows(q), rows(q) * k.shape[1], sizes, softmax_scale, dropout_p)


@packed(
    "flash_attn::_flash_attn_varlen_forward.default", "cu_seqlens_q", "cu_seqlens_k", "seqused_k"
)
def flash_attention_packed(
    q: TensorSpec,
    v: TensorSpec,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    taken: Taken,
) -> Cost:
    """Flash attention of packed sequences.

    Shapes: q (Σs, h, d), v (Σt, g, e) or, where the keys are in pages, (pages, of one, g, e).
    Counts: as `attend` of Σ s·t·h scores.
    Example: 2 and 3 queries of 4 keys and 1, 2 heads, d = e = 8: 22·16 = 352 MACs.
    """
    sizes = q.shape[-1], v.shape[-1]
    found = queries_and_scores(q, max_seqlen_k, taken)
    return attend(*found, sizes, softmax_scale, None, dropout_p)


@packed(
    "flash_attn::_flash_attn_varlen_backward.default",
    "cu_seqlens_q",
    "cu_seqlens_k",
    nbytes=gradient_bytes,
)
def flash_attention_packed_backward(
    q: TensorSpec,
    v: TensorSpec,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    taken: Taken,
) -> Cost:
    """The gradients of `flash_attention_packed`."""
    sizes = q.shape[-1], v.shape[-1]
    return attend_backward(
        *queries_and_scores(q, max_seqlen_k, taken), sizes, softmax_scale, dropout_p
    )
