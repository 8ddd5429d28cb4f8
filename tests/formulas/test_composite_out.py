from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch import FlopCounter
from flopdispatch.cost import Cost
from flopdispatch.formulas.composite_out import rules
from tests.pricing import cost, price

aten = torch.ops.aten

LINE, PLANE, CUBE = torch.rand(1, 1, 5), torch.rand(1, 1, 5, 4), torch.rand(1, 1, 5, 4, 2)
X, MEANS = torch.rand(2, 3), torch.rand(1, 1, 3, 2, 1)

# (why, in words; operator; arguments; the argument written; its shape; family; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], str, tuple[int, ...], str, Cost]] = [
    ("2 windows of 2", aten.avg_pool1d.out, (LINE, [2]), "out", (1, 1, 2), "pooling",
     Cost(adds=2, divs=2)),
    ("windows of 2, 3 and 2 cells", aten.adaptive_avg_pool1d.out, (LINE, [3]), "out", (1, 1, 3),
     "pooling", Cost(adds=7 - 3, divs=3)),
    ("7 rows by 2 + 2 columns", aten.adaptive_avg_pool2d.out, (PLANE, [3, 2]), "out",
     (1, 1, 3, 2), "pooling", Cost(adds=28 - 6, divs=6)),
    ("and by 2", aten.adaptive_avg_pool3d.out, (CUBE, [3, 2, 1]), "out", (1, 1, 3, 2, 1),
     "pooling", Cost(adds=56 - 6, divs=6)),
    ("each of 6, divided, is added to its cells", aten.adaptive_avg_pool3d_backward.grad_input,
     (MEANS, CUBE), "grad_input", (1, 1, 5, 4, 2), "pooling", Cost(adds=56, divs=6)),
    ("2 rows of 3: 2 comparisons, 3 subtractions, 3 exp, 2 additions, 3 divisions each",
     aten.softmax.int_out, (X, 1), "out", (2, 3), "softmax",
     Cost(comparisons=4, adds=10, transcendentals=6, divs=6)),
    ("2 rows of 3: 2 comparisons, 3 subtractions, 3 exp, 2 additions, a log, 3 subtractions",
     aten.log_softmax.int_out, (X, 1), "out", (2, 3), "softmax",
     Cost(comparisons=4, adds=16, transcendentals=8)),
    ("80 outputs of 4 taps", aten.upsample_bilinear2d.vec_out, (PLANE, [10, 8], False, None),
     "out", (1, 1, 10, 8), "upsample", Cost(macs=320)),
    ("copies", aten.upsample_nearest2d.vec_out, (PLANE, [10, 8], None), "out", (1, 1, 10, 8),
     "upsample", Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "out", "shape", "family", "expected"), ROWS)
def test_hand_arithmetic(
    why: str,
    op: Any,
    args: tuple[Any, ...],
    out: str,
    shape: tuple[int, ...],
    family: str,
    expected: Cost,
) -> None:
    priced = price(op, *args, **{out: torch.empty(shape)})
    assert (priced.cost.moving(0, 0), priced.family) == (expected, family), why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, *_ in ROWS}


def functional(op: Any) -> Any:
    """The operator that decomposes, beside its `out=` form."""
    found = op._overloadname.removesuffix("out").removesuffix("_")
    packet = op._overloadpacket
    return getattr(packet, "default" if found in ("", "grad_input") else found)


@pytest.mark.parametrize(
    ("op", "args", "shape"),
    [(op, args, shape) for _, op, args, out, shape, *_ in ROWS if out == "out"],
)
@pytest.mark.parametrize("inference", [True, False])
def test_the_decomposition_costs_the_same(
    op: Any, args: tuple[Any, ...], shape: tuple[int, ...], inference: bool
) -> None:
    with torch.inference_mode(inference), FlopCounter(display=False) as counter:
        values = functional(op)(*args)
    profile, out = counter.profile, torch.empty(shape)
    assert not profile.uncounted
    assert profile.total.moving(0, 0) == cost(op, *args, out=out)
    torch.testing.assert_close(out, values)
