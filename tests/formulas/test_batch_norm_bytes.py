"""Running statistics are written in training, and what is passed for its type isn't read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch import default_registry
from flopdispatch.spec import OpCall, spec
from tests.pricing import overload_of, price

f32 = torch.float32
X = torch.rand(2, 3, 4)  # 96 bytes
V = torch.rand(3)  # 12 bytes


def kept() -> tuple[torch.Tensor, torch.Tensor]:
    """A running mean and variance, 24 bytes together."""
    return torch.zeros(3), torch.ones(3)


# (why, in words; operator; arguments; bytes read; bytes written), of what runs here
ROWS: list[tuple[str, str, tuple[Any, ...], int, int]] = [
    ("input, weight, bias, running; output, mean and invstd, running",
     "native_batch_norm.default", (X, V, V, *kept(), True, 0.1, 1e-5), 96 + 24 + 24, 96 + 24 + 24),
    ("the same", "_native_batch_norm_legit.default", (X, V, V, *kept(), True, 0.1, 1e-5),
     96 + 24 + 24, 96 + 24 + 24),
    ("the same, in new tensors", "_native_batch_norm_legit_functional.default",
     (X, V, V, *kept(), True, 0.1, 1e-5), 96 + 24 + 24, 96 + 24 + 24),
    ("nothing is kept", "native_batch_norm.default", (X, None, None, None, None, True, 0.1, 1e-5),
     96, 96 + 24),
    ("running statistics are read", "native_batch_norm.default",
     (X, V, None, *kept(), False, 0.1, 1e-5), 96 + 12 + 24, 96),
    ("and not written", "_native_batch_norm_legit.default",
     (X, V, None, *kept(), False, 0.1, 1e-5), 96 + 12 + 24, 96),
    ("mean and variance, running", "batch_norm_update_stats.default", (X, *kept(), 0.1),
     96 + 24, 24 + 24),
    ("mean and variance", "batch_norm_update_stats.default", (X, None, None, 0.1), 96, 24),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "read", "written"), ROWS)
def test_what_is_kept_is_written_in_training_only(
    why: str, name: str, args: tuple[Any, ...], read: int, written: int
) -> None:
    moved = price(overload_of(name), *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


x, v, parts = spec(2, 3, 4, dtype=f32), spec(3, dtype=f32), spec(2, 3, dtype=f32)
OPTIONS = (0.1, 1e-5)
TRAINED = (x, v, v, spec(5, dtype=torch.uint8))

# The same of what runs on other devices, with its result; `parts` are 24 bytes.
SPECS: list[tuple[str, str, tuple[Any, ...], Any, int, int]] = [
    ("and what the backward is left", "cudnn_batch_norm.default", (x, v, v, v, v, True, *OPTIONS),
     TRAINED, 96 + 48, 96 + 24 + 5 + 24),
    ("the parts' statistics, not the input", "batch_norm_gather_stats.default",
     (x, parts, parts, None, None, *OPTIONS, 8), (v, v), 48, 24),
    ("their sizes and running statistics too", "batch_norm_gather_stats_with_counts.default",
     (x, parts, parts, v, v, *OPTIONS, spec(2, dtype=f32)), (v, v), 48 + 8 + 24, 24 + 24),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "read", "written"), SPECS)
def test_the_same_on_other_devices(
    why: str, name: str, args: tuple[Any, ...], result: Any, read: int, written: int
) -> None:
    moved = default_registry().price(OpCall(overload_of(name), args, (), result)).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why
