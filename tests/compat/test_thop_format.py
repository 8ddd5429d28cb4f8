"""Our clever_format beside thop's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flopdispatch import ArgumentError
from flopdispatch.compat.thop import clever_format

thop = pytest.importorskip("thop", reason="an extra; on Python 3.12 it needs setuptools")

NUMBERS: list[Any] = [
    0, 1, 999, 1000, 1000.0, 1001, 1e6, 1e6 + 1, 1e9, 1.5e9, 1e12, 1e12 + 1, 4e15, 999_999,
    -5e9, 0.5, float("inf"), True, np.float64(2e6), np.int64(2000),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("format", ["%.2f", "%.3f", "%d", "%5.1e"])
def test_clever_format_is_thops(number: Any, format: str) -> None:
    if format == "%d" and number == float("inf"):
        return
    assert clever_format(number, format) == thop.clever_format(number, format)
    assert clever_format([number], format) == thop.clever_format([number], format)
    assert clever_format((number, 5), format) == thop.clever_format((number, 5), format)


def test_clever_format_of_one_and_of_several() -> None:
    assert clever_format(4133742592.0) == "4.13G"
    assert clever_format([4133742592.0]) == "4.13G"
    assert clever_format([4133742592.0, 25557032.0], "%.3f") == ("4.134G", "25.557M")
    assert clever_format(x for x in (1, 2)) == ("1.00B", "2.00B")
    assert clever_format([]) == thop.clever_format([]) == ()
    assert clever_format(np.array([1.0, 2e3])) == ("1.00B", "2.00K")
    assert clever_format(torch.tensor(2e3)) == clever_format(np.array(2e3)) == "2.00K"


def test_a_unit_begins_above_its_power() -> None:
    assert clever_format((1e3, 1e6, 1e9, 1e12)) == ("1000.00B", "1000.00K", "1000.00M", "1000.00G")


@pytest.mark.parametrize(
    ("nums", "format"), [("12", "%.2f"), (None, "%.2f"), ([1, None], "%.2f"), (1, "%s %s"), (1, 3)]
)
def test_clever_format_says_what_it_takes(nums: Any, format: Any) -> None:
    with pytest.raises(ArgumentError, match="clever_format takes a number or several, and a form"):
        clever_format(nums, format)
