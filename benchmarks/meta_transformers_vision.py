"""Transformers' models of images, videos and time series, at published sizes."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.meta_entry import Entry
from benchmarks.meta_transformers import entry, ids

SWIN_LARGE = {
    "model_type": "swin", "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48],
    "window_size": 12, "image_size": 384,
}  # fmt: skip


def image(name: str, kind: str, sizes: dict[str, Any], size: int = 224, **more: Any) -> Entry:
    """A model of square images of `size` pixels a side."""
    return entry("images", name, kind, sizes, lambda: {"pixel_values": (1, 3, size, size)}, **more)


def video(
    name: str, kind: str, sizes: dict[str, Any], frames: int, size: int = 224, **more: Any
) -> Entry:
    """A model of videos of so many frames."""
    return entry(
        "videos", name, kind, sizes, lambda: {"pixel_values": (1, frames, 3, size, size)}, **more
    )


IMAGES = (
    image("vit-huge-patch14-224-in21k", "ViTForImageClassification", {
        "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
        "intermediate_size": 5120, "patch_size": 14,
    }),
    image("deit-base-distilled-patch16-224", "DeiTForImageClassificationWithTeacher", {
        "num_labels": 1000,
    }),
    # Which patches it is shown is drawn at each call.
    image("vit-mae-huge", "ViTMAEForPreTraining", {
        "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
        "intermediate_size": 5120, "patch_size": 14,
    }),
    image("swin-large-patch4-window12-384", "SwinForImageClassification", {
        key: value for key, value in SWIN_LARGE.items() if key != "model_type"
    } | {"num_labels": 1000}, size=384),
    image("swinv2-large-patch4-window12-192-22k", "Swinv2ForImageClassification", {
        "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48],
        "window_size": 12, "image_size": 192, "num_labels": 21841,
    }, size=192),
    image("beit-large-patch16-384", "BeitForImageClassification", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "image_size": 384, "use_relative_position_bias": True,
        "layer_scale_init_value": 1e-05, "num_labels": 1000, "out_features": ["stage24"],
    }, size=384),
    image("dinov2-giant", "Dinov2Model", {
        "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24,
        "image_size": 518, "use_swiglu_ffn": True, "out_features": ["stage40"],
    }, size=518),
    image("dinov3-vit7b16", "DINOv3ViTModel", {
        "hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 40,
        "num_attention_heads": 32, "use_gated_mlp": True, "num_register_tokens": 4,
        "query_bias": False, "value_bias": False, "out_features": ["stage40"],
    }),
    image("convnext-xlarge-224-22k", "ConvNextForImageClassification", {
        "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 3, 27, 3], "num_labels": 21841,
    }),
    image("convnextv2-huge-22k-512", "ConvNextV2ForImageClassification", {
        "hidden_sizes": [352, 704, 1408, 2816], "depths": [3, 3, 27, 3], "image_size": 512,
        "num_labels": 1000,
    }, size=512),
    image("regnet-y-10b-seer-in1k", "RegNetForImageClassification", {
        "hidden_sizes": [2020, 4040, 11110, 28280], "depths": [2, 7, 17, 1],
        "groups_width": 1010, "num_labels": 1000,
    }, size=384),
    image("resnet-152", "ResNetForImageClassification", {
        "depths": [3, 8, 36, 3], "num_labels": 1000,
    }),
    image("efficientnet-b7", "EfficientNetForImageClassification", {"num_labels": 1000}, size=600),
    image("hiera-large-224", "HieraForImageClassification", {
        "embed_dim": 144, "depths": [2, 6, 36, 4], "num_heads": [2, 4, 8, 16],
        "num_labels": 1000,
    }),
    image("poolformer_m48", "PoolFormerForImageClassification", {
        "depths": [8, 8, 24, 8], "hidden_sizes": [96, 192, 384, 768], "num_labels": 1000,
    }),
    image("focalnet-base", "FocalNetForImageClassification", {
        "embed_dim": 128, "depths": [2, 2, 18, 2], "focal_levels": [3, 3, 3, 3],
        "num_labels": 1000,
    }),
    image("cvt-w24-384-22k", "CvtForImageClassification", {
        "embed_dim": [192, 768, 1024], "num_heads": [3, 12, 16], "depth": [2, 2, 20],
        "num_labels": 1000,
    }, size=384),
    image("mobilevit-small", "MobileViTForImageClassification", {"num_labels": 1000}, size=256),
    image("vision-perceiver-fourier", "PerceiverForImageClassificationFourier", {
        "num_latents": 512, "d_latents": 1024, "num_blocks": 8, "num_self_attends_per_block": 6,
        "num_cross_attention_heads": 1, "image_size": 224, "num_labels": 1000,
    }),
    image("dpt-large", "DPTForDepthEstimation", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "backbone_out_indices": [5, 11, 17, 23],
        "neck_hidden_sizes": [256, 512, 1024, 1024],
    }, size=384),
    image("Depth-Anything-V2-Large-hf", "DepthAnythingForDepthEstimation", {
        "backbone_config": {
            "model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 518, "patch_size": 14,
            "out_indices": [5, 12, 18, 24], "reshape_hidden_states": False,
        },
        "reassemble_hidden_size": 1024, "neck_hidden_sizes": [256, 512, 1024, 1024],
        "fusion_hidden_size": 256,
    }, size=518),
    image("swin2SR-classical-sr-x2-64", "Swin2SRForImageSuperResolution", {}, size=64),
    # transformers refuses labels.
    image("superpoint", "SuperPointForKeypointDetection", {}, size=480, trains=False),
)  # fmt: skip

VIDEOS = (
    video("videomae-large-finetuned-kinetics", "VideoMAEForVideoClassification", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "num_labels": 400,
    }, frames=16),
    video("timesformer-base-finetuned-k400", "TimesformerForVideoClassification", {
        "num_labels": 400,
    }, frames=8),
    video("vivit-b-16x2-kinetics400", "VivitForVideoClassification", {"num_labels": 400},
          frames=32),
    entry("videos", "vjepa2-vitl-fpc64-256", "VJEPA2Model", {},
          lambda: {"pixel_values_videos": (1, 64, 3, 256, 256)}),
    entry("videos", "xclip-base-patch32", "XCLIPModel", {},
          lambda: {"pixel_values": (1, 8, 3, 224, 224), "input_ids": ids(4, 77)}),
)  # fmt: skip

# What came before the months to predict: as many, and as many more as the longest lag.
LAGS = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 23, 24, 25, 35, 36, 37]
TOURISM = {
    "prediction_length": 24, "lags_sequence": LAGS, "num_time_features": 2,
    "num_static_categorical_features": 1, "cardinality": [366], "embedding_dimension": [2],
}  # fmt: skip


def series(name: str, kind: str, sizes: dict[str, Any], context: int) -> Entry:
    """A model of a monthly time series that predicts two years of it."""
    past = context + max(LAGS)
    return entry(
        "time series",
        name,
        kind,
        TOURISM | {"context_length": context} | sizes,
        lambda: {
            "past_values": (1, past),
            "past_time_features": (1, past, 2),
            "past_observed_mask": torch.ones(1, past),
            "static_categorical_features": ids(1, 1),
            "future_values": (1, 24),
            "future_time_features": (1, 24, 2),
        },
    )


SERIES = (
    series("time-series-transformer-tourism-monthly", "TimeSeriesTransformerForPrediction", {
        "encoder_layers": 4, "decoder_layers": 4, "d_model": 32,
    }, context=24),
    series("informer-tourism-monthly", "InformerForPrediction", {
        "encoder_layers": 6, "decoder_layers": 4, "d_model": 64,
    }, context=48),
    series("autoformer-tourism-monthly", "AutoformerForPrediction", {
        "encoder_layers": 4, "decoder_layers": 4, "d_model": 64,
    }, context=24),
    entry("time series", "patchtst_etth1_forecast", "PatchTSTForPrediction", {
        "num_input_channels": 7, "context_length": 512, "patch_length": 12, "patch_stride": 12,
        "prediction_length": 96, "random_mask_ratio": 0.4, "num_attention_heads": 16,
    }, lambda: {"past_values": (1, 512, 7)}),
    entry("time series", "timesfm-2.0-500m-pytorch", "TimesFmModelForPrediction", {
        "context_length": 2048,
    }, lambda: {"past_values": [(512,), (512,)], "freq": [0, 0]}),
)  # fmt: skip

ENTRIES: tuple[Entry, ...] = IMAGES + VIDEOS + SERIES
