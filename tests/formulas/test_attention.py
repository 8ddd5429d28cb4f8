from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import TensorSpec, spec
from tests import oracles_attention as loops
from tests.dispatched import Dispatched
from tests.oracles import Tally
from tests.pricing import cost, cost_of_specs, price, scaled

aten = torch.ops.aten
f64 = torch.float64
size = st.integers(1, 3)
flag = st.booleans()


def s(*shape: int, dtype: torch.dtype = torch.float32) -> TensorSpec:
    return spec(*shape, dtype=dtype)


# 2 heads, 3 queries of 4, 5 keys, values of 4: 2·3·5 = 30 scores in 6 rows.
q, k, mask = s(1, 2, 3, 4), s(1, 2, 5, 4), s(3, 5)
lse, seed = s(1, 2, 3), s(1, dtype=torch.int64)
SOFTMAX = Cost(comparisons=6 * 4, adds=30 + 6 * 4, transcendentals=30, divs=30)
PLAIN = Cost(
    macs=30 * 4 + 30 * 4,
    muls=30,
    comparisons=6 * 4,
    adds=30 + 6 * 4,
    transcendentals=30,
    divs=30,
)
MASKED = PLAIN + Cost(adds=30)
DROPPED = PLAIN + Cost(muls=2 * 30)
# Four products of 30·4; the scale; softmax: 2 products and a subtraction each, 6 sums of 5.
BACKWARD = Cost(macs=4 * 30 * 4, muls=30 + 2 * 30, adds=30 + 6 * 4)
BACKWARD_DROPPED = BACKWARD + Cost(muls=2 * 30)
# The same by (b, s, h, d); packed: 6 queries of 2 heads in two sequences, at most 5 keys each.
qt, kt = s(1, 3, 2, 4), s(1, 5, 2, 4)
packed_q, packed_k, ends = s(6, 2, 4), s(8, 2, 4), s(3, dtype=torch.int32)
packed = (packed_q, packed_k, packed_k)
one_q, one_k = s(1, 6, 2, 4), s(1, 8, 2, 4)
PACKED = Cost(
    macs=60 * 8, muls=60, comparisons=12 * 4, adds=60 + 12 * 4, transcendentals=60, divs=60
)
PACKED_BACKWARD = Cost(macs=60 * 16, muls=60 + 2 * 60, adds=60 + 12 * 4)
SDPA = "_scaled_dot_product_"
# (why, in words; operator; arguments; keyword arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("two products, scale, softmax", SDPA + "flash_attention.default", (q, k, k), {}, PLAIN),
    ("causal is dense", SDPA + "flash_attention.default", (q, k, k, 0.0, True), {}, PLAIN),
    ("mask and scale of dropout", SDPA + "flash_attention.default", (q, k, k, 0.5), {}, DROPPED),
    (
        "a scale of 1 isn't multiplied",
        SDPA + "flash_attention.default",
        (q, k, k),
        {"scale": 1.0},
        SOFTMAX + Cost(macs=240),
    ),
    (
        "a key head for both query heads: the query's heads count",
        SDPA + "flash_attention.default",
        (q, s(1, 1, 5, 4), s(1, 1, 5, 4)),
        {},
        PLAIN,
    ),
    (
        "values of 7: 30·(4 + 7) MACs",
        SDPA + "efficient_attention.default",
        (q, k, s(1, 2, 5, 7), None, True),
        {},
        SOFTMAX + Cost(macs=330, muls=30),
    ),
    ("descaled", SDPA + "flash_attention.quantized", (q, k, k, None, None, None), {}, PLAIN),
    ("plain", SDPA + "flash_attention_for_cpu.default", (q, k, k), {}, PLAIN),
    (
        "a mask added",
        SDPA + "flash_attention_for_cpu.default",
        (q, k, k),
        {"attn_mask": mask},
        MASKED,
    ),
    (
        "a boolean mask selects",
        SDPA + "attention_math_for_mps.default",
        (q, k, k, s(3, 5, dtype=torch.bool)),
        {},
        PLAIN,
    ),
    ("a mask added", SDPA + "attention_math_for_mps.default", (q, k, k, mask), {}, MASKED),
    ("a mask added", SDPA + "efficient_attention.default", (q, k, k, mask, True), {}, MASKED),
    ("a mask added", SDPA + "cudnn_attention.default", (q, k, k, mask, True), {}, MASKED),
    ("a mask added", SDPA + "fused_attention_overrideable.default", (q, k, k, mask), {}, MASKED),
    (
        "dropout",
        SDPA + "fused_attention_overrideable.default",
        (q, k, k, None, 0.1),
        {},
        DROPPED,
    ),
    ("plain", "_triton_scaled_dot_attention.default", (q, k, k), {}, PLAIN),
    ("chooses a kernel", "_fused_sdp_choice.default", (q, k, k), {}, Cost()),
    (
        "four products",
        SDPA + "flash_attention_backward.default",
        (q, q, k, k, q, lse, None, None, 3, 5, 0.0, False, seed, seed),
        {},
        BACKWARD,
    ),
    (
        "dropout's mask and scale again",
        SDPA + "flash_attention_backward.default",
        (q, q, k, k, q, lse, None, None, 3, 5, 0.5, False, seed, seed),
        {},
        BACKWARD_DROPPED,
    ),
    (
        "four products; the mask needs no gradient",
        SDPA + "flash_attention_for_cpu_backward.default",
        (q, q, k, k, q, lse, 0.0, False),
        {"attn_mask": mask},
        BACKWARD,
    ),
    (
        "four products, no scale; the mask's gradient is dS",
        SDPA + "efficient_attention_backward.default",
        (q, q, k, k, mask, q, lse, seed, seed, 0.0, (True,) * 4, False),
        {"scale": 1.0},
        Cost(macs=480, muls=60, adds=54),
    ),
    (
        "four products",
        SDPA + "cudnn_attention_backward.default",
        (q, q, k, k, q, lse, seed, seed, None, None, None, 3, 5, 0.0, False),
        {},
        BACKWARD,
    ),
    (
        "four products",
        SDPA + "fused_attention_overrideable_backward.default",
        (q, q, k, k, None, (True,) * 4, q, lse, None, None, 3, 5, 0.0, False, seed, seed),
        {},
        BACKWARD,
    ),
    (
        "heads before the last dimension",
        "_flash_attention_forward.default",
        (qt, kt, kt, None, None, 3, 5, 0.0, False, False),
        {},
        PLAIN,
    ),
    (
        "packed: 12 rows, 5 keys each",
        "_flash_attention_forward.default",
        (packed_q, packed_k, packed_k, ends, ends, 3, 5, 0.0, False, False),
        {},
        PACKED,
    ),
    (
        "dropout",
        "_flash_attention_forward.quantized",
        (qt, kt, kt, None, None, 3, 5, 0.5, False, False, None, None, None),
        {},
        DROPPED,
    ),
    (
        "into an output",
        "_flash_attention_forward_no_dropout_inplace.default",
        (qt, qt, kt, kt, None, None, 3, 5, False, False),
        {},
        PLAIN,
    ),
    (
        "into an output, packed",
        "_cudnn_attention_forward_no_dropout_inplace.default",
        (packed_q, packed_q, packed_k, packed_k, ends, ends, 3, 5),
        {},
        PACKED,
    ),
    (
        "a mask added",
        "_cudnn_attention_forward.default",
        (q, k, k, mask, None, None, 3, 5, True),
        {},
        MASKED,
    ),
    (
        "keys are the second dimension",
        "_efficient_attention_forward.default",
        (qt, kt, kt, mask, None, None, None, None, 0.0, 0),
        {},
        MASKED,
    ),
    (
        "packed: 12 rows, 5 keys each",
        "_efficient_attention_forward.default",
        (one_q, one_k, one_k, None, ends, ends, 3, 5, 0.0, 0),
        {},
        PACKED,
    ),
    (
        "four products, dropout",
        "_flash_attention_backward.default",
        (qt, qt, kt, kt, qt, lse, None, None, 3, 5, 0.5, False, seed, seed),
        {},
        BACKWARD_DROPPED,
    ),
    (
        "four products, packed",
        "_flash_attention_backward.default",
        (packed_q, *packed, packed_q, lse, ends, ends, 3, 5, 0.0, False, seed, seed),
        {},
        PACKED_BACKWARD,
    ),
    (
        "four products",
        "_cudnn_attention_backward.default",
        (q, q, k, k, q, lse, seed, seed, None, None, None, 3, 5, 0.0, False),
        {},
        BACKWARD,
    ),
    (
        "four products; keys are the second dimension, max_seqlen_k is of packed ones",
        "_efficient_attention_backward.default",
        (qt, qt, kt, kt, None, qt, None, None, 0, 0, lse, 0.0, seed, seed, 0, False),
        {},
        BACKWARD,
    ),
    (
        "four products, packed",
        "_efficient_attention_backward.default",
        (one_q, one_q, one_k, one_k, None, one_q, ends, ends, 3, 5, lse, 0.0, seed, seed, 0, False),
        {},
        PACKED_BACKWARD,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "kwargs", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], expected: Cost
) -> None:
    for overload in overloads(op):
        assert cost_of_specs(overload, *args, result=None, **kwargs) == expected, why


