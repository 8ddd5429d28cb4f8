"""What a model's modules count, as `flopdispatch.compat.ptflops` gives it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from flopdispatch.capture.wrappers import class_name, unwrapped
from flopdispatch.compat.running import profiled
from flopdispatch.conventions import convention as find_convention
from flopdispatch.conventions import ptflops as rules
from flopdispatch.counter import report_uncounted
from flopdispatch.errors import UncountedOperatorWarning
from flopdispatch.profile import Profile, Row
from flopdispatch.registry import Registry
from flopdispatch.spec import OpCall, TensorSpec

Number = int | float
Hook = Callable[..., Any]

_ABSENT: Any = object()  # in place of an attribute that a module hasn't


class Part(NamedTuple):
    """MACs of one operator, or of a module's own hook, in one place.

    `modules` are those that it runs in, the root first; `child` is the name of the root's child
    among them. `operator` is its overload packet, None of a hook.
    """

    modules: tuple[nn.Module, ...]
    child: str
    operator: Any
    macs: Number


@dataclass(frozen=True)
class Count:
    """What was counted, divided by the batch where it is asked for.

    `left_out` are the operators and classes that were ignored or have a hook.
    """

    parts: tuple[Part, ...]
    batch: int
    left_out: frozenset[Any]
    ignored: frozenset[Any]

    @property
    def total(self) -> int:
        """MACs of one element of the batch."""
        macs = sum(part.macs for part in self.parts)
        return macs // self.batch if isinstance(macs, int) else int(macs / self.batch)

    def own(self) -> dict[int, Number]:
        """MACs of each module without its children, by its id, of one element of the batch."""
        found: dict[int, Number] = {}
        for part in self.parts:
            if part.modules:
                key = id(part.modules[-1])
                found[key] = found.get(key, 0) + part.macs
        return {key: macs / self.batch for key, macs in found.items()}

    def by_operator(self, child: str | None = None) -> dict[Any, Number]:
        """MACs of each operator, of all or of one child of the root, those without any too."""
        found: dict[Any, Number] = {}
        for part in self.parts:
            if part.operator is not None and child in (None, part.child):
                found[part.operator] = found.get(part.operator, 0) + part.macs / self.batch
        return found


def counted(
    model: nn.Module,
    given: Any,
    ignored: frozenset[Any],
    hooks: dict[Any, Hook],
    *,
    engine: str,
    patched: bool,
    convention: str | Registry | None,
) -> Count:
    """Run a model on what it is given, and price it.

    `given` are keyword arguments in a mapping, or the one argument. `ignored` are classes and
    operators, `hooks` theirs. `engine` is "pytorch" or "aten"; `patched` tells whether functions
    count. `convention` is another's than ptflops', or None.
    """
    args, keywords = ([], given) if isinstance(given, Mapping) else ([given], {})
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # a stand-in for its parameters can't be given to the wrapper
    left_out = ignored | hooks.keys()
    by_module = convention in (None, "ptflops")
    if not by_module:
        base = find_convention(convention)
    else:
        base = rules.functions() if engine == "pytorch" else rules.products()
    quiet = ignored_uncounted() if left_out else nullcontext()
    with following(model, hooks) as hooked, quiet:
        profile = profiled(model, args, keywords, base)
    tree = Tree(model, left_out)
    if left_out:
        kept = [row for row in profile.rows if not tree.leaves_out(row, profile.calls)]
        report_uncounted(replace(profile, rows=tuple(kept)), strict=False)
    prices = Prices(profile, base, by_module and engine == "pytorch", patched)
    parts = [*operators(profile, tree, hooks, prices), *tree.hooked(hooked, ignored)]
    return Count(tuple(parts), batch_of(given), left_out, ignored)


def operators(
    profile: Profile, tree: Tree, hooks: dict[Any, Hook], prices: Prices
) -> Iterator[Part]:
    """What ran, but for what is left out."""
    for row in profile.rows:
        call = profile.calls[row.call]
        packet = packet_of(call)
        modules, found = tree.at(row.scope)
        child = (*row.scope.split("."), "", "")[1]
        if packet in hooks and not tree.inside_of_left_out(modules):
            yield Part(modules, child, packet, row.times * asked(hooks[packet], call))
        elif not tree.leaves_out(row, profile.calls):
            kind = type(modules[-1]) if found else None
            yield Part(modules, child, packet, row.times * prices.of(row, kind))


class Tree:
    """Which modules an operator runs in, by the name of its scope.

    `left_out` are classes whose inside isn't counted, and operators.
    """

    def __init__(self, model: nn.Module, left_out: frozenset[Any]) -> None:
        self.root = unwrapped(model) or model
        self.name = class_name(self.root)
        self.left_out = left_out
        self.known: dict[str, tuple[tuple[nn.Module, ...], bool]] = {}

    def at(self, scope: str) -> tuple[tuple[nn.Module, ...], bool]:
        """The modules around, the root first, and whether the last is the scope's own."""
        if scope not in self.known:
            self.known[scope] = self.descend(scope)
        return self.known[scope]

    def descend(self, scope: str) -> tuple[tuple[nn.Module, ...], bool]:
        """The same, step by step."""
        first, *names = scope.split(".")
        modules = [self.root]
        if first != self.name:
            return tuple(modules), False
        for name in names:
            below = unwrapped(modules[-1]._modules.get(name))
            if below is None:  # made in a forward, or a region that the user named
                return tuple(modules), False
            modules.append(below)
        return tuple(modules), True

    def inside_of_left_out(self, modules: tuple[nn.Module, ...]) -> bool:
        """Whether one of these modules is left out."""
        return any(type(module) in self.left_out for module in modules)

    def leaves_out(self, row: Row, calls: tuple[OpCall, ...]) -> bool:
        """Whether an operator is left out, by itself or with a module around it."""
        modules, _ = self.at(row.scope)
        return packet_of(calls[row.call]) in self.left_out or self.inside_of_left_out(modules)

    def hooked(self, macs: Mapping[int, Number], ignored: frozenset[Any]) -> Iterator[Part]:
        """What the hooks of modules counted, each module once, those inside of others not."""
        seen: set[int] = set()

        def below(child: str, modules: tuple[nn.Module, ...]) -> Iterator[Part]:
            module = modules[-1]
            if id(module) in seen or type(module) in ignored:
                return
            seen.add(id(module))
            if id(module) in macs:
                yield Part(modules, child, None, macs[id(module)])
                return
            for name, inner in module.named_children():
                yield from below(child or name, (*modules, inner))

        yield from below("", (self.root,))


