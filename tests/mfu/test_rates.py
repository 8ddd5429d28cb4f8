"""Rates are exact under a clock that is told the time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from flopdispatch import FlopCounter, MfuMeter, count
from flopdispatch.errors import ArgumentError, CounterStateError
from flopdispatch.hardware import Hardware
from flopdispatch.mfu import Rates, Work, json_lines
from flopdispatch.mfu.clocks import CudaClock, HostClock, clock_of
from tests.mfu.loops import MACHINE, Net, Ticks, comparable, flops, quiet, trained


def test_rates_are_of_the_last_steps_and_what_lies_between_them() -> None:
    meter, ticks = quiet(count(Net(), (2, 8), backward=True), window=2)
    assert meter.rates() is None
    assert meter.mfu is meter.hfu is None
    for seconds in (1.0, 2.0, 3.0):
        ticks.now += 1.0  # loading data
        with meter.step(tokens=10, samples=2):
            ticks.now += seconds
    rates = meter.rates()
    assert rates is not None
    assert (rates.step, rates.steps, rates.seconds) == (3, 2, 3.0 + 4.0)
    assert (rates.tokens_per_s, rates.samples_per_s) == (20 / 7, 4 / 7)
    assert rates.model_flops == 2 * 896
    assert meter.mfu == pytest.approx(2 * 896 / 1000 / 7)


def test_a_counted_step_and_a_pause_take_no_time() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, ticks = quiet(model)
    for _ in range(2):
        with meter.step(x):
            trained(model, x)
            ticks.now += 100.0 if meter.work is None else 1.0
    meter.pause()
    ticks.now += 50.0
    with meter.step(x):
        trained(model, x)
        ticks.now += 2.0
    rates = meter.rates()
    assert rates is not None
    assert (rates.steps, rates.seconds) == (2, 3.0)


def test_evaluation_has_rates_of_its_own() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, ticks = quiet(model)
    for evaluation in (False, False, True, True, False):
        ticks.now += 10.0
        with meter.step(x, evaluation=evaluation):
            if evaluation:
                with torch.no_grad():
                    model(x)
            else:
                trained(model, x)
            ticks.now += 1.0
    training, evaluated = meter.rates(), meter.rates(evaluation=True)
    assert training is not None
    assert evaluated is not None
    assert (training.kind, training.steps, training.seconds) == ("training", 2, 11.0 + 1.0)
    assert (evaluated.kind, evaluated.steps, evaluated.seconds) == ("evaluation", 1, 11.0)
    assert evaluated.model_flops == 2 * (2 * 8 * 8 + 2 * 8 * 4)  # forward only


def test_tokens_of_some_steps_only_are_no_rate() -> None:
    meter, ticks = quiet(count(Net(), (2, 8), backward=True))
    for tokens in (5, None):
        with meter.step(tokens=tokens):
            ticks.now += 1.0
    rates = meter.rates()
    assert rates is not None
    assert rates.tokens_per_s is None


def test_amounts_may_be_tensors_of_one_number() -> None:
    stream = io.StringIO()
    profile = count(Net(), (2, 8), backward=True)
    meter, ticks = quiet(profile, window=2, log=json_lines(stream))
    for tokens in (torch.tensor(5), torch.ones(3).sum()):
        with meter.step(tokens=tokens, samples=1):
            ticks.now += 1.0
    assert json.loads(stream.getvalue())["tokens_per_s"] == (5 + 3) / 2
    with meter.step(tokens="many", samples=1):
        pass
    with pytest.raises(ArgumentError, match="tokens= and samples= take a number"):
        meter.rates()


def test_each_window_is_logged_once() -> None:
    logged: list[Rates] = []
    model, x = Net(), torch.ones(2, 8)
    meter, ticks = quiet(model, window=2, log=logged.append)
    for _ in range(6):  # the first is counted, the last begins a window
        with meter.step(x):
            trained(model, x)
            ticks.now += 1.0
    assert [(rates.step, rates.steps) for rates in logged] == [(3, 2), (5, 2)]


def test_without_hardware_there_are_rates_and_no_mfu() -> None:
    ticks = Ticks()
    meter = MfuMeter(count(Net(), (2, 8), backward=True), log=None, clock=ticks)
    with meter.step():
        ticks.now += 2.0
    rates = meter.rates()
    assert rates is not None
    assert (rates.mfu, rates.hfu, rates.model_flop_per_s) == (None, None, 896 / 2)


# Exceptions


def broken(meter: MfuMeter, model: nn.Module, x: torch.Tensor) -> None:
    with meter.step(x):
        trained(model, x)
        raise KeyError("mine")


def test_an_exception_ends_the_step_and_nothing_else() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, ticks = quiet(model)
    for known in (False, True):
        with pytest.raises(KeyError, match="mine"):
            broken(meter, model, x)
        assert _get_current_dispatch_mode_stack() == []
        before = meter.rates()
        ticks.now += 100.0
        for _ in range(2):
            with meter.step(x):
                trained(model, x)
                ticks.now += 1.0
        rates = meter.rates()
        assert rates is not None
        assert (rates.counted, rates.steps) == (1, 3 if known else 1)
        assert rates.seconds == (3.0 if known else 1.0)
        assert (before is not None) == known
        assert flops(meter) == comparable(lambda: trained(model, x))


def test_steps_do_not_nest() -> None:
    meter, _ = quiet(count(Net(), (2, 8)))
    with pytest.raises(CounterStateError, match="in a step already"), meter.step():
        with meter.step():
            pass
    with meter.step():
        pass


# Arguments


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MfuMeter("resnet50"), "expected a module"),  # type: ignore[arg-type]
        (lambda: MfuMeter(Net(), "HAL 9000"), "no device 'HAL 9000' is known"),
        (lambda: MfuMeter(Net(), window=0), "window= takes a number of steps >= 1, got 0"),
        (lambda: MfuMeter(Net(), figure="macs"), "figure= takes one of comparable, flops"),
        (lambda: MfuMeter(Net()).expect(["text"], count(Net(), (2, 8))), "no tensor is in"),
        (lambda: MfuMeter(Net()).expect(None, None), "the Profile or FlopCounter of one step"),  # type: ignore[arg-type]
        (lambda: MfuMeter(Net()).step(key=[1]), r"key= takes anything hashable, got \[1\]"),  # type: ignore[arg-type]
        (lambda: MfuMeter(FlopCounter(display=False)), "one that has counted nothing"),
        (lambda: MfuMeter(Net(), MACHINE, dtype="tf32"), "machine has no known peak rate of tf32"),
        (lambda: MfuMeter(Net(), log="mfu.jsonl"), "log= takes a function or None, got 'mfu"),  # type: ignore[arg-type]
        (lambda: MfuMeter(Net(), clock=1.0), "clock= takes a function or None, got 1.0"),  # type: ignore[arg-type]
        (
            lambda: MfuMeter(count(Net(), (2, 8)), MACHINE, dtype="float16"),
            "machine has no known peak rate of float16",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        make()


def test_tf32_is_asked_for_by_name() -> None:
    machine = Hardware("machine", peaks={"float32": 1000.0, "tf32": 8000.0}, bandwidth=1.0)
    ticks = Ticks()
    profile = count(Net(), (2, 8), backward=True)
    meter = MfuMeter(profile, machine, dtype="tf32", log=None, clock=ticks)
    with meter.step():
        ticks.now += 1.0
    assert meter.mfu == 896 / 8000
    assert meter.work == Work(896, 896, torch.float32)


# On CUDA


class Event:
    """A CUDA event that remembers when it was recorded, on a stream that runs a second late."""

    now = 0.0
    waits = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        assert stream == "current stream"
        self.reached = Event.now + 1.0

    def synchronize(self) -> None:
        Event.waits += 1

    def elapsed_time(self, later: Event) -> float:
        return 1000 * (later.reached - self.reached)  # milliseconds


def test_on_cuda_time_is_between_events_and_waited_for_at_the_end_of_a_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "current stream")
    monkeypatch.setattr(Event, "now", 0.0)
    monkeypatch.setattr(Event, "waits", 0)
    logged: list[Rates] = []
    meter, _ = quiet(count(Net(), (2, 8)), clock=None, window=3, log=logged.append)
    waits = []
    for _ in range(6):
        with meter.step():
            Event.now += 2.0
        waits.append(Event.waits)
    assert waits == [0, 0, 1, 1, 1, 2]
    assert [rates.seconds for rates in logged] == [6.0, 6.0]


def test_on_cuda_time_is_that_of_the_gpu_that_the_model_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class There:
        """A parameter on another GPU than the current one."""

        is_cuda = True
        device = torch.device("cuda", 1)

    model = nn.Linear(8, 4)
    assert isinstance(clock_of(None, model), HostClock)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    clocks = [clock_of(None, model), clock_of(None, None)]
    monkeypatch.setattr(model, "parameters", lambda: [torch.ones(1), There()])
    clocks.append(clock_of(None, model))
    assert all(isinstance(clock, CudaClock) for clock in clocks)
    asked: list[Any] = []

    def current_stream(device: Any) -> str:
        asked.append(device)
        return "current stream"

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    for clock in clocks:
        clock.mark()
    assert asked == [None, None, torch.device("cuda", 1)]
