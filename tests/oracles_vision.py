"""Naive loops of torchvision's operators. Which elements exist is index arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, floor

import torch

from tests.oracles import Scalar, Tally, tensor_of

Numbers = dict[tuple[int, ...], Scalar]
Axis = list[tuple[int, list[tuple[int, Scalar]], bool]]  # a bin, taps with weights, is it inside


def floored(x: Scalar) -> Scalar:
    x.tally.note("comparisons")
    return Scalar(floor(x.value), x.tally)


# Aligned regions


class Region:
    """A box on a map: its bins, and where their samples lie."""

    def __init__(
        self, box: list[Scalar], size: tuple[int, int], scale: float, bins: tuple[int, int],
        ratio: int, aligned: bool,
    ) -> None:  # fmt: skip
        corners = [corner * scale for corner in box]
        if aligned:
            corners = [corner - 0.5 for corner in corners]
        left, top, right, bottom = corners
        width, height = right - left, bottom - top
        if not aligned:
            width, height = width.at_least(1), height.at_least(1)
        p, q = bins
        steps = height / p, width / q
        self.grid = [ratio if ratio > 0 else max(ceil(step.value), 0) for step in steps]
        self.rows = samples(top, steps[0], p, self.grid[0], size[0])
        self.columns = samples(left, steps[1], q, self.grid[1], size[1])

    def bins(self) -> Iterator[tuple[int, int, list[tuple[int, int, Scalar]]]]:
        """Each bin with the taps of all of its samples; a sample outside has taps of nothing."""
        places: dict[tuple[int, int], list[tuple[int, int, Scalar]]] = {}
        for (i, rows, in_y), (j, columns, in_x) in product(self.rows, self.columns):
            taps = places.setdefault((i, j), [])
            for (y, by_y), (x, by_x) in product(rows, columns):
                weight = by_y * by_x
                taps.append((y, x, weight if in_y and in_x else Scalar(0.0, weight.tally)))
        for (i, j), taps in places.items():
            yield i, j, taps

    @property
    def samples(self) -> int:
        return max(self.grid[0] * self.grid[1], 1)


def samples(start: Scalar, step: Scalar, bins: int, grid: int, size: int) -> Axis:
    """The samples of all bins along one axis, with two weighted taps each."""
    found = []
    for bin_, i in product(range(bins), range(grid)):
        x = start + step * (bin_ + (i + 0.5) / grid)
        inside = -1 <= x.value <= size
        x = x.at_least(0).at_most(size - 1)
        first = floored(x)
        t = x - first
        low = int(first.value)
        found.append((bin_, [(low, 1 - t), (min(low + 1, size - 1), t)], inside))
    return found


def regions(
    tally: Tally, rois: torch.Tensor, size: tuple[int, int], scale: float, bins: tuple[int, int],
    ratio: int, aligned: bool,
) -> Iterator[tuple[int, int, Region]]:  # fmt: skip
    boxes = tally.scalars(rois)
    for k in range(len(rois)):
        box = [boxes[k, corner] for corner in (1, 2, 3, 4)]
        yield k, int(rois[k, 0]), Region(box, size, scale, bins, ratio, aligned)


def channel(c: int, i: int, j: int, bins: tuple[int, int], by_position: bool) -> int:
    """The map's channel that a bin of output channel c is taken from."""
    return (c * bins[0] + i) * bins[1] + j if by_position else c


def aligned_regions(
    tally: Tally, x: torch.Tensor, rois: torch.Tensor, scale: float, bins: tuple[int, int],
    ratio: int, aligned: bool, by_position: bool,
) -> torch.Tensor:  # fmt: skip
    """Each bin's mean over its samples."""
    values, found = tally.scalars(x), {}
    channels = x.shape[1] // (bins[0] * bins[1] if by_position else 1)
    size = (x.shape[2], x.shape[3])
    for k, n, region in regions(tally, rois, size, scale, bins, ratio, aligned):
        sampled = {(i, j): taps for i, j, taps in region.bins()}
        for i, j, c in product(range(bins[0]), range(bins[1]), range(channels)):
            of = channel(c, i, j, bins, by_position)
            taps = sampled.get((i, j), [])
            total = tally.weighted_sum((weight, values[n, of, y, x]) for y, x, weight in taps)
            found[k, c, i, j] = total / region.samples
    return tensor_of(found, (len(rois), channels, *bins))


