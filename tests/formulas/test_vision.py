from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

torchvision = pytest.importorskip("torchvision")

from flopdispatch import FlopCounter  # noqa: E402
from flopdispatch.cost import Cost  # noqa: E402
from flopdispatch.formulas import vision, vision_boxes  # noqa: E402
from flopdispatch.rules import name_of  # noqa: E402
from flopdispatch.spec import spec  # noqa: E402
from tests import oracles_vision as loops  # noqa: E402
from tests.oracles import Tally  # noqa: E402
from tests.pricing import cost_of_specs, overload_of  # noqa: E402
from tests.real_calls import counted, priced  # noqa: E402
from tests.versions import TORCH  # noqa: E402

ops = torch.ops.torchvision
f64 = torch.float64

ratios = st.sampled_from([-1, 0, 1, 2])
sizes = st.integers(1, 3)


@st.composite
def boxes(draw: st.DrawFn, count: int = 2, images: int = 2) -> torch.Tensor:
    """Boxes of a map of about 8 by 8, some partly or wholly outside, some thin."""
    rows = []
    for _ in range(draw(st.integers(1, count))):
        left, top = draw(st.floats(-3, 9)), draw(st.floats(-3, 9))
        width, height = draw(st.floats(0, 8)), draw(st.floats(0, 8))
        image = draw(st.integers(0, images - 1))
        rows.append([float(image), left, top, left + width, top + height])
    return torch.tensor(rows, dtype=f64)


# Aligned regions


@settings(max_examples=25)
@given(rois=boxes(), p=sizes, q=sizes, ratio=ratios, aligned=st.booleans())
def test_roi_align_is_its_loop(
    rois: torch.Tensor, p: int, q: int, ratio: int, aligned: bool
) -> None:
    x, tally = torch.rand(2, 2, 5, 6, dtype=f64), Tally()
    found = loops.aligned_regions(tally, x, rois, 0.7, (p, q), ratio, aligned, False)
    args = (x, rois, 0.7, p, q, ratio, aligned)
    torch.testing.assert_close(found, ops.roi_align(*args))
    assert counted(ops.roi_align, *args) == tally.cost


@settings(max_examples=25)
@given(rois=boxes(), p=sizes, q=sizes, ratio=ratios, aligned=st.booleans())
def test_roi_align_backward_is_its_loop(
    rois: torch.Tensor, p: int, q: int, ratio: int, aligned: bool
) -> None:
    grad, tally = torch.rand(len(rois), 2, p, q, dtype=f64), Tally()
    shape = (2, 2, 5, 6)
    found = loops.aligned_regions_backward(tally, grad, rois, shape, 0.7, ratio, aligned, False)
    args = (grad, rois, 0.7, p, q, *shape, ratio, aligned)
    torch.testing.assert_close(found, ops._roi_align_backward(*args))
    assert counted(ops._roi_align_backward, *args) == tally.cost


@settings(max_examples=25)
@given(rois=boxes(), p=sizes, q=sizes, ratio=ratios)
def test_regions_by_position_are_their_loops(
    rois: torch.Tensor, p: int, q: int, ratio: int
) -> None:
    x, tally = torch.rand(2, 2 * p * q, 5, 6, dtype=f64), Tally()
    found = loops.aligned_regions(tally, x, rois, 0.7, (p, q), ratio, True, True)
    args = (x, rois, 0.7, p, q, ratio)
    expected, mapping = ops.ps_roi_align(*args)
    # torchvision divides what an empty box gives by nothing
    torch.testing.assert_close(found, expected.nan_to_num(nan=0.0))
    assert counted(ops.ps_roi_align, *args) == tally.cost
    grad, back = torch.rand(expected.shape, dtype=f64), Tally()
    found = loops.aligned_regions_backward(back, grad, rois, x.shape, 0.7, ratio, True, True)
    args = (grad, rois, mapping, 0.7, p, q, ratio, *x.shape)
    torch.testing.assert_close(found, ops._ps_roi_align_backward(*args))
    assert counted(ops._ps_roi_align_backward, *args) == back.cost


def test_roi_align_by_hand() -> None:
    """One box, 2 channels, one bin of 2 by 2 samples.

    Its corners 4 muls, 4 adds, extent 2 adds, bins 2 divs. 2 rows and 2 columns of samples, each
    a mul and an add, two bounds, a floor, t and 1 - t. 4 samples of 4 weights, each a mul; and
    16 MACs and a division for each channel.
    """
    x, box = torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 5, 5]])
    expected = Cost(muls=4 + 4 + 16, adds=4 + 2 + 12, divs=2 + 2, comparisons=12, macs=2 * 16)
    assert counted(ops.roi_align, x, box, 1.0, 1, 1, 2, True) == expected
    one_pixel = Cost(muls=24, adds=2 + 12, divs=4, comparisons=12 + 2, macs=32)
    assert counted(ops.roi_align, x, box, 1.0, 1, 1, 2, False) == one_pixel, "at least a pixel"


