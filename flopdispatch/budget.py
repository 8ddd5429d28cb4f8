"""Budgets: what a profile's figures may be, by limits, by numbers expected, or as recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from flopdispatch.capture.recording import own_params
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import FORMAT as PROFILE
from flopdispatch.profile import Profile, walk
from flopdispatch.report.changes import spanned
from flopdispatch.rules import name_of
from flopdispatch.units import exact, percent, signed, some

FORMAT = "flopdispatch-baseline/1"
FIGURES = {"macs": "MACs", "flops": "FLOPs", "params": "params", "bytes": "bytes"}
UNITS = FIGURES | {"bytes": "B"}  # as they are written after a number
MOST = 12  # modules shown

Figures = dict[str, int]


class Verdict(NamedTuple):
    """Whether one thing that was asked for holds, and the reason in words."""

    holds: bool
    text: str


def figures(cost: Cost, params: int) -> Figures:
    """What is held against a budget, by name."""
    return {"macs": cost.macs, "flops": cost.flops, "params": params, "bytes": cost.nbytes}


def totals(profile: Profile) -> Figures:
    """The figures of a whole profile."""
    return figures(profile.total, profile.params)


@dataclass(frozen=True)
class Budget:
    """What figures may be: at most `limits`, just what is `expected`, and as `baseline` has them.

    `tolerance` is the share of an expected or recorded number that a figure may be off, up or down.
    Operators without a formula are missing from all figures, and fail unless `allow_uncounted`.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, int] = field(default_factory=dict)
    baseline: Baseline | None = None
    tolerance: Fraction = Fraction(0)
    allow_uncounted: bool = False

    def check(self, profile: Profile) -> list[Verdict]:
        """What holds and what doesn't.

        Raises: ArgumentError if the baseline was counted by another convention.
        """
        found = totals(profile)
        verdicts = [within(found[name], name, limit) for name, limit in self.limits.items()]
        verdicts += self._equal(found, self.expected, "expected")
        if self.baseline is not None:
            self.baseline.check_convention(profile.convention)
            verdicts += self._equal(found, self.baseline.total, "recorded")
        counted = all_counted(profile)
        return verdicts if counted.holds or self.allow_uncounted else [*verdicts, counted]

    def _equal(self, found: Figures, numbers: Mapping[str, int], word: str) -> list[Verdict]:
        return [
            as_expected(found[name], name, number, self.tolerance, word)
            for name, number in numbers.items()
        ]

    def details(self, profile: Profile, width: int | None = None) -> str:
        """Where to look if something doesn't hold: what changed, or else the largest modules."""
        if self.baseline is not None:
            found = changes(Baseline.of(profile), self.baseline)
            return f"What changed, by module:\n\n{changes_text(found)}" if found else ""
        name = next(iter([*self.limits, *self.expected]), "flops")
        return profile.table(depth=1, sort=name, width=width)


def within(found: int, name: str, limit: int) -> Verdict:
    """Whether a figure is at most a limit."""
    text = f"{FIGURES[name]} {exact(found)}, limit {exact(limit)}"
    if found > limit:
        return Verdict(False, f"{text}: {_more(found, limit)}")
    share = percent(found, limit)
    return Verdict(True, f"{text}: {share} of it" if share else text)


def as_expected(found: int, name: str, number: int, tolerance: Fraction, word: str) -> Verdict:
    """Whether a figure is a number, neither more nor less but for the tolerance."""
    text = f"{FIGURES[name]} {exact(found)}"
    if found == number:
        return Verdict(True, f"{text}, as {word}")
    beyond = f", tolerance {exact(float(100 * tolerance))}%" if tolerance else ""
    holds = abs(found - number) <= tolerance * number
    return Verdict(holds, f"{text}, {word} {exact(number)}: {_more(found, number)}{beyond}")


def all_counted(profile: Profile) -> Verdict:
    """Whether no operator is missing from the figures."""
    missing = [f"{name_of(op)} x{times}" for op, times in profile.uncounted.items()]
    if not missing:
        return Verdict(True, "no operator is uncounted")
    return Verdict(False, f"operators without a formula, missing from the figures: {some(missing)}")


def _more(number: int, than: int) -> str:
    """By how much one number differs from another."""
    word = "more" if number > than else "less"
    share = percent(abs(number - than), than)
    return f"{exact(abs(number - than))} {word}" + (f" ({share})" * bool(share))


# What was recorded


