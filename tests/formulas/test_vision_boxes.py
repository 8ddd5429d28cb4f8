from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

torchvision = pytest.importorskip("torchvision")

from flopdispatch import FlopCounter  # noqa: E402
from flopdispatch.cost import Cost  # noqa: E402
from flopdispatch.formulas.vision_boxes import rules  # noqa: E402
from flopdispatch.rules import name_of  # noqa: E402
from flopdispatch.spec import spec  # noqa: E402
from tests import oracles_vision as loops  # noqa: E402
from tests.oracles import Tally  # noqa: E402
from tests.pricing import cost_of_specs, overload_of, scaled  # noqa: E402
from tests.real_calls import counted, priced  # noqa: E402

ops, image = torch.ops.torchvision, torch.ops.image
f64 = torch.float64


# Boxes


def apart(n: int) -> torch.Tensor:
    """Boxes of which none meets another."""
    corners = 2.0 * torch.arange(n, dtype=f64)[:, None]
    return torch.cat([corners, corners, corners + 1, corners + 1], 1)


@given(n=st.integers(1, 6))
def test_nms_of_boxes_apart_is_its_loop(n: int) -> None:
    """Besides, a sort of the scores: n·ceil(log2 n) comparisons."""
    boxes, scores, tally = apart(n), torch.rand(n, dtype=f64), Tally()
    kept = loops.nms(tally, boxes, scores, 0.5)
    assert kept == ops.nms(boxes, scores, 0.5).tolist()
    order = Cost(comparisons=n * [0, 1, 2, 2, 3, 3][n - 1])
    found = priced(ops.nms, boxes, scores, 0.5)
    assert found.cost.moving(0, 0) == tally.cost + order
    assert found.estimate == "bound: no box is suppressed"


@given(seed=st.integers(0, 100))
def test_nms_of_boxes_that_meet_costs_no_more(seed: int) -> None:
    torch.manual_seed(seed)
    boxes = torch.rand(6, 4, dtype=f64)
    boxes[:, 2:] += boxes[:, :2]
    scores, tally = torch.rand(6, dtype=f64), Tally()
    assert loops.nms(tally, boxes, scores, 0.2) == ops.nms(boxes, scores, 0.2).tolist()
    assert tally.cost.flops <= counted(ops.nms, boxes, scores, 0.2).flops


def test_quantized_boxes_are_integer() -> None:
    """3 boxes: 9 for areas, 6 for their order, 3 pairs of 4 adds, a mul, a div, 6 comparisons."""
    boxes, scores = spec(3, 4, dtype=torch.quint8), spec(3, dtype=torch.quint8)
    qnms = overload_of("torchvision::qnms.default")
    found = cost_of_specs(qnms, boxes, scores, 0.5, result=spec(3, dtype=torch.int64))
    assert found == Cost(int_ops=9 + 6 + 3 * 12)


def test_rotated_boxes_by_hand() -> None:
    """2 by 3 pairs.

    Around their middle: 2 sums, 4 shifts, 2 halves; areas 2; area + area - it, and the quotient.
    Corners, twice: the angle, cosine and sine, their halves, 4 products with sides and 4
    doublings; 8 + 4 adds. Edges, 16 times: 3 determinants of 2 muls and an add, 2 differences,
    2 quotients, an absolute value. 8 meetings of 2 muls and 2 adds. 8 corners of 2 differences
    and 2 products of 2 terms. Around a polygon of 8: 21 determinants compared; 6 triangles of
    4 differences, a determinant, an absolute value and a sum.
    """
    muls = (2 + 2) + 2 * 11 + 16 * 6 + 8 * 2 + 21 * 2 + 6 * 2
    adds = (2 + 4 + 2) + 2 * 12 + 16 * 5 + 8 * 2 + 8 * 2 + 21 + 6 * 6
    pair = Cost(muls=muls, adds=adds, divs=1 + 16 * 2, transcendentals=4, macs=8 * 4,
                comparisons=16 + 21 + 6)  # fmt: skip
    box_iou_rotated = overload_of("torchvision::box_iou_rotated.default")
    found = priced(box_iou_rotated, torch.rand(2, 5), torch.rand(3, 5))
    assert found.cost.moving(0, 0) == scaled(pair, 6)
    assert found.estimate == "two boxes are taken to meet in 8 corners"


