"""torchvision's detectors on meta: published figures, and what is assumed of their boxes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_weight
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from benchmarks import zoo
from flopdispatch import Assume, DataDependentError, Profile, count, on_meta

# Weights, with the published figure in GMACs and the size of the photo that it is of. torchvision
# counts the multiplications of convolutions and matrix products, as `comparable_flops` does.
ROWS = {row["weights"]: row for row in zoo.rows("torchvision") if row["kind"] == "detection"}
STEP = 0.0005  # half of the last digit published

# The width and the height of a found box, to which its mask or its joints' maps are resized:
# of what is published it decides nothing.
SIDE = 56

# Whose figures are those of 1,000 proposals (what the first stage passes on at most) and, where
# found objects cost something, 100 detections: what is assumed unless told otherwise.
AS_ASSUMED = (
    "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
    "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
    "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
)
ONE_STAGE = (
    "FCOS_ResNet50_FPN_Weights.COCO_V1",
    "RetinaNet_ResNet50_FPN_Weights.COCO_V1",
    "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1",
    "SSD300_VGG16_Weights.COCO_V1",
    "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
)
# torchvision measured these on noise with trained weights, whose thresholds left fewer:
# proposals, detections.
LEFT = {
    # `rpn_score_thresh` of these two is 0.05.
    "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1": (0, 0),
    "FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1": (0, 0),
    # `box_score_thresh` of these three is 0.05.
    "MaskRCNN_ResNet50_FPN_Weights.COCO_V1": (1000, 0),
    "KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY": (1000, 0),
    "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1": (1000, 1),
}


@cache
def built(name: str) -> nn.Module:
    """A detector by its name, for as many classes as its weights know."""
    model: nn.Module = on_meta(get_model, name, weights=None, weights_backbone=None)
    return model.eval()


def macs(name: str, side: int = 800, assume: Assume | None = None) -> int:
    """Multiplications of convolutions and matrix products on one square photo."""
    return counted(name, side, assume).comparable_flops // 2


def counted(name: str, side: int = 800, assume: Assume | None = None) -> Profile:
    """A detector's forward on one square photo."""
    return count(built(name), [(3, side, side)], assume=assume)


def published(weights: str) -> tuple[str, int, float]:
    """A detector's name, its photo's side and its figure, which torchvision has as `_ops`."""
    row = ROWS[weights]
    channels, height, width = map(int, row["input_shape"].split("x"))
    assert (channels, height) == (3, width)
    figure: float = get_weight(weights).meta["_ops"]
    assert figure == float(row["gops"])
    return row["builder"], height, figure


def left(proposals: int, detections: int) -> Assume:
    """So many boxes are kept of a photo by the first stage, and by the second of each class."""
    second = Assume(nms=detections, number=SIDE)
    scopes = {"*.rpn": Assume(nms=proposals), "*.roi_heads": second}
    return Assume(number=SIDE, scopes=scopes)


def test_every_published_detector_is_here() -> None:
    assert sorted(ROWS) == sorted([*AS_ASSUMED, *ONE_STAGE, *LEFT])


@pytest.mark.parametrize("weights", [*AS_ASSUMED, *ONE_STAGE])
def test_published_figures_are_those_of_what_is_assumed(weights: str) -> None:
    name, side, figure = published(weights)
    assume = Assume(number=SIDE) if name.startswith("mask") else None
    assert abs(macs(name, side, assume) / 1e9 - figure) <= STEP


@pytest.mark.parametrize("weights", LEFT)
def test_other_published_figures_are_those_of_the_boxes_that_were_left(weights: str) -> None:
    name, side, figure = published(weights)
    assert macs(name, side, left(1000, 100)) / 1e9 > figure + STEP
    assert abs(macs(name, side, left(*LEFT[weights])) / 1e9 - figure) <= STEP


# By hand: what one proposal costs, and one detection

CLASSES, CELL = 91, 7 * 7
FC = 256 * CELL * 1024
SCORES_AND_BOXES = 1024 * 5 * CLASSES
CONVOLUTION = 256 * 256 * 3 * 3

# A box, of 7 x 7 positions: two wide layers; or four convolutions, then one such layer.
BOX = FC + 1024 * 1024 + SCORES_AND_BOXES
BOX_V2 = 4 * CELL * CONVOLUTION + FC + SCORES_AND_BOXES
# A mask, of 14 x 14: four convolutions, one to twice the side, one to a map of each class.
MASK = 14 * 14 * (4 * CONVOLUTION + 256 * 256 * 2 * 2) + 28 * 28 * 256 * CLASSES
# Joints, of 14 x 14: eight convolutions of 512, and one to maps of 17 joints.
JOINTS = 14 * 14 * (256 * 512 * 9 + 7 * 512 * 512 * 9 + 512 * 17 * 4 * 4)

# Anchors at five scales of 800 pixels, three a position, of which 1,000 a scale stay, if it has
# so many.
STAY = 4 * 1000 + 3 * 13 * 13


@pytest.mark.parametrize(
    ("name", "box"),
    [("fasterrcnn_resnet50_fpn", BOX), ("fasterrcnn_resnet50_fpn_v2", BOX_V2)],
)
def test_each_proposal_costs_a_box(name: str, box: int) -> None:
    none = macs(name, assume=left(0, 0))
    assert macs(name) == none + 1000 * box
    for proposals in (1, 300, 1000, 5000):  # of more, 1,000 go on
        assert macs(name, assume=left(proposals, 0)) == none + min(proposals, 1000) * box


