"""A device's rates, and what is no rate."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from flopdispatch import ArgumentError
from flopdispatch.hardware import DTYPES, Hardware

MINE = Hardware("mine", peaks={"float32": 2e12, "float8": 8e12, "int8": 9e12}, bandwidth=5e10)


@pytest.mark.parametrize(
    ("dtype", "expected", "why"),
    [
        (torch.float32, 2e12, "its own"),
        ("float32", 2e12, "by name"),
        ("torch.float32", 2e12, "as torch prints it"),
        (torch.complex64, 2e12, "a complex MAC is counted as four of its parts"),
        (torch.float8_e4m3fn, 8e12, "all formats of eight bits run at one rate"),
        (torch.float8_e5m2, 8e12, "all formats of eight bits run at one rate"),
        (torch.uint8, 9e12, "signed or not"),
        (torch.qint8, 9e12, "quantized or not"),
    ],
    ids=str,
)
def test_a_dtype_runs_at_the_rate_of_its_kind(dtype: Any, expected: float, why: str) -> None:
    assert MINE.peak(dtype) == expected, why


@pytest.mark.parametrize("dtype", [torch.float16, "tf32", torch.int64, torch.bool, "nonsense"])
def test_a_rate_that_is_not_known_is_an_error_that_names_those_that_are(dtype: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        MINE.peak(dtype)
    assert str(raised.value) == (
        f"mine has no known peak rate of {dtype}; known are float32, float8, int8. Name one of "
        "these, or give Hardware(name, peaks={...}, bandwidth=...)"
    )


def test_a_device_needs_no_rates() -> None:
    with pytest.raises(ArgumentError, match="known are none"):
        Hardware("memory", peaks={}, bandwidth=1e9).peak("float32")


def test_a_rate_has_a_known_name() -> None:
    with pytest.raises(ArgumentError) as raised:
        Hardware("mine", peaks={"fp32": 1e12}, bandwidth=1e9)
    assert str(raised.value) == f"peaks of 'mine': 'fp32' is none of {', '.join(DTYPES)}"


@pytest.mark.parametrize("peaks", [None, 2e12, [("float32", 2e12)]])
def test_peaks_are_rates_by_dtype(peaks: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        Hardware("mine", peaks=peaks, bandwidth=1e9)
    assert str(raised.value) == (
        f"peaks of 'mine': expected FLOP/s by dtype, as in {{'float32': 2e12}}, got {peaks!r}"
    )


def test_a_device_has_a_name() -> None:
    name: Any = 3
    with pytest.raises(ArgumentError, match="expected a device's name, a string, got 3"):
        Hardware(name, peaks={}, bandwidth=1e9)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), "2", None, True])
def test_a_rate_is_a_positive_number(rate: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        Hardware("mine", peaks={"int8": rate}, bandwidth=1e9)
    assert str(raised.value) == f"int8 of 'mine': expected a positive number of OP/s, got {rate!r}"
    with pytest.raises(ArgumentError, match="bandwidth of 'mine': expected a positive number of b"):
        Hardware("mine", peaks={}, bandwidth=rate)


def test_a_device_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(MINE)) == MINE
