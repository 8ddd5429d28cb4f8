"""Small models of transformers on meta or CPU: equality's, and more kinds of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks import equality_transformers as common
from benchmarks.equality_transformers import (
    BATCH,
    BERT,
    CONVOLUTIONS,
    IMAGES,
    INNER,
    LAYERS,
    LLAMA,
    NO_TOKENS,
    SIZE,
    SOUND,
    T5,
    VOCABULARY,
    WIDTH,
    ids,
    pairs,
    pixels,
    wave,
)
from benchmarks.language import on

PREDICTED, SEEN = 4, 10  # steps of a time series


def frames() -> dict[str, Tensor]:
    """Videos."""
    return {"pixel_values": torch.empty(BATCH, 4, 3, SIZE, SIZE, device="meta")}


def channel() -> dict[str, Tensor]:
    """Sound with a dimension of channels."""
    return {"input_values": torch.empty(BATCH, 1, 160, device="meta")}


def dictation() -> dict[str, Tensor]:
    """Sound, with a text."""
    return wave() | {"decoder_input_ids": ids()["input_ids"]}


def series() -> dict[str, Tensor]:
    """A time series, with what follows it."""
    return {
        "past_values": torch.empty(BATCH, SEEN, device="meta"),
        "past_time_features": torch.empty(BATCH, SEEN, 0, device="meta"),
        "past_observed_mask": torch.empty(BATCH, SEEN, device="meta"),
        "future_values": torch.empty(BATCH, PREDICTED, device="meta"),
        "future_time_features": torch.empty(BATCH, PREDICTED, 0, device="meta"),
    }


STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}

# As in equality's table: class of the model, sizes of its configuration, what it is called with.
MORE: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Tensor]]]] = {
    "bigbird": ("BigBirdForMaskedLM", BERT | {"attention_type": "original_full"}, ids),
    "deepseek-v3": ("DeepseekV3ForCausalLM", LLAMA | {"n_routed_experts": 4,
                    "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
                    "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 16,
                    "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
                    "v_head_dim": 8, "num_key_value_heads": 4}, ids),
    "detr": ("DetrForObjectDetection", {"backbone_config": {"model_type": "resnet"} | STAGES
             | {"out_features": ["stage4"]}, "d_model": WIDTH, "encoder_layers": 1,
             "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
             "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "num_queries": 5}, pixels),
    "dinov3": ("DINOv3ViTModel", IMAGES, pixels),
    "encodec": ("EncodecModel", {"num_filters": 4, "hidden_size": 16, "codebook_size": 8,
                "codebook_dim": 16, "num_lstm_layers": 2, "upsampling_ratios": [2, 2]}, channel),
    "fnet": ("FNetForMaskedLM", BERT, ids),
    "gpt-oss": ("GptOssForCausalLM", LLAMA | {"head_dim": 8, "num_local_experts": 4,
                "num_experts_per_tok": 2, "sliding_window": 8}, ids),
    "jamba": ("JambaForCausalLM", LLAMA | EXPERTS | {"attn_layer_period": 2,
              "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
              "mamba_d_state": 8, "use_mamba_kernels": False}, ids),
    "llama4": ("Llama4ForCausalLM", LLAMA | {"head_dim": 8, "num_local_experts": 4,
               "intermediate_size_mlp": INNER, "num_experts_per_tok": 1}, ids),
    "mamba2": ("Mamba2ForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
               "num_hidden_layers": LAYERS, "state_size": 8, "num_heads": 8, "head_dim": 8,
               "n_groups": 2, "chunk_size": 8} | NO_TOKENS, ids),
    "mobilenet-v2": ("MobileNetV2ForImageClassification", {"image_size": SIZE,
                     "depth_multiplier": 0.35}, pixels),
    "mobilevit": ("MobileViTForImageClassification", {"image_size": SIZE,
                  "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16]},
                  pixels),
    "poolformer": ("PoolFormerForImageClassification", {"hidden_sizes": [8, 16, 24, 32],
                   "depths": [1, 1, 1, 1]}, pixels),
    "qwen3-moe": ("Qwen3MoeForCausalLM", LLAMA | EXPERTS | {"head_dim": 8,
                  "moe_intermediate_size": 16}, ids),
    "recurrent-gemma": ("RecurrentGemmaForCausalLM", LLAMA | {"lru_width": WIDTH,
                        "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
                        ids),
    "regnet": ("RegNetForImageClassification", STAGES | {"groups_width": 4}, pixels),
    "rwkv": ("RwkvForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
             "num_hidden_layers": LAYERS, "context_length": 64, "attention_hidden_size": WIDTH,
             "intermediate_size": INNER} | NO_TOKENS, ids),
    "speecht5": ("SpeechT5ForSpeechToText", SOUND | CONVOLUTIONS | {"encoder_layers": LAYERS,
                 "decoder_layers": LAYERS, "encoder_attention_heads": 4,
                 "decoder_attention_heads": 4, "encoder_ffn_dim": INNER,
                 "decoder_ffn_dim": INNER, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
                 | NO_TOKENS, dictation),
    "squeezebert": ("SqueezeBertForMaskedLM", BERT | {"embedding_size": WIDTH}, ids),
    "switch": ("SwitchTransformersForConditionalGeneration", T5 | {"num_experts": 4,
               "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}, pairs),
    "time-series": ("TimeSeriesTransformerModel", {"prediction_length": PREDICTED,
                    "context_length": 8, "lags_sequence": [1, 2], "d_model": 16,
                    "encoder_layers": 1, "decoder_layers": 1, "encoder_layerdrop": 0.0,
                    "decoder_layerdrop": 0.0}, series),
    "timesformer": ("TimesformerForVideoClassification", IMAGES | {"num_frames": 4}, frames),
    "videomae": ("VideoMAEForVideoClassification", IMAGES | {"num_frames": 4}, frames),
    "xlnet": ("XLNetLMHeadModel", {"vocab_size": VOCABULARY, "d_model": WIDTH,
              "n_layer": LAYERS, "n_head": 4, "d_inner": INNER}, ids),
}  # fmt: skip

# With a token for padding these look whether it is among the input, which meta can't tell.
UNPADDED = ("deberta", "deberta-v2")

ARCHITECTURES = common.ARCHITECTURES | MORE
for name in UNPADDED:
    kind, sizes, call = ARCHITECTURES[name]
    ARCHITECTURES[name] = kind, sizes | {"pad_token_id": None}, call

# Whose code asks for values of tensors, which there are none of on meta, and for which.
NEEDS_VALUES = {
    "bart": "whether all of a mask is set",
    "bigbird": "whether all of a mask is set",
    "detr": "whether all of a mask is set",
    "encodec": "the length of its padding",
    "roformer": "whether all of a mask is set",
    "squeezebert": "whether all of a mask is set",
    "switch": "which expert each token goes to",
    "xlnet": "its table of positions, made on the CPU",
}

# Whose weights are changed in place by a forward in eval mode, after which no backward runs.
NO_BACKWARD_IN_EVAL = {"rwkv": "it rescales its weights in eval mode"}


def devices(name: str) -> tuple[str, ...]:
    """Where this architecture can run."""
    return ("cpu",) if name in NEEDS_VALUES else ("meta", "cpu")


def build(name: str, device: str) -> nn.Module:
    """The architecture of this name, small, with its attention as it is by default."""
    kind = getattr(transformers, ARCHITECTURES[name][0])
    return on(device, kind, kind.config_class(**ARCHITECTURES[name][1]))


def inputs(name: str, device: str) -> dict[str, Tensor]:
    """What this architecture is called with: zeros, where there are values."""
    made = ARCHITECTURES[name][2]()
    return {key: torch.zeros_like(value, device=device) for key, value in made.items()}
