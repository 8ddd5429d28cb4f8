"""Programs whose course depends on data, and data for which what is assumed holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flopdispatch import Assume, count

ROWS, COLUMNS = 4, 5
SHAPE, N = (ROWS, COLUMNS), ROWS * COLUMNS
WIDTH = 3  # what each element that comes out is multiplied by


def weighed(found: Tensor) -> Tensor:
    """A product of WIDTH MACs for each element."""
    return found.reshape(1, -1).float() @ torch.ones(found.numel(), WIDTH, device=found.device)


def elements(program: Callable[..., Tensor], x: Any, **options: Any) -> int:
    """How many elements a program's result has, as its product tells."""
    macs = count(lambda given: weighed(program(given)), x, **options).macs
    assert macs % WIDTH == 0
    return macs // WIDTH


def asked(program: Callable[..., Any], of: tuple[int, ...] = SHAPE, **options: Any) -> Any:
    """What a program on a tensor of unknown values returns."""
    returned = []
    count(lambda given: returned.append(program(given)), of, **options)
    (result,) = returned
    return result


def positive(number: int) -> Tensor:
    """A matrix of which so many elements are positive."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    return (order < number).float().reshape(SHAPE)


def longer_if_positive(x: Tensor) -> Tensor:
    """Twice as long if its sum is positive."""
    return torch.cat([x, x]) if x.sum() > 0 else x


def of_each_row(x: Tensor) -> Tensor:
    """Each row as often as its sum says."""
    return torch.cat([row.repeat(int(row.sum())) for row in x])


SEVEN, HALF = Assume(nonzero=7), Assume(nonzero=0.5)
DISTINCT = (torch.arange(N) % 7).float().reshape(SHAPE)
SORTED = DISTINCT.flatten().sort().values.reshape(SHAPE)
TWO_ROWS = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None].expand(SHAPE)

# Program, data on the CPU, what to assume that is so of these.
AS_ON_THE_CPU: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, Assume]] = {
    "nonzero": (lambda x: x.nonzero(), positive(7), SEVEN),
    "argwhere": (lambda x: x.argwhere(), positive(7), SEVEN),
    "where": (lambda x: torch.where(x > 0)[1], positive(7), SEVEN),
    "a mask": (lambda x: x[x > 0], positive(7), SEVEN),
    "a mask, twice": (lambda x: x[x > 0] + x[x > 0], positive(7), SEVEN),
    "an opposite mask": (lambda x: x[~(x > 0)], positive(N - 7), SEVEN),
    "a mask of rows": (lambda x: x[x[:, 0] > 0], TWO_ROWS, HALF),
    "a mask of rows, and columns": (lambda x: x[x[:, 0] > 0, 1:3], TWO_ROWS, HALF),
    "masked_select": (lambda x: x.masked_select(x > 0), positive(7), SEVEN),
    "masked_select of rows": (lambda x: x.masked_select(x[:, :1] > 0), TWO_ROWS, HALF),
    "unique": (lambda x: x.unique(), DISTINCT, SEVEN),
    "unique, counted": (lambda x: x.unique(return_counts=True)[1], DISTINCT, SEVEN),
    "unique, back": (lambda x: x.unique(return_inverse=True)[1], DISTINCT, SEVEN),
    "unique rows": (lambda x: x.unique(dim=0), TWO_ROWS, HALF),
    "unique in a row": (lambda x: x.flatten().unique_consecutive(), SORTED, SEVEN),
    "bincount": (lambda x: x.long().flatten().bincount(minlength=9), DISTINCT, Assume()),
    "repeat_interleave": (lambda x: torch.repeat_interleave(x, x[:, 0].long(), dim=0),
                          torch.full(SHAPE, 3.0), Assume(number=3)),
    "a number": (of_each_row, torch.full(SHAPE, 0.4), Assume(number=2)),
    "if": (longer_if_positive, positive(7), Assume(condition=True)),
    "if not": (longer_if_positive, positive(0), Assume(condition=False)),
    "if all": (lambda x: torch.cat([x, x]) if (x > 0).all() else x, positive(N), Assume()),
    "if any": (lambda x: torch.cat([x, x]) if (x > 0).any() else x, positive(0), Assume()),
    "if equal": (lambda x: x if torch.equal(x, x.abs()) else torch.cat([x, x]), positive(7),
                 Assume(condition=True)),
}  # fmt: skip