@dataclass(frozen=True)
class Baseline:
    """The figures of a profile, in total and of each module's own, to hold a later one against.

    As JSON it has a line for each module, sorted, and no figure that is zero: made to be kept
    beside the code and read in a diff.
    """

    convention: str
    total: Figures
    modules: dict[str, Figures]

    @classmethod
    def of(cls, profile: Profile) -> Baseline:
        """The figures of a profile; tied parameters are the first module's."""
        params = own_params(profile.modules)
        modules = {
            node.path: _no_zeros(figures(node.own, params.get(node.path, 0)))
            for node in walk(profile.root)
        }
        known = {path: own for path, own in sorted(modules.items()) if own}
        return cls(profile.convention, totals(profile), known)

    def to_json(self) -> str:
        """The file's text."""
        rows = [f"  {json.dumps(path)}: {json.dumps(own)}" for path, own in self.modules.items()]
        fields = {"format": FORMAT, "convention": self.convention, "total": self.total}
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
        modules = ' "modules": {\n' + ",\n".join(rows) + "\n }" if rows else ' "modules": {}'
        return "{\n" + ",\n".join([*lines, modules]) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """The baseline that `to_json` wrote, or that of a profile that was saved as JSON.

        Raises: ArgumentError if it is neither.
        """
        try:
            data = json.loads(text)
            kind = data["format"]
            if kind == PROFILE:
                return cls.of(Profile.from_dict(data))
            if kind == FORMAT:
                total = {name: int(data["total"][name]) for name in FIGURES}
                return cls(data["convention"], total, dict(data["modules"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"it is neither a baseline nor a saved profile: {error}") from error
        raise ArgumentError(f"expected the format {FORMAT!r} or {PROFILE!r}, got {kind!r}")

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline in a file.

        Raises: ArgumentError if there is none.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ArgumentError) as error:
            raise ArgumentError(f"can't read a baseline from {path}: {error}") from error

    def write(self, path: Path) -> bool:
        """Write it to a file, unless it is there already; whether that changed anything.

        Raises: ArgumentError if the file can't be written, or holds something else.
        """
        text = self.to_json()
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else FORMAT
            if FORMAT not in before:  # one with the marks of a merge in it may be written anew
                raise ArgumentError(f"{path} is no baseline and stays as it is: name another file")
            if before != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArgumentError(f"can't write the baseline {path}: {error}") from error
        return before != text

    def check_convention(self, name: str) -> None:
        """Raises: ArgumentError if the figures were counted by another convention."""
        if name != self.convention:
            raise ArgumentError(
                f"the baseline was counted by the convention {self.convention!r}, this by "
                f"{name!r}: count by the same one, or record it anew"
            )


# What changed


class Change(NamedTuple):
    """How the figures of a module differ, or those of `times` modules in the same way."""

    name: str
    figures: Figures
    times: int


def changes(now: Baseline, before: Baseline) -> list[Change]:
    """The modules whose own figures differ, those first where they differ most.

    Modules whose paths have other numbers in them and that differ equally are one, by the sum.
    """
    groups: dict[Any, list[str]] = {}
    for path in {**before.modules, **now.modules}:
        one, other = before.modules.get(path, {}), now.modules.get(path, {})
        difference = {name: other.get(name, 0) - one.get(name, 0) for name in FIGURES}
        if any(difference.values()):
            note = "" if one and other else " (new)" if other else " (gone)"
            alike = re.sub(r"\d+", "*", path), note, tuple(difference.items())
            groups.setdefault(alike, []).append(path)
    found = [
        Change(spanned(paths) + note, {name: n * len(paths) for name, n in each}, len(paths))
        for (_, note, each), paths in groups.items()
    ]
    return sorted(found, key=lambda change: [-abs(n) for n in change.figures.values()])


def changes_text(found: list[Change]) -> str:
    """A table of changes, the first ones, and of the figures that differ anywhere."""
    names = [name for name in FIGURES if any(change.figures[name] for change in found)]
    rows = [
        [
            (change.name or "(outside of modules)") + (f" ×{change.times}" * (change.times > 1)),
            *(signed(change.figures[name]) for name in names),
        ]
        for change in found[:MOST]
    ]
    headers = ["Module", *(FIGURES[name] for name in names)]
    align = ["left", *("right" for _ in names)]
    text = tabulate(rows, headers, "simple", disable_numparse=True, colalign=align)
    left = len(found) - MOST
    return text + (f"\nand {exact(left)} more" if left > 0 else "")


def _no_zeros(found: Figures) -> Figures:
    return {name: number for name, number in found.items() if number}
