"""Folded stacks: lines that flame graph tools read, whose numbers add up."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import ArgumentError, Profile, count, on_meta, spec
from flopdispatch.capture.recording import ModuleRecord, own_params
from flopdispatch.report.stacks import stacks
from tests.programs import counted
from tests.report.test_table import resnet50, toy

Golden = Callable[[str, str], None]
LINE = re.compile(r"^(.*)\s+?(\d+)$")  # flamegraph.pl's own


def parsed(profile: Profile, metric: str = "flops") -> list[tuple[list[str], int]]:
    """The frames and the number of each line."""
    found = []
    for line in profile.report("folded", metric=metric).split("\n"):
        match = LINE.match(line)
        assert match is not None, line
        found.append((match[1].split(";"), int(match[2])))
    return found


def test_the_toy_model(golden: Golden) -> None:
    golden("toy.folded", toy().report("folded"))


def test_a_step_of_training(golden: Golden) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    profile = count(model, (3, 8), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    golden("training.folded", profile.report("folded"))


@pytest.mark.parametrize("metric", ["flops", "macs", "bytes", "params"])
@pytest.mark.parametrize("profile", [toy(), toy(backward=True), resnet50()], ids=["a", "b", "c"])
def test_the_numbers_add_up_to_the_total(profile: Profile, metric: str) -> None:
    total = profile.total.nbytes if metric == "bytes" else getattr(profile, metric)
    lines = parsed(profile, metric)
    assert sum(number for _, number in lines) == total
    assert all(number for _, number in lines), "a line of none says nothing"


def test_a_stack_is_the_path_of_modules_with_their_types_then_the_operator() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2, bias=False))
    assert stacks(count(model, (3, 8)), "macs") == {
        ("Sequential", "0 (Linear)", "aten::addmm.default"): 3 * 8 * 4,
        ("Sequential", "1 (Linear)", "aten::mm.default"): 3 * 4 * 2,
    }


def test_the_phase_is_the_first_frame_where_several_have_some() -> None:
    model = nn.Linear(8, 4, bias=False)
    assert stacks(count(model, (3, 8), backward=True), "macs") == {
        ("forward", "Linear", "aten::mm.default"): 3 * 8 * 4,
        ("backward", "Linear", "aten::mm.default"): 3 * 8 * 4,  # the input needs no gradient
    }
    step = count(model, (3, 8), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    assert {stack[0] for stack in stacks(step, "macs")} == {"forward", "backward"}
    assert {stack[0] for stack in stacks(step)} == {"forward", "backward", "optimizer"}
    assert set(stacks(step, "params")) == {("Linear",)}


def test_what_ran_outside_of_modules_has_a_frame() -> None:
    profile = counted(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    line = "(outside of modules);aten::mm.default 24"
    assert profile.report("folded", metric="macs") == line


def test_an_empty_block_has_no_line() -> None:
    assert counted(lambda: None).report("folded") == ""


def test_the_frames_of_a_module_stand_together() -> None:
    seen: dict[tuple[str, ...], int] = {}
    paths = [tuple(frames) for frames, _ in parsed(toy(backward=True))]
    for i, path in enumerate(paths):
        for depth in range(1, len(path) + 1):
            prefix = path[:depth]
            assert seen.get(prefix, i - 1) == i - 1, prefix
            seen[prefix] = i


def test_parameters_that_are_tied_are_the_first_ones() -> None:
    modules = [
        ModuleRecord("A", "A", ((1, 10), (2, 5)), 1),
        ModuleRecord("A.b", "B", ((2, 5), (3, 7)), 1),
        ModuleRecord("A.c", "C", ((1, 10),), 1),
    ]
    assert own_params(modules) == {"A": 15, "A.b": 7, "A.c": 0}


class Named(nn.Module):
    """A layer by each name."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 2, bias=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.children()]


def test_names_that_would_break_a_line_do_not() -> None:
    model = Named(["a;b 7", "new\nline", 'x"|<b>', "=cmd", " 12", "a\\n", "a\n"])
    lines = parsed(count(model, (1, 2)), "macs")
    told = ["a:b 7", "new\\nline", 'x"|<b>', "=cmd", " 12", "a\\n", "a\\n"]
    by_name: dict[str, int] = {}
    for name in told:
        by_name[f"{name} (Linear)"] = by_name.get(f"{name} (Linear)", 0) + 4
    assert {frames[1]: number for frames, number in lines} == by_name
    held = parsed(count(model, (1, 2)), "params")
    assert {frames[1]: number for frames, number in held} == by_name


def test_numbers_beyond_64_bits_are_exact() -> None:
    wide = on_meta(lambda: nn.Linear(2**20, 2**20, bias=False))
    macs = 2**30 * 2**40
    text = count(wide, spec(2**30, 2**20)).report("folded", metric="macs")
    assert text == f"Linear;aten::mm.default {macs}"
    assert macs > 2**63


def test_another_metric_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="metric= takes one of flops, macs, bytes, params, got"):
        toy().report("folded", metric="time")
