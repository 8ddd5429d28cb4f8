from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.statistics import rules
from tests import oracles_statistics as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64

X, POINTS = torch.rand(2, 3), torch.rand(5, 2)
EDGES = torch.tensor([0.0, 0.3, 0.5, 1.0])
SEGMENTS = torch.tensor([2, 1])
REDUCED, DATA = torch.rand(2), torch.rand(3)
G = torch.ones(2)


def segments(reduce: str) -> tuple[Any, ...]:
    return (G, REDUCED, DATA, reduce)


# (why, in words; operator; arguments; keyword arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("6 of −, ·, rounded, 2 edges; into their bins", aten.histogram.bin_ct, (X, 4),
     {"range": [0.0, 1.0]}, Cost(adds=12, muls=6, comparisons=18)),
    ("and twice 5 comparisons for the range", aten.histogram.bin_ct, (X, 4), {},
     Cost(adds=12, muls=6, comparisons=18 + 10)),
    ("and 3 adds for the total, 4 lengths, 4 divided twice", aten.histogram.bin_ct, (X, 4),
     {"density": True}, Cost(adds=12 + 3 + 4, muls=6, comparisons=28, divs=8)),
    ("weights add up in place of ones", aten.histogram.bin_ct, (X, 4),
     {"weight": X, "range": [0.0, 1.0]}, Cost(adds=12, muls=6, comparisons=18)),
    ("6 of 3 comparisons for 5 places", aten.histogram.bins_tensor, (X, EDGES), {},
     Cost(adds=6, comparisons=18)),
    ("and 2 adds for the total, 3 lengths, 3 divided twice", aten.histogram.bins_tensor,
     (X, EDGES), {"density": True}, Cost(adds=6 + 2 + 3, comparisons=18, divs=6)),
    ("2 columns, twice 4 comparisons each", aten._histogramdd_bin_edges.default,
     (POINTS, [4, 2]), {}, Cost(comparisons=16)),
    ("a range is given", aten._histogramdd_bin_edges.default, (POINTS, [4, 2]),
     {"range": [0.0, 1.0, 0.0, 1.0]}, Cost()),
    ("10 coordinates, 5 points, 2 ranges", aten._histogramdd_from_bin_cts.default,
     (POINTS, [4, 2]), {}, Cost(adds=10 + 5, muls=10, comparisons=30 + 16)),
    ("7 for the total, 4 + 2 lengths; 8 divided 3 times", aten._histogramdd_from_bin_cts.default,
     (POINTS, [4, 2]), {"density": True},
     Cost(adds=15 + 7 + 6, muls=10, comparisons=46, divs=24)),
    ("10 coordinates of 3 comparisons", aten._histogramdd_from_bin_tensors.default,
     (POINTS, [EDGES, EDGES]), {}, Cost(adds=5, comparisons=30)),
    ("6 functions", aten._standard_gamma_grad.default, (X, X), {}, Cost(transcendentals=6)),
    ("6 functions", aten._dirichlet_grad.default, (X, X, X), {}, Cost(transcendentals=6)),
    ("copied", aten._segment_reduce_backward.default, segments("sum"), {"lengths": SEGMENTS},
     Cost()),
    ("copied", aten._segment_reduce_backward.default, segments("max"), {"lengths": SEGMENTS},
     Cost()),
    ("2 divided", aten._segment_reduce_backward.default, segments("mean"),
     {"lengths": SEGMENTS}, Cost(divs=2)),
    ("2 by the product, over each of 3", aten._segment_reduce_backward.default,
     segments("prod"), {"lengths": SEGMENTS}, Cost(muls=2, divs=3)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "options", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, op: Any, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    assert cost(op, *args, **options) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, *_ in ROWS}


