"""Convolution against its loops, on shapes and options that Hypothesis draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from tests import oracles, oracles_convolution
from tests.oracles_convolution import Window
from tests.pricing import cost, scaled

aten = torch.ops.aten
f64 = torch.float64


@dataclass(frozen=True)
class Case:
    """A convolution that torch accepts: the input is made as large as it must be."""

    transposed: bool
    groups: int
    window: Window
    output_padding: tuple[int, ...]
    x: torch.Tensor
    w: torch.Tensor
    bias: torch.Tensor | None

    @property
    def options(self) -> tuple[Any, ...]:
        """What `aten.convolution` takes after the bias."""
        window = (list(self.window.stride), list(self.window.padding), list(self.window.dilation))
        return (*window, self.transposed, list(self.output_padding), self.groups)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dims = draw(st.sampled_from([1, 1, 2, 2, 3]))
    few = st.integers(1, 2)

    def each(numbers: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(numbers) for _ in range(dims))

    groups, batch, taken, given = draw(few), draw(few), draw(few), draw(few)
    kernel, stride, dilation = each(st.integers(1, 3)), each(few), each(few)
    transposed = draw(st.booleans())
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    padding = tuple(draw(st.integers(0, min(2, (r - 1) // 2 if transposed else 2))) for r in reach)
    output_padding = tuple(
        draw(st.integers(0, max(s, d) - 1)) if transposed else 0 for s, d in zip(stride, dilation)
    )
    extra = each(st.integers(0, 2))
    least = [1 if transposed else max(1, r - 2 * p) for r, p in zip(reach, padding)]
    size = [a + e for a, e in zip(least, extra)]
    channels = groups * taken, groups * given
    filters = (channels[0], given, *kernel) if transposed else (channels[1], taken, *kernel)
    bias = torch.randn(channels[1], dtype=f64) if draw(st.booleans()) else None
    return Case(
        transposed,
        groups,
        Window(stride, padding, dilation),
        output_padding,
        torch.randn((batch, channels[0], *size), dtype=f64),
        torch.randn(filters, dtype=f64),
        bias,
    )


@given(cases())
def test_convolution_is_its_loop(case: Case) -> None:
    out = aten.convolution.default(case.x, case.w, case.bias, *case.options)
    loop = oracles_convolution.transposed if case.transposed else oracles_convolution.convolution
    tally = oracles.Tally()
    shape = tuple(out.shape[2:])
    value = loop(tally, case.x, case.w, case.bias, case.window, case.groups, shape)
    torch.testing.assert_close(value, out)
    assert cost(aten.convolution.default, case.x, case.w, case.bias, *case.options) == tally.cost


@given(cases(), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_convolution_backward_is_its_loop(case: Case, mask: tuple[bool, bool, bool]) -> None:
    out = aten.convolution.default(case.x, case.w, None, *case.options)
    grad = torch.randn_like(out)
    loop = (
        oracles_convolution.transposed_backward if case.transposed else oracles_convolution.backward
    )
    tally = oracles.Tally()
    values = loop(tally, grad, case.x, case.w, case.window, case.groups, mask)
    args = grad, case.x, case.w, [out.shape[1]], *case.options, list(mask)
    for asked, value, expected in zip(mask, values, aten.convolution_backward.default(*args)):
        if asked:
            torch.testing.assert_close(value, expected)
    assert cost(aten.convolution_backward.default, *args) == tally.cost


@given(
    time=st.integers(2, 4),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    taps=st.integers(1, 2),
    pad=st.integers(0, 2),
)
def test_conv_tbc_is_its_loop(
    *, time: int, batch: int, channels: int, filters: int, taps: int, pad: int
) -> None:
    x = torch.randn(time, batch, channels, dtype=f64)
    w = torch.randn(taps, channels, filters, dtype=f64)
    bias = torch.randn(filters, dtype=f64)
    tally = oracles.Tally()
    value = oracles_convolution.over_time(tally, x, w, bias, pad)
    torch.testing.assert_close(value, aten.conv_tbc.default(x, w, bias, pad))
    assert cost(aten.conv_tbc.default, x, w, bias, pad) == tally.cost


# Laws


@given(cases(), st.integers(2, 4))
def test_cost_is_linear_in_the_batch(case: Case, times: int) -> None:
    batch = case.x.repeat(times, *([1] * (case.x.ndim - 1)))
    once = cost(aten.convolution.default, case.x, case.w, case.bias, *case.options)
    more = cost(aten.convolution.default, batch, case.w, case.bias, *case.options)
    assert more == scaled(once, times)


@given(cases())
def test_groups_are_convolutions_side_by_side(case: Case) -> None:
    *window, transposed, output_padding, groups = case.options
    weights = case.w.chunk(groups)
    parts = [
        cost(aten.convolution.default, x, w, None, *window, transposed, output_padding, 1)
        for x, w in zip(case.x.chunk(groups, 1), weights)
    ]
    whole = cost(aten.convolution.default, case.x, case.w, None, *case.options)
    assert sum(parts, Cost()) == whole


@given(cases())
def test_meta_costs_what_cpu_costs(case: Case) -> None:
    meta = case.x.to("meta"), case.w.to("meta")
    cpu = cost(aten.convolution.default, case.x, case.w, None, *case.options)
    assert cost(aten.convolution.default, *meta, None, *case.options) == cpu


@given(cases())
def test_both_gradients_cost_twice_the_forward(case: Case) -> None:
    out = aten.convolution.default(case.x, case.w, None, *case.options)
    forward = cost(aten.convolution.default, case.x, case.w, None, *case.options)
    args = out, case.x, case.w, None, *case.options, [True, True, False]
    assert cost(aten.convolution_backward.default, *args) == scaled(forward, 2)
