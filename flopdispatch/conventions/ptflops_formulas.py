"""The formulas of `flopdispatch.conventions.ptflops`: what each operator counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import isclose, prod

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import Tensor, paired, rows
from flopdispatch.formulas.attention_layers import lengths
from flopdispatch.formulas.convolution import products as taps
from flopdispatch.formulas.matmul import Number
from flopdispatch.formulas.rnn import GRU, LSTM, RELU, TANH, Tensors, biases, matrices, rows_of
from flopdispatch.spec import TensorSpec

Formula = Callable[..., Cost]

# The element-wise part of a recurrent cell, for each hidden unit.
CELL = {RELU: 1, TANH: 1, GRU: 7, LSTM: 10}


# Formulas made of others


def with_bias(formula: Formula) -> Formula:
    """A product's formula, whose sums of a bias are MACs."""

    @wraps(formula)
    def biased(**arguments: object) -> Cost:
        cost = formula(**arguments)
        return Cost(macs=cost.macs + cost.adds)

    return biased


def twice(formula: Formula) -> Formula:
    """A formula, two times."""

    @wraps(formula)
    def doubled(**arguments: object) -> Cost:
        return 2 * formula(**arguments)

    return doubled


# Element by element


def each_output(result: TensorSpec) -> Cost:
    """One for each element of the output."""
    return Cost(macs=result.numel)


def each_input(self: TensorSpec) -> Cost:
    """One for each element of the input, whatever the windows are."""
    return Cost(macs=self.numel)


def bias(other: TensorSpec | Number, result: TensorSpec) -> Cost:
    """One for each element of the output, if a vector is added; any other sum is nothing."""
    return each_output(result) if isinstance(other, TensorSpec) and other.ndim == 1 else Cost()


def elu(scale: Number, input_scale: Number, result: TensorSpec) -> Cost:
    """ELU one, SELU nothing: it is the same operator with a scale."""
    return each_output(result) if scale == input_scale == 1 else Cost()


def hardtanh(min_val: Number, max_val: Number, result: TensorSpec) -> Cost:
    """ReLU6 one, all other bounds nothing."""
    return each_output(result) if (min_val, max_val) == (0, 6) else Cost()


def mean(self: TensorSpec, dim: tuple[int, ...] | None, keepdim: bool) -> Cost:
    """Adaptive pooling to one element, which torch runs so; any other mean is nothing.

    It is known by its dimensions, (-1, -2) or (-1, -2, -3), that are kept.
    """
    is_pooling = keepdim and dim in ((-1, -2), (-1, -2, -3))
    return each_input(self) if is_pooling else Cost()


def batch_norm(input: TensorSpec, weight: Tensor) -> Cost:
    """One for each element, two with a weight."""
    return Cost(macs=input.numel if weight is None else 2 * input.numel)


def layer_norm(input: TensorSpec) -> Cost:
    """One for each element, with a weight too."""
    return Cost(macs=input.numel)


def group_norm(weight: Tensor, N: int, C: int, HxW: int) -> Cost:  # noqa: N803  the schema's names
    """One for each element, two with a weight."""
    return Cost(macs=(1 if weight is None else 2) * N * C * HxW)


# Attention


def scale(self: TensorSpec, other: Number, result: TensorSpec) -> Cost:
    """The scale of attention's queries, one for each element; any other factor is nothing.

    Where attention runs as plain products, queries and transposed keys are each multiplied by the
    root of 1/√d, d being the last dimension of the queries.
    """
    if self.ndim < 2 or isinstance(other, complex):
        return Cost()
    d, transposed = self.shape[-1], self.stride is not None and self.stride[-1] != 1
    is_scale = d > 0 and not transposed and isclose(other, d**-0.25, rel_tol=1e-6)
    return each_output(result) if is_scale else Cost()


def attention(query: TensorSpec, key: TensorSpec, value: TensorSpec) -> Cost:
    """Both products, one for each score (softmax) and for each element of the queries (scale).

    Shapes: query (b, h, s, d), key (b, g, t, d), value (b, g, t, e).
    Example: (1, 2, 3, 4) with 5 keys: 30·(4 + 4) + 30 + 24 = 294.
    """
    scores = rows(query) * key.shape[-2]
    return Cost(macs=scores * (query.shape[-1] + value.shape[-1] + 1) + query.numel)


