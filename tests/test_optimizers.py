"""torch.optim, whole: no operator of a step goes uncounted, and plain, foreach and fused agree."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import optim

from flopdispatch import FlopCounter
from tests.dispatched import Dispatched

PLAIN, FOREACH, FUSED = {"foreach": False}, {"foreach": True}, {"fused": True}
MUON, ADAFACTOR = getattr(optim, "Muon", None), getattr(optim, "Adafactor", None)
ELEMENTS, TENSORS = 4 * 3 + 3, 2  # of the Linear below

# (optimizer, options, FLOPs per element and per tensor in a step after the first, why)
CASES: list[tuple[Any, dict[str, Any], int, int, str]] = [
    (optim.SGD, {}, 2, 0, "p - lr·g"),
    (optim.SGD, {"momentum": 0.9}, 4, 0, "m·b + g; p - lr·b"),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5}, 5, 0, "m·b + (1-d)·g; p - lr·b"),
    (optim.SGD, {"momentum": 0.9, "nesterov": True}, 6, 0, "m·b + g; g + m·b; p - lr·g"),
    (optim.SGD, {"weight_decay": 0.1, "maximize": True}, 4, 0, "-g + wd·p; p - lr·g"),
    (optim.Adam, {}, 12, 1, "3 lerp, 4 moment, 2 of √v/c + ε, 3 update; step + 1"),
    (optim.Adam, {"weight_decay": 0.1}, 14, 1, "g + wd·p"),
    (optim.Adam, {"amsgrad": True, "maximize": True}, 12, 1, "comparisons are no FLOPs"),
    (optim.Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}, 13, 1, "p·(1 - lr·wd)"),
    (optim.AdamW, {}, 13, 1, "with decay by default"),
    (optim.AdamW, {"weight_decay": 0, "amsgrad": True}, 12, 1, "as Adam"),
    (optim.Adagrad, {}, 6, 1, "s + g·g; √s + ε; p - c·g/d; step + 1"),
    (optim.Adagrad, {"weight_decay": 0.1, "lr_decay": 0.1}, 8, 1, "g + wd·p"),
    (
        optim.RMSprop,
        {},
        8,
        1,
        "α·s + (1-α)·g·g; √s + ε; p - lr·g/d; step + 1",
    ),
    (
        optim.RMSprop,
        {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
        4 + 2 + 3 + 3 + 1 + 3 + 2,
        1,
        "as s; g + wd·p; lerp; s - ḡ·ḡ with factor -1; + ε; m·b + g/d; p - lr·b; step + 1",
    ),
    (
        optim.Adadelta,
        {},
        14,
        1,
        "s and its like for Δ 4 each; √(s + ε) and √(a + ε) 2; a/s·g 2; p - lr·Δ 2; step + 1",
    ),
    (optim.Adamax, {}, 8, 1, "lerp 3; max(β·u, |g| + ε) 2; p - c·m/u 3; step + 1"),
    (optim.Adamax, {"weight_decay": 0.1, "maximize": True}, 10, 1, "g + wd·p"),
]


def steps(of: Any, options: dict[str, Any], n: int = 3) -> list[Dispatched]:
    """The calls of each of n steps on a Linear(4, 3)."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    if of is None or not options.keys() <= inspect.signature(of).parameters.keys():
        pytest.skip("this torch has not this optimizer or option")
    parameters = [net.weight] if of is MUON else list(net.parameters())
    optimizer = of(parameters, **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = net(torch.ones(2, 4)).square().sum()
        loss.backward()
        return loss

    seen = []
    for _ in range(n):
        if of is not optim.LBFGS:
            closure()
        with Dispatched() as calls:
            optimizer.step(*[closure] * (of is optim.LBFGS))
        seen.append(calls)
    return seen


def uncounted(calls: Dispatched) -> set[str]:
    """Overloads without a rule; the profiler's marks are no operators."""
    return {name for name in calls.uncounted() if not name.startswith("profiler.")}


def modes(of: Any) -> list[dict[str, bool]]:
    has_fused = of in (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad)
    return [PLAIN, FOREACH, *([FUSED] if has_fused else [])]


@pytest.mark.parametrize(("of", "options", "each", "tensor", "why"), CASES)
def test_a_step_costs_its_update_rule(
    of: Any, options: dict[str, Any], each: int, tensor: int, why: str
) -> None:
    for mode in modes(of):
        later = steps(of, options | mode)[1:]
        for calls in later:
            assert not uncounted(calls)
            assert calls.total().flops == ELEMENTS * each + TENSORS * tensor, (mode, why)


@pytest.mark.parametrize(("of", "options", "each", "tensor", "why"), CASES)
def test_plain_foreach_and_fused_agree_in_all_but_comparisons(
    of: Any, options: dict[str, Any], each: int, tensor: int, why: str
) -> None:
    first, *others = [[c.total() for c in steps(of, options | mode)] for mode in modes(of)]
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert one.flops == two.flops
            assert one.transcendentals == two.transcendentals


# (optimizer, options): agreement is of FLOPs only where the two do the same
OTHERS: list[tuple[Any, dict[str, Any], bool]] = [
    (optim.NAdam, {}, True),
    (optim.NAdam, {"weight_decay": 0.1}, True),
    (optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}, True),
    (optim.Rprop, {}, True),
    (optim.Rprop, {"maximize": True}, True),
    (optim.Adadelta, {"weight_decay": 0.1, "maximize": True}, True),
    (optim.ASGD, {}, False),  # plain skips the average that isn't one yet
    (optim.ASGD, {"weight_decay": 0.1, "maximize": True}, False),
    (optim.RAdam, {}, False),  # plain skips the rectification while it is not due
    (optim.RAdam, {"weight_decay": 0.1}, False),
]


