"""Scattering: elements written or combined into a tensor at positions given by indices.

Combining costs one operation per source element; plain scattering is zero. In place, only
the elements that are hit are read and written; functional overloads copy the rest.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import named
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("scatter")

Number = int | float | complex | bool
Indices = tuple[TensorSpec | None, ...]

# What combining one source element with its target is, by the operators' `reduce`.
COMBINE = {
    "sum": Cost(adds=1),
    "add": Cost(adds=1),
    "mean": Cost(adds=1),
    "prod": Cost(muls=1),
    "multiply": Cost(muls=1),
    "amax": Cost(comparisons=1),
    "amin": Cost(comparisons=1),
    "max": Cost(comparisons=1),
    "min": Cost(comparisons=1),
}


# By an index per element


def element_bytes(self: TensorSpec, index: TensorSpec, src: TensorSpec) -> tuple[int, int]:
    """In place: indices, sources and targets are read, targets written."""
    hit = named(self, index.numel)
    return size(index) + named(src, index.numel) + hit, hit


def overwritten_bytes(self: TensorSpec, index: TensorSpec, src: TensorSpec) -> tuple[int, int]:
    """In place: indices and sources are read, targets written."""
    return size(index) + named(src, index.numel), named(self, index.numel)


def scattered_bytes(
    self: TensorSpec, index: TensorSpec, src: TensorSpec, result: TensorSpec
) -> tuple[int, int]:
    """In a new tensor: targets, indices and the sources that these reach are read, all written."""
    return size(self, index) + named(src, index.numel), size(result)


def value_bytes(self: TensorSpec, index: TensorSpec) -> tuple[int, int]:
    """In place: indices are read, targets written; the source is one number."""
    return size(index), named(self, index.numel)


def combined_value_bytes(self: TensorSpec, index: TensorSpec) -> tuple[int, int]:
    """In place: indices and targets are read, targets written; the source is one number."""
    hit = named(self, index.numel)
    return size(index) + hit, hit


rules.zero(aten.scatter.value, aten.masked_scatter.default)
rules.zero(aten.scatter.src, nbytes=scattered_bytes)
rules.zero(aten.scatter_.src, nbytes=overwritten_bytes)
rules.zero(aten.scatter_.value, nbytes=value_bytes)


@rules.formula(aten.scatter_add_.default, nbytes=element_bytes)
@rules.formula(aten.scatter_add.default, nbytes=scattered_bytes)
def scatter_add(index: TensorSpec) -> Cost:
    """Add source elements to their targets.

    Counts: one add per index.
    Example: an index of (2, 3) is 6 adds.
    """
    return Cost(adds=index.numel)


@rules.formula(aten.scatter_.reduce, nbytes=element_bytes)
@rules.formula(aten.scatter_.value_reduce, nbytes=combined_value_bytes)
@rules.formula(aten.scatter.reduce, nbytes=scattered_bytes)
@rules.formula(aten.scatter.value_reduce)
def scatter_with(index: TensorSpec, reduce: str) -> Cost:
    """Add source elements to their targets, or multiply these by them.

    Counts: one add or mul per index.
    """
    return COMBINE[reduce] * index.numel


@rules.formula(aten.scatter_reduce_.two, nbytes=element_bytes)
@rules.formula(aten.scatter_reduce.two, nbytes=scattered_bytes)
def scatter_reduce(index: TensorSpec, reduce: str, result: TensorSpec) -> Cost:
    """Sum, product, mean, maximum or minimum of the source elements of each target.

    Counts: one operation per index; a mean divides every target.

    Ignores: `include_self=False`, which saves one operation per target hit.
    """
    divided = Cost(divs=result.numel) if reduce == "mean" else Cost()
    return COMBINE[reduce] * index.numel + divided


# By an index per slice


def slice_bytes(self: TensorSpec, index: TensorSpec, source: TensorSpec) -> tuple[int, int]:
    """In place: indices, sources and targets are read, targets written."""
    hit = named(self, source.numel)
    return size(index, source) + hit, hit


def copied_slice_bytes(self: TensorSpec, index: TensorSpec, source: TensorSpec) -> tuple[int, int]:
    """In place: indices and sources are read, targets written."""
    return size(index, source), named(self, source.numel)


def filled_slice_bytes(
    self: TensorSpec, dim: int, index: TensorSpec, value: object
) -> tuple[int, int]:
    """In place: indices, and a value in a tensor, are read, the slices that they name written."""
    one = math.prod(self.shape[:dim] + self.shape[dim:][1:])
    return size(index, value), named(self, index.numel * one)


rules.zero(aten.index_copy.default, aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
rules.zero(aten.index_copy_.default, nbytes=copied_slice_bytes)
rules.zero(aten.index_fill_.int_Scalar, aten.index_fill_.int_Tensor, nbytes=filled_slice_bytes)


@rules.formula(aten.index_add_.default, nbytes=slice_bytes)
@rules.formula(aten.index_add.default)
def index_add(source: TensorSpec, alpha: Number) -> Cost:
    """Add slices, times alpha, to their targets.

    Counts: one add per source element; a mul of each if alpha isn't 1.
    """
    return Cost(adds=source.numel, muls=source.numel if alpha != 1 else 0)


@rules.formula(aten.index_reduce_.default, nbytes=slice_bytes)
@rules.formula(aten.index_reduce.default)
def index_reduce(source: TensorSpec, reduce: str, result: TensorSpec) -> Cost:
    """Product, mean, maximum or minimum of the slices of each target.

    Counts: one operation per source element; a mean divides every target.

    Ignores: `include_self=False`, which saves one operation per target hit.
    """
    return scatter_reduce(source, reduce, result)


# By a tuple of indices


def is_mask(index: TensorSpec) -> bool:
    """Whether an index selects what is true."""
    return index.dtype in (torch.bool, torch.uint8)


def places(self: TensorSpec, indices: Indices, values: TensorSpec) -> tuple[int, bool]:
    """Elements that `self[indices]` names, and whether this is known, not a bound.

    Counts: the broadcast shape of the indices times the dimensions that have none. A mask stands
    for its dimensions; how many of its elements are true is told by the indices beside it or by
    `values`, unless these have one position there and are broadcast: it is bounded by its size.
    """
    given = [place for place, index in enumerate(indices) if index is not None]
    masks = [index for index in indices if index is not None and is_mask(index)]
    listed = [index.shape for index in indices if index is not None and not is_mask(index)]
    whole, before, d = list[int](), 0, 0
    for place, index in enumerate(indices):
        if index is None:
            whole.append(self.shape[d])
            before += given[:1] > [place]
        d += index.ndim if index is not None and is_mask(index) else 1
    whole += self.shape[d:]
    # Indices that aren't side by side make the first dimensions of the result.
    apart = bool(given) and given[-1] - given[0] >= len(given)
    behind = len(whole) - (0 if apart else before)

    positions, known = list(torch.broadcast_shapes(*listed)), True
    if masks and positions[-1:] in ([], [1]):
        known = values.ndim > behind and values.shape[-1 - behind] != 1
        smallest = min(mask.numel for mask in masks)
        positions[-1:] = [values.shape[-1 - behind] if known else smallest]
    return math.prod(positions) * math.prod(whole), known


def indexed(self: TensorSpec, indices: Indices, values: TensorSpec) -> int:
    """Elements that `self[indices]` names, as far as it is known: `places`."""
    return places(self, indices, values)[0]


def is_bound(self: TensorSpec, indices: Indices, values: TensorSpec, accumulate: bool) -> bool:
    """Whether it isn't known how many elements a mask selects, and they count."""
    return accumulate and not places(self, indices, values)[1]


