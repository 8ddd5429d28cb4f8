"""Transformers' models of images and text, and those of images, sound and detection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import (
    meta_transformers_detection,
    meta_transformers_sound,
    meta_transformers_vision,
)
from benchmarks.meta_entry import Entry
from benchmarks.meta_transformers import Call, entry, ids
from benchmarks.meta_transformers_causal import rope

WORDS = 64


def prompt(image_token: int, places: int) -> Tensor:
    """Token ids: an image's places, which its features are put into, then words."""
    return torch.tensor([[image_token] * places + [5] * WORDS])


def kinds(places: int) -> Tensor:
    """Which of these tokens are an image's (1) and which words (0)."""
    return (prompt(1, places) == 1).long()


def seeing(name: str, kind: str, sizes: dict[str, Any], call: Call, **more: Any) -> Entry:
    """A model of images and text."""
    return entry("images and text", name, kind, sizes, call, **more)


def patches(side: int, width: int, places: int) -> dict[str, Any]:
    """A square image for Qwen, as patches: `side` by `side` of them, of so many values each."""
    return {
        "input_ids": prompt(151655, places),
        "mm_token_type_ids": kinds(places),
        "pixel_values": (side * side, width),
        "image_grid_thw": torch.tensor([[1, side, side]]),
        "use_cache": False,
    }


def cross_attended() -> dict[str, Any]:
    """An image of one tile for Llama 3.2, which each word of the text sees."""
    return {
        "input_ids": prompt(128256, 1),
        "pixel_values": (1, 1, 4, 3, 448, 448),
        "aspect_ratio_ids": torch.tensor([[1]]),
        "aspect_ratio_mask": torch.tensor([[[1, 0, 0, 0]]]),
        "cross_attention_mask": torch.tensor([1, 0, 0, 0]).expand(1, WORDS + 1, 1, 4).clone(),
        "use_cache": False,
    }


LLAMA_3_8B = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192,
} | rope(500000.0)  # fmt: skip
SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "patch_size": 14,
}  # fmt: skip

