"""The dispatch mode: sees every operator, records it, changes nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flopdispatch.capture.private import (
    current_graph_task,
    has_own_kernel,
    hidden_from_compiler,
    is_composite,
    is_jagged,
    run_composite,
)
from flopdispatch.capture.recording import Recording, careful_key, key_of
from flopdispatch.capture.scopes import ScopeTracker


class RecordingMode(TorchDispatchMode):
    """Adds each operator call to the bucket of the scope and phase it belongs to."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The wrapper that this declines imports torch._dynamo at the first operator (seconds)
        # and costs at every one; hidden_from_compiler does what it is for.
        return False

    def __init__(self, recording: Recording, tracker: ScopeTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = recording
        self.tracker = tracker

    @hidden_from_compiler
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if types and any(map(is_jagged, types)):
            return NotImplemented  # its sizes are inside: it runs, and its operators come here
        tracker = self.tracker
        bucket = tracker.bucket if current_graph_task() < 0 else tracker.backward_bucket()
        try:
            key = (
                func,
                tuple([key_of(value) for value in args]),
                tuple([(name, key_of(kwargs[name])) for name in kwargs]) if kwargs else None,
            )
            cell = bucket.get(key)
        except Exception:  # an argument without a stride or a hash
            key = (func, careful_key(args), careful_key(kwargs) if kwargs else None)
            cell = bucket.get(key)
        if cell is None:
            return self._first(bucket, key, func, args, kwargs or {})
        out = func(*args, **kwargs) if kwargs else func(*args)
        cell[0] += 1
        return out

    def _first(self, bucket: Any, key: Any, func: Any, args: Any, kwargs: Any) -> Any:
        """A call that this scope has not counted yet, or never counts under its plain key."""
        runs_as = _how_it_runs(func)
        if runs_as == "query":
            return func(*args, **kwargs)
        if runs_as == "marker":
            self.tracker.mark(begins="enter" in func._schema.name)
            return func(*args, **kwargs)
        if runs_as == "composite" and not has_own_kernel(func, _tensors((args, kwargs))):
            with self:
                return run_composite(func, args, kwargs)
        out = func(*args, **kwargs)
        if runs_as == "dynamic":  # the result's shape is not determined by the arguments'
            key = (*key, careful_key(out))
        self.recording.add(bucket, key, out)
        return out


# Questions about a tensor's metadata, asked through the mode by subclasses such as FakeTensor
# and nested tensors. No operator of the user's program: not recorded.
QUERIES = frozenset({
    "prim::device", "prim::layout", "aten::dim", "aten::size", "aten::sym_size", "aten::stride",
    "aten::sym_stride", "aten::storage_offset", "aten::sym_storage_offset", "aten::numel",
    "aten::sym_numel", "aten::is_contiguous", "aten::sym_is_contiguous",
    "aten::is_strides_like_format", "aten::is_non_overlapping_and_dense",
})  # fmt: skip


@cache
def _how_it_runs(func: Any) -> str:
    if not isinstance(func, torch._ops.OpOverload):
        return "whole"  # a higher-order operator
    if func._schema.name in QUERIES:
        return "query"
    if func.namespace == "profiler":
        return "marker"  # torch.profiler.record_function begins or ends
    if is_composite(func):
        return "composite"
    return "dynamic" if torch.Tag.dynamic_output_shape in func.tags else "whole"


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