@given(n=st.integers(2, 8), bins=st.integers(1, 5), density=st.booleans(), given=st.booleans())
def test_a_histogram_is_the_loop(n: int, bins: int, density: bool, given: bool) -> None:
    x, weight, tally = torch.rand(n, dtype=f64), torch.rand(n, dtype=f64), Tally()
    limits = [0.0, 1.0] if given else None
    ours = loops.histogram(tally, x[:, None], [bins], limits, weight.tolist(), density)
    options = {"range": limits, "weight": weight, "density": density}
    torch.testing.assert_close(ours, aten.histogram.bin_ct(x, bins, **options)[0])
    assert cost(aten.histogram.bin_ct, x, bins, **options) == tally.cost


edges = st.lists(st.sampled_from([0.2, 0.4, 0.6, 0.8]), max_size=4, unique=True).map(
    lambda inner: [0.0, *sorted(inner), 1.0]
)


@given(n=st.integers(1, 8), edges=edges, density=st.booleans())
def test_a_histogram_of_edges_is_the_loop(n: int, edges: list[float], density: bool) -> None:
    x, tally, bins = torch.rand(n, dtype=f64), Tally(), torch.tensor(edges, dtype=f64)
    ours = loops.histogram(tally, x[:, None], [edges], None, None, density)
    found, _ = aten.histogram.bins_tensor(x, bins, density=density)
    torch.testing.assert_close(ours, found)
    assert cost(aten.histogram.bins_tensor, x, bins, density=density) == tally.cost


@given(
    n=st.integers(2, 6), bins=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    density=st.booleans(),
)  # fmt: skip
def test_a_histogram_in_dimensions_is_the_loop(n: int, bins: list[int], density: bool) -> None:
    x, tally = torch.rand(n, len(bins), dtype=f64), Tally()
    ours = loops.histogram(tally, x, bins, None, None, density)
    op = aten._histogramdd_from_bin_cts.default
    torch.testing.assert_close(ours, op(x, bins, density=density))
    assert cost(op, x, bins, density=density) == tally.cost


@given(n=st.integers(1, 6), axes=st.lists(edges, min_size=1, max_size=3), density=st.booleans())
def test_a_histogram_of_many_edges_is_the_loop(
    n: int, axes: list[list[float]], density: bool
) -> None:
    x, tally = torch.rand(n, len(axes), dtype=f64), Tally()
    ours = loops.histogram(tally, x, axes, None, None, density)
    op, bins = aten._histogramdd_from_bin_tensors.default, [torch.tensor(a).to(f64) for a in axes]
    if not ours.isnan().any():
        torch.testing.assert_close(ours, op(x, bins, density=density), rtol=1e-5, atol=1e-5)
    assert cost(op, x, bins, density=density) == tally.cost


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    reduce=st.sampled_from(["sum", "mean", "prod", "max", "min"]),
)
def test_the_gradient_of_segments_is_the_loop(lengths: list[int], reduce: str) -> None:
    parts = [(torch.rand(n, dtype=f64) + 0.1).tolist() for n in lengths]
    data = torch.tensor([x for part in parts for x in part], dtype=f64)
    grad, sizes, tally = torch.rand(len(lengths), dtype=f64), torch.tensor(lengths), Tally()
    output = aten.segment_reduce.default(data, reduce, lengths=sizes)
    op, args = aten._segment_reduce_backward.default, (grad, output, data, reduce)
    ours = loops.segment_gradient(tally, grad.tolist(), parts, reduce)
    torch.testing.assert_close(torch.tensor(ours, dtype=f64), op(*args, lengths=sizes))
    assert cost(op, *args, lengths=sizes) == tally.cost


@pytest.mark.parametrize("op", [aten._standard_gamma_grad.default, aten._dirichlet_grad.default])
def test_gradients_of_samples_are_pointwise(op: Any) -> None:
    operands = [torch.rand(4, 5) for _ in op._schema.arguments]
    priced = price(op, *operands)
    assert priced.family == "pointwise"
    assert priced.cost.moving(0, 0) == scaled(Cost(transcendentals=1), 20)


def test_a_histogram_is_of_the_family_of_histc() -> None:
    assert price(aten.histogram.bin_ct, X, 4).family == price(aten.histc.default, X, 4).family
