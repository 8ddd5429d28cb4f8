"""Attention of sequences of different lengths, packed or nested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.attention_packed import packed_lengths
from flopdispatch.formulas.attention_packed import rules as packed_rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, TensorSpec, signature, spec
from tests import oracles_attention as loops
from tests.dispatched import Dispatched
from tests.oracles import Tally
from tests.pricing import taken_of

aten = torch.ops.aten
nested_warning = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
lengths = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=3)

BOUND = "in packed sequences of unknown lengths each query is taken to see max_k keys"


def ends(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def s(*shape: int, dtype: torch.dtype = torch.float32) -> TensorSpec:
    return spec(*shape, dtype=dtype)


# 2 heads; sequences of 2 and 3 queries, 4 keys and 1; packed, at most 4 keys.
Q, K, V = s(5, 2, 6), s(5, 2, 6), s(5, 2, 7)
ENDS_Q, ENDS_K = s(3, dtype=torch.int32), s(3, dtype=torch.int32)
TAKEN = 5, 2 * 4 + 3 * 1
# 2·11 scores of 6 + 7; a softmax of 10 rows: 22 − 10 comparisons and additions.
EXACT = Cost(macs=22 * 13, muls=22, adds=22 + 12, comparisons=12, transcendentals=22, divs=22)
BACKWARD = Cost(macs=2 * 22 * 13, muls=22 + 2 * 22, adds=22 + 12)
# 4 keys for each of the 10 rows.
BOUNDED = Cost(macs=40 * 13, muls=40, adds=40 + 30, comparisons=30, transcendentals=40, divs=40)
BACKWARD_BOUNDED = Cost(macs=2 * 40 * 13, muls=40 + 2 * 40, adds=40 + 30)

KEYWORDS = {
    "query": Q, "key": K, "value": V, "max_q": 3, "max_k": 4, "dropout_p": 0.0,
    "max_seqlen_q": 3, "max_seqlen_k": 4, "scale": None,
    "cum_seq_q": ENDS_Q, "cum_seq_k": ENDS_K,
    "cu_seqlens_q": ENDS_Q, "cu_seqlens_k": ENDS_K,
}  # fmt: skip
FORWARDS = overloads(
    "_flash_attention_forward.default",
    "_flash_attention_forward.quantized",
    "_flash_attention_forward_no_dropout_inplace.default",
    "_cudnn_attention_forward_no_dropout_inplace.default",
    "_cudnn_attention_forward.default",
    "_efficient_attention_forward.default",
)
BACKWARDS = overloads(
    "_flash_attention_backward.default",
    "_cudnn_attention_backward.default",
    "_efficient_attention_backward.default",
)
VARLEN = "_varlen_attn", "_varlen_attn_out", "_varlen_attn_backward"


def priced(overload: Any, taken: tuple[int, ...] | None, **more: Any) -> Price:
    known = {n: v for n, v in KEYWORDS.items() if n in signature(overload)[0]}
    kwargs = tuple((known | more).items())
    return default_registry().price(OpCall(overload, (), kwargs, None, taken))


@pytest.mark.parametrize("overload", FORWARDS)
def test_known_lengths_are_exact(overload: Any) -> None:
    price = priced(overload, TAKEN)
    assert (price.cost.moving(0, 0), price.estimate) == (EXACT, "")


@pytest.mark.parametrize("overload", FORWARDS)
def test_unknown_lengths_are_bounded_and_marked(overload: Any) -> None:
    price = priced(overload, None)
    assert (price.cost.moving(0, 0), price.estimate) == (BOUNDED, BOUND)


@pytest.mark.parametrize("overload", BACKWARDS)
def test_gradients_are_exact_or_bounded(overload: Any) -> None:
    exact, bound = priced(overload, TAKEN), priced(overload, None)
    assert (exact.cost.moving(0, 0), exact.estimate) == (BACKWARD, "")
    assert (bound.cost.moving(0, 0), bound.estimate) == (BACKWARD_BOUNDED, BOUND)


def test_each_rule_of_packed_sequences_is_priced_here() -> None:
    found = {rule.overload for rule in packed_rules}
    assert found == {*FORWARDS, *BACKWARDS, *(f"torch_attn::{name}.default" for name in VARLEN)}
    assert all(rule.takes and rule.estimated_if for rule in packed_rules)


def test_torchs_own_varlen_attention_is_known_by_name() -> None:
    pytest.importorskip("torch.nn.attention.varlen")
    named = {"cu_seq_q": ENDS_Q, "cu_seq_k": ENDS_K}
    for name in VARLEN:
        packet = getattr(torch.ops.torch_attn, name, None)
        if packet is not None:
            exact, bound = (priced(packet.default, taken, **named) for taken in (TAKEN, None))
            expected = (BACKWARD, BACKWARD_BOUNDED) if "back" in name else (EXACT, BOUNDED)
            assert (exact.cost.moving(0, 0), bound.cost.moving(0, 0)) == expected
            assert (exact.estimate, bound.estimate) == ("", BOUND)


# What is taken


def test_lengths_are_taken_from_where_sequences_end() -> None:
    assert packed_lengths(ends(2, 3), ends(4, 1)) == (5, 2 * 4 + 3 * 1)


def test_queries_without_keys_have_no_scores() -> None:
    assert packed_lengths(ends(2, 3), ends(0, 7)) == (3, 21)


def test_keys_that_are_not_used_have_no_scores() -> None:
    assert packed_lengths(ends(2, 3), ends(8, 8), torch.tensor([4, 1])) == (5, 11)
    assert packed_lengths(ends(2, 3), None, torch.tensor([4, 1])) == (5, 11)


@given(lengths=lengths)
def test_what_is_taken_is_the_loop_over_queries_and_keys(lengths: list[tuple[int, int]]) -> None:
    owner_q = [i for i, (s, _) in enumerate(lengths) for _ in range(s)]
    owner_k = [i for i, (_, t) in enumerate(lengths) for _ in range(t)]
    pairs = [(q, k) for q in range(len(owner_q)) for k in range(len(owner_k))
             if owner_q[q] == owner_k[k]]  # fmt: skip
    queries, keys = zip(*lengths)
    assert packed_lengths(ends(*queries), ends(*keys)) == (len({q for q, _ in pairs}), len(pairs))


PACKED_ARGS = torch.ones(5, 2, 6), torch.ones(5, 2, 6), torch.ones(5, 2, 7)


@pytest.mark.parametrize("overload", [*FORWARDS, *BACKWARDS])
def test_each_operator_names_where_its_sequences_end(overload: Any) -> None:
    given = {"cum_seq_q": ends(2, 3), "cum_seq_k": ends(4, 1)}
    if "efficient" in str(overload):
        given = {"cu_seqlens_q": ends(2, 3), "cu_seqlens_k": ends(4, 1)}
    assert taken_of(overload, (), given) == (5, 11)


@pytest.mark.parametrize("overload", FORWARDS)
def test_each_forward_names_the_keys_that_are_used(overload: Any) -> None:
    name = "seqlen_k" if "efficient" in str(overload) else "seqused_k"
    if name not in signature(overload)[0]:
        pytest.skip("not known to this torch")
    prefix = "cu_seqlens" if "efficient" in str(overload) else "cum_seq"
    given = {f"{prefix}_q": ends(2, 3), f"{prefix}_k": ends(8, 8), name: torch.tensor([4, 1])}
    assert taken_of(overload, (), given) == (5, 11)


def test_nothing_is_taken_where_there_is_nothing_to_read() -> None:
    overload = aten._flash_attention_forward.default
    dense = (*PACKED_ARGS, None, None, 3, 4, 0.0, False, False)
    on_meta = (*PACKED_ARGS, ends(2, 3).to("meta"), ends(4, 1).to("meta"), 3, 4, 0.0, False, False)
    empty = (*PACKED_ARGS, torch.tensor([]), torch.tensor([]), 3, 4, 0.0, False, False)
    for args in (dense, on_meta, empty):
        assert taken_of(overload, args, {}) is None


# Whole calls


def test_fake_cuda_is_bounded() -> None:
    """2 and 3 queries of 2 heads, at most 4 keys: 10 rows of 4."""
    with FakeTensorMode():
        q, k, v = (torch.empty(5, 2, 8, device="cuda", dtype=torch.half) for _ in range(3))
        bounds = torch.empty(3, dtype=torch.int32, device="cuda")
        with Dispatched() as dispatched:
            aten._flash_attention_forward(q, k, v, bounds, bounds, 3, 4, 0.0, False, False)
    ((_, price),) = [p for p in dispatched.prices if p[1].family == "attention"]
    assert price.cost.macs == 10 * 4 * 16
    assert price.estimate == BOUND


@pytest.fixture
def flash_on_cpu() -> Iterator[None]:
    """A kernel of packed attention for the CPU, which torch has for GPUs only."""

    def kernel(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        cum_seq_q: torch.Tensor, cum_seq_k: torch.Tensor, *rest: Any, **options: Any,
    ) -> Any:  # fmt: skip
        def cut(tensor: torch.Tensor, bounds: torch.Tensor) -> Any:
            return tensor.transpose(0, 1).split(bounds.diff().tolist(), 1)

        parts = zip(cut(query, cum_seq_q), cut(key, cum_seq_k), cut(value, cum_seq_k))
        out = torch.cat([(q @ k.mT).softmax(-1) @ v for q, k, v in parts], 1).transpose(0, 1)
        nothing = torch.empty(0)
        return out, nothing, nothing, nothing, nothing

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", kernel, "CPU")
    yield
    library._destroy()


@pytest.mark.usefixtures("flash_on_cpu")
def test_calls_of_the_same_shapes_differ_in_their_lengths() -> None:
    """5 queries and 5 keys each time: 2·4 + 3·1 = 11 pairs, then 5·5 = 25, then the first again."""
    q, k, v = (torch.randn(5, 2, 8) for _ in range(3))
    batches = [(ends(2, 3), ends(4, 1)), (ends(5), ends(5)), (ends(2, 3), ends(4, 1))]
    with Dispatched() as dispatched:
        for bounds in batches:
            aten._flash_attention_forward(q, k, v, *bounds, 3, 5, 0.0, False, False)
    assert sorted(p.cost.macs for _, p in dispatched.prices) == [352, 352, 25 * 2 * 16]
    assert {p.estimate for _, p in dispatched.prices} == {""}


@given(lengths=lengths)
@settings(max_examples=20)
def test_packed_attention_is_the_loop_over_its_sequences(lengths: list[tuple[int, int]]) -> None:
    tally, heads, d, e = Tally(), 2, 2, 3
    for rows, keys in lengths:
        if rows and keys:
            q, k, v = (torch.randn(1, heads, n, m) for n, m in ((rows, d), (keys, d), (keys, e)))
            loops.attention(tally, q, k, v, scale=0.5)
    queries, keys = (sum(part) for part in zip(*lengths))
    taken = packed_lengths(*(ends(*part) for part in zip(*lengths)))
    operands = {"query": s(queries, heads, d), "value": s(keys, heads, e), "scale": 0.5}
    price = priced(aten._flash_attention_forward.default, taken, **operands)
    assert price.cost.moving(0, 0) == tally.cost


# Nested batches of the layers that run whole


@nested_warning
@pytest.mark.parametrize("lengths", [(5, 3), (4,), (1, 6, 2)])
def test_a_nested_batch_costs_what_its_sequences_do(lengths: tuple[int, ...]) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    sequences = [torch.randn(n, 16) for n in lengths]
    with torch.no_grad(), Dispatched() as whole:
        layer(torch.nested.nested_tensor(sequences))
    with torch.no_grad(), Dispatched() as alone:
        for sequence in sequences:
            layer(sequence[None])
    assert len([p for _, p in whole.prices if p.family == "attention"]) == 1
    assert whole.cost("attention") == alone.cost("attention")
    assert {p.estimate for _, p in whole.prices} == {""}


@nested_warning
def test_a_padded_batch_is_computed_without_its_padding() -> None:
    """5 + 3 of 10 positions: projections and layers of 8, scores of 25 + 9 in 4 heads of 4 + 4."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 1).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad(), Dispatched() as dispatched:
        model(torch.randn(2, 5, 16), src_key_padding_mask=padding)
    (price,) = [p for _, p in dispatched.prices if p.family == "attention"]
    assert price.cost.macs == 4 * 8 * 16 * 16 + 34 * 4 * 8 + 2 * 8 * 16 * 32
    assert price.estimate == ""


