"""Models whose course follows from their inputs' values: real ones on meta are as on the CPU."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor, nn

from flopdispatch import DataDependentError, count, on_meta, spec
from tests.versions import needs_torch
from tests.zoo.modules import own_macs

WIDTH, INNER, IMAGE = 64, 96, 150  # of a text's model; the id of a place for an image

TEXT = {
    "vocab_size": 200, "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
IDS = {"image_token_id": IMAGE, "video_token_id": 151, "vision_start_token_id": 152,
       "vision_end_token_id": 153}  # fmt: skip


class Case(NamedTuple):
    """A model of transformers by its class and sizes, and inputs with values."""

    kind: str
    sizes: dict[str, Any]
    inputs: dict[str, Any]


def prompt(*places: int) -> Tensor:
    """Words, and so many places for each of some images."""
    ids = [3, 4]
    for number in places:
        ids += [IMAGE] * number + [5] * 3
    return torch.tensor([ids])


def patches(width: int) -> dict[str, Any]:
    """Two images of 8 x 12 and 4 x 8 patches, of which each 2 x 2 are one place in the text."""
    ids = prompt(24, 8)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).long(),
        "pixel_values": torch.rand(8 * 12 + 4 * 8, width),
        "image_grid_thw": torch.tensor([[1, 8, 12], [1, 4, 8]]),
    }


def seeing(ids: Tensor, *size: int, **more: Tensor) -> dict[str, Any]:
    """A text, and images of this size."""
    return {"input_ids": ids, "pixel_values": torch.rand(*size), **more}


def padded(*lengths: int, of: int, left: bool = False) -> Tensor:
    """A mask of sequences of these lengths, padded to one length."""
    rows = [torch.arange(of) < length for length in lengths]
    return torch.stack([row.flip(0) if left else row for row in rows]).long()


def words(number: int, length: int) -> Tensor:
    """Random texts without padding."""
    return torch.randint(6, 100, (number, length), generator=torch.Generator().manual_seed(0))


BLANK = torch.cat([torch.rand(1, 2, 3, 64, 64), torch.zeros(1, 1, 3, 64, 64)], 1)

CASES = {
    "qwen2-vl": Case("Qwen2VLForConditionalGeneration", IDS | {
        "text_config": TEXT | {"rope_parameters": ROPE},
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 2,
                          "mlp_ratio": 2},
    }, patches(1176)),
    "qwen2.5-vl": Case("Qwen2_5_VLForConditionalGeneration", IDS | {
        "text_config": TEXT | {"rope_parameters": ROPE},
        "vision_config": {"depth": 3, "hidden_size": 32, "out_hidden_size": WIDTH,
                          "intermediate_size": 48, "num_heads": 2, "window_size": 56,
                          "fullatt_block_indexes": [1]},
    }, patches(1176)),
    "qwen3-vl": Case("Qwen3VLForConditionalGeneration", IDS | {
        "text_config": TEXT | {"rope_parameters": ROPE, "head_dim": 16},
        "vision_config": {"depth": 3, "hidden_size": 32, "out_hidden_size": WIDTH,
                          "intermediate_size": 48, "num_heads": 2, "num_position_embeddings": 64,
                          "deepstack_visual_indexes": [0, 1]},
    }, patches(1536)),
    "llava": Case("LlavaForConditionalGeneration", {
        "text_config": TEXT | {"model_type": "llama"}, "image_token_index": IMAGE,
        "vision_config": SMALL | {"model_type": "clip_vision_model", "image_size": 28,
                                  "patch_size": 14, "projection_dim": 32},
    }, seeing(prompt(4), 1, 3, 28, 28)),
    # Images of 48 x 64 and 32 x 48 pixels, in patches of 16 x 16.
    "pixtral": Case("LlavaForConditionalGeneration", {
        "text_config": TEXT | {"model_type": "mistral"}, "image_token_index": IMAGE,
        "vision_config": SMALL | {"model_type": "pixtral", "image_size": 64, "patch_size": 16,
                                  "head_dim": 16},
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
    }, seeing(prompt(12, 6), 2, 3, 48, 64, image_sizes=torch.tensor([[48, 64], [32, 48]]))),
    # The third of three images is empty, and left out.
    "idefics3": Case("Idefics3ForConditionalGeneration", {
        "text_config": TEXT | {"model_type": "llama"}, "image_token_id": IMAGE,
        "vision_config": SMALL | {"image_size": 64, "patch_size": 16}, "scale_factor": 2,
    }, {"input_ids": prompt(4, 4), "pixel_values": BLANK}),
    "gemma3": Case("Gemma3ForConditionalGeneration", {
        "text_config": TEXT | {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 8},
        "vision_config": SMALL | {"model_type": "siglip_vision_model", "image_size": 56,
                                  "patch_size": 14, "vision_use_head": False},
        "mm_tokens_per_image": 4, "image_token_index": IMAGE,
    }, seeing(prompt(4), 1, 3, 56, 56, token_type_ids=(prompt(4) == IMAGE).long())),
    # The second image is narrower: of its columns of patches the last ones are padding.
    "vilt": Case("ViltModel", SMALL | {
        "vocab_size": 200, "image_size": 64, "patch_size": 16, "max_image_length": -1,
    }, seeing(words(2, 9), 2, 3, 64, 96,
              pixel_mask=padded(96, 64, of=96)[:, None].expand(2, 64, 96).clone())),
    # Of 8 tubes 5 are masked, to be told by the decoder.
    "videomae": Case("VideoMAEForPreTraining", SMALL | {
        "image_size": 32, "patch_size": 16, "num_frames": 4, "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 32,
    }, {"pixel_values": torch.rand(2, 4, 3, 32, 32), "bool_masked_pos": padded(5, 5, of=8) == 1}),
    "modernbert": Case("ModernBertForMaskedLM", SMALL | {
        "vocab_size": 200, "local_attention": 8, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    }, {"input_ids": words(2, 20), "attention_mask": padded(20, 13, of=20)}),
    "mamba2": Case("Mamba2ForCausalLM", {
        "vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8,
    }, {"input_ids": words(2, 20), "attention_mask": padded(20, 13, of=20, left=True)}),
    "perceiver": Case("PerceiverModel", {
        "d_latents": 16, "num_latents": 8, "d_model": 32, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 2, "num_cross_attention_heads": 2,
    }, {"inputs": torch.rand(2, 10, 32), "attention_mask": padded(10, 7, of=10)}),
    "qwen3-next": Case("Qwen3NextForCausalLM", TEXT | {
        "head_dim": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_hidden_layers": 4,
        "shared_expert_intermediate_size": 16,
    }, {"input_ids": words(2, 20), "attention_mask": padded(20, 13, of=20, left=True)}),
}  # fmt: skip
PARAMS = [
    pytest.param(name, marks=needs_torch(2, 15, "grouped products take bfloat16 only"))
    if name == "qwen3-next"
    else name
    for name in CASES
]


def model(case: Case) -> nn.Module:
    """A model in eval mode."""
    kind = getattr(transformers, case.kind)
    torch.manual_seed(0)
    built: nn.Module = kind(kind.config_class(**case.sizes))
    return built.eval()


@pytest.mark.parametrize("name", PARAMS)
def test_with_real_inputs_nothing_is_assumed_and_all_is_as_on_the_cpu(name: str) -> None:
    case = CASES[name]
    meta = count(on_meta(partial(model, case)), strict=True, backward=True, **case.inputs)
    cpu = count(model(case), device="cpu", backward=True, **case.inputs)
    assert meta.assumptions == ()
    assert own_macs(meta) == own_macs(cpu) != Counter()


@pytest.mark.parametrize("name", PARAMS)
def test_without_values_strict_refuses(name: str) -> None:
    case = CASES[name]
    shapes: dict[str, Any] = {key: spec(*x.shape, dtype=x.dtype) for key, x in case.inputs.items()}
    with pytest.raises(DataDependentError, match=r" asks at transformers/\S+\.py:\d+"):
        count(on_meta(partial(model, case)), strict=True, **shapes)


def test_how_many_images_are_empty_decides_what_they_cost() -> None:
    case = CASES["idefics3"]
    built = on_meta(partial(model, case))
    seen = {}
    for images, ids in [(2, prompt(4, 4)), (3, prompt(4, 4, 4))]:
        pixels = torch.rand(1, 3, 3, 64, 64)
        pixels[:, images:] = 0
        profile = count(built, input_ids=ids, pixel_values=pixels, strict=True)
        seen[images] = profile.by_scope()["Idefics3ForConditionalGeneration.model.vision_model"]
    assert 3 * seen[2].macs == 2 * seen[3].macs > 0