def test_quantized_regions_are_integer() -> None:
    """As floats, 4 corners dequantized (2 each), 2 results quantized (5 each)."""
    x, box, result = (spec(*shape, dtype=torch.uint8) for shape in ((1, 2, 8, 8), (1, 5),
                                                                    (1, 2, 1, 1)))  # fmt: skip
    args = (x, box, 0.1, 0, 0.1, 0, 1.0, 1, 1, 2, True)
    plain = 2 * 32 + 24 + 18 + 4 + 12
    expected = Cost(int_macs=32, int_ops=plain + 8 + 10)
    qroi_align = overload_of("torchvision::qroi_align.default")
    assert cost_of_specs(qroi_align, *args, result=result) == expected


# Rounded regions


@settings(max_examples=25)
@given(rois=boxes(), p=sizes, q=sizes)
def test_roi_pool_is_its_loop(rois: torch.Tensor, p: int, q: int) -> None:
    x, tally = torch.rand(2, 2, 5, 6, dtype=f64), Tally()
    found = loops.rounded_regions(tally, x, rois, 0.7, (p, q), False)
    args = (x, rois, 0.7, p, q)
    torch.testing.assert_close(found, ops.roi_pool(*args)[0])
    assert counted(ops.roi_pool, *args) == tally.cost


@settings(max_examples=25)
@given(rois=boxes(), p=sizes, q=sizes)
def test_rounded_regions_by_position_are_their_loops(
    rois: torch.Tensor, p: int, q: int
) -> None:  # fmt: skip
    x, tally = torch.rand(2, 2 * p * q, 5, 6, dtype=f64), Tally()
    found = loops.rounded_regions(tally, x, rois, 0.7, (p, q), True)
    args = (x, rois, 0.7, p, q)
    expected, mapping = ops.ps_roi_pool(*args)
    torch.testing.assert_close(found, expected)
    assert counted(ops.ps_roi_pool, *args) == tally.cost
    grad, back = torch.rand(expected.shape, dtype=f64), Tally()
    found = loops.mean_regions_backward(back, grad, rois, x.shape, 0.7)
    args = (grad, rois, mapping, 0.7, p, q, *x.shape)
    torch.testing.assert_close(found, ops._ps_roi_pool_backward(*args))
    assert counted(ops._ps_roi_pool_backward, *args) == back.cost


def test_corners_halfway_go_away_from_zero() -> None:
    """From -1.5 to 2.5 is from -2 to 3, 6 wide: bins of 3, of which one cell is on the map."""
    x, tally = torch.rand(1, 1, 8, 8, dtype=f64), Tally()
    rois = torch.tensor([[0.0, -1.5, -1.5, 2.5, 2.5]], dtype=f64)
    found = loops.rounded_regions(tally, x, rois, 1.0, (2, 2), False)
    torch.testing.assert_close(found, ops.roi_pool(x, rois, 1.0, 2, 2)[0])
    assert tally.cost == Cost(comparisons=(1 + 3) * (1 + 3) - 4)
    assert counted(ops.roi_pool, x, rois, 1.0, 2, 2) == tally.cost


def test_the_largest_gets_the_gradient() -> None:
    """One add for each of 2·3·2·2 gradients."""
    x, rois = torch.rand(1, 3, 8, 8), torch.tensor([[0.0, 1, 1, 5, 5], [0, 2, 2, 7, 7]])
    pooled, largest = ops.roi_pool(x, rois, 1.0, 2, 2)
    args = (torch.ones_like(pooled), rois, largest, 1.0, 2, 2, 1, 3, 8, 8)
    assert counted(ops._roi_pool_backward, *args) == Cost(adds=24)


# Where there are no boxes to look at


def on_meta(function: Any, *args: Any) -> Any:
    return priced(function, *(a.to("meta") if isinstance(a, torch.Tensor) else a for a in args))


WHOLE = torch.tensor([[0.0, 0, 0, 8, 6]], dtype=f64)  # a map of 6 by 8
LAST = torch.tensor([[0.0, 0, 0, 7, 5]], dtype=f64)  # its last pixels, a whole box once rounded
MAP = torch.rand(1, 4, 6, 8, dtype=f64)
BOUND = "bound: each box is taken to be the whole map"


@pytest.mark.parametrize(("why", "op", "args"), [
    ("samples", ops.roi_align, (MAP, WHOLE, 1.0, 2, 2, -1, False)),
    ("samples", ops.ps_roi_align, (MAP, WHOLE, 1.0, 2, 2, -1)),
    ("cells", ops.roi_pool, (MAP, LAST, 1.0, 2, 2)),
])  # fmt: skip
def test_without_values_a_box_is_the_whole_map(why: str, op: Any, args: Any) -> None:
    known, unknown = priced(op, *args), on_meta(op, *args)
    assert known.estimate == ""
    assert unknown.estimate == BOUND
    assert known.cost.moving(0, 0) == unknown.cost.moving(0, 0), why


