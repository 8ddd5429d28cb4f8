"""Profile: sums of a priced recording, and its ways out and back."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from flopdispatch import (
    ArgumentError,
    Assumption,
    Cost,
    Profile,
    ScopeNode,
    TensorSpec,
    default_registry,
)
from flopdispatch.capture.recording import ModuleRecord
from flopdispatch.profile import FORMAT, Row, walk
from flopdispatch.registry import Registry
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, spec
from tests.programs import Attention, ConvNet, Parents, counted

aten = torch.ops.aten
MM, ADD, SIN = aten.mm.default, aten.add.Tensor, aten.sin.default
f32, f16 = torch.float32, torch.float16
x = spec(2, 2)


def by_hand() -> Profile:
    """Two models, three operators, two phases: every sum can be done in the head."""
    calls = (
        OpCall(MM, (x, x), (), x),
        OpCall(ADD, (x, x), (), x),
        OpCall(SIN, (x,), (), x),
        OpCall(MM, (spec(2, 4), spec(4, 2)), (), x),
    )
    prices = (
        Price(Cost(macs=8, bytes_read=32, bytes_written=16), "matmul", "counted", f32),
        Price(Cost(adds=4, bytes_read=32, bytes_written=16), "pointwise", "counted", f16, "about"),
        Price(Cost(bytes_read=16, bytes_written=16), "uncounted", "uncounted", f32),
        Price(Cost(macs=16), "matmul", "counted", f32),
    )
    rows = (
        Row("A.x", "forward", 0, 2),
        Row("A.x", "backward", 0, 1),
        Row("A", "forward", 1, 3),
        Row("A.y.z", "forward", 2, 5),
        Row("B", "forward", 3, 1),
        Row("", "forward", 1, 1),
    )
    modules = (
        ModuleRecord("", "", (), 0),
        ModuleRecord("A", "Model", ((0, 10),), 1),
        ModuleRecord("A.x", "Linear", ((1, 100),), 2),
        ModuleRecord("A.y", "ModuleList", (), 0),
        ModuleRecord("A.y.z", "Linear", ((1, 100), (2, 1000)), 5),
        ModuleRecord("A.idle", "Linear", ((3, 7),), 0),
        ModuleRecord("B", "Other", ((0, 10), (4, 1)), 1),
    )
    return Profile(calls, prices, rows, modules, "mine", "as I like it", (Assumption("a guess"),))


def test_the_total_is_price_times_calls() -> None:
    profile = by_hand()
    assert profile.total == Cost(
        macs=8 * 3 + 16,
        adds=4 * 4,
        bytes_read=3 * 32 + 4 * 32 + 5 * 16,
        bytes_written=3 * 16 + 4 * 16 + 5 * 16,
    )
    assert (profile.macs, profile.flops) == (40, 96)


def test_costs_are_summed_by_operator_family_phase_and_dtype() -> None:
    profile = by_hand()
    assert [(op, c.flops) for op, c in profile.by_op().items()] == [(MM, 80), (ADD, 16), (SIN, 0)]
    families = {name: cost.flops for name, cost in profile.by_family().items()}
    assert families == {"matmul": 80, "pointwise": 16, "uncounted": 0}
    assert list(families) == ["matmul", "pointwise", "uncounted"], "the most FLOPs first"
    assert {p: c.flops for p, c in profile.by_phase().items()} == {"forward": 80, "backward": 16}
    assert {d: c.flops for d, c in profile.by_dtype().items()} == {f32: 80, f16: 16}
    assert profile.comparable_flops == 80


def test_costs_are_summed_by_scope_with_and_without_children() -> None:
    profile = by_hand()
    own = {scope: cost.flops for scope, cost in profile.by_scope(own=True).items()}
    assert own == {"": 4, "A": 12, "A.x": 48, "A.y": 0, "A.y.z": 0, "A.idle": 0, "B": 32}
    total = {scope: cost.flops for scope, cost in profile.by_scope().items()}
    assert total == {"": 96, "A": 60, "A.x": 48, "A.y": 0, "A.y.z": 0, "A.idle": 0, "B": 32}


def test_parameters_are_distinct_ones_at_every_level() -> None:
    profile = by_hand()
    assert profile.params == 10 + 100 + 1000 + 7 + 1
    params = {node.path: node.params for node in walk(profile.root)}
    assert params == {
        "": 1118, "A": 1117, "A.x": 100, "A.y": 1100, "A.y.z": 1100, "A.idle": 7, "B": 11,
    }  # fmt: skip


def test_the_tree_has_names_types_calls_and_what_ran() -> None:
    root = by_hand().root
    a, b = root.children
    assert [(n.name, n.path, n.module_type, n.calls) for n in (root, a, b)] == [
        ("", "", "", 0),
        ("A", "A", "Model", 1),
        ("B", "B", "Other", 1),
    ]
    assert [child.name for child in a.children] == ["x", "y", "idle"]
    assert [child.ran for child in a.children] == [True, True, False]
    assert a.children[1].children[0].own == Cost(bytes_read=80, bytes_written=80)


def test_every_node_is_its_own_cost_and_its_childrens() -> None:
    for node in walk(by_hand().root):
        expected = node.own
        for child in node.children:
            expected = expected + child.total
        assert node.total == expected
    assert by_hand().root.total == by_hand().total


def test_a_scope_that_no_module_describes_is_still_in_the_tree() -> None:
    profile = dataclasses.replace(by_hand(), modules=())
    assert profile.by_scope()["A"].flops == 60
    assert profile.root.total == profile.total
    assert profile.params == 0


def test_what_is_missing_or_estimated_is_listed_by_operator() -> None:
    profile = by_hand()
    assert profile.uncounted == {SIN: 5}
    assert profile.estimates == {ADD: 4}


def test_an_empty_profile_is_all_zero() -> None:
    profile = counted(lambda: None)
    assert profile.total == Cost()
    for view in (profile.by_op(), profile.by_family(), profile.by_phase(), profile.by_dtype()):
        assert view == {}
    assert profile.by_scope() == {"": Cost()}
    assert profile.root.children == ()
    assert not profile.root.ran


def test_a_profile_is_frozen() -> None:
    profile = by_hand()
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.convention = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.root.calls = 3  # type: ignore[misc]
    assert isinstance(profile.root, ScopeNode)


# Repricing


def test_the_same_recording_has_another_price_by_other_rules() -> None:
    profile, priced = by_hand(), []
    rules = Registry("mms", "a product is one MAC")

    @rules.formula(MM)
    def mm(self: TensorSpec) -> Cost:
        priced.append(self.shape)
        return Cost(macs=1)

    other = profile.reprice(rules)
    assert priced == [(2, 2), (2, 4)], "once for each distinct call"
    assert other.macs == 3 + 1
    assert other.uncounted == {SIN: 5, ADD: 4}
    assert (other.convention, other.description) == ("mms", "a product is one MAC")
    assert other.rows == profile.rows
    assert other.assumptions == (Assumption("a guess"),)
    assert profile.macs == 40


def test_repricing_by_name_is_the_default_again() -> None:
    profile = counted(ConvNet().eval(), torch.ones(1, 3, 8, 8))
    rules = default_registry().overlay("none")
    rules.zero(aten.convolution.default)
    assert profile.reprice(rules).macs == 8  # the head's 4·2
    assert profile.reprice(rules).reprice("flopdispatch") == profile


def test_repricing_by_an_unknown_name_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^convention= takes a Registry or one of .*'thop2'$"):
        by_hand().reprice("thop2")


# Ways out and back


def training_profile() -> Profile:
    def run() -> None:
        model = nn.Sequential(ConvNet(), nn.Linear(2, 8), Parents(), Attention())
        adam = torch.optim.Adam(model.parameters())
        model(torch.ones(2, 3, 8, 8, dtype=f32)).sum().backward()
        adam.step()
        torch.full((2,), float("nan"))
        torch.full((2,), float("inf"), dtype=torch.complex64)
        torch.rand(2, generator=torch.Generator())
        torch.cond(torch.tensor(True), lambda a: a + 1, lambda a: a - 1, (torch.ones(2),))

    return counted(run)


WAYS: dict[str, Callable[[Profile], Profile]] = {
    "dict": lambda p: Profile.from_dict(p.to_dict()),
    "json": lambda p: Profile.from_json(p.to_json()),
    "indented json": lambda p: Profile.from_json(p.to_json(indent=2)),
    "strict json": lambda p: Profile.from_dict(
        json.loads(json.dumps(p.to_dict(), allow_nan=False))
    ),
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.filterwarnings("ignore::flopdispatch.UncountedOperatorWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [by_hand, training_profile])
def test_a_profile_comes_back_equal(way: str, make: Any) -> None:
    profile = make()
    back = WAYS[way](profile)
    assert back is not profile
    assert back == profile
    assert back.total == profile.total
    assert str(back) == str(profile)
    assert back.by_scope() == profile.by_scope()
    assert back.uncounted == profile.uncounted
    assert back.assumptions == profile.assumptions


@pytest.mark.filterwarnings("ignore::flopdispatch.UncountedOperatorWarning")
def test_a_profile_that_came_back_can_be_priced_again() -> None:
    profile = training_profile()
    assert Profile.from_json(profile.to_json()).reprice("flopdispatch") == profile


def test_a_profile_holds_no_tensor_and_no_module() -> None:
    def look(value: Any) -> None:
        assert not isinstance(value, torch.Tensor | nn.Module)
        if isinstance(value, tuple):
            for item in value:
                look(item)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                look(getattr(value, field.name))

    look(counted(ConvNet(), torch.ones(2, 3, 8, 8)))


def refused(data: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        Profile.from_dict(data)
    return str(caught.value)


def test_what_is_no_profile_is_refused() -> None:
    expected = f"expected a dict with format {FORMAT!r}, got "
    assert refused({"format": "other/2"}) == expected + "'other/2'"
    assert refused({}) == expected + "None"
    assert refused([1, 2]) == expected + "'list'"
    with pytest.raises(ArgumentError, match=r"^expected the text that to_json wrote: Expecting"):
        Profile.from_json("not json")


def test_a_profile_that_is_not_whole_is_refused() -> None:
    data = by_hand().to_dict()
    del data["rows"]
    assert refused(data) == "the data is not whole, or of a torch that knows more: KeyError('rows')"
    data = by_hand().to_dict()
    data["prices"][0]["dtype"] = "float3"
    assert refused(data).startswith("the data is not whole, or of a torch that knows more: ")


def test_an_operator_that_is_not_registered_here_is_refused() -> None:
    data = by_hand().to_dict()
    data["calls"][0]["operator"] = "elsewhere::mm.default"
    assert refused(data) == (
        "the operator elsewhere::mm.default is not known here; "
        "import the library that registers it first"
    )
