"""Questions: what an operator on tensors without data answers that depends on their values.

The true answer where the values are known, else what is assumed of them, which is listed; an
error that names the source line where nothing may be assumed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch

from flopdispatch.assumptions import Assume, Assumption
from flopdispatch.capture.brackets import INDEXED, know_index, know_indices
from flopdispatch.capture.calls import Call
from flopdispatch.capture.frames import source_line
from flopdispatch.capture.guesses import assumed_value, guess
from flopdispatch.capture.known import Known, covers, has_data, is_plain, snapshot
from flopdispatch.capture.literals import TENSOR
from flopdispatch.capture.private import resolving, without_dispatch
from flopdispatch.capture.roles import LIFTED, LIMIT, watch_of
from flopdispatch.capture.scopes import ScopeTracker
from flopdispatch.capture.steps import Step, Value, laid_out, layout_of, mapped, new, tensors_in
from flopdispatch.errors import DataDependentError


class Answer(NamedTuple):
    """What an operator gives without having run on its tensors."""

    out: Any


class Questions:
    """Answers what operators ask of tensors without data, for one counter.

    `assume` is what to assume. Under `strict` each assumption is an error.
    """

    def __init__(self, assume: Assume, strict: bool) -> None:
        self.assume = assume
        self.strict = strict
        self.known = Known()
        self.tracker: ScopeTracker | None = None

    def tells(self, tracker: ScopeTracker) -> None:
        """List assumptions in this tracker's recording, in the scope where it is."""
        self.tracker = tracker

    def scope(self) -> str:
        """The path of the module that runs now."""
        return "" if self.tracker is None else self.tracker.current.name

    def forget(self) -> None:
        """Know nothing more: keep no tensor's values."""
        self.known.entries.clear()

    def follow(self, call: Call, args: Any, kwargs: Any, out: Any) -> None:
        """Know what a call that has run made, or what it is assumed to have made."""
        if call.watch is None:
            call.watch = watch_of(call)
        if call.watch is False:
            return
        role = call.watch[1]
        if role.name == LIFTED:
            know_index(self.known, args[0])
        elif role.name in INDEXED:
            know_indices(self.known, args[1])
        self.known.follow(call, args, kwargs, out)
        if role.guessed:
            guess(self.known, self.here(), call.overload, role, args, kwargs, out)

    def literal(self, tensor: torch.Tensor, data: Any) -> None:
        """Know what a program writes into a tensor without data, if that is known."""
        if tensor.numel() <= LIMIT and is_plain(tensor):
            self.known.make(partial(TENSOR, dtype=tensor.dtype, device="cpu"), (data,), {}, tensor)
            if not _stays(data):
                self.known.tensor(tensor)  # now: it may hold others when one asks

    # What is known

    def shown(self, value: Any) -> Any:
        """Arguments with the values of tensors that are known."""

        def real(item: Any) -> Any:
            if not isinstance(item, torch.Tensor) or has_data(item):
                return item
            known = self.known.tensor(item)
            return item if known is None else known

        return mapped(real, value)

    def computed(self, overload: Any, args: Any, kwargs: Any) -> Answer | None:
        """The CPU's result as known tensors without data; None if some value isn't known."""
        real_args, real_kwargs = self.shown(args), self.shown(kwargs)
        given = list(tensors_in((args, kwargs)))
        if not all(map(has_data, tensors_in((real_args, real_kwargs)))):
            return None
        assumed = frozenset[str]().union(*map(self.known.assumed, given))
        place = next(tensor for tensor in given if not has_data(tensor))
        if "device" in real_kwargs:
            real_kwargs = {**real_kwargs, "device": torch.device("cpu")}
        try:
            with without_dispatch(), torch.no_grad():
                out = resolving(overload)(*real_args, **real_kwargs)
        except Exception:  # no kernel on the CPU; an error of the program's is one without us too
            return None
        for text in sorted(assumed):
            self.use(overload, text)
        return Answer(self._known_like(out, place, assumed))

    def _known_like(self, out: Any, place: torch.Tensor, assumed: frozenset[str]) -> Any:
        """Results on the CPU as tensors without data, whose values are known."""
        if isinstance(out, torch.Tensor):
            made = empty_like(out, place)
            if out.numel() <= LIMIT:
                layout = layout_of(made)
                step = Step(lambda: [laid_out(out, layout)], (), assumed)
                self.known.bind(made, Value(step, 0))
            return made
        if isinstance(out, list | tuple):
            return type(out)([self._known_like(item, place, assumed) for item in out])
        return out

    def moved(self, value: Any) -> Any:
        """Arguments with tensors of the CPU as known ones on meta."""

        def move(item: Any) -> Any:
            if not (isinstance(item, torch.Tensor) and has_data(item) and is_plain(item)):
                return item
            moved = torch.empty_strided(item.shape, item.stride(), dtype=item.dtype, device="meta")
            held = snapshot(item)
            if held is not None:
                (laid,) = new(torch.clone, (held,), {}, [held.value], [layout_of(moved)])
                self.known.bind(moved, laid)
            return moved

        return mapped(move, value)

    # What is assumed

    def here(self) -> Assume:
        """What to assume in the present scope."""
        return self.assume.at(self.scope())

    def use(self, overload: Any, text: str) -> None:
        """List an assumption.

        Raises: DataDependentError under `strict`.
        """
        name, source = overload._schema.name, source_line()
        if self.strict:
            raise DataDependentError(
                f"{name} asks at {source} for what depends on data, and strict=True assumes "
                f"nothing (else: {text}); give the inputs that decide it as real tensors"
            )
        if self.tracker is not None:
            self.tracker.recording.assume(Assumption(text, name, self.scope(), source))

    def use_all(self, overload: Any, tensor: torch.Tensor) -> None:
        """List the assumptions that a tensor's values rest on."""
        for text in sorted(self.known.assumed(tensor)):
            self.use(overload, text)

    def refuse(self, overload: Any, tensor: torch.Tensor, keyword: str) -> DataDependentError:
        """The error for a question that nothing answers."""
        shape, scope = tuple(tensor.shape), self.scope()
        inside = f" in {scope}" if scope else ""
        what = f"assume=Assume({keyword}=...) says what to assume" if keyword else ""
        return DataDependentError(
            f"{overload._schema.name} asks at {source_line()}{inside} for values of a "
            f"{tensor.dtype} tensor of shape {shape}, which depend on data that meta tensors "
            "don't have. Give the inputs that decide them as real tensors"
            + (f", or {what}" if what else "")
        )

    def chosen(self, overload: Any, mask: torch.Tensor, listed: bool = True) -> int:
        """How many elements of a mask are set; `listed` says that this is asked, and listed."""
        real = self.known.tensor(mask)
        if real is not None:
            self.use_all(overload, mask)
            with without_dispatch():
                return int(real.count_nonzero())
        number, n = self.share(overload, "nonzero", mask), mask.numel()
        text = chosen_text(number, n)
        if mask.dtype is torch.bool and covers(mask) and n <= LIMIT:
            shape = tuple(mask.shape)

            def spread() -> torch.Tensor:
                ranks = torch.arange(n + 1) * number // max(n, 1)
                return (ranks[1:] > ranks[:-1]).reshape(shape)

            self.known.bind(mask, assumed_value(spread, mask, text))
        if listed:
            self.use(overload, text)
        return number

    def share(self, overload: Any, of: str, tensor: torch.Tensor, n: int | None = None) -> int:
        """How many of a tensor's elements, or of n, are assumed to be kept."""
        n = tensor.numel() if n is None else n
        number = self.here().share(overload._schema.name, of, n)
        if number is None:
            raise self.refuse(overload, tensor, of)
        return number


def _stays(data: Any) -> bool:
    """Whether numbers written down now are these forever: lists are copied, arrays are not."""
    if isinstance(data, list | tuple):
        return all(map(_stays, data))
    return isinstance(data, int | float | complex | torch.Tensor)


def chosen_text(number: int, n: int) -> str:
    """What is assumed of a mask."""
    return f"{number} of {n} elements are chosen"


def empty_like(shape: Any, place: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    """A tensor without data where `place` is: of a shape, or like another tensor."""
    if isinstance(shape, torch.Tensor):
        stride = shape.stride() if covers(shape) else shape.contiguous().stride()
        return torch.empty_strided(shape.shape, stride, dtype=shape.dtype, device=place.device)
    return torch.empty(shape, dtype=dtype, device=place.device)
