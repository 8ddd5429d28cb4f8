"""Function transforms, lazy and generated modules, selective checkpoints: each in its module."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

from flopdispatch import FlopCounter
from tests.programs import counted, macs_by_row, macs_by_scope

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


def x(grad: bool = True) -> Tensor:
    return torch.randn(8, 8, requires_grad=grad)


def linear() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


# torch.func


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def test_a_functional_call_has_the_rows_of_the_model() -> None:
    model = nn.Sequential(linear(), nn.ReLU(), linear())
    params = {name: value.clone().requires_grad_() for name, value in state(model).items()}
    profile = counted(lambda: functional_call(model, params, (x(),)).sum().backward())
    assert macs_by_row(profile) == {
        ("Sequential.0", "forward"): ONE,
        ("Sequential.0", "backward"): 2 * ONE,
        ("Sequential.2", "forward"): ONE,
        ("Sequential.2", "backward"): 2 * ONE,
    }


def test_transforms_are_counted_as_what_they_run() -> None:
    model = nn.Sequential(linear())
    data, params = x(grad=False), state(model)

    def loss(params: dict[str, Tensor], data: Tensor) -> Tensor:
        out: Tensor = functional_call(model, params, (data,)).sum()
        return out

    def forward(data: Tensor) -> Tensor:
        out: Tensor = model(data)
        return out

    # The forward and the weight's gradient; the data has none.
    profile = counted(lambda: grad(loss)(params, data))
    assert macs_by_row(profile) == {
        ("Sequential.0", "forward"): ONE,
        ("Sequential.0", "backward"): ONE,
    }
    # A row at a time, all at once.
    assert counted(lambda: vmap(forward)(data)).macs == ONE
    # Each row's own gradient is an outer product of 8 by 8: as much as that of all together.
    each = vmap(grad(loss), in_dims=(None, 0))
    assert counted(lambda: each(params, data)).macs == 2 * ONE
    # Forward mode: the value, and for its tangent one product for each factor's; the weight's
    # tangent is zeros, which torch multiplies as any other matrix.
    assert counted(lambda: jvp(forward, (data,), (data,))).macs == 3 * ONE
    assert counted(lambda: vjp(forward, data)[1](data)).macs == 2 * ONE
    # 8 outputs of one row: a product with the weight for each.
    assert counted(lambda: jacrev(forward)(data[0])).macs == 64 + 8 * 64


# Modules that come into being in the block, and those that compute something besides


def test_a_lazy_module_is_counted_from_its_first_call_on() -> None:
    model = nn.Sequential(nn.LazyLinear(8, bias=False), nn.ReLU())
    with FlopCounter(display=False) as counter:
        for _ in range(2):
            model(x()).sum().backward()
    profile = counter.profile
    assert macs_by_scope(profile) == {"Sequential.0": 6 * ONE}
    assert profile.params == 64
    assert profile.root.children[0].children[0].module_type == "Linear"


def test_a_parametrization_has_a_row_of_its_own() -> None:
    class Squared(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight @ weight

    layer = linear()
    parametrize.register_parametrization(layer, "weight", Squared())
    profile = counted(lambda: nn.Sequential(layer)(x()).sum().backward())
    # weight² is a product of two factors, which are one and the same: two gradients.
    assert macs_by_scope(profile) == {
        "Sequential.0": 3 * ONE, "Sequential.0.parametrizations.weight.0": 3 * ONE,
    }  # fmt: skip
    normed = parametrizations.weight_norm(linear())
    assert macs_by_scope(counted(normed, x())) == {"Linear": ONE}


def test_what_a_generator_computes_later_belongs_to_the_modules_that_it_calls() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear()

        def forward(self, x: Tensor) -> Iterator[Tensor]:
            for _ in range(3):
                x = self.linear(x)
                yield x

    model = Steps()

    def run() -> None:
        *_, last = model(x())
        last.sum().backward()

    # It runs when the call of its module is over: its layer is called by itself.
    assert macs_by_scope(counted(run)) == {"Linear": 9 * ONE}

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = Steps()

        def forward(self, x: Tensor) -> Tensor:
            *_, last = self.steps(x)
            out: Tensor = last
            return out

    whole = Whole()
    profile = counted(lambda: whole(x()).sum().backward())
    assert macs_by_scope(profile) == {"Whole.steps.linear": 9 * ONE}


def test_hooks_that_compute_are_counted_where_they_run() -> None:
    model = nn.Sequential(linear(), linear())
    model[0].register_forward_pre_hook(lambda module, args: (args[0] @ args[0],))
    model[0].register_forward_hook(lambda module, args, out: out @ out)
    squared: Any = lambda module, args, grads: (args[0] @ args[0],)  # noqa: E731
    model[1].register_full_backward_hook(squared)
    data = x()
    data.register_hook(lambda gradient: gradient @ gradient)
    profile = counted(lambda: model(data).sum().backward())
    assert macs_by_row(profile) == {
        ("Sequential.0", "forward"): 3 * ONE,
        ("Sequential.0", "backward"): 6 * ONE,
        ("Sequential.1", "forward"): ONE,
        # Its own two, and its hook's.
        ("Sequential.1", "backward"): 3 * ONE,
        # A leaf's gradient comes from no module.
        ("", "backward"): ONE,
    }


# Checkpoints


def test_a_selective_checkpoint_runs_only_what_was_not_kept_again() -> None:
    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        kept = operator is torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    model = nn.Sequential(linear(), nn.Sigmoid(), linear(), nn.Sigmoid())
    contexts = partial(create_selective_checkpoint_contexts, policy)

    def run() -> None:
        checkpoint(model, x(), use_reentrant=False, context_fn=contexts).sum().backward()

    profile = counted(run)
    assert macs_by_row(profile) == {
        ("Sequential.0", "forward"): ONE,
        ("Sequential.0", "backward"): 2 * ONE,
        ("Sequential.2", "forward"): ONE,
        ("Sequential.2", "backward"): 2 * ONE,
    }
    # The sigmoids aren't kept: both run again.
    again = profile.by_phase()["recompute"]
    assert again.transcendentals == 2 * 64


@pytest.mark.parametrize("stops", [True, False])
def test_a_checkpoint_that_stops_early_leaves_the_rest_out(stops: bool) -> None:
    model = nn.Sequential(linear(), nn.Tanh(), linear())

    def run() -> None:
        with set_checkpoint_early_stop(stops):
            checkpoint(model, x(), use_reentrant=False).sum().backward()

    # Nothing needs the last layer's result.
    again = {("Sequential.0", "recompute"): ONE}
    if not stops:
        again["Sequential.2", "recompute"] = ONE
    found = macs_by_row(counted(run))
    assert {row: macs for row, macs in found.items() if row[1] == "recompute"} == again


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_model_checkpointed_in_segments_keeps_its_rows(reentrant: bool) -> None:
    model = nn.Sequential(*[nn.Sequential(linear(), nn.Tanh()) for _ in range(4)])

    def run() -> None:
        checkpoint_sequential(model, 2, x(), use_reentrant=reentrant).sum().backward()

    found = macs_by_row(counted(run))
    # The segments are called one module after the other, past the model: each is a root. The
    # last segment isn't checkpointed.
    recomputed = {scope: macs for (scope, phase), macs in found.items() if phase == "recompute"}
    assert sum(recomputed.values()) == 2 * ONE
    assert sum(macs for (_, phase), macs in found.items() if phase == "backward") == 8 * ONE
    assert len({scope for scope, _ in found}) == 4


# The rest of a training step


def test_scaling_and_clipping_are_neither_backward_nor_optimizer() -> None:
    model = nn.Sequential(linear())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")

    def run() -> None:
        loss = model(x()).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    with FlopCounter(display=False) as counter:
        run()
    phases = {phase: cost.flops for phase, cost in counter.profile.by_phase().items()}
    # SGD: a step of each of 64 weights by a product and a sum.
    assert phases["optimizer"] == 2 * 64
    assert phases["other"] > 64
    assert counter.profile.by_scope(own=True)["Sequential.0"].macs == 3 * ONE
