"""Conventions: registries by name, each pricing the same recording its own way.

CONVENTIONS is the table; a new convention is one function that returns a Registry.
"""

from __future__ import annotations

from collections.abc import Callable

from flopdispatch.errors import ArgumentError
from flopdispatch.formulas import default_registry
from flopdispatch.registry import Registry

CONVENTIONS: dict[str, Callable[[], Registry]] = {"flopdispatch": default_registry}


def convention(given: str | Registry | None) -> Registry:
    """The registry that prices: the default for None, one by name, or the given one itself.

    Raises: ArgumentError for an unknown name or another type.
    """
    if given is None:
        return default_registry()
    if isinstance(given, Registry):
        return given
    if not isinstance(given, str) or given not in CONVENTIONS:
        raise ArgumentError(
            f"convention= takes a Registry or one of {', '.join(CONVENTIONS)}, got {given!r}"
        )
    return CONVENTIONS[given]()
