"""`torch.utils.flop_counter`: FlopCounterMode with its constructor, getters and table.

    from flopdispatch.compat.torch import FlopCounterMode

What differs, by name:

- Weight gradients of grouped convolutions aren't multiplied by the number of groups.
- Products that torch's counter has no formula for are counted: `mv`, `dot`, fused recurrent and
  attention layers, grouped, sparse and quantized ones; those of complex numbers are four real ones.
- `torch.cond` runs, and counts, the branch that is taken; scans and loops run.
- Modules have their own rows where torch mistakes them; a second model of one class is `ResNet#2`.
- A formula of one's own may replace a built-in one. Operators that nobody has a formula for are
  warned of, and in `get_unsupported_ops`; torch counts them as nothing.
- An exception in the block prints no table.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import tabulate
import torch
from torch.utils import flop_counter as theirs
from torch.utils._pytree import tree_leaves

from flopdispatch.capture.private import without_dispatch
from flopdispatch.conventions import convention as registry_of
from flopdispatch.cost import Cost
from flopdispatch.counter import FlopCounter
from flopdispatch.errors import CounterStateError, RegistryError
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry
from flopdispatch.rules import UNCOUNTED, name_of
from flopdispatch.spec import TensorSpec, signature

GLOBAL = "Global"
SUFFIXES = ("", "K", "M", "B", "T")
TARGETS = (
    torch._ops.OpOverloadPacket, torch._ops.OpOverload, torch._ops.HigherOrderOperator,
)  # fmt: skip

Formula = Callable[..., int]
Counts = dict[str, dict[Any, int]]

# Formulas that were registered here, by operator. They get tensors.
flop_registry: dict[Any, Formula] = {}


class FlopCounterMode:
    """Count the FLOPs of what runs in a block: 2 x MACs of products, as torch's counter does.

    `depth` levels of modules are in the table, which is printed at the end unless `display` is
    False. `custom_mapping` gives formulas by operator, `torch.ops.mylib.my_op`: each is called with
    the operator's arguments, tensors as their shapes, and `out_shape=`; one with the attribute
    `_get_raw` gets tensors (on meta) and `out_val=`. `mods` isn't needed, and `skip_unsupported`
    changes nothing: unsupported operators always run and are listed. `convention` prices otherwise.

    Raises: RegistryError for a formula of what is no operator.

    Example:

        >>> with FlopCounterMode(display=False) as counter:
        ...     product = torch.ones(2, 8) @ torch.ones(8, 4)
        >>> counter.get_total_flops()
        128
    """

    def __init__(
        self,
        mods: torch.nn.Module | list[torch.nn.Module] | None = None,
        depth: int | None = 2,
        display: bool = True,
        custom_mapping: Mapping[Any, Formula] | None = None,
        skip_unsupported: bool = False,
        *,
        convention: str | Registry = "torch",
    ) -> None:
        if mods is not None:
            warnings.warn("mods isn't needed: modules are found as they run", stacklevel=2)
        self.depth = depth
        self.display = display
        self.skip_unsupported = skip_unsupported
        custom = {target: with_tensors(given) for target, given in (custom_mapping or {}).items()}
        self.custom = {**flop_registry, **custom}
        self._counter = FlopCounter(
            display=False, convention=with_formulas(registry_of(convention), self.custom)
        )
        self._entered = False

    def __enter__(self) -> FlopCounterMode:
        self._entered = True
        self._counter.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._counter.__exit__(kind, error, trace)
        if self.display and kind is None:
            print(self.get_table(self.depth))

    @property
    def profile(self) -> Profile:
        """All that was counted, as flopdispatch tells it.

        Raises: CounterStateError before the first block.
        """
        if not self._entered:
            raise CounterStateError(
                "nothing was counted yet; enter it: with FlopCounterMode() as m"
            )
        return self._counter.profile

    def get_total_flops(self) -> int:
        """FLOPs so far."""
        return self.profile.flops if self._entered else 0

    def get_flop_counts(self) -> Counts:
        """FLOPs by module and operator; a module's are those of the ones below it too."""
        counts: Counts = {}
        if not self._entered:
            return counts
        profile = self.profile
        for row in sorted(profile.rows, key=lambda row: row.call):  # as they were first called
            operator = packet_of(profile.calls[row.call].overload)
            flops = profile.prices[row.call].cost.flops * row.times
            if flops or operator in self.custom:
                for name in (GLOBAL, *path_of(row.scope)):
                    found = counts.setdefault(name, {})
                    found[operator] = found.get(operator, 0) + flops
        return counts

    @property
    def flop_counts(self) -> Counts:
        """As `get_flop_counts`."""
        return self.get_flop_counts()

    def get_unsupported_ops(self) -> Counter[str]:
        """Operators without a formula, by name, and how often each ran."""
        uncounted = self.profile.uncounted if self._entered else {}
        return Counter({name_of(operator): times for operator, times in uncounted.items()})

    def get_table(self, depth: int | None = None) -> str:
        """Modules down to `depth` levels, each with its operators below it."""
        depth = self.depth if depth is None else depth
        counts = self.get_flop_counts()
        total = sum(counts.get(GLOBAL, {}).values())
        names = [
            name
            for name in sorted(counts)
            if name != GLOBAL and (depth is None or name.count(".") < depth)
        ]
        # The whole has a row of its own only where no module is all of it.
        whole = bool(counts) and all(sum(counts[name].values()) < total for name in names)
        rows = list(lines(GLOBAL, counts[GLOBAL], total, 0)) if whole else []
        for name in names:
            rows += lines(name, counts[name], total, name.count(".") + whole)
        rows = rows or [(GLOBAL, "0", "0%")]
        kept, tabulate.PRESERVE_WHITESPACE = tabulate.PRESERVE_WHITESPACE, True
        try:
            return tabulate.tabulate(
                rows, ("Module", "FLOP", "% Total"), colalign=("left", "right", "right")
            )
        finally:
            tabulate.PRESERVE_WHITESPACE = kept


