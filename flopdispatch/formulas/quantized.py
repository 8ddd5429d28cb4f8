"""Products of quantized tensors: linear layers and convolutions.

Products of 8-bit integers are summed up in 32-bit integers, so they count as integer, also where
a dynamically quantized layer takes and gives floats. What becomes of the sums (scale, bias,
activation, rounding) counts in the type of the result.

A layer's weight is packed, an object of no known sizes: a linear layer's are those of what it
takes and gives, a convolution's are taken from the object when it runs, which unpacks it. Ignored:
the bias of a packed linear layer, which the sums start from if there is one; the correction of the
sums for zero points, which is folded into the bias.

Letters: m rows, k inner, n columns; taps are what follows a weight's first dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, TRANSCENDENTAL
from flopdispatch.formulas.quantization import DEQUANTIZE, QUANTIZE, dynamically_quantized
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("matmul")

Taken = tuple[int, ...] | None

INT_MAC = Cost(macs=1).in_dtype(torch.int8)


def from_sums(result: TensorSpec, added: Cost) -> Cost:
    """Sums of products made results, in the result's type.

    Counts: per output what is added (a bias, an activation), and sum·scale, a mul; of a quantized
    result clamp(round(sum·scale) + zero point), a mul, an add and 3 comparisons.
    """
    integer = not result.dtype.is_floating_point
    each = (QUANTIZE if integer else MUL) + added
    return (each * result.numel).in_dtype(result.dtype)


# Linear layers


def weight_bytes(itemsize: int) -> Callable[..., tuple[int, int]]:
    """The rows, and a weight of n columns with such elements."""

    def linear_bytes(X: TensorSpec, result: TensorSpec) -> tuple[int, int]:  # noqa: N803
        """All once: rows, weight, results."""
        return size(X) + result.shape[-1] * X.shape[-1] * itemsize, size(result)

    return linear_bytes


# After the sum: by the operator's name
ACTIVATIONS = {
    "": Cost(),
    "_relu": COMPARISON,
    "_leaky_relu": COMPARISON + MUL,
    "_tanh": TRANSCENDENTAL,
}


def linear(activation: Cost) -> Callable[..., Cost]:
    """The formula of a linear layer of quantized rows."""

    def quantized_linear(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803 (the schema's name)
        """Quantized rows by a quantized weight.

        Shapes: X (..., k), result (..., n).
        Counts: k integer MACs per output; then, in integers, the activation (max with 0: a
        comparison; leaky: a mul more; tanh), and the result's scale, zero point, rounding and
        bounds: a mul, an add and 3 comparisons.
        Example: (2, 4) by 3 columns is 24 int_macs and 2·24 + 6·5 int_ops.
        """
        sums = INT_MAC * (result.numel * X.shape[-1])
        return sums + from_sums(result, activation)

    return quantized_linear


def linear_dynamic(activation: Cost) -> Callable[..., Cost]:
    """The formula of a linear layer that quantizes its rows itself."""

    def dynamic_linear(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
        """Floating rows, quantized by the range that they have, by a quantized weight.

        Shapes: X (..., k), result (..., n).
        Counts: the range of all rows together, 2·(m·k − 1) comparisons; quantizing, per element
        a mul, an add and 3 comparisons; k integer MACs per output; then floating, per output a
        mul for the scale, and the activation.
        """
        sums = INT_MAC * (result.numel * X.shape[-1])
        rows = dynamically_quantized(X.numel)
        return rows + sums + from_sums(result, activation)

    return dynamic_linear


def half_linear(activation: Cost) -> Callable[..., Cost]:
    """The formula of a linear layer of floating rows whose weight is in half precision."""

    def fp16_linear(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
        """Floating rows by a weight in half precision: floating.

        Shapes: X (..., k), result (..., n).
        Counts: k MACs per output, and the activation.
        """
        return Cost(macs=result.numel * X.shape[-1]) + activation * result.numel

    return fp16_linear


for _suffix, _activation in ACTIVATIONS.items():
    rules.formula(
        *overloads(
            f"quantized::linear{_suffix}.default", f"_quantized::linear{_suffix}.default"
        ),
        typed=False, nbytes=weight_bytes(1),
    )(linear(_activation))  # fmt: skip
    rules.formula(
        *overloads(
            f"quantized::linear{_suffix}_dynamic.default",
            f"_quantized::linear{_suffix}_dynamic.default",
        ),
        typed=False, nbytes=weight_bytes(1),
    )(linear_dynamic(_activation))  # fmt: skip
    rules.formula(
        *overloads(f"quantized::linear{_suffix}_dynamic_fp16.default"),
        nbytes=weight_bytes(2),
    )(half_linear(_activation))  # fmt: skip


def scaled_linear(activation: Cost) -> Callable[..., Cost]:
    """The formula of a linear layer that quantizes its rows by a given scale."""

    def quantizing_linear(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
        """Floating rows, quantized by a given scale, by a quantized weight: floating results.

        Counts: as `dynamic_linear`, without the range.
        """
        sums = INT_MAC * (result.numel * X.shape[-1])
        return QUANTIZE * X.numel + sums + from_sums(result, activation)

    return quantizing_linear


for _suffix in ("", "_relu"):
    rules.formula(
        *overloads(f"quantized::linear_with_input_q_dq_qweight_dq{_suffix}_output_fp32.default"),
        typed=False, nbytes=weight_bytes(1),
    )(scaled_linear(ACTIVATIONS[_suffix]))  # fmt: skip


@rules.formula(*overloads("quantized::linear_dynamic_fp16_unpacked_weight.default"))
def fp16_linear_unpacked(X: TensorSpec, bias: TensorSpec | None, result: TensorSpec) -> Cost:  # noqa: N803
    """Floating rows by a weight that is cast to half precision: k MACs and a bias per output."""
    return half_linear(Cost() if bias is None else ADD)(X, result)


@rules.formula(*overloads("_quantized::wrapped_fbgemm_linear_fp16_weight.default"))
def fp16_linear_wrapped(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """Floating rows by a packed weight in half precision: k MACs and a bias per output."""
    return half_linear(ADD)(X, result)


@rules.formula(*overloads("_quantized::_wrapped_quantized_linear_prepacked.default"), typed=False)
def wrapped_linear_prepacked(X: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """Floating rows quantized, a quantized linear layer, its results dequantized.

    Counts: per element of X QUANTIZE; as `quantized_linear`, and a bias; per output DEQUANTIZE.
    """
    between = TensorSpec(result.shape, torch.quint8)
    layer = linear(ADD)(X, between)
    return QUANTIZE * X.numel + layer + DEQUANTIZE * result.numel


@rules.formula(*overloads("_quantized::wrapped_quantized_linear.default"), typed=False)
def wrapped_linear(X: TensorSpec, W: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """As `wrapped_linear_prepacked`, the weight quantized too."""
    return QUANTIZE * W.numel + wrapped_linear_prepacked(X, result)


@rules.formula(*overloads("_quantized::_wrapped_linear_prepack.default"))
def wrapped_prepack(W: TensorSpec) -> Cost:  # noqa: N803
    """A weight quantized, and packed: per element QUANTIZE."""
    return QUANTIZE * W.numel


@rules.formula(*overloads("quantized::matmul.default"), typed=False)
def matmul(qa: TensorSpec, result: TensorSpec) -> Cost:
    """Product of quantized matrices.

    Shapes: qa (..., m, k), qb (..., k, n).
    Counts: k integer MACs per output; the result's scale, zero point, rounding and bounds.
    """
    return INT_MAC * (result.numel * qa.shape[-1]) + from_sums(result, Cost())


@rules.formula(*overloads("quantized::int4mm_packed_weight_cpu.default"))
def int4mm(self: TensorSpec, result: TensorSpec) -> Cost:
    """Floating rows by 4-bit weights: as `weight_int4pack_mm`."""
    k, n = self.shape[-1], result.shape[-1]
    return Cost(macs=result.numel * k, muls=n * k, adds=n * k)


# Convolutions


def kernel_of(packed_weight: Any) -> tuple[int, int]:
    """A packed weight's taps, and whether it has a bias."""
    weight, bias = packed_weight.unpack()
    return prod(weight.shape[1:]), bias is not None


