"""A face of fvcore's counters: change `from fvcore.nn import ...` to this module, keep the lines.

    from flopdispatch.compat.fvcore import FlopCountAnalysis, flop_count_table

    flops = FlopCountAnalysis(model, inputs)
    flops.total(), flops.by_operator(), flops.by_module()
    print(flop_count_table(flops))

Figures are fvcore's to the digit where it sees the whole model, names and tables too. A "flop" is a
multiply-accumulate; normalization, adaptive pooling and resizing are added at fvcore's own rates
(`flopdispatch.conventions.fvcore`). `convention=` prices by other rules: the figure is their MACs.

What differs:

- Counted in addition, under the operators' own names: fused attention, recurrent layers,
  convolutions with `padding="same"` (as `conv`), `mv`, `dot`, `baddbmm`, what custom autograd
  functions call, and whatever else is a product. They are not among `unsupported_ops`.
- Right in place of wrong: what the convention's text names.
- `set_op_handle(name, None)` ignores an operator that has a handle by default too; fvcore goes on
  counting it. `copy()` keeps all settings, and `ancestor_mode` holds for what was counted already.
- A handle is given `fvcore_values.Value`, which has `type().sizes()`, `isCompleteTensor()`,
  `toIValue()` and `node().inputs()`; fvcore's own handles and `get_shape` work on it. There is no
  graph: no `debugName()`, `uses()` or `node().scopeName()`; these raise AttributeError.
- What is computed and not used counts; a trace leaves it out.
- Tables are indented as fvcore means them to be: with tabulate 0.10 its own lose their indents.
- Arithmetic on shapes is no operator here; a trace has it in `unsupported_ops` (`aten::mul`).
- A function of `torch.autograd.Function` is `prim::PythonOp` there; here it is what it calls.
- `torch.jit.is_tracing()` is false: a model that asks runs as it does without us.
- A mean over `(-1, -2)` that keeps these dimensions counts as the pooling that it may be.
- Attention layers of torch always run their modules (the fast path of `no_grad` is off).
- A model that asks for gradients in its forward is noted by the operators below (`addmm` in place
  of `linear`), and handles are called for these.
- Keyword inputs go by `kwargs=`; models may return what they like, need no data (they run on meta)
  and are left as they were.
- Messages go to the logger `flopdispatch.compat.fvcore`; errors are ArgumentError, and for a
  module's unknown name a KeyError too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import prod
from typing import Any

from torch import nn

from flopdispatch.compat.fvcore_analysis import Analysis, Handle, UnknownModuleError
from flopdispatch.compat.fvcore_tables import (
    flop_count_str,
    flop_count_table,
    parameter_count,
    parameter_count_table,
)
from flopdispatch.compat.fvcore_values import Value
from flopdispatch.registry import Registry

__all__ = [
    "ActivationCountAnalysis",
    "FlopCountAnalysis",
    "Handle",
    "UnknownModuleError",
    "activation_count",
    "flop_count",
    "flop_count_str",
    "flop_count_table",
    "parameter_count",
    "parameter_count_table",
]


class FlopCountAnalysis(Analysis):
    """Multiply-accumulates of a model's forward, by module and operator.

    The model runs in its present training mode. See the module's text for what differs from
    fvcore.

    Example:

        >>> import torch
        >>> FlopCountAnalysis(nn.Linear(8, 4), torch.ones(2, 8)).total()
        64
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        kwargs: Mapping[str, Any] | None = None,
        *,
        convention: str | Registry | None = "fvcore",
    ) -> None:
        super().__init__(model, inputs, kwargs, convention=convention or "flopdispatch")


def outputs(name: str | None = None) -> Handle:
    """A handle that counts an operator's outputs, by a name of its own if it has one."""

    def handle(inputs: list[Value], outputs: list[Value]) -> Any:
        elements = prod(outputs[0].type().sizes() or ())
        return elements if name is None else Counter({name: elements})

    return handle


# fvcore's, and the products that it lacks.
ACTIVATIONS: dict[str, Handle] = {
    "aten::_convolution": outputs("conv"),
    **dict.fromkeys(
        (f"aten::{name}" for name in ("addmm", "bmm", "einsum", "matmul", "linear")), outputs()
    ),
    "aten::_convolution_mode": outputs("conv"),
    **dict.fromkeys(
        (
            f"aten::{name}"
            for name in ("mm", "mv", "addmv", "baddbmm", "addbmm", "scaled_dot_product_attention")
        ),
        outputs(),
    ),
}


class ActivationCountAnalysis(Analysis):
    """Elements that a model's convolutions and matrix products put out, by module and operator.

    Counted besides what fvcore counts: `mm`, `mv`, `addmv`, `baddbmm`, `addbmm`, convolutions with
    `padding="same"`, and fused attention, of which the output is the only one that it keeps.

    Example:

        >>> import torch
        >>> ActivationCountAnalysis(nn.Linear(8, 4), torch.ones(2, 8)).total()
        8
    """

    def __init__(
        self, model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(model, inputs, kwargs)
        self.set_op_handle(**ACTIVATIONS)


def flop_count(
    model: nn.Module,
    inputs: Any,
    supported_ops: Mapping[str, Handle | None] | None = None,
    *,
    convention: str | Registry | None = "fvcore",
) -> tuple[defaultdict[str, float], Counter[str]]:
    """10⁹ multiply-accumulates by operator, and how often unsupported operators ran.

    `supported_ops` are handles, as for `set_op_handle`.
    """
    flops = FlopCountAnalysis(model, inputs, convention=convention)
    return _scaled(flops, supported_ops, 1e9)


def activation_count(
    model: nn.Module, inputs: Any, supported_ops: Mapping[str, Handle | None] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """10⁶ elements by operator, and how often unsupported operators ran.

    `supported_ops` are handles, as for `set_op_handle`.
    """
    return _scaled(ActivationCountAnalysis(model, inputs), supported_ops, 1e6)


def _scaled(
    analysis: Analysis, handles: Mapping[str, Handle | None] | None, unit: float
) -> tuple[defaultdict[str, float], Counter[str]]:
    analysis.set_op_handle(**(handles or {}))
    found: defaultdict[str, float] = defaultdict(float)
    for name, number in analysis.by_operator().items():
        found[name] = number / unit
    return found, analysis.unsupported_ops()