def register_flop_formula(targets: Any, get_raw: bool = False) -> Callable[[Formula], Formula]:
    """Register the decorated formula for operators, in every FlopCounterMode made from now on.

    It is called as those of `custom_mapping` are; with `get_raw` it gets tensors.

    Raises: RegistryError for a second formula of one operator, or what is none.
    """

    def register(formula: Formula) -> Formula:
        given = formula if get_raw else with_shapes(formula)
        for target in tree_leaves(targets):
            check_target(target)
            if target in flop_registry:
                raise RegistryError(f"{target} has a formula already; register one only")
            flop_registry[target] = given
        return formula

    return register


# Formulas of one's own


def with_shapes(formula: Formula) -> Formula:
    """A formula of tensors from one of shapes."""

    def counted(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return formula(*shapes(args), out_shape=shapes(out_val), **shapes(kwargs))

    return counted


def with_tensors(formula: Formula) -> Formula:
    """A formula of tensors, as which it may be marked."""
    return formula if getattr(formula, "_get_raw", False) else with_shapes(formula)


def shapes(value: Any) -> Any:
    """Arguments with the shapes of tensors in their places."""
    return torch.utils._pytree.tree_map(
        lambda item: item.shape if isinstance(item, torch.Tensor) else item, value
    )


def with_formulas(registry: Registry, custom: Mapping[Any, Formula]) -> Registry:
    """A registry with these formulas, and those that others registered with torch's counter for
    operators that it doesn't know.
    """
    rules = registry.overlay(registry.name, registry.description)
    foreign = {
        target: formula
        for target, formula in theirs.flop_registry.items()
        if isinstance(target, TARGETS)
        and any(registry.explain(o).state == UNCOUNTED for o in overloads_of(target))
    }
    for target, formula in {**foreign, **custom}.items():
        check_target(target)
        for overload in overloads_of(target):
            rules.formula(overload, family="custom", typed=False)(adapted(overload, formula))
    return rules


def check_target(target: Any) -> None:
    """Raise RegistryError for what is no operator."""
    if not isinstance(target, TARGETS):
        raise RegistryError(
            f"a formula is for an operator such as torch.ops.mylib.my_op, got {target!r} of type "
            f"{type(target).__name__}"
        )


def overloads_of(target: Any) -> list[Any]:
    """The overloads of an operator."""
    if not isinstance(target, torch._ops.OpOverloadPacket):
        return [target]
    return [getattr(target, name) for name in target.overloads()]


def packet_of(overload: Any) -> Any:
    """The operator of an overload, as torch's counter names it."""
    return getattr(overload, "overloadpacket", overload)


def adapted(overload: Any, formula: Formula) -> Callable[..., Cost]:
    """A rule's formula from one that is called as the operator was.

    Trailing arguments that have their defaults are left out, as torch does.
    """
    names, defaults = signature(overload)
    schema = getattr(overload, "_schema", None)
    by_keyword = {a.name for a in schema.arguments if a.kwarg_only} if schema else set()

    def cost(**given: Any) -> Cost:
        out, places = given.pop("result"), [name for name in names if name not in by_keyword]
        kept = dict(zip(names, defaults))
        while places and given[places[-1]] == kept[places[-1]]:
            places.pop()
        with without_dispatch():
            args = [tensor_like(given[name]) for name in places]
            kwargs = {
                name: tensor_like(given[name]) for name in by_keyword if given[name] != kept[name]
            }
            return Cost(adds=int(formula(*args, **kwargs, out_val=tensor_like(out))))

    parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in (*names, "result")]
    cost.__dict__["__signature__"] = inspect.Signature(parameters)
    return cost


def tensor_like(value: Any) -> Any:
    """An argument with tensors on meta in place of specs."""
    if isinstance(value, TensorSpec):
        if value.stride is None:
            return torch.empty(value.shape, dtype=value.dtype, device="meta")
        return torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device="meta")
    return type(value)(map(tensor_like, value)) if isinstance(value, list | tuple) else value


# The table


def path_of(scope: str) -> Iterable[str]:
    """A module and those that it is in, by path; none for the block itself."""
    parts = scope.split(".") if scope else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def lines(
    name: str, counts: Mapping[Any, int], total: int, indent: int
) -> Iterable[tuple[str, str, str]]:
    """A module's row and those of its operators."""
    padding = " " * indent
    flops = sum(counts.values())
    yield padding + name, with_suffix(flops, total), percent(flops, total)
    for operator, number in counts.items():
        yield f"{padding} - {operator}", with_suffix(number, total), percent(number, total)


def with_suffix(number: int, total: int) -> str:
    """A number in the unit of the total: the largest one that leaves it two digits or more."""
    place = max(0, min(len(SUFFIXES) - 1, (len(str(total)) - 2) // 3))
    return f"{number / 1000**place:.3f}{SUFFIXES[place]}"


def percent(number: int, total: int) -> str:
    """A share of the total."""
    return f"{number / total:.2%}" if total else "0%"
