"""Small models of transformers on meta, one of each architecture, from their configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.language import on

BATCH, T, FRAMES, SIZE = 2, 12, 100, 64  # sequences, tokens, audio frames, pixels a side
VOCABULARY, WIDTH, INNER, LAYERS, HEADS = 128, 32, 64, 2, 4

Inputs = Callable[[], dict[str, Tensor]]


def ids() -> dict[str, Tensor]:
    """Tokens."""
    return {"input_ids": torch.zeros(BATCH, T, dtype=torch.long, device="meta")}


def pairs() -> dict[str, Tensor]:
    """Tokens for an encoder and a decoder."""
    return ids() | {"decoder_input_ids": ids()["input_ids"]}


def pixels() -> dict[str, Tensor]:
    """Images."""
    return {"pixel_values": torch.empty(BATCH, 3, SIZE, SIZE, device="meta")}


def captions() -> dict[str, Tensor]:
    """Images and their texts."""
    return ids() | pixels()


def wave() -> dict[str, Tensor]:
    """Sound."""
    return {"input_values": torch.empty(BATCH, 1600, device="meta")}


def spectrum() -> dict[str, Tensor]:
    """Sound by frequency, with a text."""
    features = torch.empty(BATCH, 80, FRAMES, device="meta")
    return {"input_features": features, "decoder_input_ids": ids()["input_ids"]}


NO_TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
BERT = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "intermediate_size": INNER, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA = BERT | {"num_key_value_heads": 2} | NO_TOKENS
IMAGES = {
    "image_size": SIZE, "patch_size": 16, "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "intermediate_size": INNER,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "encoder_layers": LAYERS,
    "decoder_layers": LAYERS, "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "max_position_embeddings": 64,
} | NO_TOKENS  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": INNER, "num_layers": LAYERS,
    "num_heads": HEADS, "decoder_start_token_id": 0,
} | NO_TOKENS  # fmt: skip
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
SOUND = BERT | CONVOLUTIONS | {
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "layerdrop": 0.0,
}  # fmt: skip

# Class of the model, sizes of its configuration, what it is called with.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], Inputs]] = {
    "bert": ("BertForMaskedLM", BERT, ids),
    "roberta": ("RobertaForMaskedLM", BERT, ids),
    "albert": ("AlbertForMaskedLM", BERT | {"embedding_size": 16}, ids),
    "electra": ("ElectraForPreTraining", BERT | {"embedding_size": 16}, ids),
    "deberta": ("DebertaForMaskedLM", BERT | {"relative_attention": True,
                "pos_att_type": ["c2p", "p2c"]}, ids),
    "deberta-v2": ("DebertaV2ForMaskedLM", BERT | {"relative_attention": True,
                   "pos_att_type": ["c2p", "p2c"]}, ids),
    "distilbert": ("DistilBertForMaskedLM", {"vocab_size": VOCABULARY, "dim": WIDTH,
                   "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}, ids),
    "mpnet": ("MPNetForMaskedLM", BERT, ids),
    "roformer": ("RoFormerForMaskedLM", BERT, ids),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS,
             "n_head": HEADS, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}, ids),
    "gpt-neo": ("GPTNeoForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
                "num_layers": LAYERS, "num_heads": HEADS, "window_size": 8,
                "attention_types": [[["global", "local"], 1]]} | NO_TOKENS, ids),
    "gpt-neox": ("GPTNeoXForCausalLM", BERT | NO_TOKENS, ids),
    "gptj": ("GPTJForCausalLM", {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS,
             "n_head": HEADS, "rotary_dim": 4, "n_positions": 64} | NO_TOKENS, ids),
    "llama": ("LlamaForCausalLM", LLAMA, ids),
    "mistral": ("MistralForCausalLM", LLAMA | {"sliding_window": 8}, ids),
    "mixtral": ("MixtralForCausalLM", LLAMA, ids),
    "qwen2": ("Qwen2ForCausalLM", LLAMA, ids),
    "qwen3": ("Qwen3ForCausalLM", LLAMA | {"head_dim": 8}, ids),
    "gemma": ("GemmaForCausalLM", LLAMA | {"head_dim": 8}, ids),
    "gemma2": ("Gemma2ForCausalLM", LLAMA | {"head_dim": 8}, ids),
    "phi": ("PhiForCausalLM", LLAMA, ids),
    "phi3": ("Phi3ForCausalLM", LLAMA, ids),
    "olmo": ("OlmoForCausalLM", LLAMA, ids),
    "opt": ("OPTForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "ffn_dim": INNER,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "word_embed_proj_dim": WIDTH, "max_position_embeddings": 64} | NO_TOKENS, ids),
    "bloom": ("BloomForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
              "n_layer": LAYERS, "n_head": HEADS} | NO_TOKENS, ids),
    "falcon": ("FalconForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
               "num_hidden_layers": LAYERS, "num_attention_heads": HEADS} | NO_TOKENS, ids),
    "mamba": ("MambaForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": WIDTH,
              "num_hidden_layers": LAYERS, "state_size": 8} | NO_TOKENS, ids),
    "t5": ("T5ForConditionalGeneration", T5, pairs),
    "bart": ("BartForConditionalGeneration", BART, pairs),
    "whisper": ("WhisperForConditionalGeneration", BART | {"max_source_positions": FRAMES // 2,
                "max_target_positions": 64, "decoder_start_token_id": 0}, spectrum),
    "wav2vec2": ("Wav2Vec2ForCTC", SOUND, wave),
    "hubert": ("HubertForCTC", SOUND, wave),
    "vit": ("ViTForImageClassification", IMAGES, pixels),
    "deit": ("DeiTForImageClassification", IMAGES, pixels),
    "beit": ("BeitForImageClassification", IMAGES, pixels),
    "dinov2": ("Dinov2ForImageClassification", IMAGES, pixels),
    "swin": ("SwinForImageClassification", {"image_size": SIZE, "patch_size": 4, "embed_dim": 16,
             "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}, pixels),
    "convnext": ("ConvNextForImageClassification", {"depths": [1, 1, 2, 1],
                 "hidden_sizes": [8, 16, 24, 32]}, pixels),
    "segformer": ("SegformerForSemanticSegmentation", {"depths": [1, 1, 1, 1],
                  "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 2, 4],
                  "decoder_hidden_size": 16}, pixels),
    "clip": ("CLIPModel", {"text_config": BERT | NO_TOKENS, "vision_config": IMAGES,
             "projection_dim": 16}, captions),
    "siglip": ("SiglipModel", {"text_config": BERT | NO_TOKENS, "vision_config": IMAGES},
               captions),
}  # fmt: skip


def build(name: str) -> nn.Module:
    """The architecture of this name, small, on meta."""
    kind = getattr(transformers, ARCHITECTURES[name][0])
    return on("meta", kind, kind.config_class(**ARCHITECTURES[name][1]))


def inputs(name: str) -> dict[str, Tensor]:
    """What this architecture is called with."""
    return ARCHITECTURES[name][2]()
