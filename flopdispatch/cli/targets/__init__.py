"""Targets: the models that the command line counts, by name. SCHEMES lists where they are from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopdispatch.cli.targets import python, timm, torchvision, transformers
from flopdispatch.cli.targets.target import Target
from flopdispatch.errors import ArgumentError

SCHEMES: dict[str, Callable[[str, dict[str, Any]], Target]] = {
    "torchvision": torchvision.find,
    "timm": timm.find,
    "hf": transformers.find,
}

FORMS = (
    "torchvision:NAME, timm:NAME, hf:PATH (a config.json or its folder), package.module:callable "
    "or path/to/file.py:callable"
)


def find(text: str, overrides: dict[str, Any]) -> Target:
    """The target that a text names, `overrides` going to what builds it.

    Raises: ArgumentError if it names none.
    """
    scheme, colon, name = text.partition(":")
    if scheme in SCHEMES:
        return SCHEMES[scheme](name, overrides)
    if text.endswith(".py"):  # without a callable: the error lists those that it has
        text, colon = f"{text}:", ":"
    if not colon:
        raise ArgumentError(f"can't tell what model {text!r} is: expected {FORMS}")
    return python.find(text, overrides)
