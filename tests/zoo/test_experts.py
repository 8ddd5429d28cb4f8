"""Mixtures of experts on meta: what active experts cost by hand, and as on the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import nn

from benchmarks.equality_transformers import (
    BATCH,
    HEADS,
    INNER,
    LAYERS,
    LLAMA,
    T5,
    VOCABULARY,
    WIDTH,
    T,
)
from benchmarks.language import tokens
from benchmarks.memory import papers
from flopdispatch import Assume, DataDependentError, Profile, TensorSpec, count, on_meta, spec

MM = torch.ops.aten.mm.default

IMPLEMENTATIONS = ("eager", "grouped_mm", "batched_mm")

# A token is a row of `WIDTH` numbers; n tokens in sequences of T.
N = BATCH * T
D = WIDTH // HEADS
NARROW = 16  # an expert's inner size where it has its own


# MACs, by hand


def attention(d: int = D, heads: int = HEADS, kv_heads: int = 2) -> int:
    """Query and output (heads), key and value (kv_heads); scores and values of T x T pairs."""
    projections = 2 * WIDTH * heads * d + 2 * WIDTH * kv_heads * d
    return N * projections + 2 * BATCH * T * T * heads * d


def latent_attention(query_rank: int | None, rank: int, nope: int, rope: int, v: int) -> int:
    """DeepSeek's: queries, and keys with values, go through few numbers; keys are nope + rope."""
    long = HEADS * (nope + rope)
    query = WIDTH * long if query_rank is None else query_rank * (WIDTH + long)
    keys = WIDTH * (rank + rope) + rank * HEADS * (nope + v)
    pairs = BATCH * T * T * HEADS * (nope + rope + v)
    return N * (query + keys + HEADS * v * WIDTH) + pairs


def mamba(inner: int, state: int, rank: int, kernel: int) -> int:
    """In to x and z, convolution with its padding, to dt, B and C, dt, one step a token, out."""
    weights = WIDTH * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * WIDTH
    convolution = BATCH * (T + kernel - 1) * inner * kernel
    return N * (weights + inner * state) + convolution


def gated(inner: int) -> int:
    """A feed-forward of gate, up and down."""
    return N * 3 * WIDTH * inner


def routed(experts: int, chosen: int, inner: int) -> int:
    """A router's scores, and the experts that are chosen for a token."""
    return N * WIDTH * experts + chosen * gated(inner)


HEAD = N * WIDTH * VOCABULARY


# Models


class Case(NamedTuple):
    """A model by its class and configuration, and its MACs."""

    kind: str
    sizes: dict[str, Any]
    macs: int


LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
NUMBERED = {"num_experts": 4, "num_experts_per_tok": 2}
OWN = {"moe_intermediate_size": NARROW}
DEEPSEEK = LLAMA | OWN | {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "n_shared_experts": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8, "v_head_dim": 12, "num_key_value_heads": HEADS,
}  # fmt: skip

