"""Models on meta and on the CPU, with the same real inputs: the same MACs of each module.

Where nothing was assumed of data, that is. Where torch runs other operators on the CPU, the
difference is here to the digit, and why it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from benchmarks import agreement_architectures
from benchmarks.agreement_architectures import ARCHITECTURES, NO_BACKWARD_IN_EVAL
from benchmarks.equality_transformers import BATCH, VOCABULARY
from flopdispatch import count, on_meta
from tests.versions import needs_torch
from tests.zoo.modules import own_macs

LEAST = 80  # models of which nothing is assumed

# What is assumed of a model. Tokens go to experts evenly on meta, on the CPU as it comes, which
# costs the same together.
ASSUMING = {"switch": {"aten::argmax chooses evenly among data"}}


class Model(NamedTuple):
    """A model, which `build` makes on a device, and what it is called with, which has values."""

    build: Callable[[str], nn.Module]
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    trains: bool = True


def transformers_model(name: str) -> Model:
    """A small model of transformers; of its two inputs the second is partly padded."""
    values = torch.Generator().manual_seed(0)
    made = {}
    for key, like in ARCHITECTURES[name][2]().items():
        if like.dtype is torch.long:
            made[key] = torch.randint(1, VOCABULARY, like.shape, generator=values)
        else:
            made[key] = torch.rand(like.shape, generator=values)
    padded = made.get("input_ids", made.get("input_values"))
    if padded is not None and padded.dim() == 2:
        made["attention_mask"] = torch.ones(padded.shape, dtype=torch.long)
        made["attention_mask"][1, padded.shape[1] * 3 // 4 :] = 0
    if name == "detr":
        images = made["pixel_values"]
        made["pixel_mask"] = torch.ones(BATCH, *images.shape[2:], dtype=torch.long)
        made["pixel_mask"][1, :, 40:] = 0
    build = partial(agreement_architectures.build, name)
    return Model(build, (), made, name not in NO_BACKWARD_IN_EVAL)


def torchvision_model(name: str, *shapes: tuple[int, ...]) -> Model:
    """A model of torchvision, called with tensors of these shapes."""
    options: dict[str, Any] = {}
    if name.startswith(("fcn", "deeplab", "lraspp")):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False

    def build(device: str) -> nn.Module:
        model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return model

    return Model(build, tuple(map(torch.rand, shapes)), {})


def timm_model(name: str) -> Model:
    """A model of timm, called with two images."""

    def build(device: str) -> nn.Module:
        model: nn.Module = timm.create_model(name)
        return model

    return Model(build, (torch.rand(2, *timm.get_pretrained_cfg(name).input_size),), {})


IMAGES = (2, 3, 64, 64)
FILM = (1, 3, 8, 64, 64)
TORCHVISION: dict[str, tuple[tuple[int, ...], ...]] = {
    "alexnet": (IMAGES,), "resnet18": (IMAGES,), "resnext50_32x4d": (IMAGES,),
    "densenet121": (IMAGES,), "squeezenet1_1": (IMAGES,), "googlenet": (IMAGES,),
    "inception_v3": ((2, 3, 96, 96),), "mnasnet0_5": (IMAGES,), "mobilenet_v2": (IMAGES,),
    "mobilenet_v3_small": (IMAGES,), "shufflenet_v2_x0_5": (IMAGES,),
    "efficientnet_b0": (IMAGES,), "efficientnet_v2_s": (IMAGES,), "regnet_x_400mf": (IMAGES,),
    "regnet_y_400mf": (IMAGES,), "convnext_tiny": (IMAGES,), "swin_t": (IMAGES,),
    "swin_v2_t": (IMAGES,), "vit_b_32": ((1, 3, 224, 224),),
    "fcn_resnet50": (IMAGES,), "deeplabv3_mobilenet_v3_large": (IMAGES,),
    "lraspp_mobilenet_v3_large": (IMAGES,),
    "r3d_18": (FILM,), "mc3_18": (FILM,), "swin3d_t": (FILM,),
    "raft_small": ((1, 3, 128, 128),) * 2,
}  # fmt: skip

TIMM = timm.list_models("test_*")  # tiny ones of its families, for its own tests

MODELS: dict[str, Callable[[], Model]] = {
    **{name: partial(transformers_model, name) for name in ARCHITECTURES},
    **{name: partial(torchvision_model, name, *sizes) for name, sizes in TORCHVISION.items()},
    **{name: partial(timm_model, name) for name in TIMM},
}


# In one phase of one module the CPU has so many MACs more than meta, and why.
DIFFERENCES = {
    # Two layers of 4 x 16 gates over 16 numbers, for each of two sounds: the CPU's kernel of an
    # LSTM gives the gradient of the state that it begins with too, though it is zeros.
    "encodec": ("EncodecModel.decoder.layers.1.lstm", "backward", 2 * BATCH * 4 * 16 * 16),
}

# What an older torch can't run on meta.
PRODUCTS, NORMS = "grouped products take bfloat16 only", "no backward of weight_norm on meta"
NEWER = dict.fromkeys(("deepseek-v3", "gpt-oss", "jamba", "mixtral", "qwen3-moe"), PRODUCTS)
NEWER |= dict.fromkeys(("encodec", "hubert", "speecht5", "wav2vec2"), NORMS)
CASES = [
    pytest.param(name, marks=needs_torch(2, 15, NEWER[name])) if name in NEWER else name
    for name in MODELS
]


def test_there_are_enough_models_of_which_nothing_is_assumed() -> None:
    assert len(MODELS) == len(ARCHITECTURES) + len(TORCHVISION) + len(TIMM)
    assert len(MODELS) - len(ASSUMING) >= LEAST


@pytest.mark.filterwarnings("ignore:parameters made elsewhere than on meta:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_model_costs_on_meta_what_it_costs_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    told: dict[str, Any] = {"backward": model.trains, **model.kwargs}
    meta = count(on_meta(model.build, "meta").eval(), *model.args, **told)
    cpu = count(model.build("cpu").eval(), *model.args, device="cpu", **told)
    assert meta.uncounted == cpu.uncounted == {}
    if name in ASSUMING:
        assert {said.text for said in meta.assumptions} == ASSUMING[name]
        assert meta.macs == cpu.macs > 0
        return
    assert meta.assumptions == ()
    expected = own_macs(meta)
    if name in DIFFERENCES:
        scope, phase, macs = DIFFERENCES[name]
        expected[scope, phase] += macs
    assert own_macs(cpu) == expected
    assert any(phase == "backward" for _, phase in expected) == model.trains