@settings(max_examples=25)
@given(rois=boxes(images=1))
def test_without_values_no_box_inside_costs_more(rois: torch.Tensor) -> None:
    rois[:, 1::2] = rois[:, 1::2].clamp(0, 7)
    rois[:, 2::2] = rois[:, 2::2].clamp(0, 5)
    for op, rest in ((ops.roi_align, (2, 3, -1, True)), (ops.roi_pool, (2, 3)),
                     (ops.ps_roi_pool, (2, 2))):  # fmt: skip
        known, bound = priced(op, MAP, rois, 1.0, *rest), on_meta(op, MAP, rois, 1.0, *rest)
        assert known.cost.flops <= bound.cost.flops
        assert known.cost.comparisons <= bound.cost.comparisons


# Of one box, corners, extent and bins; 8 columns of samples, each a mul and an add, two bounds, a
# floor, t and 1 - t.
NO_SAMPLES = Cost(muls=4 + 8, adds=6 + 8 * 3, divs=2, comparisons=8 * 3)


@pytest.mark.parametrize(("op", "rest", "no_rows", "no_bins"), [
    (ops.roi_align, (-1, True), NO_SAMPLES + Cost(divs=4 * 4), NO_SAMPLES),
    (ops.ps_roi_align, (-1,), NO_SAMPLES + Cost(divs=4), NO_SAMPLES),
    (ops.roi_pool, (), Cost(), Cost()),
    (ops.ps_roi_pool, (), Cost(), Cost()),
])  # fmt: skip
def test_no_rows_no_bins_and_no_boxes(op: Any, rest: Any, no_rows: Cost, no_bins: Cost) -> None:
    assert on_meta(op, MAP[:, :, :0], WHOLE, 1.0, 2, 2, *rest).cost.moving(0, 0) == no_rows
    if op in (ops.roi_align, ops.roi_pool):  # the others divide channels by bins
        assert on_meta(op, MAP, WHOLE, 1.0, 0, 2, *rest).cost.moving(0, 0) == no_bins
        assert counted(op, MAP, WHOLE, 1.0, 0, 2, *rest) == no_bins
    no_boxes = (MAP, WHOLE[:0], 1.0, 2, 2, *rest)
    assert on_meta(op, *no_boxes).cost.moving(0, 0) == counted(op, *no_boxes) == Cost()


def test_a_given_grid_needs_no_values() -> None:
    args = (MAP, WHOLE, 1.0, 2, 2, 2, True)
    assert on_meta(ops.roi_align, *args) == priced(ops.roi_align, *args)


def test_each_rule_is_torchvisions() -> None:
    """By name: a rule that no operator has would never be found."""
    names = [name_of(r.overload) for family in (vision, vision_boxes) for r in family.rules]
    known = set(torch._C._dispatch_get_all_op_names())
    missing = {n for n in names if n.removesuffix(".default") not in known}
    elsewhere = {"image::decode_jpegs_cuda.default", "image::encode_jpegs_cuda.default"}
    later = {f"torchvision::{name}.default" for name in ("qnms", "qroi_align", "box_iou_rotated")}
    assert missing <= (elsewhere if TORCH >= (2, 15) else elsewhere | later)


# Whole models


def test_a_detector_is_counted_whole() -> None:
    """Two heads of boxes: 7 by 7 bins of 2 by 2 samples of 4 taps for 256 channels."""
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64, rpn_post_nms_top_n_test=20
    ).eval()
    with torch.no_grad(), FlopCounter(display=False) as counter:
        model([torch.rand(3, 64, 64)])
    profile = counter.profile
    assert profile.uncounted == {}
    regions = [call for call in profile.calls if call.overload is ops.roi_align.default]
    taken = sum(
        row.times * profile.calls[row.call].result.shape[0]
        for row in profile.rows if profile.calls[row.call] in regions
    )  # fmt: skip
    assert 0 < taken <= 20
    assert profile.by_family()["vision"].macs == taken * 49 * 16 * 256


def test_a_detector_learns_counted_whole() -> None:
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64,
    ).train()  # fmt: skip
    target = {"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}
    with FlopCounter(display=False) as counter:
        losses = model([torch.rand(3, 64, 64)], [target])
        sum(losses.values()).backward()
    assert counter.profile.uncounted == {}
    by_operator = {call.overload for call in counter.profile.calls}
    assert {ops.roi_align.default, ops._roi_align_backward.default, ops.nms.default} <= by_operator
