"""Scopes: which module an operator belongs to, in the forward and in the backward.

Forward: a stack of running modules, kept by global module hooks. Backward: every node that
autograd makes in a thread gets the next sequence number, so whenever the stack changes, the
tracker notes from which number on nodes belong to the present scope; a bisection over the
notes finds the scope of the node that a backward operator runs for. No tensor is hooked.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from bisect import bisect_right
from collections import deque
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.weak import WeakIdKeyDictionary

from flopdispatch.capture.private import (
    compiled_frames,
    current_graph_task,
    current_node,
    hidden_from_compiler,
    is_traced,
    next_sequence_number,
    sequence_number,
)
from flopdispatch.capture.recording import (
    BACKWARD,
    FORWARD,
    OPTIMIZER,
    RECOMPUTE,
    Bucket,
    ModuleRecord,
    Recording,
)

# Notes kept for the backward. Graphs older than this many module calls and returns are
# forgotten, so that a long run needs no more memory than a short one.
MAX_NOTES = 1 << 18

# Nodes that no forward made (AccumulateGrad) carry the largest number there is.
NO_FORWARD = 1 << 62


class Scope:
    """One place in a module tree: a path, and the module found there (not kept alive)."""

    __slots__ = (
        "bare", "buckets", "calls", "children", "index", "module", "module_type", "name", "names",
        "params", "parent", "rank", "recording",
    )  # fmt: skip

    def __init__(self, name: str, parent: Scope | None, recording: Recording) -> None:
        self.name = name
        self.parent = parent
        self.recording = recording
        self.buckets: dict[str, Bucket] = {}
        self.module: Any = _no_module
        self.module_type = ""
        self.params: tuple[tuple[int, int], ...] = ()
        self.rank: int | None = None  # its place in a report, known once it is described
        self.calls = 0
        self.children: dict[int, tuple[Any, Scope]] = {}
        self.names: dict[int, str] | None = None  # of the module's own children, by id
        self.index: dict[int, str] | None = None  # of all below it, by id
        self.bare = False  # whether the module has nothing of its own: no parameter, no child

    def bucket(self, phase: str) -> Bucket:
        """Where calls of this scope are counted."""
        found = self.buckets.get(phase)
        if found is None:
            found = self.buckets[phase] = self.recording.bucket(self.name, phase)
        return found

    def path_to(self, module: nn.Module) -> str | None:
        """The shortest path from this scope's module to one below it."""
        own = self.module()
        if own is None:
            return None
        if self.names is None:
            names = reversed(own._modules.items())  # a module's first name stays
            self.names = {id(child): str(name) for name, child in names}
        name = self.names.get(id(module))
        if name is not None and own._modules.get(name) is module:
            return name
        for fresh in (False, True):  # the tree may have changed since it was indexed
            if self.index is None or fresh:
                self.index = _paths(own)
            path = self.index.get(id(module))
            if path is not None and _at(own, path) is module:
                return path
        return None

    def fits(self, module: nn.Module) -> bool:
        """Whether a module found in no tree may go by this scope's name.

        It does if it is the same one, and if it takes the place of one that is gone and both
        are bare: `nn.ReLU()(x)` in a forward makes a module a call, all of them alike.
        """
        own = self.module()
        return own is module or (own is None and self.bare and _is_bare(module))


def _is_bare(module: nn.Module) -> bool:
    return not (module._parameters or module._buffers or module._modules)


def _no_module() -> None:
    return None


def _paths(root: nn.Module) -> dict[int, str]:
    """The shortest path to each module below `root`, by id."""
    found: dict[int, str] = {id(root): ""}
    queue: deque[tuple[str, nn.Module]] = deque([("", root)])
    while queue:
        path, module = queue.popleft()
        for name, child in module._modules.items():
            if child is not None and id(child) not in found:
                found[id(child)] = f"{path}.{name}" if path else name
                queue.append((found[id(child)], child))
    return found


def _at(root: nn.Module, path: str) -> nn.Module | None:
    module: nn.Module | None = root
    for name in path.split("."):
        module = module._modules.get(name) if module is not None else None
    return module


