"""Known values: what tensors without data hold, where it follows from no data.

A meta tensor made by `arange`, `ones`, a literal, or from a real input, holds values that are
known; so does what operators make of such tensors. This knows them by storage, so views need
nothing, and an in-place operator is seen through every alias: one that writes what isn't known
makes the whole storage unknown. Nothing is computed until a program asks (see questions.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from flopdispatch.capture.calls import Call
from flopdispatch.capture.private import is_fake, without_dispatch
from flopdispatch.capture.roles import EMPTY, FRESH, LIMIT, OVERWRITE, Role, written_by
from flopdispatch.capture.steps import (
    Layout,
    Part,
    Step,
    Value,
    blank,
    given,
    layout_of,
    mapped,
    new,
    run_for,
    tensors_in,
    written,
)

_WITH_STORAGE = (torch.Tensor, torch.nn.Parameter)

SMALL = 64  # elements of a parameter; with larger ones a whole model would be known
FIRST_SWEEP = 1 << 10  # storages known before those that are gone are looked for,
HELD = 1 << 26  # or bytes computed since the last time

# The values of buffers without data, of models that were built where values were known.
KEPT: Any = WeakTensorKeyDictionary()

# A known storage, as long as it is there, and its value, for one yet to be written its bytes; or a
# stand-in's storage, and the real or the kept tensor that it stands for.
Entry = tuple[Any, Any]


class _UnknownError(Exception):
    """An argument's values aren't known."""


class Known:
    """The values of storages without data; `follow` is told of every call that has run."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.sweep_at = FIRST_SWEEP
        self.held = 0

    # Of one tensor

    def part(self, tensor: torch.Tensor) -> Part | None:
        """A tensor's elements, None if they aren't known."""
        if not is_plain(tensor) or tensor.numel() > LIMIT:
            return None
        entry = self.entries.get(_key(tensor))
        if entry is None:
            return snapshot(tensor)
        value = entry[1]
        if type(value) is not Value:
            value = _stood_for(value)
            if value is None:
                return None
            self.bind(tensor, value)
        return Part(value, layout_of(tensor))

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A tensor's values on the CPU, None if they aren't known; not to be written to."""
        part = self.part(tensor)
        if part is None:
            return None
        self.held += run_for(part.value.step)
        if self.held > HELD:
            self._sweep()
        return part.value.tensor(part.layout)

    def assumed(self, tensor: torch.Tensor) -> frozenset[str]:
        """The assumptions that a tensor's values rest on."""
        part = self.part(tensor)
        return frozenset() if part is None else part.value.step.assumed

    def bind(self, tensor: torch.Tensor, value: Value) -> None:
        """A tensor's storage holds this from now on."""
        if len(self.entries) >= self.sweep_at:
            self._sweep()
        storage = tensor.untyped_storage()
        known = self.entries.get(storage._cdata)
        reference = None if known is None else known[0]
        if type(reference) is not StorageWeakRef:
            reference = StorageWeakRef(storage)
        self.entries[storage._cdata] = reference, value

    def _sweep(self) -> None:
        for key, (storage, _) in list(self.entries.items()):
            if type(storage) is StorageWeakRef and storage.expired():
                self.entries.pop(key, None)
        self.sweep_at = max(FIRST_SWEEP, 2 * len(self.entries))
        self.held = 0

    def stand_in(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """A tensor that owns its storage stands for another of its layout, which stays as it is."""
        if type(real) is torch.nn.Parameter and real.numel() > SMALL:
            return
        if is_plain(tensor):
            storage = tensor.untyped_storage()  # kept: another's can't come to lie in its place
            if has_data(real):
                self.entries[storage._cdata] = storage, real
            elif len(KEPT) and real in KEPT:
                part, version = KEPT[real]
                if version == _version(real):
                    self.entries[storage._cdata] = storage, part

    def keep(self, tensor: torch.Tensor) -> None:
        """Know of this tensor what is known now in all counters to come, as long as it lives."""
        part = self.part(tensor)
        if part is not None:
            KEPT[tensor] = part, _version(tensor)

    def recall(self) -> None:
        """Know what was kept."""
        for tensor, (part, version) in list(KEPT.items()):
            if version == _version(tensor):
                storage = tensor.untyped_storage()
                self.entries[storage._cdata] = storage, part.value

    # Of a call

    def follow(self, call: Call, args: Any, kwargs: Any, out: Any) -> None:
        """Know what a call that has just run made or wrote."""
        role: Role = call.watch[1]
        if not role.writes:
            if role.replayed:
                self._make(call.overload, role, args, kwargs, out)
            return
        targets = {_key(tensor): tensor for tensor in written_by(role, args, kwargs)}
        if not role.replayed:
            for key in targets:
                self.entries.pop(key, None)
        elif not self.entries.keys().isdisjoint(targets) or role.name in OVERWRITE:
            self._write(call.overload, role, args, kwargs, targets)

    def _make(self, run: Any, role: Role, args: Any, kwargs: Any, out: Any) -> None:
        if role.name in EMPTY:
            if is_plain(out) and not has_data(out):
                storage = out.untyped_storage()
                if len(self.entries) >= self.sweep_at:
                    self._sweep()
                self.entries[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            return
        if role.name in FRESH:
            args = (_alike(args[0]), *args[1:])
        self.make(run, args, kwargs, out)

    def make(self, run: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Know what a call made, if it made it of known values."""
        inputs: list[Value] = []
        try:
            parts = self.parts(args, inputs), self.parts(kwargs, inputs)
        except _UnknownError:
            return
        made = list(tensors_in(out))
        if not made or not all(has_data(tensor) or self._is_new(tensor) for tensor in made):
            return
        layouts = [layout_of(tensor) for tensor in made]
        for tensor, value in zip(made, new(run, *parts, inputs, layouts)):
            if not has_data(tensor):
                self.bind(tensor, value)

    def _is_new(self, tensor: torch.Tensor) -> bool:
        if not is_plain(tensor) or tensor.numel() > LIMIT:
            return False
        return _key(tensor) not in self.entries

    def _write(
        self, run: Any, role: Role, args: Any, kwargs: Any, targets: dict[int, torch.Tensor]
    ) -> None:
        if role.name in OVERWRITE:
            ((key, target),) = targets.items()
            if _overwrites(target, args):
                self.bind(target, blank(target.untyped_storage().nbytes()))
            elif key not in self.entries:
                return
        for key, target in targets.items():
            if key in self.entries and type(self.entries[key][1]) is int:
                self.bind(target, blank(self.entries[key][1]))
        inputs: list[Value] = []
        try:
            parts = self.parts(args, inputs), self.parts(kwargs, inputs)
            old = [self._owned(key, tensor) for key, tensor in targets.items()]
        except _UnknownError:
            for key in targets:
                self.entries.pop(key, None)
            return
        for key, value in zip(targets, written(run, *parts, inputs, old)):
            self.entries[key] = self.entries[key][0], value

    def _owned(self, key: int, tensor: torch.Tensor) -> Value:
        """The value of a tensor without data.

        Raises: _UnknownError if it isn't known.
        """
        part = self.part(tensor) if key in self.entries else None
        if part is None:
            raise _UnknownError
        return part.value

    def parts(self, value: Any, inputs: list[Value]) -> Any:
        """Arguments with tensors as Parts, whose values are added to `inputs`.

        Raises: _UnknownError if the values of one of these aren't known.
        """

        def part(item: Any) -> Any:
            if isinstance(item, torch.Tensor):
                item = self.part(item)
                if item is None:
                    raise _UnknownError
            if type(item) is Part:
                inputs.append(item.value)
            return item

        return mapped(part, value)


def has_data(tensor: torch.Tensor) -> bool:
    """Whether a tensor has data: it is on no meta device, nor fake."""
    return not tensor.is_meta and not is_fake(type(tensor))


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is its storage's elements in strided layout and no more."""
    if type(tensor) not in _WITH_STORAGE and not is_fake(type(tensor)):
        return False
    return tensor.layout is torch.strided and not (
        tensor.is_conj() or tensor.is_neg() or tensor.is_quantized
    )


def covers(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements are all that its storage holds."""
    if tensor.storage_offset():
        return False
    if tensor.is_contiguous():
        return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
    dense = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size != 1 and step != dense:
            return False
        dense *= size
    return tensor.untyped_storage().nbytes() == dense * tensor.itemsize


def snapshot(tensor: torch.Tensor) -> Part | None:
    """The elements of a tensor on the CPU as they are now, None without data or elsewhere."""
    if not has_data(tensor) or tensor.device.type != "cpu":
        return None
    with without_dispatch(), torch.no_grad():
        copy = tensor.clone()
    storage = copy.untyped_storage()
    return Part(Value(Step(lambda: [storage]), 0), layout_of(copy))


def _stood_for(held: int | torch.Tensor | Part) -> Value | None:
    """The value of a storage that an entry without one is of, None if it isn't known."""
    if isinstance(held, int):  # not written yet: it stands for data
        return None if held else blank(held)
    if isinstance(held, Part):
        return new(torch.clone, (held,), {}, [held.value], [held.layout._replace(offset=0)])[0]
    if not is_plain(held) or held.numel() > LIMIT:
        return None
    return given(held)


def _version(tensor: torch.Tensor) -> int:
    """A number that grows when a tensor is written to, where torch knows it."""
    return 0 if tensor.is_inference() else tensor._version


def _overwrites(target: torch.Tensor, args: Any) -> bool:
    """Whether a write leaves nothing of what was in the target's storage."""
    if target.numel() > LIMIT or not covers(target):
        return False
    return all(_key(source) != _key(target) for source in tensors_in(args[1:]))


def _alike(tensor: torch.Tensor) -> Part:
    """A tensor on the CPU of the same shape and dtype, and of one element's memory."""
    layout = Layout(tuple(tensor.shape), (0,) * tensor.dim(), 0, tensor.dtype)
    return Part(blank(tensor.itemsize), layout)


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
