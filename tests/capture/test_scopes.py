"""Each operator, forward and backward, is counted in the module that it belongs to."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter, Profile
from flopdispatch.capture import notes, scopes
from flopdispatch.capture.module_calls import _followers
from flopdispatch.profile import walk
from tests.programs import (
    Attention,
    CrossAttention,
    CustomFunction,
    Dataclass,
    Failing,
    Keywords,
    Lora,
    Parents,
    Recursive,
    counted,
    macs_by_scope,
)

# A linear layer without bias, 8 to 8, on 8 rows: 8·8·8 MACs. Trained on an input that needs
# a gradient: the forward, the weight's gradient and the input's, 512 each.
ONE = 512


def x(grad: bool = True) -> Tensor:
    return torch.randn(8, 8, requires_grad=grad)


def trained(module: nn.Module, *args: Any, **kwargs: Any) -> Profile:
    """Forward and backward of a module."""

    def run() -> None:
        out = module(*args, **kwargs)
        getattr(out, "hidden", out).sum().backward()

    return counted(run)


# (why, module, positional arguments, keyword arguments, own MACs by scope)
CASES: list[tuple[str, nn.Module, tuple[Tensor, ...], dict[str, Tensor], dict[str, int]]] = [
    (
        "q, k and v share an input: 1,536 each",
        Attention(),
        (x(),),
        {},
        {"Attention.q": 3 * ONE, "Attention.k": 3 * ONE, "Attention.v": 3 * ONE},
    ),
    (
        "keys that need no gradient have no input gradient",
        CrossAttention(),
        (x(), x(grad=False)),
        {},
        {"CrossAttention.q": 3 * ONE, "CrossAttention.k": 2 * ONE},
    ),
    (
        "keyword-only calls",
        Keywords(),
        (),
        {"hidden": x()},
        {"Keywords.linear": 3 * ONE},
    ),
    ("a dataclass output", Dataclass(), (x(),), {}, {"Dataclass.linear": 3 * ONE}),
    (
        "LoRA: 8·8·2 MACs down and up, three times",
        Lora(),
        (x(),),
        {},
        {"Lora.base": 3 * ONE, "Lora.down": 3 * 128, "Lora.up": 3 * 128},
    ),
    ("a module that calls itself", Recursive(), (x(),), {}, {"Recursive.linear": 9 * ONE}),
    (
        "a child of two parents counts where it was called",
        Parents(),
        (x(),),
        {},
        {"Parents.left.0": 3 * ONE, "Parents.right.0": 3 * ONE},
    ),
    (
        "a custom function belongs to the module that applied it",
        CustomFunction(),
        (x(),),
        {},
        {
            "CustomFunction": 3 * ONE,
            "CustomFunction.first": 3 * ONE,
            "CustomFunction.last": 3 * ONE,
        },
    ),
]


@pytest.mark.parametrize(("why", "module", "args", "kwargs", "expected"), CASES)
def test_forward_and_backward_belong_to_the_same_module(
    why: str, module: nn.Module, args: Any, kwargs: Any, expected: dict[str, int]
) -> None:
    profile = trained(module, *args, **kwargs)
    assert macs_by_scope(profile) == expected, why
    root = type(module).__name__
    assert profile.by_scope()[root].macs == sum(expected.values()), "a parent is its children's sum"
    assert profile.uncounted == {}


def test_a_layer_used_three_times_is_one_module_called_three_times() -> None:
    layer = nn.Linear(8, 8, bias=False)
    profile = trained(nn.Sequential(layer, layer, layer), x())
    assert macs_by_scope(profile) == {"Sequential.0": 9 * ONE}
    assert profile.params == 64
    (node,) = (child for child in profile.root.children[0].children if child.calls)
    assert (node.name, node.calls) == ("0", 3)


def aliases(profile: Profile) -> dict[str, tuple[str, ...]]:
    return {node.path: node.aliases for node in walk(profile.root) if node.aliases}


def test_a_module_with_several_paths_has_a_row_for_each_that_it_is_called_by() -> None:
    profile = counted(Parents(), x())
    assert aliases(profile) == {
        "Parents.left.0": ("Parents.right.0",), "Parents.right.0": ("Parents.left.0",),
    }  # fmt: skip
    # The second is where its parent has it, before the ReLU.
    right = profile.root.children[0].children[1]
    assert [child.name for child in right.children] == ["0", "1"]
    assert Profile.from_json(profile.to_json()) == profile

    layer = nn.Linear(8, 8, bias=False)
    profile = counted(nn.Sequential(layer, layer, layer), x())
    assert aliases(profile) == {"Sequential.0": ("Sequential.1", "Sequential.2")}


def test_below_an_alias_there_are_no_others() -> None:
    inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    outer = nn.ModuleDict({"one": nn.Sequential(inner), "two": nn.Sequential(inner)})

    def run() -> None:
        for module in (outer["one"], outer["two"], inner):
            module(x())

    # Each is a root of its own, and has all of `inner` below it.
    assert aliases(counted(run)) == {
        "Sequential.0": ("Sequential#2.0", "Sequential#3"),
        "Sequential#2.0": ("Sequential.0", "Sequential#3"),
        "Sequential#3": ("Sequential.0", "Sequential#2.0"),
    }


def test_layers_that_share_parameters_alone_are_no_aliases() -> None:
    one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    other.weight = one.weight
    assert aliases(counted(nn.Sequential(one, other), x())) == {}


def test_two_models_of_a_class_get_two_names() -> None:
    one, other = Keywords(), Keywords()

    def run() -> None:
        for model in (one, other, other):
            model(hidden=x()).sum().backward()

    profile = counted(run)
    assert macs_by_scope(profile) == {"Keywords.linear": 3 * ONE, "Keywords#2.linear": 6 * ONE}
    assert [child.name for child in profile.root.children] == ["Keywords", "Keywords#2"]
    assert profile.params == 128


def test_a_backward_alone_in_the_block_belongs_to_the_block() -> None:
    loss = Attention()(x()).sum()
    profile = counted(loss.backward)
    assert macs_by_scope(profile) == {"": 6 * ONE}
    assert {phase for phase, cost in profile.by_phase().items() if cost.macs} == {"backward"}


def test_totals_are_the_sum_of_rows_scopes_and_phases() -> None:
    profile = trained(Lora(), x())
    total = profile.total
    assert sum(profile.by_scope(own=True).values()) == total
    assert sum(profile.by_phase().values()) == total
    assert sum(profile.by_op().values()) == total
    assert sum(profile.by_family().values()) == total
    assert sum(profile.by_dtype().values()) == total
    assert profile.root.total == total
    assert profile.by_phase()["forward"].macs == ONE + 2 * 128
    assert profile.by_phase()["backward"].macs == 2 * (ONE + 2 * 128)


# Containers


class Containers(nn.Module):
    """Children in a list, in a dict, and in a plain Python list."""

    def __init__(self) -> None:
        super().__init__()
        self.many = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(2))
        self.named = nn.ModuleDict({"a b": nn.Linear(8, 8, bias=False)})
        self.hidden = [nn.Linear(8, 8, bias=False)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.many, *self.named.values(), *self.hidden):
            x = layer(x)
        return x


def test_modules_in_containers_and_outside_of_the_tree_are_found() -> None:
    profile = trained(Containers(), x())
    assert macs_by_scope(profile) == {
        "Containers.many.0": 3 * ONE,
        "Containers.many.1": 3 * ONE,
        "Containers.named.a b": 3 * ONE,
        "Containers.Linear": 3 * ONE,
    }
    assert profile.params == 4 * 64, "an unregistered child's parameters count too"


def test_a_module_that_is_replaced_while_counting_is_found() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))

    def run() -> None:
        model(x(grad=False))
        model[0] = nn.Linear(8, 4, bias=False)
        model.append(nn.Linear(4, 8, bias=False))
        model(x(grad=False))

    assert macs_by_scope(counted(run)) == {"Sequential.0": ONE + ONE // 2, "Sequential.1": ONE // 2}


class Throwaway(nn.Module):
    """Makes its activation anew in each call, as many models do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.ReLU()(nn.ReLU()(self.linear(x)))
        return y


