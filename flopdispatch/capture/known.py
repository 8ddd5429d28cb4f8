"""Known values: what tensors without data hold, where it follows from no data.

A meta tensor made by `arange`, `ones`, a literal, or from a real input, holds values that are
known; so does what operators make of such tensors. This knows them by storage, so views need
nothing, and an in-place operator is seen through every alias: one that writes what isn't known
makes the whole storage unknown. Nothing is computed until a program asks (see questions.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from flopdispatch.capture.calls import Call
from flopdispatch.capture.private import is_fake, without_dispatch
from flopdispatch.capture.steps import (
    Layout,
    Part,
    Step,
    Value,
    blank,
    laid_in,
    layout_of,
    new,
    tensors_in,
    written,
)
from flopdispatch.traffic import is_view

LIMIT = 1 << 20  # elements; of larger tensors nothing is known
FIRST_SWEEP = 1 << 10  # storages known before those that are gone are looked for

# New tensors of which the arguments' values say nothing, and those that hold no values at all.
FRESH = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})
EMPTY = frozenset({
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided",
    "resize_", "resize_as_", "set_", "_resize_output_",
})  # fmt: skip
# Of these the target's own values say nothing, if they write all of its storage.
OVERWRITE = frozenset({"zero_", "fill_", "copy_"})
# These write to running statistics, and their schemas don't say so.
BATCH_NORMS = frozenset({"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"})
_STATISTICS = ("running_mean", "running_var")

# Which of its results are positions that an operator chose; the dimension is its argument `dim`.
CHOICES = {
    "topk": 1, "sort": 1, "argsort": 0, "argmax": 0, "argmin": 0, "max": 1, "min": 1,
    "kthvalue": 1, "median": 1, "nanmedian": 1, "mode": 1, "multinomial": 0,
}  # fmt: skip
GUESSED = frozenset({*CHOICES, "all", "any"})


# The values of buffers without data, of models that were built where values were known.
KEPT: Any = WeakTensorKeyDictionary()


class Role(NamedTuple):
    """What becomes of known values in calls of an overload.

    `writes` are its written arguments, `replayed` is whether the same call gives the same,
    `guessed` whether its result may be assumed where it isn't known.
    """

    name: str
    writes: tuple[tuple[int, str], ...]
    replayed: bool
    guessed: bool


class Entry(NamedTuple):
    """A known storage, as long as it is there; or what it stands for: a real or a kept tensor."""

    storage: Any
    value: Value | torch.Tensor | Part


class _UnknownError(Exception):
    """An argument's values aren't known."""


class Known:
    """The values of storages without data; `follow` is told of every call that has run."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.sweep_at = FIRST_SWEEP

    # Of one tensor

    def value(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor's storage, None if it isn't known."""
        if not is_plain(tensor) or tensor.numel() > LIMIT:
            return None
        entry = self.entries.get(_key(tensor))
        if entry is None:
            return snapshot(tensor)
        if isinstance(entry.value, Value):
            return entry.value
        (value,) = new(torch.clone, (entry.value,), {}, [layout_of(tensor)])
        self.bind(tensor, value)
        return value

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A tensor's values on the CPU, None if they aren't known; not to be written to."""
        value = self.value(tensor)
        return None if value is None else value.tensor(layout_of(tensor))

    def assumed(self, tensor: torch.Tensor) -> frozenset[str]:
        """The assumptions that a tensor's values rest on."""
        value = self.value(tensor)
        return frozenset() if value is None else value.step.assumed

    def bind(self, tensor: torch.Tensor, value: Value) -> None:
        """A tensor's storage holds this from now on."""
        if len(self.entries) >= self.sweep_at:
            self._sweep()
        known = self.entries.get(_key(tensor))
        storage = StorageWeakRef(tensor.untyped_storage()) if known is None else known.storage
        self.entries[_key(tensor)] = Entry(storage, value)

    def _sweep(self) -> None:
        for key, entry in list(self.entries.items()):
            if entry.storage is not None and entry.storage.expired():
                self.entries.pop(key, None)
        self.sweep_at = max(FIRST_SWEEP, 2 * len(self.entries))

    def stand_in(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """A tensor that owns its storage stands for another; both stay, the latter as it is."""
        if real.numel() > LIMIT or not is_plain(tensor):
            return
        if has_data(real):
            self.entries[_key(tensor)] = Entry(None, real)
        elif real in KEPT:
            self.entries[_key(tensor)] = Entry(None, KEPT[real])

    def keep(self, tensor: torch.Tensor) -> None:
        """Know of this tensor what is known now in all counters to come, as long as it lives."""
        value = self.value(tensor)
        if value is not None:
            KEPT[tensor] = Part(value, layout_of(tensor))

    def forget(self, tensor: torch.Tensor) -> None:
        """A tensor's storage holds what isn't known."""
        self.entries.pop(_key(tensor), None)

    # Of a call

    def follow(self, call: Call, args: Any, kwargs: Any, out: Any) -> None:
        """Know what a call that has just run made or wrote."""
        role = call.role
        if role is None:
            role = call.role = role_of(call.overload) or False
        if role is False:
            return
        if not role.writes:
            if role.replayed and (role.name in FRESH or self._may_be_known(args)):
                self._make(call.overload, role, args, kwargs, out)
            return
        targets = _written(role, args, kwargs)
        if any(_key(tensor) in self.entries for tensor in targets) or (
            role.name in OVERWRITE and covers(targets[0])
        ):
            self._write(call.overload, role, args, kwargs, targets)

    def _may_be_known(self, args: Any) -> bool:
        """Whether the first tensor among the arguments, if any, is known: most calls end here."""
        for value in args:
            if isinstance(value, torch.Tensor):
                return has_data(value) or _key(value) in self.entries
        return True

    def _make(self, run: Any, role: Role, args: Any, kwargs: Any, out: Any) -> None:
        made = list(tensors_in(out))
        if not made or not all(map(self._is_new, made)):
            return
        if role.name in FRESH:
            args = (_alike(args[0]), *args[1:])
        try:
            parts = self.parts(args), self.parts(kwargs)
        except _UnknownError:
            return
        for tensor, value in zip(made, new(run, *parts, [layout_of(one) for one in made])):
            self.bind(tensor, value)

    def _is_new(self, tensor: torch.Tensor) -> bool:
        if has_data(tensor) or not is_plain(tensor) or tensor.numel() > LIMIT:
            return False
        return covers(tensor) and _key(tensor) not in self.entries

    def _write(
        self, run: Any, role: Role, args: Any, kwargs: Any, targets: list[torch.Tensor]
    ) -> None:
        if role.name in OVERWRITE and covers(targets[0]) and targets[0].numel() <= LIMIT:
            self.bind(targets[0], blank(targets[0].untyped_storage().nbytes()))
        try:
            if not role.replayed:
                raise _UnknownError
            parts = self.parts(args), self.parts(kwargs)
            old = {_key(tensor): (tensor, self._owned(tensor)) for tensor in targets}
        except _UnknownError:
            for tensor in targets:
                self.forget(tensor)
            return
        values = written(run, *parts, [value for _, value in old.values()])
        for (tensor, _), value in zip(old.values(), values):
            self.bind(tensor, value)

    def _owned(self, tensor: torch.Tensor) -> Value:
        value = self.value(tensor) if _key(tensor) in self.entries else None
        if value is None:
            raise _UnknownError
        return value

    def parts(self, value: Any) -> Any:
        """Arguments with tensors as Parts.

        Raises: _UnknownError if the values of one of these aren't known.
        """
        kind = type(value)
        if isinstance(value, torch.Tensor):
            known = self.value(value)
            if known is None:
                raise _UnknownError
            return Part(known, layout_of(value))
        if kind is list or kind is tuple:
            return kind([self.parts(item) for item in value])
        if kind is dict:
            return {name: self.parts(item) for name, item in value.items()}
        return value


@cache
def role_of(overload: Any) -> Role | None:
    """The role of an overload; None if known values neither come of it nor end by it."""
    schema = getattr(overload, "_schema", None)
    if schema is None or is_view(schema):
        return None
    name = schema.name.split("::")[1]
    writes = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write)
        or (name in BATCH_NORMS and argument.name in _STATISTICS)
    )
    lost = name in EMPTY or torch.Tag.nondeterministic_seeded in overload.tags
    guessed = name in GUESSED and overload.namespace == "aten"
    if lost and not writes and not guessed:
        return None
    return Role(name, writes, not lost, guessed)


