"""What fvcore reads from a trace: the operators that a forward calls, by name and by module.

fvcore traces by TorchScript, which notes an operator as the program called it: `linear`, `matmul`
and `einsum`, not the `addmm` and `bmm` that they become. A dispatch mode sees them in inference
mode. Each runs in a region of its own (`flopdispatch.scope`), and what is counted there is its
cost.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch.capture.module_calls import follow, scope, unfollow
from flopdispatch.capture.private import is_composite, resolving, run_composite
from flopdispatch.compat.fvcore_names import UNNOTED, kind_of
from flopdispatch.compat.fvcore_values import Value
from flopdispatch.compat.running import profiled
from flopdispatch.errors import FlopDispatchError, UncountedOperatorWarning
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry
from flopdispatch.rules import UNCOUNTED, name_of
from flopdispatch.spec import signature

# What a trace has after the arguments of `convolution`, of which `_convolution` is noted:
# benchmark, deterministic, cudnn_enabled, allow_tf32.
FLAGS = (False, False, True, True)


class Place(NamedTuple):
    """An operator in the modules that call one another down to it, by their names."""

    callers: tuple[str, ...]
    kind: str


class Call(NamedTuple):
    """One call of an operator that has a handle."""

    place: Place
    inputs: list[Value]
    outputs: list[Value]


class Trace(NamedTuple):
    """What a forward ran: how often each operator in each place, and its MACs.

    `uncounted` are operators without a formula that ran below the one that was called.
    """

    times: dict[Place, int]
    macs: dict[Place, int]
    uncounted: dict[tuple[Place, str], int]
    calls: list[Call]


class Operators(TorchDispatchMode):
    """Notes what a model calls, and has each counted in a region of its own.

    `names` are the names of its modules, `handled` the operators of which each call is kept.
    """

    supports_higher_order_operators = True

    def __init__(self, names: Mapping[nn.Module, str], handled: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.handled = handled
        self.start()

    def start(self) -> None:
        """Forget what ran."""
        self.callers: tuple[str, ...] = ("",)
        self.stack: list[tuple[nn.Module, tuple[str, ...]]] = []
        self.places: dict[Place, int] = {}  # by the order in which they came
        self.times: dict[Place, int] = {}
        self.calls: list[Call] = []

    # Modules: what `module_calls.follow` asks for

    def begin(self, module: nn.Module) -> None:
        """A module is called."""
        self.stack.append((module, self.callers))
        name = self.names.get(module)
        if name is not None and name != self.callers[-1]:
            self.callers = (*self.callers, name)

    def begin_region(self, region: object, name: str) -> None:
        """Regions are no modules."""

    def end(self, begun: object) -> None:
        """A module is left."""
        if self.stack and self.stack[-1][0] is begun:
            self.callers = self.stack.pop()[1]

    def elsewhere(self) -> None:
        """A forward has no other thread."""

    # Operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        if not kind:
            return func(*args, **kwargs)
        if kind in UNNOTED and is_composite(func):
            with self:
                return resolving(run_composite)(func, args, kwargs)
        place = Place(self.callers, kind)
        self.times[place] = self.times.get(place, 0) + 1
        inputs = inputs_of(func, args, kwargs) if kind in self.handled else []
        with scope(f"{kind}@{self.places.setdefault(place, len(self.places))}"):
            out = func(*args, **kwargs)
        if kind in self.handled:
            outputs = out if isinstance(out, tuple) else (out,)
            self.calls.append(Call(place, inputs, [Value.of(value) for value in outputs]))
        return out

    def trace(self, profile: Profile) -> Trace:
        """What ran, with what the profile says that it costs."""
        known = {f"{place.kind}@{index}": place for place, index in self.places.items()}
        macs: dict[Place, int] = {}
        uncounted: dict[tuple[Place, str], int] = {}
        for row in profile.rows:
            call, price = profile.calls[row.call], profile.prices[row.call]
            own = kind_of(call.overload) or name_of(call.overload)
            regions = [known[part] for part in row.scope.split(".") if part in known]
            # In no region runs what is called by an operator that takes functions, as does that.
            place = regions[0] if regions else Place(self._callers_at(row.scope), own)
            macs[place] = macs.get(place, 0) + price.cost.macs * row.times
            is_missing = price.state == UNCOUNTED
            if not regions and (is_missing or not own.startswith("higher_order::")):
                self.times[place] = self.times.get(place, 0) + row.times
            elif is_missing and own != place.kind:
                uncounted[place, own] = uncounted.get((place, own), 0) + row.times
        return Trace(self.times, macs, uncounted, self.calls)

    def _callers_at(self, path: str) -> tuple[str, ...]:
        """The module of a path of the profile: the last part of it that is the name of one."""
        names = set(self.names.values())
        below = path.removeprefix(f"{Run.__name__}.model").lstrip(".")
        while below not in names:
            below = below.rpartition(".")[0]
        return (below,)


def inputs_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Value]:
    """All arguments in the schema's order, defaults filled in."""
    names, defaults = signature(func)
    given = dict(zip(names, args)) | kwargs
    values = [given.get(name, default) for name, default in zip(names, defaults)]
    flags = FLAGS if func is torch.ops.aten.convolution.default else ()
    return [Value.of(value) for value in (*values, *flags)]


class Run(nn.Module):
    """A model, and how it runs for a trace."""

    def __init__(self, model: nn.Module, operators: Operators, inference: bool) -> None:
        super().__init__()
        self.model = model
        self.operators = operators
        self.inference = inference
        self.grad = torch.is_grad_enabled()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        inference = torch.inference_mode() if self.inference else torch.set_grad_enabled(self.grad)
        with inference, layers_whole(), followed(self.operators):
            return self.model(*args, **kwargs)


@contextmanager
def followed(operators: Operators) -> Iterator[None]:
    """Note the modules and operators that this thread calls."""
    operators.start()
    follow(operators)
    try:
        with operators:
            yield
    finally:
        unfollow(operators)


@contextmanager
def layers_whole() -> Iterator[None]:
    """Have attention layers call their modules, as they do where gradients are enabled."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def traced(
    model: nn.Module,
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
    convention: str | Registry | None,
    names: Mapping[nn.Module, str],
    handled: Collection[str],
) -> Trace:
    """Run a model's forward in its present modes and note what it calls.

    A model that asks for gradients in its forward can't run in inference mode. It runs as the
    caller would run it, and what is noted are the operators below (`addmm` for `linear`).

    Raises: what the model raises; ArgumentError as `count` does.
    """
    operators = Operators(names, handled)
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module

    def run(inference: bool) -> Profile:
        run = Run(model, operators, inference)
        return profiled(run, inputs, keywords, convention, training=True, shapes=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)  # fvcore's own list has them
        try:
            profile = run(inference=True)
        except FlopDispatchError:
            raise
        except RuntimeError:
            profile = run(inference=False)
    return operators.trace(profile)