def test_modules_made_in_a_forward_go_by_one_name_however_often_they_are_made() -> None:
    model = Throwaway()

    def run() -> None:
        for _ in range(5):
            model(x(grad=False))

    profile = counted(run)
    modules = {m.scope: (m.module_type, m.calls) for m in profile.modules if m.scope}
    assert modules == {
        "Throwaway": ("Throwaway", 5),
        "Throwaway.linear": ("Linear", 5),
        "Throwaway.ReLU": ("ReLU", 10),
    }
    assert profile.by_scope()["Throwaway.ReLU"].comparisons == 10 * 8 * 8


def test_modules_with_parameters_made_in_a_forward_keep_a_name_each() -> None:
    class Parametric(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = nn.PReLU(8)(nn.PReLU()(x))
            return y

    model = Parametric()
    profile = counted(lambda: model(x(grad=False)))
    assert {m.scope for m in profile.modules if m.scope} == {
        "Parametric", "Parametric.PReLU", "Parametric.PReLU#2"
    }  # fmt: skip


def test_parameters_of_models_that_are_gone_still_count() -> None:
    def run() -> None:
        for features in (3, 5, 7):
            nn.Linear(features, 2, bias=False)(torch.ones(1, features))

    assert counted(run).params == 6 + 10 + 14


# Recomputation


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_is_recomputation_in_the_same_module(reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Sequential(Attention(), nn.Tanh()))

    def run() -> None:
        hidden = model[0](x())
        out = checkpoint(model[1], hidden, use_reentrant=reentrant)
        out.sum().backward()

    profile = counted(run)
    assert {name: cost.macs for name, cost in profile.by_phase().items()} == {
        "forward": 4 * ONE,
        "recompute": 3 * ONE,
        "backward": 8 * ONE,
        "other": 0,  # the sum
    }
    assert macs_by_scope(profile) == {
        "Linear": 3 * ONE,
        "Sequential.0.q": 4 * ONE,
        "Sequential.0.k": 4 * ONE,
        "Sequential.0.v": 4 * ONE,
    }


class Checkpointed(nn.Module):
    """Checkpoints a child, and a function of its own that calls another."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.child, self.called = Attention(), nn.Linear(8, 8, bias=False)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.child, x, use_reentrant=self.reentrant)
        out: Tensor = checkpoint(self.twice, x, use_reentrant=self.reentrant)
        return out

    def twice(self, x: Tensor) -> Tensor:
        out: Tensor = self.called(self.called(x))
        return out


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_inside_a_model_keeps_its_modules_apart(reentrant: bool) -> None:
    profile = trained(Checkpointed(reentrant), x())
    # The newer checkpoint stops early: it needs no product whose result nobody saved.
    stopped = 0 if reentrant else ONE
    assert macs_by_scope(profile) == {
        "Checkpointed.child.q": 4 * ONE,
        "Checkpointed.child.k": 4 * ONE,
        "Checkpointed.child.v": 4 * ONE - stopped,
        "Checkpointed.called": 8 * ONE - stopped,
    }
    assert profile.by_phase()["recompute"].macs == 5 * ONE - 2 * stopped


# Optimizers


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS])
def test_a_step_is_the_optimizer_phase_and_its_closure_is_not(optimizer: Any) -> None:
    model = Keywords()
    stepper = optimizer(model.parameters(), lr=0.1)

    def closure() -> Tensor:
        stepper.zero_grad()
        loss = model(hidden=x(grad=False)).sum()
        loss.backward()
        out: Tensor = loss
        return out

    profile = counted(stepper.step, closure)
    phases = profile.by_phase()
    evaluations = phases["forward"].macs // ONE
    assert evaluations >= 1
    assert phases["forward"].macs == phases["backward"].macs == evaluations * ONE
    assert phases["optimizer"].flops > 0
    assert macs_by_scope(profile)["Keywords.linear"] == 2 * evaluations * ONE


class Extended(torch.optim.SGD):
    """Multiplies matrices after the step of its base class."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        torch.ones(8, 8) @ torch.ones(8, 8)


def test_a_step_lasts_until_the_outermost_step_ends() -> None:
    profile = counted(Extended(Keywords().parameters(), lr=0.1).step)
    assert profile.by_phase()["optimizer"].macs == ONE


def test_after_a_step_that_raises_the_forward_goes_on() -> None:
    model = Keywords()
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)

    def fail() -> Tensor:
        raise ValueError("no loss")

    def run() -> None:
        with pytest.raises(ValueError, match="no loss"):
            stepper.step(fail)
        x(grad=False) @ x(grad=False)
        model(hidden=x(grad=False))

    profile = counted(run)
    by_phase = {name: cost.macs for name, cost in profile.by_phase().items()}
    assert by_phase == {"forward": ONE, "other": ONE}