# Deformable convolution


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, int]:
    """Groups of channels and of offsets, kernels, strides, dilations."""
    groups, offsets = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return {
        "groups": groups, "offsets": offsets, "c": 2, "d": 2 * draw(st.integers(1, 2)),
        "i": draw(st.integers(1, 2)), "j": draw(st.integers(1, 2)),
        "stride": draw(st.integers(1, 2)), "padding": draw(st.integers(0, 1)),
        "dilation": draw(st.integers(1, 2)), "seed": draw(st.integers(0, 1000)),
    }  # fmt: skip


@settings(max_examples=20)
@given(shape=convolutions(), masked=st.booleans())
def test_a_deformable_convolution_is_its_loop(shape: dict[str, int], masked: bool) -> None:
    torch.manual_seed(shape["seed"])
    i, j, c, d = shape["i"], shape["j"], shape["c"], shape["d"]
    geometry = shape["stride"], shape["padding"], shape["dilation"]
    stride, padding, dilation = geometry
    x = torch.rand(2, c, 4, 5, dtype=f64)
    p, q = (
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in ((4, i), (5, j))
    )  # fmt: skip
    weight = torch.rand(d, c // shape["groups"], i, j, dtype=f64)
    offset = 2 * torch.randn(2, 2 * shape["offsets"] * i * j, p, q, dtype=f64)
    mask = torch.rand(2, shape["offsets"] * i * j, p, q, dtype=f64) if masked else None
    bias, tally = torch.rand(d, dtype=f64), Tally()
    found = loops.deform_conv2d(tally, x, weight, offset, mask, bias, geometry)
    rest = (stride, stride, padding, padding, dilation, dilation, shape["groups"],
            shape["offsets"], masked)  # fmt: skip
    given_mask = torch.zeros(2, 1, dtype=f64) if mask is None else mask
    args = (x, weight, offset, given_mask, bias, *rest)
    torch.testing.assert_close(found, ops.deform_conv2d(*args))
    assert counted(ops.deform_conv2d, *args) == tally.cost

    grad, back = torch.rand(found.shape, dtype=f64), Tally()
    gradients = loops.deform_conv2d_backward(back, grad, x, weight, offset, mask, geometry)
    expected = ops._deform_conv2d_backward(grad, *args)
    for k, (mine, theirs) in enumerate(zip(gradients, expected)):
        if k != 3 or masked:
            torch.testing.assert_close(mine, theirs)
    assert counted(ops._deform_conv2d_backward, grad, *args) == back.cost


def test_a_deformable_convolution_by_hand() -> None:
    """3 by 3 taps of 2 channels at 4 by 4 positions, 2 outputs there.

    144 pairs of offsets: 2 adds; a floor, t and 1 - t twice; 4 products. 288 values of 4 MACs.
    32 outputs of 18 taps and a bias.
    """
    x, weight = torch.rand(1, 2, 4, 4), torch.rand(2, 2, 3, 3)
    offset = torch.rand(1, 18, 4, 4)
    with FlopCounter(display=False) as counter:
        torchvision.ops.deform_conv2d(x, offset, weight, padding=1)
    (price,) = (
        counter.profile.prices[call] for call, known in enumerate(counter.profile.calls)
        if known.overload is ops.deform_conv2d.default
    )  # fmt: skip
    assert price.family == "convolution"
    assert price.cost.moving(0, 0) == Cost(
        macs=288 * 4 + 32 * 18, adds=144 * 6 + 32, muls=144 * 4, comparisons=144 * 2
    )


# Files


def test_codecs_are_zero_and_files_are_read_and_written(tmp_path: Path) -> None:
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    if image.read_file.default.has_kernel_for_dispatch_key(composite):
        pytest.skip("this torchvision's files are composite, and no call of them is seen")
    pixels = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8)
    encoded = image.encode_png(pixels, 6)
    path = str(tmp_path / "x.png")
    with FlopCounter(display=False) as counter:
        image.encode_png(pixels, 6)
        image.write_file(path, encoded)
        image.decode_png(image.read_file(path), 0)
    profile = counter.profile
    assert profile.uncounted == {}
    assert profile.total.moving(0, 0) == Cost()
    moved = {call.overload: price.cost for call, price in zip(profile.calls, profile.prices)}
    n = encoded.numel()
    read, written = moved[image.read_file.default], moved[image.write_file.default]
    assert (read.bytes_read, read.bytes_written) == (n, n)
    assert (written.bytes_read, written.bytes_written) == (n, n)


def test_zeros_are_files_and_questions() -> None:
    zeros = {name_of(rule.overload) for rule in rules if rule.state == "zero"}
    told = ("code", "file", "version", "turbo")
    assert all(any(word in zero for word in told) for zero in zeros), zeros
