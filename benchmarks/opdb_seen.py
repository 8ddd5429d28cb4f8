"""What can be seen of one run of a case: metadata, errors, warnings, and values bit for bit."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from benchmarks.equality_samples import found
from benchmarks.opdb_samples import WAYS, Case
from flopdispatch import FlopCounter, Profile
from tests.observed import Facts, NoOp, Outcome, Program, outcome, same, telling

ROUNDING = 1e-4  # relative: what another order of the same float32 operations may come to
ROUNDED, VALUES = "rounding", "values"  # kinds of differences beside the names of Facts

UNOBSERVABLE = "unobservable"
Difference = tuple[str, str]  # its kind, and the whole of it in words


class Seen(NamedTuple):
    """What one run did, the tensors that it left, and what was counted."""

    outcome: Outcome
    contents: tuple[Tensor, ...]
    ending: str
    profile: Profile | None


def bare(case: Case, device: torch.device, way: str) -> Seen:
    """A run without the counter."""
    return run(case, device, way, nullcontext())


def counted(case: Case, device: torch.device, way: str) -> Seen:
    """A run in a counter of its own."""
    return run(case, device, way, FlopCounter(display=False))


def in_any_mode(case: Case, device: torch.device, way: str) -> Seen:
    """A run under a dispatch mode that does nothing."""
    return run(case, device, way, NoOp())  # type: ignore[no-untyped-call]


def run(case: Case, device: torch.device, way: str, mode: AbstractContextManager[Any]) -> Seen:
    """Run a case on fresh inputs; what it raises is part of what is seen."""
    make, call = case.ways[way]
    given = make(device)
    kept: list[Any] = []

    def program(given: Any) -> Any:
        with WAYS[way]():
            kept.append(call(given))
        return kept[0]

    ending, profile = "", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with mode:
                told = told_of(Program(f"{case.name}, {way}", lambda: given, program), given)
        except Exception as error:
            ending = f"{type(error).__name__}: {error}"
        if isinstance(mode, FlopCounter):
            profile = mode.profile
    with torch.no_grad():
        return Seen(told, tuple(contents((given, kept))), ending, profile)


def told_of(program: Program, given: Any) -> Outcome:
    """What is observed of a program, or why torch lets nobody look at its tensors."""
    try:
        return outcome(program, given)
    except Exception as error:
        return Outcome(program.name, f"{UNOBSERVABLE}: {error}", (), None, None, 0)


def contents(value: Any) -> Iterator[Tensor]:
    """The elements of each tensor in a nested value and of its gradient, those on meta left out."""
    for tensor in found(value, Tensor):
        if is_lazy(tensor) or tensor.is_meta:
            continue
        try:
            grad = tensor.grad if tensor.is_leaf else None
        except RuntimeError:  # a view that torch has made invalid: told_of has said so
            continue
        for one in (tensor, grad):
            yield from [] if one is None else dense(one.detach())


def dense(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor's elements row by row; of a sparse one, its parts'."""
    if tensor.is_nested:
        parts = list(tensor.unbind())
    elif tensor.layout is torch.sparse_coo:
        parts = [tensor._indices(), tensor._values()]
    elif tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    elif tensor.layout is not torch.strided:
        parts = [tensor.to_dense()]
    elif tensor._is_zerotensor():  # zeros without memory
        parts = [torch.zeros(tensor.shape, dtype=tensor.dtype)]
    else:
        yield tensor.resolve_conj().resolve_neg().contiguous()
        return
    for part in parts:
        yield from dense(part)


def differences(one: Seen, other: Seen, values: bool) -> list[Difference]:
    """What isn't the same in another run; `values` tells whether these are compared."""
    wrong = [
        ("end", f"at the counter's end: {seen.ending}") for seen in (one, other) if seen.ending
    ]
    if any(seen.outcome.error.startswith(UNOBSERVABLE) for seen in (one, other)):
        errors = [seen.outcome.error for seen in (one, other)]
        return (
            [(UNOBSERVABLE, f"{errors[0]!r} for {errors[1]!r}")]
            if errors[0] != errors[1]
            else wrong
        )
    wrong += [(kind_of(text), text) for text in telling("", one.outcome, other.outcome)]
    if not same(one.outcome, other.outcome) and not wrong:
        wrong.append(("outcome", "another outcome"))
    if values and not of_other_shapes(one, other):
        pairs = [(a, b) for a, b in zip(one.contents, other.contents) if bits(a) != bits(b)]
        if pairs:
            kind = ROUNDED if all(close(a, b) for a, b in pairs) else VALUES
            wrong.append((kind, f"{kind} of {len(pairs)} tensors"))
    elif values and not wrong:
        wrong.append((VALUES, "other tensors"))
    return wrong


def of_other_shapes(one: Seen, other: Seen) -> bool:
    """Whether the tensors of two runs can't be compared one by one."""
    kinds = [[(t.shape, t.dtype) for t in seen.contents] for seen in (one, other)]
    return kinds[0] != kinds[1]


def kind_of(text: str) -> str:
    """The field that a difference is in: the innermost of those that an outcome has."""
    names = text.partition(":")[0].split(".")
    fields = {*Facts._fields, *Outcome._fields}
    return next((name for name in reversed(names) if name in fields), names[0])


def bits(tensor: Tensor) -> bytes:
    """What contiguous elements are in memory."""
    return ctypes.string_at(tensor.data_ptr(), tensor.nbytes) if tensor.nbytes else b""


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal but for rounding."""
    if not (one.is_floating_point() or one.is_complex()):
        return False
    a, b = (t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (one, other))
    return torch.allclose(a, b, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
