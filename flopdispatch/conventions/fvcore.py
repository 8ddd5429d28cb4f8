"""fvcore's `FlopCountAnalysis`: MACs of products, and rough counts of some other layers.

Its figure is `macs`, which it calls flops. It counts layer, group and training batch normalization
as 5 an element with a weight and 4 without, batch normalization by the running statistics as 2 or
1, adaptive average pooling over two dimensions as 1 an element of the input, interpolation by
nearest neighbours as 1 an element of the output, bilinear as 4, sampling at a grid as 4.

Where it has no figure, products are counted: fused attention, recurrent layers, convolutions with
`padding="same"`, `mv`, `dot`, `baddbmm` and others. What it gets wrong isn't copied: a matrix
product that broadcasts its first factor; einsum of other equations than those of `bmm`, which it
takes from a text of four digits, and at half a MAC for a product that isn't summed; instance
normalization by running statistics, which it counts as training does. Complex numbers take four
MACs for one and integers none.

An adaptive pooling to one element runs as a mean over the last two dimensions, the last first,
which stay. It is known by that; `x.mean((-1, -2), keepdim=True)` is the same to us.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from flopdispatch.conventions import PRODUCTS
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

Tensor = TensorSpec | None


@cache
def registry() -> Registry:
    """The rules, frozen."""
    rules = default_registry().overlay(
        "fvcore",
        "MACs of products; normalization 5 an element of a layer, a group or in training, else 2; "
        "adaptive pooling 1, nearest 1, bilinear 4",
        PRODUCTS,
    )
    for family, formula, names in RULES:
        rules.formula(*overloads(*names.split()), family=family, typed=False)(formula)
    return rules.freeze()


def norm(input: TensorSpec, weight: Tensor) -> Cost:
    """Normalization by the input's own statistics.

    Counts: 5 an element with a weight, 4 without.
    Example: (2, 8) with a weight: 80.
    """
    return Cost(macs=input.numel * (5 if weight is not None else 4))


def batch_norm(input: TensorSpec, weight: Tensor, training: bool) -> Cost:
    """Batch normalization, in training as `norm`, otherwise as `batch_norm_inference`."""
    return norm(input, weight) if training else batch_norm_inference(input, weight)


def batch_norm_inference(input: TensorSpec, weight: Tensor) -> Cost:
    """Batch normalization by the running statistics.

    Counts: 2 an element with a weight, 1 without.
    """
    return Cost(macs=input.numel * (2 if weight is not None else 1))


def adaptive_avg_pool2d(self: TensorSpec) -> Cost:
    """Adaptive average pooling.

    Counts: 1 an element of the input.
    """
    return Cost(macs=self.numel)


def mean(self: TensorSpec, dim: Sequence[int] | None, keepdim: bool) -> Cost:
    """An adaptive pooling to one element, as ATen runs it; another mean is nothing."""
    pooling = dim is not None and tuple(dim) == (-1, -2) and keepdim
    return adaptive_avg_pool2d(self) if pooling else Cost()


def nearest(result: TensorSpec) -> Cost:
    """Interpolation by nearest neighbours.

    Counts: 1 an element of the output.
    """
    return Cost(macs=result.numel)


def bilinear(result: TensorSpec) -> Cost:
    """Bilinear interpolation, and sampling at a grid whatever its mode.

    Counts: 4 an element of the output.
    Example: (2000, 3, 10, 10) to twice the size: 2,400,000 elements, 9,600,000.
    """
    return Cost(macs=4 * result.numel)


# Counts don't go by the dtype: fvcore's don't.
RULES = (
    ("normalization", norm, """native_layer_norm.default native_group_norm.default
        _batch_norm_with_update.default _batch_norm_with_update.out
        _batch_norm_with_update_functional.default"""),
    ("normalization", batch_norm, """native_batch_norm.default
        _native_batch_norm_legit.default _native_batch_norm_legit.no_stats
        _native_batch_norm_legit.out _native_batch_norm_legit_functional.default
        cudnn_batch_norm.default miopen_batch_norm.default"""),
    ("normalization", batch_norm_inference, """_native_batch_norm_legit_no_training.default
        _batch_norm_no_update.default"""),
    ("pooling", adaptive_avg_pool2d, """_adaptive_avg_pool2d.default
        mkldnn_adaptive_avg_pool2d.default"""),
    ("pooling", mean, "mean.dim"),
    ("upsample", nearest, "upsample_nearest2d.default"),
    ("upsample", bilinear, "upsample_bilinear2d.default"),
    ("grid_sample", bilinear, """grid_sampler_2d.default grid_sampler_3d.default
        _grid_sampler_2d_cpu_fallback.default cudnn_grid_sampler.default"""),
)  # fmt: skip
