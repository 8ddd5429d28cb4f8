"""docs/meta.md and the lines of a run, from the outcomes alone."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tabulate import tabulate

from benchmarks.meta_run import Outcome, Run
from flopdispatch.units import exact, percent, si

PAGE = Path(__file__).parents[1] / "docs" / "meta.md"

PACKAGES = (
    "torch",
    "transformers",
    "torchvision",
    "timm",
    "diffusers",
    "segmentation-models-pytorch",
    "conformer",
    "open_clip_torch",
    "torch-geometric",
    "ultralytics",
)

RUN_GOAL, NOTHING_ASSUMED_GOAL = 95, 85  # percent of the models

NOTHING, NO_BACKWARD = "nothing assumed", "–"

LINE = "{:48} {:36} {:>10} {:>10} {:>7}  {}"
HEADINGS = ("model", "group", "params", "MACs", "seconds", "forward / with backward")

COUNTED = ("run", "", NOTHING, "")
TALLY_HEADINGS = ("group", "models", *COUNTED, "trained", *COUNTED)

HEAD = """\
# Models on meta

Which published models `count` runs on meta, without data, and what it has to assume about data
there. Written by `make meta` (`python -m benchmarks.meta --write`) from one run; nothing on this
page is entered by hand.

Each model is built by `on_meta` from its published configuration, without weights, and called
with inputs of a usual size. Inputs whose values decide what runs, and which any user has at
hand, are real: the boxes that a detector is trained with, the edges of a graph, the places of
patches, a mask. All others are shapes.
"""

LEGEND = """\
- **parameters**: of the model as it was built, each counted once.
- **MACs**: of all operators of one forward.
- **forward**: *nothing assumed* where no answer depends on data that isn't there; else the
  assumptions, as numbers of the notes below the table, which `profile.assumptions` lists with
  their places; *refused* with the reason where there is no count.
- **with backward**: the same of `backward=True`; – where the model doesn't train by a backward
  from what it is called with here.
"""

GOALS = """\
The goals are {run_goal} % of the models that run and {nothing_goal} % that run with nothing
assumed, both of the forward. Reached: **{ran}** of {models} run ({ran_percent}) and **{nothing}**
with nothing assumed ({nothing_percent}).
"""


class Notes:
    """Texts below a table, numbered in the order in which they are first referred to."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The number of a text, as a mark in a cell."""
        return f"[{self.numbers.setdefault(text, len(self.numbers) + 1)}]"

    def __str__(self) -> str:
        return "  \n".join(f"[{number}] {text}" for text, number in self.numbers.items())


def line(outcome: Outcome) -> str:
    """An outcome as a line of the run."""
    told = words(outcome.forward)
    if outcome.backward is not None:
        told += f" / {words(outcome.backward)}"
    return LINE.format(
        outcome.name,
        outcome.group,
        si(outcome.params) if outcome.params else "",
        si(outcome.forward.macs) if outcome.forward.ran else "",
        f"{outcome.seconds:.1f}",
        told,
    )


def words(run: Run) -> str:
    """What came of a run, in full."""
    if run.missing:
        return f"not installed: {run.missing}"
    if run.refused:
        return f"refused: {reason(run)}"
    if not run.assumptions:
        return NOTHING
    return "assumed: " + "; ".join(f"{text} ({times} times)" for text, times in run.assumptions)


def reason(run: Run) -> str:
    """Why a run was refused, and where unless that says so."""
    told = run.refused
    return f"{told} ({run.source})" if run.source and run.source not in told else told


def cell(run: Run | None, notes: Notes) -> str:
    """What came of a run, in short; the notes have the rest."""
    if run is None:
        return NO_BACKWARD
    if run.missing:
        return f"{run.missing} is not installed"
    if run.refused:
        return f"refused {notes.mark(reason(run).replace('|', '/'))}"
    if not run.assumptions:
        return NOTHING
    marks = [f"{notes.mark(text)} × {times}" for text, times in run.assumptions]
    return f"assumed {', '.join(marks)}"


def present(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of models whose packages are installed: what percentages are of."""
    return [outcome for outcome in outcomes if not outcome.forward.missing]


def groups(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each group, in order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.group, []).append(outcome)
    return found


def tally(name: str, runs: Sequence[Run]) -> list[str]:
    """How many of some runs there are, are counted, and are counted with nothing assumed."""
    ran = [run for run in runs if run.ran]
    nothing = [run for run in ran if not run.assumptions]
    return [
        name,
        exact(len(runs)),
        exact(len(ran)),
        percent(len(ran), len(runs)),
        exact(len(nothing)),
        percent(len(nothing), len(runs)),
    ]


def tallies(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Rows of each group and of all, forward and with backward."""
    parts = {**groups(outcomes), "all": list(outcomes)}
    return [
        [
            *tally(name, [outcome.forward for outcome in present(part)]),
            *tally("", [o.backward for o in present(part) if o.backward])[1:],
        ]
        for name, part in parts.items()
    ]


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """How many run, by group, as lines."""
    return tabulate(tallies(outcomes), TALLY_HEADINGS, disable_numparse=True).splitlines()


def page(outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    parts = [HEAD.rstrip(), versions(), LEGEND.rstrip(), "## Goals", goals(outcomes)]
    parts += [table(tallies(outcomes), TALLY_HEADINGS, "l" + "r" * 10)]
    for group, part in groups(outcomes).items():
        notes = Notes()
        rows = [
            [
                outcome.name,
                si(outcome.params) if outcome.params else "",
                si(outcome.forward.macs) if outcome.forward.ran else "",
                cell(outcome.forward, notes),
                cell(outcome.backward, notes),
            ]
            for outcome in part
        ]
        headings = ("model", "parameters", "MACs", "forward", "with backward")
        parts += [f"## {group}", table(rows, headings, "lrrll")]
        parts += [str(notes)] if notes.numbers else []
    return "\n\n".join(parts) + "\n"


def goals(outcomes: Sequence[Outcome]) -> str:
    """The goals, and what was reached."""
    _, models, ran, ran_percent, nothing, nothing_percent = tally(
        "all", [outcome.forward for outcome in present(outcomes)]
    )
    return GOALS.format(
        run_goal=RUN_GOAL,
        nothing_goal=NOTHING_ASSUMED_GOAL,
        models=models,
        ran=ran,
        ran_percent=ran_percent,
        nothing=nothing,
        nothing_percent=nothing_percent,
    ).rstrip()


def versions() -> str:
    """A table of the packages and their versions."""
    return table([[package, installed(package)] for package in PACKAGES], ("package", "version"))


def installed(package: str) -> str:
    """A package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def table(rows: list[list[str]], headings: Sequence[str], align: str = "") -> str:
    """A table in Markdown; `align` has a letter for each column, l or r."""
    sides = [{"l": "left", "r": "right"}[letter] for letter in align]
    return tabulate(rows, headings, "pipe", colalign=sides or None, disable_numparse=True)
