"""Formulas: one operator family a file, each exporting `rules`.

FAMILIES is the list; `default_registry` builds the registry of all of them once.
"""

from functools import cache
from importlib import import_module

from flopdispatch.registry import Registry

FAMILIES = (
    "matmul",
    "matmul_scaled",
    "convolution",
    "attention",
    "attention_packed",
    "attention_layers",
    "attention_libraries",
    "control_flow",
    "normalization",
    "batch_norm",
    "softmax",
    "pointwise",
    "activation",
    "reduction",
    "distance",
    "pooling",
    "upsample",
    "grid",
    "embedding",
    "scatter",
    "loss",
    "ctc",
    "ordering",
    "movement",
    "windows",
    "composite_out",
    "random",
    "statistics",
    "prims",
    "rnn",
    "sparse",
    "sparse_entries",
    "sparse_elements",
    "sparse_quantized",
    "nested",
    "fft",
    "linalg",
    "linalg_solve",
    "linalg_spectral",
    "quantization",
    "quantized",
    "quantized_rnn",
    "quantized_elements",
    "packed",
    "semi_structured",
    "vision",
    "vision_boxes",
    "optimizer",
    "collectives",
    "internals",
    "quantized_decomposed",
    "linear_cross_entropy",
)


@cache
def default_registry() -> Registry:
    """The built-in rules: every family, frozen. Make an `overlay` of it to add your own.

    Example:

        >>> import torch
        >>> print(default_registry().explain(torch.ops.aten.add_.Tensor).state)
        counted
        >>> default_registry().overlay("mine").name
        'mine'
    """
    registry = Registry(
        "flopdispatch",
        "FLOPs = 2 x MACs + adds + muls + divs; transcendentals and comparisons apart",
    )
    for family in FAMILIES:
        registry.include(import_module(f"flopdispatch.formulas.{family}").rules)
    return registry.freeze()
