"""Llama 3 and GPT-2 in their published sizes, from configurations, on meta."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from benchmarks.comparison import disagreements, measured
from benchmarks.language import LLAMA_3, Llama, gpt2, llama, on, tokens
from benchmarks.memory import papers
from flopdispatch import count
from tests.versions import needs_torch

T = 512  # tokens

# Parameters of the model cards: 8.03 B, 70.6 B, 405.9 B, in full.
PARAMETERS = {"8B": 8_030_261_248, "70B": 70_553_706_496, "405B": 405_853_388_800}
PUBLISHED = {"8B": "Llama-3-8B fwd", "405B": "Llama-3.1-405B fwd"}


def llama_macs(size: Llama, t: int) -> int:
    """MACs of a Llama's forward on t tokens, from its sizes.

    A token's projections: q and output are h·h each, k and v h·(kv heads·d) each, since a
    key is shared by heads/kv_heads queries; gate, up and down h·i each; the head h·V. An
    attention's scores are heads·t·t sums of d products, its values as many again: 2·t·t·h.
    The embedding is a look-up.
    """
    h, d = size.hidden, size.hidden // size.heads
    layer = 2 * h * h + 2 * h * size.kv_heads * d + 3 * h * size.intermediate
    attention = 2 * t * t * h
    return size.layers * (t * layer + attention) + t * h * size.vocabulary


@pytest.mark.parametrize("name", LLAMA_3)
def test_llama_is_the_hand_derivation_and_holds_no_memory(name: str) -> None:
    size = LLAMA_3[name]
    model = llama(size)
    assert all(parameter.is_meta for parameter in model.parameters())
    profile = count(model, tokens(T))
    macs = llama_macs(size, T)
    assert profile.comparable_flops == 2 * macs
    assert profile.macs == macs
    assert profile.params == PARAMETERS[name]
    assert profile.uncounted == {}
    if name in PUBLISHED:
        assert 2 * macs == papers(PUBLISHED[name])


def expert_macs(size: Llama, t: int, experts: int, chosen: int) -> int:
    """As llama_macs, with `chosen` of `experts` feed-forwards a token, and a router h·experts."""
    h, d = size.hidden, size.hidden // size.heads
    layer = 2 * h * h + 2 * h * size.kv_heads * d + h * experts
    layer += chosen * 3 * h * size.intermediate
    return size.layers * (t * layer + 2 * t * t * h) + t * h * size.vocabulary


@needs_torch(2, 15, "grouped products take bfloat16 only")
def test_mixtral_counts_the_experts_that_its_tokens_go_through() -> None:
    # Grouped products; FlopCounterMode leaves them out and says 1,647 GFLOPs.
    size = Llama(4_096, 14_336, 32, 32, 8, vocabulary=32_000)
    profile = count(on("meta", MixtralForCausalLM, MixtralConfig()), tokens(T))
    assert profile.comparable_flops == 2 * expert_macs(size, T, experts=8, chosen=2)
    assert profile.comparable_flops == papers("Mixtral-8x7B fwd")
    assert profile.uncounted == {}


QWEN3_8B = Qwen3Config(
    vocab_size=151_936,
    hidden_size=4_096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)


@pytest.mark.parametrize(
    ("row", "kind", "config", "size"),
    [
        (
            "Qwen3-8B fwd",
            Qwen3ForCausalLM,
            QWEN3_8B,
            Llama(4_096, 12_288, 36, 32, 8, vocabulary=151_936),
        ),
        (
            "Phi-3-mini fwd",
            Phi3ForCausalLM,
            Phi3Config(pad_token_id=0),
            Llama(3_072, 8_192, 32, 32, 32, vocabulary=32_064),
        ),
    ],
    ids=["Qwen3-8B", "Phi-3-mini"],
)
def test_models_shaped_like_llama_are_its_derivation(
    row: str, kind: Any, config: Any, size: Llama
) -> None:
    profile = count(on("meta", kind, config), tokens(T))
    assert profile.comparable_flops == 2 * llama_macs(size, T) == papers(row)
    assert profile.uncounted == {}


def test_the_papers_figures_are_read_exactly() -> None:
    assert papers("Llama-3.1-405B fwd") == 415_602_510_397_440
    assert papers("Llama-3-8B fwd") == 7_822_209_187_840
    assert papers("GPT-2 124M, T=1024 b=1 forward") == 291_648_307_200


def test_each_llama_layer_has_the_same_share_and_the_head_the_rest() -> None:
    size = Llama(hidden=64, intermediate=160, layers=3, heads=8, kv_heads=2, vocabulary=1_000)
    scopes = count(llama(size), tokens(16)).by_scope()
    # d = 8; q, o: 64·64; k, v: 64·16; gate, up, down: 64·160; scores and values 16·16·64.
    linears = 16 * (2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 160)
    for layer in range(3):
        assert scopes[f"LlamaForCausalLM.model.layers.{layer}"].macs == linears + 2 * 16 * 16 * 64
    attention = scopes["LlamaForCausalLM.model.layers.1.self_attn"].macs
    assert attention == 16 * (2 * 64 * 64 + 2 * 64 * 16) + 2 * 16 * 16 * 64
    assert scopes["LlamaForCausalLM.lm_head"].macs == 16 * 64 * 1_000
    assert scopes["LlamaForCausalLM"].macs == llama_macs(size, 16)


def gpt2_macs(layers: int, width: int, vocabulary: int, t: int) -> int:
    """MACs of GPT-2's forward: a layer has 12·w² weights, scores and values 2·t·t·w."""
    return layers * (t * 12 * width * width + 2 * t * t * width) + t * width * vocabulary


