"""Reports with a machine: times by hand in every format, and plots that are the same twice."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from flopdispatch import ArgumentError, Cost, Profile, spec
from flopdispatch.capture.recording import ModuleRecord
from flopdispatch.hardware import Hardware
from flopdispatch.profile import Row
from flopdispatch.report import REPORTERS
from flopdispatch.report.records import RECORDS
from flopdispatch.report.roofline import bounds, lines
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall
from tests.report.pages import net
from tests.report.samples import SAMPLES
from tests.report.test_json import errors
from tests.test_roofline import MACHINE

Golden = Callable[[str, str], None]

# One operation and two bytes a nanosecond.
FAST = Hardware("fast", {"float32": 1e9, "int8": 1e9}, bandwidth=2e9)
BOUNDED = [name for name, reporter in REPORTERS.items() if reporter.bounded is not None]

# Of net(), five rows of four, in nanoseconds: the larger of operations and half of the bytes.
TIMES = {
    "Net.body.0": 360,  # 2·5·4·8 + 40 operations; 4·(20 + 32 + 8 + 40) bytes
    "Net.body.1": 160,  # none; 4·(40 + 40) bytes
    "Net.body.2": 340,  # 2·5·8·4 + 20 operations; 4·(40 + 32 + 4 + 20) bytes
    "Net.body": 360 + 160 + 340,
    "Net.head": 90,  # 2·5·4·2 + 10 operations; 4·(20 + 8 + 2 + 10) bytes
    "Net.unused": 0,
    "Net": 860 + 90 + 120,  # and a sum of 20 elements: 20 operations; 4·(20 + 20 + 20) bytes
    "": 1070,
}

each = pytest.mark.parametrize("profile", SAMPLES.values(), ids=list(SAMPLES))


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-12)


def test_the_table_of_a_net_worked_out_by_hand(golden: Golden) -> None:
    found = net().roofline(FAST)
    golden("roofline.txt", found.table())
    assert str(found) == found.table() == net().report("table", hardware=FAST)
    assert [row[-2:] for row in lines(found) if row[2] != "not called"] == [
        ["1.070 µs", "100.0%"], ["860.0 ns", "80.4%"], ["360.0 ns", "33.6%"],
        ["160.0 ns", "15.0%"], ["340.0 ns", "31.8%"], ["90.00 ns", "8.4%"],
        ["1.070 µs", "100.0%"],
    ]  # fmt: skip
    assert [row[-3] for row in lines(found, depth=0)] == ["compute 73.8%"] * 2, "790 of 1070"


def test_markdown_has_the_cells_of_the_table() -> None:
    found = net().roofline(FAST)
    rows = found.report("markdown").split("\n\n")[0].split("\n")[2:]
    cells = [[cell.strip().strip("`*") for cell in row.split("|")[2:-1]] for row in rows]
    assert cells == [row[1:] for row in lines(found)]


@pytest.mark.parametrize("kind", ["total", "own"])
def test_records_of_modules_have_the_times_by_hand(kind: str) -> None:
    rows = {row["path"]: row for row in bounds(net().roofline(FAST)).as_dicts()}
    if kind == "total":
        assert {path: row["total_seconds"] * 1e9 for path, row in rows.items()} == {
            path: about(time) for path, time in TIMES.items()
        }
    assert sum(row["own_seconds"] for row in rows.values()) * 1e9 == about(1070)
    assert rows["Net"]["own_seconds"] * 1e9 == about(120)
    assert rows["Net.body"]["total_memory_seconds"] * 1e9 == about(160)
    assert (rows["Net.unused"]["own_bound"], rows["Net.unused"]["own_work_per_byte"]) == ("", None)


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_each_kind_of_records_adds_up_to_the_whole(profile: Profile, by: str) -> None:
    found = profile.roofline(MACHINE)
    rows = list(csv.DictReader(io.StringIO(found.report("csv", by=by))))
    column = "own_seconds" if by == "modules" else "seconds"
    assert sum(float(row[column]) for row in rows) == about(found.seconds)
    plain = csv.reader(io.StringIO(profile.report("csv", by=by)))
    width = len(next(plain))
    bounded = csv.reader(io.StringIO(found.report("csv", by=by)))
    next(bounded)
    assert [row[:width] for row in bounded] == list(plain), "beside what the CSV has anyway"


@pytest.mark.parametrize("by", list(RECORDS))
def test_a_data_frame_has_the_columns_of_the_csv(by: str) -> None:
    found = SAMPLES["training"].roofline(MACHINE)
    frame = found.to_pandas(by).reset_index(drop=by == "calls")
    head = found.report("csv", by=by).split("\n")[0]
    assert list(frame.columns) == head.split(",")
    column = "own_seconds" if by == "modules" else "seconds"
    assert frame[column].sum() == about(found.seconds)


@each
def test_json_is_as_its_schema_says_and_still_a_profile(profile: Profile) -> None:
    data = json.loads(profile.roofline(MACHINE).report("json"))
    assert errors(data) == []
    told = data["summary"].pop("roofline")
    assert data == json.loads(profile.report("json")), "beside what the JSON has anyway"
    assert told["seconds"] == profile.roofline(MACHINE).seconds
    assert [row["path"] for row in told["modules"]] == list(profile.by_scope())


def test_equal_modules_in_one_row_have_the_sum_of_their_own_times() -> None:
    """Both compute 20 operations and move 10 bytes, the second in a call for each."""
    x = spec(2, 2)
    costs = Cost(macs=10, bytes_read=10), Cost(macs=10), Cost(bytes_read=10)
    profile = Profile(
        calls=tuple(OpCall(torch.ops.aten.mm.default, (x, x), (), x) for _ in costs),
        prices=tuple(Price(cost, "matmul", "counted", torch.float32) for cost in costs),
        rows=tuple(Row(f"M.{i}", "forward", call, 1) for i, call in ((0, 0), (1, 1), (1, 2))),
        modules=tuple(ModuleRecord(path, "B", (), 1) for path in ("M", "M.0", "M.1")),
        convention="mine",
        description="",
    )
    row = lines(profile.roofline(MACHINE))[1]
    assert row[0] == "└─ 0-1 ×2"
    assert row[2:] == ["40", "20 B", "2", "compute 80.0%", "50.00 ns", "100.0%"], "20 + 20 + 10"


def test_what_ran_outside_of_modules_has_its_time() -> None:
    rows = lines(SAMPLES["step"].roofline(MACHINE))
    assert rows[-2][0] == "(outside of modules)"
    outside = SAMPLES["step"].roofline(MACHINE).by_scope(own=True)[""]
    assert 0 < outside.seconds < SAMPLES["step"].roofline(MACHINE).seconds
    assert rows[-2][3] != rows[-1][3]


@pytest.mark.parametrize("name", BOUNDED)
def test_every_format_is_the_same_by_name_and_by_roofline(name: str, tmp_path: Path) -> None:
    profile = SAMPLES["training"]
    text = profile.roofline("H100-SXM").report(name)
    assert text == profile.report(name, hardware="H100-SXM")
    assert text == profile.report(name, hardware=profile.roofline("H100-SXM").hardware)
    path = tmp_path / f"report{REPORTERS[name].suffixes[0]}"
    profile.roofline("H100-SXM").save(path)
    assert path.read_text(encoding="utf-8").rstrip("\n") == text.rstrip("\n")


def test_a_format_without_a_place_for_times_refuses_a_machine() -> None:
    for name in set(REPORTERS) - set(BOUNDED):
        with pytest.raises(ArgumentError, match="has no option 'hardware': leave it out, or take"):
            SAMPLES["toy"].report(name, hardware="H100-SXM")


# The page


def test_the_page_has_the_roof_and_the_times() -> None:
    page = net().roofline(FAST).report("html")
    assert '<a href="#roofline">Roofline</a>' in page
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    points = drawing.findall("circle")
    told = [point.findtext("title") or "" for point in points]
    assert [text.split(": ")[0] for text in told] == ["aten::addmm.default", "aten::add.Tensor"]
    assert [point.get("fill") for point in points] == ["currentColor", "none"]
    assert "roofline" not in net().report("html").lower().partition("<script")[0]


def test_the_axes_are_labelled_with_powers_of_ten() -> None:
    """An addmm has an intensity of 790 / 944; the ridge is at 50, the roof at 1 G."""
    page = net().roofline(Hardware("slow", {"float32": 1e9}, bandwidth=2e7)).report("html")
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    shown = [text.text for text in drawing.findall("text")]
    assert shown[: shown.index("operations / byte")] == [
        "0.01", "0.1", "1", "10", "100", "1 M", "10 M", "100 M", "1 G", "10 G",
    ]  # fmt: skip


@each
def test_a_page_of_any_profile_has_points_inside_the_plane(profile: Profile) -> None:
    page = profile.roofline(MACHINE).report("html")
    if "<svg" not in page:
        assert not any(bound.intensity for bound in profile.roofline(MACHINE).by_op().values())
        return
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    for point in drawing.findall("circle"):
        assert 70 <= float(point.get("cx", 0)) <= 700
        assert 20 <= float(point.get("cy", 0)) <= 330


# The plot


def test_the_same_roofline_is_drawn_the_same_twice(tmp_path: Path) -> None:
    found = net().roofline(FAST)
    for name in ("one.svg", "other.svg"):
        found.plot(tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "other.svg").read_text()
    assert "Roofline of fast" in text
    assert "aten::addmm.default: 790.0 ns" in text, "360 + 340 + 90, in its comments"
    assert "<dc:date>" not in text


@pytest.mark.parametrize("by", ["operators", "families", "phases", "dtypes", "modules"])
@pytest.mark.parametrize("name", ["step", "hostile", "empty", "outside"])
def test_any_profile_can_be_drawn(name: str, by: str, tmp_path: Path) -> None:
    SAMPLES[name].roofline(MACHINE).plot(tmp_path / "plot.svg", by=by)
    ElementTree.parse(tmp_path / "plot.svg")


def test_a_plot_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    found = net().roofline(FAST)
    with pytest.raises(ArgumentError, match=r"its ending must be one of \.svg, \.png, \.pdf"):
        found.plot(tmp_path / "plot.xyz")
    with pytest.raises(ArgumentError, match=r"by= takes one of operators, families, .*, got 'x'"):
        found.plot(tmp_path / "plot.svg", by="x")


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match=r'pip install "flopdispatch\[plot\]"'):
        net().roofline(FAST).plot(tmp_path / "plot.svg")
