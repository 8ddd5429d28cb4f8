"""on_meta(): builds a model without memory for its parameters."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from flopdispatch.assumptions import NOTHING
from flopdispatch.capture.known import Known, has_data
from flopdispatch.capture.literals import literals
from flopdispatch.capture.mode import RecordingMode
from flopdispatch.capture.questions import Questions
from flopdispatch.capture.recording import Recording
from flopdispatch.capture.scopes import ScopeTracker
from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import slots
from flopdispatch.units import some

Model = TypeVar("Model", bound=nn.Module)


def on_meta(build: Callable[..., Model], *args: Any, **kwargs: Any) -> Model:
    """Build a model on the meta device: `build(*args, **kwargs)` returns it.

    No memory is taken and nothing initialized. Values that a builder asks for are answered where
    they are known (`torch.linspace(0, 1, 12).tolist()`). Where that isn't enough, the model is
    built on the CPU instead, each parameter going to meta as soon as a module has it. A
    counter knows the values of the model's buffers, too, and of tensors that are its modules'
    attributes, up to 8 million elements each.

    Parameters that the builder made on another device are moved to meta, and named in a warning.

    Raises: ArgumentError if `build` returns no module; what `build` raises in both ways.

    Example:

        >>> model = on_meta(nn.Linear, 1_000_000, 1_000_000)  # 4 TB of parameters
        >>> model.weight.device
        device(type='meta')
    """
    try:
        with torch.device("meta"):
            model, left = _built(build, args, kwargs)
    except Exception as error:
        try:
            with _parameters_going_to_meta():
                model, _ = _built(build, args, kwargs)
        except Exception as second:
            raise second from error
        left = {}
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"on_meta() takes a function that returns a module, got {model!r}")
    if left:
        names = some([f"{name} on {device}" for name, device in left.items()])
        warnings.warn(f"parameters made elsewhere than on meta were moved: {names}", stacklevel=2)
    return model


def _built(
    build: Callable[..., Model], args: Any, kwargs: Any
) -> tuple[Model, dict[str, torch.device]]:
    """What a builder returns, and the parameters that were left elsewhere."""
    questions = Questions(NOTHING, strict=False)  # what is assumed would make another model
    left: dict[str, torch.device] = {}
    with literals(questions.literal), RecordingMode(ScopeTracker(Recording()), True, questions):
        model = build(*args, **kwargs)
        if isinstance(model, nn.Module):
            left = _finish(model, questions.known)
    return model, left


def _finish(model: nn.Module, known: Known) -> dict[str, torch.device]:
    """Move to meta what isn't there, keep the buffers' values; the parameters that were left."""
    left = {}
    moved: Any = WeakTensorKeyDictionary()
    for name, parameter in slots(model, "_parameters"):
        if has_data(parameter) and not nn.parameter.is_lazy(parameter):
            left[name] = parameter.device
            _put(model, "_parameters", name, _twin(parameter, moved))
    for name, buffer in slots(model, "_buffers"):
        if nn.parameter.is_lazy(buffer):
            continue
        kept = buffer
        if has_data(buffer):
            kept = buffer.to("meta")  # a call that is followed
            _put(model, "_buffers", name, kept)
        known.keep(kept)
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor):
                known.keep(value)
    return left


def _put(model: nn.Module, kind: str, name: str, tensor: torch.Tensor) -> None:
    path, _, last = name.rpartition(".")
    getattr(model.get_submodule(path), kind)[last] = tensor


def _twin(parameter: nn.Parameter, moved: Any) -> nn.Parameter:
    """The same parameter on meta; one only, however often it is asked for."""
    if parameter not in moved:
        twin = torch.empty_like(parameter, device="meta")
        moved[parameter] = nn.Parameter(twin, requires_grad=parameter.requires_grad)
    found: nn.Parameter = moved[parameter]
    return found


_building = threading.Lock()


@contextmanager
def _parameters_going_to_meta() -> Iterator[None]:
    """Every parameter that a module of this thread is given is one on meta at once."""
    thread, moved = threading.get_ident(), WeakTensorKeyDictionary()
    original = nn.Module.register_parameter

    def register_parameter(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(self, name, param)
        here = threading.get_ident() == thread
        if here and param is not None and has_data(param) and not nn.parameter.is_lazy(param):
            self._parameters[name] = _twin(param, moved)

    with _building:
        nn.Module.register_parameter = register_parameter  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.register_parameter = original  # type: ignore[method-assign]