def test_gpt2_is_the_hand_derivation_and_the_published_figure() -> None:
    profile = count(gpt2(), tokens(1024))
    assert profile.comparable_flops == 2 * gpt2_macs(12, 768, 50_257, 1024) == 291_648_307_200
    assert profile.comparable_flops == papers("GPT-2 124M, T=1024 b=1 forward")
    # Its head is its embedding, once. A layer: weights 3, 1, 4, 4 w·w with a bias for each
    # output (3, 1, 4, 1 w) and two norms of 2·w.
    layer = 12 * 768 * 768 + 9 * 768 + 4 * 768
    assert profile.params == 50_257 * 768 + 1024 * 768 + 12 * layer + 2 * 768
    assert profile.uncounted == {}


def test_a_training_step_of_gpt2_is_three_forwards() -> None:
    # Embeddings are trained, so the first layer needs its input's gradient too.
    model = gpt2(n_layer=2, n_embd=64, n_head=4, vocab_size=500).train()
    profile = count(model, tokens(32, batch=2), backward=True, labels=tokens(32, batch=2))
    assert profile.comparable_flops == 3 * 2 * 2 * gpt2_macs(2, 64, 500, 32)
    phases = profile.by_phase()
    assert phases["backward"].macs == 2 * phases["forward"].macs


@pytest.mark.parametrize("backward", [False, True])
def test_language_models_are_torchs_count(backward: bool) -> None:
    small = Llama(hidden=64, intermediate=160, layers=2, heads=8, kv_heads=2, vocabulary=1_000)
    for model in (llama(small), gpt2(n_layer=2, n_embd=64, n_head=4, vocab_size=500)):
        ids = torch.zeros(2, 16, dtype=torch.long, device="meta")

        def program(model: torch.nn.Module = model, ids: torch.Tensor = ids) -> None:
            logits = model(ids).logits
            if backward:
                logits.sum().backward()

        assert disagreements(*measured(program)) == []


def test_tied_parameters_are_counted_once() -> None:
    model = gpt2(n_layer=1, n_embd=8, n_head=2, vocab_size=10, n_positions=4)
    assert count(model, tokens(4)).params == sum(p.numel() for p in model.parameters())