class ScopeTracker:
    """Follows the running modules of one thread while entered.

    `bucket` is where an operator outside of a backward is counted now.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.block = Scope("", None, recording)
        self.scopes: dict[str, Scope] = {"": self.block}
        self.current = self.block
        self.bucket = self.block.bucket(FORWARD)
        self.phase = FORWARD
        self.stack: list[tuple[int, Scope, Bucket, str]] = []
        self.marks = 0  # how many record_functions are running
        self.steps: list[tuple[int, int]] = []  # running steps: marks and height of the stack
        self.starts: list[int] = []
        self.owners: list[Scope] = []
        self.forgotten = False
        self.last: tuple[int | None, Bucket] = (None, self.bucket)
        self.thread = threading.get_ident()
        self.handles: list[Any] = []
        self.compiled = -1
        self.identities: Any = WeakIdKeyDictionary()  # a number for each parameter
        self.numbers = itertools.count()  # one that is gone never gives its number to another
        self.tops: list[Scope] = []  # modules reached from no other, still to be described
        self.ranks = 0

    def __enter__(self) -> ScopeTracker:
        self.thread = threading.get_ident()
        self.note()
        self.compiled = compiled_frames(0)
        self.handles = [
            register_module_forward_pre_hook(self.before_forward),
            register_module_forward_hook(self.after_forward, always_call=True),
            register_optimizer_step_pre_hook(self.before_step),
            register_optimizer_step_post_hook(self.after_step),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []
        compiled_frames(self.compiled)
        self.describe()

    # The forward

    @hidden_from_compiler
    def before_forward(self, module: nn.Module, inputs: Any) -> None:
        """A module begins: its scope is the present one."""
        if threading.get_ident() != self.thread:
            return
        current, phase = self.current, self.phase
        self.stack.append((id(module), current, self.bucket, phase))
        if current_graph_task() >= 0:
            if phase != RECOMPUTE:  # a forward called by the backward itself: checkpointing
                current, phase = self.owner_of_node(), RECOMPUTE
        elif phase == OPTIMIZER:  # a closure
            phase = FORWARD
        known = current.children.get(id(module))
        scope = known[1] if known is not None and known[0]() is module else None
        if scope is None:
            scope = self.locate(current, module)
            current.children[id(module)] = (weakref.ref(module), scope)
        scope.calls += 1
        self.current, self.phase = scope, phase
        self.bucket = scope.bucket(phase)
        self.note()

    @hidden_from_compiler
    def after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """A module ends, by return or by exception."""
        if threading.get_ident() != self.thread:
            return
        stack = self.stack
        if not stack or stack[-1][0] != id(module):
            if not any(entry[0] == id(module) for entry in reversed(stack)):
                return  # it began before the block did
            while stack[-1][0] != id(module):
                stack.pop()
        _, self.current, self.bucket, self.phase = stack.pop()
        if not stack and not is_traced():
            self.describe()
        self.note()

    def locate(self, current: Scope, module: nn.Module) -> Scope:
        """The scope of a module called from `current`: its path below the nearest caller."""
        ancestor: Scope | None = current
        while ancestor is not None:
            if ancestor.module() is module:
                return ancestor
            path = ancestor.path_to(module)
            if path is not None:
                return self.scope(f"{ancestor.name}.{path}", module)
            ancestor = ancestor.parent
        name = f"{current.name}.{type(module).__name__}" if current.name else type(module).__name__
        unique, number = name, 1
        while unique in self.scopes and not self.scopes[unique].fits(module):
            number += 1
            unique = f"{name}#{number}"
        found = self.scope(unique, module)
        found.bare = _is_bare(module)
        found.module_type = type(module).__name__
        self.tops.append(found)
        return found

    def scope(self, name: str, module: nn.Module | None = None) -> Scope:
        """The scope with this name, made with those above it if need be."""
        found = self.scopes.get(name)
        if found is None:
            parent = self.scope(name.rpartition(".")[0])
            found = self.scopes[name] = Scope(name, parent, self.recording)
        if module is not None:
            found.module = weakref.ref(module)
        return found

    # The optimizer

    @hidden_from_compiler
    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer's step begins."""
        if threading.get_ident() == self.thread and self.phase != OPTIMIZER:
            self.steps.append((self.marks, len(self.stack)))
            self.stack.append((id(optimizer), self.current, self.bucket, self.phase))
            self.current, self.phase = self.block, OPTIMIZER
            self.bucket = self.block.bucket(OPTIMIZER)

    @hidden_from_compiler
    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer's step ends; one that a subclass's step calls has marks of its own."""
        if threading.get_ident() == self.thread:
            if self.steps and self.steps[-1][0] == self.marks:
                self.end_step()

    def mark(self, begins: bool) -> None:
        """A `record_function` begins or ends: a step runs in one, and ends with it at latest."""
        self.marks += 1 if begins else -1
        if self.steps and self.steps[-1][0] > self.marks:  # left by an exception
            self.end_step()

    def end_step(self) -> None:
        """What runs next belongs where it did before the step."""
        _, height = self.steps.pop()
        while len(self.stack) > height:
            _, self.current, self.bucket, self.phase = self.stack.pop()

    # The backward

    def note(self) -> None:
        """From the next sequence number on, nodes belong to the present scope."""
        number = next_sequence_number()
        if self.starts and self.starts[-1] == number:
            self.owners[-1] = self.current
            return
        self.starts.append(number)
        self.owners.append(self.current)
        if len(self.starts) > MAX_NOTES:
            del self.starts[: MAX_NOTES // 2], self.owners[: MAX_NOTES // 2]
            self.forgotten = True

    def present(self) -> Bucket:
        """Where an operator that runs now is counted."""
        return self.bucket if current_graph_task() < 0 else self.backward_bucket()

    def backward_bucket(self) -> Bucket:
        """Where an operator that runs inside a backward is counted."""
        if self.phase == RECOMPUTE:
            return self.bucket
        node = current_node()
        number = -1 if node is None else sequence_number(node)
        if self.last[0] != number:
            self.last = (number, self.owner(number).bucket(BACKWARD))
        return self.last[1]

    def owner_of_node(self) -> Scope:
        """The scope whose forward made the node being evaluated."""
        node = current_node()
        return self.block if node is None else self.owner(sequence_number(node))

    def owner(self, number: int) -> Scope:
        """The scope that made the node with this number; the block where nobody here did."""
        if number >= NO_FORWARD:
            return self.block
        place = bisect_right(self.starts, number) - 1
        if place < 0:
            if self.forgotten and number >= 0:
                self.assume(
                    "backward of a graph older than the last "
                    f"{MAX_NOTES // 2:,} module calls: counted in the block, not in its modules"
                )
            return self.block
        return self.owners[place]

    def assume(self, text: str) -> None:
        """List an assumption once."""
        if text not in self.recording.assumptions:
            self.recording.assumptions.append(text)

    # The module tree

    def describe(self) -> None:
        """Note class and parameters of all modules below those called, run or not."""
        for top in self.tops:
            module = top.module()
            for path, below in module.named_modules() if module is not None else ():
                self.describe_one(self.scope(f"{top.name}.{path}" if path else top.name, below))
        self.tops.clear()

    def describe_one(self, scope: Scope) -> None:
        """Note what a report says of a module, so that the module itself can be let go."""
        module = scope.module()
        if module is None or scope.rank is not None:
            return
        scope.rank, self.ranks = self.ranks, self.ranks + 1
        scope.module_type = type(module).__name__
        scope.params = tuple(
            (self.identity(p), p.numel())
            for p in module._parameters.values()
            if p is not None and not torch.nn.parameter.is_lazy(p)
        )

    def identity(self, parameter: nn.Parameter) -> int:
        """The number that tells this parameter from all others seen in the block."""
        if parameter not in self.identities:
            self.identities[parameter] = next(self.numbers)
        return int(self.identities[parameter])

    def modules(self) -> tuple[ModuleRecord, ...]:
        """All modules known so far, in the order of their trees."""
        self.describe()
        for scope in self.scopes.values():  # a module called by a second path
            self.describe_one(scope)
        known = sorted(self.scopes.values(), key=lambda s: (s.rank is None, s.rank or 0))
        return tuple(ModuleRecord(s.name, s.module_type, s.params, s.calls) for s in known)
