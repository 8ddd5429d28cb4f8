"""What is assumed about data that isn't there: what to assume, and what was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from flopdispatch.errors import ArgumentError

# Of n: a fraction of them, a number of them, or a function of n.
Share = float | int | Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that was assumed about a program's data or history: `text` says what.

    Where an operator asked for it: its name, the `scope` it ran in, the `source` line that
    called it, and how many `times`.
    """

    text: str
    operator: str = ""
    scope: str = ""
    source: str = ""
    times: int = 1

    def __str__(self) -> str:
        where = [f" at {self.source}"] if self.source else []
        where += [f" in {self.scope}"] if self.scope else []
        where += [f", {self.times} times"] if self.times > 1 else []
        asked = f"{self.operator}: " if self.operator else ""
        return f"{asked}{self.text}{''.join(where)}"


@dataclass(frozen=True, slots=True)
class Assume:
    """What to assume on meta where a program asks for values that aren't known there.

    `nonzero`: of n elements, how many `nonzero` finds or a boolean mask takes; a float is a
    fraction of n, an int a number, a function gets n. `nms`: the same for the boxes that
    non-maximum suppression keeps. Both keep all unless told otherwise, which is the upper bound.

    `condition`: what an `if` gets that depends on data: False unless told otherwise, or None to
    refuse; `all(...)` of unknown values is True and `any(...)` False as long as it isn't None.

    `number`: what `.item()` of a number gives, None to refuse (the default).

    `even`: whether what chooses among unknown scores (topk, argmax, sort, multinomial) chooses
    evenly, each row going on where the row before it ended: the router of a mixture of experts
    then gives each of E experts tokens x k / E. False leaves its choice unknown.

    `operators` gives a share (as for `nonzero`) for single operators, by name:
    `{"aten::unique_dim": 0.5}`. `scopes` gives an Assume for single modules and what is below
    them, by their path or a pattern of it: `{"*.roi_heads": Assume(nms=100)}`; of several
    that fit, the last one holds.

    Example:

        >>> import torch
        >>> from flopdispatch import count
        >>> def chosen(x):
        ...     return torch.exp(x[x > 0])
        >>> profile = count(chosen, (100,), assume=Assume(nonzero=0.25))
        >>> profile.total.transcendentals
        25
        >>> len(profile.assumptions)
        1

    Raises: ArgumentError for a value of another kind.
    """

    nonzero: Share | None = 1.0
    nms: Share | None = 1.0
    condition: bool | None = False
    number: int | float | None = None
    even: bool = True
    operators: Mapping[str, Share | None] = field(default_factory=dict)
    scopes: Mapping[str, Assume] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shares = {"nonzero=": self.nonzero, "nms=": self.nms}
        shares |= {f"operators[{name!r}]": share for name, share in self.operators.items()}
        for name, share in shares.items():
            if share is not None:
                _check_share(name, share)
        if self.condition is not None and type(self.condition) is not bool:
            raise ArgumentError(f"condition= takes True, False or None, got {self.condition!r}")
        number = self.number
        if number is not None and not (type(number) in (int, float) and math.isfinite(number)):
            raise ArgumentError(f"number= takes a finite number or None, got {number!r}")
        for name, other in self.scopes.items():
            if not isinstance(other, Assume):
                raise ArgumentError(f"scopes[{name!r}] takes an Assume, got {other!r}")

    def at(self, scope: str) -> Assume:
        """What to assume in a scope."""
        found = self
        for pattern, assume in self.scopes.items():
            if fnmatchcase(scope, pattern) or fnmatchcase(scope, f"{pattern}.*"):
                found = assume
        return found

    def share(self, operator: str, of: str, n: int) -> int | None:
        """How many of n an operator keeps; `of` is the kind that it belongs to, None to refuse."""
        share: Any = self.operators.get(operator, getattr(self, of))
        if share is None:
            return None
        if callable(share):
            share = share(n)
            if type(share) is not int:
                raise ArgumentError(f"the share of {operator} of {n} takes an int, got {share!r}")
        elif isinstance(share, float):
            share = round(n * share)
        return max(0, min(n, int(share)))


def _check_share(name: str, share: Any) -> None:
    whole = type(share) is int and share >= 0
    fraction = isinstance(share, float) and 0 <= share <= 1
    if not (whole or fraction or callable(share)):
        raise ArgumentError(
            f"{name} takes a fraction from 0.0 to 1.0, a number >= 0 or a function of n, "
            f"got {share!r}"
        )


# Known values only: every other question is refused.
NOTHING = Assume(nonzero=None, nms=None, condition=None, even=False)
