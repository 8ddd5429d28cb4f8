"""torchstat 0.0.7: its Flops in `macs`, its MAdd in `muls + adds`. Its units are its own:

| operator | Flops | MAdd |
|---|---|---|
| convolution | MACs, 1 an output for a bias | 2 x MACs, less 1 an output without a bias |
| transposed convolution | the same | the same, by inputs of a channel in place of outputs |
| matrix product, linear layer | MACs | 2 x MACs, less 1 an output; no bias |
| batch normalization | 2 an element, without weights 1 | 4 an element |
| ReLU, ReLU6 | 1 an element | 1 an element |
| PReLU, ELU, leaky ReLU | 1 an element | nothing |
| maximum pooling by k cells | 1 an element of the input | k - 1 an output |
| average pooling by k cells | 1 an element of the input | k an output |
| softmax of n | nothing | 3n - 1 a row |
| interpolation | 1 an output | nothing |

Bytes are those of these operators, a window's indices and running statistics left out. All else
is nothing and moves nothing: other activations and normalizations, adaptive pooling, sums.

torchstat looks at modules. So this also counts functional calls, and what torchstat has no module
for: attention, recurrent layers, other products and backwards (2 x MACs as MAdd), other dimensions,
batches, `Hardtanh` and `SELU`, which run as ReLU6 and ELU do. What it gets wrong isn't copied: the
channels of an upsampling, which it drops; a softmax of many rows, which it takes for one; a linear
layer's batch, which its MAdd drops.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

from flopdispatch.conventions import PRODUCTS
from flopdispatch.cost import Cost
from flopdispatch.formulas import convolution as dense
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pooling import window
from flopdispatch.formulas.softmax import rows_of
from flopdispatch.registry import Registry
from flopdispatch.rules import Rule, Traffic, parameters
from flopdispatch.spec import TensorSpec

Sizes = tuple[int, ...]
Formula = Callable[..., Cost]
Result = TensorSpec | tuple[TensorSpec, ...]


@cache
def registry() -> Registry:
    """The rules, frozen."""
    default = default_registry()
    rules = default.overlay(
        "torchstat",
        "torchstat's Flops in macs, its MAdd in muls + adds, and the bytes of what it counts",
        keeps={},
    )
    for family, formula, moved, names in RULES:
        rules.formula(*overloads(*names.split()), family=family, nbytes=moved)(formula)
    own = {rule.overload for rule in rules if rule.keeps is None}
    for rule in default:
        if rule.family in PRODUCTS and rule.formula is not None and rule.overload not in own:
            rules.adopt(rule, product(rule))
    own = {rule.overload for rule in rules if rule.keeps is None}
    for overload, family in {rule.overload: rule.family for rule in default}.items():
        if overload not in own:
            rules.zero(overload, family=family, nbytes=nothing)
    return rules.freeze()


def nothing() -> tuple[int, int]:
    """The bytes of what torchstat doesn't count."""
    return 0, 0


def product(rule: Rule) -> Formula:
    """The formula of a product from flopdispatch's.

    Counts: its MACs, for Flops; a multiplication each, and an addition but for the first of each
    output. A product with several outputs (a backward, a layer): an addition each.
    """
    found = rule.formula
    assert found is not None
    asked = parameters(found)

    def formula(**given: Any) -> Cost:
        cost, result = found(**{name: given[name] for name in asked}), given["result"]
        outputs = result.numel if isinstance(result, TensorSpec) and rule.family == "matmul" else 0
        return Cost(macs=cost.macs, muls=cost.macs, adds=combined(cost.macs, outputs))

    names = dict.fromkeys((*asked, "result"))
    formula.__dict__["__signature__"] = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    )
    return formula


def convolution(
    input: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    transposed: bool,
    result: TensorSpec,
) -> Cost:
    """Convolution, transposed or not.

    Shapes: input (batch, c_in, positions...), result (batch, c_out, positions...).
    Counts: MACs, and 1 an output for a bias; a multiplication and an addition a MAC, less an
    addition an output without a bias. Transposed, positions of the input are its outputs.
    Example: (1, 3, 8, 8) by (4, 3, 3, 3) and a bias: 144 outputs, 28·144 Flops, 54·144 MAdd.
    """
    macs = dense.convolution(input, weight, None, transposed, result).macs
    if bias is not None:
        return Cost(macs=macs + result.numel, muls=macs, adds=macs)
    batch, _, *positions = input.shape
    sums = batch * result.shape[1] * prod(positions) if transposed else result.numel
    return Cost(macs=macs, muls=macs, adds=combined(macs, sums))


