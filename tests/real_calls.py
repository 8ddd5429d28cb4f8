"""One real call under the counter, with what its rule takes from values."""

from __future__ import annotations

from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.rules import Price
from tests.dispatched import Dispatched


def priced(function: Any, *args: Any, **kwargs: Any) -> Price:
    """The price of the one operator that a function runs."""
    with Dispatched() as counter:
        function(*args, **kwargs)
    ((_, price),) = counter.prices
    assert price.state != "uncounted", price.error
    return price


def counted(function: Any, *args: Any, **kwargs: Any) -> Cost:
    """The operations of it, without bytes."""
    return priced(function, *args, **kwargs).cost.moving(0, 0)
