"""Attention of packed sequences, each of its own length.

Letters: as in attention.py; b sequences, Σs queries and Σt keys altogether.

A query sees the keys of its own sequence: the lengths are in tensors, and taken from them when
the operator runs. Where they can't be read (meta), the most keys of a sequence bound them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import Tensor, attend, attend_backward, paired, rows
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec, signature

rules = Registry("attention")

Formula = TypeVar("Formula", bound=Callable[..., Cost])
Taken = tuple[int, ...] | None

PACKED = "in packed sequences of unknown lengths each query is taken to see max_k keys"


# Lengths


def packed_lengths(ends_q: Any, ends_k: Any, used: Any = None) -> tuple[int, int]:
    """`paired` from where sequences begin and end.

    Shapes: `ends_q`, `ends_k` (b + 1); `used` (b) is how many of a sequence's keys are there, if
    not all.
    """
    return paired(lengths(ends_q), lengths(ends_k) if used is None else integers(used))


def lengths(ends: torch.Tensor) -> list[int]:
    """The length of each sequence.

    Raises: ValueError if there is none: a dense call may pass an empty tensor.
    """
    bounds = integers(ends)
    if len(bounds) < 2:
        raise ValueError("no sequence ends")
    return [end - begin for begin, end in pairwise(bounds)]


def integers(tensor: torch.Tensor) -> list[int]:
    """A tensor's values.

    Raises: ValueError while a CUDA graph is captured: to wait for the device would break that.
    """
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        raise ValueError("a CUDA graph is being captured")
    return [int(value) for value in tensor.tolist()]


def has_unknown_lengths(ends_q: Tensor, taken: Taken) -> bool:
    """Whether sequences are packed and it isn't known how."""
    return ends_q is not None and taken is None


CUM_SEQ = "cum_seq_q", "cum_seq_k", "seqused_k"
CU_SEQLENS = "cu_seqlens_q", "cu_seqlens_k", "seqlen_k"
CU_SEQ = "cu_seq_q", "cu_seq_k", "seqused_k"


def packed(names: Sequence[str], *operators: Any) -> Callable[[Formula], Formula]:
    """Register a formula of operators whose lengths are in arguments of these names.

    The last one is not known to each operator: keys that aren't used.
    """

    def register(function: Formula) -> Formula:
        for operator in operators:
            known = names if isinstance(operator, str) else signature(operator)[0]
            rules.formula(
                operator,
                estimate=PACKED,
                estimated_if=asking(has_unknown_lengths, names[0], "taken"),
                takes=asking(packed_lengths, *[name for name in names if name in known]),
            )(function)
        return function

    return register


