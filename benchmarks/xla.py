"""XLA's cost analysis of basic operators beside ours, each difference explained: `make xla`.

    python -m benchmarks.xla [--check]

Writes docs/xla.md from tests/reference/xla.csv and counts on meta; with --check it says by its
exit code whether the page is current. A row that its reasons don't explain is an error.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.xla_cases import Case, cases
from benchmarks.xla_reasons import REASONS
from flopdispatch import Cost, FlopCounter
from flopdispatch.units import exact

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "reference" / "xla.csv"
PAGE = ROOT / "docs" / "xla.md"

HEAD = """\
# Beside XLA

XLA's cost analysis (jax 0.10 on CPU, of the program before compilation) of {operators} operators,
{rows} rows, beside our counts of the same operators on meta tensors. Made by `make xla`. The
last column says what has to be added to our FLOPs to give XLA's, and why: the terms are worked
out from shapes and from our counts, and sum to the last digit. Transcendentals are the same
throughout. {agree} rows need nothing added, and {comparisons} no more than our comparisons.

| operator | shape | XLA flops | transcend. | our FLOPs | transcend. | comparisons | to be added |
|---|---|--:|--:|--:|--:|--:|---|
"""

REASONS_HEAD = """
## Reasons

What XLA, or the program that jax makes for it, does where we don't:
"""

LEFT_OUT_HEAD = """
Rows of XLA's table that are left out:
"""

# Rows of the table without a counterpart here, by how their operators begin, and why.
LEFT_OUT = {
    ("cbrt",): "torch has no such operator",
    ("erfinv", "gelu_erf"): "expanded to a polynomial whose terms XLA counts; ours is one "
    "transcendental",
    ("random",): "the generator's arithmetic on integers counts; ours is zero",
    ("gather",): "arithmetic on indices whose number the table doesn't tell",
    ("cond",): "the branch depends on a value, which meta doesn't have",
    ("value_and_grad",): "a program of which the table tells too little",
    ("resize",): "products with matrices of weights, mostly zeros; ours are the taps",
    ("cholesky", "qr", "lu", "svd", "eigh", "triangular_solve", "solve", "inv", "det"): "linear "
    "algebra is an opaque call on CPU: what counts is what jax does around it",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One case beside XLA's figures."""

    case: Case
    flops: int
    transcendentals: int
    ours: Cost

    @property
    def added(self) -> list[int]:
        """What each of the case's terms adds to our FLOPs."""
        return [term.flops(self.ours) for term in self.case.terms]

    @property
    def holds(self) -> bool:
        """Whether our figures and the terms are XLA's figures."""
        flops = self.ours.flops + sum(self.added)
        return (flops, self.ours.transcendentals) == (self.flops, self.transcendentals)

    @property
    def explanation(self) -> str:
        """The reasons, with what each is worth, for a cell of the page's table."""
        text = "; ".join(
            f"{term.reason} {flops:+,}" + (f" ({term.note})" if term.note else "")
            for term, flops in zip(self.case.terms, self.added)
        )
        return text.replace("|", "\\|")


def table() -> dict[tuple[str, str], tuple[int, int]]:
    """XLA's flops and transcendentals before compilation, by operator and shape."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {
            (row["op"], row["shape"]): (int(float(row["low_flops"])), int(float(row["low_trans"])))
            for row in csv.DictReader(file)
        }


def rows() -> Iterator[Row]:
    """Each case, counted."""
    theirs = table()
    for case in cases():
        yield Row(case, *theirs[case.op, case.shape], counted(case))


def counted(case: Case) -> Cost:
    """What we count for a case.

    Raises: UncountedOperatorError if an operator has no formula.
    """
    with FlopCounter(display=False, strict=True) as counter:
        case.program()
    return counter.profile.total


def page(found: list[Row]) -> str:
    """The whole page."""
    head = HEAD.format(
        operators=len({row.case.op for row in found}),
        rows=len(found),
        agree=sum(not row.case.terms for row in found),
        comparisons=sum([t.reason for t in row.case.terms] == ["comparisons"] for row in found),
    )
    lines = [
        f"| {row.case.op} | {row.case.shape} | {exact(row.flops)} | {exact(row.transcendentals)} "
        f"| {exact(row.ours.flops)} | {exact(row.ours.transcendentals)} "
        f"| {exact(row.ours.comparisons)} | {row.explanation} |"
        for row in found
    ]
    reasons = [f"- **{name}**: {text}." for name, text in REASONS.items()]
    without = [f"- {', '.join(f'`{op}`' for op in ops)}: {why}." for ops, why in LEFT_OUT.items()]
    return head + "\n".join([*lines, REASONS_HEAD, *reasons, LEFT_OUT_HEAD, *without]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is current; 1 too if a row isn't explained."""
    parser = argparse.ArgumentParser(prog="benchmarks.xla")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    options = parser.parse_args(arguments)
    found = list(rows())
    wrong = [row for row in found if not row.holds]
    for row in wrong:
        print(f"{row.case.op} {row.case.shape}: XLA {row.flops:,}, {row.transcendentals:,}; "
              f"ours {row.ours}; {row.explanation}")  # fmt: skip
    if wrong:
        return 1
    if options.check:
        return int(PAGE.read_text(encoding="utf-8") != page(found))
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