@pytest.mark.parametrize(("of", "options", "same"), OTHERS)
def test_other_optimizers_are_counted_whole(of: Any, options: dict[str, Any], same: bool) -> None:
    plain, foreach = (steps(of, options | mode) for mode in (PLAIN, FOREACH))
    for one, two in zip(plain, foreach):
        assert not uncounted(one) | uncounted(two)
        assert one.total().flops > 0
        assert not same or one.total().flops == two.total().flops


@pytest.mark.parametrize(
    ("of", "options"),
    [
        (ADAFACTOR, {}),
        (ADAFACTOR, {"weight_decay": 0.1}),
        (MUON, {}),
        (MUON, {"nesterov": False, "weight_decay": 0.0}),
        (optim.LBFGS, {"max_iter": 3}),
        (optim.LBFGS, {"max_iter": 3, "line_search_fn": "strong_wolfe"}),
    ],
)
def test_optimizers_without_a_foreach_are_counted_whole(of: Any, options: dict[str, Any]) -> None:
    for calls in steps(of, options):
        assert not uncounted(calls)
        assert calls.total().flops > 0


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
@pytest.mark.parametrize("of", [optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad])
def test_a_learning_rate_in_a_tensor_costs_the_same(of: Any, lr: Any) -> None:
    got = [calls.total().flops for calls in steps(of, {"lr": lr} | FUSED)]
    assert got == [calls.total().flops for calls in steps(of, {"lr": 0.1} | FUSED)]


@pytest.mark.parametrize("foreach", [False, True])
def test_clipping_gradients_is_counted_whole(foreach: bool) -> None:
    for norm in (1.0, 2.0, float("inf")):
        net = torch.nn.Linear(4, 3)
        net(torch.ones(2, 4)).sum().backward()
        with Dispatched() as calls:
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1, norm, foreach=foreach)
        assert not uncounted(calls)
        assert calls.total().muls >= ELEMENTS


def test_scaling_gradients_is_counted_whole() -> None:
    net = torch.nn.Linear(4, 3)
    optimizer = optim.SGD(net.parameters(), fused=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(net(torch.ones(2, 4)).sum()).backward()
    with Dispatched() as calls:
        scaler.step(optimizer)
        scaler.update()
    assert not uncounted(calls)
    assert calls.total("_amp_foreach_non_finite_check_and_unscale_").muls == ELEMENTS
    assert calls.total("_amp_update_scale_").muls == 1


def test_averaging_models_is_counted_whole() -> None:
    net = torch.nn.Linear(4, 3)
    averaged = optim.swa_utils.AveragedModel(
        net, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    averaged.update_parameters(net)
    with Dispatched() as calls:
        averaged.update_parameters(net)
    assert not uncounted(calls)
    assert calls.total("_foreach_lerp_").flops == 3 * ELEMENTS


EVERY = sorted(
    (
        found
        for found in vars(optim).values()
        if inspect.isclass(found) and issubclass(found, optim.Optimizer)
    ),
    key=lambda found: found.__name__,
)


@pytest.mark.parametrize("of", [found for found in EVERY if found is not optim.Optimizer])
def test_what_a_step_runs_is_the_optimizer_phase(of: Any) -> None:
    sparse = of is optim.SparseAdam
    net: torch.nn.Module = torch.nn.Embedding(4, 3, sparse=True) if sparse else None  # type: ignore[assignment]
    net = net or torch.nn.Linear(4, 3, bias=of is not MUON)
    data = torch.tensor([0, 1]) if sparse else torch.ones(2, 4)
    for mode in modes(of) if "foreach" in inspect.signature(of).parameters else [{}]:
        optimizer = of(net.parameters(), **mode)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()  # noqa: B023
            loss: torch.Tensor = net(data).square().sum()
            loss.backward()
            return loss

        closure()
        with FlopCounter(display=False) as counter:
            optimizer.step(*[closure] * (of is optim.LBFGS))
        phases = {row.phase for row in counter.profile.rows}
        if of is optim.LBFGS:
            assert {"optimizer", "forward", "backward"} <= phases
        else:
            assert phases == {"optimizer"}
        assert counter.profile.by_phase()["optimizer"].flops > 0 or counter.profile.uncounted
        before = macs(counter, "forward")
        assert macs(counter, "other") == 0
        assert (before > 0) is (of is optim.LBFGS)


def macs(counter: FlopCounter, phase: str) -> int:
    cost = counter.profile.by_phase().get(phase)
    return 0 if cost is None else cost.macs
