"""Difference: what is new, gone, changed or the same between two profiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import Profile, count, on_meta, spec
from flopdispatch.capture.recording import ModuleRecord
from flopdispatch.difference import FIGURES, MAIN, Change, Difference, minus, plus
from tests.programs import counted
from tests.report.test_table import resnet50, toy


class Block(nn.Module):
    """Two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(torch.relu(self.up(x)))
        return out


class Net(nn.Module):
    """Blocks and a head, which may have the class that is asked for."""

    def __init__(self, blocks: int = 3, width: int = 8, head: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = head()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(x)
        return out


class Renamed(Net):
    """The same under another name."""


def net(model: Callable[..., nn.Module] = Net, batch: int = 2, **options: object) -> Profile:
    return count(model(**options), (batch, 4))


def by_name(changes: tuple[Change, ...]) -> dict[str, Change]:
    found = {change.name: change for change in changes}
    assert len(found) == len(changes), "a name is there once"
    return found


def states(changes: tuple[Change, ...]) -> dict[str, str]:
    """The state of each that isn't the same."""
    return {change.name: change.state for change in changes if change.state != "same"}


def test_a_profile_is_the_same_as_itself() -> None:
    for profile in (net(), toy(backward=True), counted(lambda: None)):
        assert Difference(profile, Profile.from_json(profile.to_json())).same


def test_a_wider_layer_is_a_change_of_it_and_of_what_it_is_in() -> None:
    found = Difference(net(blocks=1, width=8), net(blocks=1, width=10))
    assert states(found.modules) == dict.fromkeys(
        ["", "Net", "Net.layers", "Net.layers.0", "Net.layers.0.up", "Net.layers.0.down"], "changed"
    )
    modules = by_name(found.modules)
    assert {name for name, change in modules.items() if change.itself} == {
        "Net.layers.0", "Net.layers.0.up", "Net.layers.0.down"
    }  # fmt: skip
    before, after = modules["Net.layers.0.up"].own
    change = minus(after, before)
    # Two rows by four columns for each of two outputs more, each with its bias.
    assert (change["macs"], change["adds"], change["params"]) == (2 * 4 * 2, 2 * 2, (4 + 1) * 2)
    assert (change["calls"], change["flops"]) == (0, 2 * 16 + 4)
    assert change["bytes_written"] == 4 * 2 * 2
    # The block's own is the addition, which did not change, and relu, which compares.
    before, after = modules["Net.layers.0"].own
    assert (after["flops"] - before["flops"], after["comparisons"] - before["comparisons"]) == (
        0,
        4,
    )
    before, after = modules["Net.layers.0"].total
    assert after["macs"] - before["macs"] == 2 * 4 * 2 + 2 * 2 * 4


def test_a_layer_that_is_left_out_is_gone_with_all_below() -> None:
    found = Difference(net(blocks=3), net(blocks=2))
    gone = {name for name, state in states(found.modules).items() if state == "gone"}
    assert gone == {"Net.layers.2", "Net.layers.2.up", "Net.layers.2.down"}
    back = Difference(found.after, found.before)
    new = {name for name, state in states(back.modules).items() if state == "new"}
    assert new == gone
    assert [own["calls"] for own in by_name(found.operators)["aten::addmm.default"].own] == [6, 4]


def test_a_module_of_another_class_is_a_change() -> None:
    found = Difference(net(head=nn.ReLU), net(head=nn.Hardtanh))
    head = by_name(found.modules)["Net.head"]
    assert head.before is not None
    assert head.after is not None
    assert (head.before.kind, head.after.kind) == ("ReLU", "Hardtanh")
    assert head.itself
    operators = states(found.operators)
    assert operators["aten::relu.default"] == "changed", "the blocks have theirs"
    assert operators["aten::hardtanh.default"] == "new"


def test_a_model_of_another_name_is_compared_module_by_module() -> None:
    found = Difference(net(Net), net(Renamed))
    assert states(found.modules) == {"Renamed": "changed"}, "its type"
    assert len(found.modules) == 1 + 1 + 1 + 3 * 3 + 1  # the block, the net, its parts
    assert states(found.operators) == {}


def test_models_of_other_names_are_not_guessed_at() -> None:
    one, two = net(Net), nn.Linear(4, 4)

    def both() -> None:
        two(torch.relu(nn.Tanh()(torch.ones(2, 4))))

    found = Difference(one, counted(both))
    assert states(found.modules)["Net"] == "gone"
    assert {states(found.modules)[name] for name in ("Linear", "Tanh")} == {"new"}


def test_tied_parameters_are_told_by_the_first_that_holds_them() -> None:
    profile = net(blocks=1)
    head = ModuleRecord("Net.head", "ReLU", ((7, 100),), 1)
    modules = [m for m in profile.modules if m.scope != "Net.head"]
    tied = [replace(m, params=((7, 100),)) if m.scope == "Net.layers.0" else m for m in modules]
    one = replace(profile, modules=(*modules, head))
    other = replace(profile, modules=(*tied, head))
    found = by_name(Difference(one, other).modules)
    held = {name: tuple(own["params"] for own in change.own) for name, change in found.items()}
    assert {name: pair for name, pair in held.items() if pair[0] != pair[1]} == {
        "Net.layers.0": (0, 100), "Net.head": (100, 0)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda: net(blocks=3), lambda: net(blocks=1, width=6)),
        (toy, lambda: toy(backward=True)),
        (lambda: toy(backward=True), lambda: net(head=nn.Tanh)),
        (lambda: counted(lambda: None), lambda: counted(torch.ones(2, 2).matmul, torch.ones(2, 2))),
        (resnet50, lambda: resnet50().reprice("fvcore")),
    ],
)  # fmt: skip
def test_changes_of_each_kind_add_up_to_the_change_in_total(
    before: Callable[[], Profile], after: Callable[[], Profile]
) -> None:
    found = Difference(before(), after())
    first, last = found.total
    assert first["flops"] == found.before.flops
    assert last["params"] == found.after.params
    whole = minus(last, first)
    for changes in (found.modules, found.operators, found.phases, found.dtypes):
        added = dict.fromkeys(FIGURES, 0)
        for change in changes:
            one, other = change.own
            added = plus(added, minus(other, one))
        skipped = {"calls"} if changes is found.modules else {"params"}
        for name in FIGURES:
            if name not in skipped:
                assert added[name] == whole[name], name
    _, block = by_name(found.modules)[""].total
    assert {**block, "calls": 0} == {**last, "calls": 0}


