"""How long each module of a model takes, and what shapes go in and out: on real tensors.

Hooks of all modules, none of the model's own: these would turn fused kernels off.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from flopdispatch.capture.private import forget_hook
from flopdispatch.capture.recording import Recording
from flopdispatch.capture.scopes import ScopeTracker
from flopdispatch.inputs import on_stand_ins

Shape = tuple[int, ...]


@dataclass(slots=True)
class Timing:
    """What was seen of the calls of one module.

    `seconds` leaves out modules that it calls. Shapes are those of the first tensors of its last
    call; `output_nbytes` is of all tensors that it returned, all calls together.
    """

    seconds: float = 0.0
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    output_nbytes: int = 0


@dataclass(slots=True)
class Running:
    """A call that is running: when it began, and the seconds of the calls in it."""

    module: nn.Module
    path: str
    start: float
    inside: float = 0.0


class Stopwatch:
    """Hooks that time the module calls of this thread, by the tracker's paths."""

    def __init__(self, tracker: ScopeTracker, device: torch.device) -> None:
        self.tracker = tracker
        self.device = device
        self.thread = threading.get_ident()
        self.running: list[Running] = []
        self.timings: dict[str, Timing] = {}

    def now(self) -> float:
        """Seconds, once the device is done with what it was given."""
        if self.device.type not in ("cpu", "meta"):
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def before(self, module: nn.Module, args: Any) -> None:
        """A module's forward begins."""
        if threading.get_ident() == self.thread:
            self.running.append(Running(module, self.tracker.current.name, self.now()))

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """It returned; what ended by an exception that the model caught has no time."""
        if threading.get_ident() != self.thread:
            return
        end, begun = self.now(), self.running.pop()
        while begun.module is not module:
            begun = self.running.pop()
        seconds = end - begun.start
        if self.running:
            self.running[-1].inside += seconds
        found = self.timings.setdefault(begun.path, Timing())
        found.seconds += seconds - begun.inside
        given, made = tensors(args) or tensors(kwargs), tensors(output)
        found.input_shape = tuple(given[0].shape) if given else None
        found.output_shape = tuple(made[0].shape) if made else None
        found.output_nbytes += sum(tensor.numel() * tensor.itemsize for tensor in made)


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in arguments or an output, in its fields too."""
    found: list[torch.Tensor] = []
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dataclass_fields__") and not isinstance(leaf, type):
            found += tensors([getattr(leaf, name, None) for name in leaf.__dataclass_fields__])
    return found


def timed(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], device: torch.device
) -> dict[str, Timing]:
    """Run a model on stand-ins for its parameters and buffers; timings by its modules' paths.

    The paths are those of a profile. Compiled models run as they were written.

    Raises: what the model raises.
    """
    tracker = ScopeTracker(Recording())
    watch = Stopwatch(tracker, device)
    handles = [
        register_module_forward_pre_hook(watch.before),
        register_module_forward_hook(watch.after, with_kwargs=True),
    ]
    try:
        with (
            on_stand_ins(model, device) as call,
            tracker,
            torch.compiler.set_stance("force_eager"),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Using `torch.compile")  # of our hooks
            call(args, dict(kwargs))
    finally:
        for handle in handles:
            handle.remove()
            forget_hook(handle)
    return watch.timings
