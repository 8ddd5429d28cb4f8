"""Markdown: GitHub's tables, whose cells stay cells whatever the names are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from flopdispatch import ArgumentError, Profile
from flopdispatch.report.markdown import code
from flopdispatch.report.table import HEADERS
from tests.report.samples import HOSTILE, SAMPLES
from tests.report.test_records import each

Golden = Callable[[str, str], None]
CELLS = re.compile(r"(?<!\\)\|")


def parsed(profile: Profile, **options: Any) -> list[dict[str, str]]:
    """The table's rows, split where GitHub splits them: at each pipe with no backslash before."""
    table = profile.report("markdown", **options).split("\n\n")[0].split("\n")
    lines = [[cell.strip(" ") for cell in CELLS.split(line)[1:-1]] for line in table]
    assert lines[0] == list(HEADERS)
    assert all(re.fullmatch(":?-+:?", cell) for cell in lines[1])
    return [dict(zip(HEADERS, line, strict=True)) for line in lines[2:]]


def name_in(cell: str) -> str:
    """What a code span shows: its text between equal runs of backticks, less one space."""
    span = re.search(r"(`+)(.*)\1$", cell.replace("\\|", "|"))
    assert span is not None
    text = span[2]
    padded = text.startswith(" ") and text.endswith(" ") and text.strip()
    return text[1:-1] if padded else text


def test_the_toy_models_training(golden: Golden) -> None:
    golden("toy_training.md", SAMPLES["training"].report("markdown"))


def test_the_toy_model_sorted_and_cut(golden: Golden) -> None:
    golden("toy_sorted.md", SAMPLES["toy"].report("markdown", depth=1, sort="params"))


def number(text: str) -> float:
    digits, _, unit = text.removesuffix("B").strip().partition(" ")
    return float(digits) * {"": 1, "k": 10**3, "M": 10**6}[unit.strip()]


@pytest.mark.parametrize("name", ["toy", "training", "step", "hostile", "outside", "empty"])
def test_a_column_of_top_rows_adds_up_to_the_total(name: str) -> None:
    *rows, total = parsed(SAMPLES[name], depth=0)
    assert total["Module"] == "**Total**"
    for column in ("MACs", "FLOPs", "Bytes"):
        summed = sum(number(row[column]) for row in rows)
        assert summed == pytest.approx(number(total[column]), rel=1e-3)
    assert number(total["FLOPs"]) == pytest.approx(SAMPLES[name].flops, rel=5e-4)


@each
def test_it_shows_what_the_table_shows(profile: Profile) -> None:
    rows = [line.split() for line in profile.table().split("\n\n")[0].split("\n")]
    numbers = [line[-1] for line in rows if not line[0].startswith("--")]
    assert [row["Bytes"].split()[-1] for row in parsed(profile) if row["Bytes"]] == [
        last for last in numbers[1:] if last != "called"
    ]


def test_any_name_stays_in_its_cell() -> None:
    rows = parsed(SAMPLES["hostile"])[1:-1]
    shown = [name_in(row["Module"]) for row in rows]
    assert shown == [
        "".join(c if c.isprintable() else repr(c)[1:-1] for c in name) for name in HOSTILE
    ]
    assert {row["Type"] for row in rows} == {"`Linear`"}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("fc", "`fc`"),
        ("", ""),
        ("a|b", r"`a\|b`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("``x", "``` ``x ```"),
        (" x ", "`  x  `"),
        ("a\nb", r"`a\nb`"),
    ],
)
def test_code_is_fenced_by_more_backticks_than_it_has(text: str, written: str) -> None:
    assert code(text) == written


def test_the_footer_is_a_list_of_escaped_text() -> None:
    text = SAMPLES["uncounted"].report("markdown").split("\n\n")[1]
    assert "- Uncounted: samples::twice.default x1" in text.split("\n")
    assert all(line.lstrip().startswith("- ") for line in text.split("\n"))


def test_a_bad_depth_is_refused() -> None:
    with pytest.raises(ArgumentError, match="depth= takes an integer >= 0 or None, got -1"):
        SAMPLES["toy"].report("markdown", depth=-1)