def aligned_regions_backward(
    tally: Tally, grad: torch.Tensor, rois: torch.Tensor, shape: tuple[int, ...], scale: float,
    ratio: int, aligned: bool, by_position: bool,
) -> torch.Tensor:  # fmt: skip
    """Each gradient, divided, is added to its taps by their weights."""
    gradients, out = tally.scalars(grad), torch.zeros(shape, dtype=torch.float64)
    _, channels, p, q = grad.shape
    bins, size = (p, q), (shape[2], shape[3])
    for k, n, region in regions(tally, rois, size, scale, bins, ratio, aligned):
        sampled = {(i, j): taps for i, j, taps in region.bins()}
        for i, j, c in product(range(p), range(q), range(channels)):
            each = gradients[k, c, i, j] / region.samples
            of = channel(c, i, j, bins, by_position)
            for y, x, weight in sampled.get((i, j), []):
                out[n, of, y, x] += tally.weighted_sum([(each, weight)]).value
    return out


# Rounded regions


def away(x: float) -> int:
    """Rounded, halves away from zero."""
    return floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def cells(
    box: list[float], scale: float, bins: tuple[int, int], inside: tuple[int, int], beyond: int
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """The elements of each bin."""
    left, top, right, bottom = (away(corner * scale) for corner in box)
    axes = []
    for start, end, n, limit in ((top, bottom, bins[0], inside[0]),
                                 (left, right, bins[1], inside[1])):  # fmt: skip
        step = max(end - start + beyond, 1) / n
        axes.append([
            range(min(max(floor(i * step) + start, 0), limit),
                  min(max(ceil((i + 1) * step) + start, 0), limit))
            for i in range(n)
        ])  # fmt: skip
    return {
        (i, j): list(product(rows, columns))
        for i, rows in enumerate(axes[0])
        for j, columns in enumerate(axes[1])
    }


def rounded_regions(
    tally: Tally, x: torch.Tensor, rois: torch.Tensor, scale: float, bins: tuple[int, int],
    by_position: bool,
) -> torch.Tensor:  # fmt: skip
    """Each bin's maximum, or by position its mean, which leaves out the last row and column."""
    values, found = tally.scalars(x), {}
    height, width = x.shape[2:]
    channels = x.shape[1] // (bins[0] * bins[1] if by_position else 1)
    inside, beyond = ((height - 1, width - 1), 0) if by_position else ((height, width), 1)
    for k, (n, *box) in enumerate(rois.tolist()):
        places = cells(box, scale, bins, inside, beyond)
        for (i, j), c in product(places, range(channels)):
            of = channel(c, i, j, bins, by_position)
            at = [(int(n), of, y, x_) for y, x_ in places[i, j]]
            elements = [values[place] for place in at]
            value = Scalar(0.0, tally)
            if elements:
                total = tally.sum(elements) if by_position else tally.max(elements)
                value = total / len(elements) if by_position else total
            found[k, c, i, j] = value
    return tensor_of(found, (len(rois), channels, *bins))


def mean_regions_backward(
    tally: Tally, grad: torch.Tensor, rois: torch.Tensor, shape: tuple[int, ...], scale: float
) -> torch.Tensor:
    """Each gradient divided by its bin's elements, and added to each of them."""
    out = {at: Scalar(0.0, tally) for at in product(*(range(n) for n in shape))}
    gradients = tally.scalars(grad)
    _, channels, p, q = grad.shape
    for k, (n, *box) in enumerate(rois.tolist()):
        places = cells(box, scale, (p, q), (shape[2], shape[3]), 0)
        for (i, j), c in product(places, range(channels)):
            if places[i, j]:
                each = gradients[k, c, i, j] / len(places[i, j])
                of = channel(c, i, j, (p, q), True)
                for y, x in places[i, j]:
                    out[int(n), of, y, x] = out[int(n), of, y, x] + each
    return tensor_of(out, shape)


# Boxes


def nms(
    tally: Tally, boxes: torch.Tensor, scores: torch.Tensor, threshold: float
) -> list[int]:  # fmt: skip
    """Kept boxes, by score; what the order of scores takes is not counted here."""
    numbers = tally.scalars(boxes)
    corners = [[numbers[i, j] for j in range(4)] for i in range(len(boxes))]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in corners]
    kept: list[int] = []
    waiting = scores.argsort(descending=True).tolist()
    while waiting:
        i = waiting.pop(0)
        kept.append(i)
        for j in list(waiting):
            left, top = (corners[i][e].at_least(corners[j][e].value) for e in (0, 1))
            right, bottom = (corners[i][e].at_most(corners[j][e].value) for e in (2, 3))
            overlap = (right - left).at_least(0) * (bottom - top).at_least(0)
            if (overlap / (areas[i] + areas[j] - overlap)).value > threshold:
                waiting.remove(j)
    return kept


