"""The calls of ptflops 0.7.5, with what it can't see counted too.

    from flopdispatch.compat.ptflops import get_model_complexity_info

    macs, params = get_model_complexity_info(torchvision.models.resnet50(), (3, 224, 224))
    # "4.13 GMac", "25.56 M", after a line for each layer

Names, defaults, strings and the printout's form are ptflops'. It prices as ptflops does
(`flopdispatch.conventions.ptflops`) unless `convention=` says otherwise. What differs, by name:

- functions it doesn't patch are counted: `F.linear`, `F.conv2d`, `F.layer_norm`,
  `F.scaled_dot_product_attention`, `@`, `torch.einsum`, `x.softmax()`; so are modules whose class
  derives from one that it knows, and what runs in modules inside of one that it has a formula for
  (the layers in timm's `Attention`, which it leaves out);
- `torch.add`, `torch.mul`, `x.add(y)` and `x.mul(y)`, which it counts where they are written so,
  are nothing like `+` and `*`: they are the same operators;
- `F.interpolate` and `nn.Upsample` are counted by the true size of their output: ptflops raises
  for a list of factors, rounds those of a tuple down, and takes a batch's first element; in mode
  "area" they are the pooling that they run;
- `nn.MultiheadAttention` that returns weights isn't counted a second time by the functions it
  calls, and keys and values of other sizes have the projections that they have;
- a batch that `input_constructor` makes divides everything, not only what hooks counted, and is
  the batch of the layers too: an LSTM isn't divided by its steps, nor a model by the number of
  inputs in a tuple. Keyword inputs are counted whole, as by ptflops;
- the printout adds up: functional calls are in the line of the module that made them, ReLU and
  the others that are counted twice stand there twice, parameters are those of the module whole;
- an ignored or custom class leaves out all that runs inside of it, functions included;
- `verbose=True` names classes in which nothing was counted, not those without a formula;
- with `backend="aten"`, the figure of products in all modes, attention that the CPU fuses included;
- the model runs once, without gradients, on meta if it can, and is left as it was: its training
  modes too. What it raises comes through, in place of `(None, None)`.

Parameters are those that require gradients, as in ptflops.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TextIO

import torch
from torch import nn

from flopdispatch.compat.ptflops_counts import Count, counted
from flopdispatch.compat.ptflops_text import (
    flops_to_string,
    params_to_string,
    print_ignored,
    print_layers,
    print_operators,
    print_zero_layers,
    print_zero_operators,
    trainable,
)
from flopdispatch.errors import ArgumentError
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec, spec

__all__ = ["FLOPS_BACKEND", "flops_to_string", "get_model_complexity_info", "params_to_string"]


class FLOPS_BACKEND(Enum):  # noqa: N801  the name that scripts import
    """ptflops' engines: by modules and patched functions, or by the dispatcher."""

    PYTORCH = "pytorch"
    ATEN = "aten"


def get_model_complexity_info(
    model: nn.Module,
    input_res: tuple[int, ...],
    print_per_layer_stat: bool = True,
    as_strings: bool = True,
    input_constructor: Callable[[tuple[int, ...]], Any] | None = None,
    ost: TextIO | None = None,
    verbose: bool = False,
    ignore_modules: Iterable[Any] = (),
    custom_modules_hooks: Mapping[Any, Callable[..., Any]] | None = None,
    backend: str | FLOPS_BACKEND = FLOPS_BACKEND.PYTORCH,
    flops_units: str | None = None,
    param_units: str | None = None,
    output_precision: int = 2,
    backend_specific_config: Mapping[str, Any] | None = None,
    *,
    convention: str | Registry | None = None,
) -> tuple[str, str] | tuple[int, int]:
    """MACs of a forward, and parameters that require gradients: strings, or integers.

    `input_res` is the shape of one input, without the batch: it runs as a batch of one, of the
    dtype of the model's first parameter. `input_constructor` is given it instead, and returns the
    model's keyword arguments in a dict, or its one argument; MACs are then divided by the size of
    the batch where that is a tensor or a list.

    `print_per_layer_stat` prints each module with its parameters and MACs to `ost` (None: standard
    output); `verbose` prints first what counts as nothing. `flops_units` are "GMac", "MMac",
    "KMac", `param_units` "B", "M", "K", with `output_precision` decimals; any other name gives
    the number in full, and None chooses.

    `ignore_modules` are classes of modules, and operators such as `torch.ops.aten.convolution`,
    that are left out. `custom_modules_hooks` has a `hook(module, input, output)` for a class, that
    adds to `module.__flops__`, or `hook(inputs, outputs)` for an operator, that returns its MACs
    from tensors on meta. `backend_specific_config={"count_functional": False}` counts modules that
    ptflops has a formula for, once, and nothing else.

    `convention` is the name of one or a Registry; its MACs are given.

    Raises: ArgumentError for arguments that can't be used; what the model or a hook raises.

    Example:

        >>> get_model_complexity_info(
        ...     nn.Linear(3, 2), (3,), as_strings=False, print_per_layer_stat=False
        ... )  # 6 products and 2 biases, 6 weights and 2 biases
        (8, 8)
    """
    engine = engine_named(backend)
    check(model, output_precision, ost)
    shape = checked_shape(input_res, input_constructor is not None)
    ignored, hooks = checked_kinds(ignore_modules, custom_modules_hooks or {})
    patched = checked_config(backend_specific_config or {})
    given = input_constructor(shape) if input_constructor else one_input(model, shape)
    try:
        count = counted(
            model, given, ignored, hooks, engine=engine.value, patched=patched,
            convention=convention,
        )  # fmt: skip
    except Exception as error:
        explain(error, model, shape, input_constructor is not None)
        raise
    params = trainable(model)
    report(
        model, count, ost or sys.stdout, layers=print_per_layer_stat, zeros=verbose, engine=engine,
        units=(flops_units, param_units), precision=output_precision,
    )  # fmt: skip
    if not as_strings:
        return count.total, params
    return (
        flops_to_string(count.total, flops_units, output_precision),
        params_to_string(params, param_units, output_precision),
    )


