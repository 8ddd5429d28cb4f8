"""Random programs on known values: on meta every answer is the one that they get on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.equality_ways import double_by_default
from flopdispatch import Assume, DataDependentError, FlopCounter, count
from flopdispatch.assumptions import Assumption
from tests.known_questions import ASKED
from tests.known_steps import (
    DATA,
    DTYPES,
    FUNCTIONAL,
    IN_PLACE,
    LISTS,
    MADE,
    NUMBERS,
    OUT,
    VIEWS,
    Operands,
    Steps,
    start,
)

RECENT = 12  # tensors made by a program's own steps that later ones can take
LARGEST = 64  # elements of a tensor that they can take
REFUSED = "refused"
NOTHING = Assume(nonzero=None, nms=None, condition=None, number=None, even=False)

READ = LISTS if sys.version_info >= (3, 11) else {}
KNOWN: Steps = MADE | VIEWS | IN_PLACE | FUNCTIONAL | OUT | READ
STEPS = KNOWN | DATA | ASKED
# The text of a tensor whose value isn't known is what torch makes of it on meta.
UNKNOWN = {name: step for name, step in ASKED.items() if name != "text"}


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plainly": nullcontext,
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "double": double_by_default,
}


class Step(NamedTuple):
    """One step of a program; operands are chosen by number from the tensors there are."""

    name: str
    mode: str
    x: int
    y: int
    z: int
    n: int
    number: Any
    dtype: torch.dtype


class Run:
    """A run of a program's steps on a device, where `draw` makes data."""

    def __init__(self, pool: list[Tensor], device: str, draw: Callable[..., Tensor]) -> None:
        self.pool, self.first = list(pool), len(pool)
        self.device, self.draw = device, draw

    def step(self, step: Step, keep: bool) -> Any:
        """Run a step, and say what it answered; `keep` says whether answers are operands, too."""
        x, y, z = (self.pool[place % len(self.pool)] for place in (step.x, step.y, step.z))
        n, number, dtype = step.n, step.number, step.dtype
        with MODES[step.mode]():
            try:
                output = STEPS[step.name](
                    Operands(self.pool, x, y, z, n, number, dtype, self.device, self.draw)
                )
                answered = described(output) if step.name in ASKED else None
            except DataDependentError:
                return REFUSED
            except Exception as error:
                return type(error)
        if keep or step.name not in ASKED:
            made = output if isinstance(output, list | tuple) else [output]
            tensors = [one for one in made if isinstance(one, Tensor)]
            self.pool += [one for one in tensors if one.numel() <= LARGEST]
            del self.pool[self.first : -RECENT]
        return answered

    def end(self) -> list[Any]:
        """What the program's tensors hold at its end."""
        return [contents(tensor) for tensor in self.pool]


def described(value: Any) -> str:
    """An answer as text, with all that can be told of its tensors."""
    if isinstance(value, Tensor):
        stride = [step for step, size in zip(value.stride(), value.shape) if size != 1]
        return f"{tuple(value.shape)} {stride} {value.dtype} {value.tolist()}"
    if isinstance(value, list | tuple):
        return str([described(item) for item in value])
    return repr(value)


def contents(tensor: Tensor) -> str:
    try:
        return f"{tensor.dtype} {tensor.tolist()}"
    except DataDependentError:
        return REFUSED


Outcome = tuple[list[Any], list[Any]]  # of each step, and at the end


def on_cpu(program: list[Step], keep: bool, moved: bool, seed: int) -> Outcome:
    """What the program does on the CPU, with data that a seed decides."""
    generator = torch.Generator().manual_seed(seed)
    given = [x.clone() if moved else x for x in start()]
    run = Run(given, "cpu", lambda *shape: torch.rand(shape, generator=generator))
    return [run.step(step, keep) for step in program], run.end()


def ran(program: list[Step], keep: bool, inputs: tuple[Tensor, ...]) -> Outcome:
    run = Run(list(inputs), "meta", lambda *shape: torch.rand(shape, device="meta"))
    return [run.step(step, keep) for step in program], run.end()


