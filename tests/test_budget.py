"""Budgets: limits, expected numbers and baselines, and what changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

from flopdispatch import ArgumentError, Profile, count
from flopdispatch.budget import (
    Baseline,
    Budget,
    Change,
    Verdict,
    as_expected,
    changes,
    changes_text,
    totals,
    within,
)
from flopdispatch.profile import walk
from flopdispatch.rules import UNCOUNTED, name_of

EXACT = Fraction(0)


class Stack(nn.Module):
    """Linear layers without biases, and a head with one."""

    def __init__(self, width: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.head(x)
        return out


def stack(width: int = 4, depth: int = 3) -> Profile:
    return count(Stack(width, depth), (2, width))


# Of stack(): three products of (2, 4) by (4, 4), one by (4, 3), and 2·3 additions of the bias.
MACS, ADDS, PARAMS = 3 * 32 + 24, 6, 3 * 16 + 15
FLOPS = 2 * MACS + ADDS
# In floats of 4 bytes: x and weights in, x out; the bias is read too.
BYTES = 4 * (3 * (8 + 16 + 8) + (8 + 15 + 6))


def uncounted(profile: Profile) -> Profile:
    """The same, had its first operator no formula."""
    first = replace(profile.prices[0], state=UNCOUNTED)
    return replace(profile, prices=(first, *profile.prices[1:]))


def test_the_figures_are_those_of_the_profile() -> None:
    assert totals(stack()) == {"macs": MACS, "flops": FLOPS, "params": PARAMS, "bytes": BYTES}


@pytest.mark.parametrize(
    ("found", "limit", "verdict"),
    [
        (900, 1000, Verdict(True, "MACs 900, limit 1,000: 90.0% of it")),
        (1000, 1000, Verdict(True, "MACs 1,000, limit 1,000: 100.0% of it")),
        (1025, 1000, Verdict(False, "MACs 1,025, limit 1,000: 25 more (2.5%)")),
        (0, 0, Verdict(True, "MACs 0, limit 0")),
        (5, 0, Verdict(False, "MACs 5, limit 0: 5 more")),
    ],
)
def test_a_limit_is_the_most_that_a_figure_may_be(found: int, limit: int, verdict: Verdict) -> None:
    assert within(found, "macs", limit) == verdict


@pytest.mark.parametrize(
    ("found", "tolerance", "verdict"),
    [
        (1000, EXACT, Verdict(True, "FLOPs 1,000, as recorded")),
        (1001, EXACT, Verdict(False, "FLOPs 1,001, recorded 1,000: 1 more (0.1%)")),
        (990, EXACT, Verdict(False, "FLOPs 990, recorded 1,000: 10 less (1.0%)")),
        (
            1005,
            Fraction(1, 200),
            Verdict(True, "FLOPs 1,005, recorded 1,000: 5 more (0.5%), tolerance 0.5%"),
        ),
        (
            994,
            Fraction(1, 200),
            Verdict(False, "FLOPs 994, recorded 1,000: 6 less (0.6%), tolerance 0.5%"),
        ),
    ],
)
def test_an_expected_number_holds_upward_and_downward(
    found: int, tolerance: Fraction, verdict: Verdict
) -> None:
    assert as_expected(found, "flops", 1000, tolerance, "recorded") == verdict


def test_a_tolerance_is_exact_for_numbers_beyond_a_float() -> None:
    number = 10**24
    assert as_expected(number + 10**18, "macs", number, Fraction(1, 10**6), "expected").holds
    assert not as_expected(number + 10**18 + 1, "macs", number, Fraction(1, 10**6), "").holds


def test_a_budget_checks_all_that_it_is_given() -> None:
    profile = stack()
    budget = Budget({"macs": MACS - 1}, {"params": PARAMS, "flops": FLOPS}, Baseline.of(profile))
    assert [verdict.holds for verdict in budget.check(profile)] == [False, *[True] * 6]
    assert Budget().check(profile) == []


def test_operators_without_a_formula_fail_unless_allowed() -> None:
    profile = uncounted(stack())
    limits = {"macs": 10**9}
    *_, last = Budget(limits).check(profile)
    name = name_of(profile.calls[0].overload)
    assert last == (False, f"operators without a formula, missing from the figures: {name} x3")
    assert all(verdict.holds for verdict in Budget(limits, allow_uncounted=True).check(profile))


def test_a_baseline_has_the_totals_and_each_module_s_own_figures() -> None:
    found = Baseline.of(stack())
    linear = {"macs": 32, "flops": 64, "params": 16, "bytes": 128}
    assert found.total == totals(stack())
    assert found.modules == {
        "Stack.head": {"macs": 24, "flops": 54, "params": 15, "bytes": 116},
        **{f"Stack.layers.{i}": linear for i in range(3)},
    }
    assert list(found.modules) == sorted(found.modules)


def test_a_baseline_s_modules_add_up_to_its_total() -> None:
    found = Baseline.of(count(Stack(8, 2), (3, 8), backward=True))
    for name, number in found.total.items():
        assert sum(own.get(name, 0) for own in found.modules.values()) == number


def test_a_parameter_belongs_to_the_module_that_holds_it() -> None:
    profile = count(nn.Sequential(nn.Sequential(nn.Linear(2, 2))), (1, 2))
    found = Baseline.of(profile).modules
    assert [path for path, own in found.items() if "params" in own] == ["Sequential.0.0"]
    assert {node.params for node in walk(profile.root)} == {6}, "with all below"


def test_a_tied_parameter_belongs_to_the_first_module_that_holds_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    found = Baseline.of(count(model, (1, 2)))
    assert {path: own.get("params", 0) for path, own in found.modules.items()} == {
        "Sequential.0": 4,
        "Sequential.1": 0,
    }
    assert found.total["params"] == 4


def test_a_baseline_is_a_file_with_a_line_for_each_module(tmp_path: Path) -> None:
    path = tmp_path / "below" / "stack.json"
    found = Baseline.of(stack(depth=1))
    assert found.write(path)
    assert path.read_text() == (
        "{\n"
        ' "format": "flopdispatch-baseline/1",\n'
        ' "convention": "flopdispatch",\n'
        ' "total": {"macs": 56, "flops": 118, "params": 31, "bytes": 244},\n'
        ' "modules": {\n'
        '  "Stack.head": {"macs": 24, "flops": 54, "params": 15, "bytes": 116},\n'
        '  "Stack.layers.0": {"macs": 32, "flops": 64, "params": 16, "bytes": 128}\n'
        " }\n"
        "}\n"
    )
    assert Baseline.read(path) == found
    assert not found.write(path), "it is there already"


def test_a_baseline_of_nothing_is_one_too() -> None:
    found = Baseline.of(count(nn.Identity(), (1,)))
    assert found.modules == {}
    assert Baseline.from_json(found.to_json()) == found


def test_a_saved_profile_is_a_baseline(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(stack().to_json())
    assert Baseline.read(path) == Baseline.of(stack())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "it is neither a baseline nor a saved profile: Expecting value"),
        ("[]", "it is neither a baseline nor a saved profile: list indices"),
        ('{"format": "other"}', r"expected the format 'flopdispatch-baseline/1' or 'flopdisp"),
        ('{"format": "flopdispatch-baseline/1", "total": {}}', "neither .* profile: 'macs'"),
        ('{"format": "flopdispatch-profile/1"}', "the data is not whole"),
    ],
)
def test_a_file_that_is_no_baseline_is_told(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=message) as raised:
        Baseline.read(path)
    assert str(raised.value).startswith(f"can't read a baseline from {path}: ")


def test_a_baseline_that_is_not_there_or_can_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="can't read a baseline from"):
        Baseline.read(tmp_path / "none.json")
    with pytest.raises(ArgumentError, match="can't write the baseline"):
        Baseline.of(stack()).write(tmp_path)


def test_a_file_that_is_no_baseline_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(stack().to_json())
    with pytest.raises(ArgumentError) as raised:
        Baseline.of(stack()).write(path)
    assert str(raised.value) == f"{path} is no baseline and stays as it is: name another file"
    assert path.read_text() == stack().to_json()


def test_a_baseline_with_the_marks_of_a_merge_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    found = Baseline.of(stack())
    path.write_text(f"<<<<<<< ours\n{found.to_json()}=======\n>>>>>>> theirs\n")
    with pytest.raises(ArgumentError, match="neither a baseline nor a saved profile"):
        Baseline.read(path)
    assert found.write(path)
    assert Baseline.read(path) == found


def test_figures_by_another_convention_are_not_compared() -> None:
    budget = Budget(baseline=Baseline.of(stack()))
    with pytest.raises(ArgumentError) as raised:
        budget.check(stack().reprice("torch"))
    assert str(raised.value) == (
        "the baseline was counted by the convention 'flopdispatch', this by 'torch': count by the "
        "same one, or record it anew"
    )


def test_what_did_not_change_is_no_change() -> None:
    assert changes(Baseline.of(stack()), Baseline.of(stack())) == []


def test_modules_that_change_alike_are_one_change_with_the_sum() -> None:
    # Weights of 5 by 5 for 4 by 4; rows of 5 numbers for 4, two of them.
    wider = changes(Baseline.of(stack(5)), Baseline.of(stack(4)))
    layer = {"macs": 50 - 32, "flops": 100 - 64, "params": 25 - 16, "bytes": 4 * (45 - 32)}
    head = {"macs": 6, "flops": 12, "params": 3, "bytes": 4 * (2 + 3)}
    assert wider == [
        Change("Stack.layers.0-2", {name: 3 * number for name, number in layer.items()}, 3),
        Change("Stack.head", head, 1),
    ]


def test_modules_that_come_and_go_are_told() -> None:
    more, less = Baseline.of(stack(depth=5)), Baseline.of(stack(depth=4))
    linear = {"macs": 32, "flops": 64, "params": 16, "bytes": 128}
    assert changes(more, less) == [Change("Stack.layers.4 (new)", linear, 1)]
    gone = {name: -number for name, number in linear.items()}
    assert changes(less, more) == [Change("Stack.layers.4 (gone)", gone, 1)]


def test_a_table_of_changes_shows_what_differs_anywhere() -> None:
    one = Baseline("c", {}, {"": {"flops": 5}, "A": {"flops": 2_000, "params": 3}})
    other = Baseline("c", {}, {"": {"flops": 6}, "A": {"flops": 7_500}})
    assert changes_text(changes(other, one)) == (
        "Module                   FLOPs    params\n"
        "--------------------  --------  --------\n"
        "A                     +5.500 k        -3\n"
        "(outside of modules)        +1"
    )


def test_a_table_of_changes_is_cut_with_how_many_are_left() -> None:
    letters = "abcdefghijklmnop"
    many = Baseline("c", {}, {letter: {"macs": i + 1} for i, letter in enumerate(letters)})
    text = changes_text(changes(many, Baseline("c", {}, {})))
    assert text.splitlines()[2].split() == ["p", "(new)", "+16"]
    assert text.splitlines()[-1] == "and 4 more"


def test_details_are_the_changes_or_the_largest_modules() -> None:
    since = Budget(baseline=Baseline.of(stack(depth=2))).details(stack())
    assert since.startswith("What changed, by module:\n\nModule")
    assert "Stack.layers.2 (new)" in since
    largest = Budget(limits={"params": 1}).details(stack())
    assert largest == stack().table(depth=1, sort="params")
    assert Budget(baseline=Baseline.of(stack())).details(stack()) == ""


def test_real_models_keep_their_baseline() -> None:
    torchvision = pytest.importorskip("torchvision")
    profile = count(torchvision.models.resnet18(), (1, 3, 224, 224))
    found = Baseline.from_json(Baseline.of(profile).to_json())
    assert found.total["params"] == 11_689_512, "as torchvision publishes it"
    assert json.loads(found.to_json())["total"] == totals(profile)
    for name in ("macs", "flops", "params", "bytes"):
        assert sum(own.get(name, 0) for own in found.modules.values()) == found.total[name]
