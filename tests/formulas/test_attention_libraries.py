"""Attention kernels of libraries: operators with their schemas, made here, by hand arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from flopdispatch import Cost, FlopCounter, Profile
from flopdispatch.formulas.attention_libraries import rules

OPTIONS = (
    "float dropout_p, float softmax_scale, bool causal, SymInt window_size_left, "
    "SymInt window_size_right, float softcap, Tensor? alibi_slopes"
)
PACKED = "Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt max_seqlen_q, SymInt max_seqlen_k"
KEPT = "Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax_lse"
GRADIENTS = "Tensor(a!)? dq, Tensor(b!)? dk, Tensor(c!)? dv"
STATE = "bool deterministic, Tensor? rng_state=None"
SCHEMAS = (
    f"_flash_attn_forward(Tensor q, Tensor k, Tensor v, {OPTIONS}, bool return_softmax) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    f"_flash_attn_varlen_forward(Tensor q, Tensor k, Tensor v, {PACKED}, {OPTIONS}, "
    "bool return_softmax=False, Tensor? block_table=None, Tensor? leftpad_k=None, "
    "Tensor? seqused_k=None, bool zero_tensors=False) -> (Tensor, Tensor, Tensor, Tensor)",
    f"_flash_attn_backward({KEPT}, {GRADIENTS}, {OPTIONS}, {STATE}) -> Tensor",
    f"_flash_attn_varlen_backward({KEPT}, {GRADIENTS}, {PACKED}, {OPTIONS}, {STATE}) -> Tensor",
)


def forward(q: Tensor, *given: Any, **named: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(q), q.new_empty(2, 5), q.new_empty(0), q.new_empty(2)


def backward(dout: Tensor, *given: Any, **named: Any) -> Tensor:
    return dout.new_empty(2, 5)


@pytest.fixture
def library() -> Iterator[Any]:
    """The operators, with kernels that give results of the right shapes."""
    made = torch.library.Library("flash_attn", "DEF")
    for schema in SCHEMAS:
        kernel = backward if "backward" in schema else forward
        made.impl(made.define(schema), kernel, "CompositeExplicitAutograd")
    yield torch.ops.flash_attn
    made._destroy()


OFF = False, -1, -1, 0.0, None  # causal, windows, soft cap, slopes
SCALE = 0.0, 0.5  # no dropout, a scale

# 2 heads of 6 and 7; 5 queries see 4 keys: 40 scores. Each is 6 + 7 MACs, a mul by the scale, and
# its part of a softmax of 10 rows: 40 subtractions, exp and divisions, 30 comparisons and adds.
DENSE = torch.ones(1, 5, 2, 6), torch.ones(1, 4, 2, 6), torch.ones(1, 4, 2, 7)
ATTEND = Cost(macs=40 * 13, muls=40, adds=70, comparisons=30, transcendentals=40, divs=40)
# Twice the MACs; the scale, and the softmax's gradient: 80 muls, 40 + 30 adds.
GRADIENT = Cost(macs=40 * 26, muls=40 + 80, adds=70)
# Packed: 2 and 3 queries of 4 keys and 1 are 11 pairs, 22 scores, in rows of which 10 see keys.
ROWS = tuple(tensor[0] for tensor in (DENSE[0], torch.ones(1, 5, 2, 6), torch.ones(1, 5, 2, 7)))
ENDS = torch.tensor([0, 2, 5]), torch.tensor([0, 4, 5])
ATTEND_PACKED = Cost(
    macs=22 * 13, muls=22, adds=22 + 12, comparisons=12, transcendentals=22, divs=22
)
GRADIENT_PACKED = Cost(macs=22 * 26, muls=22 + 44, adds=22 + 12)


def counted(run: Any) -> Profile:
    with FlopCounter(display=False, strict=True) as counter:
        run()
    return counter.profile


def kept(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """What the backward is given, the gradients' memory among it."""
    out = torch.ones(*q.shape[:-1], 7)
    return out, q, k, v, out, torch.ones(2, 5), q.clone(), k.clone(), v.clone()


def test_dense_attention(library: Any) -> None:
    profile = counted(lambda: library._flash_attn_forward(*DENSE, *SCALE, *OFF, False))
    assert profile.by_family()["attention"].moving(0, 0) == ATTEND
    given = kept(*DENSE)
    profile = counted(lambda: library._flash_attn_backward(*given, *SCALE, *OFF, False))
    found = profile.by_family()["attention"]
    assert found.moving(0, 0) == GRADIENT
    # dout and out 5·2·7, q 5·2·6, k 4·2·6, v 4·2·7, 10 sums; dq, dk, dv and 10 sums
    assert found.bytes_read == 4 * (70 + 70 + 60 + 48 + 56 + 10)
    assert found.bytes_written == 4 * (60 + 48 + 56 + 10)


def test_packed_sequences(library: Any) -> None:
    profile = counted(lambda: library._flash_attn_varlen_forward(*ROWS, *ENDS, 3, 4, *SCALE, *OFF))
    assert profile.by_family()["attention"].moving(0, 0) == ATTEND_PACKED
    given = kept(*ROWS)
    profile = counted(
        lambda: library._flash_attn_varlen_backward(*given, *ENDS, 3, 4, *SCALE, *OFF, False)
    )
    assert profile.by_family()["attention"].moving(0, 0) == GRADIENT_PACKED
    assert profile.estimates == {}


def test_keys_that_are_not_used(library: Any) -> None:
    """4 and 1 keys are there of 5 and 5."""
    ends = ENDS[0], torch.tensor([0, 5, 10])
    profile = counted(
        lambda: library._flash_attn_varlen_forward(
            *ROWS, *ends, 3, 5, *SCALE, *OFF, seqused_k=torch.tensor([4, 1])
        )
    )
    assert profile.total.macs == ATTEND_PACKED.macs


def test_unknown_lengths_are_an_estimate(library: Any) -> None:
    given = [tensor.to("meta") for tensor in (*ROWS, *ENDS)]
    profile = counted(lambda: library._flash_attn_varlen_forward(*given, 3, 4, *SCALE, *OFF))
    assert profile.by_family()["attention"].moving(0, 0) == ATTEND
    assert len(profile.estimates) == 1


def test_each_rule_is_of_a_schema() -> None:
    names = {f"flash_attn::{schema.partition('(')[0]}.default" for schema in SCHEMAS}
    assert {rule.overload for rule in rules} == names
