"""Quantized tensors element by element: arithmetic, activations, normalizations, embeddings.

What isn't done on the integers as they are is done between dequantizing and quantizing, an add
and a mul, and a mul, an add and 3 comparisons: kernels fold these constants where they can, and a
number may only change the scale, which is ignored. Between quantized tensors all of it is
integer; normalizations are worked out in floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.activation import ACTIVATIONS
from flopdispatch.formulas.activation import celu as plain_celu
from flopdispatch.formulas.activation import elu as plain_elu
from flopdispatch.formulas.batch_norm import batch_norm_inference
from flopdispatch.formulas.embedding import embedding_bag as plain_bag
from flopdispatch.formulas.normalization import Tensor
from flopdispatch.formulas.normalization import group_norm as plain_group_norm
from flopdispatch.formulas.normalization import layer_norm as plain_layer_norm
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, SIGMOID, Number
from flopdispatch.formulas.quantization import DEQUANTIZE, QUANTIZE
from flopdispatch.formulas.softmax import softmax as plain_softmax
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("quantization")

OF_ONE, OF_TWO = DEQUANTIZE + QUANTIZE, 2 * DEQUANTIZE + QUANTIZE

HARDSWISH = next(each for name, each, _ in ACTIVATIONS if name == "hardswish.default")


def on_pairs(operator: str) -> str:
    """The overloads of a binary operator that take two tensors."""
    return " ".join(
        f"{name}{relu}{form}"
        for name, relu in ((operator, ""), (operator, "_relu"))
        for form in (".default", ".out", "_out.default")
    )


def on_numbers(operator: str) -> str:
    """The overloads of a binary operator that take a tensor and a number."""
    old = (f"{operator}_scalar{relu}{out}" for relu in ("", "_relu") for out in ("", "_out"))
    new = (f"{operator}{relu}" for relu in ("", "_relu"))
    return " ".join(
        [f"{name}.{form}" for name in old for form in ("default", "Tensor")]
        + [f"{name}.{form}" for name in new for form in ("Scalar", "Scalar2", "Scalar_out")]
    )


# Overloads in `quantized`, cost per output, the expression in words.
POINTWISE: Sequence[tuple[str, Cost, str]] = (
    (on_pairs("add"), OF_TWO + ADD, "x + y"),
    (on_numbers("add"), OF_ONE + ADD, "x + a number"),
    (on_pairs("mul"), OF_TWO + MUL, "x·y"),
    (on_numbers("mul"), OF_ONE + MUL, "x·a number"),
    ("sigmoid.default", OF_ONE + SIGMOID, "1 / (1 + exp(−x))"),
    ("hardswish.default", OF_ONE + HARDSWISH, "x·min(max(x + 3, 0), 6) / 6"),
    ("leaky_relu.default", OF_ONE + COMPARISON + MUL, "x if x > 0 else slope·x"),
    ("prelu.default", OF_ONE + COMPARISON + MUL, "x if x > 0 else slope·x"),
    # On the integers as they are
    ("relu6.default", 2 * COMPARISON, "min(max(q, zero point), six)"),
    ("threshold.default", COMPARISON, "q if q > threshold else value"),
)


def of_result(each: Cost, words: str) -> Callable[..., Cost]:
    """The formula of one row: in the result's type, a floating slope or number is a constant."""

    def formula(result: TensorSpec) -> Cost:
        return (each * result.numel).in_dtype(result.dtype)

    formula.__doc__ = f"{words}, for each output."
    return formula


# `out` is written, though schemas put it among what is read.


