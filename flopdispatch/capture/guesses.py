"""Guesses: values that operators give for data, assumed until a program asks for them.

What chooses among unknown scores is taken to choose evenly; `all` of unknown values to be True
and `any` of them False. A guess costs nothing and is no assumption before it answers a question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flopdispatch.assumptions import Assume
from flopdispatch.capture.known import Known, covers, has_data
from flopdispatch.capture.roles import CHOICES, LIMIT, TRUTHS, Role
from flopdispatch.capture.steps import Step, Value, laid_out, layout_of, tensors_in
from flopdispatch.spec import signature


def guess(
    known: Known, assume: Assume, overload: Any, role: Role, args: Any, kwargs: Any, out: Any
) -> None:
    """Know what an operator that gives positions or truths is assumed to give."""
    name = role.name
    results = list(tensors_in(out))
    slot = CHOICES.get(name, 0)
    if slot >= len(results):  # max of all elements, say, which gives no position
        return
    result = results[slot]
    if has_data(result) or result.numel() > LIMIT or not covers(result):
        return
    if known.part(result) is not None:
        return
    if name in TRUTHS:
        if assume.condition is not None:
            truth, shape = TRUTHS[name], tuple(result.shape)
            text = f"aten::{name} of data is {truth}"
            known.bind(result, assumed_value(lambda: torch.full(shape, truth), result, text))
        return
    if assume.even:
        names, defaults = signature(overload)
        given = dict(zip(names, defaults)) | dict(zip(names, args)) | kwargs
        choose = evenly(tuple(result.shape), given.get("self"), given.get("dim", -1))
        known.bind(result, assumed_value(choose, result, f"aten::{name} chooses evenly among data"))


def evenly(
    shape: tuple[int, ...], scores: torch.Tensor | None, dim: int | None
) -> Callable[[], torch.Tensor]:
    """Positions along a dimension of `scores`, each row's beginning where the last one's ended."""
    if scores is None:  # chosen at random, in whatever order
        return lambda: torch.arange(*shape)
    if dim is None or not scores.dim():
        return lambda: torch.zeros(shape, dtype=torch.int64)
    number, dim, keeps = scores.shape[dim], dim % scores.dim(), len(shape) == scores.dim()

    def positions() -> torch.Tensor:
        kept = shape if keeps else (*shape[:dim], 1, *shape[dim:])
        chosen = kept[dim]
        rows = [size for place, size in enumerate(kept) if place != dim]
        ranks = torch.arange(torch.Size(kept).numel()) % max(number, 1)
        return ranks.reshape(*rows, chosen).movedim(-1, dim).reshape(shape)

    return positions


def assumed_value(make: Callable[[], torch.Tensor], tensor: torch.Tensor, text: str) -> Value:
    """The value of a new tensor that is assumed to hold what `make` gives, if one asks."""
    layout = layout_of(tensor)
    step = Step(lambda: [laid_out(make().to(layout.dtype), layout)], (), frozenset({text}))
    return Value(step, 0)