def test_each_detection_costs_a_mask_or_its_joints() -> None:
    masks = macs("maskrcnn_resnet50_fpn", assume=left(10, 0))
    # Boxes are suppressed class by class: one is kept of each of 90, two make 180, of which 100
    # are returned.
    assert macs("maskrcnn_resnet50_fpn", assume=left(1000, 1)) == masks + 990 * BOX + 90 * MASK
    assert macs("maskrcnn_resnet50_fpn", assume=left(1000, 2)) == masks + 990 * BOX + 100 * MASK
    joints = macs("keypointrcnn_resnet50_fpn", assume=left(1000, 0))
    for people in (1, 7, 100, 500):
        found = macs("keypointrcnn_resnet50_fpn", assume=left(1000, people))
        assert found == joints + min(people, 100) * JOINTS


@pytest.mark.parametrize(
    ("assume", "proposals"),
    [
        (Assume(nms=200), 200),
        (Assume(nms=0.1), round(0.1 * STAY)),
        (Assume(nms=lambda n: n - STAY + 5), 5),
        # Twice of those that stay some are taken: by their size and by their score.
        (Assume(nonzero=0.1), round(0.1 * round(0.1 * STAY))),
        (Assume(nonzero=150), 150),
        (Assume(nonzero=lambda n: n // 10), STAY // 10 // 10),
        (Assume(operators={"torchvision::nms": 200}), 200),
        (Assume(nms=300, operators={"torchvision::nms": 200}), 200),
        (Assume(operators={"aten::nonzero": 150}), 150),
        (Assume(nms=700, operators={"aten::nonzero": 0.5}), 700),
    ],
)
def test_what_is_said_decides_how_many_proposals_there_are(assume: Assume, proposals: int) -> None:
    name = "fasterrcnn_resnet50_fpn"
    none = macs(name, assume=left(0, 0))
    assert macs(name, assume=Assume(scopes={"FasterRCNN.rpn": assume})) == none + proposals * BOX
    # Everywhere it decides what is found, too, which costs nothing here.
    assert macs(name, assume=assume) == none + proposals * BOX


def test_a_scope_inside_of_another_has_its_own_assumption() -> None:
    # Each level of the pyramid gets all boxes, unless told that they share them: a box is 7 x 7
    # cells of 256 channels, each the mean of 2 x 2 samples of four neighbours.
    name, align = "fasterrcnn_resnet50_fpn", "torchvision.roi_align"
    box = 256 * CELL * 4 * 4

    def aligned(assume: Assume) -> int:
        profile = counted(name, assume=assume)
        return sum(cost.macs for op, cost in profile.by_op().items() if str(op).startswith(align))

    levels = Assume(scopes={"*.box_roi_pool": Assume(nonzero=0.25)})
    assert aligned(Assume()) == 4 * 1000 * box
    assert aligned(levels) == 1000 * box
    # The last that fits holds, whether it is of the module or of one above it.
    above = {"*.roi_heads": Assume(nonzero=0.5)}
    assert aligned(Assume(scopes=above)) == 2 * 1000 * box
    assert aligned(Assume(scopes=above | dict(levels.scopes))) == 1000 * box
    assert aligned(Assume(scopes=dict(levels.scopes) | above)) == 2 * 1000 * box


def test_assumptions_say_where_and_how_many() -> None:
    assume = Assume(scopes={"*.rpn": Assume(nms=300, nonzero=0.5)})
    said = {
        (found.operator, found.text)
        for found in counted("fasterrcnn_resnet50_fpn", assume=assume).assumptions
        if found.scope == "FasterRCNN.rpn"
    }
    half, quarter = round(0.5 * STAY), round(0.5 * round(0.5 * STAY))
    assert said == {
        ("aten::nonzero", f"{half} of {STAY} elements are chosen"),
        ("aten::nonzero", f"{quarter} of {half} elements are chosen"),
        ("torchvision::nms", f"300 of {quarter} boxes are kept"),
    }


@pytest.mark.parametrize(
    ("assume", "asked"),
    [
        (Assume(nms=None), "torchvision::nms asks at torchvision/ops/boxes.py:"),
        (Assume(nonzero=None), "aten::nonzero asks at torchvision/ops/boxes.py:"),
    ],
)
def test_what_may_not_be_assumed_is_refused_where_it_is_asked(assume: Assume, asked: str) -> None:
    with pytest.raises(DataDependentError) as caught:
        counted("fasterrcnn_resnet50_fpn", assume=assume)
    assert str(caught.value).startswith(asked)
    assert " in FasterRCNN.rpn for values of a torch." in str(caught.value)


def test_strict_assumes_nothing_of_boxes() -> None:
    model = built("fasterrcnn_resnet50_fpn")
    with pytest.raises(DataDependentError, match=r"asks at torchvision/ops/boxes.py:\d+ for what"):
        count(model, [(3, 800, 800)], strict=True)


def test_a_mask_needs_the_size_of_its_box() -> None:
    with pytest.raises(DataDependentError, match=r"assume=Assume\(number=\.\.\.\) says what"):
        counted("maskrcnn_resnet50_fpn")


# Of real boxes


@pytest.mark.parametrize("seed", range(3))
def test_as_many_boxes_as_a_real_photo_has_cost_what_it_costs(seed: int) -> None:
    torch.manual_seed(seed)

    def build() -> Any:
        model = fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, min_size=96, max_size=96, rpn_score_thresh=0.49
        )
        return model.eval()

    real = build()
    proposals: list[int] = []

    def note(stage: nn.Module, given: Any, out: Any) -> None:
        proposals.extend(map(len, out[0]))

    real.rpn.register_forward_hook(note)
    whole = count(real, [torch.rand(3, 96, 96)], device="cpu").comparable_flops
    (kept,) = proposals
    assert 0 < kept < 1000
    assert count(on_meta(build), [(3, 96, 96)], assume=left(kept, 0)).comparable_flops == whole
