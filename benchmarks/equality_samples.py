"""Samples of PyTorch's operator database as plans, from which fresh meta tensors are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

META = torch.device("meta")
CPU = torch.device("cpu")
GAP = 3  # elements before the first one of a sliced tensor
CHANNELS_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}  # dimensions from the outermost inwards

numbers = count()


class Marked(Tensor):
    """A subclass that adds nothing: no plain tensor all the same."""


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "conj": lambda x: x.conj(),
    "neg": torch._neg_view,
    "parameter": lambda x: nn.Parameter(x, requires_grad=False),
    "subclass": lambda x: x.as_subclass(Marked),
    "view": lambda x: x.view_as(x),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A tensor to be made: plans of one number make one tensor, of one storage share it.

    `storage` is None for a tensor that has its memory for itself and no gap in it.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool = False
    offset: int = 0
    storage: int | None = None
    nbytes: int = 0
    form: str = "plain"
    device: torch.device = META
    number: int = field(default_factory=numbers.__next__)

    def build(self, storages: dict[int, Any]) -> Tensor:
        """A fresh tensor; `storages` holds the memory that others share with it."""
        if self.device is CPU:
            made = torch.zeros(self.shape, dtype=self.dtype)
        elif self.storage is None:
            made = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=META)
        else:
            if self.storage not in storages:
                storages[self.storage] = torch.UntypedStorage(self.nbytes, device=META)
            made = torch.empty(0, dtype=self.dtype, device=META)
            made.set_(storages[self.storage], self.offset, self.shape, self.stride)
        made = FORMS[self.form](made)
        return made.requires_grad_() if self.requires_grad else made


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A nested value with all those of a kind in it changed."""
    if isinstance(value, kind):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(mapped(item, kind, change) for item in value)
    if type(value) is dict:
        return {name: mapped(item, kind, change) for name, item in value.items()}
    return value


def found(value: Any, kind: type) -> Iterator[Any]:
    """All those of a kind in a nested value."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from found(item, kind)
    elif isinstance(value, dict):
        for item in value.values():
            yield from found(item, kind)


def planned(value: Any) -> Any:
    """A nested value with plans for its strided tensors, identity and sharing kept.

    Devices become meta.
    """
    tensors = {id(t): t for t in found(value, Tensor) if t.layout is torch.strided}
    users = Counter(t.untyped_storage()._cdata for t in tensors.values())
    plans: dict[int, Plan] = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        alone = (
            users[memory._cdata] == 1
            and tensor.storage_offset() == 0
            and extent(tensor.shape, tensor.stride()) * tensor.itemsize == memory.nbytes()
        )
        plans[name] = Plan(
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
            tensor.requires_grad,
            tensor.storage_offset(),
            None if alone else memory._cdata,
            memory.nbytes(),
        )
    value = mapped(value, Tensor, lambda t: plans.get(id(t), t))
    value = mapped(value, torch.device, lambda _: META)
    return with_device_named(value)


def with_device_named(value: Any) -> Any:
    """The same with `device="cpu"` made meta."""
    if type(value) in (list, tuple):
        return type(value)(with_device_named(item) for item in value)
    if type(value) is dict:
        return {n: META if n == "device" else with_device_named(v) for n, v in value.items()}
    return value


def built(value: Any) -> Any:
    """A nested value with fresh tensors for its plans."""
    storages: dict[int, Any] = {}
    made: dict[int, Tensor] = {}

    def build(plan: Plan) -> Tensor:
        if plan.number not in made:
            made[plan.number] = plan.build(storages)
        return made[plan.number]

    return mapped(value, Plan, build)


def extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements of memory from the first to the last."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride))


def contiguous(shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Strides of a dense tensor with its dimensions in this order, the outermost first."""
    order = order or tuple(range(len(shape)))
    stride = [0] * len(shape)
    for place, dim in enumerate(order):
        stride[dim] = prod(max(shape[d], 1) for d in order[place + 1 :])
    return tuple(stride)


# Layouts: each takes a call's plans to others of the same shapes and dtypes.


def permuted(call: Any) -> Any:
    """Channels last where there are channels, else the first dimension innermost."""

    def change(plan: Plan) -> Plan:
        dims = len(plan.shape)
        order = CHANNELS_LAST.get(dims, tuple(reversed(range(dims))))
        return alone(plan, contiguous(plan.shape, order))

    return mapped(call, Plan, change)


def expanded(call: Any) -> Any:
    """The first dimension repeats one row: a stride of 0."""

    def change(plan: Plan) -> Plan:
        return alone(plan, (0, *contiguous(plan.shape[1:]))) if plan.shape else plan

    return mapped(call, Plan, change)


def sliced(call: Any) -> Any:
    """Every second element of a larger memory."""

    def change(plan: Plan) -> Plan:
        stride = tuple(2 * step for step in plan.stride)
        nbytes = (GAP + extent(plan.shape, stride) + GAP) * plan.dtype.itemsize
        return replace(plan, stride=stride, offset=GAP, storage=-1 - plan.number, nbytes=nbytes)

    return mapped(call, Plan, change)


def resized(size_of: Callable[[int], int]) -> Callable[[Any], Any]:
    """Sizes above 1 by a rule, so that those that were alike still are."""

    def change(plan: Plan) -> Plan:
        shape = tuple(size_of(size) if size > 1 else size for size in plan.shape)
        return alone(replace(plan, shape=shape), contiguous(shape))

    return lambda call: mapped(call, Plan, change)


def emptied(call: Any) -> Any:
    """No rows at all."""

    def change(plan: Plan) -> Plan:
        shape = (0, *plan.shape[1:])
        return alone(replace(plan, shape=shape), contiguous(shape)) if plan.shape else plan

    return mapped(call, Plan, change)


def aliased(call: Any) -> Any:
    """Arguments alike are the same tensor."""
    first: dict[Any, Plan] = {}
    return mapped(call, Plan, lambda p: first.setdefault((p.shape, p.dtype), p))


def overlapping(call: Any) -> Any:
    """Arguments alike lie in one memory, each one element after the one before."""
    seen: Counter[Any] = Counter()
    storages: dict[Any, int] = {}

    def change(plan: Plan) -> Plan:
        alike = plan.shape, plan.dtype
        offset = seen[alike]
        seen[alike] += 1
        stride = contiguous(plan.shape)
        nbytes = (extent(plan.shape, stride) + 8) * plan.dtype.itemsize
        storage = storages.setdefault(alike, -1 - plan.number)
        return replace(plan, stride=stride, offset=offset, storage=storage, nbytes=nbytes)

    return mapped(call, Plan, change)


def scalars_on_cpu(call: Any) -> Any:
    """Tensors without dimensions stay on the CPU."""
    return mapped(call, Plan, lambda p: p if p.shape else replace(p, device=CPU, storage=None))


def without_gradients(call: Any) -> Any:
    """Nothing requires gradients."""
    return mapped(call, Plan, lambda plan: replace(plan, requires_grad=False))


def as_form(form: str) -> Callable[[Any], Any]:
    """Tensors of the form named; conj and neg take those dtypes alone that have them."""

    def change(plan: Plan) -> Plan:
        possible = {
            "conj": plan.dtype.is_complex,
            "neg": plan.dtype.is_complex or plan.dtype.is_floating_point,
        }
        return replace(plan, form=form) if possible.get(form, True) else plan

    return lambda call: mapped(call, Plan, change)


def alone(plan: Plan, stride: tuple[int, ...]) -> Plan:
    """The same shape with memory of its own."""
    return replace(plan, stride=stride, offset=0, storage=None, nbytes=0)
