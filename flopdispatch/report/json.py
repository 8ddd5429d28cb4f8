"""JSON: all of a profile, and a summary of it that is easy to query.

`profile.schema.json` beside this file describes every key.
"""

from __future__ import annotations

import json
from typing import Any

from flopdispatch.profile import Profile
from flopdispatch.report.records import FIGURES, beside, figures, names_beside, records
from flopdispatch.rules import name_of

SUMMARIZED = ("modules", "operators", "families", "phases", "dtypes")
NESTED = ("summary", "roofline")  # objects with a line for each entry


def render(profile: Profile) -> str:
    """What `profile.to_json()` gives, which `Profile.from_json` reads, with a summary first.

    Example: `jq '.summary.totals.macs'`, `jq '.summary.operators[] | select(.macs > 0)'`.
    """
    return with_summary(profile, summary(profile))


def with_summary(profile: Profile, told: dict[str, Any]) -> str:
    """The profile as JSON with this summary first."""
    data = profile.to_dict()
    return written({"format": data.pop("format"), "summary": told, **data})


def summary(profile: Profile) -> dict[str, Any]:
    """Totals, and the records of modules, operators, families, phases and dtypes."""
    return {
        "totals": {
            "params": profile.params,
            "comparable_flops": profile.comparable_flops,
            **dict(zip(FIGURES, figures(profile.total))),
            **dict(zip(names_beside(profile), map(sum, zip(*beside(profile).values())))),
        },
        **{kind: records(profile, kind).as_dicts() for kind in SUMMARIZED},
        "uncounted": {name_of(op): times for op, times in profile.uncounted.items()},
        "estimates": {name_of(op): times for op, times in profile.estimates.items()},
    }


def written(data: dict[str, Any]) -> str:
    """An object as JSON, with a line for each entry and each item of a list."""
    return "{\n" + ",\n".join(_lines(data, " ")) + "\n}"


def _lines(data: dict[str, Any], indent: str) -> list[str]:
    """Each entry of an object as JSON; a list has a line for each item, so that a diff reads."""
    found = []
    for key, value in data.items():
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value:
            items = (f"{indent} {json.dumps(item, allow_nan=False)}" for item in value)
            text = "[\n" + ",\n".join(items) + f"\n{indent}]"
        elif key in NESTED:
            text = "{\n" + ",\n".join(_lines(value, indent + " ")) + f"\n{indent}}}"
        found.append(f"{indent}{json.dumps(key)}: {text}")
    return found