def kernel_of_weight(weight: Any) -> tuple[int, int]:
    """The same where the argument has another name."""
    return kernel_of(weight)


def kernel(taken: Taken) -> tuple[int, int]:
    """Taps, and 1 for a bias, as they were taken."""
    if taken is None:
        raise ValueError("the sizes of a kernel in a packed weight can't be read here")
    taps, bias = taken
    return taps, bias


def conv_bytes(qx: TensorSpec, result: TensorSpec, taken: Taken) -> tuple[int, int]:
    """The input, the weight of 8-bit integers, a bias of floats, the result."""
    taps, bias = kernel(taken)
    return size(qx) + result.shape[1] * (taps + 4 * bias), size(result)


def conv_sum_bytes(
    qx: TensorSpec, qaccum: TensorSpec, result: TensorSpec, taken: Taken
) -> tuple[int, int]:
    """The same, and the tensor that is added."""
    read, written = conv_bytes(qx, result, taken)
    return read + size(qaccum), written


def transpose_bytes(qx: TensorSpec, result: TensorSpec, taken: Taken) -> tuple[int, int]:
    """As `conv_bytes`; the weight's first dimension is that of the input's channels."""
    taps, bias = kernel(taken)
    return size(qx) + qx.shape[1] * taps + 4 * result.shape[1] * bias, size(result)


