"""On a device whose backward runs in a thread of autograd's own, rows are those of the CPU."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.versions import needs_torch

pytestmark = needs_torch(2, 15, "a device can't be made in Python before")

ONE = 512  # MACs of 8 rows through a layer of 8 by 8; as many for each of its gradients


@functools.cache
def reports(program: str) -> Any:
    """What a program counts on either device, found out in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.other_device", program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# (program, recomputed MACs in both blocks)
PROGRAMS = [
    ("plain", 0),
    # Two iterations of two blocks of three products, run again in the backward.
    ("reentrant", 2 * 2 * 3),
    # The last product's result is needed by nobody.
    ("checkpoint", 2 * 2 * 2),
    ("reentrant in reentrant", 2 * 2 * 6),
    # The outer one needs nothing but the inner one's input.
    ("checkpoint in checkpoint", 2 * 2 * 2),
    ("reentrant products", 2 * 2 * 2),
    ("products", 2 * 2 * 1),
    ("reentrant with retain_graph", 2 * 2 * 3),
    ("first of all", 2 * 2),
    ("steps in the backward", 0),
]


@pytest.mark.parametrize(("program", "again"), PROGRAMS)
def test_rows_are_those_of_the_cpu(program: str, again: int) -> None:
    found = reports(program)
    cpu, other = found["cpu"], found["other"]
    assert other["threads"] == 2, "the backward ran in another thread, or this shows nothing"
    assert cpu["threads"] == 0
    assert other["rows"] == cpu["rows"]
    assert other["calls"] == cpu["calls"]
    assert other["assumptions"] == cpu["assumptions"] == []
    assert other["optimizer"] == cpu["optimizer"]
    rows = {(scope, phase): macs for scope, phase, macs in other["rows"]}
    recomputed = {scope: macs for (scope, phase), macs in rows.items() if phase == "recompute"}
    assert sum(recomputed.values()) == again * ONE
    roots = {scope.partition(".")[0] for scope, _ in rows}
    assert roots - {""} == {"Net"}


def test_a_step_in_the_backward_is_the_optimizer() -> None:
    found = reports("steps in the backward")["other"]
    # Four weights of 64 elements: p - lr · g. What the hook does besides is the backward's.
    assert found["optimizer"] == 4 * 2 * 64
    assert ["", "backward", 4 * ONE] in found["rows"]


def test_gradients_of_gradients_are_all_counted_and_doubt_is_said() -> None:
    found = reports("twice")
    total = {name: sum(row[2] for row in found[name]["rows"]) for name in ("cpu", "other")}
    assert total["cpu"] == total["other"]
    assert found["cpu"]["assumptions"] == []
    if found["other"]["rows"] != found["cpu"]["rows"]:
        assert any("gradients of gradients" in text for text in found["other"]["assumptions"])
