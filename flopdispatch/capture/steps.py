"""Steps: calls on known values, written down and run on the CPU when one asks for their results.

What a storage holds from one write to the next is a Value: one of the results of a Step. A step
keeps the values that it was given and never changes one (an in-place operator runs on a copy), so
it can run at any later time, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from flopdispatch.capture.private import resolving, unwatched, without_dispatch

_CPU = torch.device("cpu")

# Steps that may wait for each other in a row; more are run, so that a loop keeps no chain of them.
MAX_WAITING = 256


NONE: frozenset[str] = frozenset()


class Layout(NamedTuple):
    """Where a tensor's elements lie in its storage."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype


def layout_of(tensor: torch.Tensor) -> Layout:
    """The layout of a dense tensor."""
    return Layout(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype)


class Value:
    """What a storage holds: result number `slot` of a step."""

    __slots__ = ("slot", "step")

    def __init__(self, step: Step, slot: int) -> None:
        self.step = step
        self.slot = slot

    def tensor(self, layout: Layout) -> torch.Tensor | None:
        """These elements of it on the CPU; None if the step can't run there. Don't write to it."""
        run_for(self.step)
        storage = self.step.results[self.slot] if self.step.results else None
        return None if storage is None else laid_in(storage, layout)


class Part(NamedTuple):
    """A tensor among a step's arguments."""

    value: Value
    layout: Layout


class Step:
    """One call, for which `run` makes the storages of its results; see `new` and `written`.

    `assumed` are the assumptions that its results rest on. `results` is None until it ran, and
    empty if it can't.
    """

    __slots__ = ("assumed", "call", "depth", "dtype", "results", "waiting")

    def __init__(
        self,
        call: Callable[[], list[Any]],
        inputs: Iterable[Value] = (),
        assumed: frozenset[str] = NONE,
    ) -> None:
        self.waiting: list[Step] = []
        self.depth = 0
        self.assumed = assumed
        for value in inputs:
            step = value.step
            if step.results is None:
                self.waiting.append(step)
                self.depth = max(self.depth, step.depth + 1)
            if step.assumed:
                self.assumed |= step.assumed
        self.call: Callable[[], list[Any]] | None = call
        self.results: list[Any] | None = None
        self.dtype = torch.get_default_dtype()
        if self.depth > MAX_WAITING:
            run_for(self)

    def run(self) -> None:
        """Run it; all that it waits for has run."""
        before = torch.get_default_dtype()
        try:
            if self.dtype is not before:
                torch.set_default_dtype(self.dtype)
            with torch.inference_mode(False), torch.no_grad(), without_dispatch(), unwatched():
                self.results = resolving(self.call)() if self.call is not None else []
        except Exception:  # no kernel on the CPU, or arguments that no kernel takes
            self.results = []
        finally:
            if self.dtype is not before:
                torch.set_default_dtype(before)
        self.call, self.waiting, self.depth = None, [], 0


def run_for(step: Step) -> int:
    """Run a step and all that it waits for; the bytes that this has made."""
    stack, nbytes = [step], 0
    while stack:
        last = stack[-1]
        waiting = [step for step in last.waiting if step.results is None]
        if last.results is None and not waiting:
            last.run()
            made: list[Any] = last.results or []
            nbytes += sum([storage.nbytes() for storage in made])
        if last.results is not None:
            stack.pop()
        else:
            stack.extend(waiting)
    return nbytes


def given(tensor: torch.Tensor) -> Value:
    """The value of a storage for a tensor that has data, and that nobody writes to meanwhile."""
    layout = layout_of(tensor)._replace(offset=0)
    extent = _extent(layout)

    def call() -> list[Any]:
        if extent > 2 * tensor.numel():  # it may be one column of a huge matrix
            return [laid_out(tensor, layout)]
        between = tensor.as_strided((extent,), (1,))  # what lies between its elements, too
        return [laid_out(between, Layout((extent,), (1,), 0, layout.dtype))]

    return Value(Step(call), 0)


def blank(nbytes: int) -> Value:
    """The value of a storage about to be overwritten."""
    return Value(Step(lambda: [torch.zeros(nbytes, dtype=torch.uint8).untyped_storage()]), 0)


def new(
    run: Callable[..., Any], args: Any, kwargs: Any, inputs: list[Value], layouts: list[Layout]
) -> list[Value]:
    """The values of the tensors that a call makes, which lie as `layouts` say.

    Tensors among the arguments are Parts, of the values `inputs`.
    """

    def call() -> list[Any]:
        out = run(*_real(args, {}), **_real(kwargs, {}))
        found = [out] if isinstance(out, torch.Tensor) else list(tensors_in(out))
        assert len(found) == len(layouts)
        return [laid_out(tensor, layout) for tensor, layout in zip(found, layouts)]

    step = Step(call, inputs)
    return [Value(step, slot) for slot in range(len(layouts))]


def written(
    run: Callable[..., Any], args: Any, kwargs: Any, inputs: list[Value], old: list[Value]
) -> list[Value]:
    """The values of storages after a call that writes to them, in the order of `old`."""

    def call() -> list[Any]:
        copies = {id(value): _storage(value).clone() for value in old}
        run(*_real(args, copies), **_real(kwargs, copies))
        return [copies[id(value)] for value in old]

    step = Step(call, inputs)
    return [Value(step, slot) for slot in range(len(old))]


def _extent(layout: Layout) -> int:
    """How many elements of its storage a tensor spans, if it has any."""
    return 1 + sum([(size - 1) * step for size, step in zip(layout.shape, layout.stride)])


def tensors_in(value: Any) -> Iterable[torch.Tensor]:
    """All tensors in lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Arguments with each that is no list, tuple or dict changed."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind([mapped(change, item) for item in value])
    if kind is dict:
        return {name: mapped(change, item) for name, item in value.items()}
    return change(value)


def _real(value: Any, copies: dict[int, Any]) -> Any:
    """Arguments with Parts made into tensors, those in `copies` of these, and devices the CPU."""

    def real(item: Any) -> Any:
        if type(item) is Part:
            storage = copies.get(id(item.value))
            return laid_in(_storage(item.value) if storage is None else storage, item.layout)
        return _CPU if type(item) is torch.device else item

    return mapped(real, value)


def _storage(value: Value) -> Any:
    results = value.step.results
    if not results:
        raise ValueError("a value that it needs can't be had")
    return results[value.slot]


def laid_in(storage: Any, layout: Layout) -> torch.Tensor:
    """The tensor on the CPU that lies so in a storage."""
    with without_dispatch():
        empty = torch.empty(0, dtype=layout.dtype)
        return empty.set_(storage, layout.offset, layout.shape, layout.stride)


def laid_out(tensor: torch.Tensor, layout: Layout) -> Any:
    """A storage with a tensor's elements as a layout says.

    Raises: ValueError if the tensor isn't of its shape or dtype.
    """
    if tuple(tensor.shape) != layout.shape or tensor.dtype is not layout.dtype:
        raise ValueError(f"expected {layout}, got {tensor.shape} of {tensor.dtype}")
    extent = layout.offset + _extent(layout)
    whole = torch.empty(extent if tensor.numel() else 0, dtype=layout.dtype)
    laid = whole.as_strided(layout.shape, layout.stride, layout.offset)
    once = tuple([slice(None if step else 1) for step in layout.stride])  # expanded elements
    laid[once].copy_(tensor[once])
    return laid.untyped_storage()
