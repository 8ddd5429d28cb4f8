"""What an older torch can't do, so that a test of it is skipped there and says why."""

from __future__ import annotations

import pytest
import torch

TORCH = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


def needs_torch(major: int, minor: int, why: str) -> pytest.MarkDecorator:
    """Skip on torch before this version."""
    return pytest.mark.skipif((major, minor) > TORCH, reason=f"torch < {major}.{minor}: {why}")
