"""Transformers' models of detection and segmentation, at published sizes."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.meta_entry import Entry
from benchmarks.meta_transformers import entry, ids
from benchmarks.meta_transformers_vision import SWIN_LARGE

# The usual size of an image of COCO, its shorter side resized to 800 pixels.
SIZE = (800, 1066)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def detection(
    name: str, kind: str, sizes: dict[str, Any], size: tuple[int, int] = SIZE, **more: Any
) -> Entry:
    """A model that finds things in an image of this height and width."""
    return entry(
        "detection and segmentation",
        name,
        kind,
        sizes,
        lambda: {"pixel_values": (1, 3, *size)},
        **more,
    )


def described(name: str, kind: str, sizes: dict[str, Any], size: int, length: int) -> Entry:
    """A model that finds what a text says in an image."""
    return entry(
        "detection and segmentation",
        name,
        kind,
        sizes,
        lambda: {
            "pixel_values": (1, 3, size, size),
            "input_ids": ids(1, length),
            "attention_mask": torch.ones(1, length, dtype=torch.long),
        },
    )


# The backbones of DETR and those like it are timm's, as published, without their weights: of
# transformers' own ResNet no layer would train.
ENTRIES: tuple[Entry, ...] = (
    detection("detr-resnet-50", "DetrForObjectDetection", {"num_labels": 91}),
    detection("detr-resnet-50-panoptic", "DetrForSegmentation", {"num_labels": 250}),
    detection("conditional-detr-resnet-50", "ConditionalDetrForObjectDetection", {
        "num_labels": 91,
    }),
    detection("deformable-detr", "DeformableDetrForObjectDetection", {"num_labels": 91}),
    detection("deformable-detr-with-box-refine-two-stage", "DeformableDetrForObjectDetection", {
        "num_labels": 91, "with_box_refine": True, "two_stage": True,
    }),
    detection("table-transformer-detection", "TableTransformerForObjectDetection", {
        "backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18",
                            "out_indices": [1, 2, 3, 4]},
        "num_queries": 15, "num_labels": 2,
    }),
    detection("rtdetr_r50vd", "RTDetrForObjectDetection", {"num_labels": 80}, size=(640, 640)),
    detection("rtdetr_v2_r50vd", "RTDetrV2ForObjectDetection", {"num_labels": 80},
              size=(640, 640)),
    detection("dfine-large-coco", "DFineForObjectDetection", {"num_labels": 80}, size=(640, 640)),
    detection("yolos-base", "YolosForObjectDetection", {
        "image_size": [800, 1344], "num_labels": 91,
    }, size=(800, 1344)),
    described("grounding-dino-tiny", "GroundingDinoForObjectDetection", {}, size=800, length=16),
    described("owlv2-base-patch16", "Owlv2ForObjectDetection", {
        "vision_config": {"image_size": 960},
    }, size=960, length=16),
    described("owlvit-base-patch32", "OwlViTForObjectDetection", {}, size=768, length=16),
    described("sam3", "Sam3Model", {}, size=1008, length=32),
    detection("segformer-b5-finetuned-ade-640-640", "SegformerForSemanticSegmentation", {
        "depths": [3, 6, 40, 3], "hidden_sizes": [64, 128, 320, 512],
        "decoder_hidden_size": 768, "num_labels": 150,
    }, size=(640, 640)),
    # Two images: one is too few to train the normalization of a single pixel of each.
    entry("detection and segmentation", "upernet-swin-large", "UperNetForSemanticSegmentation", {
        "backbone_config": SWIN_LARGE | {"out_features": STAGES}, "num_labels": 150,
        "auxiliary_in_channels": 768,
    }, lambda: {"pixel_values": (2, 3, 512, 512)}),
    detection("maskformer-swin-large-ade", "MaskFormerForInstanceSegmentation", {
        "backbone_config": SWIN_LARGE | {"out_features": STAGES},
        "decoder_config": {"model_type": "detr"}, "num_labels": 150,
    }, size=(640, 640)),
    detection("mask2former-swin-large-coco-instance", "Mask2FormerForUniversalSegmentation", {
        "backbone_config": SWIN_LARGE | {"out_features": STAGES}, "num_queries": 200,
        "num_labels": 80,
    }),
    entry("detection and segmentation", "oneformer_ade20k_swin_large",
          "OneFormerForUniversalSegmentation", {
        "backbone_config": SWIN_LARGE | {"out_features": STAGES}, "num_queries": 250,
        "num_labels": 150,
    }, lambda: {"pixel_values": (1, 3, 640, 640), "task_inputs": ids(1, 77)}),
    detection("coco_panoptic_eomt_large_640", "EomtForUniversalSegmentation", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "num_blocks": 4, "num_queries": 200, "image_size": 640, "num_labels": 133,
    }, size=(640, 640)),
    entry("detection and segmentation", "sam-vit-huge", "SamModel", {
        "vision_config": {
            "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
            "global_attn_indexes": [7, 15, 23, 31], "mlp_dim": 5120,
        },
    }, lambda: {
        "pixel_values": (1, 3, 1024, 1024), "input_points": (1, 1, 1, 2),
        "input_labels": torch.ones(1, 1, 1, dtype=torch.long),
    }),
    entry("detection and segmentation", "sam2.1-hiera-large", "Sam2Model", {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 144,
                "num_attention_heads": 2, "blocks_per_stage": [2, 6, 36, 4],
                "embed_dim_per_stage": [144, 288, 576, 1152],
                "num_attention_heads_per_stage": [2, 4, 8, 16],
                "window_size_per_stage": [8, 4, 16, 8], "global_attention_blocks": [23, 33, 43],
            },
            "backbone_channel_list": [1152, 576, 288, 144],
        },
    }, lambda: {
        "pixel_values": (1, 3, 1024, 1024), "input_points": (1, 1, 1, 2),
        "input_labels": torch.ones(1, 1, 1, dtype=torch.long),
    }),
)  # fmt: skip
