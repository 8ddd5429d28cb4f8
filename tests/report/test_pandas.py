"""Data frames: exact integers under the names of the records, summed as anybody sums them."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from flopdispatch import ArgumentError, Profile
from flopdispatch.report.records import FIGURES, RECORDS, records
from tests.report.samples import SAMPLES
from tests.report.test_records import each, whole


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_a_column_summed_by_pandas_is_the_total(profile: Profile, by: str) -> None:
    frame = profile.to_pandas(by)
    prefix = "own_" if by == "modules" else ""
    summed = {name: int(frame[prefix + name].sum()) for name in FIGURES}
    assert summed == whole(profile)


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_a_frame_has_the_records(profile: Profile, by: str) -> None:
    frame = profile.to_pandas(by)
    columns, rows = records(profile, by)
    if by != "calls":
        assert frame.index.name == columns[0]
        assert frame.index.is_unique
        frame = frame.reset_index()
    assert tuple(frame.columns) == columns
    assert [tuple(row) for row in frame.itertuples(index=False, name=None)] == rows


def test_a_module_is_found_by_its_path() -> None:
    frame = SAMPLES["toy"].to_pandas()
    assert frame.loc["Toy.head", "total_macs"] == 8 * 8 * 10, "8 tokens, 8 by 10"
    assert not frame.loc["Toy.unused", "ran"]
    assert frame[frame["type"] == "Linear"]["own_macs"].sum() == SAMPLES["toy"].macs


def test_integers_are_int64_where_their_sum_is_one() -> None:
    frame = SAMPLES["step"].to_pandas("operators")
    assert {str(frame[name].dtype) for name in ("calls", *FIGURES)} == {"int64"}
    modules = SAMPLES["step"].to_pandas()
    assert str(modules["ran"].dtype) == "bool"
    assert pd.api.types.is_integer_dtype(modules["params"])


def test_larger_ones_are_pythons_own() -> None:
    frame = SAMPLES["huge"].to_pandas()
    own = frame["own_bytes_read"]
    assert own.dtype == object, "each fits or doesn't; their sum doesn't"
    assert own.sum() == 4 * (2**63 - 1)
    assert frame.loc["A.b", "own_adds"] == 3 * (2**64 + 1)
    assert str(frame["own_macs"].dtype) == "int64"
    assert frame["own_macs"].sum() == 4 * (2**53 + 1)


def test_an_empty_block_has_the_columns() -> None:
    frame = SAMPLES["empty"].to_pandas("operators")
    assert len(frame) == 0
    assert list(frame.columns)[-1] == "bytes"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ArgumentError, match="by= takes one of modules, operators, "):
        SAMPLES["empty"].to_pandas("rows")


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ArgumentError) as caught:
        SAMPLES["empty"].to_pandas()
    assert str(caught.value) == (
        'to_pandas() needs pandas: pip install "flopdispatch[pandas]", or take '
        'profile.report("csv")'
    )
