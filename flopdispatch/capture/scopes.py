"""Scopes: which module an operator belongs to, in the forward and in the backward.

Forward: a stack of running modules. Backward: every node that
autograd makes in a thread gets the next sequence number, so whenever the stack changes, the
tracker notes from which number on nodes belong to the present scope; a bisection over the
notes finds the scope of the node that a backward operator runs for. No tensor is hooked.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from functools import partial

import torch
from torch import nn

from flopdispatch.capture.calls import Call
from flopdispatch.capture.keys import Key
from flopdispatch.capture.module_calls import follow, unfollow
from flopdispatch.capture.private import (
    after_backward,
    checkpoint_runs,
    compiled_frames,
    current_graph_task,
    current_node,
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

# Notes kept for the backward. Graphs older than this many module calls and returns are
# forgotten, so that a long run needs no more memory than a short one.
MAX_NOTES = 1 << 18

# Backwards inside of one another (checkpoints in checkpoints) that are known at a time.
MAX_NESTED = 64

# The node of a graph that torch.compile made, outside of the block: inside, nothing is compiled.
COMPILED = "CompiledFunctionBackward"

# What the name of the record_function begins with that torch puts around an optimizer's step.
STEP = "Optimizer.step#"

# Nodes that no forward made (AccumulateGrad) carry the largest number there is.
NO_FORWARD = 1 << 62


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

    def assume(self, text: str) -> None:
        """Likewise."""


class ScopeTracker:
    """Follows the running modules of one thread while entered.

    `bucket` is where an operator outside of a backward is counted now.
    """

    def __init__(self, recording: Recording, shared: Shared | None = None) -> None:
        self.recording = recording
        self.tree = ModuleTree(recording, shared)
        self.block = self.tree.block
        self.current = self.block
        self.bucket = self.block.bucket(OTHER)
        self.phase = OTHER
        self.stack: list[tuple[int, Scope, Bucket, str]] = []
        self.marks = 0  # how many record_functions are running
        self.steps: list[tuple[int, int]] = []  # running steps: marks and height of the stack
        self.starts = array("q")  # in 8 bytes each: a long run makes many
        self.owners: list[Scope] = []
        self.forgotten = False
        # The last backward to begin, the next number at its last operator that was looked at,
        # the backwards whose end will be noted, and some in which gradients were disabled: these
        # make no nodes (no create_graph).
        self.task, self.made = -1, 0
        self.making: set[int] = set()
        self.plain: deque[int] = deque(maxlen=MAX_NESTED)
        self.last: tuple[tuple[int, int, bool] | None, Bucket] = (None, self.bucket)
        self.compiled = -1
        self.counting = 1  # 0 while paused: calls of modules aren't counted

    def __enter__(self) -> ScopeTracker:
        self.starts.append(next_sequence_number())
        self.owners.append(self.block)
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
        if current_graph_task() >= 0:  # called by the backward itself: checkpointing
            return self.owner_of_node(), RECOMPUTE
        return self.current, otherwise

    def go_to(self, scope: Scope, phase: str) -> None:
        """What runs next belongs to this scope and phase."""
        scope.calls += self.counting
        self.current, self.phase = scope, phase
        self.bucket = scope.buckets.get(phase) or scope.bucket(phase)
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

    def reset(self) -> None:
        """Forget what was counted so far; what runs next belongs where it did."""
        self.recording.clear()
        self.tree.reset()
        self.stack = [(what, at, at.bucket(phase), phase) for what, at, _, phase in self.stack]
        self.bucket = self.current.bucket(self.phase)
        self.last = None, self.bucket

    # The optimizer

    def mark(self, begins: bool, name: str = "") -> None:
        """A `record_function` begins or ends: each optimizer's step runs in one of this name."""
        if begins:
            self.marks += 1
            if name.startswith(STEP) and self.phase != OPTIMIZER:
                self.steps.append((self.marks, len(self.stack)))
                self.stack.append((-1, self.current, self.bucket, self.phase))
                self.current, self.phase = self.block, OPTIMIZER
                self.bucket = self.block.bucket(OPTIMIZER)
        else:
            if self.steps and self.steps[-1][0] == self.marks:
                _, height = self.steps.pop()
                while len(self.stack) > height:
                    _, self.current, self.bucket, self.phase = self.stack.pop()
            self.marks -= 1

    # The backward

    def note(self, number: int, scope: Scope) -> None:
        """From this sequence number on, nodes belong to this scope."""
        if self.starts[-1] == number:  # no node was made since the last note
            self.owners[-1] = scope
            return
        self.starts.append(number)
        self.owners.append(scope)
        if len(self.starts) > MAX_NOTES:
            del self.starts[: MAX_NOTES // 2], self.owners[: MAX_NOTES // 2]
            self.forgotten = True

    def present(self) -> Bucket:
        """Where an operator that runs now is counted."""
        task = current_graph_task()
        return self.bucket if task < 0 else self.backward_bucket(task)

    def backward_bucket(self, task: int) -> Bucket:
        """Where an operator that runs inside a backward is counted."""
        if self.phase == RECOMPUTE:
            return self.bucket
        node = current_node()
        number = -1 if node is None else sequence_number(node)
        again = False
        enabled = torch.is_grad_enabled()
        if enabled:  # with create_graph, or where something is run again
            again = checkpoint_runs(node) or (task in self.plain and not keeps_graph())
            self.note_made_by(number, task)
        if self.last[0] != (task, number, again):
            self.made_until_now(task)
            if not enabled and task not in self.plain:
                self.plain.append(task)
            if node is not None and node.name() == COMPILED:
                self.recording.assume(
                    "the backward of a graph compiled before the block: of what its kernels "
                    "compute, only the operators that they call are seen and counted"
                )
            bucket = self.owner(number).bucket(RECOMPUTE if again else BACKWARD)
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
        if task not in self.making:
            self.making.add(task)
            after_backward(partial(self.note_backward_end, task))
        self.note(max(self.made_until_now(task), self.starts[-1]), self.owner(number))

    def note_backward_end(self, task: int) -> None:
        """What makes nodes from now on is the program again."""
        self.making.discard(task)
        self.note(next_sequence_number(), self.current)

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
            if number >= 0:
                made = "before the block or in another thread"
                if self.forgotten:
                    made = f"before the last {MAX_NOTES // 2:,} module calls"
                self.recording.assume(
                    f"the backward of a graph made {made} is counted in the block, "
                    "not in its modules"
                )
            return self.block
        return self.owners[place]
