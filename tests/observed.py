"""All that can be observed of a program on meta, with the fast path and without it.

A program is run several times in one block; what it gives, raises, warns of and draws, and
what it leaves of its inputs, becomes plain values. Two of them are equal or they are not.
"""

from __future__ import annotations

import ctypes
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch import FlopCounter, Profile

ADDRESS = re.compile(r"0x[0-9a-f]+")
MAX_SHOWN = 4  # differences of one run that are worth printing: the rest follow from them


class Facts(NamedTuple):
    """All that there is to a tensor, but for its values.

    `name`, `base` and `storage` number the tensors and storages of a run in the order in
    which they are met: equal numbers are the same object.
    """

    name: int
    base: int | None
    storage: int | None
    kind: type
    shape: torch.Size
    stride: tuple[int, ...] | None
    offset: Any
    dtype: torch.dtype
    device: torch.device
    layout: torch.layout
    nbytes: int | None
    resizable: bool | None
    keys: int  # the dispatch keys: conj and neg bits, autograd, subclasses' modes
    conj: bool
    neg: bool
    names: Any
    version: int | None
    inference: bool
    requires_grad: bool
    leaf: bool
    view: bool
    output_nr: int
    retains_grad: bool
    attributes: tuple[str, ...]
    graph: tuple[tuple[str, tuple[int, ...]], ...]
    grad: Any


class Observer:
    """Turns the values of one run into plain ones; keeps the tensors that it has numbered."""

    def __init__(self) -> None:
        self.tensors: dict[int, tuple[int, Tensor]] = {}
        self.storages: dict[int, tuple[int, Any]] = {}
        self.objects: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        """What can be observed of any value, tensors inside of it included."""
        if isinstance(value, Tensor):
            known = self.tensors.get(id(value))
            return ("the tensor", known[0]) if known is not None else self.facts(value)
        kind = type(value)
        if isinstance(value, Mapping):
            return kind, tuple([(self.name(key), self.value(value[key])) for key in value])
        if isinstance(value, list | tuple):
            return kind, tuple([self.value(item) for item in value])
        if isinstance(value, nn.Module) or not hasattr(value, "__dict__") or kind is type:
            return kind, ADDRESS.sub("0x", repr(value))
        if id(value) in self.objects:
            return kind, "met before"
        self.objects[id(value)] = value
        return kind, self.value(vars(value))

    def facts(self, tensor: Tensor) -> Facts:
        """What can be observed of a tensor, without dispatching an operator."""
        name = self.number(tensor)
        strided = tensor.layout is torch.strided and not tensor.is_nested
        storage = tensor.untyped_storage() if strided else None
        base = tensor._base
        node = tensor.grad_fn
        return Facts(
            name=name,
            base=None if base is None else self.number(base),
            storage=None if storage is None else self.storage(storage),
            kind=type(tensor),
            shape=tensor.shape,
            stride=tensor.stride() if strided else None,
            offset=tensor.storage_offset() if strided else None,
            dtype=tensor.dtype,
            device=tensor.device,
            layout=tensor.layout,
            nbytes=None if storage is None else storage.nbytes(),
            resizable=None if storage is None else storage.resizable(),
            keys=torch._C._dispatch_keys(tensor).raw_repr(),
            conj=tensor.is_conj(),
            neg=tensor.is_neg(),
            names=getattr(tensor, "names", None),  # a torch of today has none
            version=None if tensor.is_inference() else tensor._version,
            inference=tensor.is_inference(),
            requires_grad=tensor.requires_grad,
            leaf=tensor.is_leaf,
            view=tensor._is_view(),
            output_nr=tensor.output_nr,
            retains_grad=tensor.retains_grad,
            attributes=tuple(sorted(vars(tensor))),
            graph=() if node is None else tuple(graph_of(node)),
            grad=self.value(tensor.grad) if tensor.is_leaf else None,
        )

    def name(self, key: Any) -> Any:
        """A mapping's key: by itself if plain, a tensor by its number."""
        return self.number(key) if isinstance(key, Tensor) else str(key)

    def number(self, tensor: Tensor) -> int:
        """The number of this object."""
        return self.tensors.setdefault(id(tensor), (len(self.tensors), tensor))[0]

    def storage(self, storage: Any) -> int:
        """The number of the memory that a storage object stands for."""
        return self.storages.setdefault(storage._cdata, (len(self.storages), storage))[0]


