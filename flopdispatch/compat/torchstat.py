"""torchstat: `stat` with its columns and footer, of any model and inputs.

    from flopdispatch.compat.torchstat import stat

    stat(torchvision.models.resnet18(), (3, 224, 224))

or `python -m flopdispatch.compat.torchstat -f FILE -m MODEL -s 3x224x224`. Figures are those of the
`torchstat` convention, which tells what it counts. What differs, by name:

- Functional calls and bare parameters of a module with children are in a row of their own, which
  has that module's name (`root`, the model's). torchstat doesn't see them.
- A module that is called again counts each time; torchstat keeps the last call. One that isn't
  called has its parameters; torchstat gives it none.
- The total row adds up what is above it. torchstat's says the last layer's MemRead and MemWrite. A
  tied parameter is in each row that holds it, once in the total.
- Grouped rows (`query_granularity`) show the shapes that the module itself got and returned, its
  own work included; torchstat shows its first leaf's and its last one's.
- `is not supported!` is said of operators, once each, not of each call of a module.
- Counts are printed as integers: `760`, not `760.0`.
- The table is returned. `input_size` may be of any length, a tensor, or several of these.
- Nothing of the model changes. torchstat leaves eight buffers in each layer, eval mode, and
  `__call__` patched in each class.
- The command line fails with a status if it fails, and takes `-g` and `-c`.

Durations are measured in a second run, on real tensors and without counting. They vary.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from flopdispatch.capture.wrappers import unwrapped
from flopdispatch.compat.running import device_of, modes_kept
from flopdispatch.compat.torchstat_table import Table, table_of
from flopdispatch.compat.torchstat_timing import timed
from flopdispatch.conventions import convention as registry_of
from flopdispatch.counter import FlopCounter, untouched_random_state
from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import on_stand_ins
from flopdispatch.profile import Profile
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

__all__ = ["ModelStat", "Table", "main", "stat"]


def stat(
    model: nn.Module,
    input_size: Any,
    query_granularity: int = 1,
    *,
    keywords: Mapping[str, Any] | None = None,
    convention: str | Registry = "torchstat",
    display: bool = True,
) -> Table:
    """Print and return the table of a model's layers, in eval mode and without gradients.

    `input_size` is the size of an input without its batch, such as (3, 224, 224): a batch of one is
    made of random numbers, in the dtype and on the device of the model's parameters. Or it is a
    tensor or a `spec`, batch included, or a list of any of these for several inputs; `keywords` are
    keyword inputs, likewise. `query_granularity` groups rows: 1 is a row for each layer, 2 one for
    each module that has layers only, and so on.

    The columns: shapes without their first dimension, `params`, `memory(MB)` (of outputs, MiB),
    `MAdd` and `Flops` (operations and multiply-accumulates, as torchstat counts them), `MemRead(B)`
    and `MemWrite(B)` (bytes), `duration[%]`. By another `convention`, Flops are MACs and MAdd
    FLOPs. `display=False` doesn't print.

    Raises: ArgumentError for arguments that can't be used; what the model raises.

    Example:

        >>> import contextlib, io
        >>> with contextlib.redirect_stdout(io.StringIO()):  # it prints its table
        ...     table = stat(nn.Conv2d(3, 4, 3), (3, 8, 8))
        >>> table.total.flops  # 6 x 6 outputs of 4 channels: 27 MACs each, and one for the bias
        4032
    """
    check(model, query_granularity)
    model = unwrapped(model) or model
    registry, device = registry_of(convention), device_of(model)
    with torch.no_grad(), modes_kept(model), untouched_random_state(device):
        args = inputs_of(input_size, model)
        named = {name: made(value, model, f"{name}=") for name, value in (keywords or {}).items()}
        for module in model.modules():
            module.training = False
        profile = counted(model, copied(args), copied(named), registry)
        timings = timed(model, copied(args), copied(named), device)
    table = table_of(profile, timings, query_granularity, registry)
    if display:
        print(table)
    return table


class ModelStat:
    """torchstat's class behind `stat`; `show_report` prints the table and returns it."""

    def __init__(self, model: nn.Module, input_size: Any, query_granularity: int = 1) -> None:
        check(model, query_granularity)
        self.arguments = model, input_size, query_granularity

    def show_report(self) -> Table:
        """As `stat`."""
        return stat(*self.arguments)


