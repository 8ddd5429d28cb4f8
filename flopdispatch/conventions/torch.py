"""`torch.utils.flop_counter.FlopCounterMode`: twice the MACs of products; all else is nothing.

Its figure is `flops`. What it gets wrong isn't copied: the weight's gradient of a grouped
convolution, which it multiplies by the number of groups, and operators of these families that it
has no formula for.
"""

from __future__ import annotations

from functools import cache

from flopdispatch.conventions import PRODUCTS
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.attention import rows
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec


@cache
def registry() -> Registry:
    """The rules, frozen."""
    rules = default_registry().overlay(
        "torch", "FLOPs = 2 x MACs of matrix products, convolutions and attention", PRODUCTS
    )
    rules.formula(
        *overloads(
            "_scaled_dot_product_flash_attention_backward.default",
            "_scaled_dot_product_flash_attention_for_cpu_backward.default",
            "_scaled_dot_product_efficient_attention_backward.default",
            "_scaled_dot_product_cudnn_attention_backward.default",
        ),
        family="attention",
    )(attention_backward)
    return rules.freeze()


def attention_backward(query: TensorSpec, key: TensorSpec, value: TensorSpec) -> Cost:
    """The gradients of fused attention, with the scores that the kernel computes again.

    Shapes: query (b, h, s, d), key (b, h, t, d), value (b, h, t, e).
    Counts: five products: b·h·s·t·(3·d + 2·e) MACs.
    """
    scores = rows(query) * key.shape[-2]
    return Cost(macs=scores * (3 * query.shape[-1] + 2 * value.shape[-1]))