def test_another_number_type_is_a_change_of_dtypes() -> None:
    model = nn.Linear(4, 4)
    full = count(model, (2, 4))
    half = count(model.half(), spec(2, 4, dtype=torch.float16))
    brain = count(model.to(torch.bfloat16), spec(2, 4, dtype=torch.bfloat16))
    assert states(Difference(full, half).dtypes) == {"float32": "gone", "float16": "new"}
    found = Difference(half, brain)
    assert states(found.modules) == {}, "nothing but the name of the dtype differs"
    assert not found.same


def test_a_phase_that_is_new_is_told() -> None:
    found = Difference(toy(), toy(backward=True))
    assert states(found.phases)["backward"] == "new"
    assert "forward" not in states(found.phases)


def test_another_convention_is_a_change_of_what_it_counts_otherwise() -> None:
    profile = net()
    found = Difference(profile, profile.reprice("torch"))
    assert states(found.operators) == {
        f"aten::{name}": "changed" for name in ("add.Tensor", "relu.default", "addmm.default")
    }  # fmt: skip


def test_differences_of_numbers_beyond_64_bits_are_exact() -> None:
    def wide(rows: int) -> Profile:
        return count(on_meta(lambda: nn.Linear(2**20, 2**20, bias=False)), spec(rows, 2**20))

    first, last = Difference(wide(2**30), wide(2**30 + 1)).total
    assert last["macs"] - first["macs"] == 2**40
    assert last["macs"] == 2**70 + 2**40


def test_the_main_figures_come_first() -> None:
    assert FIGURES[: len(MAIN)] == MAIN
    assert len(set(FIGURES)) == len(FIGURES)
