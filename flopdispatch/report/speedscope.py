"""speedscope's file format: flame graphs to look at on https://www.speedscope.app."""

from __future__ import annotations

import json
from typing import Any

from flopdispatch.profile import Profile
from flopdispatch.report.markup import visible
from flopdispatch.report.stacks import METRICS, stacks
from flopdispatch.units import some

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def render(profile: Profile) -> str:
    """One flame graph a metric (FLOPs, MACs, bytes, parameters), of those that aren't zero."""
    frames: dict[str, int] = {}
    found = {metric: stacks(profile, metric) for metric in METRICS}
    profiles: list[dict[str, Any]] = [
        {
            "type": "sampled",
            "name": METRICS[metric],
            "unit": "bytes" if metric == "bytes" else "none",
            "startValue": 0,
            "endValue": sum(weights.values()),
            "samples": [
                [frames.setdefault(frame, len(frames)) for frame in stack] for stack in weights
            ],
            "weights": list(weights.values()),
        }
        for metric, weights in found.items()
        if weights
    ]
    models = some([visible(child.name) for child in profile.root.children])
    return json.dumps(
        {
            "$schema": SCHEMA,
            "name": f"{models or 'flopdispatch'}, convention {profile.convention}",
            "exporter": "flopdispatch",
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": name} for name in frames]},
            "profiles": profiles,
        }
    )
