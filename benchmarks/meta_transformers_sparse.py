"""Transformers' mixtures of experts and state space models, at published sizes."""

from __future__ import annotations

from benchmarks.meta_transformers import causal
from benchmarks.meta_transformers_causal import rope

SPARSE = (
    causal("Mixtral-8x7B-v0.1", "MixtralForCausalLM", {
        "max_position_embeddings": 32768,
    } | rope(1000000.0)),
    causal("Qwen1.5-MoE-A2.7B", "Qwen2MoeForCausalLM", {
        "max_position_embeddings": 8192,
    } | rope(1000000.0)),
    causal("Qwen3-30B-A3B", "Qwen3MoeForCausalLM", {
        "num_hidden_layers": 48, "head_dim": 128, "norm_topk_prob": True,
        "max_position_embeddings": 40960,
    } | rope(1000000.0)),
    causal("Qwen3-Next-80B-A3B-Instruct", "Qwen3NextForCausalLM", {
        "intermediate_size": 5120, "max_position_embeddings": 262144,
    } | rope(10000000.0, partial_rotary_factor=0.25)),
    causal("DeepSeek-V2-Lite", "DeepseekV2ForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
        "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
        "q_lora_rank": None, "first_k_dense_replace": 1, "num_experts_per_tok": 6,
        "max_position_embeddings": 163840,
    } | rope(10000.0, rope_type="yarn", factor=40.0, beta_fast=32.0, beta_slow=1.0, mscale=0.707,
             mscale_all_dim=0.707, original_max_position_embeddings=4096)),
    causal("DeepSeek-V3", "DeepseekV3ForCausalLM", {
        "max_position_embeddings": 163840,
    } | rope(10000.0, rope_type="yarn", factor=40.0, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
             mscale_all_dim=1.0, original_max_position_embeddings=4096)),
    causal("gpt-oss-20b", "GptOssForCausalLM", {
        "num_hidden_layers": 24, "num_local_experts": 32,
    }),
    causal("gpt-oss-120b", "GptOssForCausalLM", {}),
    causal("Llama-4-Scout-17B-16E (text)", "Llama4ForCausalLM", {}),
    causal("GLM-4.5-Air", "Glm4MoeForCausalLM", {"attention_bias": True}),
    causal("OLMoE-1B-7B-0924", "OlmoeForCausalLM", {"intermediate_size": 1024}),
    causal("Phi-3.5-MoE-instruct", "PhimoeForCausalLM", {
        "attention_bias": True, "lm_head_bias": True, "sliding_window": 131072,
    }),
    causal("dbrx-base", "DbrxForCausalLM", {
        "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768,
        "vocab_size": 100352,
        "attn_config": {"kv_n_heads": 8, "clip_qkv": 8, "rope_theta": 500000},
        "ffn_config": {"hidden_size": 6144, "ffn_hidden_size": 10752, "moe_num_experts": 16,
                       "moe_top_k": 4},
    }),
    causal("granite-3.1-3b-a800m-base", "GraniteMoeForCausalLM", {
        "vocab_size": 49155, "hidden_size": 1536, "intermediate_size": 512,
        "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40,
        "num_experts_per_tok": 8, "max_position_embeddings": 131072,
        "embedding_multiplier": 12.0, "logits_scaling": 6.0, "residual_multiplier": 0.22,
        "attention_multiplier": 0.015625, "tie_word_embeddings": True,
    } | rope(10000000.0)),
    causal("mamba-130m-hf", "MambaForCausalLM", {"num_hidden_layers": 24}),
    causal("falcon-mamba-7b", "FalconMambaForCausalLM", {
        "vocab_size": 65024, "hidden_size": 4096, "num_hidden_layers": 64,
        "time_step_rank": 256, "intermediate_size": 8192, "tie_word_embeddings": False,
    }, length=512),
    causal("Mamba-Codestral-7B-v0.1", "Mamba2ForCausalLM", {}),
    causal("Jamba-v0.1", "JambaForCausalLM", {"use_mamba_kernels": False}),
    causal("Bamba-9B-v1", "BambaForCausalLM", {
        "attn_layer_indices": [9, 18, 27], "mamba_d_state": 128,
    }),
    causal("recurrentgemma-2b", "RecurrentGemmaForCausalLM", {
        "num_key_value_heads": 1, "intermediate_size": 15360,
    }),
    causal("LFM2-1.2B", "Lfm2ForCausalLM", {
        "hidden_size": 2048, "num_hidden_layers": 16, "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    }),
    causal("xLSTM-7b", "xLSTMForCausalLM", {}),
    # In eval mode it rescales its weights in place, after which no backward runs.
    causal("rwkv-4-169m-pile", "RwkvForCausalLM", {
        "hidden_size": 768, "attention_hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12,
    }, length=1024),
)  # fmt: skip
