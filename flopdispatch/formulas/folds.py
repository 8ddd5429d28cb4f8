"""Folding: what a sum, a maximum or another two-at-a-time reduction costs."""

from __future__ import annotations

from typing import cast

import torch


def combined(n: int, m: int) -> int:
    """Operations that combine n values into m: all but each output's first, none if empty.

    Example: 12 values into 3 sums take 9 additions.
    """
    return cast(int, torch.sym_max(n - m, 0))  # a plain max() would branch on a symbolic size


def folds(rows: int, terms: int) -> int:
    """Operations that fold `terms` values into one, `rows` times over.

    Example: 3 rows of 5 are 12 additions.
    """
    return combined(rows * terms, rows)
