"""Layers whose weight a backend has packed for itself: oneDNN, MKL.

A packed weight's shape may be any, so products are found from what goes in and comes out: the
input's features, the kernel's last dimensions, channels by group. oneDNN's quantized layers
multiply integers, or 8-bit floats; what becomes of the sums counts in the type of the result, as
in `quantized`.
"""

from __future__ import annotations

from math import prod
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.activation import gelu
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.convolution import bias_sum
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, DIV, MUL, SIGMOID, TRANSCENDENTAL
from flopdispatch.formulas.quantization import DEQUANTIZE
from flopdispatch.formulas.quantized import Taken, from_sums, kernel
from flopdispatch.formulas.quantized_elements import HARDSWISH
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("matmul")

Tensor = TensorSpec | None

# What oneDNN does to an output, per element.
AFTER = {
    None: Cost(),
    "": Cost(),
    "none": Cost(),
    "relu": COMPARISON,
    "leaky_relu": COMPARISON + MUL,
    "hardtanh": 2 * COMPARISON,
    "hardsigmoid": ADD + 2 * COMPARISON + DIV,
    "hardswish": HARDSWISH,
    "sigmoid": SIGMOID,
    "swish": SIGMOID,  # x / (1 + exp(−x))
    "tanh": TRANSCENDENTAL,
}

# What it does with an output and another tensor's element.
WITH = {None: Cost(), "": Cost(), "none": Cost(), "add": ADD, "sub": ADD, "sum": ADD, "mul": MUL,
        "div": DIV}  # fmt: skip


def after(name: str | None, algorithm: str | None) -> Cost:
    """The cost of an activation per element."""
    if name == "gelu":
        return gelu("tanh" if algorithm == "tanh" else "none", TensorSpec((1,)))
    return AFTER[name]


def combined_with(name: str | None, alpha: Any) -> Cost:
    """The cost of adding (or so) alpha·other per element."""
    return WITH[name] + (Cost() if alpha is None or alpha == 1 else MUL)


def biased(bias: Tensor) -> Cost:
    """An add, if there is a bias."""
    return Cost() if bias is None else ADD


# Linear layers


