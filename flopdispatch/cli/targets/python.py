"""Models of the user's own: `package.module:callable` and `path/to/file.py:callable`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from flopdispatch.cli.targets import timm, transformers_inputs
from flopdispatch.cli.targets.target import Call, Sizes, Target, in_dtype, unknown
from flopdispatch.errors import ArgumentError
from flopdispatch.units import some


def find(name: str, overrides: dict[str, Any]) -> Target:
    """The target of a class of modules, a function that returns a module, or a module.

    Raises: ArgumentError if there is no such file, module or callable, or `overrides` are no
    arguments of it.
    """
    where, _, path = name.rpartition(":")
    module = module_of(where)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            known = [one for one in dir(found) if _is_builder(module, getattr(found, one, None))]
            raise unknown(f"callable in {where}", path, known, f"it has {some(known, 8) or 'none'}")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        if overrides:
            raise ArgumentError(f"{name} is a module, built already: leave out --kwargs")
        return Target(path, lambda dtype: in_dtype(found, dtype), inputs, exists=True)
    if not callable(found):
        raise ArgumentError(
            f"expected {name} to be a class of modules, a function that returns a module, or a "
            f"module, got {type(found).__name__}"
        )
    _check_arguments(name, found, overrides)

    def build(dtype: torch.dtype | None) -> Any:
        with _ending_refused(name):
            made = found(**overrides)
        if not isinstance(made, nn.Module):
            raise ArgumentError(
                f"expected {name} to return a torch.nn.Module, got {type(made).__name__}: name a "
                "class of modules or a function that builds one"
            )
        return in_dtype(made, dtype)

    return Target(path, build, inputs)


def inputs(model: Any, sizes: Sizes) -> Call | None:
    """The inputs of a model that says what they are, as timm, transformers and Lightning do."""
    known = transformers_inputs.inputs(model, sizes) or timm.inputs(model, sizes)
    if known is not None:
        return known
    example = getattr(model, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        shape = (sizes.batch(example.shape[0]), *example.shape[1:])
        return Call((torch.zeros(shape, dtype=example.dtype),))
    if isinstance(example, tuple):
        return Call(example)
    return Call(kwargs=example) if isinstance(example, dict) else None


def module_of(where: str) -> ModuleType:
    """A module of the user's, by its dotted name or its file.

    Raises: ArgumentError if there is none.
    """
    with _ending_refused(where):
        return _of_file(where) if where.endswith(".py") else _of_name(where)


def _of_name(name: str) -> ModuleType:
    """A module by its dotted name, looked for in the working directory too."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # what the module itself imports
        raise ArgumentError(
            f"there is no module {error.name} here: run in its project's folder or install it, or "
            "give its file as path/to/file.py"
        ) from error


def _of_file(name: str) -> ModuleType:
    """A file's module, with its folder to import from, as when it is run."""
    path = Path(name).resolve()
    if not path.is_file():
        raise ArgumentError(f"there is no file {name}: give the path of a Python file")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(f"flopdispatch_target_{path.stem}", path)
    assert spec is not None  # it ends with .py
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their names up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _ending_refused(name: str) -> Iterator[None]:
    """Raises: ArgumentError where the user's code ends the program."""
    try:
        yield
    except SystemExit as error:
        raise ArgumentError(
            f"{name} ends the program when it is imported or called: put what runs its script "
            'under `if __name__ == "__main__":`'
        ) from error


def _is_builder(module: ModuleType, value: Any) -> bool:
    """Whether a value may be what somebody wants counted of a module."""
    if inspect.isclass(value):
        return issubclass(value, nn.Module)
    mine = getattr(value, "__module__", None) == module.__name__
    return isinstance(value, nn.Module) or (inspect.isroutine(value) and mine)


def _check_arguments(name: str, builder: Any, overrides: dict[str, Any]) -> None:
    """Raises: ArgumentError if a builder can't be called with these."""
    try:
        wanted = inspect.signature(builder)
    except (TypeError, ValueError):  # one that says nothing of its arguments
        return
    try:
        wanted.bind(**overrides)
    except TypeError as error:
        raise ArgumentError(
            f"{name} takes {wanted} and {error}: give its arguments as --kwargs "
            "'{\"NAME\": VALUE}'"
        ) from error