def put_bytes(
    self: TensorSpec, indices: Indices, values: TensorSpec, accumulate: bool
) -> tuple[int, int]:
    """In place: indices and values are read, targets written; read too, to accumulate."""
    hit = named(self, indexed(self, indices, values))
    return size(indices, values) + (hit if accumulate else 0), hit


MASKED = "bound: all elements of a mask are taken to be true if `values` doesn't tell"


@rules.formula(
    aten.index_put_.default,
    *overloads("_index_put_impl_.default"),
    nbytes=put_bytes,
    estimate=MASKED,
    estimated_if=is_bound,
)
@rules.formula(
    aten.index_put.default,
    *overloads("_index_put_impl.default", "_unsafe_index_put.default"),
    estimate=MASKED,
    estimated_if=is_bound,
)
def index_put(self: TensorSpec, indices: Indices, values: TensorSpec, accumulate: bool) -> Cost:
    """self[indices] = values, or += values to accumulate.

    Counts: one add per element named if they accumulate, else none.
    """
    return Cost(adds=indexed(self, indices, values) if accumulate else 0)


@rules.formula(*overloads("_unsafe_masked_index_put_accumulate.default"))
def masked_index_put(self: TensorSpec, indices: Indices, values: TensorSpec) -> Cost:
    """self[indices] += values where a mask is true.

    Counts: one add per element named, masked or not.
    """
    return Cost(adds=indexed(self, indices, values))