@rules.formula(*overloads("mkldnn::_linear_pointwise.default"))
def linear(
    X: TensorSpec,  # noqa: N803 (the schema's names)
    B: Tensor,  # noqa: N803
    attr: str,
    algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """A linear layer and an activation.

    Shapes: X (..., k), result (..., n).
    Counts: k MACs per output, an add for the bias, the activation.
    """
    product = Cost(macs=result.numel * X.shape[-1])
    return product + bias_sum(B, result) + after(attr, algorithm) * result.numel


@rules.formula(*overloads("mkldnn::_linear_pointwise.binary"))
def linear_binary(
    X: TensorSpec,  # noqa: N803
    B: Tensor,  # noqa: N803
    attr: str,
    result: TensorSpec,
) -> Cost:
    """A linear layer and another tensor added to it, or multiplied: one operation per output."""
    return linear(X, B, "none", None, result) + WITH[attr] * result.numel


def weight_once(
    X: TensorSpec,  # noqa: N803
    ORI_W: TensorSpec,  # noqa: N803
    B: Tensor,  # noqa: N803
    result: TensorSpec,
) -> tuple[int, int]:
    """The weight is given as it was and packed, by an unknown layout: one is read, as it was."""
    return size(X, ORI_W, B), size(result)


@rules.formula(*overloads("mkl::_mkl_linear.default"), nbytes=weight_once)
def mkl_linear(X: TensorSpec, B: Tensor, result: TensorSpec) -> Cost:  # noqa: N803
    """A linear layer: k MACs per output, an add for the bias."""
    return linear(X, B, "none", None, result)


@rules.formula(*overloads("onednn::linear_dynamic_fp16.default"))
def linear_fp16(x: TensorSpec, bias: Tensor, result: TensorSpec) -> Cost:
    """A linear layer with a weight in half precision: floating, as `linear`."""
    return linear(x, bias, "none", None, result)


@rules.formula(*overloads("onednn::linear_relu_dynamic_fp16.default"))
def linear_relu_fp16(x: TensorSpec, bias: Tensor, result: TensorSpec) -> Cost:
    """`linear_fp16` and ReLU."""
    return linear(x, bias, "relu", None, result)


@rules.formula(*overloads("mkldnn_linear_backward_input.default"))
def linear_backward_input(grad_output: TensorSpec, weight: TensorSpec) -> Cost:
    """The gradient of a linear layer's input.

    Shapes: grad_output (..., n), weight (n, k).
    Counts: k MACs per element of grad_output.
    """
    return Cost(macs=grad_output.numel * weight.shape[1])


@rules.formula(*overloads("mkldnn_linear_backward_weights.default"))
def linear_backward_weights(
    grad_output: TensorSpec, weight: TensorSpec, bias_defined: bool
) -> Cost:
    """The gradients of a linear layer's weight and bias.

    Counts: k MACs per element of grad_output; the bias sums the rows.
    """
    n, k = weight.shape
    rows = prod(grad_output.shape[:-1])
    return Cost(macs=grad_output.numel * k, adds=folds(n, rows) if bias_defined else 0)


@rules.formula(
    *overloads("onednn::qlinear_pointwise.default", "onednn::qlinear_pointwise.tensor"),
    typed=False,
)
def qlinear(
    *,
    qx: TensorSpec,
    bias: Tensor,
    post_op_name: str,
    post_op_algorithm: str,
    result: TensorSpec,
) -> Cost:
    """A quantized linear layer and an activation.

    Shapes: qx (..., k), result (..., n).
    Counts: k MACs per output in the type of qx; then in the result's an add for the bias, the
    activation, a mul for the scale; of a quantized result as in `quantized`.
    """
    product = Cost(macs=result.numel * qx.shape[-1]).in_dtype(qx.dtype)
    activation = after(post_op_name, post_op_algorithm)
    return product + from_sums(result, biased(bias) + activation)


@rules.formula(
    *overloads("onednn::qlinear_pointwise.binary", "onednn::qlinear_pointwise.binary_tensor"),
    typed=False,
)
def qlinear_binary(
    *,
    qx: TensorSpec,
    other: Tensor,
    bias: Tensor,
    binary_post_op: str,
    binary_alpha: float,
    unary_post_op: str,
    unary_post_op_algorithm: str,
    result: TensorSpec,
) -> Cost:
    """`qlinear` with another tensor added before the activation; dequantized if it is quantized."""
    product = Cost(macs=result.numel * qx.shape[-1]).in_dtype(qx.dtype)
    both = with_other(other, binary_post_op, binary_alpha)
    activation = both + after(unary_post_op, unary_post_op_algorithm)
    return product + from_sums(result, biased(bias) + activation)


def with_other(other: Tensor, name: str, alpha: Any) -> Cost:
    """Another tensor's element and an output: dequantized first if it is quantized."""
    quantized = other is not None and not other.dtype.is_floating_point
    return combined_with(name, alpha) + (DEQUANTIZE if quantized else Cost())


# Convolutions


def taps_of(x: TensorSpec, weight: TensorSpec, channels: int, groups: int) -> int:
    """Taps of a filter: `channels` of a group, by the kernel's positions."""
    return channels // groups * prod(weight.shape[2 - x.ndim :])


@rules.formula(*overloads("mkldnn::_convolution_pointwise.default"), family="convolution")
def convolution(
    *,
    X: TensorSpec,  # noqa: N803
    W: TensorSpec,  # noqa: N803
    B: Tensor,  # noqa: N803
    groups: int,
    attr: str,
    algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """A convolution and an activation.

    Counts: c_in/g·∏kernel MACs per output, an add for the bias, the activation.
    """
    product = Cost(macs=result.numel * taps_of(X, W, X.shape[1], groups))
    return product + bias_sum(B, result) + after(attr, algorithm) * result.numel


@rules.formula(
    *overloads("mkldnn::_convolution_pointwise.binary", "mkldnn::_convolution_pointwise_.binary"),
    family="convolution",
)
def convolution_binary(
    *,
    X: TensorSpec,  # noqa: N803
    W: TensorSpec,  # noqa: N803
    B: Tensor,  # noqa: N803
    groups: int,
    binary_attr: str,
    alpha: Any,
    unary_attr: str | None,
    unary_algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """A convolution, alpha·other added to it (or so), and an activation."""
    plain = convolution(X=X, W=W, B=B, groups=groups, attr="none", algorithm=None, result=result)
    each = combined_with(binary_attr, alpha) + after(unary_attr, unary_algorithm)
    return plain + each * result.numel


@rules.formula(*overloads("mkldnn::_convolution_transpose_pointwise.default"), family="convolution")
def transpose(
    *,
    X: TensorSpec,  # noqa: N803
    W: TensorSpec,  # noqa: N803
    B: Tensor,  # noqa: N803
    groups: int,
    attr: str,
    algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """A transposed convolution and an activation.

    Counts: c_out/g·∏kernel MACs per input element, an add per output for the bias, the activation.
    """
    product = Cost(macs=X.numel * taps_of(X, W, result.shape[1], groups))
    return product + bias_sum(B, result) + after(attr, algorithm) * result.numel


def kernel_of(W_prepack: Any) -> tuple[int, int]:  # noqa: N803
    """Taps of a packed convolution, and whether it has a bias."""
    weight, bias, *_ = W_prepack.__getstate__()[0]
    return prod(weight.shape[1:]), bias is not None


@rules.formula(
    *overloads("mkldnn_prepacked::conv2d_run.default"), family="convolution", takes=kernel_of
)
def conv2d_run(result: TensorSpec, taken: Taken) -> Cost:
    """A convolution by a weight that TorchScript has packed.

    Counts: taps MACs per output, an add for the bias.
    Ignores: an activation packed with it, which it doesn't tell.
    """
    taps, bias = kernel(taken)
    return Cost(macs=taps, adds=bias) * result.numel


@rules.formula(
    *overloads(
        "onednn::qconv1d_pointwise.default", "onednn::qconv2d_pointwise.default",
        "onednn::qconv3d_pointwise.default", "onednn::qconv_pointwise.default",
        "onednn::qconv2d_pointwise.tensor", "onednn::qconv_pointwise.tensor",
    ),
    family="convolution",
    typed=False,
)  # fmt: skip
def qconv(
    *,
    qx: TensorSpec,
    qw: TensorSpec,
    bias: Tensor,
    groups: int,
    attr: str,
    algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """A quantized convolution and an activation.

    Counts: c_in/g·∏kernel MACs per output in the type of qx; then as `qlinear`.
    """
    product = Cost(macs=result.numel * taps_of(qx, qw, qx.shape[1], groups)).in_dtype(qx.dtype)
    return product + from_sums(result, biased(bias) + after(attr, algorithm))


@rules.formula(
    *overloads("onednn::qconv2d_pointwise.binary", "onednn::qconv2d_pointwise.binary_tensor"),
    family="convolution",
    typed=False,
)
def qconv_binary(
    *,
    qx: TensorSpec,
    qw: TensorSpec,
    qaccum: TensorSpec,
    bias: Tensor,
    groups: int,
    binary_attr: str,
    alpha: Any,
    unary_attr: str | None,
    unary_algorithm: str | None,
    result: TensorSpec,
) -> Cost:
    """`qconv` with another tensor added before the activation; dequantized if it is quantized."""
    product = Cost(macs=result.numel * taps_of(qx, qw, qx.shape[1], groups)).in_dtype(qx.dtype)
    activation = with_other(qaccum, binary_attr, alpha) + after(unary_attr, unary_algorithm)
    return product + from_sums(result, biased(bias) + activation)


# Packing lays elements out for a kernel, and may sum up a column of integers, once.
PACKING = """
    mkldnn::_reorder_linear_weight.default mkldnn::_reorder_convolution_weight.default
    mkldnn::_reorder_convolution_transpose_weight.default
    mkldnn::_reorder_mkldnn_rnn_layer_weight.default mkl::_mkl_reorder_linear_weight.default
    mkldnn_prepacked::conv2d_prepack.default onednn::qlinear_prepack.default
    onednn::qconv_prepack.default onednn::linear_prepack_fp16.default
"""
rules.zero(*overloads(*PACKING.split()), family="movement")

QUESTIONS = """
    mkldnn::data_ptr.default mkldnn::_nbytes.default mkldnn::_get_mkldnn_serialized_md.default
"""
rules.zero(*overloads(*QUESTIONS.split()), family="movement", nbytes=nothing)
