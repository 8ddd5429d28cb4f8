"""Every operator that torch registers is counted, declared zero, decomposed, or named here."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

from tests.registered import SAVED_FROM, saved
from tests.versions import TORCH

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


def complaint(without: list[str], known: set[str]) -> str:
    """What to say of operators without a state: which are new, and which have lost theirs."""
    new = sorted(set(without) - known)
    lost = sorted(set(without) & known)
    words = [f"new in torch {torch.__version__}: {', '.join(new)}"] if new else []
    words += [f"no longer counted: {', '.join(lost)}"] if lost else []
    return f"operators without a formula, that aren't declared zero either: {'; '.join(words)}"


def test_each_operator_has_a_state() -> None:
    without = [n for n, (state, _) in states().items() if state == "uncounted" and not is_exempt(n)]
    assert not without, complaint(without, set(saved()))


def test_operators_that_a_newer_torch_brings_are_told_apart() -> None:
    said = complaint(["aten::mm", "aten::newer"], {"aten::mm", "aten::bmm"})
    assert f"new in torch {torch.__version__}: aten::newer; no longer counted: aten::mm" in said


@pytest.mark.skipif(TORCH != SAVED_FROM, reason="the list is of another torch")
def test_the_list_of_operators_is_whole() -> None:
    """`python -m tests.registered --save` writes it."""
    assert set(states()) <= set(saved())


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
