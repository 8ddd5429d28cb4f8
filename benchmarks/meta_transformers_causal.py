"""Transformers' dense language models, at the sizes of published checkpoints."""

from __future__ import annotations

from typing import Any

from benchmarks.meta_transformers import causal


def rope(theta: float, **more: Any) -> dict[str, Any]:
    """Rotary positions of this base."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta} | more}


CAUSAL = (
    causal("Llama-3.1-405B", "LlamaForCausalLM", {
        "vocab_size": 128256, "hidden_size": 16384, "intermediate_size": 53248,
        "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    } | rope(500000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
             original_max_position_embeddings=8192)),
    causal("Meta-Llama-3-8B", "LlamaForCausalLM", {
        "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    } | rope(500000.0)),
    causal("Mistral-7B-v0.1", "MistralForCausalLM", {"max_position_embeddings": 32768}),
    causal("Qwen2.5-72B", "Qwen2ForCausalLM", {
        "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    } | rope(1000000.0)),
    causal("Qwen3-8B", "Qwen3ForCausalLM", {
        "intermediate_size": 12288, "num_hidden_layers": 36, "num_key_value_heads": 8,
        "max_position_embeddings": 40960,
    } | rope(1000000.0)),
    causal("gemma-2-9b", "Gemma2ForCausalLM", {
        "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8,
    }),
    causal("gemma-3-1b-pt", "Gemma3ForCausalLM", {
        "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
        "max_position_embeddings": 32768, "sliding_window": 512,
    }),
    causal("Phi-3-mini-4k-instruct", "Phi3ForCausalLM", {"sliding_window": 2047}),
    causal("phi-2", "PhiForCausalLM", {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
    } | rope(10000.0, partial_rotary_factor=0.4)),
    causal("OLMo-7B-hf", "OlmoForCausalLM", {}),
    causal("OLMo-2-1124-7B", "Olmo2ForCausalLM", {
        "vocab_size": 100352, "max_position_embeddings": 4096,
    } | rope(500000.0)),
    causal("glm-4-9b-hf", "GlmForCausalLM", {"vocab_size": 151552}),
    causal("granite-3.1-8b-base", "GraniteForCausalLM", {
        "vocab_size": 49152, "intermediate_size": 12800, "num_hidden_layers": 40,
        "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "embedding_multiplier": 12.0, "logits_scaling": 16.0, "residual_multiplier": 0.22,
        "attention_multiplier": 0.0078125, "tie_word_embeddings": True,
    } | rope(10000000.0)),
    causal("SmolLM3-3B", "SmolLM3ForCausalLM", {}),
    causal("c4ai-command-r-v01", "CohereForCausalLM", {}),
    causal("c4ai-command-r7b-12-2024", "Cohere2ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "logit_scale": 0.25,
    }),
    causal("starcoder2-15b", "Starcoder2ForCausalLM", {
        "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 40,
        "num_attention_heads": 48, "num_key_value_heads": 4, "sliding_window": 4096,
        "max_position_embeddings": 16384, "tie_word_embeddings": False,
    } | rope(100000.0)),
    causal("starcoder", "GPTBigCodeForCausalLM", {
        "vocab_size": 49152, "n_positions": 8192, "n_embd": 6144, "n_layer": 40, "n_head": 48,
        "n_inner": 24576,
    }),
    causal("stablelm-3b-4e1t", "StableLmForCausalLM", {}),
    causal("nemotron-4-15b", "NemotronForCausalLM", {"head_dim": 128, "num_key_value_heads": 8}),
    causal("falcon-7b", "FalconForCausalLM", {}),
    causal("falcon-180B", "FalconForCausalLM", {
        "hidden_size": 14848, "num_hidden_layers": 80, "num_attention_heads": 232,
        "num_kv_heads": 8, "new_decoder_architecture": True, "ffn_hidden_size": 59392,
    }),
    causal("mpt-7b", "MptForCausalLM", {
        "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432,
    }),
    causal("bloom-176b", "BloomForCausalLM", {
        "hidden_size": 14336, "n_layer": 70, "n_head": 112,
    }),
    causal("gpt2-xl", "GPT2LMHeadModel", {"n_embd": 1600, "n_layer": 48, "n_head": 25},
           length=1024),
    causal("gpt-neo-2.7B", "GPTNeoForCausalLM", {
        "hidden_size": 2560, "num_layers": 32, "num_heads": 20,
        "attention_types": [[["global", "local"], 16]],
    }),
    causal("gpt-j-6b", "GPTJForCausalLM", {}),
    causal("gpt-neox-20b", "GPTNeoXForCausalLM", {}),
    causal("codegen-16B-multi", "CodeGenForCausalLM", {
        "vocab_size": 51200, "n_embd": 6144, "n_layer": 34, "n_head": 24,
    }),
    causal("opt-66b", "OPTForCausalLM", {
        "hidden_size": 9216, "num_hidden_layers": 64, "ffn_dim": 36864,
        "num_attention_heads": 72, "word_embed_proj_dim": 9216,
    }),
    causal("xglm-564M", "XGLMForCausalLM", {}),
    causal("biogpt", "BioGptForCausalLM", {}, length=1024),
    causal("ctrl", "CTRLLMHeadModel", {}, length=256),
    causal("reformer-crime-and-punishment", "ReformerModelWithLMHead", {
        "is_decoder": True, "num_attention_heads": 2, "axial_pos_shape": [512, 1024],
        "max_position_embeddings": 524288, "num_buckets": [64, 128],
    }, length=524288),
)  # fmt: skip
