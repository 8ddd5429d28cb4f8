"""Price one real call: what the formula tests compare with hand arithmetic and loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flopdispatch.capture.keys import key_of, value_of
from flopdispatch.cost import FIELDS, Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.rules import Price, taken_from, taker
from flopdispatch.spec import OpCall


def call_of(overload: Any, args: Any, kwargs: dict[str, Any], result: Any) -> OpCall:
    """The OpCall of a call that ran."""
    return OpCall(
        overload,
        tuple(value_of(key_of(value)) for value in args),
        tuple((name, value_of(key_of(value))) for name, value in kwargs.items()),
        value_of(key_of(result)),
    )


def price(overload: Any, *args: Any, **kwargs: Any) -> Price:
    """Run the operator on these arguments and price the call, bytes included."""
    before = call_of(overload, args, kwargs, None)  # in-place operators may change metadata
    after = call_of(overload, (), {}, overload(*args, **kwargs))
    return default_registry().price(replace(before, result=after.result))


def cost(overload: Any, *args: Any, **kwargs: Any) -> Cost:
    """The operations of one real call, without bytes. The call must be counted or zero."""
    priced = price(overload, *args, **kwargs)
    assert priced.state != "uncounted", f"{overload} has no rule"
    return priced.cost.moving(0, 0)


def cost_of_specs(overload: Any, *args: Any, result: Any, **kwargs: Any) -> Cost:
    """The operations of a call that needs another device: its result is given as a spec."""
    priced = default_registry().price(OpCall(overload, args, tuple(kwargs.items()), result))
    assert priced.state != "uncounted", f"{overload} has no rule"
    return priced.cost.moving(0, 0)


def hand(operator: str, args: tuple[Any, ...]) -> Cost:
    """The operations of a call made up from specs: what runs on other devices only."""
    (overload,) = overloads(operator)
    return cost_of_specs(overload, *args, result=None)


def scaled(value: Cost, times: int) -> Cost:
    """`times` as much of everything, written without Cost's own arithmetic."""
    return Cost(**{name: getattr(value, name) * times for name in FIELDS})


def overload_of(name: str) -> Any:
    """The overload with this name; skips the test on a torch that lacks it."""
    found = overloads(name)
    return found[0] if found else pytest.skip(f"this torch has no {name}")


def taken_of(overload: Any, args: Any, kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    """What is taken from the arguments of a call, None where nothing can be."""
    takes = taker(overload)
    return None if takes is None else taken_from(takes, overload, args, kwargs)
