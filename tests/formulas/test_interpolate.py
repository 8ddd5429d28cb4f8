"""F.interpolate and nn.Upsample, asked in every way, in every grad mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from flopdispatch.cost import Cost
from tests import oracles_upsample as loops
from tests.dispatched import Dispatched
from tests.oracles import Tally
from tests.pricing import scaled

f64 = torch.float64


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


GRAD_MODES: list[Any] = [torch.enable_grad, torch.no_grad, torch.inference_mode]


def interpolated(grad_mode: Any, x: torch.Tensor, **options: Any) -> tuple[torch.Tensor, Cost]:
    """F.interpolate's result, and the cost of the interpolations that it dispatched."""
    calls = Dispatched()
    with grad_mode(), calls:
        result = F.interpolate(x, **options)
    return result, calls.cost("upsample")


# (mode, dimensions, taps an element)
INTERPOLATIONS = [
    ("nearest", 1, 0),
    ("nearest", 2, 0),
    ("nearest", 3, 0),
    ("nearest-exact", 1, 0),
    ("nearest-exact", 2, 0),
    ("nearest-exact", 3, 0),
    ("linear", 1, 2),
    ("bilinear", 2, 4),
    ("bicubic", 2, 16),
    ("trilinear", 3, 8),
]

# Arguments for sizes (4, 7, 6), those of fewer dimensions for the first of them, and the
# sizes that they give: a scaled size is rounded down.
WAYS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"scale_factor": 2}, (8, 14, 12)),
    ({"scale_factor": 2.0}, (8, 14, 12)),
    ({"scale_factor": 1.5}, (6, 10, 9)),
    ({"scale_factor": 0.5}, (2, 3, 3)),
    ({"scale_factor": 1.7}, (6, 11, 10)),
    ({"scale_factor": (1.5, 0.5, 2.0)}, (6, 3, 12)),
    ({"scale_factor": [1.5, 0.5, 2.0]}, (6, 3, 12)),
    ({"scale_factor": 1.7, "recompute_scale_factor": True}, (6, 11, 10)),
    ({"size": 5}, (5, 5, 5)),
    ({"size": (5, 3, 8)}, (5, 3, 8)),
    ({"size": [5, 3, 8]}, (5, 3, 8)),
]


def first(dims: int, options: dict[str, Any]) -> dict[str, Any]:
    """The options for the first dimensions alone."""
    return {
        name: value[:dims] if isinstance(value, tuple | list) else value
        for name, value in options.items()
    }


@pytest.mark.parametrize("align_corners", [None, False, True])
@pytest.mark.parametrize(("options", "outputs"), WAYS)
@pytest.mark.parametrize(("mode", "dims", "taps"), INTERPOLATIONS)
def test_every_mode_and_way_to_ask(
    mode: str,
    dims: int,
    taps: int,
    options: dict[str, Any],
    outputs: tuple[int, ...],
    align_corners: bool | None,
) -> None:
    if align_corners is not None and taps == 0:
        return  # copies have no corners to align
    x = torch.randn(2, 3, *(4, 7, 6)[:dims], requires_grad=True)
    options = {"mode": mode, "align_corners": align_corners, **first(dims, options)}
    elements = 2 * 3
    for o in outputs[:dims]:
        elements *= o
    for grad_mode in GRAD_MODES:
        y, spent = interpolated(grad_mode, x, **options)
        assert y.shape == (2, 3, *outputs[:dims])
        assert spent == Cost(macs=taps * elements)
        if not isinstance(options.get("scale_factor"), list):  # which nn.Upsample doesn't take
            calls = Dispatched()
            with grad_mode(), calls:
                nn.Upsample(**options)(x)
            assert calls.cost("upsample") == Cost(macs=taps * elements)
    result, _ = interpolated(torch.enable_grad, x, **options)
    calls = Dispatched()
    with calls:
        result.sum().backward()
    backward = Cost(macs=taps * elements) if taps else Cost(adds=elements)
    assert calls.cost("upsample") == backward


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "options", [{"size": (4, 9)}, {"scale_factor": 0.5}, {"scale_factor": (1.7, 0.6)}]
)
def test_antialiased_through_interpolate(mode: str, options: dict[str, Any]) -> None:
    found = [(name, k) for name, _, k in loops.FILTERS if mode in name]
    if not found:
        pytest.skip("this torch has no such filter")
    name, kernel = found[0]
    x = torch.randn(1, 2, 12, 10, dtype=f64, requires_grad=True)
    costs = []
    for grad_mode in GRAD_MODES:
        try:
            y, spent = interpolated(grad_mode, x, mode=mode, antialias=True, **options)
        except (NotImplementedError, ValueError):
            pytest.skip("F.interpolate doesn't offer this filter")
        costs.append(spent)
    scale = options.get("scale_factor")
    scales = (None, None) if scale is None else scale if isinstance(scale, tuple) else (scale,) * 2
    rows, columns = (
        loops.axis_of(name, kernel, n, o, False, s)
        for n, o, s in zip((12, 10), y.shape[2:], scales)
    )
    tally = Tally()
    loops.resize(tally, x.detach(), rows, columns)
    assert costs == [tally.cost] * 3
    calls = Dispatched()
    with calls:
        F.interpolate(x, mode=mode, antialias=True, **options).sum().backward()
    assert calls.cost("upsample") == scaled(tally.cost, 2)


def test_the_batch_is_never_scaled() -> None:
    x = torch.empty(2000, 3, 10, 10, device="meta")
    for scale, elements in [
        (2, 2_400_000),
        ((1.5, 1.5), 1_350_000),
        ([0.5, 0.5], 150_000),
    ]:
        y, spent = interpolated(torch.no_grad, x, scale_factor=scale, mode="bilinear")
        assert (y.numel(), spent) == (elements, Cost(macs=4 * elements))
    assert interpolated(torch.no_grad, x, size=(20, 20), mode="bilinear")[1].macs == 9_600_000


def test_a_fractional_size_is_rounded_down() -> None:
    # 3 channels of 7·1.7 = 11.9, so 11, squared
    y, spent = interpolated(torch.no_grad, ones(1, 3, 7, 7), scale_factor=1.7, mode="bilinear")
    assert (y.numel(), spent) == (363, Cost(macs=4 * 363))


def test_area_is_adaptive_pooling() -> None:
    for grad_mode in GRAD_MODES:
        calls = Dispatched()
        with grad_mode(), calls:
            F.interpolate(ones(1, 2, 5, 4), size=(3, 2), mode="area")
        # windows of 2, 3 and 2 rows by 2 and 2 columns: 28 cells for 6 outputs, twice
        assert calls.cost("pooling") == Cost(adds=2 * 22, divs=2 * 6)
        assert calls.cost("upsample") == Cost()
        calls = Dispatched()
        with grad_mode(), calls:
            F.interpolate(ones(1, 2, 5, 4), size=1, mode="area")
        assert "aten.mean.dim" in [str(op) for op, _ in calls.prices]
