"""Module trees at random: each leaf costs in each phase what it costs alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from flopdispatch import Cost, FlopCounter, Profile
from flopdispatch.profile import walk
from tests.programs import Output

Macs = Counter[tuple[str, str]]  # by scope and phase


# The modules


def plain(output: Any) -> Tensor:
    """The tensor of an output, out of its dataclass if it is in one."""
    tensor: Tensor = output.hidden if isinstance(output, Output) else output
    return tensor


class Chain(nn.Module):
    """One after the other, the modules in a list."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, input: Tensor) -> Tensor:
        for part in self.parts:
            input = plain(part(input))
        return input


class Branches(nn.Module):
    """The sum of what the modules in a dict make of one input."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({f"branch {i}": part for i, part in enumerate(parts)})

    def forward(self, input: Tensor) -> Tensor:
        return torch.stack([plain(part(input)) for part in self.parts.values()]).sum(0)


class Repeats(nn.Module):
    """One module several times in a forward."""

    def __init__(self, inner: nn.Module, times: int) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, input: Tensor) -> Tensor:
        for _ in range(self.times):
            input = plain(self.inner(input))
        return input


class Recurses(nn.Module):
    """Calls itself, as deep as it is told."""

    def __init__(self, inner: nn.Module, times: int) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, input: Tensor, depth: int | None = None) -> Tensor:
        depth = self.times if depth is None else depth
        out = plain(self.inner(input))
        return out if depth == 1 else plain(self(out, depth=depth - 1))


class Keywords(nn.Module):
    """Calls the module inside with keywords only."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *, input: Tensor) -> Any:
        return self.inner(input=input)


class Boxes(nn.Module):
    """Hands its result over in a dataclass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input: Tensor) -> Output:
        return Output(plain(self.inner(input=input)))


class Checkpoints(nn.Module):
    """Runs the module inside again in the backward."""

    def __init__(self, inner: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.run, input, use_reentrant=self.reentrant)
        return out

    def run(self, input: Tensor) -> Tensor:
        return plain(self.inner(input=input))


# What is drawn: a tree in plain values, of which one part may stand in several places


@dataclass(eq=False)
class Part:
    """One module, to be made once however often it is met."""

    kind: str
    sizes: tuple[int, int]
    inside: list[Part] = field(default_factory=list)
    times: int = 1
    trained: bool = True
    made: nn.Module | None = None

    def module(self) -> nn.Module:
        """The module itself."""
        if self.made is None:
            inside = [part.module() for part in self.inside]
            self.made = MAKERS[self.kind](self, inside)
        return self.made

    def name(self, number: int) -> str:
        """The name that this part's module has for the module of one inside: its first."""
        first = min(i for i, part in enumerate(self.inside) if part is self.inside[number])
        return NAMES[self.kind].format(first)

    def __repr__(self) -> str:
        details = {"linear": self.trained, "repeats": self.times, "recurses": self.times}
        return f"{self.kind}{id(self) % 1000}{self.sizes}{details.get(self.kind, '')}{self.inside}"


def linear(part: Part) -> nn.Module:
    """A linear layer without bias."""
    made = nn.Linear(*part.sizes, bias=False)
    return made.requires_grad_(part.trained)


MAKERS: dict[str, Callable[[Part, list[nn.Module]], nn.Module]] = {
    "linear": lambda part, _: linear(part),
    "tanh": lambda *_: nn.Tanh(),
    "sequential": lambda _, inside: nn.Sequential(*inside),
    "chain": lambda _, inside: Chain(inside),
    "branches": lambda _, inside: Branches(inside),
    "repeats": lambda part, inside: Repeats(inside[0], part.times),
    "recurses": lambda part, inside: Recurses(inside[0], part.times),
    "keywords": lambda _, inside: Keywords(inside[0]),
    "boxes": lambda _, inside: Boxes(inside[0]),
    "checkpoints": lambda _, inside: Checkpoints(inside[0], reentrant=False),
    "reentrant": lambda _, inside: Checkpoints(inside[0], reentrant=True),
}
NAMES = dict.fromkeys(MAKERS, "inner") | {
    "sequential": "{}", "chain": "parts.{}", "branches": "parts.branch {}",
}  # fmt: skip


def takes_positions(part: Part) -> bool:
    """Whether a part can be called with its input by position."""
    return part.kind != "keywords"