def graph_of(root: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The autograd graph: each node's name and its edges, in the order of a walk."""
    numbers: dict[Any, int] = {root: 0}
    queue = [root]
    for node in queue:
        edges = []
        for below, _ in node.next_functions:
            if below is not None:
                if below not in numbers:
                    numbers[below] = len(numbers)
                    queue.append(below)
                edges.append(numbers[below])
        yield node.name(), tuple(edges)


class Program(NamedTuple):
    """Something to run: `make` gives fresh inputs, `run` takes them and gives what it made.

    `make` is called outside of the counter.
    """

    name: str
    make: Callable[[], Any]
    run: Callable[[Any], Any]


def texts_of(caught: list[warnings.WarningMessage]) -> dict[str, None]:
    """The distinct warnings; how often a once-only one is given is up to how torch runs."""
    return {ADDRESS.sub("0x", f"{w.category.__name__}: {w.message}"): None for w in caught}


class Outcome(NamedTuple):
    """What one run did: values are plain, from an Observer."""

    name: str
    error: str
    warnings: tuple[str, ...]
    output: Any
    inputs: Any
    random: int


def outcome(program: Program, inputs: Any) -> Outcome:
    """Run once; never raises what the program raises."""
    torch.default_generator.manual_seed(0)
    error, output = "", None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            output = program.run(inputs)
        except Exception as raised:
            error = ADDRESS.sub("0x", f"{type(raised).__name__}: {raised}")
    observer = Observer()
    state = torch.default_generator.get_state()
    return Outcome(
        program.name,
        error,
        tuple(texts_of(caught)),
        inputs=observer.value(inputs),
        output=observer.value(output),
        random=zlib.crc32(ctypes.string_at(state.data_ptr(), state.numel())),
    )


@dataclass(frozen=True, slots=True)
class Observation:
    """What the runs of one block did, and what was counted: a profile or an error."""

    outcomes: list[Outcome]
    profile: Any
    ending: tuple[str, ...]  # warnings and errors of the counter's own exit


class NoOp(TorchDispatchMode):
    """What torch does otherwise under any dispatch mode is not the counter's doing."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def keys_kept() -> Any:
    """Dispatch keys are as they were after this block.

    Where a forward derivative fails under any dispatch mode, torch leaves those excluded that were
    excluded in the mode: lazy conjugates aren't resolved in what this process runs from then on.
    """
    keys = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    return torch._C._ForceDispatchKeyGuard(*keys)


def observe(programs: list[Program], times: int, *, meta_cache: bool | None) -> Observation:
    """Run each program so many times in one counter, on fresh inputs each time.

    `meta_cache=None` is without a counter, under a mode that does nothing: the profile is None.
    """
    given = [(program, [program.make() for _ in range(times)]) for program in programs]
    counter = None if meta_cache is None else FlopCounter(display=False, meta_cache=meta_cache)
    outcomes: list[Outcome] = []
    ending: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with counter or NoOp():  # type: ignore[no-untyped-call]
                for program, inputs in given:
                    for one in inputs:
                        with keys_kept():
                            outcomes.append(outcome(program, one))
        except Exception as raised:
            ending.append(f"{type(raised).__name__}: {raised}")
    ending.extend(texts_of(caught))
    try:
        profile: Any = counter and counter.profile
    except Exception as raised:
        profile = f"{type(raised).__name__}: {raised}"
    return Observation(outcomes, profile, tuple(ending))


def differences(expected: Observation, found: Observation) -> list[str]:
    """What is not the same, in words; empty if all is. Without a counter there is no profile."""
    wrong = []
    for number, (one, other) in enumerate(zip(expected.outcomes, found.outcomes)):
        if not same(one, other):
            told = list(telling("", one, other))
            wrong.append(f"{one.name} (run {number}): " + "; ".join(told[:MAX_SHOWN]))
    if len(expected.outcomes) != len(found.outcomes):
        wrong.append(f"{len(expected.outcomes)} runs, {len(found.outcomes)} with the fast path")
    if expected.profile is not None and expected.ending != found.ending:
        wrong.append(f"at the end {expected.ending}, with the fast path {found.ending}")
    return wrong + profile_differences(expected.profile, found.profile)


def lasting_differences(
    run: Callable[[bool | None], Observation],
    slow: tuple[Observation, Observation],
    fast: tuple[Observation, ...],
) -> list[str]:
    """What a counter changes in what runs alone, and the fast path in what is counted.

    `slow` ran with `meta_cache` None and False, `fast` with True. Some warnings come once in a
    process, so where there are differences `run` observes the first two again.
    """
    if not _changes(*slow, fast):
        return []
    return _changes(run(None), run(False), fast)


def _changes(alone: Observation, counted: Observation, fast: tuple[Observation, ...]) -> list[str]:
    step = len(counted.outcomes) // len(alone.outcomes)  # alone, one run of each may do
    first = Observation(counted.outcomes[::step], None, ())
    return differences(alone, first) + [t for one in fast for t in differences(counted, one)]


def profile_differences(expected: Any, found: Any) -> list[str]:
    """What two profiles say differently: calls, prices, rows, modules, in their order."""
    if expected is None:
        return []
    if not isinstance(expected, Profile) or not isinstance(found, Profile):
        return [] if same(expected, found) else [f"profile {expected}, fast path {found}"]
    wrong = []
    for name in ("rows", "calls", "prices", "modules", "assumptions"):
        one, other = getattr(expected, name), getattr(found, name)
        # 1, 1.0 and True are equal and are different calls: their text tells them apart.
        if one != other or (name == "calls" and repr(one) != repr(other)):
            told = list(telling(f"profile {name}", one, other)) or [f"profile {name} by its text"]
            wrong.append("; ".join(told[:MAX_SHOWN]))
    return wrong


def same(one: Any, other: Any) -> bool:
    """Whether two observed values are equal, types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def telling(place: str, one: Any, other: Any) -> Iterator[str]:
    """Where two observed values differ."""
    if same(one, other):
        return
    if type(one) is not type(other) or not isinstance(one, tuple) or len(one) != len(other):
        yield f"{place}: {shown(one)} for {shown(other)}"
        return
    if type(one) is torch.Size:
        yield f"{place}: {tuple(one)} for {tuple(other)}"
        return
    names = getattr(type(one), "_fields", range(len(one)))
    for name, a, b in zip(names, one, other):
        yield from telling(f"{place}.{name}" if place else str(name), a, b)


def shown(value: Any) -> str:
    """A value's text, cut to a line."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
