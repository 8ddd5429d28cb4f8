"""Counts by module and by operator, asked for as from fvcore's `JitModelAnalysis`."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple, TypeVar

from torch import nn

from flopdispatch.compat.fvcore_names import IGNORED, short_name
from flopdispatch.compat.fvcore_trace import Call, Place, Trace, traced
from flopdispatch.compat.fvcore_values import Value
from flopdispatch.conventions import convention as registry_of
from flopdispatch.errors import ArgumentError, CounterStateError
from flopdispatch.registry import Registry

Handle = Callable[[list[Value], list[Value]], Any]
Self = TypeVar("Self", bound="Analysis")

logger = logging.getLogger("flopdispatch.compat.fvcore")

TRACER_WARNINGS = ("all", "no_tracer_warning", "none")
ANCESTOR_MODES = ("owner", "caller")

# Modules of these forwards run nothing of their own: nobody expects them to be called.
FORWARDLESS = (nn.ModuleList, nn.ModuleDict, nn.Module, nn.Identity)


class UnknownModuleError(ArgumentError, KeyError):
    """A name is no module's of the model."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class Statistics(NamedTuple):
    """What an analysis found, by the modules' names."""

    counts: dict[str, Counter[str]]
    unsupported: dict[str, Counter[str]]
    uncalled: set[str]


