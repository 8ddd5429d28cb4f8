"""MfuMeter: what share of the machine's peak a training loop reaches."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import distributed, nn

from flopdispatch.conventions import convention as find_convention
from flopdispatch.counter import FlopCounter
from flopdispatch.errors import ArgumentError, CounterStateError
from flopdispatch.hardware import Hardware
from flopdispatch.hardware import hardware as find_hardware
from flopdispatch.mfu.clocks import Clock, clock_of
from flopdispatch.mfu.logs import Log, json_lines
from flopdispatch.mfu.rates import EVALUATION, TRAINING, Rates, together, total
from flopdispatch.mfu.work import Work, check_figure, name_of, state_of
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry

JSON_LINES = json_lines()


# A step that was timed: its cost, the marks of its time, its tokens and samples. It is a plain
# tuple because it is made in every step.
Timed = tuple[Work, tuple[Any, Any], Any, Any]


@dataclass(slots=True)
class Track:
    """What is known of the steps of one kind."""

    window: deque[Timed]
    steps: int = 0
    counted: int = 0


class MfuMeter:
    """Measures MFU and HFU of a loop: each kind of step is counted once, then only timed.

    `model` is the module whose steps these are. A step is counted the first time, and again when
    the shapes in its batch change, or which modules are in training mode or which parameters are
    trained. In all other steps no dispatch mode, hook or counter is active. Instead of a module, a
    Profile or a FlopCounter that has counted one step gives the cost of every step.

    `hardware` is a device's name or a Hardware; without one there are rates but no MFU. The peak is
    that of `dtype` (`"tf32"` may be named), by default of the dtype that most MACs of the step are
    computed in.

    `figure="comparable"` counts matrix products, convolutions and attention, as papers do for MFU;
    `"flops"` counts every floating-point operation. `convention` is as for FlopCounter.

    A step's time goes from the end of the one before to its own end, so that loading data and all
    else between steps is in it. Steps that are counted aren't timed. On CUDA the times are those of
    events in the current stream of the model's GPU, and the processor waits for it only when rates
    are asked for or logged. `clock` is a function that says the time in seconds, to measure by that
    instead.

    `rates()` are of the last `window` steps; every `window` timed steps they go to `log`, any
    callable or None, on rank 0 of a process group. Each rank counts its own FLOPs against its own
    peak; `gathered()` is of all ranks.

    Raises: ArgumentError for arguments that can't be used.

    Example:

        >>> from flopdispatch.hardware import Hardware
        >>> from itertools import count as ticks
        >>> mine = Hardware("mine", peaks={"float32": 1024.0}, bandwidth=1.0)
        >>> model, x = nn.Linear(8, 4), torch.ones(2, 8)
        >>> meter = MfuMeter(model, mine, log=None, clock=ticks().__next__)  # a second a look
        >>> for _ in range(3):
        ...     with meter.step(x, samples=2):
        ...         model(x).sum().backward()
        >>> meter.work.model_flops  # 2 x 2·8·4 MACs forward, and as many backward
        256
        >>> meter.mfu, meter.rates().samples_per_s
        (0.25, 2.0)
    """

    def __init__(
        self,
        model: nn.Module | Profile | FlopCounter,
        hardware: str | Hardware | None = None,
        *,
        dtype: torch.dtype | str | None = None,
        figure: str = "comparable",
        window: int = 20,
        log: Log | None = JSON_LINES,
        clock: Callable[[], float] | None = None,
        convention: str | Registry | None = None,
    ) -> None:
        if not isinstance(model, nn.Module | Profile | FlopCounter):
            raise ArgumentError(
                f"expected a module, or the Profile or FlopCounter of one step, got {model!r}"
            )
        if type(window) is not int or window < 1:
            raise ArgumentError(f"window= takes a number of steps >= 1, got {window!r}")
        for name, given in (("log", log), ("clock", clock)):
            if given is not None and not callable(given):
                raise ArgumentError(f"{name}= takes a function or None, got {given!r}")
        check_figure(figure)
        self.hardware = None if hardware is None else find_hardware(hardware)
        if self.hardware is not None and dtype is not None:
            self.hardware.peak(dtype)  # raises where none is known
        self.dtype = dtype
        self.figure = figure
        self.window = window
        self.log = log
        self.work: Work | None = None
        self._registry = find_convention(convention)
        self._read = clock
        self._clock: Clock | None = None
        self._model = model if isinstance(model, nn.Module) else None
        self._fixed = None if isinstance(model, nn.Module) else self._work(profile_of(model))
        # By state first: that of a large model is thousands of flags, and batches have many shapes.
        self._known: dict[Hashable, dict[Hashable, Work]] = {}
        self._tracks = {kind: Track(deque(maxlen=window)) for kind in (TRAINING, EVALUATION)}
        self._last: tuple[str, Any] | None = None  # kind and mark of the end that a step begins at
        self._inside = False

    def step(
        self,
        batch: Any = None,
        *,
        tokens: Any = None,
        samples: Any = None,
        evaluation: bool = False,
        key: Hashable = None,
    ) -> AbstractContextManager[None]:
        """A step of the loop, or a part of one when gradients are accumulated.

        `batch` is what it computes on: tensors, in any lists, tuples, mappings and dataclasses.
        Their shapes and dtypes tell steps apart, and the keys that lead to them; `key` does so
        besides, or where there are no tensors to look at. Without both, all steps cost the same.
        `tokens` and `samples` are how many there are, for the rates: numbers, or tensors of one
        number, which are read when rates are asked for. `evaluation=True` is a step that isn't of
        training: such steps have rates of their own.

        An exception comes through as it is. The step that it ended is no step: it is neither
        counted nor timed, and what was known before stays.

        Raises: ArgumentError if no tensor is found in `batch` and there is no `key`, or the
        hardware has no known peak for the dtype; CounterStateError inside another step of this
        meter.
        """
        kind = EVALUATION if evaluation else TRAINING
        return Step(self, kind, name_of(batch, key), tokens, samples)

    def expect(
        self,
        batch: Any,
        profile: Profile | FlopCounter,
        *,
        evaluation: bool = False,
        key: Hashable = None,
    ) -> None:
        """Take the cost of a step on such a batch, in the model's present state, from a profile.

        `count(model, ..., backward=True)` gives one before training, on meta; the step isn't
        counted then. `batch`, `evaluation` and `key` are as for `step`.

        Raises: ArgumentError if no tensor is in `batch` and there is no `key`, the profile is of
        nothing, or the hardware has no known peak.
        """
        kind = EVALUATION if evaluation else TRAINING
        name = kind, name_of(batch, key)
        self._works()[name] = self._work(profile_of(profile))

    def recount(self) -> None:
        """Count each kind of step again: after a change that neither shapes nor modes tell of."""
        self._known.clear()

    def pause(self) -> None:
        """Leave the time from now to the next step out of the rates: saving, a long report."""
        self._last = None

    def rates(self, evaluation: bool = False) -> Rates | None:
        """The rates of the last steps on this rank; None before one was timed."""
        kind = EVALUATION if evaluation else TRAINING
        track = self._tracks[kind]
        if not track.window or self._clock is None:
            return None
        works, spans, tokens, samples = zip(*track.window)
        seconds = self._clock.seconds(spans)
        return Rates(
            kind=kind,
            step=track.steps,
            steps=len(works),
            counted=track.counted,
            seconds=seconds,
            model_flops=sum(work.model_flops for work in works),
            hardware_flops=sum(work.hardware_flops for work in works),
            tokens=total(tokens),
            samples=total(samples),
            mfu=self._share(((work, work.model_flops) for work in works), seconds),
            hfu=self._share(((work, work.hardware_flops) for work in works), seconds),
        )

    def gathered(self, evaluation: bool = False) -> Rates | None:
        """The rates of all ranks together, in the time of the slowest.

        Every rank of the process group has to call it. None if one has timed no step yet.
        """
        mine = self.rates(evaluation)
        if not _grouped():
            return mine
        found: list[Rates | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, mine)
        known = [rates for rates in found if rates is not None]
        return together(known) if len(known) == len(found) else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization in the last training steps: 0.5 is half of the peak."""
        rates = self.rates()
        return rates.mfu if rates else None

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs utilization in the last training steps, recomputation included."""
        rates = self.rates()
        return rates.hfu if rates else None

    def _works(self) -> dict[Hashable, Work]:
        """What steps cost in the model's present state, by kind and batch."""
        return self._known.setdefault(() if self._model is None else state_of(self._model), {})

    def _work(self, profile: Profile) -> Work:
        """What a profile costs, of which the peak is known."""
        work = Work.of(profile, self.figure)
        self._share([(work, work.hardware_flops)], 1.0)  # raises where none is known
        return work

    def _share(self, flops: Iterable[tuple[Work, int]], seconds: float) -> float | None:
        """The time that FLOPs take at the peak, as a share of a time."""
        if self.hardware is None or not seconds:
            return None
        by_dtype: dict[torch.dtype | None, int] = {}
        for work, number in flops:
            by_dtype[work.dtype] = by_dtype.get(work.dtype, 0) + number
        at_peak = 0.0
        for dtype, number in by_dtype.items():
            if number:
                rate = self.dtype or dtype
                if rate is None:
                    return None
                at_peak += number / self.hardware.peak(rate)
        return at_peak / seconds