def batch_norm(input: TensorSpec, weight: TensorSpec | None) -> Cost:
    """Batch normalization.

    Counts: 2 an element with weights, 1 without; minus, by, times, plus: 4 an element.
    """
    n = input.numel
    return Cost(macs=n if weight is None else 2 * n, muls=2 * n, adds=2 * n)


def batch_norm_bytes(input: TensorSpec, result: Result) -> tuple[int, int]:
    """The input and two weights of each channel, whether there are any; the output."""
    channels = input.shape[1] if input.ndim > 1 else 0
    return input.nbytes + 2 * channels * input.dtype.itemsize, values(result).nbytes


def values(result: Result) -> TensorSpec:
    """The output of an operator that may return others behind it."""
    return result if isinstance(result, TensorSpec) else result[0]


def relu(result: TensorSpec) -> Cost:
    """ReLU, ReLU6: 1 an element, of both."""
    return Cost(macs=result.numel, adds=result.numel)


def one_an_output(result: TensorSpec) -> Cost:
    """Flops only: 1 an element of the output."""
    return Cost(macs=result.numel)


def max_pool(dims: int) -> Formula:
    """The formula of the largest of windows over so many dimensions."""

    def formula(self: TensorSpec, kernel_size: Sizes, result: Result) -> Cost:
        """Counts: 1 an element of the input; k - 1 comparisons, as additions, an output."""
        cells, outputs = window(kernel_size, dims), values(result).numel
        return Cost(macs=self.numel, adds=(cells - 1) * outputs)

    return formula


def avg_pool(dims: int) -> Formula:
    """The formula of means of windows over so many dimensions."""

    def formula(self: TensorSpec, kernel_size: Sizes, result: Result) -> Cost:
        """Counts: 1 an element of the input; k - 1 additions and a division an output."""
        cells, outputs = window(kernel_size, dims), values(result).numel
        return Cost(macs=self.numel, muls=outputs, adds=(cells - 1) * outputs)

    return formula


def pool_bytes(self: TensorSpec, result: Result) -> tuple[int, int]:
    """The input; the output without indices."""
    return self.nbytes, values(result).nbytes


def softmax(self: TensorSpec, dim: int) -> Cost:
    """Softmax along one dimension.

    Counts, for a row of n: n exponentials and n divisions as products, n - 1 additions.
    Example: (1, 10): 29.
    """
    rows, n = rows_of(self, dim)
    return Cost(muls=2 * rows * n, adds=rows * (n - 1))


NORMALIZATION = """native_batch_norm.default _native_batch_norm_legit.default
    _native_batch_norm_legit.out _native_batch_norm_legit.no_stats
    _native_batch_norm_legit_functional.default _native_batch_norm_legit_no_training.default
    _batch_norm_no_update.default _batch_norm_with_update.default _batch_norm_with_update.out
    _batch_norm_with_update_functional.default cudnn_batch_norm.default miopen_batch_norm.default"""
INTERPOLATION = """upsample_nearest1d.default upsample_nearest2d.default upsample_nearest3d.default
    _upsample_nearest_exact1d.default _upsample_nearest_exact2d.default
    _upsample_nearest_exact3d.default upsample_linear1d.default upsample_bilinear2d.default
    upsample_trilinear3d.default upsample_bicubic2d.default _upsample_bilinear2d_aa.default
    _upsample_bicubic2d_aa.default _upsample_lanczos2d_aa.default"""

# Family, formula, what says the bytes if it isn't the arguments and results, and the overloads.
RULES: tuple[tuple[str, Formula, Traffic | None, str], ...] = (
    ("convolution", convolution, None,
     "convolution.default _convolution.default convolution_overrideable.default"),
    ("normalization", batch_norm, batch_norm_bytes, NORMALIZATION),
    ("pointwise", relu, None, "relu.default hardtanh.default"),
    ("pointwise", one_an_output, None, "_prelu_kernel.default elu.default leaky_relu.default"),
    ("pooling", max_pool(2), pool_bytes,
     "max_pool2d_with_indices.default mkldnn_max_pool2d.default"),
    ("pooling", max_pool(3), pool_bytes,
     "max_pool3d_with_indices.default mkldnn_max_pool3d.default"),
    ("pooling", avg_pool(2), None, "avg_pool2d.default"),
    ("pooling", avg_pool(3), None, "avg_pool3d.default"),
    ("softmax", softmax, None, "_softmax.default _safe_softmax.default"),
    ("upsample", one_an_output, None, INTERPOLATION),
)  # fmt: skip
