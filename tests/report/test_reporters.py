"""The table of reporters: formats by name and by ending, options, files for any profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from flopdispatch import ArgumentError, Profile, count
from flopdispatch.report import REPORTERS, by_suffix, render
from tests.report.samples import SAMPLES


def refused(function: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        function(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", list(REPORTERS))
def test_a_files_ending_names_its_format(name: str, tmp_path: Path) -> None:
    for suffix in REPORTERS[name].suffixes:
        path = tmp_path / f"Net.v2{suffix.upper()}"
        assert by_suffix(path) == name
        SAMPLES["toy"].save(path)
        text = path.read_text(encoding="utf-8")
        assert text == SAMPLES["toy"].report(name).rstrip("\n") + "\n"


@pytest.mark.parametrize("sample", [name for name in SAMPLES if name != "uncounted"])
@pytest.mark.parametrize("name", list(REPORTERS))
def test_a_profile_read_back_is_written_alike(sample: str, name: str) -> None:
    profile = SAMPLES[sample]
    back = Profile.from_json(profile.to_json())
    assert back.report(name) == profile.report(name)


@pytest.mark.parametrize("name", list(REPORTERS))
def test_a_name_that_utf8_has_no_bytes_for_fits_in_a_file(name: str, tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("half\ud800", nn.Linear(2, 2))
    count(model, (1, 2)).save(tmp_path / "file", name)
    assert b"half\\ud800" in (tmp_path / "file").read_bytes().replace(b"\\\\", b"\\")


def test_a_name_given_is_before_a_files_ending(tmp_path: Path) -> None:
    SAMPLES["toy"].save(tmp_path / "toy.txt", "csv", by="families")
    assert (tmp_path / "toy.txt").read_text().startswith("family,calls,macs,")


def test_an_option_that_is_none_is_not_given() -> None:
    assert render(SAMPLES["toy"], "csv", depth=None, by=None) == SAMPLES["toy"].report("csv")


def test_an_unknown_format_or_ending_is_refused_with_those_known() -> None:
    assert refused(SAMPLES["toy"].report, "xml") == (
        "expected a format of table, markdown, html, json, csv, folded, speedscope, got 'xml'"
    )
    assert refused(SAMPLES["toy"].save, "toy.xml") == (
        "the file toy.xml has none of the known endings .txt, .md, .html, .htm, .json, .csv, "
        ".folded, .speedscope.json: name its format"
    )


def test_an_option_of_another_format_is_refused_with_the_formats_that_have_it() -> None:
    assert refused(SAMPLES["toy"].report, "json", depth=1) == (
        "the format json has no option 'depth': leave it out, or take one of the formats that "
        "have it: table, markdown"
    )
    assert refused(SAMPLES["toy"].report, "table", colour="red") == (
        "the format table has no option 'colour': leave it out, or take one of the formats that "
        "have it: none has"
    )
