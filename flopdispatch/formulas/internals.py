"""Operators of torch's own machinery: streams, compiling, exporting, static runtime, its tests.

A program calls them only through libraries that torch loads when they are needed, if ever: all
but aten's go by name.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas import linalg_spectral
from flopdispatch.formulas.attention import sdpa_with_bias
from flopdispatch.formulas.bytes_moved import nothing, writes
from flopdispatch.formulas.collectives import moving, named
from flopdispatch.formulas.embedding import embedding_bag
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.matmul import bmm, mm
from flopdispatch.formulas.normalization import layer_norm
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, MUL, TRANSCENDENTAL, per_output
from flopdispatch.formulas.scatter import index_put
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("internal")

Many = tuple[TensorSpec, ...]

# Streams, memory pools, devices, notes for tracers and exporters: nothing is computed or moved.
rules.zero(
    *named(
        "streams",
        "fork join record_event record_stream sync_dealloc synchronize_device synchronize_event "
        "synchronize_stream wait_event wait_stream",
    ),
    *named("mempool", "begin end"),
    *named("coor", "current_device current_device_index"),
    *named("debug_mode_ops", "annotate"),
    *named("export", "access_subclass_inner_tensor"),
    *named("_inductor_test", "realize"),
    *named("inductor", "_reinterpret_tensor resize_storage_bytes_"),
    *named("flex_gemm", "autograd_not_implemented"),  # raises
    nbytes=nothing,
)
rules.zero(*named("flex_gemm", "to_blocked"))  # a rearrangement
rules.zero(
    *named("debugprims", "load_tensor"),
    "onnx_symbolic::_symbolic.default",  # stands for an operator of ONNX, and computes nothing
    "onnx_symbolic::_symbolic_multi_out.default",
    nbytes=writes,
)


# Compiled functions


@rules.formula(*named("inductor", "_mm_plus_mm"), family="matmul", nbytes=moving("a b c d", "out"))
def mm_plus_mm(a: TensorSpec, b: TensorSpec, c: TensorSpec, d: TensorSpec) -> Cost:
    """a·b + c·d.

    Shapes: a (m, k), b (k, n), c (m, j), d (j, n).
    Counts: both products, and m·n adds.
    """
    return mm(a, b) + mm(c, d) + Cost(adds=a.shape[0] * b.shape[1])


@rules.formula(*named("inductor", "quack_symmetric_mm"), family="matmul")
def symmetric_mm(x: TensorSpec, result: TensorSpec) -> Cost:
    """x·xᵀ, both of its equal halves counted.

    Shapes: x (..., m, k), result (..., m, m).
    Counts: m·m·k MACs.
    """
    return Cost(macs=result.numel * x.shape[-1])


@rules.formula(
    *named("inductor", "accumulate_grad_"), estimate="bound: there is a gradient already"
)
def accumulate_grad(new_grad: TensorSpec | None) -> Cost:
    """variable.grad += new_grad: one add an element."""
    return Cost(adds=0 if new_grad is None else new_grad.numel)


@rules.formula(*named("flex_lib", "zeros_and_scatter"), family="scatter")
def zeros_and_scatter(indices: Many, vals: TensorSpec, result: TensorSpec) -> Cost:
    """Values are added to zeros at their indices: one add per element named.

    Without indices their sum: an add for each but the first.
    """
    if not indices:
        return Cost(adds=folds(1, vals.numel))
    return index_put(result, indices, vals, True)


# Operators that torch overrides by Triton's kernels, by the names that they have in torch 2.15

rules.formula(*named("_native", "bmm_triton_0"), family="matmul")(bmm)


@rules.formula(*named("_native", "_foreach_mm_native_1"), family="matmul")
def foreach_mm(self: Many, mat2: Many) -> Cost:
    """Products of matrices, pair by pair."""
    return sum((mm(a, b) for a, b in zip(self, mat2)), Cost())


rules.formula(
    *named("_native", "linalg_polar_out_native_3"),
    family=linalg_spectral.rules.name,
    estimate=linalg_spectral.ITERATION,
)(linalg_spectral.linalg_polar)


# Operators of ONNX


@rules.formula("onnx::Attention.opset23", family="attention")
def onnx_attention(
    Q: TensorSpec,  # noqa: N803  the schema's
    attn_mask: TensorSpec | None,
    q_num_heads: int,
    scale: float | None,
    softcap: float,
    result: Many,
) -> Cost:
    """Scaled dot product attention to past and present keys.

    Shapes: Q (b, h, s, d) or (b, s, h·d); result[1] (b, g, t, d) and result[2] (b, g, t, e).
    Counts: as `sdpa_with_bias`; a soft cap c·tanh(score/c): a mul, a division and a tanh a score.
    """
    _, key, value, _ = result
    query = Q
    if Q.ndim == 3:
        b, s, hidden = Q.shape
        query = TensorSpec((b, q_num_heads, s, hidden // q_num_heads), Q.dtype)
    cost = sdpa_with_bias(query, key, value, attn_mask, 0.0, scale)
    if softcap:
        b, h, s, _ = query.shape
        scores = b * h * s * key.shape[2]
        cost += Cost(muls=scores, divs=scores, transcendentals=scores)
    return cost


@rules.formula("onnx::RotaryEmbedding.opset23", family="pointwise")
def onnx_rotary_embedding(x: TensorSpec, num_heads: int, rotary_embedding_dim: int) -> Cost:
    """Pairs (p, q) become (p·cos − q·sin, p·sin + q·cos).

    Shapes: x (b, h, s, d) or (b, s, h·d).
    Counts: 2 muls and an add for each of the first `rotary_embedding_dim` of d elements, or all.
    """
    n = x.numel
    if rotary_embedding_dim:
        d = x.shape[-1] // (num_heads if x.ndim == 3 else 1)
        n = n // d * rotary_embedding_dim
    return Cost(muls=2 * n, adds=n)


# Static runtime: what it calls for an operator that would give a view or a new tensor

rules.zero(
    *named(
        "static_runtime",
        "expand_dims_copy fused_equally_split permute_copy reshape_copy VarTupleUnpack "
        "create_owned_ref dict_unpack select_tensor",
    ),
    *(f"static_runtime::{name}.{kind}"
      for name in ("to_copy", "to_maybe_copy_out") for kind in ("dtype", "other", "prim_dtype")),
    "static_runtime::flatten_copy.using_ints",
)  # fmt: skip
rules.formula(*named("static_runtime", "layer_norm"), family="normalization")(layer_norm)
rules.formula(
    *named("static_runtime", "embedding_bag"),
    "static_runtime::embedding_bag.padding_idx",
    family="embedding",
)(embedding_bag)
rules.formula("static_runtime::dequantize_copy.self", family="pointwise")(
    per_output(ADD + MUL, "(x − zero)·scale")
)
rules.formula(*named("static_runtime", "signed_log1p"), family="pointwise")(
    per_output(2 * COMPARISON + TRANSCENDENTAL + MUL, "sign(x)·log1p(|x|)")
)


@rules.formula(*named("static_runtime", "clamp_nan_to_num"), family="pointwise")
def clamp_nan_to_num(input: TensorSpec, min: Any, max: Any) -> Cost:
    """nan_to_num of a clamped number: a comparison for each bound, and 3."""
    return COMPARISON * (3 + (min is not None) + (max is not None)) * input.numel


# torch's own tests

rules.zero(
    *overloads(
        "_test_autograd_multiple_dispatch.fullcoverage",
        "_test_autograd_multiple_dispatch_view_copy.default",
        "_test_functorch_fallback.default",
        "_test_warn_in_autograd.default",
        "_foobar.default",
    )
)  # copies
rules.zero(
    *overloads(
        "_test_autograd_multiple_dispatch_view.default", "_test_parallel_materialize.default"
    ),
    nbytes=nothing,
)  # views


@rules.formula(
    *overloads(
        "_test_optional_intlist.default",
        "_test_optional_filled_intlist.default",
        "_test_optional_floatlist.default",
    ),
    family="pointwise",
)
def plus_list(values: TensorSpec, addends: tuple[float, ...] | None) -> Cost:
    """A number of a list, if there is one, is added to each element."""
    return Cost() if addends is None else ADD * values.numel