def gives_tensors(part: Part) -> bool:
    """Whether a part's result is a tensor as it is."""
    if part.kind == "keywords":
        return gives_tensors(part.inside[0])
    return part.kind != "boxes"


@st.composite
def parts(draw: st.DrawFn, sizes: tuple[int, int], depth: int, pool: list[Part]) -> Part:
    """A part that takes rows of one size to rows of another; one drawn before, now and then."""
    known = [part for part in pool if part.sizes == sizes]
    if known and draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(known))
    square = sizes[0] == sizes[1]
    kinds = ["linear"] + ["tanh"] * square
    if depth:
        kinds = ["sequential", "chain", "branches"] * 2 + ["keywords", "boxes", "linear"]
        kinds += ["checkpoints", "reentrant"] + ["repeats", "recurses", "tanh"] * square
    part = Part(draw(st.sampled_from(kinds)), sizes)
    below = parts(sizes, depth - 1, pool) if depth else st.nothing()
    if part.kind == "linear":
        part.trained = draw(st.booleans())
    elif part.kind in ("sequential", "chain"):
        between = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        steps = list(zip([sizes[0], *between], [*between, sizes[1]]))
        part.inside = [draw(parts(step, depth - 1, pool)) for step in steps]
    elif part.kind == "branches":
        part.inside = [draw(below) for _ in range(draw(st.integers(2, 3)))]
    elif part.kind != "tanh":
        part.inside = [draw(below)]
        part.times = draw(st.integers(1, 3)) if part.kind in ("repeats", "recurses") else 1
    if part.kind == "sequential" and not all(map(gives_tensors, part.inside)):
        part.kind = "chain"
    part.inside = [fitting(part, inner) for inner in part.inside]
    pool.append(part)
    return part


def fitting(part: Part, inner: Part) -> Part:
    """The part inside, in another if it can't be called as this one calls."""
    if takes_positions(inner) or part.kind in ("keywords", "boxes", "checkpoints", "reentrant"):
        return inner
    return Part("boxes" if part.kind != "sequential" else "checkpoints", inner.sizes, [inner])


# The reference: which leaf runs when, and what it costs alone


@dataclass
class Frame:
    """One run of what a checkpoint runs: its leaves, and up to where they are run again."""

    ran: list[tuple[str, int]] = field(default_factory=list)
    enough: int = 0  # how many of them had run when the last tensor was saved
    needed: bool = False  # whether the backward asks for any of these tensors

    def save(self, needed: bool = True) -> None:
        """A tensor is saved for the backward."""
        self.enough = len(self.ran)
        self.needed |= needed


@dataclass
class Run:
    """How a part is run: under which phase, in which checkpoints, with a graph or without."""

    phase: str
    grad: bool
    frames: tuple[Frame, ...] = ()

    def save(self, needed: bool = True) -> None:
        """A tensor is saved; only the innermost checkpoint sees it."""
        if self.frames:
            self.frames[-1].save(needed)


