"""Attention without data is the kernel that a device runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from flopdispatch import Assume, FlopCounter, Profile, count
from flopdispatch.counter import FAKES_END_THE_PROCESS
from flopdispatch.rules import name_of

ORIGINAL = functional.scaled_dot_product_attention
KERNEL = "aten::_scaled_dot_product_"
FOUR, LONGER, FEWER = (2, 4, 16, 8), (2, 4, 20, 8), (2, 2, 20, 8)

# The shapes of query, key and value; the mask's shape and dtype; options.
CALLS: dict[str, tuple[list[tuple[int, ...]], Any, dict[str, Any]]] = {
    "plain": ([FOUR] * 3, None, {}),
    "causal": ([FOUR] * 3, None, {"is_causal": True}),
    "causal, other lengths": ([FOUR, LONGER, LONGER], None, {"is_causal": True}),
    "scaled": ([FOUR] * 3, None, {"scale": 0.3}),
    "grouped queries": ([FOUR, FEWER, FEWER], None, {"enable_gqa": True}),
    "a mask of numbers": ([FOUR] * 3, ((16, 16), None), {}),
    "a mask of bools": ([FOUR] * 3, ((2, 1, 1, 16), torch.bool), {}),
    "three dimensions": ([(4, 16, 8)] * 3, None, {}),
    "three dimensions and a mask": ([(4, 16, 8)] * 3, ((4, 16, 16), None), {}),
    "two dimensions": ([(16, 8)] * 3, None, {}),
    "values of another size": ([FOUR, FOUR, (2, 4, 16, 12)], None, {}),
    "a batch that is broadcast": ([FOUR, (1, 4, 16, 8), (1, 4, 16, 8)], None, {}),
    "nothing": ([(2, 4, 0, 8)] * 3, None, {}),
}


def tensors(name: str, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    shapes, mask, _ = CALLS[name]
    found = [torch.zeros(s, device=device, dtype=dtype).requires_grad_() for s in shapes]
    if mask is not None:
        found.append(torch.ones(mask[0], device=device, dtype=mask[1] or dtype))
    return found


def attention(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda *given: functional.scaled_dot_product_attention(*given, **options).sum()


def names(profile: Profile) -> set[str]:
    return {name_of(op).removesuffix(".default") for op in profile.by_op()}


def kernels(profile: Profile) -> set[str]:
    return {name.removeprefix(KERNEL) for name in names(profile) if name.startswith(KERNEL)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_attention_is_the_same_calls_on_meta_as_on_the_cpu(name: str, dtype: torch.dtype) -> None:
    run, given = attention(**CALLS[name][2]), tensors(name, "cpu", dtype)
    with FlopCounter(display=False) as counter:
        run(*given).backward()
    meta = count(run, *tensors(name, "meta", dtype), backward=True)
    assert meta.by_op() == counter.profile.by_op()
    assert meta.by_dtype() == counter.profile.by_dtype()


@pytest.mark.parametrize("shape", [FOUR, (8, 16, 8)])
def test_a_mask_that_is_learned_takes_attention_apart(shape: tuple[int, ...]) -> None:
    """As relative positions are: no kernel has its gradient."""
    q, mask = torch.zeros(shape), torch.zeros(16, 16, requires_grad=True)
    with FlopCounter(display=False) as counter:
        attention()(q, q, q, mask).backward()
    q, mask = q.to("meta"), torch.zeros(16, 16, requires_grad=True, device="meta")
    meta = count(attention(), q, q, q, mask, backward=True)
    assert meta.by_op() == counter.profile.by_op()
    assert kernels(meta) == set()


def test_attention_without_gradients_is_the_same_calls_on_meta_as_on_the_cpu() -> None:
    run = attention()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            given = tensors("plain", "cpu", torch.float32)
            with FlopCounter(display=False) as counter:
                run(*given)
            meta = count(run, *tensors("plain", "meta", torch.float32))
        assert meta.by_op() == counter.profile.by_op()


def test_attention_with_dropout_is_a_gpus_kernel() -> None:
    run = attention(dropout_p=0.1)
    halves = count(run, *tensors("plain", "meta", torch.bfloat16), backward=True)
    assert kernels(halves) == {"flash_attention", "flash_attention_backward"}
    whole = count(run, *tensors("a mask of bools", "meta", torch.float32), backward=True)
    assert kernels(whole) == {
        "efficient_attention", "efficient_attention_backward"
    }  # fmt: skip
    assert halves.macs == whole.macs == 3 * 2 * (2 * 4 * 16 * 16) * 8  # q·k and p·v, each thrice


@pytest.mark.skipif(FAKES_END_THE_PROCESS, reason="torch has no such devices without a driver")
def test_attention_of_a_gpu_that_is_not_here_is_its_kernel() -> None:
    def on_gpu(name: str, dtype: torch.dtype) -> set[str]:
        given = [t.detach() for t in tensors(name, "meta", dtype)]
        return kernels(count(attention(**CALLS[name][2]), *given, device="cuda"))

    with torch.no_grad():
        assert on_gpu("plain", torch.bfloat16) == {"flash_attention"}
        assert on_gpu("grouped queries", torch.float16) == {"flash_attention"}
        assert on_gpu("causal, other lengths", torch.float16) == {"efficient_attention"}
        assert on_gpu("a mask of numbers", torch.float16) == {"efficient_attention"}
        assert on_gpu("plain", torch.float32) == {"efficient_attention"}
        assert on_gpu("plain", torch.float64) == set()


def test_attention_is_taken_apart_where_the_program_says_so() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        profile = count(attention(), *tensors("plain", "meta", torch.float32))
    assert kernels(profile) == set()
    assert "aten::bmm" in names(profile)


@pytest.mark.parametrize(
    "given",
    [
        {"attn_mask": torch.zeros(16, 16, device="meta"), "is_causal": True},
        {"attn_mask": torch.zeros(16, 16, device="meta", dtype=torch.int64)},
        {"key": torch.zeros(FOUR, device="meta", dtype=torch.float64)},
        {"key": torch.zeros(8, device="meta")},
        {"key": torch.zeros(FOUR)},
        {"key": None},
        {"unknown": 1},
    ],
)
def test_what_torch_refuses_is_refused_in_its_words(given: dict[str, Any]) -> None:
    q = torch.zeros(FOUR, device="meta")
    arguments = {"query": q, "key": q, "value": q, **given}
    with pytest.raises((RuntimeError, TypeError, IndexError)) as expected:
        ORIGINAL(**arguments)
    with FlopCounter(display=False, assume=Assume()), pytest.raises(expected.type) as found:
        functional.scaled_dot_product_attention(**arguments)
    assert str(found.value) == str(expected.value)


def test_transforms_and_forward_differentiation_go_on_as_they_did() -> None:
    def pushed(q: torch.Tensor) -> torch.Tensor:
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(q, torch.ones_like(q))
            out: torch.Tensor = forward_ad.unpack_dual(attention()(dual, dual, dual)).tangent
            return out

    mapped = torch.vmap(attention())
    q = torch.zeros(3, *FOUR, device="meta")
    assert count(lambda q: mapped(q, q, q), q).macs == 2 * 3 * (2 * 4 * 16 * 16) * 8
    assert count(pushed, torch.zeros(FOUR, device="meta")).macs > 0


def test_a_function_mode_sees_the_call_that_the_program_makes() -> None:
    class Seen(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func is functional.scaled_dot_product_attention)
            return func(*args, **(kwargs or {}))

    seen: list[bool] = []
    q = torch.zeros(FOUR, device="meta")
    with FlopCounter(display=False, assume=Assume()) as counter, Seen():
        functional.scaled_dot_product_attention(q, q, q)
    assert seen == [True]
    assert kernels(counter.profile) == {"flash_attention_for_cpu"}


def test_real_tensors_and_other_threads_are_left_alone() -> None:
    def elsewhere() -> None:
        with FlopCounter(display=False) as other:
            functional.scaled_dot_product_attention(q, q, q)
        found.append(names(other.profile))

    found: list[set[str]] = []
    q, real = torch.zeros(FOUR, device="meta"), torch.randn(FOUR)
    expected = ORIGINAL(real, real, real)
    with FlopCounter(display=False, assume=Assume()):
        assert torch.equal(functional.scaled_dot_product_attention(real, real, real), expected)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert functional.scaled_dot_product_attention is ORIGINAL
    elsewhere()
    assert found[0] == found[1]
    assert "aten::bmm" in found[0]
