"""Models of torchvision and timm in their published sizes, on meta: three figures of each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from benchmarks.agreement_rows import Row
from benchmarks.comparison import BACKWARD, EVAL, TRAIN, TRAIN_BATCH, Comparison, compare
from benchmarks.zoo import ENTRIES, Entry
from flopdispatch.units import exact

INTRODUCTION = f"""\
ours       2 x MACs of matmul, convolution and attention, in FLOPs, on meta tensors
torch      FlopCounterMode's total for the same run, with grad enabled
surplus    the part of torch's total that is wrong: it multiplies weight gradients of grouped
           convolutions by the number of groups; ours must be torch less surplus, exactly
params     must be the sum over the model's parameters, and the table's figure
published  GMACs of the reference table, met to its last decimal (eval): as torchvision
           publishes them, and of timm's models as measured with FlopCounterMode before
run        eval: forward, batch 1; train: forward, batch {TRAIN_BATCH}; train+backward: both
"""
HEADINGS = ("model", "run", "ours", "torch", "surplus", "params", "published", "verdict")
LINE = "{:52} {:14} {:>21} {:>21} {:>21} {:>13} {:>10}  {}"
Job = tuple[Entry, str]


def jobs(libraries: list[str], step: int, backward: bool) -> Iterator[Job]:
    """Each run of each `step`-th model."""
    runs = (EVAL, TRAIN, BACKWARD) if backward else (EVAL, TRAIN)
    for library in libraries:
        for entry in islice(ENTRIES[library](), 0, None, step):
            for run in runs:
                yield entry, run


def row(job: Job) -> Row:
    """Compare, and write the line. A model that fails is a line too."""
    entry, run = job
    try:
        found = compare(entry, run)
    except Exception as error:
        fault = f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
        return Row(LINE.format(entry.label, run, *[""] * 5, fault), [fault])
    return Row(write(entry, run, found), found.disagreements)


def write(entry: Entry, run: str, found: Comparison) -> str:
    """One comparison as a line."""
    return LINE.format(
        entry.label,
        run,
        exact(found.ours),
        exact(found.torch),
        exact(found.surplus) if found.surplus else "",
        exact(found.params),
        entry.gmacs if run == EVAL else "",
        "; ".join(found.disagreements) or "equal",
    )