class Reference:
    """MACs by scope and phase, each leaf's as if it ran alone on so many rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.macs: Macs = Counter()
        self.backward: list[Callable[[], None]] = []  # what the backward will do

    def run(self, part: Part, scope: str, needs: bool, how: Run) -> bool:
        """Run a part on an input that needs a gradient or doesn't; whether its result does."""
        if part.kind == "linear":
            return self.linear(part, scope, needs, how)
        if part.kind == "tanh":
            if how.grad and needs:
                how.save()
            return how.grad and needs
        below = [f"{scope}.{part.name(i)}" for i in range(len(part.inside))]
        if part.kind == "branches":
            found = [self.run(p, at, needs, how) for p, at in zip(part.inside, below)]
            return any(found)
        if part.kind in ("checkpoints", "reentrant") and how.grad:
            again = self.reentrant if part.kind == "reentrant" else self.checkpoint
            return again(part.inside[0], below[0], needs, how)
        for _ in range(part.times):
            for inner, at in zip(part.inside, below):
                needs = self.run(inner, at, needs, how)
        return needs

    def linear(self, part: Part, scope: str, needs: bool, how: Run) -> bool:
        """n·i·o MACs, and as many for each factor that needs a gradient."""
        once = self.rows * part.sizes[0] * part.sizes[1]
        gradients = (needs + part.trained) if how.grad else 0
        if gradients:
            how.save()  # the other factor, before it runs

            def back() -> None:
                self.macs[scope, "backward"] += gradients * once

            self.backward.append(back)
        self.macs[scope, how.phase] += once
        for frame in how.frames:
            frame.ran.append((scope, once))
        return gradients > 0

    def reentrant(self, inner: Part, scope: str, needs: bool, how: Run) -> bool:
        """Runs without a graph; whole again in the backward, with one."""
        self.run(inner, scope, needs, Run(how.phase, False, how.frames))
        if not needs:
            return False
        how.save()  # the input, when it has run

        def back() -> None:
            made, self.backward = self.backward, []
            self.run(inner, scope, True, Run("recompute", True))
            self.play()
            self.backward = made

        self.backward.append(back)
        return True

    def checkpoint(self, inner: Part, scope: str, needs: bool, how: Run) -> bool:
        """Runs with a graph; again up to where its last tensor was saved."""
        frame = Frame()
        outer = len(how.frames[-1].ran) if how.frames else 0
        out = self.run(inner, scope, needs, Run(how.phase, True, (*how.frames, frame)))
        if how.frames:  # the input, before it runs
            how.frames[-1].enough = max(how.frames[-1].enough, outer)
            how.frames[-1].needed |= frame.needed

        def back() -> None:
            if frame.needed:
                for at, once in frame.ran[: frame.enough]:
                    self.macs[at, "recompute"] += once

        self.backward.append(back)
        return out

    def play(self) -> None:
        """Do what the backward does."""
        while self.backward:
            self.backward.pop()()


# The laws


def macs_by_place(profile: Profile) -> Macs:
    """MACs by scope and phase, of those that have some."""
    found: Macs = Counter()
    for row in profile.rows:
        found[row.scope, row.phase] += row.times * profile.prices[row.call].cost.macs
    return Counter({place: macs for place, macs in found.items() if macs})


def check_sums(profile: Profile) -> None:
    """Every node is its own cost and its children's, and each way to add up gives the total."""
    nodes = list(walk(profile.root))
    own = {node.path: node.own for node in nodes}
    assert len(own) == len(nodes), "each path once"
    for node in nodes:
        assert node.total == sum((child.total for child in node.children), node.own)
        inside = [p for p in own if not node.path or f"{p}.".startswith(f"{node.path}.")]
        assert node.total == sum((own[path] for path in inside), Cost())
    assert profile.root.total == profile.total == sum(profile.by_op().values(), Cost())
    assert profile.total == sum(profile.by_phase().values(), Cost())


class Root(nn.Module):
    """The model: runs the tree inside so many times, and adds up."""

    def __init__(self, body: nn.Module, times: int) -> None:
        super().__init__()
        self.body, self.times = body, times

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([plain(self.body(input=x)) for _ in range(self.times)]).sum()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_each_leaf_costs_in_each_phase_what_it_costs_alone(
    data: st.DataObject, size: int, to: int, rows: int, needs: bool
) -> None:
    body = data.draw(parts((size, to), 4, []))
    times = data.draw(st.integers(1, 2))
    model = Root(body.module(), times)
    x = torch.randn(rows, size, requires_grad=needs)
    with warnings.catch_warnings(), FlopCounter(display=False) as counter:
        loss = model(x)
        if loss.requires_grad:
            loss.backward()

    reference = Reference(rows)
    found = [reference.run(body, "Root.body", needs, Run("forward", True)) for _ in range(times)]
    reference.play()
    assert loss.requires_grad == any(found)
    assert macs_by_place(counter.profile) == reference.macs
    check_sums(counter.profile)
    assert counter.profile.assumptions == ()
    event("recomputes" if any(p == "recompute" for _, p in reference.macs) else "does not")


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("needs", [False, True])
def test_a_leaf_alone_costs_what_torchs_counter_says(trained: bool, needs: bool) -> None:
    leaf = linear(Part("linear", (3, 5), trained=trained))
    x = torch.randn(2, 3, requires_grad=needs)
    with FlopCounterMode(display=False) as forward:
        out = leaf(x)
    reference = Reference(2)
    made = reference.run(
        Part("linear", (3, 5), trained=trained), "leaf", needs, Run("forward", True)
    )
    assert reference.macs == {("leaf", "forward"): forward.get_total_flops() // 2}
    assert made == out.requires_grad
    if made:
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
        reference.play()
        assert reference.macs["leaf", "backward"] == backward.get_total_flops() // 2
