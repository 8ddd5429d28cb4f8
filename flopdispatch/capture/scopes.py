"""Scopes: which module an operator belongs to, in the forward and in the backward.

Forward: a stack of running modules. Backward: every node that
autograd makes in a thread gets the next sequence number, so whenever the stack changes, the
tracker notes from which number on nodes belong to the present scope; a bisection over the
notes finds the scope of the node that a backward operator runs for. No tensor is hooked.

Autograd runs the backward of a GPU's operators, and what it recomputes, in threads of its own,
which number nodes for themselves. A tracker has another one for each of these.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial

import torch
from torch import nn

from flopdispatch.assumptions import Assumption
from flopdispatch.capture.calls import Call
from flopdispatch.capture.keys import Key
from flopdispatch.capture.module_calls import follow, unfollow
from flopdispatch.capture.notes import Notes
from flopdispatch.capture.private import (
    after_backward,
    checkpoint_runs,
    compiled_frames,
    current_graph_task,
    current_node,
    dispatch_modes,
    hidden_from_compiler,
    keeps_graph,
    next_sequence_number,
    sequence_number,
)
from flopdispatch.capture.recording import (
    BACKWARD,
    FORWARD,
    OPTIMIZER,
    OTHER,
    RECOMPUTE,
    Bucket,
    Recording,
)
from flopdispatch.capture.tree import ModuleTree, Scope, Shared

# Backwards inside of one another (checkpoints in checkpoints) that are known at a time.
MAX_NESTED = 64

# The node of a graph that torch.compile made, outside of the block: inside, nothing is compiled.
COMPILED = "CompiledFunctionBackward"

# What the name of the record_function begins with that torch puts around an optimizer's step.
STEP = "Optimizer.step#"

# Nodes that no forward made (AccumulateGrad) carry the largest number there is.
NO_FORWARD = 1 << 62

_thread = threading.get_ident


class Nowhere:
    """Stands in for a paused tracker and its recording: what they are given is forgotten."""

    members: frozenset[Call] = frozenset()

    def __init__(self, tracker: ScopeTracker) -> None:
        self.mark = tracker.mark
        self.calls: dict[Key, Call] = {}

    @property
    def bucket(self) -> Bucket:
        """Where an operator that runs now is counted."""
        return {}

    def present(self) -> Bucket:
        """Likewise."""
        return {}

    def backward_bucket(self, task: int) -> Bucket:
        """Likewise."""
        return {}

    def add(self, bucket: Bucket, call: Call) -> None:
        """Forget it."""

    def assume(self, assumption: str | Assumption, times: int = 1) -> None:
        """Likewise."""


class ScopeTracker:
    """Follows the running modules of one thread while entered.

    `bucket` is where an operator outside of a backward is counted now. `home` is the tracker of
    the thread that called the backward, if this is that of a thread of autograd's own.
    """

    def __init__(
        self, recording: Recording, shared: Shared | None = None, home: ScopeTracker | None = None
    ) -> None:
        self.recording = recording
        self.home = home
        self.tree: ModuleTree = home.tree if home else ModuleTree(recording, shared)
        self.block = self.tree.block
        self.current = self.block
        self.bucket = self.bucket_of(self.block, OTHER)
        self.phase = OTHER
        self.stack: list[tuple[int, Scope, Bucket, str]] = []
        self.marks = 0  # how many record_functions are running
        self.steps: list[tuple[int, int]] = []  # running steps: marks and height of the stack
        self.step_task = -1  # the backward that the running step is in
        self.notes = Notes()
        self.note = self.notes.note
        # The last backward to begin, the next number at its last operator that was looked at,
        # the backwards whose end will be noted, and some in which gradients were disabled: these
        # make no nodes (no create_graph).
        self.task, self.made = -1, 0
        self.making: set[int] = set()
        self.plain: deque[int] = deque(maxlen=MAX_NESTED)
        self.last: tuple[tuple[int, int, bool] | None, Bucket] = (None, self.bucket)
        self.compiled = -1
        self.counting = 1  # 0 while paused: calls of modules aren't counted
        self.thread = _thread()
        self.others: dict[int, ScopeTracker] = {}  # by autograd's threads
        # In such a thread: the outermost backward that made nodes here, and whether any did so
        # to be differentiated again.
        self.outermost = -1
        self.differentiable = False

    def __enter__(self) -> ScopeTracker:
        self.thread = _thread()
        self.notes.begin(next_sequence_number(), self.block)
        self.compiled = compiled_frames(0)
        follow(self)
        return self

    def __exit__(self, *exception: object) -> None:
        compiled_frames(self.compiled)
        self.stop()

    def stop(self) -> None:
        """Follow no more modules; from any thread."""
        unfollow(self)
        self.tree.finish()

    # What is counted where

    def bucket_of(self, scope: Scope, phase: str) -> Bucket:
        """Where calls of a scope are counted; each thread writes to a recording of its own."""
        if self.home is None:
            return scope.bucket(phase)
        return self.recording.bucket(scope.name, phase)

    def recordings(self) -> list[Recording]:
        """This thread's, and those of the threads that autograd ran its backward in."""
        return [self.recording, *(other.recording for other in list(self.others.values()))]

    def set_counting(self, counting: bool) -> None:
        """Count calls of modules or don't."""
        self.counting = int(counting)
        for other in list(self.others.values()):
            other.set_counting(counting)

    def reset(self) -> None:
        """Forget what was counted so far; what runs next belongs where it did."""
        self.recording.clear()
        if self.home is None:
            self.tree.reset()
        self.stack = [
            (what, at, self.bucket_of(at, phase), phase) for what, at, _, phase in self.stack
        ]
        self.bucket = self.bucket_of(self.current, self.phase)
        self.last = None, self.bucket
        for other in list(self.others.values()):
            other.reset()

    # Threads of autograd's own

    def there(self) -> ScopeTracker:
        """The tracker of the present thread, which is autograd's own."""
        found = self.others.get(_thread())
        if found is None:
            found = ScopeTracker(Recording(), home=self)
            found.notes.begin(next_sequence_number(), self.block)
            found.counting = self.counting
            self.others[found.thread] = found
        return found

    def elsewhere(self) -> ScopeTracker | None:
        """The same, if autograd runs a backward of ours there."""
        ours = any(getattr(mode, "following", None) is self for mode in dispatch_modes())
        return self.there() if ours else None

    # The forward

    def count_as_forward(self) -> None:
        """What runs outside of modules from now on is a forward too: a model is a function."""
        self.phase, self.bucket = FORWARD, self.block.bucket(FORWARD)

    @hidden_from_compiler
    def begin(self, module: nn.Module) -> None:
        """A module begins: its scope is the present one."""
        current, phase = self.current, self.phase
        self.stack.append((id(module), current, self.bucket, phase))
        if phase != FORWARD or current_graph_task() >= 0:
            current, phase = self.place(FORWARD)
            if phase == RECOMPUTE:
                current = self.tree.caller_of(module, current)
        scope = current.children.get(id(module))
        if scope is None or scope.module() is not module:
            scope = self.tree.child(current, module)
        self.go_to(scope, phase)

    @hidden_from_compiler
    def begin_region(self, region: object, name: str) -> None:
        """A region that the user named begins."""
        self.stack.append((id(region), self.current, self.bucket, self.phase))
        current, phase = self.place(self.phase)
        if phase != self.phase:  # it is run again, by the backward of what it did
            current = self.tree.outside_of(current, name)
        self.go_to(self.tree.region(current, name), phase)

    def place(self, otherwise: str) -> tuple[Scope, str]:
        """Below which scope and in which phase a module or a region runs that begins now."""
        if self.phase == RECOMPUTE:
            return self.current, RECOMPUTE
        task = current_graph_task()
        if task >= 0:  # called by the backward itself: checkpointing
            node = current_node()
            number = NO_FORWARD if node is None else sequence_number(node)
            self.note_made_by(number, task)
            return self.owner(number, task), RECOMPUTE
        return self.current, otherwise

    def go_to(self, scope: Scope, phase: str) -> None:
        """What runs next belongs to this scope and phase."""
        scope.calls += self.counting
        self.current, self.phase = scope, phase
        if self.home is None:
            self.bucket = scope.buckets.get(phase) or scope.bucket(phase)
        else:
            self.bucket = self.bucket_of(scope, phase)
        self.note(next_sequence_number(), scope)

    @hidden_from_compiler
    def end(self, begun: object) -> None:
        """A module or a region ends, and with it what was left running in it by an exception."""
        stack = self.stack
        while stack[-1][0] != id(begun):
            stack.pop()
        _, self.current, self.bucket, self.phase = stack.pop()
        if not stack:
            self.tree.finish()
        self.note(next_sequence_number(), self.current)

    # The optimizer

    def mark(self, begins: bool, name: str = "") -> None:
        """A `record_function` begins or ends: each optimizer's step runs in one of this name."""
        if _thread() != self.thread:
            self.there().mark(begins, name)
        elif begins:
            self.marks += 1
            if name.startswith(STEP) and self.phase != OPTIMIZER:
                self.steps.append((self.marks, len(self.stack)))
                self.stack.append((-1, self.current, self.bucket, self.phase))
                self.current, self.phase = self.block, OPTIMIZER
                self.bucket = self.bucket_of(self.block, OPTIMIZER)
                self.step_task = current_graph_task()
        else:
            if self.steps and self.steps[-1][0] == self.marks:
                _, height = self.steps.pop()
                while len(self.stack) > height:
                    _, self.current, self.bucket, self.phase = self.stack.pop()
            self.marks -= 1

    # The backward

    def present(self) -> Bucket:
        """Where an operator that runs now is counted."""
        task = current_graph_task()
        return self.bucket if task < 0 else self.backward_bucket(task)

    def backward_bucket(self, task: int) -> Bucket:
        """Where an operator that runs inside a backward is counted."""
        if _thread() != self.thread:
            return self.there().backward_bucket(task)
        if self.phase == RECOMPUTE or (self.phase == OPTIMIZER and self.step_task == task):
            return self.bucket
        node = current_node()
        number = -1 if node is None else sequence_number(node)
        again = False
        enabled = torch.is_grad_enabled()
        if enabled:  # with create_graph, or where something is run again
            again = checkpoint_runs(node) or (task in self.plain and not keeps_graph())
            self.note_made_by(number, task)
            self.differentiable |= not again
        if self.last[0] != (task, number, again):
            self.made_until_now(task)
            if not enabled and task not in self.plain:
                self.plain.append(task)
            if node is not None and node.name() == COMPILED:
                self.recording.assume(
                    "the backward of a graph compiled before the block: of what its kernels "
                    "compute, only the operators that they call are seen and counted"
                )
            owner = self.owner(number, task)
            bucket = self.bucket_of(owner, RECOMPUTE if again else BACKWARD)
            self.last = ((task, number, again), bucket)
        return self.last[1]

    def made_until_now(self, task: int) -> int:
        """The next number at the last operator of a backward, or of those that it runs inside."""
        now = next_sequence_number()
        made = now if task > self.task else self.made
        self.task, self.made = max(task, self.task), now
        return made

    def note_made_by(self, number: int, task: int) -> None:
        """Nodes that a backward makes belong to the scope of the one that it runs.

        An operator's node is made before it comes here. So those made since the last operator
        of the backward are this one's.
        """
        self.makes_nodes_in(task)
        if task not in self.making:
            self.making.add(task)
            after_backward(partial(self.note_backward_end, task))
        self.note(max(self.made_until_now(task), self.notes.starts[-1]), self.owner(number, task))

    def note_backward_end(self, task: int) -> None:
        """What makes nodes from now on is the program again."""
        self.making.discard(task)
        if _thread() == self.thread:
            self.note(next_sequence_number(), self.current)

    def makes_nodes_in(self, task: int) -> None:
        """Nodes are made in this backward; if it is the outermost one here, until it ends."""
        if self.home is not None and self.outermost < 0:
            self.outermost = task
            after_backward(self.forget_outermost)

    def forget_outermost(self) -> None:
        """The outermost backward is over."""
        self.outermost = -1

    def owner(self, number: int, task: int) -> Scope:
        """The scope that made a node in a backward; the block where nobody here did."""
        if number >= NO_FORWARD:
            return self.block
        notes = self.made_in(number, task).notes
        owner = notes.owner(number)
        if owner is None:
            if number >= 0:
                self.recording.assume(
                    f"the backward of a graph made {notes.before()} is counted in the block, "
                    "not in its modules"
                )
            return self.block
        return owner

    def made_in(self, number: int, task: int) -> ScopeTracker:
        """The tracker of the thread that made a node with this number."""
        home = self.home
        if home is None:
            return self
        if self.notes.owner(number) is None or number >= next_sequence_number():
            return home
        if home.notes.owner(number) is None:
            return self
        # Both made such a node. What runs inside of a backward is of a graph that that one made.
        if self.outermost >= 0 and task != self.outermost:
            return self
        if self.differentiable:
            self.recording.assume(
                "gradients of gradients that autograd took in a thread of its own, as it does for "
                "a GPU, may be counted in other modules than theirs"
            )
        return home