def by_count(
    program: list[Step], keep: bool, assume: Assume
) -> tuple[Outcome, tuple[Assumption, ...]]:
    """What it does on meta where `count` runs it on real tensors; and what was assumed."""
    seen: list[Outcome] = []
    profile = count(
        lambda *inputs: seen.append(ran(program, keep, inputs)), *start(), assume=assume
    )
    return seen[0], profile.assumptions


def in_a_block(
    program: list[Step], keep: bool, assume: Assume, meta_cache: bool = True
) -> tuple[Outcome, tuple[Assumption, ...]]:
    """The same in a block, in which real tensors are moved to meta."""
    with FlopCounter(display=False, assume=assume, meta_cache=meta_cache) as counter:
        seen = ran(program, keep, tuple(x.to("meta") for x in start()))
    return seen, counter.profile.assumptions


Way = Callable[[list[Step], bool, Assume], tuple[Outcome, tuple[Assumption, ...]]]
WAYS: dict[str, Way] = {
    "count": by_count,
    "block": in_a_block,
    "no cache": partial(in_a_block, meta_cache=False),
}


def steps_of(*groups: Steps) -> st.SearchStrategy[Step]:
    places = st.integers(0, 40)
    return st.builds(
        Step,
        st.one_of(*(st.sampled_from(sorted(group)) for group in groups)),
        st.sampled_from([*MODES, "plainly", "plainly"]),
        places,
        places,
        places,
        st.integers(0, 4),
        st.sampled_from(NUMBERS),
        st.sampled_from(DTYPES),
    )


def programs(*groups: Steps) -> st.SearchStrategy[list[Step]]:
    return st.lists(steps_of(*groups), min_size=1, max_size=14)


known_groups = [group for group in (MADE, VIEWS, IN_PLACE, FUNCTIONAL, OUT, READ) if group]
ways = st.sampled_from(sorted(WAYS))


def that_runs(
    program: list[Step], keep: bool, way: str, seeds: int
) -> tuple[list[Step], list[tuple[list[Any], list[Any]]]]:
    """A program without the steps that fail on the CPU, and what it does there for each seed."""
    while True:
        runs = [on_cpu(program, keep, way != "count", seed) for seed in range(seeds)]
        failed = [place for run in runs for place, one in enumerate(run[0]) if _is_error(one)]
        if not failed:
            return program, runs
        program = [step for place, step in enumerate(program) if place != min(failed)]


def _is_error(outcome: Any) -> bool:
    return isinstance(outcome, type)


@given(programs(*known_groups, ASKED, ASKED), ways)
@settings(max_examples=150)
def test_what_follows_from_no_data_is_answered_as_on_the_cpu(program: list[Step], way: str) -> None:
    program, (expected,) = that_runs(program, True, way, 1)
    outcome, assumptions = WAYS[way](program, True, Assume())
    assert outcome == expected
    assert assumptions == ()


@given(programs(*known_groups, DATA, DATA, UNKNOWN, UNKNOWN), ways)
@settings(max_examples=150)
def test_what_depends_on_data_is_refused_or_what_all_data_give(
    program: list[Step], way: str
) -> None:
    while True:
        program, runs = that_runs(program, False, way, 3)
        (answers, ends), assumptions = WAYS[way](program, False, NOTHING)
        undone = [place for place, one in enumerate(answers) if one == REFUSED]
        undone = [place for place in undone if program[place].name not in ASKED]
        if not undone:
            break
        program = program[: undone[0]] + program[undone[0] + 1 :]
    assert assumptions == ()
    for expected, held in runs:
        for step, answer, other in zip(program, answers, expected, strict=True):
            assert answer in (REFUSED, other), step
        for answer, other in zip(ends, held, strict=True):
            assert answer in (REFUSED, other)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_runs_and_most_are_answered(name: str) -> None:
    program = [
        Step(name, mode, 3 * i + j, 5 * i + j, 7 * i + 2, i + j, NUMBERS[3 * i + j], DTYPES[i + j])
        for i in range(2)
        for j, mode in enumerate(MODES)
    ]
    program, (expected,) = that_runs(program, False, "count", 1)
    assert program
    (answers, ends), _ = by_count(program, False, NOTHING)
    if name not in DATA:
        assert (answers, ends) == expected
    else:
        assert REFUSED in ends
