"""Folded stacks: one line a stack, as flamegraph.pl, inferno and speedscope read them."""

from __future__ import annotations

from flopdispatch.profile import Profile
from flopdispatch.report.stacks import stacks


def render(profile: Profile, metric: str = "flops") -> str:
    """Lines of `module;module;operator number`: a path of modules, and what is computed there.

    `metric` is what the number counts: `"flops"`, `"macs"`, `"bytes"`, or `"params"`, which have
    no operator. Where several phases have some, the phase comes first. A `;` in a name is written
    `:`.

    Raises: ArgumentError for another metric.
    """
    found = stacks(profile, metric).items()
    return "\n".join(
        f"{';'.join(frame.replace(';', ':') for frame in stack)} {number}"
        for stack, number in found
    )
