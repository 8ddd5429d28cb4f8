"""What each module costs."""

from __future__ import annotations

from collections import Counter

from flopdispatch import Profile


def own_macs(profile: Profile) -> Counter[tuple[str, str]]:
    """MACs of each module, without those below it, by phase."""
    found: Counter[tuple[str, str]] = Counter()
    for row in profile.rows:
        found[row.scope, row.phase] += profile.prices[row.call].cost.macs * row.times
    return +found
