"""The goals of speed, and what the measurements say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.programs import BACKWARD, CALLS, FORWARD, LLAMA_FORWARD, OPERATORS, STEP
from benchmarks.ratios import Ratio, spread
from benchmarks.ways import COLD, FLOOR, NOOP, TORCH, UNCOUNTED, WARM

ON_META = (FORWARD, BACKWARD, LLAMA_FORWARD)


@dataclass(frozen=True, slots=True)
class Goal:
    """No median of a ratio above `most`, for the rows of these kinds or of this name."""

    of: str
    ratio: Ratio
    most: float
    kinds: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class GrowthGoal:
    """What a unit of the longer program costs over a unit of the shorter one, at most.

    `quantity` is seconds or nbytes. Without `unit`, it is the whole program's quantity less
    the shorter one's.
    """

    series: str
    quantity: str
    shorter: int
    longer: int
    most: float
    by_unit: bool = True

    def measured(self, growth: Sequence[Mapping[str, Any]]) -> float | None:
        """The figure that the goal limits, of our counter; None if it wasn't measured."""
        found = {
            point["units"]: point[self.quantity]
            for point in growth
            if point["series"] == self.series and point["way"] == COLD
        }
        if self.shorter not in found or self.longer not in found:
            return None
        if not self.by_unit:
            return float(found[self.longer] - found[self.shorter])
        return float(found[self.longer] / self.longer / (found[self.shorter] / self.shorter))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a goal is about, the least and the greatest figure measured, and of which row."""

    of: str
    figure: str
    most: float
    least: float
    greatest: float
    row: str = ""

    @property
    def reached(self) -> bool:
        """Whether all that was measured is within the goal."""
        return self.greatest <= self.most


GOALS = (
    Goal("vision and encoder models, forward", Ratio(COLD, UNCOUNTED), 0.45, (FORWARD,)),
    Goal("vision and encoder models, forward", Ratio(WARM, UNCOUNTED), 0.12, (FORWARD,)),
    Goal("forward + backward on meta", Ratio(COLD, UNCOUNTED), 0.35, (BACKWARD,)),
    Goal("Llama-3 70B, forward", Ratio(COLD, UNCOUNTED), 0.25, name="Llama-3 70B, forward"),
    Goal("Llama-3 70B, forward", Ratio(COLD, TORCH), 0.15, name="Llama-3 70B, forward"),
    Goal("all rows on meta", Ratio(COLD, TORCH), 0.35, ON_META),
    Goal("all rows on meta", Ratio(WARM, FLOOR), 1.6, ON_META),
    Goal("small CPU operators", Ratio(COLD, NOOP, added=True), 1.3, (OPERATORS,)),
    Goal("small CPU operators", Ratio(COLD, TORCH, added=True), 0.33, (OPERATORS,)),
    Goal("nn.Linear calls", Ratio(COLD, NOOP, added=True), 1.6, (CALLS,)),
    Goal("nn.Linear calls", Ratio(COLD, TORCH, added=True), 0.25, (CALLS,)),
    Goal("training step on CPU", Ratio(COLD, UNCOUNTED), 1.25, (STEP,)),
)


# Linear in distinct work, flat in repeated work; the allowances are for noise.
GROWTH_GOALS = (
    GrowthGoal("encoder layers", "seconds", 12, 96, 1.25),
    GrowthGoal("iterations", "seconds", 100, 10_000, 1.25),
    GrowthGoal("iterations", "nbytes", 100, 10_000, 1e6, by_unit=False),
    GrowthGoal("distinct shapes", "seconds", 100, 10_000, 1.25),
    GrowthGoal("distinct shapes", "nbytes", 1_000, 10_000, 1.25),
)


def verdicts(rows: Mapping[str, Any], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """What was measured of each goal; goals of which no row was measured are left out."""
    found = []
    for goal in goals:
        medians = {}
        for name, row in rows.items():
            measured = spread(goal.ratio, row)
            if measured and (row["kind"] in goal.kinds or name == goal.name):
                medians[name] = measured.median
        if medians:
            worst = max(medians, key=lambda name: medians[name])
            least = min(medians.values())
            found.append(Verdict(goal.of, str(goal.ratio), goal.most, least, medians[worst], worst))
    return found


def growth_verdicts(
    growth: Sequence[Mapping[str, Any]], goals: Sequence[GrowthGoal] = GROWTH_GOALS
) -> list[Verdict]:
    """What was measured of each goal of growth; those that weren't measured are left out."""
    found = []
    for goal in goals:
        measured = goal.measured(growth)
        if measured is not None:
            found.append(Verdict(goal.series, figure(goal), goal.most, measured, measured))
    return found


def figure(goal: GrowthGoal) -> str:
    """What a goal of growth limits, in words."""
    name = {"seconds": "time", "nbytes": "peak memory added"}[goal.quantity]
    if goal.by_unit:
        return f"{name} a unit: {goal.longer:,} over {goal.shorter:,} units"
    return f"{name}, in bytes: {goal.longer:,} less {goal.shorter:,} units"
