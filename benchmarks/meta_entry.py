"""What the table of models on meta says of one model: how it is built and called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

# Positional and keyword inputs, as `count` takes them.
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A model: `build` makes it (on meta), `call` what it is called with.

    `group` is its part of the table, `trains` whether a backward runs too, `options` are
    further ones of `count`.
    """

    name: str
    group: str
    build: Callable[[], nn.Module]
    call: Callable[[], Inputs]
    trains: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
