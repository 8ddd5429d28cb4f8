"""Windows for signal processing, and logarithmic ranges: made from numbers alone.

Letters: n elements, element k of them. What depends on n and the options alone is worked out
once and ignored, and so is that a window of one element is filled with 1.
"""

from __future__ import annotations

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import writes
from flopdispatch.formulas.movement import ends_bytes
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, TRANSCENDENTAL, per_output
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("pointwise")

# Overloads, cost per element, the expression in words.
WINDOWS = (
    (
        "bartlett_window.default bartlett_window.periodic "
        "bartlett_window.out bartlett_window.periodic_out",
        COMPARISON + MUL + ADD,
        "w if w < 1 else 2 − w, w = k·(2/(n − 1))",
    ),
    (
        "hann_window.default hann_window.periodic hann_window.out hann_window.periodic_out "
        "hamming_window.default hamming_window.periodic hamming_window.periodic_alpha "
        "hamming_window.periodic_alpha_beta hamming_window.out hamming_window.periodic_out "
        "hamming_window.periodic_alpha_out hamming_window.periodic_alpha_beta_out",
        2 * MUL + TRANSCENDENTAL + ADD,
        "α − β·cos(k·(2π/(n − 1)))",
    ),
    (
        "blackman_window.default blackman_window.periodic "
        "blackman_window.out blackman_window.periodic_out",
        4 * MUL + 2 * TRANSCENDENTAL + 2 * ADD,
        "0.08·cos(k·(4π/(n − 1))) − 0.5·cos(k·(2π/(n − 1))) + 0.42",
    ),
    (
        "kaiser_window.default kaiser_window.periodic kaiser_window.beta "
        "kaiser_window.out kaiser_window.periodic_out kaiser_window.beta_out",
        4 * MUL + 2 * ADD + 2 * TRANSCENDENTAL,
        "I0(β·sqrt(1 − w·w))·(1/I0(β)), w = k·(2/(n − 1)) − 1",
    ),
    (
        "logspace.default logspace.out",
        TRANSCENDENTAL,
        "base to the power of a range's element",
    ),
)

for _names, _each, _expression in WINDOWS:
    rules.formula(*overloads(*_names.split()), nbytes=writes, typed=False)(
        per_output(_each, _expression)
    )


@rules.formula(
    *overloads(
        "logspace.Tensor_Tensor",
        "logspace.Tensor_Scalar",
        "logspace.Scalar_Tensor",
        "logspace.Tensor_Tensor_out",
        "logspace.Tensor_Scalar_out",
        "logspace.Scalar_Tensor_out",
    ),
    nbytes=ends_bytes,
    typed=False,
)
def logspace(result: TensorSpec) -> Cost:
    """base to the power of a range's element, the range's ends in tensors.

    Counts: one transcendental an element, also where it is cut to an integer; the range itself is
    a fill.
    """
    return TRANSCENDENTAL * result.numel
