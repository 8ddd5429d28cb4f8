"""Amounts as people write them, `5G`, `4.1 GMACs`, `0.5%`, and the exact numbers that they mean."""

from __future__ import annotations

import re
from fractions import Fraction

from flopdispatch.errors import ArgumentError
from flopdispatch.units import PREFIXES

_NUMBER = re.compile(
    r"(\d{1,3}(?:,\d{3})+|\d[\d_]*)?(\.\d+)?(e\+?\d{1,2})?\s*([a-z]*)", re.IGNORECASE
)


def parse_count(given: int | str, unit: str = "", name: str = "a count") -> int:
    """A whole number, from text with an SI prefix and the unit if need be.

    The unit may be left out, as the s at its end. A B that is no unit is a billion. `name` is that
    of the argument, for the error.

    Raises: ArgumentError for anything else, another unit too.

    Example:

        >>> parse_count("4.1 GMACs", "MACs")
        4100000000
        >>> parse_count("7B", "params"), parse_count("7B", "B")
        (7000000000, 7)
    """
    if type(given) is int and given >= 0:
        return given
    found = _NUMBER.fullmatch(str(given).strip()) if isinstance(given, str) else None
    power = _powers(unit).get(found[4].lower()) if found and (found[1] or found[2]) else None
    if found is not None and power is not None:
        digits = (found[1] or "0").replace(",", "").replace("_", "")
        number = Fraction(f"{digits}{found[2] or ''}{found[3] or ''}") * 10**power
        if number.denominator == 1:
            return int(number)
    raise ArgumentError(
        f"{name} takes a whole number >= 0 such as 4089184256, 512k, 4.1 G{unit} or 1e9, "
        f"got {given!r}"
    )


def _powers(unit: str) -> dict[str, int]:
    """The power of ten behind each ending that a number may have."""
    units = {"", unit.lower(), unit.lower().removesuffix("s")}
    powers = {f"{p.lower()}{u}": 3 * i for i, p in enumerate(PREFIXES) for u in units}
    return {"b": 9} | powers


def parse_share(given: float | str, name: str = "a share") -> Fraction:
    """A share of the whole from 0 to 1, from a number or a text, which may be a percentage.

    `name` is that of the argument, for the error.

    Raises: ArgumentError for anything else.

    Example:

        >>> parse_share("0.5%"), parse_share(0.005)
        (Fraction(1, 200), Fraction(1, 200))
    """
    text = str(given).strip()
    try:
        share = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise ArgumentError(
            f"{name} takes a share from 0 to 1, or a percentage such as '0.5%', got {given!r}"
        )
    return share
