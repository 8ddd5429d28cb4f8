from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.ctc import rules
from flopdispatch.spec import spec
from tests import oracles_loss as loops
from tests.oracles import Tally
from tests.pricing import cost, cost_of_specs, price

aten = torch.ops.aten
f64 = torch.float64

# 2 samples of 4 and 3 steps, of 2 and 1 labels among 6: lattices of 4·5 and 3·3 positions,
# 3·5 and 2·3 of them after the first step
SPEECH = (torch.rand(4, 2, 6).log_softmax(-1), torch.tensor([[1, 2], [3, 0]]), [4, 3], [2, 1])
LENGTHS = (torch.tensor([4, 3]), torch.tensor([2, 1]))
SPEECH_LOSSES = aten._ctc_loss.default(*SPEECH)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("15 + 6 positions of 2, 7 and 4; 2 samples of 2, 4 and 3", aten._ctc_loss.default, SPEECH,
     Cost(comparisons=42 + 4, adds=147 + 8, transcendentals=84 + 6)),
    ("unknown lengths: both samples have 3·5", aten._ctc_loss.Tensor, (*SPEECH[:2], *LENGTHS),
     Cost(comparisons=60 + 4, adds=210 + 8, transcendentals=120 + 6)),
    ("21 positions of 2, 7 and 4; 29 of 1, 3 and 2; 48 elements of 3 adds, 2 exps, a mul",
     aten._ctc_loss_backward.default, (torch.ones(2), *SPEECH, *SPEECH_LOSSES, 0),
     Cost(comparisons=42 + 29, adds=147 + 87 + 144, transcendentals=84 + 58 + 96, muls=48)),
    ("unknown lengths: 30 after the first of 40", aten._ctc_loss_backward.Tensor,
     (torch.ones(2), *SPEECH[:2], *LENGTHS, *SPEECH_LOSSES, 0),
     Cost(comparisons=60 + 40, adds=210 + 120 + 144, transcendentals=120 + 80 + 96, muls=48)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


@given(steps=st.lists(st.integers(3, 5), min_size=1, max_size=3), data=st.data())
def test_ctc_is_the_recursion_over_each_lattice(steps: list[int], data: st.DataObject) -> None:
    classes, longest = 4, max(steps)
    labels = [
        data.draw(st.lists(st.integers(1, classes - 1), min_size=1, max_size=2, unique=True))
        for _ in steps
    ]
    x = torch.randn(longest, len(steps), classes, dtype=f64).log_softmax(-1)
    targets = torch.tensor([[*label, *[0] * (2 - len(label))] for label in labels])
    lattices = [[0, *(s for y in label for s in (y, 0))] for label in labels]
    forward = (x, targets, steps, [len(label) for label in labels])
    value, log_alpha = aten._ctc_loss.default(*forward)
    tally = Tally()
    ours = [loops.ctc(tally, x[:t, b], lattices[b]) for b, t in enumerate(steps)]
    torch.testing.assert_close(torch.tensor([loss.value for loss in ours], dtype=f64), value)
    assert cost(aten._ctc_loss.default, *forward) == tally.cost

    tally, grad = Tally(), torch.rand(len(steps), dtype=f64)
    args = (grad, *forward, value, log_alpha, 0)
    gradient = aten._ctc_loss_backward.default(*args)
    for b in range(len(steps)):
        t = steps[b]
        ours_b = loops.ctc_gradient(tally, x[:t, b], lattices[b], grad[b].item())
        torch.testing.assert_close(ours_b, gradient[:t, b])
    missing = sum(longest - t for t in steps) * classes  # the result has its padding, too
    padded = Cost(adds=3 * missing, transcendentals=2 * missing, muls=missing)
    assert cost(aten._ctc_loss_backward.default, *args) == tally.cost + padded


def fused(lengths: tuple[Any, Any]) -> tuple[Any, ...]:
    """Arguments of a kernel that gives losses and gradients: 2 samples of 4 steps, 6 classes."""
    return (spec(4, 2, 6), spec(3, dtype=torch.int64), *lengths, 0, False, True)


FUSED = [rule.overload for rule in rules if "_ctc_loss" in str(rule.overload)]
FUSED = [op for op in FUSED if not str(op).startswith("aten._ctc_loss")]


@pytest.mark.parametrize("op", FUSED, ids=str)
def test_a_fused_kernel_is_loss_and_gradient(op: Any) -> None:
    known = "Tensor" not in str(op)
    lengths = ((4, 3), (2, 1)) if known else (spec(2), spec(2))
    found = cost_of_specs(op, *fused(lengths), result=(spec(2), spec(4, 2, 6)))
    # Known: twice 15 + 6 positions after (before) the first (last) step, of 29. Unknown: 4 steps
    # of 2·3 + 2 rows, twice 24 of these 32 positions. Then 48 elements of 3 adds and 2 exps.
    inner, positions = (21, 29) if known else (24, 32)
    assert found == Cost(
        comparisons=2 * 2 * inner + positions + 4,
        adds=2 * 7 * inner + 3 * positions + 8 + 144,
        transcendentals=2 * 4 * inner + 2 * positions + 6 + 96,
    )


def test_a_fused_kernel_weights_no_gradients() -> None:
    op = aten._cudnn_ctc_loss.default
    at_once = cost_of_specs(op, *fused(((4, 3), (2, 1))), result=(spec(2), spec(4, 2, 6)))
    apart = cost(aten._ctc_loss.default, *SPEECH) + cost(
        aten._ctc_loss_backward.default, torch.ones(2), *SPEECH, *SPEECH_LOSSES, 0
    )
    assert at_once + Cost(muls=48) == apart


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {*FUSED, *(op for _, op, _, _ in ROWS)}
    assert aten._cudnn_ctc_loss.default in FUSED


def test_bounds_are_marked() -> None:
    assert "bound" in price(aten._ctc_loss.default, *SPEECH).estimate
