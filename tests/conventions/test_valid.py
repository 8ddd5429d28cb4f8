"""Taps of convolutions that fall inside the image, by loops over positions and taps."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from flopdispatch import Cost, FlopCounter
from flopdispatch.conventions.valid import taps


def macs(run: Any) -> int:
    with FlopCounter(display=False, convention="valid") as counter:
        run()
    return counter.macs


def loop(x: torch.Tensor, weight: torch.Tensor, **options: Any) -> int:
    """Products with an element of the image: those that a convolution of ones adds up."""
    ones = torch.ones_like
    return int(functional.conv2d(ones(x), ones(weight), **options).sum())


sizes = st.integers(1, 7)


@given(n=sizes, k=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 3),
       dilation=st.integers(1, 3))  # fmt: skip
def test_taps_are_the_sum_of_a_convolution_of_ones(
    n: int, k: int, stride: int, padding: int, dilation: int
) -> None:
    if n + 2 * padding < dilation * (k - 1) + 1:
        return
    found = functional.conv1d(
        torch.ones(1, 1, n), torch.ones(1, 1, k), None, stride, padding, dilation
    )  # fmt: skip
    assert taps(n, k, found.shape[-1], stride, padding, dilation) == int(found.sum())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"padding": (2, 1), "stride": (1, 2), "dilation": (2, 1)},
        {"padding": "same", "groups": 2},
    ],
)
def test_a_convolution_and_its_gradients(options: dict[str, Any]) -> None:
    groups = options.get("groups", 1)
    x = torch.randn(2, 4, 6, 7, requires_grad=True)
    weight = torch.randn(6, 4 // groups, 3, 3, requires_grad=True)
    expected = loop(x.detach(), weight.detach(), **options)
    out: list[torch.Tensor] = []
    assert macs(lambda: out.append(functional.conv2d(x, weight, **options))) == expected
    assert macs(lambda: out[0].sum().backward()) == 2 * expected


def test_a_transposed_convolution_meets_what_it_writes() -> None:
    """Position i writes 2·i − 1 to 2·i + 1 of 7: 4 positions of 3 taps, less one at either end."""
    x, weight = torch.ones(1, 2, 4), torch.ones(2, 3, 3)
    written = [2 * i - 1 + tap for i, tap in product(range(4), range(3))]
    inside = sum(0 <= place < 7 for place in written)
    assert inside == 10
    assert macs(lambda: functional.conv_transpose1d(x, weight, stride=2, padding=1)) == 10 * 2 * 3


def test_all_else_is_as_by_default() -> None:
    with FlopCounter(display=False) as counter:
        functional.relu(
            functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3), torch.ones(4))
        )
    assert counter.profile.reprice("valid").total == counter.profile.total != Cost()