def conv(activation: Cost) -> Callable[..., Cost]:
    """The formula of a convolution of a quantized input."""

    def quantized_conv(qx: TensorSpec, result: TensorSpec, taken: Taken) -> Cost:
        """Convolution of a quantized input.

        Counts: taps integer MACs per output; an add for the bias, then as `quantized_linear`. Of
        a floating input (dynamic), which is quantized by its range first, as `dynamic_linear`.
        Example: 2·8·6·6 outputs of (8, 2, 3, 3) filters are 576·18 = 10,368 int_macs.
        """
        taps, bias = kernel(taken)
        sums = INT_MAC * (result.numel * taps)
        return quantized_input(qx) + sums + from_sums(result, ADD * bias + activation)

    return quantized_conv


def quantized_input(qx: TensorSpec) -> Cost:
    """What quantizing a floating input takes; nothing if it is quantized."""
    return dynamically_quantized(qx.numel) if qx.dtype.is_floating_point else Cost()


def conv_transpose(qx: TensorSpec, result: TensorSpec, taken: Taken) -> Cost:
    """Transposed convolution of a quantized input: taps integer MACs per input element."""
    taps, bias = kernel(taken)
    sums = INT_MAC * (qx.numel * taps)
    return quantized_input(qx) + sums + from_sums(result, ADD * bias)


# By what is added after the sum: another quantized tensor has a scale of its own.
CONVOLUTIONS = {
    "conv1d conv1d_dynamic conv2d.new conv2d_dynamic conv3d.new conv3d_dynamic": Cost(),
    "conv1d_relu conv2d_relu.new conv3d_relu.new": COMPARISON,
    "conv2d_add": DEQUANTIZE + ADD,
    "conv2d_add_relu": DEQUANTIZE + ADD + COMPARISON,
}


def named(*operators: str) -> list[Any]:
    """Overloads in both namespaces; the one without a name is the default."""
    full = [name if "." in name else f"{name}.default" for name in operators]
    under = [f"{name.split('.')[0]}.default" for name in operators]
    return overloads(*(f"quantized::{n}" for n in full), *(f"_quantized::{n}" for n in under))


for _names, _added in CONVOLUTIONS.items():
    rules.formula(
        *named(*_names.split()),
        family="convolution", typed=False, takes=kernel_of,
        nbytes=conv_sum_bytes if "add" in _names else conv_bytes,
    )(conv(_added))  # fmt: skip

for _suffix in ("", "_relu"):
    rules.formula(
        *overloads(f"quantized::conv2d{_suffix}.default", f"quantized::conv3d{_suffix}.default"),
        family="convolution", typed=False, takes=kernel_of_weight, nbytes=conv_bytes,
    )(conv(ACTIVATIONS[_suffix]))  # fmt: skip

rules.formula(
    *named(*(f"conv_transpose{d}d{kind}" for d in (1, 2, 3) for kind in ("", "_dynamic"))),
    family="convolution", typed=False, takes=kernel_of, nbytes=transpose_bytes,
)(conv_transpose)  # fmt: skip


# A weight is packed: its elements are laid out for a kernel, and summed up a column, once.
PREPACKED = """
    linear_prepack linear_prepack_fp16 linear_prepack_legacy linear_prepack_fp16_legacy
    conv_prepack conv1d_prepack conv2d_prepack conv3d_prepack conv_transpose1d_prepack
    conv_transpose2d_prepack conv_transpose3d_prepack wrapped_fbgemm_pack_gemm_matrix_fp16
    linear_unpack.legacy linear_unpack_fp16.legacy
"""
rules.zero(*named(*PREPACKED.split()))
