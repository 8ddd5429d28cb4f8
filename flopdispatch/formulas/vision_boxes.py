"""torchvision's boxes, deformable convolution and image files.

Operators have names here, since torchvision need not be there, or may come later.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.convolution import products
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.grid import BILINEAR, TO_WEIGHTS
from flopdispatch.formulas.ordering import ceil_log2
from flopdispatch.formulas.pointwise import ADD, COMPARISON, DIV, MUL
from flopdispatch.formulas.vision import LINEAR_WEIGHTS, TAPS
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("vision")

# Boxes

# Intersection over union of two boxes of known areas: two maxima, two minima; width and height,
# at least 0; their product; area + area − it; the quotient.
OVERLAP = 4 * COMPARISON + 2 * (ADD + COMPARISON) + MUL + 2 * ADD + DIV


@rules.formula("torchvision::nms.default", estimate="bound: no box is suppressed")
def nms(dets: TensorSpec) -> Cost:
    """Boxes that overlap none of a higher score by too much.

    Shapes: dets (n, 4), scores (n).
    Counts: n areas of 2 adds and a mul; the scores' order, n·ceil(log2 n) comparisons; for each
    pair of boxes 4 adds, a mul, a div and 6 comparisons. A suppressed box meets no other.
    Example: 3 boxes are 6 + 3·4 adds, 3 + 3 muls, 3 divs, 3·2 + 3·6 comparisons.
    """
    n = dets.shape[0]
    areas = (2 * ADD + MUL) * n
    return areas + COMPARISON * (n * ceil_log2(n)) + OVERLAP * (n * (n - 1) // 2)


@rules.formula("torchvision::qnms.default", estimate="bound: no box is suppressed")
def qnms(dets: TensorSpec) -> Cost:
    """`nms` of quantized boxes, on the integers as they are."""
    return nms(dets)


# A rotated box's corners: the angle, cosine and sine, halved; 4 products with the sides, 2 adds
# to each of 4 coordinates, and the opposite corners, 2·centre − corner.
CORNERS = Cost(muls=1 + 2 + 4 + 4, adds=8 + 4, transcendentals=2)
# Do two edges meet? A determinant and two more, their quotients; and where they do.
EDGES = Cost(muls=2 + 4, adds=1 + 2 + 2, divs=2, comparisons=1)
MEETING = Cost(muls=2, adds=2)
# A corner within the other box: its offset, and two products with its sides.
WITHIN = Cost(macs=4, adds=2)
# A polygon of 8 corners in order of their angle around the first: 28 − 7 pairs compared by a
# determinant; 6 triangles, of 4 offsets, a determinant, its absolute value, and a sum.
POLYGON = 21 * Cost(muls=2, adds=1, comparisons=1) + 6 * Cost(muls=2, adds=6, comparisons=1)
# Both boxes around their middle, their areas, and intersection over union.
AROUND = Cost(adds=2 + 4 + 2, muls=2 + 2, divs=1)
ROTATED = AROUND + 2 * CORNERS + 16 * EDGES + 8 * MEETING + 8 * WITHIN + POLYGON


@rules.formula(
    "torchvision::box_iou_rotated.default", estimate="two boxes are taken to meet in 8 corners"
)
def box_iou_rotated(boxes1: TensorSpec, boxes2: TensorSpec) -> Cost:
    """Intersection over union of each pair of rotated boxes.

    Shapes: boxes1 (n, 5), boxes2 (m, 5).
    Counts, for each pair: corners, 16 tests of edges, 8 of corners, and the area of their polygon.
    Ignores: edges' directions and squares.
    """
    return ROTATED * (boxes1.shape[0] * boxes2.shape[0])


# Deformable convolution: taps lie where offsets put them


def sampled(weight: TensorSpec, input: TensorSpec, positions: int) -> int:
    """Interpolated values: each channel at each tap of each output position of the batch."""
    return input.shape[1] * weight.shape[2] * weight.shape[3] * positions


@rules.formula("torchvision::deform_conv2d.default", family="convolution")
def deform_conv2d(
    input: TensorSpec, weight: TensorSpec, offset: TensorSpec, use_mask: bool, result: TensorSpec
) -> Cost:
    """Convolution whose taps are interpolated at positions of their own.

    Shapes: input (n, c, h, w), weight (d, c/g, i, j), offset (n, 2·i·j·groups, p, q), result
    (n, d, p, q).
    Counts: for each offset pair 2 adds, and per axis a floor and 2 adds, and 4 products of
    weights; for each channel, tap and output position 4 MACs, and a mul by the mask if there is
    one; c/g·i·j MACs and an add for the bias per output.
    """
    n, _, p, q = result.shape
    values = sampled(weight, input, n * p * q)
    places = (2 * (ADD + LINEAR_WEIGHTS) + TAPS * MUL) * (offset.numel // 2)
    columns = Cost(macs=TAPS * values, muls=values if use_mask else 0)
    return places + columns + products(result, weight) + ADD * result.numel


@rules.formula("torchvision::_deform_conv2d_backward.default", family="convolution")
def deform_conv2d_backward(
    grad: TensorSpec, input: TensorSpec, weight: TensorSpec, offset: TensorSpec, use_mask: bool
) -> Cost:
    """The gradients of input, weight, offset, mask and bias: all of them.

    Counts: the convolution's product once for the taps and once for the weight. Taps are
    interpolated again, 4 MACs a value, and their gradients scattered to the input, 4 MACs, and
    to the weights of the interpolation, 4 MACs; from these to each axis's, and each coordinate
    the difference of two. With a mask, a value and its gradient are multiplied by it, and its
    gradient is a MAC a value. The bias sums the channels.
    """
    n, d, p, q = grad.shape
    values = sampled(weight, input, n * p * q)
    coordinates = Cost(macs=TO_WEIGHTS[BILINEAR, 2]) + 2 * ADD
    places = (2 * (ADD + LINEAR_WEIGHTS) + TAPS * MUL + coordinates) * (offset.numel // 2)
    masked = Cost(muls=2 * values, macs=values) if use_mask else Cost()
    bias = Cost(adds=folds(d, n * p * q))
    return places + masked + bias + Cost(macs=3 * TAPS * values) + 2 * products(grad, weight)


# Image files: codecs compute in integers, how much depends on what an image shows. No FLOPs.


def read_bytes(result: Any) -> tuple[int, int]:
    """A file as it is."""
    return size(result), size(result)


def written_bytes(data: TensorSpec) -> tuple[int, int]:
    """A file as it is."""
    return size(data), size(data)


CODECS = """
    decode_gif decode_image decode_jpeg decode_jpegs_cuda decode_png decode_webp encode_jpeg
    encode_jpegs_cuda encode_png
"""
rules.zero(*(f"image::{name}.default" for name in CODECS.split()), family="movement")
rules.zero("image::read_file.default", family="movement", nbytes=read_bytes)
rules.zero("image::write_file.default", family="movement", nbytes=written_bytes)
rules.zero(
    "image::_is_compiled_against_turbo.default",
    "image::_jpeg_version.default",
    "torchvision::_cuda_version.default",
    family="movement",
    nbytes=nothing,
)
