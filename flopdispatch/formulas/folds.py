"""Folding: what a sum, a maximum or another two-at-a-time reduction costs."""

from __future__ import annotations

from typing import Any

import torch


def folds(rows: int, terms: int) -> int:
    """Operations that fold `terms` values into one, `rows` times over.

    Counts: terms − 1 for each row, and none where there is nothing to fold.
    Example: 3 rows of 5 are 12 additions.
    """
    steps: Any = torch.sym_max(terms - 1, 0)  # a plain max() would branch on a symbolic size
    product: int = rows * steps
    return product
