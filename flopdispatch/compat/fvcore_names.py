"""Operators' names as fvcore has them: those of TorchScript's traces, and its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from flopdispatch.capture.mode import QUERIES

# Operators that the tracer doesn't note; it notes what they call.
UNNOTED = frozenset({
    "aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::conv_transpose1d",
    "aten::conv_transpose2d", "aten::conv_transpose3d", "aten::lstm_cell", "aten::gru_cell",
    "aten::rnn_tanh_cell", "aten::rnn_relu_cell",
})  # fmt: skip

# Second names of operators, which a trace writes by their first.
SECOND = {
    "absolute": "abs", "adjoint": "mH", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "clip": "clamp",
    "concat": "cat", "concatenate": "cat", "convolution": "_convolution", "det": "linalg_det",
    "divide": "div", "fix": "trunc", "ger": "outer", "greater": "gt", "greater_equal": "ge",
    "inverse": "linalg_inv", "less": "lt", "less_equal": "le", "linalg_matmul": "matmul",
    "matrix_exp": "linalg_matrix_exp", "matrix_power": "linalg_matrix_power", "moveaxis": "movedim",
    "multiply": "mul", "negative": "neg", "not_equal": "ne", "orgqr": "linalg_householder_product",
    "row_stack": "vstack", "special_digamma": "digamma", "special_erf": "erf",
    "special_erfc": "erfc", "special_erfinv": "erfinv", "special_exp2": "exp2",
    "special_expit": "sigmoid", "special_expm1": "expm1", "special_log1p": "log1p",
    "special_log_softmax": "log_softmax", "special_logit": "logit",
    "special_logsumexp": "logsumexp", "special_round": "round", "special_softmax": "softmax",
    "subtract": "sub", "swapaxes": "transpose", "swapdims": "transpose", "true_divide": "div",
}  # fmt: skip

# fvcore's names of operators that aren't their own; also of those below, where these are noted.
OWN = {
    "_convolution": "conv",
    "_convolution_mode": "conv",
    "native_batch_norm": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "grid_sampler_2d": "grid_sampler",
    "grid_sampler_3d": "grid_sampler",
}

# Operators that compute nothing by fvcore's word, and are no news: shapes, copies, integers.
_QUIET = """
    Int ScalarImplicit __and__ arange bitwise_not cat chunk clamp clamp_ constant_pad_nd contiguous
    copy_ detach dropout empty eq expand flatten floor floor_divide full full_like gather ge gt
    index index_put_ masked_fill max narrow new_empty new_full new_zeros nonzero ones permute relu
    relu_ remainder reshape roll select size slice split split_with_sizes squeeze stack t to
    transpose type_as unbind unsqueeze unsqueeze_ view zeros zeros_like"""

# What Python makes of an index of everything, and of numbers: a trace has no operator there.
_UNTRACED = "alias lift_fresh scalar_tensor"

IGNORED = frozenset(f"aten::{name}" for name in f"{_QUIET} {_UNTRACED}".split())


@cache
def kind_of(func: Any) -> str:
    """`aten::linear`: the name by which a trace notes an operator; empty if it is none."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace == "profiler":
        return ""
    kind: str = func._schema.name
    if kind in QUERIES:
        return ""
    if func.name() == "aten::rsub.Tensor":
        return "aten::sub"
    if not kind.startswith("aten::"):
        return kind
    name = kind.removeprefix("aten::")
    in_place = "_" if name.endswith("_") and not name.endswith("__") else ""
    first = SECOND.get(name.removesuffix(in_place))
    return kind if first is None else f"aten::{first}{in_place}"


def short_name(kind: str) -> str:
    """`linear`: an operator's name without its namespace, or fvcore's own."""
    name = kind.rpartition("::")[2]
    return OWN.get(name, name)
