"""`flopdispatch price`: a saved recording under other rules, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from flopdispatch import Profile, count, on_meta, spec
from flopdispatch.cli.main import main
from flopdispatch.conventions import CONVENTIONS
from flopdispatch.report import REPORTERS

MACS = 2 * 4 * 6 * 6 * (3 * 3 * 3)  # two images, 4 channels of 6 by 6, a 3 by 3 by 3 kernel


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile, saved in the working folder by both of the ways there are."""
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    made = count(model, (2, 3, 8, 8))
    made.save("profile.json")
    Path("bare.json").write_text(made.to_json())
    return made


def priced(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command writes to standard output."""
    assert main(["price", *arguments]) == 0
    return capsys.readouterr().out


def totals(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The totals of the JSON that the command writes."""
    data = json.loads(priced(capsys, *arguments, "--format", "json"))
    found: dict[str, Any] = data["summary"]["totals"]
    return found | {"convention": data["convention"]}


def test_fvcore_counts_a_normalization_in_its_macs(
    profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = totals(capsys, "profile.json")
    assert (mine["macs"], mine["convention"]) == (MACS, "flopdispatch")
    other = totals(capsys, "profile.json", "--convention", "fvcore")
    elements = 2 * 4 * 6 * 6
    assert other["macs"] == MACS + 2 * elements, "two for each element that is normalized"


@pytest.mark.parametrize("file", ["profile.json", "bare.json"])
@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_the_figures_are_those_of_reprice(
    profile: Profile, capsys: pytest.CaptureFixture[str], file: str, convention: str
) -> None:
    expected = profile.reprice(convention)
    found = totals(capsys, file, "--convention", convention)
    assert found["convention"] == expected.convention
    assert (found["macs"], found["flops"]) == (expected.macs, expected.flops)
    assert (found["params"], found["bytes"]) == (expected.params, expected.total.nbytes)


@pytest.mark.usefixtures("profile")
def test_without_a_convention_it_is_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    profile = Profile.from_json(Path("profile.json").read_text())
    profile.reprice("thop").save("thop.json")
    assert totals(capsys, "thop.json") == totals(capsys, "profile.json")


@pytest.mark.parametrize("name", list(REPORTERS))
def test_every_format_is_the_reporters_own(
    profile: Profile, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text = profile.report(name).rstrip("\n")
    assert priced(capsys, "profile.json", "--format", name) == f"{text}\n"


@pytest.mark.usefixtures("profile")
@pytest.mark.parametrize(("name", "reporter"), REPORTERS.items())
def test_the_ending_of_the_file_names_the_format(
    capsys: pytest.CaptureFixture[str], name: str, reporter: Any
) -> None:
    for suffix in reporter.suffixes:
        assert priced(capsys, "profile.json", "--out", f"out{suffix}") == ""
        expected = priced(capsys, "profile.json", "--format", name)
        assert Path(f"out{suffix}").read_text().rstrip("\n") == expected.rstrip("\n")


@pytest.mark.usefixtures("profile")
def test_what_a_line_of_csv_is_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    text = priced(capsys, "profile.json", "--format", "csv", "--by", "families")
    rows = {row["family"]: int(row["macs"]) for row in csv.DictReader(io.StringIO(text))}
    assert rows["convolution"] == MACS
    assert sum(rows.values()) == MACS


@pytest.mark.usefixtures("profile")
def test_what_a_flame_graph_shows_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    text = priced(capsys, "profile.json", "--format", "folded", "--metric", "params")
    assert sum(int(line.rpartition(" ")[2]) for line in text.splitlines()) == 3 * 4 * 9 + 8


@pytest.mark.usefixtures("profile")
def test_an_option_of_another_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["price", "profile.json", "--by", "phases", "--format", "folded"]) == 2
    assert (
        "has no option 'by': leave it out, or take one of the formats that have it: table, "
        "markdown, csv"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't read a profile from saved.json"),
        ("not json", "saved.json is no saved profile: expected the text that to_json wrote"),
        ("{}", "expected a dict with format 'flopdispatch-profile/1', got None"),
        ('{"format": "flopdispatch-profile/2"}', "flopdispatch-profile/1', got 'flopdispatch-pro"),
        ('{"format": "flopdispatch-profile/1"}', "saved.json is no saved profile: the data is not"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("saved.json").write_text(text)
    assert main(["price", "saved.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_numbers_beyond_64_bits_are_priced_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = on_meta(lambda: nn.Linear(2**20, 2**20, bias=False))
    count(wide, spec(2**30, 2**20)).save(tmp_path / "wide.json")
    assert totals(capsys, str(tmp_path / "wide.json"))["macs"] == 2**70


@pytest.mark.usefixtures("profile")
def test_an_operator_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("profile.json").read_text().replace("aten::relu.default", "mylib::relu.default")
    Path("profile.json").write_text(text)
    assert main(["price", "profile.json"]) == 2
    assert "the operator mylib::relu.default is not known here; import the library" in (
        capsys.readouterr().err
    )
