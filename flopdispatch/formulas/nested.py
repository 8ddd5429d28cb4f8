"""Nested tensors in strided layout: tensors of different sizes in one.

Letters: in a part, m rows, k inner, n columns.

Most operators work by elements, and their dense formula holds of all elements in a row. Here are
those that need the sizes inside. Jagged nested tensors need no rules: they run as operators on
the tensors in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from math import prod
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas import attention, matmul, normalization, softmax
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.softmax import softmax_rows
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec, tensors

rules = Registry("nested")

Row = tuple[str, Callable[..., Cost], str]  # family, formula, operators


# Part by part


def part_by_part(formula: Callable[..., Cost]) -> Callable[..., Cost]:
    """The sum of a formula over the parts, each as a dense tensor."""

    @wraps(formula)
    def summed(**given: Any) -> Cost:
        if given.get("dim", -1) > 0:
            given["dim"] -= 1  # a part has no batch dimension
        parts = next(t.parts for t in tensors(tuple(given.values())) if t.parts is not None)
        of_parts = ({name: part(v, i) for name, v in given.items()} for i in range(len(parts)))
        return sum((formula(**one) for one in of_parts), Cost())

    return summed


def part(value: Any, i: int) -> Any:
    """An argument, its nested tensors as their part `i`."""
    if isinstance(value, TensorSpec) and value.parts is not None:
        return replace(value, shape=value.parts[i], stride=None, parts=None)
    return value


def products(self: TensorSpec, result: TensorSpec) -> Cost:
    """Matrix products, each part's for itself.

    Shapes: parts of self (..., m, k), of the result (..., m, n).
    Counts: k MACs per element of a part of the result.
    Example: (2, 4) by (4, 3) and (5, 4) by (4, 1) are 24 + 20 MACs.
    """
    return Cost(macs=result.numel * self.shape[-1])


def products_backward(grad: TensorSpec, self: TensorSpec, mask: tuple[bool, ...]) -> Cost:
    """Gradients of the factors of `products`, as `mask` asks for: its MACs for each."""
    return matmul.matmul_backward(grad, self, mask)


PART_BY_PART: Sequence[Row] = (
    ("matmul", products, "bmm.default matmul.default"),
    ("matmul", products_backward, "matmul_backward.default"),
    ("softmax", softmax.softmax, "_softmax.default _safe_softmax.default"),
    ("softmax", softmax.softmax_backward, "_softmax_backward_data.default"),
    ("attention", attention.sdpa, "_scaled_dot_product_flash_attention.default"),
    (
        "attention",
        attention.sdpa_with_bias,
        "_scaled_dot_product_efficient_attention.default "
        "_scaled_dot_product_cudnn_attention.default",
    ),
    (
        "attention",
        attention.sdpa_backward,
        "_scaled_dot_product_flash_attention_backward.default "
        "_scaled_dot_product_efficient_attention_backward.default "
        "_scaled_dot_product_cudnn_attention_backward.default",
    ),
)
for family, formula, names in PART_BY_PART:
    rules.formula(*overloads(*names.split()), family=family, layout="nested")(part_by_part(formula))


@rules.formula(*overloads("_nested_tensor_softmax_with_shape.default"), layout="nested")
def softmax_with_shape(self: TensorSpec, query: TensorSpec) -> Cost:
    """Softmax of padded scores, where they stand for pairs of positions of one sequence.

    Shapes: self (b, h, t, t), parts of query (s, m), s <= t.
    Counts: for each sequence the softmax of h·s rows of s.
    """
    heads = self.shape[1]
    costs = (softmax_rows(heads * s, s) for s, *_ in query.parts or ())
    return sum(costs, Cost())


# Rows below each other: what is summed over all rows is summed across the parts


def stacked(formula: Callable[..., Cost]) -> Callable[..., Cost]:
    """The formula, given nested tensors with the rows of all parts below each other."""

    @wraps(formula)
    def of_rows(**given: Any) -> Cost:
        return formula(**{name: in_rows(value) for name, value in given.items()})

    return of_rows


def in_rows(value: Any) -> Any:
    """A nested tensor as one: the last dimensions are those that all parts have in common.

    Example: parts (2, 4) and (3, 4) are (5, 4).
    """
    if not isinstance(value, TensorSpec) or not value.parts:
        return value
    common: list[int] = []
    for sizes in zip(*(reversed(shape[1:]) for shape in value.parts)):
        if len(set(sizes)) > 1:
            break
        common.insert(0, sizes[0])
    rows = sum(prod(shape[: len(shape) - len(common)]) for shape in value.parts)
    return replace(value, shape=(rows, *common), stride=None, parts=None)


STACKED: Sequence[Row] = (
    ("matmul", matmul.linear_backward, "linear_backward.default"),
    ("normalization", normalization.layer_norm, "native_layer_norm.default"),
    ("normalization", normalization.layer_norm_backward, "native_layer_norm_backward.default"),
)
for family, formula, names in STACKED:
    rules.formula(*overloads(*names.split()), family=family, layout="nested")(stacked(formula))


# What moves elements, or says where they are.
rules.zero(
    *overloads(
        "_nested_sum_backward.default",
        "_nested_from_padded_and_nested_example.default",
        "value_selecting_reduction_backward.default",
    )
)
rules.zero(*overloads("chunk.default", "narrow.default"))
rules.zero(
    *overloads(
        "_nested_compute_contiguous_strides_offsets.default",
        "_nested_tensor_from_mask_left_aligned.default",
    ),
    nbytes=nothing,
)