# Whose experts have the three implementations.
CASES = {
    "mixtral": Case("MixtralForCausalLM", LLAMA | LOCAL,
                    LAYERS * (attention() + routed(4, 2, INNER)) + HEAD),
    "phimoe": Case("PhimoeForCausalLM", LLAMA | LOCAL,
                   LAYERS * (attention() + routed(4, 2, INNER)) + HEAD),
    "granitemoe": Case("GraniteMoeForCausalLM", LLAMA | LOCAL,
                       LAYERS * (attention() + routed(4, 2, INNER)) + HEAD),
    "gpt-oss": Case("GptOssForCausalLM",
                    LLAMA | LOCAL | {"head_dim": 16, "sliding_window": 8},
                    LAYERS * (attention(d=16) + routed(4, 2, INNER)) + HEAD),
    "olmoe": Case("OlmoeForCausalLM", LLAMA | {"num_experts": 8, "num_experts_per_tok": 4},
                  LAYERS * (attention() + routed(8, 4, INNER)) + HEAD),
    # The first layer's feed-forward is dense in the following.
    "qwen2-moe": Case("Qwen2MoeForCausalLM",
                      LLAMA | NUMBERED | OWN | {"shared_expert_intermediate_size": 24,
                                                "mlp_only_layers": [0]},
                      # A shared expert for all tokens, and how much of it: one number a token.
                      LAYERS * attention() + gated(INNER) + routed(4, 2, NARROW) + gated(24)
                      + N * WIDTH + HEAD),
    "qwen3-moe": Case("Qwen3MoeForCausalLM",
                      LLAMA | NUMBERED | OWN | {"head_dim": 16, "mlp_only_layers": [0]},
                      LAYERS * attention(d=16) + gated(INNER) + routed(4, 2, NARROW) + HEAD),
    "glm4-moe": Case("Glm4MoeForCausalLM",
                     LLAMA | OWN | {"head_dim": D, "n_routed_experts": 4, "n_shared_experts": 1,
                                    "num_experts_per_tok": 2, "first_k_dense_replace": 1},
                     LAYERS * attention() + gated(INNER) + routed(4, 2, NARROW) + gated(NARROW)
                     + HEAD),
    "deepseek-v2": Case("DeepseekV2ForCausalLM", DEEPSEEK | {"q_lora_rank": None},
                        LAYERS * latent_attention(None, rank=16, nope=8, rope=4, v=12)
                        + gated(INNER) + routed(4, 2, NARROW) + gated(2 * NARROW) + HEAD),
    "deepseek-v3": Case("DeepseekV3ForCausalLM", DEEPSEEK | {"q_lora_rank": 20},
                        LAYERS * latent_attention(20, rank=16, nope=8, rope=4, v=12)
                        + gated(INNER) + routed(4, 2, NARROW) + gated(2 * NARROW) + HEAD),
    # Mamba and a dense feed-forward, then attention and experts.
    "jamba": Case("JambaForCausalLM",
                  LLAMA | NUMBERED | {"attn_layer_period": 2, "attn_layer_offset": 1,
                                      "expert_layer_period": 2, "expert_layer_offset": 1,
                                      "mamba_d_state": 8, "mamba_dt_rank": 5, "mamba_d_conv": 4,
                                      "mamba_expand": 2},
                  mamba(2 * WIDTH, state=8, rank=5, kernel=4) + gated(INNER) + attention()
                  + routed(4, 2, INNER) + HEAD),
}  # fmt: skip


def built(case: Case, device: str, implementation: str = "eager") -> nn.Module:
    """A model in eval mode; an older torch's grouped products take bfloat16 only."""
    kind = getattr(transformers, case.kind)
    config = kind.config_class(**case.sizes, experts_implementation=implementation)
    torch.manual_seed(0)
    model: nn.Module = on_meta(kind, config) if device == "meta" else kind(config)
    return (model.bfloat16() if implementation == "grouped_mm" else model).eval()


