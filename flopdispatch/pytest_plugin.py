"""The work of the pytest fixture `assert_flops`; `_flopdispatch_pytest` is what pytest loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flopdispatch.amounts import parse_count, parse_share
from flopdispatch.budget import UNITS, Baseline, Budget
from flopdispatch.counter import FlopCounter, count
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile

Amount = int | str | None


class AssertFlops:
    """Asserts in one test: `folder` and `test` say where its baselines are.

    With `update` they are written instead of compared, and `wrote` is told of each that changed.
    `shown` is a path as it is written for people.
    """

    def __init__(
        self,
        folder: Path,
        test: str,
        update: bool,
        shown: Callable[[Path], str],
        wrote: Callable[[Path], None],
    ) -> None:
        self._folder = folder
        self._test = test
        self._update = update
        self._shown = shown
        self._wrote = wrote
        self._used: list[Path] = []

    def __call__(
        self,
        model: Any,
        inputs: Any = (),
        *,
        macs: Amount = None,
        flops: Amount = None,
        params: Amount = None,
        bytes: Amount = None,
        max_macs: Amount = None,
        max_flops: Amount = None,
        max_params: Amount = None,
        max_bytes: Amount = None,
        tolerance: float | str = 0,
        name: str | None = None,
        allow_uncounted: bool = False,
        **options: Any,
    ) -> Profile:
        """Count one run of a model and hold its figures against numbers, limits or a baseline.

        `inputs` is one input or several: a tuple of integers is a float tensor of that shape, any
        other tuple or list has an input in each place, a dict has them by name. `options` go to
        `flopdispatch.count`: backward, convention, device, ... In place of a model there may be a
        FlopCounter or a Profile.

        `macs`, `flops`, `params` and `bytes` are what the figures are expected to be, the others
        the most that they may be: 5_000_000_000, "5G", "4.1 GMACs". Without any of these the
        figures must be those in the test's baseline file: the second assertion's in a test is
        numbered, unless it has a `name`. `tolerance` (0.005, "0.5%") is the share of an expected or
        recorded number that a figure may be off. Operators without a formula fail, unless
        `allow_uncounted`.

        Returns the profile, for more to be asked of it.

        Raises: AssertionError with the reasons, and the modules that changed; ArgumentError for
        wrong arguments; what the model raises comes through.
        """
        __tracebackhide__ = True
        expected = _numbers("", macs=macs, flops=flops, params=params, bytes=bytes)
        limits = _numbers(
            "max_", macs=max_macs, flops=max_flops, params=max_params, bytes=max_bytes
        )
        share = parse_share(tolerance, "tolerance=")
        recorded = name is not None or not (expected or limits)
        path = self._place(name) if recorded else None

        before = None
        if path is not None and not self._update:
            if not path.exists():
                raise AssertionError(f"there is no baseline yet: {self._written_by(path)}")
            before = Baseline.read(path)
        profile = _counted(model, inputs, options)
        budget = Budget(limits, expected, before, share, allow_uncounted)
        failed = [verdict.text for verdict in budget.check(profile) if not verdict.holds]
        if failed:
            parts = [*failed, "", budget.details(profile)]
            if path is not None and before is not None:
                parts += ["", f"If that is meant: {self._written_by(path)}"]
            raise AssertionError("\n".join(parts))
        if path is not None and self._update and Baseline.of(profile).write(path):
            self._wrote(path)
        return profile

    def _written_by(self, path: Path) -> str:
        return f"pytest --flops-update writes {self._shown(path)}"

    def _place(self, name: str | None) -> Path:
        """The file of the next baseline.

        Raises: ArgumentError if this test has used it.
        """
        suffix = name or (str(len(self._used) + 1) if self._used else "")
        path = self._folder / f"{self._test}{'-' if suffix else ''}{quote(suffix, safe='')}.json"
        if path in self._used:
            raise ArgumentError(f"this test has a baseline of the name {name!r} already")
        self._used.append(path)
        return path


def _numbers(prefix: str, **given: Amount) -> dict[str, int]:
    """The amounts that were given, as numbers."""
    return {
        name: parse_count(amount, UNITS[name], f"{prefix}{name}=")
        for name, amount in given.items()
        if amount is not None
    }


def _counted(model: Any, inputs: Any, options: dict[str, Any]) -> Profile:
    """The profile of one run, or the one that there is already."""
    if isinstance(model, FlopCounter | Profile):
        if inputs != () or options:
            raise ArgumentError(
                f"a {type(model).__name__} takes no inputs or options: it has counted already"
            )
        return model if isinstance(model, Profile) else model.profile
    if isinstance(inputs, Mapping):
        return count(model, **inputs, **options)
    several = isinstance(inputs, tuple | list) and not (
        inputs and isinstance(inputs, tuple) and all(type(size) is int for size in inputs)
    )
    return count(model, *inputs if several else (inputs,), **options)
