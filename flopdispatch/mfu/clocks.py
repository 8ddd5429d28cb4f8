"""Marks in time that cost a step nothing: what lies between two is asked for later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn


class Clock(Protocol):
    """Makes marks, and says how many seconds lie between them."""

    @property
    def mark(self) -> Callable[[], Any]:
        """Marks this moment."""

    def seconds(self, spans: Iterable[tuple[Any, Any]]) -> float:
        """The sum of the times from the first mark of each pair to the second."""


class HostClock:
    """What the processor reads: right where operators are done when their call returns."""

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self.mark = read

    def seconds(self, spans: Iterable[tuple[float, float]]) -> float:
        """The sum of the times."""
        return sum((end - begin for begin, end in spans), 0.0)


class CudaClock:
    """Events in a GPU's stream: nothing waits for them but `seconds`."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def mark(self) -> Any:
        """An event in the current stream, which says when the GPU comes to it."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, spans: Iterable[tuple[Any, Any]]) -> float:
        """The sum of the times, once the GPU has come to the last mark."""
        spans = list(spans)
        if spans:
            spans[-1][1].synchronize()
        return sum((begin.elapsed_time(end) / 1000 for begin, end in spans), 0.0)


def clock_of(read: Callable[[], float] | None, model: nn.Module | None) -> Clock:
    """The clock of a model's steps: the host's where it is told how to read it or has no GPU.

    On CUDA it is of the GPU that the model is on, else of the current one.
    """
    if read is not None:
        return HostClock(read)
    if not torch.cuda.is_initialized():
        return HostClock()
    parameters = [] if model is None else model.parameters()
    return CudaClock(next((p.device for p in parameters if p.is_cuda), None))