def asking(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """A function that asks for arguments by these names and gives them to another in order."""

    def asked(**given: Any) -> Any:
        return function(*[given[name] for name in names])

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    asked.__dict__["__signature__"] = inspect.Signature(parameters)
    return asked


def queries_and_scores(query: TensorSpec, t: int, taken: Taken) -> tuple[int, int]:
    """Rows of scores and scores, of all heads: of t keys a query where no lengths were taken.

    Shapes: query (..., h, d).
    """
    if taken is None:
        return rows(query), rows(query) * t
    queries, pairs = taken
    return queries * query.shape[-2], pairs * query.shape[-2]


# Operators


@packed(
    CUM_SEQ, *overloads("_flash_attention_forward.default", "_flash_attention_forward.quantized")
)
def flash_attention(
    query: TensorSpec,
    value: TensorSpec,
    max_k: int,
    dropout_p: float,
    scale: float | None,
    taken: Taken,
) -> Cost:
    """Flash attention.

    Shapes: query (b, s, h, d), value (b, t, g, e), max_k = t; packed: query (Σs, h, d), value
    (Σt, g, e), max_k the most keys of a sequence.
    Counts: as `attend`; packed, Σ s·t·h scores.
    Ignores: ALiBi slopes.
    Example: packed, 2 and 3 queries of 4 keys and 1, 2 heads, d = e = 8: 22·16 = 352 MACs.
    """
    sizes = query.shape[-1], value.shape[-1]
    return attend(*queries_and_scores(query, max_k, taken), sizes, scale, None, dropout_p)


@packed(
    CUM_SEQ,
    *overloads(
        "_flash_attention_forward_no_dropout_inplace.default",
        "_cudnn_attention_forward_no_dropout_inplace.default",
    ),
)
def flash_attention_into(
    query: TensorSpec, value: TensorSpec, max_k: int, scale: float | None, taken: Taken
) -> Cost:
    """As `flash_attention`, into a given output."""
    return flash_attention(query, value, max_k, 0.0, scale, taken)


@packed(CU_SEQ, "torch_attn::_varlen_attn.default", "torch_attn::_varlen_attn_out.default")
def varlen_attention(
    query: TensorSpec, value: TensorSpec, max_k: int, scale: float | None, taken: Taken
) -> Cost:
    """torch.nn.attention.varlen: as `flash_attention` of packed sequences."""
    return flash_attention(query, value, max_k, 0.0, scale, taken)


@packed(CUM_SEQ, *overloads("_cudnn_attention_forward.default"))
def cudnn_attention(
    query: TensorSpec,
    value: TensorSpec,
    attn_bias: Tensor,
    max_k: int,
    dropout_p: float,
    scale: float | None,
    taken: Taken,
) -> Cost:
    """As `flash_attention`, with a bias; here a dense query is (b, h, s, d)."""
    sizes = query.shape[-1], value.shape[-1]
    return attend(*queries_and_scores(query, max_k, taken), sizes, scale, attn_bias, dropout_p)


@packed(CU_SEQLENS, *overloads("_efficient_attention_forward.default"))
def efficient_attention(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_k: int,
    dropout_p: float,
    scale: float | None,
    taken: Taken,
) -> Cost:
    """Memory-efficient attention.

    Shapes: query (b, s, h, d), key (b, t, h, d), value (b, t, h, e); packed: b = 1, at most
    max_seqlen_k keys a sequence.
    Counts: as `flash_attention`.
    """
    t, sizes = keys_of(key, cu_seqlens_k, max_seqlen_k), (query.shape[-1], value.shape[-1])
    return attend(*queries_and_scores(query, t, taken), sizes, scale, bias, dropout_p)


def keys_of(key: TensorSpec, cu_seqlens_k: Tensor, max_seqlen_k: int) -> int:
    """Keys of (b, t, h, d), or the most that one of its packed sequences has."""
    return key.shape[1] if cu_seqlens_k is None else max_seqlen_k


@packed(
    CUM_SEQ, *overloads("_flash_attention_backward.default", "_cudnn_attention_backward.default")
)
def flash_attention_backward(
    query: TensorSpec,
    value: TensorSpec,
    max_k: int,
    dropout_p: float,
    scale: float | None,
    taken: Taken,
) -> Cost:
    """The gradients of `flash_attention`: as `attend_backward`."""
    sizes = query.shape[-1], value.shape[-1]
    return attend_backward(*queries_and_scores(query, max_k, taken), sizes, scale, dropout_p)


@packed(CU_SEQ, "torch_attn::_varlen_attn_backward.default")
def varlen_attention_backward(
    query: TensorSpec, value: TensorSpec, max_k: int, scale: float | None, taken: Taken
) -> Cost:
    """The gradients of `varlen_attention`."""
    return flash_attention_backward(query, value, max_k, 0.0, scale, taken)


@packed(CU_SEQLENS, *overloads("_efficient_attention_backward.default"))
def efficient_attention_backward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cu_seqlens_k: Tensor,
    max_seqlen_k: int,
    dropout_p: float,
    scale: float | None,
    taken: Taken,
) -> Cost:
    """The gradients of `efficient_attention`."""
    t, sizes = keys_of(key, cu_seqlens_k, max_seqlen_k), (query.shape[-1], value.shape[-1])
    return attend_backward(*queries_and_scores(query, t, taken), sizes, scale, dropout_p)
