"""The dispatch mode: sees every operator, records it, changes nothing."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from flopdispatch.capture import attention
from flopdispatch.capture.asked import answer, otherwise
from flopdispatch.capture.calls import CALLS, DECOMPOSED, Call, forget_takers, remember
from flopdispatch.capture.keys import careful_call, has_complex, plain_call, result_key
from flopdispatch.capture.literals import as_they_were
from flopdispatch.capture.meta import answer_for, answer_unseen
from flopdispatch.capture.private import (
    SPARSE,
    active_modes,
    compiled_runs,
    current_graph_task,
    dispatch_modes,
    has_own_kernel,
    hidden_from_compiler,
    higher_order_runs,
    is_composite,
    is_deterministic,
    is_fake,
    is_wrapper,
    kernel_of,
    own_kernel,
    parts_of,
    resolving,
    run_composite,
    without_dispatch,
)
from flopdispatch.capture.questions import Questions
from flopdispatch.capture.recording import Bucket, Recording
from flopdispatch.capture.scopes import Nowhere, ScopeTracker
from flopdispatch.rules import DENSE, LAYOUTS, TAKERS, name_of, taken_from, taker
from flopdispatch.traffic import is_view

RAN_EAGERLY = (
    "what torch.compile made ran as the code that it was made of: with a dispatch mode on, torch "
    "runs no compiled code"
)


# A composite kernel may make lazily conjugated numbers of real ones.
_run_composite = resolving(run_composite)


class RecordingMode(TorchDispatchMode):
    """Adds each operator call to the bucket of the scope and phase it belongs to.

    With `meta_cache`, calls on meta that are known are answered instead of run. `questions`
    answers those for values on meta; without it a program fails there as it does without us.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The wrapper that this declines imports torch._dynamo at the first operator (seconds)
        # and costs at every one; hidden_from_compiler does what it is for.
        return False

    def ignore_compile_internals(self) -> bool:  # type: ignore[override]
        """Whether torch.compile may compile now: where torch needs it, to run the same program."""
        return higher_order_runs()

    def __init__(
        self, tracker: ScopeTracker, meta_cache: bool, questions: Questions | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.following = tracker
        self.recording: Recording | Nowhere = tracker.recording
        self.tracker: ScopeTracker | Nowhere = tracker
        self.meta_cache = meta_cache
        self.questions = questions
        self.known = None if questions is None else questions.known.entries
        self.answers = False

    def pause(self) -> None:
        """Record what runs from now on nowhere; `resume` ends this."""
        self.recording = self.tracker = Nowhere(self.following)

    def resume(self) -> None:
        """Record again."""
        self.recording, self.tracker = self.following.recording, self.following

    def __enter__(self) -> RecordingMode:
        self.answers = self.meta_cache and active_modes() == 0  # another must see what runs
        forget_takers(len(TAKERS))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    @hidden_from_compiler
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        try:
            key = plain_call(func, args, kwargs)
            call = CALLS.get(key)
        except Exception:  # an argument without a stride or a hash, or of another type
            call = key = None
        if call is None or call is DECOMPOSED:
            return self._unknown(func, types, args, kwargs or {}, key)
        if call.answer is not None and self.answers and not is_deterministic():
            out = call.answer(args, kwargs)
        else:
            out = call.run(*args, **kwargs) if kwargs else call.run(*args)
        if self.known is not None:
            watch = call.watch
            if watch is None or (
                watch is not False
                and (watch[0] < 0 or args[watch[0]].untyped_storage()._cdata in self.known)
            ):
                self.questions.follow(call, args, kwargs or {}, out)  # type: ignore[union-attr]
        tracker = self.tracker
        task = current_graph_task()
        bucket = tracker.bucket if task < 0 else tracker.backward_bucket(task)
        times = bucket.get(call)
        if times is not None:
            bucket[call] = times + 1
        elif call in self.recording.members:
            bucket[call] = 1
        else:
            self._first(bucket, call)
        return out

    def _unknown(self, func: Any, types: Any, args: Any, kwargs: Any, key: Any) -> Any:
        """A call that isn't plain, or hasn't run before, or doesn't count as one."""
        runs_as = _how_it_runs(func)
        if runs_as == "higher order":
            return self._run_bodies(func, args, kwargs)
        if any(map(is_wrapper, types)):
            # Inside of a view there is nothing to count, and an older torch detaches what comes
            # out of an operator under a mode: without end, as that is a view too.
            with nullcontext() if is_view(func._schema) else Inside(self, args, kwargs):
                return func(*args, **kwargs)
        if runs_as == "query":
            return func(*args, **kwargs)
        if runs_as == "marker":
            begins = "enter" in func._schema.name
            self.tracker.mark(begins, str(args[0]) if begins else "")
            return func(*args, **kwargs)
        if runs_as == "composite" and self._decomposes(func, args, kwargs, key):
            with self:
                return self._composed(func, args, kwargs)
        plain = key is not None
        takes = taker(func, (DENSE,) if plain else LAYOUTS)
        key = key if plain else careful_call(func, args, kwargs)
        on_meta = plain and takes is None and runs_as != "dynamic"
        taken = None if takes is None else self._taken(takes, func, args, kwargs)
        quick = None
        if on_meta and self.answers and not is_deterministic():
            quick = answer_unseen(func, args, kwargs, key)
        if quick is not None:
            out, asked = quick(args, kwargs), False
        else:
            out, asked = self._run(func, args, kwargs, key, plain)
        result = result_key(out)
        # An object is known by its type only, and may decide what comes out; how many elements
        # of a dense tensor a sparse one stores is decided by their values.
        fixed = plain and runs_as != "dynamic" and getattr(out, "layout", None) not in SPARSE
        known = key if fixed else (key, result)
        known = known if takes is None else (known, taken)  # never known by the key alone
        call = CALLS.get(known)
        if call is None:
            call = Call(func, key[2 : 2 + len(args)], key[3 + len(args) :], result, taken)
            call = self.recording.calls.get(call.key, call)
            if not asked:  # a question must be asked again
                if on_meta and call.answer is None:
                    call.answer = quick or answer_for(func, args, kwargs, key, out)
                remember(known, call)
        if self.questions is not None:
            self.questions.follow(call, args, kwargs, out)
        self._first(self.tracker.present(), call)
        return out

    def _composed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operator that is made of others gives."""
        if self.questions is not None and func is attention.COMPOSED:
            found = attention.in_one_kernel(args, kwargs)
            if found is not None:
                return found
        return _run_composite(func, args, kwargs)

    def _run(self, func: Any, args: Any, kwargs: Any, key: Any, plain: bool) -> tuple[Any, bool]:
        """What a call gives, and whether it was answered as a question instead of run."""
        run = kernel_of(func, bool(kwargs)) if plain else func
        run = resolving(run) if has_complex(key) else run
        if self.questions is None:
            return run(*args, **kwargs), False
        found = answer(self.questions, func, args, kwargs)
        if found is None:
            try:
                return run(*args, **kwargs), False
            except (RuntimeError, TypeError):  # NotImplementedError too
                found = otherwise(self.questions, func, args, kwargs)
                if found is None:
                    raise
        return found.out, True

    def _taken(self, takes: Any, func: Any, args: Any, kwargs: Any) -> tuple[int, ...] | None:
        """What a rule takes from the values of a call's arguments."""
        shown = None if self.questions is None else self.questions.shown
        with without_dispatch():
            return taken_from(takes, func, args, kwargs, shown)

    def _run_bodies(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a higher-order operator as it runs without us, and what it calls with us."""

        def counted(value: Any) -> Any:
            if not _is_function(value):
                return value
            # A graph is no module of the user's that would have a row.
            run = value.forward if isinstance(value, torch.fx.GraphModule) else value

            def body(*inner: Any, **named: Any) -> Any:
                # One function may be given to another to call.
                with nullcontext() if self in dispatch_modes() else self:
                    return run(*inner, **named)

            return body

        key = careful_call(func, args, kwargs)
        given = tree_leaves((args, kwargs))
        if any(map(_is_function, given)) and any(is_fake(type(value)) for value in given):
            self.recording.assume(
                f"{name_of(func)} ran on tensors without data: what it calls is counted as often "
                "as torch called it to know the result's sizes"
            )
        if any(isinstance(value, _GIVEN) for value in given):
            run = own_kernel(func, args, kwargs)
            with self, as_they_were():
                out = run(*args, **kwargs)
        else:
            inside, named = tree_map(counted, (args, kwargs))
            with as_they_were():
                out = func(*inside, **named)
        call = Call(func, key[2 : 2 + len(args)], key[3 + len(args) :], result_key(out))
        self._first(self.tracker.present(), call)
        return out

    def _first(self, bucket: Bucket, call: Call) -> None:
        """Count a call that may be the first of its kind."""
        if call not in self.recording.members and compiled_runs():
            self.recording.assume(RAN_EAGERLY)
        self.recording.add(bucket, call)

    def _decomposes(self, func: Any, args: Any, kwargs: Any, key: Any) -> bool:
        if key is not None and CALLS.get(key) is DECOMPOSED:
            return True
        if has_own_kernel(func, _tensors((args, kwargs))):
            return False
        if key is not None:
            remember(key, DECOMPOSED)
        return True


class Inside(TorchDispatchMode):
    """In place of a mode while an operator runs on tensors that are made of others.

    The operators on these are the mode's. Those on tensors with less than there is inside, on
    meta or fake ones where there are data, on fake ones where there is meta, are torch's own
    planning (how a DTensor is sharded), no part of the program.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, mode: RecordingMode, args: Any, kwargs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = mode
        self.began = False
        inside = [part for tensor in _tensors((args, kwargs)) for part in parts_of(tensor)]
        self.least = max(map(_emptiness, inside), default=0)

    @hidden_from_compiler
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not self.began:  # the operator itself: its tensors know how to run it
            self.began = True
            return NotImplemented
        if max(map(_emptiness, _tensors((args, kwargs))), default=0) > self.least:
            return func(*args, **(kwargs or {}))
        return self.mode.__torch_dispatch__(func, types, args, kwargs)


def _emptiness(tensor: torch.Tensor) -> int:
    """0 for a tensor with data, 1 on meta, 2 if it is fake."""
    return 2 if is_fake(type(tensor)) else int(tensor.is_meta)


# Questions about a tensor's metadata, asked through the mode by subclasses such as FakeTensor
# and nested tensors. No operator of the user's program: not recorded.
QUERIES = frozenset({
    "prim::device", "prim::layout", "aten::dim", "aten::size", "aten::sym_size", "aten::stride",
    "aten::sym_stride", "aten::storage_offset", "aten::sym_storage_offset", "aten::numel",
    "aten::sym_numel", "aten::is_contiguous", "aten::sym_is_contiguous",
    "aten::is_strides_like_format", "aten::is_non_overlapping_and_dense",
})  # fmt: skip


# Namespaces whose operators say by a tag that the values decide the sizes of their results.
_TAGGED = ("aten", "prims")


@cache
def _how_it_runs(func: Any) -> str:
    if not isinstance(func, torch._ops.OpOverload):
        return "higher order"
    if func._schema.name in QUERIES:
        return "query"
    if func.namespace == "profiler":
        return "marker"  # torch.profiler.record_function begins or ends
    if is_composite(func):
        return "composite"
    if func.namespace not in _TAGGED:
        return "dynamic"  # torchvision's nms, for one, doesn't say so
    return "dynamic" if torch.Tag.dynamic_output_shape in func.tags else "whole"


# Given one of these, a higher-order operator takes no function in its place: its own kernel calls
# it, below the mode.
_GIVEN = (torch._ops.OperatorBase, torch.ScriptObject)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
