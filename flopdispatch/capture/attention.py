"""Attention on tensors without data: the kernel that devices run, which meta has none of.

Where the CPU and GPUs run one kernel, torch takes `scaled_dot_product_attention` apart on meta, and
16-bit numbers in float32: that writes and reads the scores, and computes at another dtype's rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch.overrides import handle_torch_function, has_torch_function

from flopdispatch.capture.known import has_data
from flopdispatch.capture.private import fused_choice, transformed, without_dispatch

aten = torch.ops.aten
COMPOSED = aten.scaled_dot_product_attention.default
CPUS = aten._scaled_dot_product_flash_attention_for_cpu
FLASH = aten._scaled_dot_product_flash_attention
EFFICIENT = aten._scaled_dot_product_efficient_attention

ONE_KERNEL = 1  # of torch's numbers for what runs an attention
HALVES = torch.float16, torch.bfloat16
WIDEST = 256  # elements of a head, in the flash kernel of GPUs


class Asked(NamedTuple):
    """The arguments of `scaled_dot_product_attention`."""

    query: Any
    key: Any
    value: Any
    attn_mask: Any = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def fused(original: Callable[..., Any], active: Callable[[], bool]) -> Callable[..., Any]:
    """`scaled_dot_product_attention`, in one kernel where there are no data and `active` says so.

    In inference mode it is torch's own: dispatch modes see it then, and may want to.
    """

    @wraps(original)
    def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Any:
        if not active() or torch.is_inference_mode_enabled():
            return original(*args, **kwargs)
        tensors = [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)]
        if has_torch_function(tensors):
            return handle_torch_function(scaled_dot_product_attention, tensors, *args, **kwargs)
        found = in_one_kernel(args, kwargs)
        return original(*args, **kwargs) if found is None else found

    return scaled_dot_product_attention


def in_one_kernel(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """What a device's kernel gives for these arguments, where they have no data.

    On meta it is the CPU's kernel, or with dropout, which that doesn't have, a GPU's. Which calls
    have one torch says itself, as it is set (`torch.nn.attention.sdpa_kernel`). None if there is
    none, or torch has to say what is wrong.
    """
    try:
        asked = Asked(*args, **kwargs)
    except TypeError:
        return None
    if any(isinstance(t, torch.Tensor) and has_data(t) for t in asked[:4]):
        return None
    return output(asked) if has_kernel(asked) else None


def has_kernel(asked: Asked) -> bool:
    """Whether the CPU would run it in one kernel, but for dropout."""
    query, key, value, mask, *_ = asked
    tensors = [query, key, value, *([] if mask is None else [mask])]
    if not all(isinstance(t, torch.Tensor) and t.ndim > 1 for t in tensors):
        return False
    if not query.dtype == key.dtype == value.dtype or len({t.device for t in tensors}) > 1:
        return False
    if mask is not None and (asked.is_causal or mask.dtype not in (torch.bool, query.dtype)):
        return False
    if transformed():
        return False
    named = {"is_causal": asked.is_causal, "scale": asked.scale, "enable_gqa": asked.enable_gqa}
    with without_dispatch():
        given = [stand_in(t) for t in tensors]
        chosen = [fused_choice(*given, **named)]
        if query.ndim == 3:  # it runs as a batch of one, where torch takes three dimensions at all
            given = [t.unsqueeze(0) if t.ndim == 3 else t for t in given]
            chosen.append(fused_choice(*given, **named))
    return all(choice == ONE_KERNEL for choice in chosen)


def stand_in(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU that looks like another to who chooses a kernel, of a row's memory."""
    size, stride = tensor.shape[-1], min(tensor.stride(-1), 2)
    row = torch.empty(size * 2, dtype=tensor.dtype, device="cpu")
    strides = (*(0 for _ in tensor.shape[1:]), stride)
    return row.as_strided(tensor.shape, strides).requires_grad_(tensor.requires_grad)


def output(asked: Asked) -> torch.Tensor | None:
    """The output of the kernel that runs it, None if none does."""
    if asked.query.ndim == 3:
        batch = {n: getattr(asked, n).unsqueeze(0) for n in ("query", "key", "value")}
        found = output(asked._replace(**batch))
        return None if found is None else found.squeeze(0)
    query, key, value, mask, dropout_p, is_causal, scale, _ = asked
    kernel = kernel_of(asked)
    if kernel is None:
        return None
    if mask is not None and mask.dtype == torch.bool:
        allowed, hidden = (
            torch.scalar_tensor(number, dtype=query.dtype, device=query.device)
            for number in (0.0, -torch.inf)
        )
        mask = torch.where(mask, allowed, hidden)
    given: tuple[Any, ...] = query, key, value
    if kernel is CPUS:
        result = CPUS(*given, dropout_p, is_causal, attn_mask=mask, scale=scale)
    elif kernel is FLASH:
        result = FLASH(*given, dropout_p, is_causal, scale=scale)
    else:
        if mask is not None:
            mask = mask.expand(*query.shape[:-1], key.shape[-2])
        kept = torch.is_grad_enabled() and any(t.requires_grad for t in given)
        result = EFFICIENT(*given, mask, kept, dropout_p, is_causal, scale=scale)
    return result[0]  # type: ignore[no-any-return]


def kernel_of(asked: Asked) -> Any:
    """The operator, None where torch knows it by itself or none takes the arguments."""
    query, key, _, mask, dropout_p, is_causal, *_ = asked
    device = query.device.type
    if device == "meta" and not dropout_p:
        return CPUS
    if device != "meta" and (device != "cuda" or torch.cuda.is_available()):
        return None
    aligned = not is_causal or query.shape[-2] == key.shape[-2]
    if query.dtype in HALVES and mask is None and aligned and query.shape[-1] <= WIDEST:
        return FLASH
    same_heads = query.shape[-3] == key.shape[-3]
    return EFFICIENT if query.dtype != torch.float64 and same_heads else None
