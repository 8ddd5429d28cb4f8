"""The floor: a dispatch mode that has no call to recognize, for it knows the results in order.

A first run notes of each operator call what it gave, if a functional operator gave nothing
but plain tensors on meta; other calls (views, in-place operators, ...) are noted as to be
made. The replay takes the next note and allocates or calls. It builds no key, counts nothing
and checks nothing: what it takes is what a dispatch mode that answers for kernels can't
avoid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")

Metadata = tuple[torch.Size, tuple[int, ...], torch.dtype]
Allocation = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Note:
    """One operator call and the metadata of its results.

    `results` is None if the call is to be made; `kind` is the list or tuple that holds the
    results, None for a single one.
    """

    operator: Any
    results: tuple[Metadata, ...] | None = None
    kind: Any = None


class Notes(TorchDispatchMode):
    """Runs every call and notes it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.notes: list[Note] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.notes.append(note(func, (args, kwargs), out))
        return out


def note(operator: Any, arguments: Any, out: Any) -> Note:
    """The note of a call that gave `out`."""
    kind = type(out) if type(out) in (list, tuple) else None
    results = out if kind else (out,)
    new = all(map(is_plain, results)) and share_nothing(results, arguments)
    if is_functional(operator) and results and new:
        return Note(operator, tuple((x.shape, x.stride(), x.dtype) for x in results), kind)
    return Note(operator)


def is_functional(operator: Any) -> bool:
    """Whether an operator neither writes into its arguments nor returns a view of them."""
    schema = getattr(operator, "_schema", None)  # a higher-order operator has none
    return schema is not None and all(
        value.alias_info is None for value in (*schema.arguments, *schema.returns)
    )


def is_plain(value: Any) -> bool:
    """Whether this is a tensor on meta of which shape, strides and dtype say all."""
    return (
        type(value) is torch.Tensor
        and value.device == META
        and value.layout is torch.strided
        and not value.is_conj()
        and not value.is_neg()
        and bool(value.storage_offset() == 0)
    )


def share_nothing(results: Any, arguments: Any) -> bool:
    """Whether each result has a storage of its own."""
    tensors = [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor)]
    taken = {storage(x) for x in tensors if x.layout is torch.strided}
    owned = {storage(x) for x in results}
    return len(owned) == len(results) and not owned & taken


def storage(tensor: torch.Tensor) -> int:
    """What tells a storage from all others."""
    return int(tensor.untyped_storage()._cdata)


def allocation(noted: Note) -> Allocation | None:
    """What makes the results of a call, None if the call is to be made."""
    if noted.results is None:
        return None
    made: list[Allocation] = [
        partial(torch.empty_strided, shape, stride, dtype=dtype, device=META)
        for shape, stride, dtype in noted.results
    ]
    return made[0] if noted.kind is None else partial(several, noted.kind, made)


def several(kind: Any, made: list[Allocation]) -> Any:
    """The results of an operator that returns a list or a tuple."""
    return kind([make() for make in made])


class Replay(TorchDispatchMode):
    """Makes each call's results, or the call, as the next of `allocations` says."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # without the wrapper for the compiler, which costs at every call

    def __init__(self, allocations: list[Allocation | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.following = iter(allocations)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        make = next(self.following)
        if make is not None:
            return make()
        return func(*args, **kwargs) if kwargs else func(*args)


def noted(program: Callable[[], Any]) -> list[Note]:
    """The notes of all calls of a program.

    Raises: RuntimeError if it makes other calls when it runs again.
    """
    first, second = Notes(), Notes()
    for mode in (first, second):
        with mode:
            program()
    if first.notes != second.notes:
        raise RuntimeError("the program makes other calls when it runs again; it has no floor")
    return second.notes


def replay(program: Callable[[], Any]) -> Callable[[], Any]:
    """What runs the program on the floor; it returns what the program does."""
    allocations = [allocation(call) for call in noted(program)]

    def run() -> Any:
        with Replay(allocations):
            return program()

    return run