def test_it_is_a_family_of_its_own() -> None:
    t = torch.ones(1, 2, 3, 4)
    priced = price(aten._scaled_dot_product_flash_attention_for_cpu.default, t, t, t)
    assert (priced.family, priced.state, priced.estimate) == ("attention", "counted", "")


Sizes = tuple[int, int, int, int, int, int]
sizes = st.tuples(*[st.integers(1, 2)] * 3, size, size, st.integers(2, 3))


def drawn(shape: Sizes, e: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v of b batches, g key heads with `share` query heads each, s, t and d."""
    b, g, share, rows, t, d = shape
    return (
        torch.randn(b, g * share, rows, d, dtype=f64),
        torch.randn(b, g, t, d, dtype=f64),
        torch.randn(b, g, t, e, dtype=f64),
    )


@given(shape=sizes, scale=st.sampled_from([None, 1.0, 0.3]), masked=flag)
def test_cpu_attention_is_the_loop(shape: Sizes, scale: float | None, masked: bool) -> None:
    tensors = drawn(shape, shape[-1])
    bias = torch.randn(shape[3], shape[4], dtype=f64) if masked else None
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    tally = Tally()
    found = loops.attention(
        tally, *tensors, scale=shape[-1] ** -0.5 if scale is None else scale, mask=bias
    )
    torch.testing.assert_close(found, op(*tensors, attn_mask=bias, scale=scale)[0])
    assert cost(op, *tensors, attn_mask=bias, scale=scale) == tally.cost


def scores_of(shape: Sizes) -> int:
    b, g, share, rows, t, _ = shape
    return b * g * share * rows * t


@pytest.mark.filterwarnings("ignore:Dropout mask should only be used for testing")
@given(
    shape=sizes,
    e=size,
    scale=st.sampled_from([1.0, 0.3]),
    masked=flag,
    p=st.sampled_from([0.0, 0.5]),
)
def test_attention_with_dropout_is_the_loop_both_ways(
    shape: Sizes, e: int, scale: float, masked: bool, p: float
) -> None:
    """Values of another size, and dropout, against autograd through the composite operator."""
    tensors = [tensor.requires_grad_() for tensor in drawn(shape, e)]
    b, g, share, rows, t, _ = shape
    bias = torch.randn(rows, t, dtype=f64) if masked else None
    kept = torch.rand(b, g * share, rows, t) < 0.5 if p else None
    out, _ = aten._scaled_dot_product_attention_math(
        *tensors, bias, p, False, kept, scale=scale, enable_gqa=True
    )
    do = torch.randn_like(out)
    out.backward(do)
    plain = [tensor.detach() for tensor in tensors]
    options: dict[str, Any] = {"scale": scale, "mask": bias, "kept": kept, "p": p}
    of_q, of_k, of_v = (s(*tensor.shape, dtype=f64) for tensor in plain)
    of_bias = None if bias is None else s(rows, t, dtype=f64)

    tally = Tally()
    torch.testing.assert_close(loops.attention(tally, *plain, **options), out.detach())
    (op,) = overloads(SDPA + "efficient_attention.default")
    args = (of_q, of_k, of_v, of_bias, True, p, False)
    assert cost_of_specs(op, *args, result=None, scale=scale) == tally.cost

    tally = Tally()
    grads = loops.attention_backward(tally, do, *plain, **options)
    for found, tensor in zip(grads, tensors):
        torch.testing.assert_close(found, tensor.grad)
    (op,) = overloads(SDPA + "efficient_attention_backward.default")
    of_o = s(*out.shape, dtype=f64)
    of_lse = s(b, g * share, rows, dtype=f64)
    tail = (of_bias, of_o, of_lse, seed, seed, p, (True,) * 4, False)
    assert cost_of_specs(op, of_o, of_q, of_k, of_v, *tail, result=None, scale=scale) == tally.cost


@given(shape=sizes, masked=flag, causal=flag)
@settings(max_examples=15)
def test_attention_takes_the_same_macs_on_cpu_on_meta_and_composed(
    shape: Sizes, masked: bool, causal: bool
) -> None:
    def run(device: str, function: Callable[..., Any]) -> Cost:
        tensors = [tensor.to(device).requires_grad_() for tensor in drawn(shape, shape[-1])]
        bias = torch.zeros(shape[3], shape[4], dtype=f64, device=device) if masked else None

        options = {"attn_mask": bias, "is_causal": causal and not masked, "enable_gqa": True}
        dispatched = Dispatched()
        with dispatched:
            out = function(*tensors, **options)
            (out if isinstance(out, torch.Tensor) else out[0]).sum().backward()
        return dispatched.total()

    sdpa = torch.nn.functional.scaled_dot_product_attention
    cpu = run("cpu", sdpa)
    assert cpu.macs == 3 * scores_of(shape) * 2 * shape[-1]
    assert run("meta", sdpa).macs == cpu.macs
    assert run("cpu", aten._scaled_dot_product_attention_math).macs == cpu.macs


@given(shape=sizes, times=st.integers(2, 3))
def test_attention_is_linear_in_the_batch(shape: Sizes, times: int) -> None:
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    q, k, v = drawn(shape, shape[-1])
    more = [tensor.repeat(times, 1, 1, 1) for tensor in (q, k, v)]
    assert cost(op, *more) == scaled(cost(op, q, k, v), times)
