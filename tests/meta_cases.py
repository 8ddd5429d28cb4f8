"""Entries as the table of models on meta has them, of models that a few lines make."""

from __future__ import annotations

import os

import torch
from torch import nn

from benchmarks.meta_entry import Entry, Inputs


def image() -> Inputs:
    """A row of four numbers."""
    return ((1, 4),), {}


def absent() -> nn.Module:
    """A model of a package that isn't there."""
    import no_such_package  # type: ignore[import-not-found] # noqa: PLC0415

    model: nn.Module = no_such_package.Model()
    return model


def deadly() -> nn.Module:
    """Ends the process without a word."""
    os._exit(3)


class Refusing(nn.Module):
    """A model that fails, and says why on its first line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fail."""
        raise ValueError("more | less\nand something")


ENTRIES = (
    Entry("linear", "small", lambda: nn.Linear(4, 3), image),
    Entry("absent", "small", absent, image),
    Entry("deadly", "small", deadly, image),
    Entry("refusing", "other", Refusing, image, trains=False),
    Entry("no gradient", "other", nn.ReLU, image),
)