# Deformable convolution


class Sampling:
    """Where each tap of a deformable convolution lies, for an image, a group and a position."""

    def __init__(
        self, tally: Tally, x: torch.Tensor, offset: torch.Tensor, kernel: tuple[int, int],
        stride: int, padding: int, dilation: int,
    ) -> None:  # fmt: skip
        self.values, self.size = tally.scalars(x), x.shape[2:]
        self.groups = offset.shape[1] // (2 * kernel[0] * kernel[1])
        self.per_group = x.shape[1] // self.groups
        shifts = tally.scalars(offset)
        self.taps: dict[tuple[int, ...], list[tuple[int, int, Scalar]]] = {}
        self.axes: dict[tuple[int, ...], tuple[list[Scalar], list[Scalar]]] = {}
        places = product(
            range(x.shape[0]), range(self.groups), range(kernel[0]), range(kernel[1]),
            range(offset.shape[2]), range(offset.shape[3]),
        )  # fmt: skip
        for n, g, i, j, p, q in places:
            first = 2 * ((g * kernel[0] + i) * kernel[1] + j)
            y = shifts[n, first, p, q] + (p * stride - padding + i * dilation)
            x_ = shifts[n, first + 1, p, q] + (q * stride - padding + j * dilation)
            low_y, low_x = floored(y), floored(x_)
            t_y, t_x = y - low_y, x_ - low_x
            rows, columns = [1 - t_y, t_y], [1 - t_x, t_x]
            self.axes[n, g, i, j, p, q] = rows, columns
            self.taps[n, g, i, j, p, q] = [
                (int(low_y.value) + a, int(low_x.value) + b, rows[a] * columns[b])
                for a, b in product((0, 1), (0, 1))
            ]

    def at(self, n: int, c: int, y: int, x: int) -> Scalar:
        """An element; nothing outside of the image."""
        tally = next(iter(self.values.values())).tally
        inside = 0 <= y < self.size[0] and 0 <= x < self.size[1]
        return self.values[n, c, y, x] if inside else Scalar(0.0, tally)

    def value(self, tally: Tally, n: int, c: int, place: tuple[int, ...]) -> Scalar:
        """A channel's value at a tap: `place` is (i, j, p, q)."""
        at = (n, c // self.per_group, *place)
        taps = self.taps[at]
        return tally.weighted_sum((weight, self.at(n, c, y, x)) for y, x, weight in taps)


def mask_at(mask: Numbers | None, sampling: Sampling, kernel: tuple[int, int], n: int, c: int,
            place: tuple[int, ...]) -> Scalar | None:  # fmt: skip
    i, j, p, q = place
    group = c // sampling.per_group
    return None if mask is None else mask[n, (group * kernel[0] + i) * kernel[1] + j, p, q]


def deform_conv2d(
    tally: Tally, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor,
    mask: torch.Tensor | None, bias: torch.Tensor, geometry: tuple[int, int, int],
) -> torch.Tensor:  # fmt: skip
    """Each output a weighted sum of interpolated values."""
    d, c_of_group, *kernel_sizes = weight.shape
    kernel = (kernel_sizes[0], kernel_sizes[1])
    sampling = Sampling(tally, x, offset, kernel, *geometry)
    weights, biases = tally.scalars(weight), tally.scalars(bias)
    masks = None if mask is None else tally.scalars(mask)
    n_, c_, (p_, q_) = x.shape[0], x.shape[1], offset.shape[2:]
    columns: Numbers = {}
    for at in product(range(n_), range(c_), *(range(m) for m in (*kernel, p_, q_))):
        n, c, *place = at
        value = sampling.value(tally, n, c, tuple(place))
        factor = mask_at(masks, sampling, kernel, n, c, tuple(place))
        columns[at] = value if factor is None else value * factor
    per_group = d // (c_ // c_of_group)
    found = {}
    for n, out, p, q in product(range(n_), range(d), range(p_), range(q_)):
        first = out // per_group * c_of_group
        total = tally.weighted_sum(
            (weights[out, c, i, j], columns[n, first + c, i, j, p, q])
            for c, i, j in product(range(c_of_group), *(range(m) for m in kernel))
        )
        found[n, out, p, q] = total + biases[(out,)]
    return tensor_of(found, (n_, d, p_, q_))


def deform_conv2d_backward(
    tally: Tally, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor,
    mask: torch.Tensor | None, geometry: tuple[int, int, int],
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """Gradients of input, weight, offset, mask (zeros without one) and bias."""
    d, c_of_group, *kernel_sizes = weight.shape
    kernel = (kernel_sizes[0], kernel_sizes[1])
    sampling = Sampling(tally, x, offset, kernel, *geometry)
    gradients, weights = tally.scalars(grad), tally.scalars(weight)
    masks = None if mask is None else tally.scalars(mask)
    n_, c_, (p_, q_) = x.shape[0], x.shape[1], offset.shape[2:]
    per_group = d // (c_ // c_of_group)
    by_input = torch.zeros_like(x)
    by_weight = torch.zeros_like(weight)
    by_offset = torch.zeros_like(offset)
    by_mask = torch.zeros_like(mask) if mask is not None else torch.zeros(())
    to_taps: dict[tuple[int, ...], list[float]] = {at: [0.0] * 4 for at in sampling.taps}
    for at in product(range(n_), range(c_), *(range(m) for m in (*kernel, p_, q_))):
        n, c, i, j, p, q = at
        group, place = c // sampling.per_group, (i, j, p, q)
        outs = range(c // c_of_group * per_group, (c // c_of_group + 1) * per_group)
        inner = c % c_of_group
        g = tally.weighted_sum((weights[out, inner, i, j], gradients[n, out, p, q]) for out in outs)
        value = sampling.value(tally, n, c, place)
        factor = mask_at(masks, sampling, kernel, n, c, place)
        column = value
        if factor is not None:
            first = (group * kernel[0] + i) * kernel[1] + j
            by_mask[n, first, p, q] += tally.weighted_sum([(g, value)]).value
            column, g = value * factor, g * factor
        for out in outs:
            by_weight[out, inner, i, j] += tally.weighted_sum(
                [(gradients[n, out, p, q], column)]
            ).value
        for k, (y, x_, tap) in enumerate(sampling.taps[n, group, i, j, p, q]):
            to_input = tally.weighted_sum([(g, tap)]).value
            if 0 <= y < x.shape[2] and 0 <= x_ < x.shape[3]:
                by_input[n, c, y, x_] += to_input
            element = sampling.at(n, c, y, x_)
            to_taps[n, group, i, j, p, q][k] += tally.weighted_sum([(g, element)]).value
    for (n, group, i, j, p, q), (rows, columns) in sampling.axes.items():
        g00, g01, g10, g11 = (tally.scalar(v) for v in to_taps[n, group, i, j, p, q])
        to_rows = [
            tally.weighted_sum([(g00, columns[0]), (g01, columns[1])]),
            tally.weighted_sum([(g10, columns[0]), (g11, columns[1])]),
        ]
        to_columns = [
            tally.weighted_sum([(g00, rows[0]), (g10, rows[1])]),
            tally.weighted_sum([(g01, rows[0]), (g11, rows[1])]),
        ]
        first = 2 * ((group * kernel[0] + i) * kernel[1] + j)
        by_offset[n, first, p, q] = (to_rows[1] - to_rows[0]).value
        by_offset[n, first + 1, p, q] = (to_columns[1] - to_columns[0]).value
    by_bias = [
        tally.sum(gradients[n, out, p, q] for n, p, q in product(range(n_), range(p_), range(q_)))
        for out in range(d)
    ]
    sums = torch.tensor([b.value for b in by_bias], dtype=torch.float64)
    return by_input, by_weight, by_offset, by_mask, sums
