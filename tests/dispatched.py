"""The operators that a program sends through dispatch, priced: for tests of formulas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch.capture.recording import call_of
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.registry import Price

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Dispatched(TorchDispatchMode):
    """Notes every operator that runs; composite ones run as the operators they are made of."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch._dynamo is imported at the first operator, which takes seconds

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.prices: list[tuple[Any, Price]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if composite(func):
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        result = func(*args, **kwargs)
        self.prices.append((func, default_registry().price(call_of(func, args, kwargs, result))))
        return result

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
        return {str(op) for op, price in self.prices if price.state == "uncounted"}

    def operators(self, family: str) -> Iterator[str]:
        """Names of a family's operators, as often as they ran."""
        return (str(op) for op, price in self.prices if price.family == family)


def composite(func: Any) -> bool:
    """Whether an operator's only kernel is made of other operators."""
    name = func.name()
    return torch._C._dispatch_has_kernel_for_dispatch_key(
        name, "CompositeImplicitAutograd"
    ) and not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
