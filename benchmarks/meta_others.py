"""Models of packages other than transformers, timm and torchvision, at published sizes.

A package is imported where its model is built, so that one which isn't there costs one row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.meta_entry import Entry, Inputs
from flopdispatch import spec

GROUP = "other packages"


def diffusion_unet() -> nn.Module:
    """The denoiser of Stable Diffusion 1.5."""
    from diffusers import UNet2DConditionModel  # noqa: PLC0415

    model: nn.Module = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8
    )
    return model.eval()


def diffusion_unet_inputs() -> Inputs:
    """One image of 512 x 512 pixels, encoded."""
    return ((1, 4, 64, 64), torch.tensor([500]), (1, 77, 768)), {}


def class_transformer() -> nn.Module:
    """DiT-XL/2 for images of 256 x 256 pixels."""
    from diffusers import DiTTransformer2DModel  # noqa: PLC0415

    model: nn.Module = DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=32,
        patch_size=2,
    )
    return model.eval()


def class_transformer_inputs() -> Inputs:
    """One encoded image of a class."""
    return ((1, 4, 32, 32),), {
        "timestep": torch.tensor([500]),
        "class_labels": torch.tensor([207]),
    }


def stable_diffusion_3() -> nn.Module:
    """The transformer of Stable Diffusion 3 medium."""
    from diffusers import SD3Transformer2DModel  # noqa: PLC0415

    model: nn.Module = SD3Transformer2DModel(
        sample_size=128,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        out_channels=16,
        pos_embed_max_size=192,
    )
    return model.eval()


def stable_diffusion_3_inputs() -> Inputs:
    """One image of 1024 x 1024 pixels, encoded, and the text of three encoders."""
    return (), {
        "hidden_states": (1, 16, 128, 128),
        "encoder_hidden_states": (1, 333, 4096),
        "pooled_projections": (1, 2048),
        "timestep": torch.tensor([500]),
    }


def flux() -> nn.Module:
    """The transformer of FLUX.1-dev."""
    from diffusers import FluxTransformer2DModel  # noqa: PLC0415

    model: nn.Module = FluxTransformer2DModel(guidance_embeds=True)
    return model.eval()


def flux_inputs() -> Inputs:
    """One image of 1024 x 1024 pixels, in patches with their places, and 512 tokens of text."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    places = torch.stack([torch.zeros(64, 64), rows, columns], dim=-1).reshape(-1, 3)
    return (), {
        "hidden_states": (1, 4096, 64),
        "encoder_hidden_states": (1, 512, 4096),
        "pooled_projections": (1, 768),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": places,
        "txt_ids": torch.zeros(512, 3),
    }


def segmenter() -> nn.Module:
    """A U-Net with a ResNet-34 as its encoder."""
    import segmentation_models_pytorch  # noqa: PLC0415

    model: nn.Module = segmentation_models_pytorch.Unet("resnet34", encoder_weights=None, classes=1)
    return model.eval()


def conformer() -> nn.Module:
    """The encoder of Conformer L."""
    from conformer import Conformer  # noqa: PLC0415

    model: nn.Module = Conformer(dim=512, depth=17, heads=8, conv_kernel_size=31)
    return model.eval()


def clip() -> nn.Module:
    """CLIP with a ViT-B/32."""
    import open_clip  # noqa: PLC0415

    model: nn.Module = open_clip.create_model("ViT-B-32", device="meta")
    return model.eval()


def clip_inputs() -> Inputs:
    """A batch of images and as many texts."""
    return ((32, 3, 224, 224), spec(32, 77, dtype=torch.long)), {}


def graph_network(kind: str, **options: Any) -> nn.Module:
    """Two layers on the graph of a karate club, with the features and classes it is given."""
    from torch_geometric import nn as layers  # noqa: PLC0415

    model: nn.Module = getattr(layers, kind)(34, num_layers=2, out_channels=4, **options)
    return model.eval()


def club() -> Inputs:
    """The features of the club's 34 members, and who knows whom."""
    from torch_geometric.datasets import KarateClub  # noqa: PLC0415

    return ((34, 34), KarateClub()[0].edge_index), {}


def yolo(training: bool = False) -> nn.Module:
    """YOLO11n; to be trained it has its hyperparameters, of which the loss is made."""
    from ultralytics.cfg import get_cfg  # noqa: PLC0415
    from ultralytics.nn.tasks import DetectionModel  # noqa: PLC0415

    model: nn.Module = DetectionModel("yolo11n.yaml", verbose=False)
    model.args = get_cfg()
    return model.train(training)


def yolo_batch() -> Inputs:
    """An image and two objects in it, each a class and a box in parts of the image."""
    batch = {
        "img": (1, 3, 640, 640),
        "batch_idx": torch.tensor([0.0, 0.0]),
        "cls": torch.tensor([[0.0], [16.0]]),
        "bboxes": torch.tensor([[0.3, 0.4, 0.2, 0.5], [0.7, 0.6, 0.3, 0.3]]),
    }
    return (batch,), {}


ENTRIES = (
    Entry("diffusers UNet, Stable Diffusion 1.5", GROUP, diffusion_unet, diffusion_unet_inputs),
    Entry("diffusers DiT-XL/2", GROUP, class_transformer, class_transformer_inputs),
    Entry("diffusers SD3 medium", GROUP, stable_diffusion_3, stable_diffusion_3_inputs),
    Entry("diffusers FLUX.1-dev", GROUP, flux, flux_inputs),
    Entry("segmentation-models-pytorch Unet", GROUP, segmenter, lambda: (((1, 3, 512, 512),), {})),
    Entry("conformer Conformer L", GROUP, conformer, lambda: (((1, 500, 512),), {})),
    Entry("open_clip ViT-B-32", GROUP, clip, clip_inputs),
    Entry(
        "torch_geometric GCN",
        GROUP,
        lambda: graph_network("GCN", hidden_channels=16),
        club,
    ),
    Entry(
        "torch_geometric GAT",
        GROUP,
        lambda: graph_network("GAT", hidden_channels=64, heads=8),
        club,
    ),
    # In eval mode it has no loss, and its boxes are decoded: it is trained in training mode.
    Entry("ultralytics YOLO11n", GROUP, yolo, lambda: (((1, 3, 640, 640),), {}), trains=False),
    Entry("ultralytics YOLO11n (training)", GROUP, lambda: yolo(training=True), yolo_batch),
)
