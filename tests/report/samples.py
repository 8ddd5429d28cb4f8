"""Profiles that every reporter must get right: usual ones, and those at the edges."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from flopdispatch import Cost, FlopCounter, Profile, count
from flopdispatch.capture.recording import ModuleRecord
from flopdispatch.profile import Row
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, spec
from tests.programs import counted
from tests.report.test_table import toy

HOSTILE = (
    "line\nbreak", "cr\rlf", "|pipe|", "semi;colon", 'quo"te', "=cmd()", "+1", "-1", "@SUM", "a,b",
    "back`tick", "``", "<b>&amp;", "* _x_ [y](z)", "tab\tstop", "\\|", " ", "9" * 30, "日本語",
    "\u202e",
)  # fmt: skip


def hostile() -> Profile:
    """A model whose modules have names that mean something to some format."""
    model = nn.Sequential()
    for name in HOSTILE:
        model.add_module(name, nn.Linear(2, 2))
    return count(model, (1, 2))


def huge() -> Profile:
    """Counts beyond what a float, an int64 and an uint64 hold, each exact."""
    x = spec(2, 2)
    call = OpCall(torch.ops.aten.mm.default, (x, x), (), x)
    cost = Cost(macs=2**53 + 1, adds=2**64 + 1, bytes_read=2**63 - 1)
    modules = (
        ModuleRecord("", "", (), 0),
        ModuleRecord("A", "A", ((0, 405_853_388_800),), 1),
        ModuleRecord("A.b", "B", ((1, 2**53 + 1),), 1),
    )
    rows = (Row("A", "forward", 0, 1), Row("A.b", "forward", 0, 3))
    price = Price(cost, "matmul", "counted", torch.float32)
    return Profile((call,), (price,), rows, modules, "mine", "")


def step() -> Profile:
    """A training step of a network with a loss: all phases but recompute."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 6 * 6, 5))
    optimizer = torch.optim.AdamW(model.parameters())
    with FlopCounter(display=False) as counter:
        loss = nn.functional.cross_entropy(model(torch.ones(2, 3, 8, 8)), torch.tensor([0, 1]))
        loss.backward()
        optimizer.step()
    return counter.profile


def uncounted() -> Profile:
    """A block with an operator that has no formula."""
    with torch.library._scoped_library("samples", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return counted(lambda: torch.ops.samples.twice(torch.ones(2)))


SAMPLES = {
    "toy": toy(),
    "training": toy(backward=True),
    "step": step(),
    "hostile": hostile(),
    "huge": huge(),
    "empty": counted(lambda: None),
    "outside": counted(lambda: torch.ones(2, 2) @ torch.ones(2, 2)),
    "uncounted": uncounted(),
}