def flat_bytes(
    self: TensorSpec, index: TensorSpec, source: TensorSpec, accumulate: bool
) -> tuple[int, int]:
    """In place: indices and sources are read, targets written; read too, to accumulate."""
    hit = named(self, source.numel)
    return size(index, source) + (hit if accumulate else 0), hit


@rules.formula(aten.put_.default, nbytes=flat_bytes)
@rules.formula(aten.put.default)
def put(source: TensorSpec, accumulate: bool) -> Cost:
    """Set, or add to, the elements at flat indices.

    Counts: one add per source element if they accumulate, else none.
    """
    return Cost(adds=source.numel if accumulate else 0)


# Gradients of padding and windows: overlapping positions add up


def gradient_bytes(grad_output: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The gradient is read; of `self` only the shape counts."""
    return size(grad_output), size(result)


@rules.formula(
    aten.reflection_pad1d_backward.default,
    aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
    aten.replication_pad1d_backward.default,
    aten.replication_pad2d_backward.default,
    aten.replication_pad3d_backward.default,
    nbytes=gradient_bytes,
)
def pad_backward(grad_output: TensorSpec) -> Cost:
    """Each padded position's gradient is added to the element that it showed.

    Counts: one add per element of the gradient.
    """
    return Cost(adds=grad_output.numel)


@rules.formula(aten.col2im.default)
def col2im(self: TensorSpec) -> Cost:
    """Sum of overlapping blocks (fold, the gradient of im2col).

    Counts: one add per element of a block, padding positions included.
    """
    return Cost(adds=self.numel)


@rules.formula(aten.unfold_backward.default)
def unfold_backward(grad_in: TensorSpec) -> Cost:
    """Sum of overlapping windows.

    Counts: one add per element of the windows.
    """
    return Cost(adds=grad_in.numel)


rules.zero(
    aten.im2col.default,
    aten.slice_backward.default,
    aten.select_backward.default,
    aten.diagonal_backward.default,
    aten.masked_scatter_backward.default,
    aten.slice_scatter.default,
    aten.select_scatter.default,
    aten.diagonal_scatter.default,
    aten.as_strided_scatter.default,
)


# Segments and counts


@rules.formula(aten.segment_reduce.default)
def segment_reduce(
    data: TensorSpec, reduce: str, initial: Number | None, result: TensorSpec
) -> Cost:
    """Sum, mean, product, maximum or minimum of each segment of rows.

    Counts: every element but each segment's first, or this too where there is an `initial` value;
    a mean divides every output.

    Ignores: empty segments.
    """
    divided = Cost(divs=result.numel) if reduce == "mean" else Cost()
    others = combined(data.numel, result.numel) if initial is None else data.numel
    return COMBINE[reduce] * others + divided


@rules.formula(aten.bincount.default, typed=False)
def bincount(self: TensorSpec, weights: TensorSpec | None) -> Cost:
    """How often each integer occurs, or the sum of its weights.

    Counts: one add per element, of integers where there are no weights.
    """
    return Cost(int_ops=self.numel) if weights is None else Cost(adds=self.numel)
