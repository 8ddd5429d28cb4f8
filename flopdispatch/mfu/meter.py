"""MfuMeter: what share of the machine's peak a training loop reaches."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
from flopdispatch.mfu.work import Work, check_figure, shapes_in, state_of
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry

JSON_LINES = json_lines()


class Timed(NamedTuple):
    """A step that was timed: its cost, the marks of its time, and what went through the model."""

    work: Work
    span: tuple[Any, Any]
    tokens: int | None
    samples: int | None


@dataclass(slots=True)
class Track:
    """What is known of the steps of one kind."""

    window: deque[Timed]
    steps: int = 0
    counted: int = 0
    last: Any = field(default=None)  # the mark at the end of the step before, if it counts


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
    events in the current stream, and the processor waits for the GPU only when rates are asked for
    or logged. `clock` is a function that says the time in seconds, to measure by that instead.

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
        check_figure(figure)
        self.hardware = None if hardware is None else find_hardware(hardware)
        self.dtype = dtype
        self.figure = figure
        self.window = window
        self.log = log
        self.work: Work | None = None
        self._registry = find_convention(convention)
        self._read = clock
        self._clock: Clock | None = None
        self._model = model if isinstance(model, nn.Module) else None
        self._fixed = None if self._model is not None else self._work(_profile(model))
        self._known: dict[Hashable, Work] = {}
        self._tracks = {kind: Track(deque(maxlen=window)) for kind in (TRAINING, EVALUATION)}
        self._inside = False

    @contextmanager
    def step(
        self,
        batch: Any = None,
        *,
        tokens: int | None = None,
        samples: int | None = None,
        evaluation: bool = False,
        key: Hashable = None,
    ) -> Iterator[None]:
        """A step of the loop, or a part of one when gradients are accumulated.

        `batch` is what it computes on: tensors, in any lists, tuples, dicts and dataclasses. Their
        shapes and dtypes tell steps apart; `key` does so besides, or where there are no tensors to
        look at. Without both, all steps cost the same. `tokens` and `samples` are for the rates.
        `evaluation=True` is a step that isn't of training: such steps have rates of their own.

        An exception comes through as it is. The step that it ended is no step: it is neither
        counted nor timed, and what was known before stays.

        Raises: ArgumentError if no tensor is found in `batch`, or the hardware has no known peak
        for the dtype; CounterStateError inside another step of this meter.
        """
        if self._inside:
            raise CounterStateError(
                "this MfuMeter is in a step already: leave it before the next one begins"
            )
        kind = EVALUATION if evaluation else TRAINING
        name = self._name(batch, key, kind)
        work = self._fixed or self._known.get(name)
        if self._clock is None:
            self._clock = clock_of(self._read)
        track, other = self._tracks[kind], self._tracks[TRAINING if evaluation else EVALUATION]
        other.last = None
        begin = self._clock.mark() if track.last is None else track.last
        counter = None
        if work is None:
            counter = FlopCounter(display=False, convention=self._registry)
        self._inside = True
        try:
            with counting(counter) if counter else nullcontext():
                yield
        except BaseException:
            track.last = None
            raise
        finally:
            self._inside = False
        track.steps += 1
        if counter is not None:
            work = self._known[name] = self._work(counter.profile)
            track.counted += 1
            self.work, track.last = work, self._clock.mark()
            return
        assert work is not None
        self.work, track.last = work, self._clock.mark()
        track.window.append(Timed(work, (begin, track.last), tokens, samples))
        if (track.steps - track.counted) % self.window == 0 and self.log and _rank() == 0:
            rates = self.rates(evaluation)
            assert rates is not None
            self.log(rates)

    def expect(
        self, batch: Any, profile: Profile, *, evaluation: bool = False, key: Hashable = None
    ) -> None:
        """Take the cost of a step on such a batch, in the model's present state, from a profile.

        `count(model, ..., backward=True)` gives one before training, on meta; the step isn't
        counted then. `batch`, `evaluation` and `key` are as for `step`.

        Raises: ArgumentError if no tensor is in `batch`, or the hardware has no known peak.
        """
        kind = EVALUATION if evaluation else TRAINING
        self._known[self._name(batch, key, kind)] = self._work(profile)

    def recount(self) -> None:
        """Count each kind of step again: after a change that neither shapes nor modes tell of."""
        self._known.clear()

    def pause(self) -> None:
        """Leave the time from now to the next step out of the rates: saving, a long report."""
        for track in self._tracks.values():
            track.last = None

    def rates(self, evaluation: bool = False) -> Rates | None:
        """The rates of the last steps on this rank; None before one was timed."""
        kind = EVALUATION if evaluation else TRAINING
        track = self._tracks[kind]
        if not track.window or self._clock is None:
            return None
        timed = list(track.window)
        seconds = self._clock.seconds([step.span for step in timed])
        return Rates(
            kind=kind,
            step=track.steps,
            steps=len(timed),
            counted=track.counted,
            seconds=seconds,
            model_flops=sum(step.work.model_flops for step in timed),
            hardware_flops=sum(step.work.hardware_flops for step in timed),
            tokens=total([step.tokens for step in timed]),
            samples=total([step.samples for step in timed]),
            mfu=self._share([(step.work, step.work.model_flops) for step in timed], seconds),
            hfu=self._share([(step.work, step.work.hardware_flops) for step in timed], seconds),
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

    def _name(self, batch: Any, key: Hashable, kind: str) -> Hashable:
        """What is the same for two steps that cost the same."""
        shapes = () if batch is None else shapes_in(batch)
        return kind, key, shapes, () if self._model is None else state_of(self._model)

    def _work(self, profile: Profile) -> Work:
        """What a profile costs, of which the peak is known."""
        work = Work.of(profile, self.figure)
        self._peak(work)
        return work

    def _peak(self, work: Work) -> float | None:
        dtype = self.dtype or work.dtype
        return None if self.hardware is None or dtype is None else self.hardware.peak(dtype)

    def _share(self, flops: list[tuple[Work, int]], seconds: float) -> float | None:
        """The time that FLOPs take at the peak, as a share of a time."""
        peaks = [(number, self._peak(work)) for work, number in flops]
        at_peak = [number / peak for number, peak in peaks if peak is not None]
        return sum(at_peak) / seconds if seconds and len(at_peak) == len(peaks) else None


@contextmanager
def counting(counter: FlopCounter) -> Iterator[None]:
    """Count a block, in which compiled code runs as eager code.

    Torch does so under a counter by itself, but 2.9 then leaves that code eager for good.
    """
    compiles = "torch._dynamo" in sys.modules  # what has compiled anything imported it
    with torch.compiler.set_stance("force_eager") if compiles else nullcontext():
        with counter:
            yield


def _profile(counted: Profile | FlopCounter | nn.Module) -> Profile:
    assert not isinstance(counted, nn.Module)
    return counted if isinstance(counted, Profile) else counted.profile


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _rank() -> int:
    return distributed.get_rank() if _grouped() else 0
