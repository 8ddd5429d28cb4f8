"""Rules: what is known of an operator overload, and what a registry says of it and its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.spec import signature
from flopdispatch.variants import functional_twin

COUNTED, ZERO, UNCOUNTED = "counted", "zero", "uncounted"
DECOMPOSED = "decomposed"  # runs as other operators, which are counted
DENSE, SPARSE, NESTED = LAYOUTS = "dense", "sparse", "nested"

Taker = Callable[..., tuple[int, ...]]

# What any registry's rules take from an operator's arguments when it runs, for all to price: by
# its name and the layout of its operands.
TAKERS: dict[tuple[str, str], Taker] = {}

Traffic = Callable[..., tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known of one overload.

    `formula` is None for a declared zero. `estimate` says in words what is estimated, and
    is empty where the count is exact; `estimated_if` tells which calls it holds for, None for
    all. `typed` is False where the formula counts real operations whatever the dtype. `nbytes`
    overrides the generic bytes read and written. `layout` is that of the operands: "dense",
    "sparse" if any is sparse, "nested" if any is nested in strided layout. `takes` is given the
    real arguments that it names when an operator runs whose cost lies in values, and returns what
    the formula must know of them as `taken`: a few integers. Where there are no values (meta), or
    reading them fails, `taken` is None. `keeps` names the fields of the cost that a convention
    counts, None for all.
    """

    overload: Any  # or its name
    family: str
    formula: Callable[..., Cost] | None = None
    estimate: str = ""
    estimated_if: Callable[..., bool] | None = None
    typed: bool = True
    nbytes: Traffic | None = None
    layout: str = DENSE
    takes: Taker | None = None
    keeps: tuple[str, ...] | None = None

    @property
    def state(self) -> str:
        """`"counted"` or `"zero"`."""
        return ZERO if self.formula is None or self.keeps == () else COUNTED

    def keeping(self, fields: tuple[str, ...]) -> Rule:
        """The same rule, of whose cost these fields count at most."""
        known = fields if self.keeps is None else self.keeps
        return replace(self, keeps=tuple(name for name in fields if name in known))


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs, and why: its rule's family and state, and the compute dtype."""

    cost: Cost
    family: str
    state: str
    dtype: torch.dtype | None
    estimate: str = ""
    error: str = ""  # of the rule's formula: its call is uncounted


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a registry says of an overload: its state, and where the rule for it comes from.

    `state` is `"counted"`, `"zero"`, `"decomposed"` (it runs as other operators, which are
    counted) or `"uncounted"`. `stands_for` is the functional overload whose rule it goes by, or
    the one that is applied to each element of a list. `text` is the formula's own.
    """

    overload: Any
    state: str
    family: str = ""
    stands_for: Any = None
    estimate: str = ""
    layouts: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        words = [f"{name_of(self.overload)}: {self.state}"]
        if self.family:
            words.append(f" in {self.family}")
        if self.stands_for is not None:
            words.append(f", as {name_of(self.stands_for)}")
        if self.estimate:
            words.append(f" (estimate: {self.estimate})")
        return "".join(words) + (f"\n\n{self.text}" if self.text else "")


def taker(overload: Any, layouts: tuple[str, ...] = LAYOUTS) -> Taker | None:
    """What takes from the arguments of an overload, or of the one that it is a variant of."""
    while overload is not None:
        for layout in layouts:
            if (name_of(overload), layout) in TAKERS:
                return TAKERS[name_of(overload), layout]
        overload = functional_twin(overload)
    return None


def taken_from(
    takes: Taker, overload: Any, args: Any, kwargs: Any, shown: Callable[[Any], Any] | None = None
) -> tuple[int, ...] | None:
    """What is taken from the real arguments of a call; None where nothing can be.

    `shown` gives the values that are known of an argument without data.
    """
    names, defaults = signature(overload)
    values = dict(zip(names, defaults)) | dict(zip(names, args)) | kwargs
    try:
        asked = {name: values.get(name) for name in parameters(takes)}
        if shown is not None:
            asked = {name: shown(value) for name, value in asked.items()}
        return tuple(map(int, takes(**asked)))
    except Exception:  # no data, or none that may be read now
        return None


@cache
def name_of(overload: Any) -> str:
    """`aten::mm.default`, `higher_order::cond`; a name as it is."""
    if isinstance(overload, str):
        return overload
    if isinstance(overload, torch._ops.OpOverload):
        return f"{overload._schema.name}.{overload._overloadname}"
    return f"higher_order::{getattr(overload, '__name__', str(overload))}"


@cache
def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)
