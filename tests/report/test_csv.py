"""CSV: what the csv module reads back is exact, whatever the names are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flopdispatch import Profile, count
from flopdispatch.report.csv import FORMULA
from flopdispatch.report.records import FIGURES, RECORDS, records
from tests.report.samples import HOSTILE, SAMPLES
from tests.report.test_records import each, whole
from tests.versions import needs_torch

Golden = Callable[[str, str], None]


def read(profile: Profile, **options: Any) -> list[dict[str, str]]:
    """The lines as a reader of CSV sees them."""
    return list(csv.DictReader(io.StringIO(profile.report("csv", **options), newline="")))


def test_the_toy_models_training(golden: Golden) -> None:
    golden("toy_training.csv", SAMPLES["training"].report("csv"))


@needs_torch(2, 15, "other views, and gradients are detached once more")
def test_the_toy_models_operators(golden: Golden) -> None:
    golden("toy_operators.csv", SAMPLES["training"].report("csv", by="operators"))


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_a_column_read_back_adds_up_to_the_total(profile: Profile, by: str) -> None:
    rows = read(profile, by=by)
    prefix = "own_" if by == "modules" else ""
    summed = {name: sum(int(row[prefix + name]) for row in rows) for name in FIGURES}
    assert summed == whole(profile)


@each
def test_a_modules_line_is_its_record(profile: Profile) -> None:
    for row, record in zip(read(profile), records(profile).as_dicts(), strict=True):
        assert row["path"] == record["path"], "the name of a class is before any name"
        assert row["ran"] == str(record["ran"]).lower()
        assert (json.loads(row["aliases"] or "[]")) == list(record["aliases"])
        for name in ("depth", "calls", "params", "own_params"):
            assert int(row[name]) == record[name]


def test_no_cell_of_text_is_a_formula() -> None:
    rows = read(SAMPLES["hostile"])
    names = [row["name"] for row in rows[2:]]
    assert names == [f"'{n}" if n.startswith(("=", "+", "-", "@", "\t")) else n for n in HOSTILE]
    for row in rows:
        for name, cell in row.items():
            assert name == "depth" or not cell.startswith(FORMULA)


@given(st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_read_back(name: str) -> None:
    model = nn.Sequential()
    try:
        model.add_module(name, nn.ReLU())
    except KeyError:  # what Sequential has already
        return
    assert read(count(model, (1,)))[-1]["path"] == f"Sequential.{name}"


def test_shapes_and_aliases_are_json() -> None:
    layer = nn.Linear(2, 2)
    profile = count(nn.Sequential(layer, layer), (1, 2))
    assert json.loads(read(profile)[-1]["aliases"]) == ["Sequential.1"]
    shapes = {row["operator"]: row["shapes"] for row in read(profile, by="calls")}
    assert json.loads(shapes["aten::addmm.default"]) == [[2], [1, 2], [2, 2]]


def test_lines_end_with_a_newline_alone() -> None:
    text = SAMPLES["toy"].report("csv")
    assert "\r" not in text
    assert len(text.split("\n")) == 1 + len(records(SAMPLES["toy"]).rows)


def test_an_empty_block_has_its_columns() -> None:
    assert SAMPLES["empty"].report("csv", by="phases").startswith("phase,calls,macs,")
