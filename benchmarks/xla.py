"""XLA's cost analysis of basic operators beside ours, each difference explained: `make xla`.

    python -m benchmarks.xla [--check]

Writes docs/xla.md from tests/reference/xla.csv and counts on meta; with --check it says by its
exit code whether the page is current. A row that its reasons don't explain is an error, of FLOPs
and of bytes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.xla_bytes import LETTERS, nbytes, program
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

BYTES_HEAD = """
## Bytes

XLA's "bytes accessed" before compilation, when nothing is fused, beside what we say that eager
torch moves: {operators} operators, {rows} rows. {agree} rows agree to the byte: the operator is one
instruction there and one kernel here. For each other row stands what our kernel moves and XLA's
program, every instruction with its operands and its result; the letters sum to both figures. XLA
writes and reads again what a kernel of torch keeps to itself, widens a row or a number to a whole
tensor first, reads a reduction's first value (4 bytes) and charges a change of shape; torch gives
back the places of maxima and sorted elements, as integers of 8 bytes, and a normalization's
statistics, which XLA's programs don't have.

{letters}
| operator | shape | XLA bytes | our bytes | we move | XLA's program |
|---|---|--:|--:|---|---|
"""

BYTES_LEFT_OUT = """
Rows that are compared by their FLOPs only: {operators}. They are programs of several operators on
both sides, cut differently, or hold indices and constants that the table doesn't tell of.
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
    nbytes: int
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
    def bytes_agree(self) -> bool:
        """Whether both move the same number of bytes."""
        return self.ours.nbytes == self.nbytes

    @property
    def bytes_hold(self) -> bool:
        """Whether both numbers of bytes agree, or are those of the programs that are written down.

        A row without a program isn't compared.
        """
        op, shape = self.case.op, self.case.shape
        known = program(op, shape)
        if known is None or self.bytes_agree:
            return True
        found = nbytes(known.ours, op, shape), nbytes(known.xla, op, shape)
        return found == (self.ours.nbytes, self.nbytes)

    @property
    def bytes_compared(self) -> bool:
        """Whether the row is in the comparison of bytes."""
        return self.bytes_agree or program(self.case.op, self.case.shape) is not None

    @property
    def explanation(self) -> str:
        """The reasons, with what each is worth, for a cell of the page's table."""
        text = "; ".join(
            f"{term.reason} {flops:+,}" + (f" ({term.note})" if term.note else "")
            for term, flops in zip(self.case.terms, self.added)
        )
        return text.replace("|", "\\|")


def table() -> dict[tuple[str, str], tuple[int, ...]]:
    """XLA's flops, transcendentals and bytes before compilation, by operator and shape."""
    names = ("low_flops", "low_trans", "low_bytes")
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {
            (row["op"], row["shape"]): tuple(int(float(row[name])) for name in names)
            for row in csv.DictReader(file)
        }


def rows() -> Iterator[Row]:
    """Each case, counted."""
    theirs = table()
    for case in cases():
        flops, transcendentals, moved = theirs[case.op, case.shape]
        yield Row(case, flops, transcendentals, moved, counted(case))


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
    text = head + "\n".join([*lines, REASONS_HEAD, *reasons, LEFT_OUT_HEAD, *without]) + "\n"
    return text + bytes_section(found)


def bytes_section(found: list[Row]) -> str:
    """The page's comparison of bytes."""
    compared = [row for row in found if row.bytes_compared]
    head = BYTES_HEAD.format(
        operators=len({row.case.op for row in compared}),
        rows=len(compared),
        agree=sum(row.bytes_agree for row in compared),
        letters=LETTERS,
    )
    lines = []
    for row in compared:
        op, shape = row.case.op, row.case.shape
        known = program(op, shape)
        text = " | | |" if known is None or row.bytes_agree else f" | {known.ours} | {known.xla} |"
        lines.append(f"| {op} | {shape} | {exact(row.nbytes)} | {exact(row.ours.nbytes)}{text}")
    without = dict.fromkeys(f"`{row.case.op}`" for row in found if not row.bytes_compared)
    return head + "\n".join(lines) + "\n" + BYTES_LEFT_OUT.format(operators=", ".join(without))


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is current; 1 too if a row isn't explained."""
    parser = argparse.ArgumentParser(prog="benchmarks.xla")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    options = parser.parse_args(arguments)
    found = list(rows())
    wrong = [row for row in found if not (row.holds and row.bytes_hold)]
    for row in wrong:
        print(f"{row.case.op} {row.case.shape}: XLA {row.flops:,}, {row.transcendentals:,}, "
              f"{row.nbytes:,} bytes; ours {row.ours}; {row.explanation}")  # fmt: skip
    if wrong:
        return 1
    if options.check:
        return int(PAGE.read_text(encoding="utf-8") != page(found))
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
