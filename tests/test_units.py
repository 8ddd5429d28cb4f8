"""Numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.units import PREFIXES, duration, exact, growth, percent, si, signed, some

FACTORS = {prefix: 1000**i for i, prefix in enumerate(PREFIXES)}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1, "1"),
        (999, "999"),
        (1000, "1.000 k"),
        (1234, "1.234 k"),
        (9999, "9.999 k"),
        (99994, "99.99 k"),
        (99996, "100.0 k"),
        (9_999_600, "10.00 M"),
        (999_949, "999.9 k"),
        (999_950, "1.000 M"),
        (999_999, "1.000 M"),
        (4_089_184_256, "4.089 G"),
        (10**12, "1.000 T"),
        (10**15, "1.000 P"),
        (10**18, "1.000 E"),
        (10**24, "1.000 Y"),
        (12_345 * 10**24, "12345 Y"),
        (-1500, "-1.500 k"),
        (0.5, "0.5"),
        (1.25e6, "1.250 M"),
    ],
)
def test_a_count_has_four_digits_and_a_prefix(number: float, text: str) -> None:
    assert si(number) == text


def test_a_unit_stands_after_the_prefix() -> None:
    assert si(2000, "B") == "2.000 kB"
    assert si(5, "B") == "5 B"
    assert si(0, "B") == "0 B"


def test_digits_are_asked_for() -> None:
    assert si(1_234_567, digits=2) == "1.2 M"
    assert si(1_234_567, digits=6) == "1.23457 M"


def test_what_is_no_number_is_written_as_it_prints() -> None:
    assert si("2*H", "B") == "2*H B"
    assert exact("H") == "H"


@given(st.integers(1000, 10**26))
def test_text_is_within_half_a_digit_of_the_number(number: int) -> None:
    digits, prefix = si(number).split(" ")
    assert float(digits) * FACTORS[prefix] == pytest.approx(number, rel=5.01e-4)
    assert 1 <= float(digits) < 1000
    assert len(digits) == 5, "four digits and a point"


def test_exact_numbers_have_separators() -> None:
    assert exact(4_089_184_256) == "4,089,184,256"
    assert exact(0) == "0"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 3, "33.3%"), (0, 3, "0.0%"), (3, 3, "100.0%"), (1, 0, ""), (0, 0, ""), ("H", 3, "")],
)
def test_a_percentage_has_one_decimal(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text


def test_of_many_names_the_first_are_written() -> None:
    assert some(["a"]) == "a"
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, ""), (5, "+5"), (-5, "-5"), (1_500, "+1.500 k"), (-999_999, "-1.000 M")],
)
def test_a_difference_has_a_sign(number: int, text: str) -> None:
    assert signed(number) == text
    assert signed(number, "B") == text + (text and ("B" if text[-1] in "kM" else " B"))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (2, 3, "+50.0%"), (3, 2, "-33.3%"), (4, 0, "-100.0%"), (0, 4, ""), (4, 4, ""), (0, 0, ""),
        (100, 999, "+899.0%"), (1, 10, "×10"), (100, 1_234, "×12.34"), (3, 7_500, "×2.500 k"),
    ],
)  # fmt: skip
def test_a_growth_is_a_share_of_what_was_before(before: int, after: int, text: str) -> None:
    assert growth(before, after) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"), (1.5e-12, "0.0015 ns"), (1e-9, "1.000 ns"), (45.678e-9, "45.68 ns"),
        (999.94e-9, "999.9 ns"), (999.96e-9, "1.000 µs"), (0.0999999, "100.0 ms"),
        (0.999996, "1.000 s"), (3600, "3600 s"),
    ],
)  # fmt: skip
def test_a_time_has_four_digits_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
