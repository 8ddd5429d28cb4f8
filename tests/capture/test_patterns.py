"""A pattern tells of calls of other sizes what their kernels would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flopdispatch import FlopCounter
from flopdispatch.capture.examples import example
from flopdispatch.capture.keys import plain_call
from flopdispatch.capture.meta import clear_cache
from flopdispatch.capture.patterns import order_of, pattern_of, strides_in

aten = torch.ops.aten


def meta(*shape: Any, **options: Any) -> Tensor:
    return torch.empty(*shape, device="meta", **options)


@given(st.lists(st.integers(1, 4), max_size=5).flatmap(
    lambda shape: st.tuples(st.just(shape), st.permutations(range(len(shape))))
))  # fmt: skip
def test_dense_strides_follow_from_sizes_and_their_order(
    drawn: tuple[list[int], list[int]],
) -> None:
    shape, permutation = drawn
    tensor = meta(shape).permute(permutation)
    found = order_of(tensor.shape, tensor.stride())
    if found is not None:
        order, wider = found
        assert not wider
        assert strides_in(order, tensor.shape) == tensor.stride()
        assert meta([tensor.shape[i] for i in order]).stride() == tuple(
            tensor.stride(i) for i in order
        )
    else:
        assert 1 in shape, "the stride of a dimension of one element may be anything"


@pytest.mark.parametrize(
    ("tensor", "expected", "why"),
    [
        (meta(4, 3), ((0, 1), False), "contiguous"),
        (meta(4, 3).t(), ((1, 0), False), "transposed"),
        (meta(4, 6)[:, :3], ((0, 1), True), "rows of wider ones"),
        (meta(4, 6)[:, :3].t(), ((1, 0), True), "columns of wider ones"),
        (meta(4, 6)[:, ::2], None, "gaps inside of rows"),
        (meta(4, 1).expand(4, 3), None, "one element in many places"),
        (meta(6).as_strided((4, 3), (1, 1)), None, "rows that overlap"),
        (meta(4, 6)[:, :1], None, "one element's stride says nothing"),
        (meta(()), ((), False), "a number"),
        (meta(2, 3, 4, 5).to(memory_format=torch.channels_last), ((0, 2, 3, 1), False), "nhwc"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_orders_by_hand(tensor: Tensor, expected: Any, why: str) -> None:
    assert order_of(tensor.shape, tensor.stride()) == expected


def pattern(overload: Any, *args: Any) -> Any:
    found = pattern_of(overload, plain_call(overload, args, {}))
    return None if found is None else found[0]


def test_calls_have_one_pattern_if_the_same_sizes_are_equal() -> None:
    add = aten.add.Tensor
    assert pattern(add, meta(2, 3), meta(3)) == pattern(add, meta(5, 7), meta(7)) is not None
    different = [
        pattern(add, meta(2, 3), meta(3)),
        pattern(add, meta(3, 3), meta(3)),
        pattern(add, meta(2, 3), meta(1)),
        pattern(add, meta(1, 3), meta(3)),
        pattern(add, meta(3, 2).t(), meta(3)),
        pattern(add, meta(2, 3), meta(3, dtype=torch.float64)),
        pattern(add, meta(2, 3), 3),
        pattern(add, meta(2, 3), 4),
        pattern(add, meta(2, 3), 3.0),
        pattern(aten.sub.Tensor, meta(2, 3), meta(3)),
    ]
    assert len(set(different)) == len(different)


def test_an_argument_of_sizes_is_read_as_sizes() -> None:
    def norm(*shape: int) -> Any:
        weight = meta(shape[-1])
        return pattern(
            aten.native_layer_norm.default, meta(*shape), [shape[-1]], weight, weight, 1e-5
        )

    assert norm(2, 30) == norm(9, 50) != norm(9, 9)


def test_what_computes_sizes_and_what_has_no_elements_has_no_pattern() -> None:
    image, kernel = meta(2, 3, 9, 9), meta(4, 3, 3, 3)
    args = (image, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    assert pattern(aten.convolution.default, *args) is None
    assert pattern(aten.add.Tensor, meta(0, 3), meta(3)) is None
    assert pattern(aten.add.Tensor, meta(4, 1).expand(4, 3), meta(3)) is None


Program = Callable[[int, int], Any]

# Each is run on sizes of one pattern, then its answers compared with the kernels'.
PROGRAMS: dict[str, Program] = {
    "a product of matrices": lambda a, b: torch.mm(meta(a, b), meta(b, a)),
    "one of transposed matrices": lambda a, b: torch.addmm(meta(a), meta(b, a).t(), meta(a, b).t()),
    "a batched product": lambda a, b: torch.bmm(meta(a, b, a), meta(a, a, b)),
    "a broadcast sum": lambda a, b: meta(a, 1, b) + meta(b, 1),
    "a sum with a number": lambda a, b: meta(a, b, dtype=torch.int32) + 0.5,
    "channels last": lambda a, b: F.gelu(
        meta(a, b, a, b).to(memory_format=torch.channels_last)
    ),
    "a transposed and a plain one": lambda a, b: meta(a, b) * meta(b, a).t(),
    "rows of a wider one": lambda a, b: meta(a, 4 * b).chunk(4, 1)[1].sigmoid(),
    "a layer norm": lambda a, b: F.layer_norm(meta(a, b), (b,)),
    "a softmax in half precision": lambda a, b: meta(a, b, dtype=torch.half).softmax(-1),
    "a mean": lambda a, b: meta(a, b, b).mean((1, 2), keepdim=True),
    "an embedding": lambda a, b: F.embedding(meta(a, dtype=torch.int64), meta(b, a)),
    "a stack": lambda a, b: torch.stack([meta(a, b)] * 5, dim=1),
    "a comparison": lambda a, b: meta(a, b) > meta(b),
    "in place": lambda a, b: meta(a, b).mul_(meta(b)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_from_patterns_are_the_kernels(name: str) -> None:
    program = PROGRAMS[name]
    clear_cache()
    with FlopCounter(display=False):
        answered = [program(2, 3), program(30, 50), program(5, 6)]
    for sizes, result in zip([(2, 3), (30, 50), (5, 6)], answered):
        expected = program(*sizes)
        assert (result.shape, result.stride(), result.dtype) == (
            expected.shape, expected.stride(), expected.dtype,
        )  # fmt: skip
        assert result.untyped_storage().nbytes() == expected.untyped_storage().nbytes()


def test_calls_that_fail_fail_whatever_is_known_of_others() -> None:
    with FlopCounter(display=False):
        torch.mm(meta(2, 3), meta(3, 4))
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"mat1|size|shape|dim"):
                torch.mm(meta(2, 3), meta(4, 5))
            with pytest.raises(RuntimeError, match=r"size|broadcast|length"):
                torch.add(meta(2, 3), meta(2))


def test_an_example_is_tiny_and_of_the_same_pattern() -> None:
    args = (meta(3000), meta(5000, 1, 3000).squeeze(1), meta(7000, 3000).t())
    args = (meta(7000), *args[1:])
    key = plain_call(aten.addmm.default, args, {})
    found = pattern_of(aten.addmm.default, key)
    assert found is not None
    shown = example(aten.addmm.default, args, {}, found[1], -2)
    assert shown is not None
    small, _, _, out = shown
    tiny = pattern_of(aten.addmm.default, plain_call(aten.addmm.default, small, {}))
    assert tiny is not None
    assert max(tensor.numel() for tensor in (*small, out)) <= 20
    assert str(tiny[0]).replace("cpu", "meta") == str(found[0])


def test_no_example_is_taken_of_what_draws_numbers_or_differs_between_devices() -> None:
    x = meta(4, 4)
    for overload, args in (
        (aten.bernoulli.p, (x, 0.5)),
        (aten.native_dropout.default, (x, 0.5, True)),
        (aten.native_batch_norm.default, (x, None, None, None, None, True, 0.1, 1e-5)),
    ):
        found = pattern_of(overload, plain_call(overload, args, {}))
        assert example(overload, args, {}, found[1] if found else {}, -2) is None


def test_under_another_default_dtype_no_example_is_taken() -> None:
    """`ldexp` of integers is of the default dtype on the CPU, and float32 on meta."""
    x = torch.ones((), dtype=torch.int64, device="meta")
    torch.set_default_dtype(torch.float64)
    try:
        expected = torch.ldexp(x, x).dtype
        clear_cache()
        with FlopCounter(display=False):
            assert torch.ldexp(x, x).dtype == expected
            assert torch.ldexp(x, x).dtype == expected
    finally:
        torch.set_default_dtype(torch.float32)