SEEING = (
    seeing("clip-vit-large-patch14", "CLIPModel", {
        "text_config": {"hidden_size": 768, "intermediate_size": 3072,
                        "num_attention_heads": 12, "projection_dim": 768},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096,
                          "num_hidden_layers": 24, "num_attention_heads": 16,
                          "patch_size": 14, "projection_dim": 768},
        "projection_dim": 768,
    }, lambda: {"input_ids": ids(2, 77), "pixel_values": (1, 3, 224, 224)}),
    seeing("siglip-so400m-patch14-384", "SiglipModel", {
        "text_config": {"hidden_size": 1152, "intermediate_size": 4304,
                        "num_hidden_layers": 27, "num_attention_heads": 16,
                        "projection_size": 1152},
        "vision_config": SO400M | {"image_size": 384},
    }, lambda: {"input_ids": ids(2, 64), "pixel_values": (1, 3, 384, 384)}),
    seeing("blip-image-captioning-large", "BlipForConditionalGeneration", {
        "text_config": {"num_attention_heads": 12, "encoder_hidden_size": 1024},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096,
                          "num_hidden_layers": 24, "num_attention_heads": 16},
    }, lambda: {"input_ids": ids(1, 32), "pixel_values": (1, 3, 384, 384)}),
    seeing("blip2-opt-2.7b", "Blip2ForConditionalGeneration", {
        "text_config": {"model_type": "opt", "vocab_size": 50304, "hidden_size": 2560,
                        "num_hidden_layers": 32, "ffn_dim": 10240,
                        "word_embed_proj_dim": 2560, "num_attention_heads": 32},
        "image_token_index": 50265,
    }, lambda: {"input_ids": prompt(50265, 32), "pixel_values": (1, 3, 224, 224)}),
    seeing("llava-1.5-7b-hf", "LlavaForConditionalGeneration", {
        "text_config": {"model_type": "llama", "vocab_size": 32064,
                        "max_position_embeddings": 4096},
    }, lambda: {"input_ids": prompt(32000, 576), "pixel_values": (1, 3, 336, 336),
                "use_cache": False}),
    seeing("pixtral-12b", "LlavaForConditionalGeneration", {
        "vision_config": {"model_type": "pixtral"} | rope(10000.0),
        "text_config": {"model_type": "mistral", "vocab_size": 131072, "hidden_size": 5120,
                        "num_hidden_layers": 40, "head_dim": 128,
                        "max_position_embeddings": 1024000,
                        "sliding_window": None} | rope(1000000000.0),
        "image_token_index": 10, "vision_feature_select_strategy": "full",
        "vision_feature_layer": -1, "image_seq_length": 1,
    }, lambda: {"input_ids": prompt(10, 1024), "pixel_values": (1, 3, 512, 512),
                "image_sizes": torch.tensor([[512, 512]]), "use_cache": False}),
    seeing("paligemma-3b-pt-224", "PaliGemmaForConditionalGeneration", {
        "vision_config": SO400M | {"model_type": "siglip_vision_model", "image_size": 224,
                                   "projection_dim": 2048, "vision_use_head": False},
        "text_config": {"model_type": "gemma", "vocab_size": 257216, "hidden_size": 2048,
                        "intermediate_size": 16384, "num_hidden_layers": 18,
                        "num_attention_heads": 8, "num_key_value_heads": 1},
        "image_token_index": 257152,
    }, lambda: {"input_ids": prompt(257152, 256), "pixel_values": (1, 3, 224, 224),
                "use_cache": False}),
    seeing("gemma-3-4b-it", "Gemma3ForConditionalGeneration", {
        "vision_config": SO400M | {"image_size": 896, "vision_use_head": False},
        "text_config": {
            "model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 2560,
            "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0,
                                   "factor": 8.0},
            },
        },
    }, lambda: {"input_ids": prompt(262144, 256), "token_type_ids": kinds(256),
                "pixel_values": (1, 3, 896, 896), "use_cache": False}),
    seeing("Qwen2-VL-7B-Instruct", "Qwen2VLForConditionalGeneration", {
        "text_config": {"hidden_size": 3584, "intermediate_size": 18944,
                        "num_hidden_layers": 28, "num_attention_heads": 28,
                        "num_key_value_heads": 4}
        | rope(1000000.0, mrope_section=[16, 24, 24]),
    }, lambda: patches(32, 1176, 256)),
    seeing("Qwen2.5-VL-7B-Instruct", "Qwen2_5_VLForConditionalGeneration", {
        "text_config": {"hidden_size": 3584, "intermediate_size": 18944,
                        "num_hidden_layers": 28, "num_attention_heads": 28,
                        "num_key_value_heads": 4, "max_position_embeddings": 128000}
        | rope(1000000.0, mrope_section=[16, 24, 24]),
        "vision_config": {"hidden_size": 1280},
    }, lambda: patches(32, 1176, 256)),
    seeing("Qwen3-VL-8B-Instruct", "Qwen3VLForConditionalGeneration", {
        "text_config": {"intermediate_size": 12288, "num_hidden_layers": 36,
                        "num_key_value_heads": 8, "max_position_embeddings": 262144}
        | rope(5000000.0, mrope_section=[24, 20, 20], mrope_interleaved=True),
        "vision_config": {"out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]},
    }, lambda: patches(32, 1536, 256)),
    seeing("Llama-4-Scout-17B-16E", "Llama4ForConditionalGeneration", {
        "vision_config": {"hidden_size": 1408, "vision_output_dim": 4096, "image_size": 336},
    }, lambda: {"input_ids": prompt(200092, 144), "pixel_values": (1, 3, 336, 336),
                "use_cache": False}),
    seeing("Llama-3.2-11B-Vision", "MllamaForConditionalGeneration", {}, cross_attended),
    # Its images have values, for those that are all zeros are taken for padding.
    seeing("Idefics3-8B-Llama3", "Idefics3ForConditionalGeneration", {
        "vision_config": SO400M | {"image_size": 364},
        "text_config": LLAMA_3_8B | {"vocab_size": 128259, "pad_token_id": 128002},
        "image_token_id": 128257,
    }, lambda: {"input_ids": prompt(128257, 169),
                "pixel_values": torch.ones(1, 1, 3, 364, 364), "use_cache": False}),
    seeing("InternVL3-8B-hf", "InternVLForConditionalGeneration", {
        "vision_config": {"attention_bias": True},
        "text_config": {"model_type": "qwen2", "vocab_size": 151674, "hidden_size": 3584,
                        "intermediate_size": 18944, "num_hidden_layers": 28,
                        "num_attention_heads": 28, "num_key_value_heads": 4,
                        "tie_word_embeddings": False},
        "image_token_id": 151667, "tie_word_embeddings": False,
    }, lambda: {"input_ids": prompt(151667, 256), "pixel_values": (1, 3, 448, 448),
                "use_cache": False}),
    seeing("Florence-2-large", "Florence2ForConditionalGeneration", {
        "vision_config": {"embed_dim": [256, 512, 1024, 2048], "num_heads": [8, 16, 32, 64],
                          "num_groups": [8, 16, 32, 64]},
        "text_config": {"model_type": "bart", "vocab_size": 51328,
                        "max_position_embeddings": 4096},
        "image_token_id": 51289,
    }, lambda: {"input_ids": prompt(51289, 577), "decoder_input_ids": ids(1, 32),
                "pixel_values": (1, 3, 768, 768), "use_cache": False}),
    seeing("kosmos-2-patch14-224", "Kosmos2ForConditionalGeneration", {}, lambda: {
        "input_ids": prompt(4, 64), "pixel_values": (1, 3, 224, 224),
        "image_embeds_position_mask": kinds(64), "use_cache": False,
    }),
    seeing("vilt-b32-finetuned-vqa", "ViltForQuestionAnswering", {"num_labels": 3129}, lambda: {
        "input_ids": ids(1, 40), "pixel_values": (1, 3, 384, 384),
        "pixel_mask": torch.ones(1, 384, 384, dtype=torch.long),
    }),
    seeing("layoutlmv3-large", "LayoutLMv3ForTokenClassification", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "max_position_embeddings": 514, "type_vocab_size": 1,
        "coordinate_size": 171, "shape_size": 170,
    }, lambda: {"input_ids": ids(1, 512), "bbox": ids(1, 512, 4),
                "pixel_values": (1, 3, 224, 224)}),
    seeing("flava-full", "FlavaModel", {}, lambda: {
        "input_ids": ids(1, 77), "pixel_values": (1, 3, 224, 224),
    }),
    seeing("pix2struct-base", "Pix2StructForConditionalGeneration", {}, lambda: {
        "flattened_patches": (1, 2048, 770), "decoder_input_ids": ids(1, 128),
        "use_cache": False,
    }),
    seeing("Qwen2-Audio-7B", "Qwen2AudioForConditionalGeneration", {
        "text_config": {"model_type": "qwen2", "vocab_size": 156032,
                        "intermediate_size": 11008, "max_position_embeddings": 8192},
    }, lambda: {"input_ids": prompt(151646, 750), "input_features": (1, 128, 3000),
                "feature_attention_mask": torch.ones(1, 3000, dtype=torch.long),
                "use_cache": False}),
)  # fmt: skip

ENTRIES: tuple[Entry, ...] = (
    SEEING
    + meta_transformers_vision.ENTRIES
    + meta_transformers_detection.ENTRIES
    + meta_transformers_sound.ENTRIES
)
