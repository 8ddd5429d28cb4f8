from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from flopdispatch import FlopCounter, default_registry
from flopdispatch.cost import Cost
from flopdispatch.profile import Profile
from flopdispatch.spec import OpCall, spec
from tests.versions import TORCH

pytestmark = pytest.mark.skipif(TORCH < (2, 15), reason="torch < 2.15 works out all logits")

N, FEATURES, CLASSES = 6, 4, 5
WEIGHT = torch.rand(CLASSES)


def chunked(reduction: str) -> Any:
    """The operator that takes the loss chunk by chunk."""
    ops = torch.ops.torch_nn
    if reduction == "none":
        return ops._linear_cross_entropy_batch_chunked_no_reduction.default
    return ops._linear_cross_entropy_batch_chunked.default


def test_hand_arithmetic() -> None:
    # 6 rows of 4 features, 5 classes: 120 MACs, 3 times with the gradients; 30 adds for the bias.
    # A row of logarithms: 4 maxima, 5 differences twice, 5 exp, 4 adds, a log. 6 signs, their
    # mean. The gradient: a sign and a factor a row, for each logit an exp, a mul and a
    # difference, 4 adds a row for the sum; 5 adds a class for the bias's.
    loss = Cost(
        macs=120,
        adds=30 + 6 * (10 + 4) + 5,
        comparisons=6 * 4 + 6,
        transcendentals=6 * 6,
        divs=1,
    )
    gradients = Cost(
        macs=240, adds=6 * (5 + 4) + 5 * 5, muls=30, comparisons=6, transcendentals=30, divs=1
    )
    args = (
        spec(N, FEATURES), spec(CLASSES, FEATURES), spec(N, dtype=torch.int64), spec(CLASSES),
        None, "mean", -100, 0.0, 2, "auto", torch.float32, True,
    )  # fmt: skip
    results = (spec(), spec(N, FEATURES), spec(CLASSES, FEATURES), spec(CLASSES))
    chunks = torch.nn.LinearCrossEntropyOptions()
    functional.linear_cross_entropy(*arguments(False), options=chunks)  # registers the operator
    for asked, expected in (((True, True, True), loss + gradients), ((False,) * 3, loss)):
        priced = default_registry().price(OpCall(chunked("mean"), (*args, *asked), (), results))
        assert priced.cost.moving(0, 0) == expected
        assert priced.family == "matmul"


def arguments(probabilities: bool) -> tuple[torch.Tensor, ...]:
    """Input, weight and target of a layer."""
    target = torch.rand(N, CLASSES) if probabilities else torch.randint(CLASSES, (N,))
    made = torch.rand(N, FEATURES), torch.rand(CLASSES, FEATURES), target
    return (*(tensor.requires_grad_() for tensor in made[:2]), target)


def profile_of(
    args: tuple[torch.Tensor, ...], backward: bool, **options: Any
) -> tuple[Profile, torch.Tensor]:
    with FlopCounter(display=False) as counter:
        loss = functional.linear_cross_entropy(*args, **options)
        if backward:
            loss.backward()
    assert not counter.profile.uncounted
    return counter.profile, loss


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_chunks_cost_what_the_layer_and_the_loss_cost(
    probabilities: bool, weight: torch.Tensor | None, biased: bool, reduction: str
) -> None:
    args = arguments(probabilities)
    bias = torch.rand(CLASSES, requires_grad=True) if biased else None
    options = {"weight": weight, "linear_bias": bias, "reduction": reduction}
    whole, loss = profile_of(args, reduction != "none", **options)
    chunks, same = profile_of(args, False, **options, options=torch.nn.LinearCrossEntropyOptions())
    torch.testing.assert_close(loss, same)
    assert chunks.by_op()[chunked(reduction)].moving(0, 0) == whole.total.moving(0, 0)
