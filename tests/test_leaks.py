"""After a block nothing of the program is kept alive, and in a long one nothing grows."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter, scope
from flopdispatch.capture import module_calls, notes, tree
from tests.programs import Attention, ConvNet, CustomFunction, Dataclass, state_of_torch


class Watched:
    """Weak references to what a program made, storages of its tensors too."""

    def __init__(self) -> None:
        self.things: list[tuple[str, weakref.ref[Any]]] = []
        self.storages: list[tuple[str, Any]] = []

    def watch(self, name: str, thing: Any) -> Any:
        """Note a thing, and give it back."""
        self.things.append((name, weakref.ref(thing)))
        if isinstance(thing, Tensor):
            self.storages.append((name, StorageWeakRef(thing.untyped_storage())))
        return thing

    def pack(self, tensor: Tensor) -> Tensor:
        """Note the memory of a tensor that a graph node saves."""
        self.storages.append(("saved", StorageWeakRef(tensor.untyped_storage())))
        return tensor.detach()  # an output that saves itself would never be freed

    def alive(self) -> list[str]:
        """What is still there after a collection."""
        gc.collect()
        found = [name for name, ref in self.things if ref() is not None]
        return found + [f"{n}'s memory" for n, ref in self.storages if not ref.expired()]


class Hook:
    """A hook of the user, of every kind; raises when it is told to."""

    def __init__(self, error: str = "") -> None:
        self.error = error

    def __call__(self, *_: Any) -> None:
        if self.error:
            raise ValueError(self.error)


class Parts(nn.Module):
    """A model with most ways to run a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.last = nn.Linear(8, 8), Attention(), Dataclass()
        self.custom, self.norm = CustomFunction(), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.attention, self.first(x), use_reentrant=False)
        with scope("middle"):
            x = self.custom(x)
        x = checkpoint(self.norm, x, use_reentrant=True)
        out: Tensor = self.last(x).hidden
        return out


def training(watched: Watched, failing: str = "") -> None:
    """A training step with hooks everywhere, of which the named one raises."""
    watch = watched.watch
    model = watch("model", Parts())
    for name, module in model.named_modules():
        watch(f"module {name}", module)
    for name, parameter in model.named_parameters():
        watch(name, parameter)
    adam = watch("optimizer", torch.optim.AdamW(model.parameters(), lr=0.1))
    x = watch("input", torch.randn(8, 8, requires_grad=True))

    def hook(name: str) -> Any:
        return watch(f"hook of {name}", Hook(name if name == failing else ""))

    model.attention.register_forward_pre_hook(hook("forward pre"))
    model.last.register_forward_hook(hook("forward"))
    model.norm.register_full_backward_hook(hook("module backward"))
    x.register_hook(hook("tensor"))
    model.first.weight.register_post_accumulate_grad_hook(hook("accumulation"))
    adam.register_step_pre_hook(hook("step"))

    with torch.autograd.graph.saved_tensors_hooks(watched.pack, lambda tensor: tensor):
        out = watch("output", model(x))
    watch("copy", copy.deepcopy(model))(x).sum()
    # A node in Python is an object of its own; it and what it saves live as long as the graph.
    node = out.grad_fn
    while node is not None and not hasattr(node, "saved_tensors"):
        node = node.next_functions[0][0]
    watch("node", node)
    (grad,) = torch.autograd.grad(out.pow(2).sum(), out, create_graph=True, retain_graph=True)
    watch("gradient with a graph", grad)
    out.sum().backward()
    watch("gradient", x.grad)
    adam.step()
    watch("state", adam.state[model.first.weight]["exp_avg"])


def run(program: Callable[[Watched], None], watched: Watched, failing: str) -> None:
    """Run a program that raises if something in it is told to; its traceback ends here."""
    if not failing:
        program(watched)
        return
    with pytest.raises(ValueError, match=f"^{failing}$"):
        program(watched)


HOOKS = ("forward pre", "forward", "module backward", "tensor", "accumulation", "step")


def kept_by_torch(failing: str) -> list[str]:
    """What is alive after a step without a counter.

    A backward that a tensor's hook ends never frees what it had still to do.
    """
    watched = Watched()
    run(lambda w: training(w, failing), watched, failing)
    kept = watched.alive()
    assert kept == [] or failing == "tensor"
    return kept


@pytest.mark.parametrize("failing", ["", *HOOKS])
def test_all_that_a_training_step_made_is_gone_after_it(failing: str) -> None:
    kept, before, watched = kept_by_torch(failing), state_of_torch(), Watched()
    with FlopCounter(display=False) as counter:
        run(lambda w: training(w, failing), watched, failing)
        assert watched.alive() == kept, "inside the block"
    assert counter.profile.by_phase()["forward"].macs > 0
    assert watched.alive() == kept
    assert len(watched.things) > 20
    assert len(watched.storages) > 10
    assert state_of_torch() == before
    assert module_calls._followers == {}


