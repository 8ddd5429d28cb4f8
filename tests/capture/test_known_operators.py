"""What is known of operators' results is what they are: a slice of PyTorch's database.

All of it: `python -m benchmarks.known`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.known import KNOWN, UNKNOWN, WRONG, names, verdict, verdicts

STEP = 20
SLICE = names()[::STEP]


@pytest.mark.parametrize("name", SLICE)
@pytest.mark.filterwarnings("ignore")
def test_no_value_is_wrong(name: str) -> None:
    assert [what for told, what in verdicts(name) if told == WRONG] == []


@pytest.mark.filterwarnings("ignore")
def test_nearly_all_are_known() -> None:
    known = [any(told == KNOWN for told, _ in verdicts(name)) for name in SLICE[:12]]
    assert sum(known) >= 9


def test_a_wrong_value_would_be_found() -> None:
    def operator(x: Tensor) -> Any:
        return x + 1

    x = torch.arange(3)
    assert verdict(operator, ((x,), {}), x + 1)[0] == KNOWN
    assert verdict(operator, ((x,), {}), x + 2)[0] == WRONG
    assert verdict(operator, ((x,), {}), x + 1.0)[0] == WRONG
    assert verdict(torch.rand_like, ((x.float(),), {}), x)[0] == UNKNOWN