def ids() -> torch.Tensor:
    """Random tokens, none of which is for padding."""
    return torch.randint(1, VOCABULARY, (BATCH, T), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_active_experts_are_counted_however_they_run(name: str, implementation: str) -> None:
    case = CASES[name]
    profile = count(built(case, "meta", implementation), tokens(T, BATCH))
    assert profile.macs == case.macs
    assert profile.comparable_flops == 2 * case.macs
    assert profile.uncounted == {}
    # Grouped and batched products are as many whoever goes where.
    assert bool(profile.assumptions) == (implementation == "eager")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_experts_that_are_really_chosen_cost_as_much(name: str, implementation: str) -> None:
    case = CASES[name]
    assert count(built(case, "cpu", implementation), ids(), device="cpu").macs == case.macs


def expert_rows(profile: Profile) -> list[int]:
    """How many tokens each expert's first product has, in the first of the layers with experts."""
    scope = profile.assumptions[0].scope
    assert scope.endswith("experts")
    rows = []
    for row in profile.rows:
        call = profile.calls[row.call]
        given = [part for part in call.args if isinstance(part, TensorSpec)]
        if row.scope.startswith(scope) and call.overload is MM and given[0].shape[1] == WIDTH:
            rows += [given[0].shape[0]] * row.times
    return rows


@pytest.mark.parametrize("name", CASES)
def test_each_expert_takes_as_many_tokens_as_any_other(name: str) -> None:
    experts, chosen = (8, 4) if name == "olmoe" else (4, 2)
    profile = count(built(CASES[name], "meta"), tokens(T, BATCH))
    # Equal inner sizes: an expert's first product is of WIDTH numbers, its second one of others.
    assert expert_rows(profile) == [N * chosen // experts] * experts


def test_experts_that_cant_share_evenly_differ_by_one_token() -> None:
    case = Case("MixtralForCausalLM", LLAMA | {"num_local_experts": 5, "num_experts_per_tok": 2}, 0)
    profile = count(built(case, "meta"), tokens(T, BATCH))
    assert sorted(expert_rows(profile)) == [9, 9, 10, 10, 10]  # 2 x 24 in all
    assert profile.macs == LAYERS * (attention() + routed(5, 2, INNER)) + HEAD


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_is_three_forwards_however_experts_run(name: str) -> None:
    case = CASES[name]
    for implementation in IMPLEMENTATIONS:
        model = built(case, "meta", implementation)
        profile = count(model, tokens(T, BATCH), backward=True)
        assert profile.macs == 3 * case.macs, implementation


# Those that have one implementation only


def test_llama_4_sends_each_token_through_all_experts() -> None:
    # All scores but the chosen ones are zero, and zeros are multiplied too.
    sizes = LLAMA | {"head_dim": D, "num_local_experts": 4, "num_experts_per_tok": 1,
                     "intermediate_size_mlp": 80, "interleave_moe_layer_step": 2}  # fmt: skip
    # A dense layer of 80, then one with experts, and one that all tokens share.
    macs = LAYERS * attention() + gated(80) + routed(4, 4, INNER) + gated(INNER) + HEAD
    case = Case("Llama4ForCausalLM", sizes, macs)
    profile = count(built(case, "meta"), tokens(T, BATCH))
    assert profile.macs == macs
    assert profile.assumptions == ()
    assert count(built(case, "cpu"), ids(), device="cpu").macs == macs


def switch(capacity: int) -> Case:
    """T5 of a dense and a sparse layer each in encoder and decoder; at most so many tokens."""
    # Experts have no gate, and of a sequence an expert takes no more than it has room for.
    passing = BATCH * 4 * min(T // 4, capacity)
    feed_forward = N * 2 * WIDTH * INNER + N * WIDTH * 4 + passing * 2 * WIDTH * INNER
    whole = attention(kv_heads=HEADS)
    macs = 2 * whole + feed_forward + 2 * (whole + whole) + feed_forward + HEAD
    sizes = T5 | {"num_decoder_layers": LAYERS, "num_experts": 4, "num_sparse_encoder_layers": 1,
                  "num_sparse_decoder_layers": 1, "expert_capacity": capacity}  # fmt: skip
    return Case("SwitchTransformersForConditionalGeneration", sizes, macs)


@pytest.mark.parametrize("capacity", [64, 3, 2, 1])
def test_switchs_experts_take_as_many_tokens_as_they_have_room_for(capacity: int) -> None:
    case = switch(capacity)
    given = tokens(T, BATCH)
    profile = count(built(case, "meta"), given, decoder_input_ids=given)
    assert profile.macs == case.macs
    assert {said.text for said in profile.assumptions} == {"aten::argmax chooses evenly among data"}


def test_switch_with_room_for_all_costs_on_the_cpu_what_it_costs_on_meta() -> None:
    case = switch(capacity=T)
    profile = count(built(case, "cpu"), ids(), device="cpu", decoder_input_ids=ids())
    assert profile.macs == case.macs


# What else may be assumed


def test_experts_chosen_unevenly_take_all_tokens_or_what_one_says() -> None:
    case = CASES["mixtral"]
    model = built(case, "meta")
    # Each of 4 experts may be chosen first or second by each token.
    worst = LAYERS * (attention() + N * WIDTH * 4 + 4 * 2 * gated(INNER)) + HEAD
    assert count(model, tokens(T, BATCH), assume=Assume(even=False)).macs == worst

    def share(n: int) -> int:  # of 4 experts all, of 2 x 24 tokens the first 7
        return n if n == 4 else 7

    seven = Assume(even=False, operators={"aten::nonzero": share})
    experts = 4 * 7 * 3 * WIDTH * INNER
    macs = LAYERS * (attention() + N * WIDTH * 4 + experts) + HEAD
    assert count(model, tokens(T, BATCH), assume=seven).macs == macs


def test_strict_names_the_line_that_asks_which_experts_are_chosen() -> None:
    model = built(CASES["mixtral"], "meta")
    with pytest.raises(DataDependentError, match=r"nonzero asks at \S+modeling_mixtral.py:\d+ for"):
        count(model, tokens(T, BATCH), strict=True)
    grouped = built(CASES["mixtral"], "meta", "grouped_mm")
    assert count(grouped, tokens(T, BATCH), strict=True).macs == CASES["mixtral"].macs


# Published sizes

QWEN3_30B = {
    "hidden_size": 2048, "moe_intermediate_size": 768, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "vocab_size": 151_936,
}  # fmt: skip


class Published(NamedTuple):
    """A model at its published size: its parameters, and those that a token goes through."""

    kind: str
    sizes: dict[str, Any]
    parameters: int
    active: int


# The cards say 46.7 B with 12.9 B active, and 30.5 B with 3.3 B active. The latter: embedding and
# head 2 x 151,936 x 2,048; a layer's attention 2 x 2,048 x (4,096 + 512), router 2,048 x 128, eight
# experts of 3 x 2,048 x 768, norms 2 x 2,048 + 2 x 128; and the last norm.
PUBLISHED = {
    "Mixtral 8x7B": Published("MixtralForCausalLM", {}, 46_702_792_704, 12_879_925_248),
    "Qwen3-30B-A3B": Published("Qwen3MoeForCausalLM", QWEN3_30B, 30_532_122_624, 3_353_032_704),
}
SLOW = {("Qwen3-30B-A3B", "eager")}  # 6,144 experts, one after the other


@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, run) for name in PUBLISHED for run in IMPLEMENTATIONS if (name, run) not in SLOW],
)
def test_a_published_model_costs_its_active_parameters_a_token(
    name: str, implementation: str
) -> None:
    card = PUBLISHED[name]
    t = 512
    model = built(Case(card.kind, card.sizes, 0), "meta", implementation)
    parameters = dict(model.named_parameters())
    config: Any = model.config
    kept = config.num_experts_per_tok
    experts = getattr(config, "num_local_experts", None) or config.num_experts
    active = looked_up = 0
    for path, parameter in parameters.items():
        size = parameter.numel()
        active += size * kept // experts if ".experts." in path else size
        # An embedding is looked up, and a norm's weights are no weights of sums.
        looked_up += size if "embed" in path or parameter.dim() == 1 else 0
    assert sum(parameter.numel() for parameter in parameters.values()) == card.parameters
    assert active == card.active

    d = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = 2 * t * t * config.num_attention_heads * d * config.num_hidden_layers
    profile = count(model, spec(1, t, dtype=torch.long))
    assert profile.macs == t * (active - looked_up) + pairs
    if name.startswith("Mixtral"):
        assert profile.comparable_flops == papers("Mixtral-8x7B fwd")