@pytest.mark.parametrize("failing", ["forward", "tensor"])
def test_an_exception_that_ends_the_block_leaves_nothing_alive(failing: str) -> None:
    watched = Watched()
    counter = FlopCounter(display=False)

    def block(watched: Watched) -> None:
        with counter:
            training(watched, failing)

    run(block, watched, failing)
    assert counter.macs > 0
    assert watched.alive() == kept_by_torch(failing)
    assert module_calls._followers == {}


def test_a_model_that_is_deleted_in_its_block_is_freed_and_still_reported() -> None:
    watched = Watched()
    with FlopCounter(display=False) as counter:
        model = watched.watch("model", ConvNet())
        x = torch.ones(2, 3, 4, 4)
        loss = model(x).sum()
        weight = weakref.ref(model.conv.weight)
        del model
        assert watched.alive() == []
        assert weight() is not None, "the graph needs it"
        loss.backward()
        del loss
        assert weight() is None, "without a collection"
        again = ConvNet()
        again(x)
    # 4·3·3·3 products at each of 16 positions of 2 images, and 2·4·2 of the head: the first
    # model's weights have gradients, its input has none, its hidden layer has.
    conv, head = 2 * 16 * 4 * 27, 2 * 4 * 2
    by_scope = counter.profile.by_scope()
    assert by_scope["ConvNet"].macs == 2 * conv + 3 * head
    assert by_scope["ConvNet#2"].macs == conv + head


def test_a_counter_that_is_gone_leaves_nothing_of_its_own() -> None:
    def block() -> list[weakref.ref[Any]]:
        with FlopCounter(display=False) as counter:
            ConvNet()(torch.ones(2, 3, 4, 4)).sum().backward()
        assert counter.macs > 0
        parts = counter, counter._tracker, counter._mode, counter._tracker.tree.block
        return [weakref.ref(part) for part in parts[:3]]

    refs = block()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


# A long block

STEPS, FIRST, NOTES = 3_000, 300, 1 << 10


class Small(nn.Module):
    """Few operators of many kinds: a step takes a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = (
            nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh()),
            nn.Linear(4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.inner, x, use_reentrant=False, preserve_rng_state=False)
        with scope("end"):
            out: Tensor = self.head(x)
        return out


def held(counter: FlopCounter) -> dict[str, int]:
    """How much each part of a counter holds: all containers in it, and those in them.

    Leaves out the notes for the backward, which have a limit of their own.
    """
    tracker = counter._tracker
    found: dict[str, int] = {}
    for part in (counter._recording, tracker, tracker.tree, *tracker.tree.scopes.values()):
        names = getattr(type(part), "__slots__", None) or vars(part)
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, dict | list | set | tuple) and name not in ("starts", "owners"):
                inner = value.values() if isinstance(value, dict) else value
                sizes = [len(item) for item in inner if isinstance(item, dict | list | set)]
                place = f"{type(part).__name__}.{name}"
                found[place] = found.get(place, 0) + len(value) + sum(sizes)
    return found


def test_a_long_block_holds_no_more_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_NOTES", NOTES)
    torch.manual_seed(0)
    model = Small()
    stepper = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.9999)
    data = torch.randn(16, 4, requires_grad=True)
    most_notes, early, late = 0, {}, {}
    with FlopCounter(display=False) as counter:
        tracker = counter._tracker
        for step in range(STEPS):
            stepper.zero_grad()
            loss = model(data[step % 8 : step % 8 + 2]).mean() * (1.01 + step / 10_000)
            loss.backward()
            stepper.step()
            schedule.step()
            del loss
            assert len(tracker.notes.starts) == len(tracker.notes.owners)
            most_notes = max(most_notes, len(tracker.notes.starts))
            if step == FIRST:
                early = held(counter)
            if step == STEPS - 1:
                late = held(counter)
    assert late == early
    assert {"Recording.calls", "Recording.buckets", "ModuleTree.scopes"} <= early.keys()
    assert NOTES // 2 < most_notes <= NOTES, "the limit is met"
    profile = counter.profile
    # Forward: 2·4·4 and 2·4; again: the first; backward: the weights', and both inputs'.
    assert profile.macs == STEPS * (3 * 32 + 3 * 8 + 32)
    assert profile.assumptions == ()
    assert {m.scope: m.calls for m in profile.modules}["Small.inner"] == 2 * STEPS


class Throwaway(nn.Module):
    """Makes its activation anew in each call, as many models do."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.ReLU()(x)
        return out


def test_modules_that_are_made_in_each_forward_are_forgotten() -> None:
    model, x, others = Throwaway(), torch.ones(2), []
    with FlopCounter(display=False) as counter:
        for _ in range(1_000):
            model(x)
            others.append(nn.ReLU())  # takes the place of the one that is gone
        places = len(counter._tracker.tree.scopes)
        assert places < 10
        assert held(counter)["Scope.children"] <= 2 * (tree.MAX_STRAY + 2 * places)
