"""Linear layers of quantized rows by a quantized weight with blocks of zeros.

The weight is packed, an object that doesn't tell how many blocks it stores: it is taken as dense.
"""

from __future__ import annotations

from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import COMPARISON
from flopdispatch.formulas.quantized import linear, linear_dynamic
from flopdispatch.registry import Registry

rules = Registry("sparse")

PACKED = "the packed weight is taken as dense"

ACTIVATIONS = {"": 0 * COMPARISON, "_relu": COMPARISON}

for suffix, activation in ACTIVATIONS.items():
    rules.formula(*overloads(f"sparse::qlinear{suffix}.default"), typed=False, estimate=PACKED)(
        linear(activation)
    )
    rules.formula(
        *overloads(f"sparse::qlinear{suffix}_dynamic.default"), typed=False, estimate=PACKED
    )(linear_dynamic(activation))

rules.zero(*overloads("sparse::qlinear_prepack.default"))
