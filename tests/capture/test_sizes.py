"""Sizes worked out are the kernel's, and what the kernel refuses isn't worked out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flopdispatch.capture.sizes import worked_out

aten = torch.ops.aten

LITTLE = st.integers(0, 3)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


def made_by_kernel(overload: Any, args: Any) -> Any:
    """What the kernel makes on meta, None if it refuses."""
    try:
        out = overload(*args)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return out.shape, out.stride(), out.dtype


def check(overload: Any, args: Any) -> None:
    found = worked_out(overload, args, {})
    if found is not None:
        assert found == made_by_kernel(overload, args)


@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    places = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 3))
    wrong = data.draw(st.sampled_from(["", "", "sizes", "channels", "bias", "numbers", "layout"]))

    def many(least: int, most: int) -> list[int]:
        values = st.integers(0 if wrong == "sizes" else least, most)
        return data.draw(st.lists(values, min_size=places, max_size=places))

    below = 1 if wrong == "numbers" else 0
    stride, padding, dilation = (
        data.draw(st.lists(st.integers(least - below, 3), min_size=places, max_size=places))
        for least in (1, 0, 1)
    )
    x = meta(*many(1, 3)[:1], 2 * groups, *many(3, 9))
    weight = meta(groups * data.draw(st.integers(1, 3)), 2 + (wrong == "channels"), *many(1, 3))
    bias = data.draw(st.sampled_from([None, meta(len(weight) + (wrong == "bias"))]))
    if wrong == "layout":
        x = data.draw(st.sampled_from([x.transpose(1, -1).contiguous().transpose(1, -1),
                                       x[..., :-1], x.transpose(1, -1)]))  # fmt: skip
    transposed = wrong == "numbers" and data.draw(st.booleans())
    check(
        aten.convolution.default,
        (x, weight, bias, stride, padding, dilation, transposed, [0] * places, groups),
    )


@given(st.data())
def test_concatenations(data: st.DataObject) -> None:
    least = data.draw(st.sampled_from([1, 1, 0]))
    shape = data.draw(st.lists(st.integers(least, 3), max_size=5))
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    tensors = []
    for _ in range(data.draw(LITTLE)):
        sizes = list(shape)
        if sizes and -len(sizes) <= dim < len(sizes):
            sizes[dim] = data.draw(st.integers(least, 3))
        if sizes and data.draw(st.integers(0, 19)) == 19:
            sizes[data.draw(st.integers(0, len(sizes) - 1))] = data.draw(LITTLE)
        order = data.draw(st.permutations(range(len(sizes))))
        tensor = meta(*[sizes[place] for place in order])
        dtype = data.draw(st.sampled_from([torch.float32] * 15 + [torch.int64]))
        tensors.append(tensor.permute([order.index(i) for i in range(len(sizes))]).to(dtype))
    check(aten.cat.default, (tensors, dim))


@pytest.mark.parametrize(
    ("overload", "args", "expected"),
    [
        # (7 + 2 - 2 * (3 - 1) - 1) // 2 + 1 = 3 by (6 + 0 - 1 * (2 - 1) - 1) // 1 + 1 = 5
        (
            aten.convolution.default,
            (meta(2, 4, 7, 6), meta(6, 2, 3, 2), None, [2, 1], [1, 0], [2, 1], False, [0, 0], 2),
            (torch.Size([2, 6, 3, 5]), (90, 15, 5, 1), torch.float32),
        ),
        (
            aten.cat.default,
            ([meta(2, 3), meta(2, 8)[:, ::2]], 1),
            (torch.Size([2, 7]), (7, 1), torch.float32),
        ),
    ],
)
def test_common_calls_are_worked_out(overload: Any, args: Any, expected: Any) -> None:
    assert worked_out(overload, args, {}) == expected


def test_other_operators_are_left_to_their_kernels() -> None:
    assert worked_out(aten.relu.default, (meta(3),), {}) is None
    assert worked_out(aten.convolution.default, (meta(3),), {"bias": None}) is None
