"""Transformers' models of sound, at the sizes of published checkpoints."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.meta_entry import Entry
from benchmarks.meta_transformers import Call, entry, ids
from flopdispatch import Assume

SECONDS = 10
RATE = 16000  # samples a second
LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096,
}  # fmt: skip
# Where every layer of convolutions is normalized, and each block before its attention.
STABLE = LARGE | {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}


def sound(name: str, kind: str, sizes: dict[str, Any], call: Call, **more: Any) -> Entry:
    """A model of sound."""
    return entry("sound", name, kind, sizes, call, **more)


def wave() -> dict[str, Any]:
    """Ten seconds of sound."""
    return {"input_values": (1, SECONDS * RATE)}


ENTRIES: tuple[Entry, ...] = (
    sound("whisper-large-v3", "WhisperForConditionalGeneration", {
        "vocab_size": 51866, "num_mel_bins": 128, "encoder_layers": 32,
        "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_layers": 32,
        "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "d_model": 1280,
    }, lambda: {"input_features": (1, 128, 3000), "decoder_input_ids": ids(1, 448),
                "use_cache": False}),
    sound("wav2vec2-large-960h", "Wav2Vec2ForCTC", LARGE, wave),
    sound("wav2vec2-xls-r-2b", "Wav2Vec2ForCTC", STABLE | {
        "hidden_size": 1920, "num_hidden_layers": 48, "intermediate_size": 7680,
    }, wave),
    sound("hubert-xlarge-ls960-ft", "HubertForCTC", STABLE | {
        "hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120,
    }, wave),
    sound("wavlm-large", "WavLMModel", STABLE | {"conv_bias": False}, wave),
    sound("wav2vec2-conformer-rope-large-960h-ft", "Wav2Vec2ConformerForCTC", STABLE | {
        "position_embeddings_type": "rotary", "vocab_size": 32,
    }, wave),
    sound("s2t-large-librispeech-asr", "Speech2TextForConditionalGeneration", {
        "d_model": 1024, "encoder_ffn_dim": 4096, "encoder_attention_heads": 16,
        "decoder_ffn_dim": 4096, "decoder_attention_heads": 16,
    }, lambda: {"input_features": (1, 1000, 80), "decoder_input_ids": ids(1, 60),
                "attention_mask": torch.ones(1, 1000, dtype=torch.long), "use_cache": False}),
    sound("speecht5_tts", "SpeechT5ForTextToSpeech", {}, lambda: {
        "input_ids": ids(1, 64), "decoder_input_values": (1, 200, 80),
        "speaker_embeddings": (1, 512), "use_cache": False,
    }),
    sound("speecht5_asr", "SpeechT5ForSpeechToText", {}, lambda: wave() | {
        "decoder_input_ids": ids(1, 60), "use_cache": False,
    }),
    # transformers has its generation alone, and refuses labels. How many frames it makes is data.
    sound("mms-tts-eng", "VitsModel", {}, lambda: {"input_ids": ids(1, 64)}, trains=False,
          options={"assume": Assume(number=256)}),
    # It trains on all of its labels only: how many frames each of 64 phonemes takes, and more.
    sound("fastspeech2_conformer", "FastSpeech2ConformerModel", {}, lambda: {
        "input_ids": ids(1, 64), "duration_labels": torch.full((1, 64), 4),
        "pitch_labels": (1, 64, 1), "energy_labels": (1, 64, 1),
        "spectrogram_labels": (1, 256, 80),
    }),
    sound("encodec_24khz", "EncodecModel", {}, lambda: {"input_values": (1, 1, 24000)}),
    sound("mimi", "MimiModel", {}, lambda: {"input_values": (1, 1, 24000)}),
    sound("dac_16khz", "DacModel", {}, lambda: {"input_values": (1, 1, 16000)}),
    sound("musicgen-medium", "MusicgenForCausalLM", {
        "hidden_size": 1536, "num_hidden_layers": 48, "ffn_dim": 6144,
        "num_attention_heads": 24,
    }, lambda: {"input_ids": ids(4, 500), "encoder_hidden_states": (1, 64, 1536),
                "use_cache": False}),
    sound("ast-finetuned-audioset-10-10-0.4593", "ASTForAudioClassification", {
        "num_labels": 527,
    }, lambda: {"input_values": (1, 1024, 128)}),
    sound("clap-htsat-unfused", "ClapModel", {}, lambda: {
        "input_ids": ids(1, 77), "input_features": (1, 1, 1001, 64),
        "is_longer": torch.zeros(1, 1, dtype=torch.bool),
    }),
    sound("moonshine-base", "MoonshineForConditionalGeneration", {
        "hidden_size": 416, "intermediate_size": 1664, "encoder_num_hidden_layers": 8,
        "decoder_num_hidden_layers": 8,
    }, lambda: wave() | {"decoder_input_ids": ids(1, 60), "use_cache": False}),
    sound("parakeet-ctc-1.1b", "ParakeetForCTC", {
        "encoder_config": {"num_hidden_layers": 42, "convolution_bias": False},
    }, lambda: {"input_features": (1, 1000, 80)}),
    sound("seamless-m4t-v2-large", "SeamlessM4Tv2ForSpeechToText", {}, lambda: {
        "input_features": (1, 500, 160), "decoder_input_ids": ids(1, 60), "use_cache": False,
    }),
)  # fmt: skip
