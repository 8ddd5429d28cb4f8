"""thop 0.1.1: MACs of products, and operations of some other layers, in one figure: `macs`.

Beside the MACs of matrix products, convolutions and attention, thop counts

- normalization (batch, layer, instance; group likewise here): 2 an element, 4 with weights
- softmax, in attention too: for n elements n exponentials, n - 1 additions, n divisions
- PReLU: 1 an element
- average pooling: 1 an output; adaptive: 1 an input and 1 an output
- interpolation: for an output nearest 1, linear 5, bilinear 11, trilinear 31, bicubic 259

All else is nothing: biases, activations, maxima, losses, RMS normalization (which most devices run
as elementwise operators), all backwards but those of products.

Recurrent layers are modules to thop; the operators that they run as are matrix products and
elementwise ones. `recurrent` has thop's figure for the module, which compat.thop counts by.

PyTorch runs adaptive pooling to one cell as a mean over the last two or three dimensions: any
such mean counts so.

What thop gets wrong isn't copied: it counts the taps of a transposed convolution at each output
position, where each input position has them; takes the second dimension of an input without a
batch for its channels; counts nothing for trilinear, though it has a figure; rounds windows of
adaptive pooling that don't divide the input, and at times loses one; takes packed sequences as
if all were as long as the longest, and the projections of an LSTM as if they weren't there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from math import prod
from typing import Any

from torch import nn

from flopdispatch.conventions import PRODUCTS
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.attention import Tensor
from flopdispatch.formulas.attention_layers import lengths, multi_head
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.rules import Rule, name_of
from flopdispatch.spec import TensorSpec

NORMALIZATION = """
native_batch_norm.default _native_batch_norm_legit.default _native_batch_norm_legit.out
_native_batch_norm_legit.no_stats _native_batch_norm_legit_functional.default
_native_batch_norm_legit_no_training.default _batch_norm_no_update.default
_batch_norm_with_update.default _batch_norm_with_update.out
_batch_norm_with_update_functional.default cudnn_batch_norm.default miopen_batch_norm.default
batch_norm_elemt.default native_layer_norm.default native_group_norm.default
"""

AVERAGE = "avg_pool2d.default avg_pool3d.default"

ADAPTIVE_AVERAGE = """
_adaptive_avg_pool2d.default mkldnn_adaptive_avg_pool2d.default _adaptive_avg_pool3d.default
"""

NEAREST = """
upsample_nearest1d.default upsample_nearest2d.default upsample_nearest3d.default
_upsample_nearest_exact1d.default _upsample_nearest_exact2d.default
_upsample_nearest_exact3d.default
"""

BILINEAR = "upsample_bilinear2d.default _upsample_bilinear2d_aa.default"

BICUBIC = "upsample_bicubic2d.default _upsample_bicubic2d_aa.default"

SOFTMAX = "_softmax.default _safe_softmax.default _masked_softmax.default"


@cache
def registry() -> Registry:
    """The rules, frozen."""
    rules = default_registry().overlay(
        "thop",
        "MACs of matrix products, convolutions and attention, and thop's operations of "
        "normalization, softmax, average pooling, interpolation and PReLU",
        PRODUCTS,
    )
    for names, formula in FORMULAS:
        for overload in overloads(*names.split()):
            known = default_registry().rule(overload)
            assert known is not None
            rules.adopt(known, formula, typed=False)
    for known in default_registry():
        if known.overload in overloads(*SOFTMAX.split()):
            rules.adopt(known, translated(known.formula, softmax), typed=False)
        elif known.family == "attention" and attends(known):
            rules.adopt(known, translated(known.formula, attention))
    return rules.freeze()


# Layers


def normalization(input: TensorSpec, weight: Tensor) -> Cost:
    """Normalization by statistics, whichever they are.

    Counts: 2 an element (subtract the mean, divide), 4 with weights.
    """
    return Cost(macs=(2 if weight is None else 4) * input.numel)


def per_output(each: int) -> Callable[..., Cost]:
    """The formula of a layer that thop counts by its output's elements."""

    def formula(result: TensorSpec) -> Cost:
        """Counts: so many for each element of the result."""
        return Cost(macs=each * result.numel)

    return formula


def adaptive_average(self: TensorSpec, result: TensorSpec) -> Cost:
    """Means of adaptive windows.

    Counts: 1 for each element of the input, as if windows shared none, and 1 for each result.
    """
    return Cost(macs=self.numel + result.numel)


