"""What the lists of transformers' models share: models of configurations, text as input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.meta_entry import Entry, Inputs
from flopdispatch import TensorSpec, spec

# What a model is called with, by keyword.
Call = Callable[[], dict[str, Any]]


def ids(*size: int) -> TensorSpec:
    """A tensor of token ids, or of other integers."""
    return spec(*size, dtype=torch.long)


def model(kind: str, sizes: dict[str, Any]) -> nn.Module:
    """A model of transformers' class of this name, of its configuration with these sizes."""
    chosen = getattr(transformers, kind)
    built: nn.Module = chosen(chosen.config_class(**sizes))
    return built


def entry(
    group: str, name: str, kind: str, sizes: dict[str, Any], call: Call, **more: Any
) -> Entry:
    """A published model: its name, its class, its configuration and what it is called with."""

    def inputs() -> Inputs:
        return (), call()

    return Entry(name, f"transformers: {group}", partial(model, kind, sizes), inputs, **more)


def causal(name: str, kind: str, sizes: dict[str, Any], length: int = 2048, **more: Any) -> Entry:
    """A language model that continues a text of `length` tokens, without a cache of them."""
    return entry(
        "causal language models",
        name,
        kind,
        sizes,
        lambda: {"input_ids": ids(1, length), "use_cache": False},
        **more,
    )


def masked(name: str, kind: str, sizes: dict[str, Any], length: int = 512, **more: Any) -> Entry:
    """An encoder of a text of `length` tokens."""
    return entry(
        "encoders of text", name, kind, sizes, lambda: {"input_ids": ids(1, length)}, **more
    )


def translation(
    name: str,
    kind: str,
    sizes: dict[str, Any],
    length: int = 512,
    written: int = 128,
    **more: Any,
) -> Entry:
    """A model that reads a text of `length` tokens and writes one of `written`."""
    return entry(
        "text to text",
        name,
        kind,
        sizes,
        lambda: {
            "input_ids": ids(1, length),
            "decoder_input_ids": ids(1, written),
            "use_cache": False,
        },
        **more,
    )