def from_pair(qa: TensorSpec, qb: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """Both operands are read."""
    return size(qa, qb), size(result)


def from_one(qa: TensorSpec, b: TensorSpec | Number, result: TensorSpec) -> tuple[int, int]:
    """The operand is read, and the number if it is a tensor."""
    return size(qa, b), size(result)


for _names, _each, _words in POINTWISE:
    for _name in _names.split():
        _rectified = "_relu" in _name and "leaky" not in _name
        _moved = from_one if "calar" in _name else from_pair
        rules.formula(
            *overloads(f"quantized::{_name}"),
            typed=False,
            nbytes=_moved if "out" in _name else None,
        )(
            of_result(
                _each + COMPARISON if _rectified else _each,
                f"max({_words}, 0)" if _rectified else _words,
            )
        )

rules.formula(*overloads("_quantized::add.default"))(of_result(OF_TWO + ADD, "x + y"))


def of_two(each: Cost, result: TensorSpec) -> Cost:
    """Two quantized operands; a floating result isn't quantized."""
    ended = Cost() if result.dtype.is_floating_point else QUANTIZE
    return (2 * DEQUANTIZE + each + ended) * result.numel


@rules.formula(*overloads("onednn::qadd.tensor"))
def qadd(result: TensorSpec) -> Cost:
    """x + y, for each output."""
    return of_two(ADD, result)


@rules.formula(*overloads("onednn::qadd_relu.tensor"))
def qadd_relu(result: TensorSpec) -> Cost:
    """max(x + y, 0), for each output."""
    return of_two(ADD + COMPARISON, result)


@rules.formula(*overloads("onednn::qmul.tensor"))
def qmul(result: TensorSpec) -> Cost:
    """x·y, for each output."""
    return of_two(MUL, result)


@rules.formula(*overloads("quantized::clamp.default"))
def clamp(min: Any, max: Any, result: TensorSpec) -> Cost:
    """A comparison of the integers for each bound that is given."""
    return ((min is not None) + (max is not None)) * COMPARISON * result.numel


@rules.formula(*overloads("quantized::elu.default"))
def elu(alpha: Number, scale: Number, input_scale: Number, result: TensorSpec) -> Cost:
    """`elu` between dequantizing and quantizing."""
    return OF_ONE * result.numel + plain_elu(alpha, scale, input_scale, result)


@rules.formula(*overloads("quantized::celu.default"))
def celu(alpha: Number, result: TensorSpec) -> Cost:
    """`celu` between dequantizing and quantizing."""
    return OF_ONE * result.numel + plain_celu(alpha, result)


@rules.formula(*overloads("quantized::softmax.default"))
def softmax(qx: TensorSpec, dim: int) -> Cost:
    """`softmax` between dequantizing and quantizing."""
    return OF_ONE * qx.numel + plain_softmax(qx, dim)


def from_all(qx: Sequence[TensorSpec], result: TensorSpec) -> tuple[int, int]:
    """All tensors are read, `out` is written."""
    return size(qx), size(result)


@rules.formula(*overloads("quantized::cat.default", "quantized::cat_out.default"), nbytes=from_all)
def cat(qx: Sequence[TensorSpec]) -> Cost:
    """Tensors in a row, each element brought to the result's scale."""
    return OF_ONE * sum(t.numel for t in qx)


@rules.formula(
    *overloads("quantized::cat_relu.default", "quantized::cat_relu_out.default"), nbytes=from_all
)
def cat_relu(qx: Sequence[TensorSpec]) -> Cost:
    """max(x, 0) of `cat`."""
    return (OF_ONE + COMPARISON) * sum(t.numel for t in qx)


# Quantized dropout is for inference: it gives what it takes.
rules.zero(*overloads("quantized::dropout.default"))


# Normalizations


@rules.formula(*overloads("quantized::layer_norm.default"), family="normalization", typed=False)
def layer_norm(
    input: TensorSpec, normalized_shape: tuple[int, ...], weight: Tensor, bias: Tensor
) -> Cost:
    """`native_layer_norm` between dequantizing and quantizing, in floats."""
    plain = plain_layer_norm(input, normalized_shape, weight, bias)
    return OF_ONE * input.numel + plain


@rules.formula(*overloads("quantized::group_norm.default"), family="normalization", typed=False)
def group_norm(input: TensorSpec, num_groups: int, weight: Tensor, bias: Tensor) -> Cost:
    """`native_group_norm` between dequantizing and quantizing, in floats."""
    n, c, *rest = input.shape
    plain = plain_group_norm(weight, bias, n, c, prod(rest), num_groups)
    return OF_ONE * input.numel + plain


@rules.formula(*overloads("quantized::instance_norm.default"), family="normalization", typed=False)
def instance_norm(input: TensorSpec, weight: Tensor, bias: Tensor) -> Cost:
    """`group_norm` with a group for each channel."""
    return group_norm(input, input.shape[1], weight, bias)


def batch_norm(activation: Cost) -> Callable[..., Cost]:
    """The formula of a batch normalization with this after it."""

    def quantized_batch_norm(qx: TensorSpec, weight: Tensor, bias: Tensor) -> Cost:
        """Batch normalization by running statistics between dequantizing and quantizing.

        Counts: as `batch_norm_inference`, in floats; with ReLU a comparison per element.
        """
        return (OF_ONE + activation) * qx.numel + batch_norm_inference(qx, weight, bias)

    return quantized_batch_norm


for _relu, _after in (("", Cost()), ("_relu", COMPARISON)):
    rules.formula(
        *overloads(*(f"quantized::batch_norm{d}{_relu}.default" for d in ("", "1d", "2d", "3d"))),
        family="normalization",
        typed=False,
    )(batch_norm(_after))

rules.formula(*overloads("onednn::qbatch_norm2d.default"), family="normalization", typed=False)(
    batch_norm(Cost())
)


@rules.formula(*overloads("quantized_batch_norm.default"), family="normalization", typed=False)
def aten_batch_norm(input: TensorSpec, weight: Tensor, bias: Tensor) -> Cost:
    """As `quantized_batch_norm`."""
    return batch_norm(Cost())(input, weight, bias)


# Embeddings: rows are dequantized, q·scale + offset

# Bytes of d elements with their scale and offset, two floats or two halves.
ROW_BYTES: dict[str, Callable[[int], int]] = {
    "byte": lambda d: d + 8,
    "4bit": lambda d: (d + 1) // 2 + 4,
}


def row_bytes(row: Callable[[int], int]) -> Callable[..., tuple[int, int]]:
    """What rows of so many bytes move."""

    def moved(indices: TensorSpec, result: TensorSpec) -> tuple[int, int]:
        """The indices and the rows that they name."""
        return size(indices) + indices.numel * row(result.shape[-1]), size(result)

    return moved


def bag_bytes(row: Callable[[int], int]) -> Callable[..., tuple[int, int]]:
    """The same, in bags."""

    def moved(
        indices: TensorSpec, offsets: Tensor, per_sample_weights: Tensor, result: TensorSpec
    ) -> tuple[int, int]:
        """The indices, the rows that they name, and the bags."""
        read, written = row_bytes(row)(indices, result)
        return read + size(offsets, per_sample_weights), written

    return moved


def table_bytes(
    weight: TensorSpec,
    indices: TensorSpec,
    offsets: Tensor,
    per_sample_weights: Tensor,
    result: TensorSpec,
) -> tuple[int, int]:
    """The same, rows being those of a table of bytes."""
    return bag_bytes(lambda _: weight.shape[-1])(indices, offsets, per_sample_weights, result)


def embedding(result: TensorSpec) -> Cost:
    """Rows of a table, dequantized.

    Counts: per element a mul and an add.
    """
    return DEQUANTIZE * result.numel


def embedding_bag(
    indices: TensorSpec, mode: int, per_sample_weights: Tensor, result: TensorSpec
) -> Cost:
    """Sum, mean or maximum of each bag's rows, dequantized.

    Shapes: indices (n), result (b, d).
    Counts: per element of n rows a mul and an add; then as `embedding_bag`.
    Ignores: `pruned_weights`, whose rows are not in the table; empty bags.
    """
    d = result.shape[-1]
    table = TensorSpec((0, d))  # as many rows as it has
    summed = plain_bag(table, indices, mode, per_sample_weights, (result,))
    return DEQUANTIZE * (indices.numel * d) + summed


for _bits, _row in ROW_BYTES.items():
    rules.formula(
        *overloads(f"quantized::embedding_{_bits}.default"),
        family="embedding", nbytes=row_bytes(_row),
    )(embedding)  # fmt: skip
    rules.formula(
        *overloads(f"quantized::embedding_bag_{_bits}.default"),
        family="embedding", nbytes=bag_bytes(_row),
    )(embedding_bag)  # fmt: skip

for _bits in ("byte", "4bit", "2bit"):
    rules.formula(
        *overloads(f"quantized::embedding_bag_{_bits}_rowwise_offsets.default"),
        family="embedding", nbytes=table_bytes,
    )(embedding_bag)  # fmt: skip

rules.zero(*overloads("quantized::embedding_bag_prepack.default"))
