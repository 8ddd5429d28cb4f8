"""speedscope's files are what its own schema says, and their weights add up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

from flopdispatch import Profile, count, on_meta, spec
from flopdispatch.report import by_suffix
from flopdispatch.report.stacks import METRICS, stacks
from tests.programs import counted
from tests.report.test_folded import Named
from tests.report.test_table import resnet50, toy

Golden = Callable[[str, str], None]
# What speedscope 1.25.0 ships as file-format-schema.json, under the MIT license:
# Copyright (c) 2018 Jamie Wong.
SCHEMA = Path(__file__).parents[1] / "reference" / "speedscope.schema.json"


def hostile() -> Profile:
    return count(Named(["a;b", "new\nline", 'x"|<b>', "=cmd", "\u202e"]), (1, 2))


def parsed(profile: Profile) -> dict[str, Any]:
    """The file, once it is found to be what the schema says."""
    data: dict[str, Any] = json.loads(profile.report("speedscope"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(data)
    return data


def test_a_small_model(golden: Golden) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    golden("small.speedscope.json", count(model, (3, 8), backward=True).report("speedscope"))


@pytest.mark.parametrize(
    "made", [toy, lambda: toy(backward=True), resnet50, hostile], ids=["a", "b", "c", "d"]
)
def test_each_metric_is_a_flame_graph_of_the_stacks(made: Callable[[], Profile]) -> None:
    profile = made()
    data = parsed(profile)
    frames = [frame["name"] for frame in data["shared"]["frames"]]
    assert len(frames) == len(set(frames)), "a frame of one name is there once"
    totals = profile.flops, profile.macs, profile.total.nbytes, profile.params
    for graph, metric, total in zip(data["profiles"], METRICS, totals, strict=True):
        assert graph["name"] == METRICS[metric]
        assert graph["unit"] == ("bytes" if metric == "bytes" else "none")
        assert (graph["startValue"], graph["endValue"]) == (0, total)
        assert sum(graph["weights"]) == total
        shown = [tuple(frames[i] for i in sample) for sample in graph["samples"]]
        assert dict(zip(shown, graph["weights"], strict=True)) == stacks(profile, metric)


def test_a_metric_of_which_there_is_none_has_no_graph() -> None:
    data = parsed(counted(lambda: torch.ones(2, 3) @ torch.ones(3, 4)))
    assert [graph["name"] for graph in data["profiles"]] == ["FLOPs", "MACs", "bytes"]


def test_an_empty_block_is_a_file_without_graphs() -> None:
    assert parsed(counted(lambda: None))["profiles"] == []


def test_numbers_beyond_64_bits_are_exact() -> None:
    wide = on_meta(lambda: nn.Linear(2**20, 2**20, bias=False))
    data = parsed(count(wide, spec(2**30, 2**20)))
    assert [graph["weights"] for graph in data["profiles"][:2]] == [[2**71], [2**70]]


def test_a_file_says_of_what_model_and_by_what_convention_it_is() -> None:
    assert parsed(toy())["name"] == "Toy, convention flopdispatch"


def test_its_ending_is_not_taken_for_json() -> None:
    assert by_suffix("a/Model.speedscope.json") == "speedscope"
    assert by_suffix("a/speedscope.json") == "json"
