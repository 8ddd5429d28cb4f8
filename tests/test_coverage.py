"""Every operator that torch registers is counted, declared zero, decomposed, or named here."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

COMPILED = "runs code that was compiled elsewhere, whose cost nobody knows: listed as uncounted"
KERNEL = "a kernel of the user's, whose cost only the user knows: uncounted without a formula"

MOBILE = "a kernel of XNNPACK's for phones, gone from newer torch: listed as uncounted"

# Operators without a state, and why.
EXEMPT = {
    **dict.fromkeys(
        (
            "conv2d_clamp_prepack", "conv2d_clamp_run", "conv2d_transpose_clamp_prepack",
            "conv2d_transpose_clamp_run", "linear_clamp_prepack", "linear_clamp_run",
        ),
        MOBILE,
    ),
    "trace_wrapped": "stands for a function in a graph that is being compiled: never runs",
    **dict.fromkeys(
        ("aoti_call_delegate", "executorch_call_delegate", "inductor_compiled_code"), COMPILED
    ),
    **dict.fromkeys(
        (
            "triton_kernel_wrapper_mutation", "triton_kernel_wrapper_functional",
            "inline_asm_elementwise", "flex_gemm",
        ),
        KERNEL,
    ),
}  # fmt: skip

# Tagged `pointwise` or `reduction` by torch and yet declared zero by the cost model:
# comparisons to bool, selections, copies.
ZERO_ALL_THE_SAME = frozenset({
    "clone", "eq", "equal", "ge", "gt", "isinf", "isnan", "isneginf", "isposinf", "le",
    "logical_and", "logical_and_", "logical_not", "logical_not_", "logical_or", "logical_or_",
    "logical_xor", "logical_xor_", "lt", "masked_fill", "ne", "signbit", "where",
    "convert_element_type", "all", "any",
})  # fmt: skip


@cache
def states() -> dict[str, tuple[str, list[str]]]:
    """{name: (state, tags)} of all overloads, in a process that tests have added none to."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.registered"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[str, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def is_exempt(name: str) -> bool:
    return name.removeprefix("higher_order::").removeprefix("prepacked::") in EXEMPT


def test_each_operator_has_a_state() -> None:
    without = [n for n, (state, _) in states().items() if state == "uncounted" and not is_exempt(n)]
    new = " (some may be new in it)" if torch.__version__ > "2.16" else ""
    assert not without, (
        f"torch {torch.__version__}{new} has operators without a formula, that aren't declared "
        f"zero either: {', '.join(sorted(without))}"
    )


def test_there_are_as_many_operators_as_torch_has() -> None:
    """That this sees them at all."""
    known = states()
    assert len(known) > 3_000
    assert {name.partition("::")[0] for name in known} >= {
        "aten", "prims", "quantized", "torchvision", "higher_order",
    }  # fmt: skip
    for name, state in (
        ("aten::mm", "counted"),
        ("aten::view", "zero"),
        ("aten::linear", "counted"),
        ("aten::matmul", "decomposed"),
        ("aten::einsum", "decomposed"),
        ("higher_order::triton_kernel_wrapper_mutation", "uncounted"),
    ):
        assert known.get(name, (state,))[0] == state


def test_an_exemption_is_of_an_operator_that_needs_one() -> None:
    known = {name: state for name, (state, _) in states().items() if is_exempt(name)}
    assert set(known.values()) == {"uncounted"}


@pytest.mark.parametrize("tag", ["pointwise", "reduction"])
def test_what_torch_tags_as_arithmetic_is_not_declared_zero(tag: str) -> None:
    zeros = {
        name.partition("::")[2].partition(".")[0]
        for name, (state, tags) in states().items()
        if state == "zero" and tag in tags
    }
    assert zeros <= ZERO_ALL_THE_SAME
