"""Amounts as people write them: which number each means, and what is none."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch import ArgumentError
from flopdispatch.amounts import parse_count, parse_share
from flopdispatch.units import exact, si


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("0", "", 0),
        ("4089184256", "", 4_089_184_256),
        ("4,089,184,256", "", 4_089_184_256),
        ("4_089_184_256", "", 4_089_184_256),
        ("512k", "", 512_000),
        ("512K", "", 512_000),
        ("5G", "", 5_000_000_000),
        (" 5 g ", "", 5_000_000_000),
        (".5M", "", 500_000),
        ("1e9", "", 1_000_000_000),
        ("1.5e3k", "", 1_500_000),
        ("2E", "", 2 * 10**18),
        ("2E3", "", 2_000),
        ("4.1 GMACs", "MACs", 4_100_000_000),
        ("4.1 gmac", "MACs", 4_100_000_000),
        ("640 MACs", "MACs", 640),
        ("7B", "params", 7_000_000_000),
        ("7B", "B", 7),
        ("7GB", "B", 7_000_000_000),
        ("0.1G", "", 100_000_000),  # 0.1 is no float here
    ],
)
def test_a_text_is_exactly_the_number_that_it_says(text: str, unit: str, number: int) -> None:
    assert parse_count(text, unit) == number


@pytest.mark.parametrize(
    ("given", "unit"),
    [
        ("", ""), ("G", ""), ("-1", ""), ("five", ""), ("1.5", ""), ("0.1234 k", ""), ("4.1X", ""),
        ("1,00", ""), ("4.1 GFLOPs", "MACs"), ("5GiB", "B"), ("nan", ""), ("1e-3", ""),
        ("1e999", ""),
        (-1, ""), (1.5, ""), (True, ""), (None, ""),
    ],
)  # fmt: skip
def test_what_is_no_whole_number_is_told(given: Any, unit: str) -> None:
    message = (
        f"--max takes a whole number >= 0 such as 4089184256, 512k, 4.1 G{unit} or 1e9, "
        f"got {given!r}"
    )
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        parse_count(given, unit, "--max")


@given(st.integers(0, 10**26))
def test_a_number_that_is_written_in_full_is_read_back(number: int) -> None:
    assert parse_count(exact(number)) == parse_count(str(number)) == parse_count(number) == number


@given(st.integers(1, 999), st.integers(0, 8))
def test_prefixes_are_those_that_numbers_are_written_with(digits: int, power: int) -> None:
    number = digits * 1000**power
    assert parse_count(si(number, "MACs", digits=3), "MACs") == number


@pytest.mark.parametrize(
    ("given", "share"),
    [
        (0, Fraction(0)),
        (0.005, Fraction(5, 1000)),
        ("0.005", Fraction(5, 1000)),
        ("0.5%", Fraction(5, 1000)),
        (" 10 % ", Fraction(1, 10)),
        ("100%", Fraction(1)),
        (1, Fraction(1)),
    ],
)
def test_a_share_is_a_number_or_a_percentage(given: Any, share: Fraction) -> None:
    assert parse_share(given) == share


@pytest.mark.parametrize("given", ["", "5", "%", "101%", "-1%", "nan", "inf", "a", None, -0.1, 1.1])
def test_what_is_no_share_is_told(given: Any) -> None:
    message = f"tolerance= takes a share from 0 to 1, or a percentage such as '0.5%', got {given!r}"
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        parse_share(given, "tolerance=")