def report(
    model: nn.Module,
    count: Count,
    ost: TextIO,
    *,
    layers: bool,
    zeros: bool,
    engine: FLOPS_BACKEND,
    units: tuple[str | None, str | None],
    precision: int,
) -> None:
    """Print what was asked for, in the form of the engine."""
    if engine is FLOPS_BACKEND.PYTORCH:
        if zeros:
            print_zero_layers(model, count, ost)
        if layers:
            print_layers(model, count, ost, units, precision)
        return
    print_ignored(count, ost)
    if zeros:
        print_zero_operators(count, ost)
    if layers:
        print_operators(count, ost, units[0], precision)


def one_input(model: nn.Module, shape: tuple[int, ...]) -> TensorSpec:
    """A batch of one, of the dtype of the model's first parameter."""
    dtypes = [parameter.dtype for parameter in model.parameters()]
    return spec(1, *shape, dtype=dtypes[0] if dtypes else None)


def explain(error: Exception, model: nn.Module, shape: Any, constructed: bool) -> None:
    """Note on an exception what the model was given, where Python has notes."""
    what = "what input_constructor made" if constructed else f"one input of shape {(1, *shape)}"
    if hasattr(error, "add_note"):
        error.add_note(
            f"get_model_complexity_info ran {type(model).__name__} on {what}; "
            "input_constructor= makes other inputs"
        )


# What is given


def engine_named(backend: Any) -> FLOPS_BACKEND:
    """The engine of this name, or of ptflops' own enum.

    Raises: ArgumentError for another.
    """
    try:
        return FLOPS_BACKEND(getattr(backend, "value", backend))
    except ValueError as error:
        raise ArgumentError(f"backend= takes 'pytorch' or 'aten', got {backend!r}") from error


def check(model: Any, output_precision: Any, ost: Any) -> None:
    """Raises: ArgumentError for a model, a precision or a stream that can't be used."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"get_model_complexity_info takes a torch.nn.Module, got {type(model).__name__}"
        )
    if type(output_precision) is not int:
        raise ArgumentError(
            f"output_precision= takes a number of decimals, got {output_precision!r}"
        )
    if ost is not None and not hasattr(ost, "write"):
        raise ArgumentError(f"ost= takes a stream to print to, such as sys.stderr, got {ost!r}")


def checked_shape(input_res: Any, constructed: bool) -> tuple[Any, ...]:
    """The resolution as a tuple; what only a constructor reads may be anything in one.

    Raises: ArgumentError for another type, an empty one, or no sizes.
    """
    sizes = tuple(input_res) if isinstance(input_res, tuple | list) else ()
    fits = constructed or all(type(size) is int and size >= 0 for size in sizes)
    if not sizes or not fits:
        raise ArgumentError(
            "input_res= takes the sizes of one input without its batch, such as (3, 224, 224), "
            f"got {input_res!r}; input_constructor= makes any other input"
        )
    return sizes


def checked_kinds(
    ignore_modules: Any, hooks: Any
) -> tuple[frozenset[Any], dict[Any, Callable[..., Any]]]:
    """Classes and operators that are left out or have a hook.

    Raises: ArgumentError for what is neither, or a hook that can't be called.
    """
    if not isinstance(ignore_modules, Iterable):
        raise ArgumentError(f"ignore_modules= takes a list of classes, got {ignore_modules!r}")
    if not isinstance(hooks, Mapping):
        raise ArgumentError(
            f"custom_modules_hooks= takes a dict of classes and their hooks, got {hooks!r}"
        )
    ignored = list(ignore_modules)
    for name, kinds in (("ignore_modules", ignored), ("custom_modules_hooks", hooks)):
        for kind in kinds:
            is_class = isinstance(kind, type) and issubclass(kind, nn.Module)
            if not is_class and not isinstance(kind, torch._ops.OpOverloadPacket):
                raise ArgumentError(
                    f"{name}= takes classes such as torch.nn.ReLU and operators such as "
                    f"torch.ops.aten.convolution, got {kind!r}; pass type(module) for a module"
                )
    for kind, hook in hooks.items():
        if not callable(hook):
            raise ArgumentError(f"custom_modules_hooks= takes a function for {kind}, got {hook!r}")
    return frozenset(ignored), dict(hooks)


def checked_config(config: Any) -> bool:
    """Whether functions are counted.

    Raises: ArgumentError for an option that there isn't.
    """
    if not isinstance(config, Mapping) or not set(config) <= {"count_functional"}:
        raise ArgumentError(
            f"backend_specific_config= takes {{'count_functional': True}} or False, got {config!r}"
        )
    return bool(config.get("count_functional", True))
