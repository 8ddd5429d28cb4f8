"""Targets of torchvision, timm and transformers: what is built, and its default inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision

from flopdispatch import count, on_meta
from tests.cli.counted import counted

NOTE = "flopdispatch: note: inputs of {}: {}\n"

TORCHVISION = (
    ("resnet18", "1x3x224x224:float32"),
    ("inception_v3", "1x3x299x299:float32"),
    ("googlenet", "1x3x224x224:float32"),
    ("quantized_mobilenet_v2", "1x3x224x224:float32"),
    ("efficientnet_b3", "1x3x300x300:float32"),
    ("vit_h_14", "1x3x518x518:float32"),
    ("lraspp_mobilenet_v3_large", "1x3x520x520:float32"),
    ("fcn_resnet50", "1x3x520x520:float32"),
    ("r3d_18", "1x3x16x112x112:float32"),
    ("mvit_v2_s", "1x3x16x224x224:float32"),
    ("raft_small", "1x3x512x512:float32, 1x3x512x512:float32"),
    ("ssdlite320_mobilenet_v3_large", "[3x320x320:float32]"),
)


@pytest.mark.parametrize(("name", "inputs"), TORCHVISION, ids=[name for name, _ in TORCHVISION])
def test_torchvision_models_are_those_that_are_published(
    name: str, inputs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = counted(f"torchvision:{name}")
    assert capsys.readouterr().err == NOTE.format(f"torchvision:{name}", inputs)
    weights = torchvision.models.get_model_weights(name.removeprefix("quantized_")).DEFAULT
    assert profile.params == weights.meta["num_params"]
    assert profile.comparable_flops / 2e9 == pytest.approx(weights.meta["_ops"], abs=0.0006)
    assert profile.uncounted == {}


def test_detectors_learn_from_images_with_objects(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"):
        phases = counted(f"torchvision:{name}", "--train", "--backward", "--size", "300").by_phase()
        assert {"forward", "backward"} <= set(phases)
        inputs = capsys.readouterr().err
        assert "[3x300x300:float32, 3x300x300:float32], [{boxes: 2x4:float32, labels: 2:" in inputs


TIMM = (
    "vit_tiny_patch16_224",
    "vit_base_patch16_384.augreg_in21k_ft_in1k",
    "convnext_atto",
    "efficientnet_b0",
    "mixer_s32_224",
    "swin_tiny_patch4_window7_224",
    "regnety_002",
    "xception41",
    "levit_128s",
    "efficientformer_l1",
    "ghostnet_100",
    "naflexvit_base_patch16_gap",
)


@pytest.mark.parametrize("name", TIMM)
def test_timm_models_have_the_size_that_their_configuration_names(name: str) -> None:
    profile = counted(f"timm:{name}")
    shape = timm.models.get_pretrained_cfg(name).input_size
    model = on_meta(timm.create_model, name).eval()
    assert profile.total == count(model, (1, *shape)).total
    assert profile.params == sum(parameter.numel() for parameter in model.parameters())


def test_what_a_model_is_built_with_changes_its_default_inputs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for target, kwargs, inputs in (
        ("torchvision:vit_b_16", {"image_size": 64}, "1x3x64x64:float32"),
        ("timm:vit_tiny_patch16_224", {"img_size": 64}, "1x3x64x64:float32"),
        ("timm:resnet18", {"in_chans": 1}, "1x1x224x224:float32"),
    ):
        counted(target, "--kwargs", json.dumps(kwargs))
        assert capsys.readouterr().err == NOTE.format(target, inputs)


def test_sizes_replace_those_of_default_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    for options, inputs in (
        (["--batch", "4"], "4x3x224x224:float32"),
        (["--size", "64"], "1x3x64x64:float32"),
        (["--size", "64x96", "--dtype", "bf16"], "1x3x64x96:bfloat16"),
    ):
        counted("torchvision:resnet18", *options)
        assert capsys.readouterr().err == NOTE.format("torchvision:resnet18", inputs)


# Of transformers' configurations: their values, what they are called with, the class.
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
FEED = {"intermediate_size": 128}
CAUSAL = {**SMALL, **FEED, "vocab_size": 100, "num_key_value_heads": 2}
VISION = {**SMALL, **FEED, "image_size": 64, "patch_size": 16}
TEXT = {**SMALL, **FEED, "vocab_size": 100, "max_position_embeddings": 77}
SOUND = {**SMALL, **FEED, "conv_dim": [32, 32], "conv_stride": [5, 2], "conv_kernel": [10, 3],
         "num_feat_extract_layers": 2}  # fmt: skip
SEQ2SEQ = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
           "decoder_ffn_dim": 64, "encoder_attention_heads": 4,
           "decoder_attention_heads": 4}  # fmt: skip
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4}
IDS, WRITTEN = "input_ids=1x128:int64", "decoder_input_ids=1x128:int64"
PIXELS = "pixel_values=1x3x64x64:float32"

TRANSFORMERS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("gpt2", "GPT2LMHeadModel", {"n_layer": 1, "n_embd": 64, "n_head": 4}, IDS),
    ("llama", "LlamaForCausalLM", CAUSAL, IDS),
    ("mistral", "MistralForCausalLM", CAUSAL, IDS),
    ("qwen2", "Qwen2ForCausalLM", CAUSAL, IDS),
    ("qwen3", "Qwen3ForCausalLM", CAUSAL, IDS),
    ("gemma2", "Gemma2ForCausalLM", {**CAUSAL, "head_dim": 16}, IDS),
    ("phi3", "Phi3ForCausalLM", {**CAUSAL, "pad_token_id": 0}, IDS),
    ("opt", "OPTForCausalLM", {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 64}, IDS),
    ("falcon", "FalconForCausalLM", {**SMALL, "vocab_size": 100}, IDS),
    ("mamba", "MambaForCausalLM", {"num_hidden_layers": 1, "hidden_size": 64}, IDS),
    ("bert", "BertForMaskedLM", {**SMALL, **FEED}, IDS),
    ("roberta", "RobertaForSequenceClassification", {**SMALL, **FEED}, IDS),
    ("deberta-v2", "DebertaV2Model", {**SMALL, **FEED}, IDS),
    ("distilbert", "DistilBertModel", {"n_layers": 1, "dim": 64, "n_heads": 4}, IDS),
    ("t5", "T5ForConditionalGeneration", T5, f"{IDS}, {WRITTEN}"),
    ("t5", "T5EncoderModel", T5, IDS),
    ("bart", "BartForConditionalGeneration", SEQ2SEQ, f"{IDS}, {WRITTEN}"),
    ("marian", "MarianMTModel", SEQ2SEQ, f"{IDS}, {WRITTEN}"),
    ("vit", "ViTForImageClassification", VISION, PIXELS),
    ("beit", "BeitModel", VISION, PIXELS),
    ("dinov2", "Dinov2Model", VISION, PIXELS),
    ("resnet", "ResNetForImageClassification", {}, "pixel_values=1x3x224x224:float32"),
    ("swin", "SwinModel", {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 2],
                           "image_size": 56}, "pixel_values=1x3x56x56:float32"),
    ("videomae", "VideoMAEModel", {**VISION, "num_frames": 4},
     "pixel_values=1x4x3x64x64:float32"),
    ("segformer", "SegformerForSemanticSegmentation", {},
     "pixel_values=1x3x224x224:float32"),
    ("whisper", "WhisperForConditionalGeneration", SEQ2SEQ,
     f"input_features=1x80x3000:float32, {WRITTEN}"),
    ("speech_to_text", "Speech2TextForConditionalGeneration", SEQ2SEQ,
     f"input_features=1x1000x80:float32, {WRITTEN}"),
    ("wav2vec2", "Wav2Vec2ForCTC", SOUND, "input_values=1x160000:float32"),
    ("audio-spectrogram-transformer", "ASTForAudioClassification", {**SMALL, **FEED},
     "input_values=1x1024x128:float32"),
    ("encodec", "EncodecModel", {}, "input_values=1x1x24000:float32"),
    ("clip", "CLIPModel", {"text_config": TEXT, "vision_config": VISION},
     f"input_ids=1x77:int64, {PIXELS}"),
    ("siglip", "SiglipModel", {"text_config": {**TEXT, "max_position_embeddings": 64,
                                               "projection_size": 64}, "vision_config": VISION},
     f"input_ids=1x64:int64, {PIXELS}"),
    ("clap", "ClapModel", {}, "input_ids=1x128:int64, input_features=1x1x1001x64:float32"),
    # An image of 4 x 4 patches takes 16 places of the text.
    ("llava", "LlavaForConditionalGeneration",
     {"text_config": {**CAUSAL, "model_type": "llama"}, "image_token_index": 32,
      "vision_config": {**VISION, "model_type": "clip_vision_model", "projection_dim": 64}},
     f"input_ids=1x144:int64, {PIXELS}"),
    # Its images come as patches, which their sizes alone don't make: text.
    ("qwen2_vl", "Qwen2VLForConditionalGeneration", {"text_config": {**CAUSAL, "rope_parameters": {
        "rope_type": "default", "mrope_section": [2, 3, 3]}}}, IDS),
    ("layoutlmv3", "LayoutLMv3Model", {**SMALL, **FEED, "coordinate_size": 12, "shape_size": 8,
                                       "input_size": 64, "image_size": 64},
     f"{IDS}, pixel_values=1x3x64x64:float32, bbox=1x128x4:int64"),
    ("vision-encoder-decoder", "VisionEncoderDecoderModel",
     {"encoder": {**VISION, "model_type": "vit"},
      "decoder": {**TEXT, "model_type": "bert", "is_decoder": True, "add_cross_attention": True,
                  "max_position_embeddings": 128}},
     f"{PIXELS}, {WRITTEN}"),
    ("patchtst", "PatchTSTForPrediction", {"context_length": 64, "num_input_channels": 7},
     "past_values=1x64x7:float32"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "kind", "values", "inputs"), TRANSFORMERS, ids=[row[1] for row in TRANSFORMERS]
)
def test_transformers_models_are_called_with_what_their_configuration_says(
    model_type: str,
    kind: str,
    values: dict[str, Any],
    inputs: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": model_type, "architectures": [kind], **values}))
    profile = counted(f"hf:{file}")
    assert capsys.readouterr().err == NOTE.format(f"hf:{file}", inputs)
    assert profile.macs > 0
    assert profile.uncounted == {}
    assert profile.root.children[0].module_type == kind


def config(folder: Path, **values: Any) -> str:
    """The target of a configuration file with these values."""
    (folder / "config.json").write_text(json.dumps(values))
    return f"hf:{folder}"


def test_a_configuration_without_a_class_is_taken_for_its_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model_type, kind in (("llama", "LlamaForCausalLM"), ("bert", "BertForMaskedLM")):
        profile = counted(config(tmp_path, model_type=model_type, **CAUSAL))
        assert profile.root.children[0].module_type == kind
        told = f"config.json names no class that transformers has: {kind} it is\n"
        assert told in capsys.readouterr().err


def test_that_weights_are_quantized_is_left_out_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **CAUSAL}
    plain = counted(config(tmp_path, **values, torch_dtype="bfloat16"))
    assert "quantization_config" not in capsys.readouterr().err
    quantized = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    profile = counted(
        config(tmp_path, **values, torch_dtype="bfloat16", quantization_config=quantized)
    )
    assert "which is left out: bytes are of whole weights" in capsys.readouterr().err
    assert profile.total == plain.total


def test_entries_of_a_configuration_are_replaced_nested_ones_too(tmp_path: Path) -> None:
    target = config(
        tmp_path, model_type="clip", architectures=["CLIPModel"], text_config=TEXT,
        vision_config=VISION,
    )  # fmt: skip
    fewer = json.dumps({"text_config": {"num_hidden_layers": 1}})
    # A layer: q, k, v and out with biases, two feed-forwards with biases, two norms.
    layer = 4 * (64 * 64 + 64) + (64 * 128 + 128) + (128 * 64 + 64) + 2 * 2 * 64
    assert counted(target).params - counted(target, "--kwargs", fewer).params == layer
    named = counted(target, "--kwargs", '{"architectures": ["CLIPTextModel"]}')
    assert named.root.children[0].module_type == "CLIPTextModel"


def test_given_inputs_are_all_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = config(tmp_path, model_type="llama", architectures=["LlamaForCausalLM"], **CAUSAL)
    by_name = counted(target, "--input", "input_ids=1x16:long")
    assert by_name.total == counted(target, "--input", "1x16:long").total
    assert by_name.total == counted(target, "--input", "2x16:int64", "--batch", "1").total
    assert capsys.readouterr().err == ""  # they are known
    assert by_name.total == counted(target, "--seq", "16").total


def test_a_target_counts_as_count_does() -> None:
    model = on_meta(torchvision.models.resnet18)
    whole = count(model.train(), (4, 3, 224, 224), backward=True)
    assert counted("torchvision:resnet18", "--train", "--backward", "--batch", "4") == whole
    assert counted("torchvision:resnet18").total == count(model.eval(), (1, 3, 224, 224)).total


def test_a_model_runs_on_a_real_device_as_on_meta(tmp_path: Path) -> None:
    target = config(tmp_path, model_type="bert", architectures=["BertModel"], **TEXT)
    on_cpu = counted(target, "--device", "cpu", "--seq", "8")
    assert on_cpu.macs == counted(target, "--seq", "8").macs
    assert on_cpu.macs == macs_of_text(8)


def macs_of_text(tokens: int) -> int:
    """MACs of two layers of 64: projections, scores and values, feed-forward; and the pooler."""
    layer = 4 * 64 * 64 + 2 * tokens * 64 + 2 * 64 * 128
    return 2 * tokens * layer + 64 * 64


def test_images_are_in_the_dtype_of_the_model(tmp_path: Path) -> None:
    target = config(tmp_path, model_type="vit", architectures=["ViTModel"], **VISION)
    profile = counted(target, "--dtype", "bfloat16")
    convolutions = [call for call in profile.calls if "convolution" in str(call.overload)]
    assert {call.args[0].dtype for call in convolutions} == {torch.bfloat16}
