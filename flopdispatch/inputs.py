"""From what `count` is given to what the model is called with."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import is_
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from flopdispatch.capture.private import is_wrapper
from flopdispatch.errors import ArgumentError
from flopdispatch.spec import TensorSpec, spec


@dataclass(frozen=True, slots=True)
class Verbatim:
    """An input that goes to the model as it is, though it looks like a shape."""

    value: Any


# Told of each stand-in, and of what it stands for.
Told = Callable[[torch.Tensor, torch.Tensor], None]


def tell_nobody(stand_in: torch.Tensor, real: torch.Tensor) -> None:
    """What a stand-in stands for interests nobody."""


def inputs_on(
    value: Any, device: torch.device, where: str = "input", tell: Told = tell_nobody
) -> Any:
    """A model's input with shapes and specs made into tensors on `device`.

    A tuple of integers is the shape of a float tensor; a TensorSpec says its dtype; a tensor
    is taken to the device (to one that isn't here without its data), with a gradient of its own
    if it requires one. Lists, tuples and dicts are searched; everything else is passed on as it is.

    Raises: ArgumentError for a negative size.
    """
    if isinstance(value, Verbatim):
        return value.value
    if isinstance(value, torch.Tensor):
        stand_in = tensor_on(value, device).requires_grad_(value.requires_grad)
        tell(stand_in, value)
        return stand_in
    if isinstance(value, TensorSpec):
        return torch.zeros(value.shape, dtype=value.dtype, device=device)
    if is_shape(value):
        if min(value) < 0:
            raise ArgumentError(f"{where}: a shape has sizes >= 0, got {tuple(value)}")
        return inputs_on(spec(*value), device, where, tell)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(inputs_on(v, device, f"{where}[{i}]", tell) for i, v in enumerate(value))
    if isinstance(value, dict):
        return {k: inputs_on(v, device, f"{where}[{k!r}]", tell) for k, v in value.items()}
    return value


def is_shape(value: Any) -> bool:
    """Whether a value is a non-empty tuple of integers."""
    return isinstance(value, tuple) and bool(value) and all(type(size) is int for size in value)


def model_to_run(model: Any) -> Any:
    """What to run for a model that was given to be counted: the one inside of a DataParallel.

    Raises: ArgumentError for what can't run on stand-ins for its parameters.
    """
    if not callable(model):
        raise ArgumentError(
            f"count() takes a module or a function as its model, got {type(model).__name__}"
        )
    if isinstance(model, nn.DataParallel):  # it copies the model to each GPU, without stand-ins
        return model.module
    kind = ""
    if isinstance(model, torch.jit.ScriptModule):
        kind = "a scripted one"
    elif isinstance(model, nn.Module) and _is_sharded(model):
        kind = "one whose parameters FSDP shards and gathers"
    if kind:
        raise ArgumentError(
            f"count() runs a model on stand-ins for its parameters, which {kind} doesn't take: "
            "count the module that it was made of, or run it in a block of FlopCounter()"
        )
    return model


def _is_sharded(model: nn.Module) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    names = ("FSDPModule", "FullyShardedDataParallel")
    kinds = tuple([getattr(fsdp, name) for name in names if hasattr(fsdp, name)])
    return bool(kinds) and any(isinstance(module, kinds) for module in model.modules())


@cache
def is_here(device: torch.device) -> bool:
    """Whether this machine has a device, so that tensors there hold data; it has no meta."""
    if device.type in ("cpu", "meta"):
        return device.type == "cpu"
    module = getattr(torch, device.type, None)
    return bool(getattr(module, "is_available", bool)())


def tensor_on(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the same metadata on `device`, without data if that isn't here."""
    if is_here(device):
        return tensor.detach().to(device)
    if is_wrapper(type(tensor)):
        return _wrapper_on(tensor, device)
    if tensor.layout is torch.strided and not tensor.is_quantized:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return torch.empty_like(tensor, device=device)


def _wrapper_on(tensor: Any, device: torch.device) -> torch.Tensor:
    """A tensor made of others (a DTensor, quantized weights), made of theirs on `device`."""
    names, context = tensor.__tensor_flatten__()
    inside = {name: getattr(tensor, name) for name in names}
    parts = {
        name: tensor_on(part, device) if isinstance(part, torch.Tensor) else part
        for name, part in inside.items()
    }
    size, stride = tensor.shape, tensor.stride()
    made: torch.Tensor = type(tensor).__tensor_unflatten__(parts, context, size, stride)
    return made.detach()


def state_on(
    model: nn.Module, device: torch.device, tell: Told = tell_nobody, trained: bool = False
) -> dict[str, torch.Tensor]:
    """Stand-ins for a model's parameters and buffers on `device`, ties kept.

    Parameters on the same device share their data unless they are `trained`, with gradients of
    their own; buffers are copied, so that running statistics of the model stay as they are.

    Raises: ArgumentError if a parameter is still uninitialized.
    """
    here = is_here(device)
    stand_ins: dict[int, torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    for name, parameter in slots(model, "_parameters"):
        if torch.nn.parameter.is_lazy(parameter):
            raise ArgumentError(
                f"the parameter {name} of {type(model).__name__} is uninitialized (a lazy "
                "module); run the model once on real inputs first"
            )
        if id(parameter) not in stand_ins:
            twin = tensor_on(parameter, device)
            stand_ins[id(parameter)] = nn.Parameter(
                twin.clone() if here and trained else twin, requires_grad=parameter.requires_grad
            )
            tell(stand_ins[id(parameter)], parameter)
        state[name] = stand_ins[id(parameter)]
    for name, buffer in slots(model, "_buffers"):
        if id(buffer) not in stand_ins:
            copy = tensor_on(buffer, device)
            stand_ins[id(buffer)] = copy.clone() if here else copy
            tell(copy, buffer)
        state[name] = stand_ins[id(buffer)]
    return state


@dataclass(frozen=True, slots=True)
class StandIns:
    """A function of (args, kwargs) that calls a model on these instead of its own."""

    model: nn.Module
    state: dict[str, torch.Tensor]

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return functional_call(self.model, self.state, args, kwargs, tie_weights=False)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Those that stand for parameters, tied ones once."""
        return list({id(t): t for t in self.state.values() if isinstance(t, nn.Parameter)}.values())


@contextmanager
def on_stand_ins(
    model: nn.Module, device: torch.device, tell: Told = tell_nobody, trained: bool = False
) -> Iterator[StandIns]:
    """What calls a model on stand-ins, which `trained` may change; then all is as it was.

    Raises: ArgumentError as `state_on` does.
    """
    state = state_on(model, device, tell, trained)
    with attributes_kept(model):
        yield StandIns(model, state)


def why_not_without_data(model: nn.Module) -> str:
    """What of a model can't stand on a device without data; empty if nothing can be seen."""
    for path, module in model.named_modules():
        held = {**vars(module), **module._parameters, **module._buffers}
        for name, value in held.items():
            where = f"{path}.{name}" if path else name
            if isinstance(value, torch.ScriptObject):
                return f"{where} holds packed weights"
            if isinstance(value, torch.Tensor) and value.is_quantized:
                return f"{where} is quantized"
            if isinstance(value, torch.Tensor) and value.layout is not torch.strided:
                return f"{where} is {value.layout}"
    return ""


_HOLDERS = frozenset({dict, list, OrderedDict})


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Give all modules the attributes back that they had, and to lists and dicts what was in them.

    A forward may keep tensors of this run in its module: anchors, masks, caches.
    """
    kept = [(vars(module), vars(module).copy()) for module in model.modules()]
    inside = [
        (value, value.copy())
        for _, attributes in kept
        for value in attributes.values()
        if type(value) in _HOLDERS
    ]
    try:
        yield
    finally:
        for own, attributes in kept:
            _put_back(own, attributes)
        for value, content in inside:
            if type(value) is list:
                value[:] = content
            elif value or content:
                _put_back(value, content)


def _put_back(changed: dict[Any, Any], known: dict[Any, Any]) -> None:
    """Make a dict hold what it held; what it still holds stays in its place."""
    if changed.keys() == known.keys() and all(map(is_, changed.values(), known.values())):
        return
    for name in [name for name in changed if name not in known]:
        del changed[name]
    for name, value in known.items():
        if changed.get(name) is not value or name not in changed:
            changed[name] = value


def slots(model: nn.Module, kind: str) -> Iterator[tuple[str, Any]]:
    """All places of parameters or buffers, those of a module that has several paths once.

    `functional_call` puts back what it found at each path: at a second path, the stand-in.
    """
    for path, module in model.named_modules():
        for name, value in getattr(module, kind).items():
            if value is not None:
                yield f"{path}.{name}" if path else name, value


def differentiable(output: Any) -> list[torch.Tensor]:
    """The tensors of a model's output that a training step would begin its backward from.

    An output with a `loss` is asked for that only; otherwise all that require gradients.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        return [loss]
    return [tensor for tensor in tensors_in(output) if tensor.requires_grad]


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in lists, tuples, mappings and dataclasses."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    if not isinstance(value, list | tuple):
        return []
    return [tensor for item in value for tensor in tensors_in(item)]