class Analysis:
    """Counts of a model's operators for given inputs, worked out when one is first asked for.

    `inputs` is a tensor or a tuple of inputs, shapes among them as for `count`; `kwargs` are
    keyword arguments. Modules go by their names: `""` is the model, `"layer1.0.conv1"` one below.
    An operator has the handle that was set for it, or none; `convention` prices those without one,
    and by None nothing does.

    Raises: ArgumentError if the model is no module or `inputs` is a shape.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        kwargs: Mapping[str, Any] | None = None,
        *,
        convention: str | Registry | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model= takes an nn.Module, got {type(model).__name__}")
        if isinstance(inputs, tuple) and inputs and all(type(size) is int for size in inputs):
            raise ArgumentError(
                f"inputs= takes a tensor or a tuple of inputs; for one input of shape {inputs} "
                f"write ({inputs},)"
            )
        self._model = model
        self._inputs = inputs
        self._kwargs = dict(kwargs or {})
        self._convention = None if convention is None else registry_of(convention)
        self._handles: dict[str, Handle] = {}
        self._ignored = set(IGNORED)
        self._modules = dict(modules_with_names(model))
        self._names: dict[nn.Module, str] = {}
        for name, module in self._modules.items():
            self._names.setdefault(module, name)
        self._stats: Statistics | None = None
        self._warns_unsupported = self._warns_uncalled = True
        self._warns = "no_tracer_warning"
        self._ancestors = "owner"

    # Counts

    def total(self, module_name: str = "") -> int:
        """The count of a module and all below it.

        Raises: UnknownModuleError if there is no module of this name.
        """
        return sum(self.by_operator(module_name).values())

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """The counts of a module by the operators' names.

        Raises: UnknownModuleError if there is no module of this name.
        """
        name = self.canonical_module_name(module_name)
        return self._analyze().counts[name]

    def by_module(self) -> Counter[str]:
        """The count of each module."""
        counts = self._analyze().counts
        return Counter({name: sum(found.values()) for name, found in counts.items()})

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """The counts of each module by the operators' names."""
        return self._analyze().counts

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Operators that ran in a module and add nothing to its counts, and how often.

        Those that are ignored are left out.

        Raises: CounterStateError before the first count is asked for; UnknownModuleError.
        """
        if self._stats is None:
            raise CounterStateError(
                "nothing has run yet that could be unsupported; ask for a count first, such as "
                "total()"
            )
        return self._stats.unsupported[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Modules in which no operator ran, neither in them nor in one that they called.

        As in fvcore, an nn.Identity that was called is among them.
        """
        return self._analyze().uncalled

    def canonical_module_name(self, name: str) -> str:
        """The name that a module's counts go by: the first one of a module that has several.

        Raises: ArgumentError if it is no string; UnknownModuleError if no module has it.
        """
        if not isinstance(name, str):
            raise ArgumentError(f"a module goes by its name, a string; got {type(name).__name__}")
        if name not in self._modules:
            raise UnknownModuleError(
                f"{type(self._model).__name__} has no module {name!r}; the names are those of its "
                "named_modules()"
            )
        return self._names[self._modules[name]]

    # Handles and settings

    def set_op_handle(self: Self, *args: Any, **kwargs: Handle | None) -> Self:
        """Count an operator by a handle, or ignore it by None.

        Takes pairs of a name and a handle, or keywords. `handle(inputs, outputs)` is given lists of
        `Value` and returns a number, or a Counter by names.

        Raises: ArgumentError for a name without a handle, or a handle that can't be called.

        Example: `analysis.set_op_handle("aten::batch_norm", None, "aten::gelu", my_handle)`
        """
        if len(args) % 2 != 0:
            raise ArgumentError(
                f"set_op_handle() takes pairs of a name and a handle, got {len(args)} arguments"
            )
        for name, handle in [*zip(args[::2], args[1::2]), *kwargs.items()]:
            if not isinstance(name, str) or not (handle is None or callable(handle)):
                raise ArgumentError(
                    "set_op_handle() takes an operator's name such as 'aten::matmul' and a "
                    f"function or None, got {name!r} and {handle!r}"
                )
            if handle is None:
                self._handles.pop(name, None)
                self._ignored.add(name)
            else:
                self._handles[name] = handle
                self._ignored.discard(name)
        self._stats = None
        return self

    def clear_op_handles(self: Self) -> Self:
        """Count nothing any more but by handles that are set from now on."""
        self._handles, self._ignored, self._convention = {}, set(IGNORED), None
        self._stats = None
        return self

    def copy(self: Self, new_model: nn.Module | None = None, new_inputs: Any | None = None) -> Self:
        """The same analysis, all its settings kept, of another model or other inputs.

        With other inputs there are no keyword arguments.
        """
        made = type(self)(
            self._model if new_model is None else new_model,
            self._inputs if new_inputs is None else new_inputs,
            self._kwargs if new_inputs is None else None,
        )
        made._handles, made._ignored = dict(self._handles), set(self._ignored)
        made._convention, made._ancestors, made._warns = (
            self._convention, self._ancestors, self._warns,
        )  # fmt: skip
        made._warns_unsupported = self._warns_unsupported
        made._warns_uncalled = self._warns_uncalled
        return made

    def tracer_warnings(self: Self, mode: str) -> Self:
        """Which warnings of the model's own run are shown: by `"none"` none.

        `"all"` and `"no_tracer_warning"` show all: nothing is traced that would warn.

        Raises: ArgumentError for another mode.
        """
        self._warns = _one_of(mode, TRACER_WARNINGS, "tracer_warnings")
        return self

    def ancestor_mode(self: Self, mode: str) -> Self:
        """Which modules an operator counts in.

        `"owner"`: the last one called, and those that its name goes through. `"caller"`: all that
        are running.

        Raises: ArgumentError for another mode.
        """
        self._ancestors = _one_of(mode, ANCESTOR_MODES, "ancestor_mode")
        self._stats = None
        return self

    def unsupported_ops_warnings(self: Self, enabled: bool) -> Self:
        """Whether operators that add nothing are logged."""
        self._warns_unsupported = enabled
        return self

    def uncalled_modules_warnings(self: Self, enabled: bool) -> Self:
        """Whether modules in which no operator ran are logged."""
        self._warns_uncalled = enabled
        return self

    # How

    def _analyze(self, quiet: bool = False) -> Statistics:
        """Run the model and add up, once; say what is missing unless `quiet`."""
        if self._stats is not None:
            return self._stats
        with warnings.catch_warnings():
            if quiet or self._warns == "none":
                warnings.simplefilter("ignore")
            inputs = self._inputs if isinstance(self._inputs, tuple) else (self._inputs,)
            trace = traced(
                self._model, inputs, self._kwargs, self._convention, self._names, set(self._handles)
            )
        self._stats = self._added_up(trace)
        if not quiet:
            self._report(self._stats)
        return self._stats

    def _added_up(self, trace: Trace) -> Statistics:
        canonical = dict.fromkeys(self._names.values())
        counts: dict[str, Counter[str]] = {name: Counter() for name in canonical}
        unsupported: dict[str, Counter[str]] = {name: Counter() for name in canonical}
        seen: set[str] = set()
        for place, found in self._counted(trace):
            for name in self._modules_of(place):
                counts[name] += found
        called = {call.place for call in trace.calls}
        for place, times in trace.times.items():
            modules = self._modules_of(place)
            seen.update(place.callers, modules)
            if place not in called and (not self._is_priced(place) or not trace.macs.get(place)):
                for name in modules if place.kind not in self._ignored else ():
                    unsupported[name][place.kind] += times
        for (place, kind), times in trace.uncounted.items():
            for name in self._modules_of(place) if self._is_priced(place) else ():
                unsupported[name][kind] += times
        return Statistics(counts, unsupported, set(canonical) - seen)

    def _counted(self, trace: Trace) -> Iterator[tuple[Place, Counter[str]]]:
        """What each place adds, by the names that operators have there."""
        for call in trace.calls:
            yield call.place, handled(self._handles[call.place.kind], call)
        for place, macs in trace.macs.items():
            if self._is_priced(place):
                yield place, Counter({short_name(place.kind): macs})

    def _is_priced(self, place: Place) -> bool:
        """Whether the convention says what an operator adds, and no handle does."""
        settled = place.kind in self._handles or place.kind in self._ignored
        return self._convention is not None and not settled

    def _modules_of(self, place: Place) -> Collection[str]:
        """The modules that an operator counts in."""
        if self._ancestors == "caller":
            return set(place.callers)
        parts = place.callers[-1].split(".")
        return {"", *(".".join(parts[: i + 1]) for i in range(len(parts)))}

    def _report(self, stats: Statistics) -> None:
        if self._warns_unsupported:
            for name, times in stats.unsupported[""].items():
                logger.warning("Unsupported operator %s encountered %d time(s)", name, times)
        missing = sorted(name for name in stats.uncalled if self._has_forward(name))
        if self._warns_uncalled and missing:
            logger.warning(
                "No operator ran in these modules. They may be unused, or what they do was called "
                "by another way than the module itself, and is counted in the one that called: %s",
                ", ".join(missing),
            )

    def _has_forward(self, name: str) -> bool:
        forward = getattr(type(self._modules[name]), "forward", None)
        return all(forward is not kind.forward for kind in FORWARDLESS)


def handled(handle: Handle, call: Call) -> Counter[str]:
    """What a handle says of a call, by name.

    Raises: ArgumentError if that is neither a number nor a Counter of numbers.
    """
    found = handle(call.inputs, call.outputs)
    if isinstance(found, Real):
        found = Counter({call.place.kind.rpartition("::")[2]: found})
    if not isinstance(found, Counter) or not all(isinstance(n, Real) for n in found.values()):
        raise ArgumentError(
            f"the handle of {call.place.kind} returned {found!r}; expected a number, or a Counter "
            "of numbers by operator names"
        )
    return found


def modules_with_names(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules below one, shared ones by each of their names."""
    yield prefix, model
    for name, module in model._modules.items():
        if module is not None:
            yield from modules_with_names(module, f"{prefix}.{name}" if prefix else name)


def _one_of(mode: str, modes: tuple[str, ...], setting: str) -> str:
    if mode not in modes:
        raise ArgumentError(f"{setting}() takes one of {', '.join(modes)}, got {mode!r}")
    return mode
