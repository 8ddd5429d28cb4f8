"""FlopCounter and count(): the front door."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import nn

from flopdispatch.assumptions import Assume
from flopdispatch.capture.literals import literals
from flopdispatch.capture.mode import RecordingMode
from flopdispatch.capture.questions import Questions
from flopdispatch.capture.recording import Recording, merged_modules
from flopdispatch.capture.scopes import ScopeTracker
from flopdispatch.capture.threads import Workers
from flopdispatch.conventions import convention as find_convention
from flopdispatch.errors import (
    ArgumentError,
    CounterStateError,
    UncountedOperatorError,
    UncountedOperatorWarning,
)
from flopdispatch.inputs import (
    Told,
    inputs_on,
    is_here,
    model_to_run,
    on_stand_ins,
    tell_nobody,
    tensors_in,
    why_not_without_data,
)
from flopdispatch.profile import Profile, check_depth
from flopdispatch.registry import Registry
from flopdispatch.rules import name_of
from flopdispatch.saved import SavedTensors
from flopdispatch.terminal import width
from flopdispatch.training import MakesOptimizer, grad_mode, made_optimizer, run_backward
from flopdispatch.units import some

NOT_CAST = (
    "torch.autocast casts nothing on meta: operators ran in the dtypes of what they were given"
)
FAKES_END_THE_PROCESS = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10)

Counter = TypeVar("Counter", bound="FlopCounter")


class FlopCounter:
    """Counts what runs in its `with` block, on any device, forward, backward and optimizer.

    `display=False` keeps it from printing its table at the end; `depth` limits the table.
    `strict=True` raises UncountedOperatorError at the end if an operator without a formula
    ran. `convention` is a Registry or the name of one.

    On meta, a call like one that has run already is answered without running its kernel;
    `meta_cache=False` runs every kernel. Results are the same.

    A program on meta that asks for values (`.item()`, `nonzero`, an `if`) fails as it does
    without a counter. With `assume=Assume()` it gets the true answer where the values are known
    without data, else what that says; such answers are in `profile.assumptions`, and under
    `strict=True` raise DataDependentError.

    A counter counts its own thread. With `threads=True` it also counts the threads that are
    started in the block, by its own or by one of these, while the block is active.

    `flops`, `macs`, `params` and `profile` are live inside the block and final after it.
    Entered again, it starts afresh.

    Raises: ArgumentError for an unknown convention; CounterStateError if entered while it is
    active.

    Example:

        >>> model, x = torch.nn.Linear(8, 4), torch.ones(2, 8)
        >>> with FlopCounter(display=False) as counter:
        ...     loss = model(x).sum()
        ...     loss.backward()
        >>> counter.macs  # 2 x 8 x 4 forward, and as many for the weight's gradient
        128
    """

    def __init__(
        self,
        *,
        display: bool = True,
        depth: int | None = None,
        strict: bool = False,
        convention: str | Registry | None = None,
        meta_cache: bool = True,
        threads: bool = False,
        assume: Assume | None = None,
    ) -> None:
        check_depth(depth)
        if assume is not None and not isinstance(assume, Assume):
            raise ArgumentError(f"assume= takes an Assume or None, got {assume!r}")
        self._questions = None if assume is None else Questions(assume, strict)
        self.meta_cache = meta_cache
        self.threads = threads
        self.display = display
        self.depth = depth
        self.strict = strict
        self.registry = find_convention(convention)
        self._active = False
        self._start()

    def _start(self) -> None:
        self._recording = Recording()
        self._tracker = ScopeTracker(self._recording)
        self._mode = RecordingMode(self._tracker, self.meta_cache, self._questions)
        self._watching = ExitStack()
        self._workers = Workers(self._tracker, self._mode)
        self._profile: Profile | None = None

    def __enter__(self: Counter) -> Counter:
        if self._active:
            raise CounterStateError(
                "this FlopCounter is counting already; use a second FlopCounter for a block "
                "inside its block, or leave the block before entering it again"
            )
        self._start()
        self._tracker.__enter__()
        if self._questions is not None:
            self._questions.tells(self._tracker)
            self._questions.known.recall()
            self._watching.enter_context(literals(self._questions.literal))
        self._mode.__enter__()
        if self.threads:
            self._workers.__enter__()
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._active = False
        if self.threads:
            self._workers.__exit__(kind, error, traceback)
        self._mode.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        self._watching.close()
        if self._questions is not None:
            self._questions.forget()
        self._tracker.__exit__(kind, error, traceback)
        if kind is not None:
            return
        profile = self.profile
        if self.display:
            print(profile.table(depth=self.depth, width=width()))
        report_uncounted(profile, self.strict)

    def pause(self) -> None:
        """Count nothing until `resume` is called.

        Raises: CounterStateError if it isn't counting, or paused already.
        """
        self._check_pause(False, "pause() stops a counter that is counting")
        self._workers.set_counting(False)

    def resume(self) -> None:
        """Count again after `pause`.

        Raises: CounterStateError if it isn't paused.
        """
        self._check_pause(True, "resume() goes on with a counter that is paused")
        self._workers.set_counting(True)

    def _check_pause(self, paused: bool, rule: str) -> None:
        if self._active and (self._tracker.counting == 0) == paused:
            return
        state = "not in its block"
        if self._active:
            state = "counting" if paused else "paused already"
        raise CounterStateError(f"{rule}; this one is {state}")

    def reset(self) -> None:
        """Forget what was counted so far; in its block, the counter goes on counting."""
        if self._active:
            for tracker in self._workers.trackers():
                tracker.reset()
        else:
            self._start()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a FlopCounter follows this process and can't be copied or pickled; "
            "its profile can: take counter.profile"
        )

    @property
    def profile(self) -> Profile:
        """What was recorded so far, priced."""
        if self._profile is not None:
            return self._profile
        recording, records = self._recording, self._tracker.tree.records()
        trackers = self._workers.trackers()
        recordings = [part for tracker in trackers for part in tracker.recordings()]
        if len(recordings) > 1:
            recording = Recording.merged(recordings)
        if len(trackers) > 1:
            records = merged_modules(tracker.tree.records() for tracker in trackers)
        profile = Profile.of(recording, records, self.registry)
        if not self._active:
            self._profile = profile
        return profile

    @property
    def flops(self) -> int:
        """Floating-point operations so far."""
        return self.profile.flops

    @property
    def macs(self) -> int:
        """Multiply-accumulates so far."""
        return self.profile.macs

    @property
    def params(self) -> int:
        """Elements of the distinct parameters of the modules seen so far."""
        return self.profile.params


def report_uncounted(profile: Profile, strict: bool) -> None:
    """Say once which operators have no formula.

    Raises: UncountedOperatorError if `strict` and there are any.
    """
    uncounted = profile.uncounted
    if not uncounted:
        return
    lines = []
    for overload, times in uncounted.items():
        scopes = sorted(
            {r.scope for r in profile.rows if profile.calls[r.call].overload == overload}
        )
        shown = some([scope or "the block itself" for scope in scopes])
        error = profile.errors.get(overload)
        because = f" ({error})" if error else ""
        lines.append(f"{name_of(overload)} ran {times} times, in {shown}{because}")
    text = (
        "these operators have no formula that gives a cost, and are missing from the totals: "
        + "; ".join(lines)
        + ". Register a formula on default_registry().overlay('name') and pass it as convention="
    )
    if strict:
        raise UncountedOperatorError(text)
    warnings.warn(text, UncountedOperatorWarning, stacklevel=3)


def count(
    model: Callable[..., Any],
    *inputs: Any,
    backward: bool = False,
    optimizer: MakesOptimizer | None = None,
    saved: bool = False,
    device: str | torch.device = "meta",
    strict: bool = False,
    convention: str | Registry | None = None,
    assume: Assume | None = None,
    **kwargs: Any,
) -> Profile:
    """Count one run of a model, on meta tensors unless told otherwise: no memory, no data.

    A tuple of integers stands for a float tensor of that shape, `spec(2, 128,
    dtype=torch.long)` for any other; all else goes to the model as it is, keyword arguments
    too. The model runs in its present training mode and under the caller's grad mode, on
    stand-ins for its parameters and buffers: nothing of it is copied to meta, moved or
    changed.

    `backward=True` also runs the backward, from the output's `loss` if it has one, else
    from all of its tensors that require gradients. `optimizer`, the class of one or a function
    that makes one of a list of parameters, is a whole training step: the backward and a step of
    the optimizer as all after the first are, on copies of the parameters. `saved=True` also notes
    what autograd keeps of the forward for the backward: `profile.saved`, bytes by module; a forward
    that uses torch.func's transforms fails with it. `device` is where the
    model runs: on one that this machine doesn't have ("cuda" without a GPU) its operators are
    those of that device, on tensors without data, forward only. `strict` and `convention` are as
    for FlopCounter.

    Real tensors among the inputs and the buffers of a real model, up to 8 million elements each,
    and its parameters of up to 64 are values that are known where there are no data: a program
    that asks for what follows from them gets the true answer. `assume` is what to assume of all
    others; each use is in `profile.assumptions`, or under `strict` raises DataDependentError.

    Raises: ArgumentError for arguments that can't be used; DataDependentError where the model
    asks for values that aren't known and nothing is assumed of; UncountedOperatorError under
    `strict`; what the model raises comes through as it is.

    Example:

        >>> count(nn.Linear(8, 4), (2, 8)).macs
        64
        >>> from flopdispatch import spec
        >>> count(nn.Embedding(10, 8), spec(2, 5, dtype=torch.long)).params
        80
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"device= takes 'meta', 'cpu', 'cuda' or a torch.device, got {device!r}"
        ) from error
    model = model_to_run(model)
    here = is_here(place)
    fake = not here and place.type != "meta"
    if fake and FAKES_END_THE_PROCESS:
        raise ArgumentError(
            f"this machine has no {place}, and before version 2.10 torch ends the process at a "
            "convolution there; use device='meta', which is the default, or a newer torch"
        )
    training = optimizer is not None
    if training and not isinstance(model, nn.Module):
        raise ArgumentError(
            f"optimizer= takes a module as the model, whose parameters it trains; got {model!r}"
        )
    backward = backward or training
    if fake and backward:
        raise ArgumentError(
            f"backward=True takes a device that this machine has, and it has no {place}: autograd "
            "runs a thread for it. Count the backward with device='meta', which is the default"
        )
    if assume is None and not here:
        assume = Assume()
    counter = FlopCounter(display=False, strict=strict, convention=convention, assume=assume)
    tell: Told = tell_nobody
    if counter._questions is not None and not here:
        tell = counter._questions.known.stand_in
    faking = fake_tensors() if fake else nullcontext()
    with faking, grad_mode(backward), untouched_random_state(place):
        args = tuple(inputs_on(v, place, f"input {i}", tell) for i, v in enumerate(inputs))
        keywords = {name: inputs_on(v, place, f"{name}=", tell) for name, v in kwargs.items()}
        if isinstance(model, nn.Module):
            calling: AbstractContextManager[Any] = on_stand_ins(model, place, tell, training)
        else:
            calling = nullcontext(lambda args, kwargs: model(*args, **kwargs))
        with calling as call, ExitStack() as counting:
            stepping = made_optimizer(optimizer, call.parameters) if optimizer else None
            counting.enter_context(counter)
            if place.type == "meta" and any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
                counter._recording.assume(NOT_CAST)
            if not isinstance(model, nn.Module):
                counter._tracker.count_as_forward()
            keeping = SavedTensors(counter._tracker) if saved else None
            with keeping.noting() if keeping else nullcontext():
                output = _refusing(call, model, place)(args, keywords)
            known = call.state.values() if isinstance(model, nn.Module) else ()
            kept = keeping.found(known, tensors_in([*args, keywords])) if keeping else None
            if backward:
                run_backward(output)
            if stepping is not None:
                counter.pause()
                stepping.step()  # the first one makes the optimizer's state
                counter.resume()
                stepping.step()
    return replace(counter.profile, saved=kept) if saved else counter.profile


def _refusing(call: Callable[..., Any], model: Any, place: torch.device) -> Callable[..., Any]:
    """A call that says which weights are why its operators can't run without data."""

    def refusing(args: Any, kwargs: Any) -> Any:
        try:
            return call(args, kwargs)
        except NotImplementedError as error:
            reason = why_not_without_data(model) if isinstance(model, nn.Module) else ""
            if reason and not is_here(place):
                raise ArgumentError(
                    f"count() can't run {type(model).__name__} on {place}, without data: {reason}, "
                    "and its operators have no kernels there. Count it with device='cpu' and real "
                    "inputs"
                ) from error
            raise

    return refusing


def untouched_random_state(device: torch.device) -> AbstractContextManager[Any]:
    """Leave the random state as it was; models on meta draw from the CPU's, to drop layers."""
    return torch.random.fork_rng([device] if device.type == "cuda" and is_here(device) else [])


def fake_tensors() -> AbstractContextManager[Any]:
    """Let tensors be made on devices that this machine doesn't have, without data."""
    fake = import_module("torch._subclasses.fake_tensor")  # it imports SymPy
    return fake.FakeTensorMode(allow_non_fake_inputs=True)  # type: ignore[no-any-return]