@nested_warning
def test_attention_between_nested_batches_pairs_their_sequences() -> None:
    """2 and 3 queries: 5·16·16 twice, as many keys; 4 + 9 pairs of 16 + 16; 4 heads' weights.

    Adds: 4·5·16 biases; 52 scores in 20 rows, shifted and summed; 3 a pair for the mean.
    """
    mha = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    sequences = [torch.randn(2, 16), torch.randn(3, 16)]
    x = torch.nested.nested_tensor(sequences)
    with torch.no_grad(), Dispatched() as dispatched:
        mha(x, x, x, need_weights=True)
    with torch.no_grad(), Dispatched() as alone:
        for one in (sequence[None] for sequence in sequences):
            mha(one, one, one, need_weights=True)
    (price,) = [p for _, p in dispatched.prices if p.family == "attention"]
    assert price.cost.macs == 4 * 5 * 256 + 13 * 32
    assert price.cost.divs == 13 * 4 + 13
    assert price.cost.adds == 4 * 5 * 16 + 52 + (52 - 20) + 13 * 3
    assert price.cost.moving(0, 0) == alone.cost("attention")
    assert price.estimate == ""


def test_a_nested_batch_of_unknown_sizes_is_one_sequence() -> None:
    """8·16 elements in a row."""
    encoder = aten._transformer_encoder_layer_fwd.default
    named = {"src": s(128), "embed_dim": 16, "num_heads": 4, "use_gelu": False,
             "ffn_weight_1": s(32, 16), "mask": None}  # fmt: skip
    price = default_registry().price(OpCall(encoder, (), tuple(named.items()), None))
    assert price.cost.macs == 4 * 8 * 256 + 2 * 64 * 16 + 2 * 8 * 16 * 32
    assert price.estimate == "a nested batch of unknown sizes is taken as a single sequence"
