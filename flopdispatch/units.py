"""The only place where a number becomes text.

SI prefixes are decimal everywhere: 1 k = 1000, 1 GB = 10^9 bytes.
"""

from collections.abc import Sequence
from typing import Any

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def si(number: Any, unit: str = "", digits: int = 4) -> str:
    """Write a count with an SI prefix and `digits` significant digits.

    Integers below 1000 are written exactly; what isn't a plain number (a symbolic size)
    is written as it prints.

    Example:

        >>> si(4_089_184_256), si(999), si(2000, "B")
        ('4.089 G', '999', '2.000 kB')
    """
    if not isinstance(number, (int, float)):
        return f"{number} {unit}".rstrip()
    scaled, power = float(number), 0
    # Compare what will be printed: 999,999 rounds to 1.000 M, not to 1000 k.
    while abs(float(f"{scaled:.{digits}g}")) >= 1000 and power < len(PREFIXES) - 1:
        scaled, power = scaled / 1000, power + 1
    if power == 0:
        text = str(number) if isinstance(number, int) else f"{scaled:.{digits}g}"
    else:
        whole = len(str(int(abs(float(f"{scaled:.{digits}g}")))))  # 99.996 prints as 100.0
        text = f"{scaled:.{max(digits - whole, 0)}f}"
    return f"{text} {PREFIXES[power]}{unit}".rstrip()


def duration(seconds: float) -> str:
    """Write a time in seconds, or in the smaller unit that fits it, with four digits.

    Example:

        >>> duration(0.0123456), duration(0.99999), duration(2e-10), duration(0.0)
        ('12.35 ms', '1.000 s', '0.2 ns', '0')
    """
    if not seconds:
        return "0"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        rounded = float(f"{seconds / size:.4g}")  # compare what will be printed
        if rounded >= 1:
            return f"{rounded:.{max(4 - len(str(int(rounded))), 0)}f} {unit}"
    return f"{seconds / 1e-9:.4g} ns"


def exact(number: Any) -> str:
    """Write a count in full, with thousands separators: `"4,089,184,256"`."""
    return f"{number:,}" if isinstance(number, int) else str(number)


def percent(part: Any, whole: Any) -> str:
    """Write `part` of `whole` as a percentage with one decimal, `""` where there is no whole."""
    if not isinstance(part, (int, float)) or not isinstance(whole, (int, float)) or not whole:
        return ""
    return f"{100 * part / whole:.1f}%"


def signed(number: Any, unit: str = "") -> str:
    """Write a difference in short with its sign, `""` where there is none.

    Example:

        >>> signed(1_850_000_000), signed(-12), signed(0)
        ('+1.850 G', '-12', '')
    """
    return f"{'+' if number > 0 else ''}{si(number, unit)}" if number != 0 else ""


def growth(before: Any, after: Any) -> str:
    """Write by which share a number grew, `""` where it didn't or was 0 before.

    From ten times as much on, it is how many times as much.

    Example:

        >>> growth(2, 3), growth(4, 1), growth(3, 7500)
        ('+50.0%', '-75.0%', '×2.500 k')
    """
    if before != 0 and after >= 10 * before:
        return f"×{si(after / before)}"
    share = percent(after - before, before) if after != before else ""
    return f"+{share}" if share and after > before else share


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are: `"a, b, c and 29 more"`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shortened(text: str, width: int) -> str:
    """A text of at most `width` characters, its end left out if it is longer: `"post_atte…"`."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
