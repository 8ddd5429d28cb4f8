"""torchvision's models, one of each architecture: equal to torch's counter and as published.

All of them: `python -m benchmarks.agreement`.
"""

from __future__ import annotations

import pytest
import torch
import torchvision

from benchmarks.comparison import (
    BACKWARD,
    CONVOLUTION,
    CONVOLUTION_BACKWARD,
    EVAL,
    TRAIN,
    compare,
    disagreements,
    measured,
)
from benchmarks.zoo import build, entry, inputs, torchvision_entries
from flopdispatch import Cost, FlopCounter, Profile, count, default_registry
from flopdispatch.spec import TensorSpec

ARCHITECTURES = (
    "alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
    "squeezenet1_1", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0", "efficientnet_v2_s",
    "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t",
    "maxvit_t", "fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large",
    "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t", "raft_small",
)  # fmt: skip

UNGROUPED = (
    "alexnet", "vgg11_bn", "resnet18", "densenet121", "squeezenet1_1", "vit_b_32", "swin_t",
    "fcn_resnet50", "r3d_18",
)  # fmt: skip

GROUPED = (
    "resnext50_32x4d", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0",
    "regnet_y_400mf", "convnext_tiny", "mvit_v2_s",
)  # fmt: skip


def test_the_table_has_every_model_of_these_kinds() -> None:
    named = {found.name for found in torchvision_entries()}
    for module in ("", ".segmentation", ".video", ".optical_flow"):
        package = torchvision.models
        if module:
            package = getattr(package, module[1:])
        assert set(torchvision.models.list_models(module=package)) <= named


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("run", [EVAL, TRAIN])
def test_a_forward_is_torchs_count_and_the_published_one(name: str, run: str) -> None:
    found = compare(entry("torchvision", name), run)
    assert found.disagreements == []
    assert found.ours == found.torch > 0


@pytest.mark.parametrize("name", UNGROUPED)
def test_a_backward_is_torchs_count_where_no_convolution_is_grouped(name: str) -> None:
    found = compare(entry("torchvision", name), BACKWARD)
    assert found.disagreements == []
    assert found.ours == found.torch > 0


@pytest.mark.parametrize("name", GROUPED)
def test_a_backward_is_torchs_count_less_its_surplus_for_groups(name: str) -> None:
    found = compare(entry("torchvision", name), BACKWARD)
    assert found.disagreements == []
    assert found.surplus > 0


# The first convolution needs no gradient of the image: its MACs are output positions x
# output channels x 3 input channels x kernel positions.
STEMS = {
    "mobilenet_v2": 112 * 112 * 32 * 3 * 3 * 3,
    "resnext50_32x4d": 112 * 112 * 64 * 3 * 7 * 7,
    "resnet50": 112 * 112 * 64 * 3 * 7 * 7,
    "vgg11": 224 * 224 * 64 * 3 * 3 * 3,
    "convnext_tiny": 56 * 56 * 96 * 3 * 4 * 4,
}


@pytest.mark.parametrize("name", STEMS)
def test_convolutions_backward_is_twice_their_forward_less_the_images_gradient(name: str) -> None:
    costs = step(name).by_op()
    twice = 2 * costs[CONVOLUTION].macs
    assert costs[CONVOLUTION_BACKWARD].macs == twice - STEMS[name]


def test_a_training_step_of_mobilenet_v2_is_three_forwards_less_the_images_gradient() -> None:
    # Forward: 300,774,272 MACs (torchvision publishes 0.301 G); FlopCounterMode says 12.28 G.
    flops = 2 * (3 * 300_774_272 - STEMS["mobilenet_v2"])
    assert flops == 1_782_969_600
    assert step("mobilenet_v2").comparable_flops == flops


def test_auxiliary_heads_are_counted_in_training_alone() -> None:
    with torch.device("meta"):
        model = torchvision.models.googlenet(aux_logits=True, init_weights=False)
    x = torch.empty(2, 3, 224, 224, device="meta")
    assert disagreements(*measured(lambda: model.train()(x))) == []
    heads = count(model.train(), x).macs - count(model.eval(), x).macs
    # Each of the two, on 4 x 4 positions after pooling: a 1x1 convolution to 128 channels,
    # 2048 -> 1024, 1024 -> 1000. Pooling and norms have no MACs.
    head = 1024 * 2048 + 1024 * 1000
    assert heads == 2 * (16 * 128 * 512 + head + 16 * 128 * 528 + head)


def test_a_wrong_formula_is_found() -> None:
    found = entry("torchvision", "resnet18")
    model, given = build(found), inputs(found)
    profile, total, convolutions = measured(lambda: model(*given))
    assert disagreements(profile, total, convolutions) == []

    wrong = default_registry().overlay("without kernels")

    @wrong.formula(CONVOLUTION, family="convolution", override=True)
    def convolution(result: TensorSpec, weight: TensorSpec) -> Cost:
        return Cost(macs=result.numel * weight.shape[1])

    assert len(disagreements(profile.reprice(wrong), total, convolutions)) == 2


def step(name: str) -> Profile:
    """One image forward and backward, batch norm as in eval."""
    model = build(entry("torchvision", name))
    x = torch.empty(1, 3, 224, 224, device="meta")
    with FlopCounter(display=False) as counter:
        model(x).sum().backward()
    return counter.profile
