"""`out=` forms of composite operators.

The functional operator decomposes into others, which are counted. Its `out=` form has a kernel of
its own, of whose inside nothing is seen: it costs what the decomposition costs.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pooling import (
    Sizes,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_avg_pool3d_backward,
    adaptive_cells,
    average_backward_nbytes,
    averages,
    window,
)
from flopdispatch.formulas.softmax import log_softmax, softmax
from flopdispatch.formulas.upsample import TAPS, weighted
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("composite_out")  # each rule names its family


@rules.formula(aten.avg_pool1d.out, family="pooling")
def avg_pool1d(kernel_size: Sizes, result: TensorSpec) -> Cost:
    """Means of windows.

    Counts: k − 1 adds and one division an output.
    Example: windows of 2 over (1, 3, 8) are 12 adds and 12 divisions.
    """
    return averages(window(kernel_size, 1) * result.numel, result.numel)


@rules.formula(aten.adaptive_avg_pool1d.out, family="pooling")
def adaptive_avg_pool1d(self: TensorSpec, result: TensorSpec) -> Cost:
    """Means of adaptive windows: all windows' cells − 1 adds and one division an output.

    Example: (1, 1, 5) to 3 has windows of 2, 3 and 2 cells: 4 adds and 3 divisions.
    """
    return averages(adaptive_cells(self, result, 1), result.numel)


rules.formula(aten.adaptive_avg_pool2d.out, family="pooling")(adaptive_avg_pool2d)
rules.formula(aten.adaptive_avg_pool3d.out, family="pooling")(adaptive_avg_pool3d)
rules.formula(
    *overloads("adaptive_avg_pool3d_backward.grad_input"),
    family="pooling",
    nbytes=average_backward_nbytes,
)(adaptive_avg_pool3d_backward)

rules.formula(aten.softmax.int_out, family="softmax")(softmax)
rules.formula(aten.log_softmax.int_out, family="softmax")(log_softmax)

rules.formula(*overloads("upsample_bilinear2d.vec_out"), family="upsample")(
    weighted(TAPS["upsample_bilinear2d"])
)
rules.zero(*overloads("upsample_nearest2d.vec_out"), family="upsample")
