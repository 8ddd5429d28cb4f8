"""Causal attention by the scores that are seen, counted from a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from flopdispatch import FlopCounter, Profile

aten = torch.ops.aten

# 2 of 4 heads, 10 queries, keys; sizes 8
B, H, D = 2, 4, 8


def counted(run: Any, convention: str = "causal") -> Profile:
    with FlopCounter(display=False, convention=convention) as counter:
        run()
    return counter.profile


def visible(s: int, t: int) -> int:
    """Places of the lower triangle, the diagonal among them."""
    return int(torch.ones(s, t).tril().sum())


@pytest.mark.parametrize(("s", "t"), [(10, 10), (10, 7), (7, 10)])
def test_the_cpus_kernel(s: int, t: int) -> None:
    q, k = torch.randn(B, H, s, D, requires_grad=True), torch.randn(B, H, t, D, requires_grad=True)
    out: list[torch.Tensor] = []
    forward = counted(
        lambda: out.append(functional.scaled_dot_product_attention(q, k, k, is_causal=True))
    )
    places = B * H * visible(s, t)
    assert forward.macs == places * 2 * D
    assert forward.total.transcendentals == places
    assert counted(lambda: out[0].sum().backward()).macs == places * 4 * D


def test_attention_that_isnt_causal_is_whole() -> None:
    q = torch.randn(B, H, 10, D)
    run = lambda: functional.scaled_dot_product_attention(q, q, q)  # noqa: E731
    assert counted(run).total == counted(run, "flopdispatch").total


@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
def test_a_gpus_kernels(kernel: str) -> None:
    given: dict[str, tuple[Any, ...]] = {
        "flash": (0.0, True), "efficient": (None, False, 0.0, True),
        "cudnn": (None, False, 0.0, True),
    }  # fmt: skip
    with FakeTensorMode():
        q = torch.ones(B, H, 10, D, dtype=torch.half, device="cuda")
        run = getattr(aten, f"_scaled_dot_product_{kernel}_attention")
        profile = counted(lambda: run(q, q, q, *given[kernel]))
    assert profile.macs == B * H * visible(10, 10) * 2 * D
