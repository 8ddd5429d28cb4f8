"""How the pointwise tests compare an operator with its expression on counting Scalars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from tests.oracles import Scalar, Tally
from tests.oracles_pointwise import Expression
from tests.pricing import cost, scaled

# Samples: both signs and every branch of the piecewise definitions, no element on a border.
REAL = [-25.0, -7.3, -3.2, -2.6, -1.4, -0.6, -0.2, 0.3, 0.8, 1.7, 2.7, 3.4, 25.0]
OTHER = [1.9, -0.7, 2.3, -4.1, 0.4, 3.3, -1.2, 0.9, -2.8, 1.3, 5.2, -0.5, 2.2]
THIRD = [0.7, 1.2, -0.4, 2.1, -1.6, 0.3, 1.1, -0.8, 3.2, 0.6, -2.7, 1.5, 0.9]
POSITIVE = [0.2, 0.4, 0.8, 1.3, 1.9, 2.6, 3.7]
UNIT = [0.05, 0.2, 0.4, 0.6, 0.7, 0.9]
INTEGERS = [1.0, 2.0, 3.0, 5.0, 6.0, 12.0]


class Given(NamedTuple):
    """An operand that the operator takes as a Python number."""

    value: float


@dataclass(frozen=True)
class Case:
    """An operator, its expression and its arguments in the schema's order.

    A list is a tensor, one element a sample; `Given` is an operand too; anything else is an
    option, the same for operator and expression.
    """

    op: str
    expression: Expression
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64

    @property
    def overload(self) -> Any:
        found = overloads(self.op)
        if not found:
            pytest.skip(f"this torch has no {self.op}")
        return found[0]

    def __str__(self) -> str:
        options = [a for a in self.arguments if not isinstance(a, list | Given)]
        return " ".join(map(str, [self.op, *options, *self.options.values()]))

    def inputs(self) -> list[Any]:
        """The arguments as the operator takes them."""
        given = [a.value if isinstance(a, Given) else a for a in self.arguments]
        return [torch.tensor(a, dtype=self.dtype) if isinstance(a, list) else a for a in given]

    def samples(self) -> Iterator[tuple[Tally, tuple[Scalar, ...]]]:
        """For each sample its tally and the expression's results."""
        for i in range(len(next(a for a in self.arguments if isinstance(a, list)))):
            tally = Tally()
            results = self.expression(
                *(operand(tally, a, i) for a in self.arguments), **self.options
            )
            yield tally, results if isinstance(results, tuple) else (results,)


def operand(tally: Tally, argument: Any, i: int) -> Any:
    if isinstance(argument, list):
        return tally.scalar(argument[i])
    return tally.scalar(argument.value) if isinstance(argument, Given) else argument


def check(case: Case) -> None:
    """The expression gives the operator's values, and its costliest sample the formula's counts."""
    op, inputs = case.overload, case.inputs()
    results = op(*inputs, **case.options)
    results = results if isinstance(results, tuple) else (results,)
    samples = list(case.samples())
    for position, result in enumerate(results):
        values = [values[position].value for _, values in samples]
        expected = torch.tensor(values, dtype=torch.float64)  # some kernels' constants are float32
        torch.testing.assert_close(expected, result.double(), rtol=1e-6, atol=1e-10)
    costliest = max((tally.cost for tally, _ in samples), key=work)
    assert cost(op, *inputs, **case.options) == scaled(costliest, len(samples))


def work(value: Cost) -> int:
    """All operations together, to find the costliest branch."""
    return value.flops + value.transcendentals + value.comparisons + value.int_ops


def registered(*registries: Registry) -> set[str]:
    """The names of the overloads that have a rule, as `overloads` takes them."""
    return {str(rule.overload).removeprefix("aten.") for rules in registries for rule in rules}
