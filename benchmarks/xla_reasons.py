"""Why XLA's cost analysis of an operator differs from our count: reasons, and what each is worth.

XLA's figures are of the program before compilation, as jax 0.10 lowers it on a CPU. A case's
terms are added to our FLOPs and must give XLA's, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from flopdispatch import Cost

REASONS = {
    "comparisons": "a maximum, an absolute value, a sign or a rounding is a FLOP; ours stand "
    "beside FLOPs",
    "selections": "comparing to bool, choosing by it (`where`) and logic on it are a FLOP an "
    "element; ours are zero",
    "casts": "a conversion of dtype is a FLOP an element; ours is zero and moves bytes",
    "scalars": "operations on single numbers of the program (a bound's cast, a counter) count",
    "integers": "operations on integers are FLOPs; ours are `int_ops`",
    "indices": "jax compares each index with zero, adds the size and selects: 3 an index; our "
    "gathering is zero",
    "complex": "an operation on complex numbers counts once; ours: an addition 2, a "
    "multiplication 6, a multiply-accumulate 8 FLOPs",
    "valid taps": "the taps of a convolution that fall on padding aren't counted; ours is dense",
    "windows": "a scan is a window over each output's whole line: L - 1 operations for each of L "
    "elements; ours is the running sum, L - 1 for a line",
    "sort": "N·ceil(log2 N) for all N elements of the tensor together; ours sorts line by line",
    "pairs": "the search for an index compares pairs of value and index with 9 operations; ours "
    "is 1 comparison",
    "custom call": "an opaque call costs nothing",
    "transform": "an FFT is 8·N·∏ floor(log2 n) over the N elements that it takes and its axes "
    "of n; ours is 5·n·log2 n a complex line, half of it for a real one",
    "remainder": "a remainder is one FLOP; ours is the division, its rounding, a multiplication "
    "and a subtraction",
    "row's maximum": "jax compares the maximum of each row with minus infinity once more",
    "guards": "jax replaces a row's maximum that isn't finite and takes an absolute value: 3 a row",
    "other form": "jax computes the same value by another formula, named beside",
    "loop": "the body of a loop is counted once, whatever its number of turns; ours as it runs",
    "unused": "jax doesn't compute results that nothing uses; eager torch has computed them",
}


@dataclass(frozen=True, slots=True)
class Term:
    """What one reason adds to our FLOPs; `note` is a word about this case."""

    reason: str
    flops: Callable[[Cost], int]
    note: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise KeyError(self.reason)


def plus(reason: str, flops: int, note: str = "") -> Term:
    """A number that follows from the shapes."""
    return Term(reason, lambda ours: flops, note)


COMPARISONS = Term("comparisons", lambda ours: ours.comparisons)
INTEGERS = Term("integers", lambda ours: ours.int_ops)
CUSTOM_CALL = Term("custom call", lambda ours: -ours.comparisons)
PAIRS = Term("pairs", lambda ours: 8 * ours.comparisons)


def complex_numbers(each: int) -> Term:
    """Operations that are `each` real ones."""
    return Term("complex", lambda ours: ours.flops // each - ours.flops)


def windows(length: int) -> Term:
    """A scan of lines of this length: of its operations, length for each."""
    return Term("windows", lambda ours: (length - 1) * (ours.flops + ours.comparisons))


def sort(elements: int) -> Term:
    """A sort of a tensor of so many elements, for our comparisons."""
    theirs = elements * (elements - 1).bit_length()
    return Term("sort", lambda ours: theirs - ours.comparisons)


def transform(elements: int, *lengths: int) -> Term:
    """An FFT that takes so many elements, over axes of these lengths, for ours."""
    theirs = 8 * elements * prod(length.bit_length() - 1 for length in lengths)
    return Term("transform", lambda ours: theirs - ours.flops)


def loop(turns: int) -> Term:
    """A loop: its body once, and the counter's addition and comparison."""
    return Term("loop", lambda ours: ours.flops // turns + 2 - ours.flops)


def valid_taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many taps of a kernel, over all outputs of an axis, fall on the input."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    places = (o * stride + k - padding for o in range(outputs) for k in range(kernel))
    return sum(0 <= place < size for place in places)


def padded(channels: int, sizes: tuple[int, ...], kernel: int, stride: int, padding: int) -> Term:
    """A convolution's valid taps, for ours; `channels`: batch x in x out."""
    taps = prod(valid_taps(size, kernel, stride, padding) for size in sizes)
    return Term("valid taps", lambda ours: 2 * channels * taps - ours.flops)