def mean(self: TensorSpec, dim: tuple[int, ...] | None, result: TensorSpec) -> Cost:
    """Adaptive pooling to one cell, if it is over the last two or three dimensions and no more.

    Example: (2, 8, 7, 7) over (2, 3): 784 + 16.
    """
    reduced = sorted(d % self.ndim for d in dim or ())
    pools = len(reduced) in (2, 3) and len(reduced) < self.ndim
    if pools and reduced == list(range(self.ndim - len(reduced), self.ndim)):
        return adaptive_average(self, result)
    return Cost()


# Softmax, by what flopdispatch counts of it: n exponentials, n - 1 comparisons for the largest as
# there are additions for the sum, n divisions.


def translated(
    formula: Callable[..., Cost] | None, into: Callable[[Cost], Cost]
) -> Callable[..., Cost]:
    """A formula whose cost goes through `into`; it asks for the same arguments."""
    assert formula is not None
    found = formula

    @wraps(found)
    def translation(**given: Any) -> Cost:
        return into(found(**given))

    return translation


def softmax(cost: Cost) -> Cost:
    """From the cost of a softmax.

    Example: (2, 3) along 1: 2·(3 + 2 + 3) = 16.
    """
    return Cost(macs=cost.transcendentals + cost.comparisons + cost.divs)


def attention(cost: Cost) -> Cost:
    """From the cost of attention: its products and its softmax, with a division a score."""
    return Cost(macs=cost.macs + 2 * cost.transcendentals + cost.comparisons)


def attends(known: Rule) -> bool:
    """Whether all of a formula's exponentials and comparisons are those of attention's softmax."""
    others = "backward", "_transform_bias", "_encoder_layer", "onnx::"
    return known.formula is not None and not any(n in name_of(known.overload) for n in others)


def encoder_layer(
    src: TensorSpec,
    embed_dim: int,
    num_heads: int,
    ffn_weight_1: TensorSpec,
    mask: Tensor,
) -> Cost:
    """nn.TransformerEncoderLayer that a kernel runs whole: attention, 2 linear layers, 2 norms.

    Shapes: src (b, s, m), ffn_weight_1 (f, m).
    Example: (1, 3, 4), 2 heads, f = 8: 4·48 + 2·36 + 48 of attention, 2·96, 2·48.
    """
    m, f = embed_dim, ffn_weight_1.shape[0]
    positions = sum(lengths(src, m))
    return attention(multi_head(src, src, m, num_heads, mask)) + Cost(
        macs=2 * positions * m * f + 2 * 4 * positions * m
    )


FORMULAS: tuple[tuple[str, Callable[..., Cost]], ...] = (
    (NORMALIZATION, normalization),
    ("_prelu_kernel.default", per_output(1)),
    (AVERAGE, per_output(1)),
    (ADAPTIVE_AVERAGE, adaptive_average),
    ("mean.dim", mean),
    (NEAREST, per_output(1)),
    ("upsample_linear1d.default", per_output(5)),
    (BILINEAR, per_output(11)),
    ("upsample_trilinear3d.default", per_output(31)),
    (BICUBIC, per_output(259)),
    ("_transformer_encoder_layer_fwd.default", encoder_layer),
)


# Recurrent layers

# By class: gates, each a linear layer, and the elementwise products and sums behind them.
GATES = {
    nn.RNN: (1, 0),
    nn.RNNCell: (1, 0),
    nn.GRU: (3, 4),
    nn.GRUCell: (3, 4),
    nn.LSTM: (4, 4),
    nn.LSTMCell: (4, 4),
}


def recurrent(module: nn.RNNBase | nn.RNNCellBase, output: Any) -> int:
    """thop's figure of one call of a recurrent layer or cell, from what it returned.

    Shapes: output (..., state) or a packed sequence, alone or the first of a tuple.
    Counts, for a step of a sequence: in each gate a product for each unit and element of input
    and state, and an addition a unit, with biases three; what is behind the gates; an LSTM's
    projection.
    Example: LSTM(4, 6), 3 steps of 2 sequences: 6·(4·(6·(4 + 6) + 3·6) + 4·6) = 2,016.
    """
    while isinstance(output, tuple):  # a packed sequence is one as well, its data first
        output = output[0]
    gates, behind = GATES[type(module)]
    h, projected = module.hidden_size, int(getattr(module, "proj_size", 0))
    state, directions = projected or h, 1 + int(getattr(module, "bidirectional", False))
    inputs = [module.input_size] + [state * directions] * (getattr(module, "num_layers", 1) - 1)
    added = h * (3 if module.bias else 1)
    layers = (gates * (h * (i + state) + added) + behind * h + h * projected for i in inputs)
    steps: int = prod(output.shape[:-1])
    return steps * directions * sum(layers)
