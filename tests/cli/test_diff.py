"""`flopdispatch diff`: targets and saved profiles, formats, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flopdispatch import Profile
from flopdispatch.cli.main import main
from flopdispatch.difference import Difference
from flopdispatch.report.difference import as_json, markdown, text
from tests.cli.counted import counted

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, hidden=8):
        super().__init__(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))

class Deep(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Linear(2, 2))
"""
INPUT = ("--input", "3x4")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with models and two saved profiles of one, narrow and wide."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    for name, hidden in (("narrow", 8), ("wide", 10)):
        saved("net.py:Net", "--kwargs", json.dumps({"hidden": hidden})).save(f"{name}.json")


def saved(*arguments: str) -> Profile:
    return counted(*arguments, *INPUT)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command writes to standard output, or to standard error if it is wrong use."""
    assert main(["diff", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code == 2 else out


def read(name: str) -> Profile:
    return Profile.from_json(Path(f"{name}.json").read_text())


def test_saved_profiles_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    names = "narrow.json", "wide.json"
    out = said(capsys, *names)
    assert out == text(Difference(read("narrow"), read("wide")), names) + "\n"
    # Three rows: 4 more MACs for each of two more features, then 2 more for each.
    lines = [line.split() for line in out.splitlines()]
    assert ["MACs", "144", "180", "+36", "+25.0%"] in lines
    assert [line[3] for line in lines if line[:2] == ["0", "Linear"]] == ["+24"]
    assert [line[3] for line in lines if line[:2] == ["2", "Linear"]] == ["+12"]


def test_either_may_be_a_target_counted_by_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "narrow.json", "net.py:Deep", *INPUT)
    assert out == text(
        Difference(read("narrow"), saved("net.py:Deep")), ("narrow.json", "net.py:Deep")
    ) + "\n"  # fmt: skip
    assert (
        said(capsys, "net.py:Net", "narrow.json", *INPUT, "--exit-code").count("No difference") == 1
    )
    step = said(capsys, "net.py:Net", "net.py:Deep", *INPUT, "--train", "--optimizer", "adamw")
    row = next(line.split() for line in step.splitlines() if line.startswith("3 "))
    assert (row[1], row[-1]) == ("Linear", "new")


def test_published_models_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "torchvision:resnet18", "torchvision:resnet34"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("layer")}
    # 18 layers have two blocks a stage, 34 have three, four, six and three.
    assert {name: row[1] for name, row in rows.items() if "×" in row[1]} == {
        "layer2.2-3": "×2", "layer3.2-5": "×4"
    }  # fmt: skip
    assert {row[-1] for row in rows.values()} == {"new"}
    assert set(rows) == {"layer1.2", "layer2.2-3", "layer3.2-5", "layer4.2"}
    assert [line.split()[:3] for line in err.splitlines()] == [
        ["flopdispatch:", "note:", "inputs"]
    ] * 2


def test_the_exit_code_tells_whether_anything_differs_if_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said(capsys, "narrow.json", "wide.json", code=0)
    said(capsys, "narrow.json", "wide.json", "--exit-code", code=1)
    said(capsys, "narrow.json", "narrow.json", "--exit-code", code=0)


def test_both_are_priced_by_the_convention_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    read("narrow").reprice("torch").save("torch.json")
    out = said(capsys, "narrow.json", "torch.json", "--exit-code", code=1)
    assert "\nConventions differ: flopdispatch (" in out
    out = said(capsys, "narrow.json", "torch.json", "--exit-code", "--convention", "torch")
    assert "\nNo difference: 4 modules" in out
    assert "\nConvention: torch" in out


@pytest.mark.parametrize("by_ending", [True, False])
@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_it_is_written_in_the_format_asked_for(
    form: str, by_ending: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "narrow.json", "wide.json"
    found = Difference(read("narrow"), read("wide"))
    write, ending = {
        "table": (text, ".txt"), "json": (as_json, ".json"), "markdown": (markdown, ".md")
    }[form]  # fmt: skip
    if by_ending:
        assert said(capsys, *names, "--out", f"changes{ending}") == ""
        shown = Path(f"changes{ending}").read_text()
    else:
        shown = said(capsys, *names, "--format", form)
    assert shown == write(found, names) + "\n"


def test_tables_are_sorted_and_cut_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "narrow.json", "wide.json", "--sort", "params", "--top", "1")
    found = Difference(read("narrow"), read("wide"))
    assert out == text(found, ("narrow.json", "wide.json"), "params", 1) + "\n"
    assert "\n2 more " in out
    assert "Params %" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["narrow.json", "gone.json"], "can't read a profile from gone.json"),
        (["narrow.json", "net.py:Net"], "what Net is called with isn't known"),
        (["narrow.json", "wide.json", "--out", "a.xyz"], "the file a.xyz has no known ending"),
        (["narrow.json", "wide.json", "--top", "0"], "top= takes an integer >= 1, got 0"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(capsys, *arguments, code=2)
    assert line.startswith(f"flopdispatch: error: {message}")
    assert line.count("\n") == 1
