"""The operators that a program sends through dispatch, priced: for tests of formulas."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.counter import FlopCounter
from flopdispatch.errors import UncountedOperatorWarning
from flopdispatch.rules import Price


class Dispatched(FlopCounter):
    """A counter that is asked for single calls; it says nothing of its own accord."""

    def __init__(self) -> None:
        super().__init__(display=False)

    def __exit__(self, *exception: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncountedOperatorWarning)
            super().__exit__(*exception)

    @property
    def prices(self) -> list[tuple[Any, Price]]:
        """Each call's operator and price, as often as it ran."""
        profile = self.profile
        return [
            (profile.calls[row.call].overload, profile.prices[row.call])
            for row in profile.rows
            for _ in range(row.times)
        ]

    def cost(self, family: str) -> Cost:
        """All operations of a family, without bytes."""
        return sum(
            (price.cost.moving(0, 0) for _, price in self.prices if price.family == family), Cost()
        )

    def total(self, *operators: str) -> Cost:
        """The operations of all calls, or of those of the operators named, without bytes."""
        return sum(
            (
                price.cost.moving(0, 0)
                for op, price in self.prices
                if not operators or op._schema.name.split("::")[1] in operators
            ),
            Cost(),
        )

    def uncounted(self) -> set[str]:
        """The overloads that have no rule."""
        return {str(op) for op in self.profile.uncounted}

    def operators(self, family: str) -> Iterator[str]:
        """Names of a family's operators, as often as they ran."""
        return (str(op) for op, price in self.prices if price.family == family)