def has_data(tensor: torch.Tensor) -> bool:
    """Whether a tensor has data: it is on no meta device, nor fake."""
    return not tensor.is_meta and not is_fake(type(tensor))


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is its storage's elements in strided layout and no more."""
    kind = type(tensor)
    if kind is not torch.Tensor and kind is not torch.nn.Parameter and not is_fake(kind):
        return False
    return tensor.layout is torch.strided and not (
        tensor.is_conj() or tensor.is_neg() or tensor.is_quantized
    )


def covers(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements are all that its storage holds."""
    if tensor.storage_offset():
        return False
    dense = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size != 1 and step != dense:
            return tensor.numel() == 0 and tensor.untyped_storage().nbytes() == 0
        dense *= size
    return tensor.untyped_storage().nbytes() == dense * tensor.itemsize


def snapshot(tensor: torch.Tensor) -> Value | None:
    """The value of a tensor on the CPU as it is now, None for one without data or elsewhere."""
    if not has_data(tensor) or tensor.device.type != "cpu":
        return None
    layout = layout_of(tensor)
    last = sum([(n - 1) * step for n, step in zip(layout.shape, layout.stride)])
    size = layout.offset + last + 1 if tensor.numel() else layout.offset
    storage = torch.UntypedStorage(size * tensor.itemsize)
    with without_dispatch(), torch.no_grad():
        laid_in(storage, layout).copy_(tensor)
    return Value(Step(lambda: [storage], (), frozenset()), 0)


def _alike(tensor: torch.Tensor) -> Part:
    """A tensor on the CPU of the same shape and dtype, and of one element's memory."""
    layout = Layout(tuple(tensor.shape), (0,) * tensor.dim(), 0, tensor.dtype)
    return Part(blank(tensor.itemsize), layout)


def _written(role: Role, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that a call wrote to."""
    found = [args[place] if place < len(args) else kwargs.get(name) for place, name in role.writes]
    return list(tensors_in(found))


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