def check(model: Any, granularity: Any) -> None:
    """Raises: ArgumentError for what is no module, or no granularity."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"stat() takes a module as its model, got {type(model).__name__}")
    if type(granularity) is not int or granularity < 1:
        raise ArgumentError(f"query_granularity= takes an integer >= 1, got {granularity!r}")


def counted(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], registry: Registry
) -> Profile:
    """The profile of a run on real tensors, on stand-ins for parameters and buffers."""
    counter = FlopCounter(display=False, convention=registry)
    with on_stand_ins(model, device_of(model)) as call, counter:
        call(args, kwargs)
    return counter.profile


# Inputs


def inputs_of(given: Any, model: nn.Module) -> tuple[Any, ...]:
    """The positional inputs that `input_size` stands for.

    Raises: ArgumentError for what stands for none.
    """
    if isinstance(given, torch.Tensor | TensorSpec) or is_size(given):
        return (made(given, model, "input_size"),)
    if not isinstance(given, list | tuple):
        raise ArgumentError(
            "input_size= takes a size without its batch such as (3, 224, 224), a tensor, or a list "
            f"of these for several inputs, got {given!r}"
        )
    for item in given:
        if isinstance(item, int | float | str) and not isinstance(item, bool):
            raise ArgumentError(f"a size has integers only, got {item!r} in input_size={given!r}")
    return tuple(made(item, model, f"input_size[{i}]") for i, item in enumerate(given))


def made(value: Any, model: nn.Module, where: str) -> Any:
    """An input with sizes and specs made into tensors on the model's device.

    Raises: ArgumentError for a negative size.
    """
    device = device_of(model)
    if isinstance(value, torch.Tensor):
        return value.detach().to(device)
    if isinstance(value, TensorSpec):
        if value.dtype.is_floating_point or value.dtype.is_complex:
            return torch.rand(value.shape, dtype=value.dtype, device=device)
        return torch.zeros(value.shape, dtype=value.dtype, device=device)
    if is_size(value):
        if min(value) < 0:
            raise ArgumentError(f"{where}: a size has integers >= 0, got {tuple(value)}")
        return torch.rand(1, *value, dtype=dtype_of(model), device=device)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(made(v, model, f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(value, dict):
        return {key: made(v, model, f"{where}[{key!r}]") for key, v in value.items()}
    return value


def is_size(value: Any) -> bool:
    """Whether a value is a tuple or list of integers that isn't empty."""
    return isinstance(value, list | tuple) and bool(value) and all(type(v) is int for v in value)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of a model's first floating-point parameter."""
    dtypes = (parameter.dtype for parameter in model.parameters())
    return next((t for t in dtypes if t.is_floating_point), torch.get_default_dtype())


def copied(inputs: Any) -> Any:
    """The same inputs with data of their own: a model may write to them."""
    return tree_map_only(torch.Tensor, torch.Tensor.clone, inputs)


# Command line


def main(arguments: Sequence[str] | None = None) -> None:
    """torchstat's command: `-f FILE -m MODEL -s 3x224x224`, and `-g`, `-c`.

    Raises: SystemExit with status 2 for arguments that can't be used; what the file raises.
    """
    parser = argparse.ArgumentParser(
        prog="python -m flopdispatch.compat.torchstat", description="Torch model statistics"
    )
    parser.add_argument("--file", "-f", required=True, help="Module file.")
    parser.add_argument("--model", "-m", required=True, help="Model name")
    parser.add_argument(
        "--size", "-s", default="3x224x224",
        help="Input size. channels x height x width (default: 3x224x224); several: 3x8x8,10",
    )  # fmt: skip
    parser.add_argument("--granularity", "-g", type=int, default=1, help="1: a row for each layer")
    parser.add_argument("--convention", "-c", default="torchstat", help="How to price")
    given = parser.parse_args(arguments)
    try:
        sizes = [tuple(int(n) for n in size.split("x")) for size in given.size.split(",")]
    except ValueError:
        parser.error(f"--size takes a size such as 3x224x224, got {given.size!r}")
    path = Path(given.file)
    if path.suffix != ".py" or not path.is_file():
        parser.error(f"--file takes a Python file, got {given.file!r}, which is none")
    with imported(path) as module:
        if not callable(getattr(module, given.model, None)):
            parser.error(f"{given.file} has no class or function {given.model!r}")
        try:
            stat(
                getattr(module, given.model)(), sizes, given.granularity,
                convention=given.convention,
            )  # fmt: skip
        except ArgumentError as error:
            parser.error(str(error))


@contextmanager
def imported(path: Path) -> Iterator[ModuleType]:
    """A file as a module; files beside it can be imported meanwhile."""
    spec = importlib.util.spec_from_file_location("models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    known = sys.modules.get("models")
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules["models"] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(path.parent.resolve()))
        del sys.modules["models"]
        if known is not None:
            sys.modules["models"] = known


if __name__ == "__main__":
    main()