# Exceptions, threads, long runs


def test_after_an_exception_calls_belong_where_they_did_before() -> None:
    failing, fine = Failing(ValueError("boom")), nn.Linear(8, 8, bias=False)
    model = nn.Sequential(failing)

    def run() -> None:
        with pytest.raises(ValueError, match="boom"):
            model(x())
        fine(x(grad=False)).sum().backward()
        x(grad=False) @ x(grad=False)

    assert macs_by_scope(counted(run)) == {"": ONE, "Sequential.0.linear": ONE, "Linear": 2 * ONE}


def test_a_second_thread_is_not_counted_under_the_first_ones_module() -> None:
    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: Attention()(x).sum().backward())
            thread.start()
            thread.join()
            return x @ x

    profile = counted(Waits(), x(grad=False))
    assert macs_by_scope(profile) == {"Waits": ONE}
    assert {node.name for node in profile.root.children} == {"Waits"}


def test_notes_do_not_grow_without_end_and_a_lost_one_is_owned_up_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notes, "MAX_NOTES", 16)
    layer = nn.Linear(8, 8, bias=False)
    with FlopCounter(display=False) as counter:
        old = layer(x()).sum()
        for _ in range(100):
            layer(x()).sum().backward()
            assert len(counter._tracker.notes.starts) == len(counter._tracker.notes.owners) <= 16
        old.backward()
    profile = counter.profile
    assert macs_by_scope(profile) == {"Linear": 301 * ONE, "": 2 * ONE}
    assert tuple(map(str, profile.assumptions)) == (
        "the backward of a graph made before the last 8 module calls is counted in the block, "
        "not in its modules",
    )


