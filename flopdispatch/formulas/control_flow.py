"""Control flow and other higher-order operators: what they call is counted as it runs.

`torch.cond` counts the branch that is taken, a loop each of its turns, one that is given an
operator what this costs. They themselves are declared zero: stacking and slicing moves elements,
and tests are no arithmetic.

Letters: b batch, h query heads, s queries, t keys, d size of a query or key, e of a value.
"""

from __future__ import annotations

from flopdispatch.cost import Cost
from flopdispatch.formulas.attention import sdpa, sdpa_backward
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("control_flow")

# By name: torch registers most of them when the module that has them is imported.
rules.zero(
    *(
        f"higher_order::{name}"
        for name in (
            "cond", "switch", "while_loop", "while_loop_stack_output", "scan", "map_impl",
            "associative_scan", "wrap", "wrap_with_set_grad_enabled", "wrap_with_autocast",
            "wrap_activation_checkpoint", "tag_activation_checkpoint", "hints_wrapper",
            "strict_mode", "invoke_subgraph", "autograd_function_apply", "custom_function_call",
            "dynamo_bypassing_wrapper", "flat_apply", "invoke_leaf_function", "run_const_graph",
            "local_map_hop", "print", "_export_tracepoint", "control_deps", "auto_functionalized",
            "auto_functionalized_v2", "call_torchbind", "foreach_map", "invoke_quant",
            "invoke_quant_packed", "out_dtype", "run_and_save_rng_state", "run_with_rng_state",
            "graphsafe_run_with_rng_state", "run_dtensor_rng_op", "with_effects",
        )
    )
)  # fmt: skip


@rules.formula("higher_order::flex_attention", family="attention")
def flex_attention(query: TensorSpec, key: TensorSpec, value: TensorSpec, scale: float) -> Cost:
    """Attention whose scores a function modifies.

    Shapes: query (b, h, s, d), key (b, g, t, d), value (b, g, t, e), g a divisor of h.
    Counts: as `sdpa`, b·h·s·t·(d + e) MACs, in blocks that a mask leaves out as well. What
    `score_mod` and `mask_mod` compute is counted as it runs.
    """
    return sdpa(query, key, value, 0.0, scale)


@rules.formula("higher_order::flex_attention_backward", family="attention")
def flex_attention_backward(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, scale: float
) -> Cost:
    """The gradients of `flex_attention`: twice its products."""
    return sdpa_backward(query, key, value, 0.0, scale)
