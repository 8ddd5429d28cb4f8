"""What a target is: how its model is built and what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from flopdispatch.errors import ArgumentError


class Call(NamedTuple):
    """What a model is called with; a tuple of integers is a tensor in the model's dtype."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})


class Sizes:
    """The sizes that the command line asks for, where a model's default inputs have them.

    Each is None where the default is to be taken.
    """

    def __init__(
        self,
        batch: int | None = None,
        seq: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._asked = {"batch": batch, "seq": seq, "size": size}
        self._unused = {name for name, value in self._asked.items() if value is not None}

    def _of(self, name: str, default: Any) -> Any:
        self._unused.discard(name)
        asked = self._asked[name]
        return default if asked is None else asked

    def batch(self, default: int = 1) -> int:
        """How many samples."""
        return int(self._of("batch", default))

    def seq(self, default: int) -> int:
        """How many tokens a text has."""
        return int(self._of("seq", default))

    def image(self, height: int, width: int | None = None) -> tuple[int, int]:
        """The height and the width of an image."""
        high, wide = self._of("size", (height, height if width is None else width))
        return high, wide

    def check_used(self, inputs: str) -> None:
        """Raises: ArgumentError if a size was asked for that the inputs don't have."""
        if self._unused:
            raise ArgumentError(
                f"--{min(self._unused)} changes nothing of this model's inputs, {inputs}: leave "
                "it out, or give the inputs by --input"
            )


# What a model is called with at these sizes; None where that isn't known.
Inputs = Callable[[Any, Sizes], Call | None]


@dataclass(frozen=True)
class Target:
    """A model by its name on the command line.

    `build` makes it, in a dtype if one is given. `inputs` are those that it is published with,
    `options` what it is called with beside its inputs, `assume` what to
    assume of data that its forward looks at. `exists` says
    that `build` gives a model that was there before.
    """

    name: str
    build: Callable[[torch.dtype | None], Any]
    inputs: Inputs
    options: dict[str, Any] = field(default_factory=dict)
    assume: dict[str, Any] = field(default_factory=dict)
    exists: bool = False


def in_dtype(model: Any, dtype: torch.dtype | None) -> Any:
    """A model with its floating-point parameters and buffers in a dtype."""
    return model if dtype is None else model.to(dtype)


def library(name: str) -> Any:
    """A package that targets are built by.

    Raises: ArgumentError if it isn't installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ArgumentError(
            f"the package {name} is not installed: `pip install {name}`, "
            "or all that targets are of by `pip install flopdispatch[zoo]`"
        ) from error


def unknown(what: str, name: str, known: list[str], more: str) -> ArgumentError:
    """The error for a name that isn't known: those that are like it, and more to say."""
    near = get_close_matches(name, known, n=4)
    begun = [one for one in known if name and one.startswith(name)]
    near = list(dict.fromkeys([*near, *begun]))[:4]
    did = f"did you mean {', '.join(near)}? " if near else ""
    return ArgumentError(f"unknown {what} {name!r}: {did}{more}")