def multi_head(query: TensorSpec, key: TensorSpec, embed_dim: int, num_head: int) -> Cost:
    """Four projections with their biases, and `attention`.

    Shapes: query (b, s, m), key and value (b, t, m).
    Example: (1, 2, 4), 2 heads: 4·2·4·4 projected, 4·2·4 biases, 8·2·2 + 8 scores, 8 scaled: 208.
    """
    m, queries, keys = embed_dim, lengths(query, embed_dim), lengths(key, embed_dim)
    _, pairs = paired(queries, keys)
    projected = (2 * sum(queries) + 2 * sum(keys)) * m * (m + 1)
    return Cost(macs=projected + pairs * (2 * m + num_head) + sum(queries) * m)


def encoder_layer(
    src: TensorSpec, embed_dim: int, num_heads: int, ffn_weight_1: TensorSpec
) -> Cost:
    """`multi_head`, two linear layers with biases, the activation, two layer norms.

    Shapes: src (b, s, m), ffn_weight_1 (f, m).
    """
    positions, m, f = sum(lengths(src, embed_dim)), embed_dim, ffn_weight_1.shape[0]
    linear = positions * (f * (m + 1) + m * (f + 1))
    elementwise = positions * (f + 2 * m)
    return multi_head(src, src, m, num_heads) + Cost(macs=linear + elementwise)


# Recurrent layers


def recurrent(mode: int, rows: int, units: int, weights: Tensors) -> Cost:
    """Products and biases of each row, and `CELL` of each hidden unit."""
    return Cost(macs=rows * (matrices(weights) + biases(weights)) + CELL[mode] * units)


def rnn_layer(
    input: TensorSpec,
    weight0: TensorSpec,
    weight1: TensorSpec,
    weight2: TensorSpec,
    weight3: TensorSpec,
    *,
    mode: int,
    hidden_size: int,
    has_biases: bool,
) -> Cost:
    """One layer in one direction.

    Shapes: input (steps, batch, i), weight0 (g·h, i), weight1 (g·h, h), biases (g·h,).
    Example: LSTM(2, 3), one step: 12·2 + 12·3 + 2·12 + 10·3 = 114.
    """
    weights = (weight0, weight1, weight2, weight3) if has_biases else (weight0, weight1)
    return recurrent(mode, rows_of(input), rows_of(input) * hidden_size, weights)


def rnn(
    input: TensorSpec,
    weight: Tensors,
    *,
    mode: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
) -> Cost:
    """All layers in all directions: as `rnn_layer`."""
    units = rows_of(input) * hidden_size * num_layers * (2 if bidirectional else 1)
    return recurrent(mode, rows_of(input), units, weight)


def lstm_cell(cx: TensorSpec, input_bias: Tensor, hidden_bias: Tensor) -> Cost:
    """What follows the products of an LSTM's cell.

    Shapes: cx (batch, h), biases (4·h,).
    """
    return cell(LSTM, cx, input_bias, hidden_bias)


def gru_cell(hx: TensorSpec, input_bias: Tensor, hidden_bias: Tensor) -> Cost:
    """What follows the products of a GRU's cell.

    Shapes: hx (batch, h), biases (3·h,).
    """
    return cell(GRU, hx, input_bias, hidden_bias)


def cell(mode: int, state: TensorSpec, *added: Tensor) -> Cost:
    """`CELL` of each hidden unit, and the biases."""
    return recurrent(
        mode, state.shape[0], state.numel, [bias for bias in added if bias is not None]
    )


# Deformable convolution


def deform_conv2d(weight: TensorSpec, use_mask: bool, result: TensorSpec) -> Cost:
    """A convolution with its bias, and 24 for each tap of an output position, 25 with a mask.

    Shapes: weight (d, c/g, i, j), result (n, d, p, q).
    Example: (1, 1, 3, 3) on one output position: 9 taps, 1 bias and 9·24.
    """
    n, _, p, q = result.shape
    sampled = n * p * q * prod(weight.shape[2:]) * (25 if use_mask else 24)
    return taps(result, weight) + Cost(macs=sampled + result.numel)