def test_higher_derivatives_are_counted_and_a_second_backward_too() -> None:
    layer, data = nn.Linear(8, 8, bias=False), x()

    def run() -> None:
        (grad,) = torch.autograd.grad(layer(data).pow(2).sum(), data, create_graph=True)
        grad.sum().backward()

    def twice() -> None:
        loss = layer(data).sum()
        loss.backward(retain_graph=True)
        loss.backward()

    # y = xW' and dx = 2yW are two products of two factors that all need a gradient: 2 + 4.
    assert counted(run).macs == 6 * ONE
    assert macs_by_scope(counted(twice)) == {"Linear": 5 * ONE}


def test_thousands_of_models_of_a_class_are_told_apart_in_time_that_grows_with_them() -> None:
    """Each looks at its own name alone: the names that are tried are counted."""
    layers = [nn.Linear(2, 2, bias=False) for _ in range(500)]
    data = torch.ones(1, 2)
    with FlopCounter(display=False) as counter:
        tracker = next(iter(_followers.values()))[0]
        assert isinstance(tracker, scopes.ScopeTracker)
        tried = Tried(tracker.tree.scopes)
        tracker.tree.scopes = tried
        for _ in range(2):
            for layer in layers:
                layer(data)
    assert {m.calls for m in counter.profile.modules if m.scope} == {2}
    assert macs_by_scope(counter.profile)["Linear#500"] == 8
    assert tried.asked < 10 * len(layers)


class Tried(dict[str, Any]):
    """Counts how often it is asked whether it has a name."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)
