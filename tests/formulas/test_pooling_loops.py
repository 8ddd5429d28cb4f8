"""Pooling is the loop over windows."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import oracles_pooling as loops
from tests.oracles import Tally
from tests.pricing import cost

aten = torch.ops.aten
f64 = torch.float64


@st.composite
def windows(draw: st.DrawFn, dims: int, dilated: bool) -> dict[str, Any]:
    """Input sizes and a kernel that fits them."""
    largest = {1: 7, 2: 5, 3: 3}[dims]
    kernel = tuple(draw(st.integers(1, min(3, largest))) for _ in range(dims))
    dilation = tuple(draw(st.integers(1, 2)) if dilated else 1 for _ in range(dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    inside = tuple(draw(st.integers(r, r + largest)) for r in reach)
    return {
        "x": torch.randn(draw(st.integers(1, 2)), draw(st.integers(1, 2)), *inside, dtype=f64),
        "kernel": kernel,
        "stride": tuple(draw(st.integers(1, 3)) for _ in range(dims)),
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
    }


@given(
    w=st.integers(2, 3).flatmap(lambda d: windows(d, dilated=False)),
    include=st.booleans(),
    override=st.none() | st.integers(1, 5),
)
def test_average_is_the_loop_over_windows(
    w: dict[str, Any], include: bool, override: int | None
) -> None:
    x, shape = w["x"], (w["kernel"], w["stride"], w["padding"])
    forward, backward = {
        2: (aten.avg_pool2d.default, aten.avg_pool2d_backward.default),
        3: (aten.avg_pool3d.default, aten.avg_pool3d_backward.default),
    }[len(w["kernel"])]
    args = [*(list(s) for s in shape), w["ceil_mode"], include, override]
    expected = forward(x, *args)
    tally = Tally()
    outputs = tuple(expected.shape[2:])
    torch.testing.assert_close(
        loops.avg_pool(tally, x, outputs, *shape, include, override), expected
    )
    assert cost(forward, x, *args) == tally.cost
    grad = torch.randn_like(expected)
    tally = Tally()
    torch.testing.assert_close(
        loops.avg_pool_backward(tally, grad, tuple(x.shape[2:]), *shape, include, override),
        backward(grad, x, *args),
    )
    assert cost(backward, grad, x, *args) == tally.cost


@given(w=st.integers(2, 3).flatmap(lambda d: windows(d, dilated=True)))
def test_maximum_is_the_loop_over_windows(w: dict[str, Any]) -> None:
    x, shape = w["x"], (w["kernel"], w["stride"], w["padding"], w["dilation"])
    forward, backward = {
        2: (aten.max_pool2d_with_indices.default, aten.max_pool2d_with_indices_backward.default),
        3: (aten.max_pool3d_with_indices.default, aten.max_pool3d_with_indices_backward.default),
    }[len(w["kernel"])]
    args = [*(list(s) for s in shape), w["ceil_mode"]]
    expected, indices = forward(x, *args)
    tally = Tally()
    torch.testing.assert_close(
        loops.max_pool(tally, x, tuple(expected.shape[2:]), *shape), expected
    )
    assert cost(forward, x, *args) == tally.cost
    grad = torch.randn_like(expected)
    tally = Tally()
    torch.testing.assert_close(
        loops.max_backward(tally, grad, indices, tuple(x.shape[2:])),
        backward(grad, x, *args, indices),
    )
    assert cost(backward, grad, x, *args, indices) == tally.cost


@st.composite
def adaptive(draw: st.DrawFn) -> tuple[torch.Tensor, tuple[int, ...]]:
    """An input of two or three dimensions, and output sizes, larger ones too."""
    dims = draw(st.integers(2, 3))
    size = st.integers(1, {2: 8, 3: 4}[dims])
    inside = [draw(size) for _ in range(dims)]
    planes = [draw(st.integers(1, 2)) for _ in range(2)]
    return torch.randn(*planes, *inside, dtype=f64), tuple(draw(size) for _ in range(dims))


@given(case=adaptive())
def test_adaptive_average_is_the_loop_over_windows(
    case: tuple[torch.Tensor, tuple[int, ...]],
) -> None:
    x, outputs = case
    forward, backward = {
        2: (aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d_backward.default),
        3: (aten._adaptive_avg_pool3d.default, aten._adaptive_avg_pool3d_backward.default),
    }[len(outputs)]
    expected = forward(x, outputs)
    tally = Tally()
    torch.testing.assert_close(loops.adaptive_pool(tally, x, outputs, loops.adaptive_avg), expected)
    assert cost(forward, x, outputs) == tally.cost
    grad = torch.randn_like(expected)
    tally = Tally()
    torch.testing.assert_close(
        loops.adaptive_avg_backward(tally, grad, tuple(x.shape[2:])), backward(grad, x)
    )
    assert cost(backward, grad, x) == tally.cost


@given(case=adaptive())
def test_adaptive_maximum_is_the_loop_over_windows(
    case: tuple[torch.Tensor, tuple[int, ...]],
) -> None:
    x, outputs = case
    forward, backward = {
        2: (aten.adaptive_max_pool2d.default, aten.adaptive_max_pool2d_backward.default),
        3: (aten.adaptive_max_pool3d.default, aten.adaptive_max_pool3d_backward.default),
    }[len(outputs)]
    expected, indices = forward(x, outputs)
    tally = Tally()
    torch.testing.assert_close(loops.adaptive_pool(tally, x, outputs, loops.adaptive_max), expected)
    assert cost(forward, x, outputs) == tally.cost
    grad = torch.randn_like(expected)
    tally = Tally()
    torch.testing.assert_close(
        loops.max_backward(tally, grad, indices, tuple(x.shape[2:])), backward(grad, x, indices)
    )
    assert cost(backward, grad, x, indices) == tally.cost


@given(
    dims=st.integers(2, 3),
    kernel=st.integers(1, 2),
    outputs=st.integers(2, 3),
    channels=st.integers(1, 2),
)
def test_fractional_maximum_is_the_loop_over_windows(
    dims: int, kernel: int, outputs: int, channels: int
) -> None:
    forward, backward = {
        2: (aten.fractional_max_pool2d.default, aten.fractional_max_pool2d_backward.default),
        3: (aten.fractional_max_pool3d.default, aten.fractional_max_pool3d_backward.default),
    }[dims]
    x = torch.randn(1, channels, *(5 + i for i in range(dims)), dtype=f64)
    samples = torch.rand(1, channels, dims, dtype=f64)
    sizes = (kernel,) * dims, (outputs,) * dims
    expected, indices = forward(x, *sizes, samples)
    tally = Tally()
    torch.testing.assert_close(
        loops.fractional_max_pool(tally, x, sizes[1], sizes[0], samples), expected
    )
    assert cost(forward, x, *sizes, samples) == tally.cost
    grad = torch.randn_like(expected)
    tally = Tally()
    torch.testing.assert_close(
        loops.max_backward(tally, grad, indices, tuple(x.shape[2:])),
        backward(grad, x, *sizes, indices),
    )
    assert cost(backward, grad, x, *sizes, indices) == tally.cost