class Prices:
    """The MACs of a profile's calls, by the class of the module that they run in if `by_module`.

    Without `patched`, modules that ptflops has a formula for count, and only once.
    """

    def __init__(self, profile: Profile, base: Registry, by_module: bool, patched: bool) -> None:
        self.profile = profile
        self.by_module = by_module
        self.patched = patched
        self.known = {base: [price.cost.macs for price in profile.prices]}

    def of(self, row: Row, kind: type[nn.Module] | None) -> int:
        """One call's, in a module of this class; None where it isn't known."""
        if not self.patched and (kind is None or not rules.is_counted(kind)):
            return 0
        if not self.by_module:
            (macs,) = self.known.values()
            return macs[row.call]
        registry = rules.rules_in(kind, self.patched) if kind else rules.functions()
        if registry not in self.known:
            priced = self.profile.reprice(registry).prices
            self.known[registry] = [price.cost.macs for price in priced]
        return self.known[registry][row.call]


def packet_of(call: OpCall) -> Any:
    """`torch.ops.aten.mm` of `torch.ops.aten.mm.default`; a higher-order operator itself."""
    return getattr(call.overload, "overloadpacket", call.overload)


def asked(hook: Hook, call: OpCall) -> Number:
    """What an operator's hook says of a call."""
    result = call.result if isinstance(call.result, tuple) else (call.result,)
    return plain(hook(on_meta(call.args), on_meta(result)))


def on_meta(value: Any) -> Any:
    """Specs as tensors on meta."""
    if isinstance(value, TensorSpec):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    if isinstance(value, tuple):
        return tuple(on_meta(item) for item in value)
    return value


def batch_of(given: Any) -> int:
    """The elements of the batch that a model's one argument is; 1 of anything else."""
    if isinstance(given, torch.Tensor | TensorSpec):
        return max(given.shape[0], 1) if given.shape else 1
    return max(len(given), 1) if isinstance(given, list) else 1


@contextmanager
def ignored_uncounted() -> Iterator[None]:
    """Say nothing yet of operators without a formula."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)
        yield


@contextmanager
def following(model: nn.Module, hooks: Mapping[Any, Hook]) -> Iterator[dict[int, Number]]:
    """Modules of these classes have their hooks; at the end, what these counted, by id.

    They count from zero at each run of the model. Afterwards no hook is left and `__flops__` is
    what it was.
    """
    found: dict[int, Number] = {}
    counted: dict[int, Any] = {}
    mine = [module for module in model.modules() if type(module) in hooks]
    before = [module.__dict__.get("__flops__", _ABSENT) for module in mine]
    running = 0

    def begin(*_: Any) -> None:
        nonlocal running
        for module in mine if not running else ():
            module.__dict__["__flops__"] = 0
        running += 1

    def end(*_: Any) -> None:
        nonlocal running
        running -= 1
        if not running:  # what a run leaves on its modules is gone after it
            counted.update({id(module): module.__dict__["__flops__"] for module in mine})

    handles = []
    try:
        if mine:
            handles.append(model.register_forward_pre_hook(begin))
            handles += [module.register_forward_hook(hooks[type(module)]) for module in mine]
            handles.append(model.register_forward_hook(end, always_call=True))
        yield found
        found.update({identity: plain(value) for identity, value in counted.items()})
    finally:
        for handle in handles:
            handle.remove()
        for module, value in zip(mine, before):
            module.__dict__.pop("__flops__", None)
            if value is not _ABSENT:
                module.__dict__["__flops__"] = value


def plain(value: Any) -> Number:
    """A number of Python's, of whatever kind a hook counts in."""
    found: Number = value.item() if hasattr(value, "item") else value
    return found