class Step(AbstractContextManager[None]):
    """A step of a meter: counted if it is the first of its kind, else timed.

    It is entered and left in every step of a loop, from caches that hold the loop's data by then:
    each function that is called and each object that is looked at takes time.
    """

    __slots__ = ("_begin", "_block", "_clock", "_counter", "_kind", "_meter", "_name", "_samples",
                 "_tokens", "_work", "_works")  # fmt: skip

    def __init__(
        self, meter: MfuMeter, kind: str, name: Hashable, tokens: Any, samples: Any
    ) -> None:
        self._meter, self._kind, self._name = meter, kind, (kind, name)
        self._tokens, self._samples = tokens, samples

    def __enter__(self) -> None:
        meter = self._meter
        if meter._inside:
            raise CounterStateError(
                "this MfuMeter is in a step already: leave it before the next one begins"
            )
        self._works = meter._works()
        self._work = meter._fixed or self._works.get(self._name)
        if meter._clock is None:
            meter._clock = clock_of(meter._read, meter._model)
        self._clock = meter._clock
        if self._work is None:
            self._counter = FlopCounter(display=False, convention=meter._registry)
            self._block = counting(self._counter)
            self._block.__enter__()
        else:
            last = meter._last
            if last is not None and last[0] == self._kind:
                self._begin = last[1]
            else:
                self._begin = self._clock.mark()
        meter._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        meter, work = self._meter, self._work
        meter._inside, meter._last = False, None
        if work is None:
            self._block.__exit__(kind, error, traceback)
        if kind is not None:
            return
        track = meter._tracks[self._kind]
        if work is None:
            meter.work = self._works[self._name] = meter._work(self._counter.profile)
            track.steps, track.counted = track.steps + 1, track.counted + 1
            meter._last = self._kind, self._clock.mark()
            return
        end = self._clock.mark()
        meter.work, meter._last = work, (self._kind, end)
        track.steps += 1
        track.window.append((work, (self._begin, end), self._tokens, self._samples))
        if (track.steps - track.counted) % meter.window == 0 and meter.log and _rank() == 0:
            rates = meter.rates(self._kind == EVALUATION)
            assert rates is not None
            meter.log(rates)


@contextmanager
def counting(counter: FlopCounter) -> Iterator[None]:
    """Count a block, in which compiled code runs as eager code.

    Torch does so under a counter by itself, but 2.9 then leaves that code eager for good.
    """
    compiles = "torch._dynamo" in sys.modules  # what has compiled anything imported it
    with torch.compiler.set_stance("force_eager") if compiles else nullcontext():
        with counter:
            yield


def profile_of(counted: Profile | FlopCounter) -> Profile:
    """The profile of a step.

    Raises: ArgumentError if nothing was counted.
    """
    if not isinstance(counted, Profile | FlopCounter):
        raise ArgumentError(f"expected the Profile or FlopCounter of one step, got {counted!r}")
    profile = counted if isinstance(counted, Profile) else counted.profile
    if not profile.rows:
        raise ArgumentError(
            "expected the Profile or FlopCounter of one step, got one that has counted nothing: "
            "give the module, whose first step is counted, or count a step before"
        )
    return profile


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _rank() -> int:
    return distributed.get_rank() if _grouped() else 0
