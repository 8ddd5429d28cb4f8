"""`flopdispatch check`: limits and baselines, reasons and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from flopdispatch import count
from flopdispatch.cli.main import main

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, hidden=8):
        super().__init__(nn.Linear(4, hidden), nn.Linear(hidden, 2))
"""
MACS, PARAMS = 3 * (4 * 8 + 8 * 2), 4 * 8 + 8 + 8 * 2 + 2
FLOPS = 2 * MACS + 3 * (8 + 2)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model of 144 MACs and 58 parameters, in a file of the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return ["check", "net.py:Net", "--input", "3x4"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """What the command writes to standard output, or to standard error if it is wrong use."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return err if code == 2 else out


def test_limits_that_hold_are_a_line_each(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(capsys, *net, "--max-macs", "144", "--max-params", "0.1k", code=0)
    assert out == "ok: MACs 144, limit 144: 100.0% of it\nok: params 58, limit 100: 58.0% of it\n"


def test_a_limit_that_does_not_hold_is_told_with_the_largest_modules(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(capsys, *net, "--max-macs", "100", "--max-params", "100", code=1)
    first, second, _, *table = out.splitlines()
    assert first == "FAILED: MACs 144, limit 100: 44 more (44.0%)"
    assert second == "ok: params 58, limit 100: 58.0% of it"
    assert [row.split()[:2] for row in table[2:5]] == [["Net", "Net"], ["├─", "0"], ["└─", "1"]]


def test_a_baseline_is_written_then_held(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [*net, "--baseline", "net.json"]
    assert said(capsys, *recorded, "--update", code=0) == "net.json is written\n"
    assert json.loads(Path("net.json").read_text())["total"] == {
        "macs": MACS, "flops": FLOPS, "params": PARAMS, "bytes": 4 * (58 + 3 * (4 + 8 + 8 + 2)),
    }  # fmt: skip
    assert said(capsys, *recorded, "--update", code=0) == "net.json is as it was\n"
    lines = said(capsys, *recorded, code=0).splitlines()
    assert lines[:3] == ["ok: MACs 144, as recorded", f"ok: FLOPs {FLOPS}, as recorded",
                         "ok: params 58, as recorded"]  # fmt: skip


@pytest.mark.parametrize("hidden", [7, 9])
def test_a_figure_that_differs_from_the_baseline_fails_either_way(
    hidden: int, net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [*net, "--baseline", "net.json"]
    said(capsys, *recorded, "--update", code=0)
    recorded += ["--kwargs", json.dumps({"hidden": hidden})]
    out = said(capsys, *recorded, code=1)
    word = "more" if hidden > 8 else "less"
    assert f"FAILED: MACs {18 * hidden}, recorded 144: 18 {word} (12.5%)\n" in out
    first, second = (line.split() for line in out.splitlines() if line.startswith("Net."))
    sign = "+" if hidden > 8 else "-"
    # Three rows of 4 more products each, then of 2; a column of 4 weights with its bias, then of 2.
    assert [first[0], first[1], first[3]] == ["Net.0", f"{sign}12", f"{sign}5"]
    assert [second[0], second[1], second[3]] == ["Net.1", f"{sign}6", f"{sign}2"]
    assert out.endswith("\n\nIf that is meant, --update writes net.json anew.\n")
    assert "FAILED" not in said(capsys, *recorded, "--tolerance", "13%", code=0)


def test_limits_are_held_while_a_baseline_is_written(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    update = ["--baseline", "net.json", "--update"]
    out = said(capsys, *net, "--max-macs", "100", *update, code=1)
    assert out.endswith("\nnet.json is written\n")


def test_saved_profiles_are_checked_and_are_baselines(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    Path("profile.json").write_text(count(model, (3, 4)).to_json())
    out = said(capsys, "check", "profile.json", "--max-macs", "1k", code=0)
    assert out == "ok: MACs 144, limit 1,000: 14.4% of it\n"
    assert "FAILED" not in said(capsys, *net, "--baseline", "profile.json", code=0)


def test_an_operator_without_a_formula_fails_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = count(nn.Linear(4, 8), (3, 4)).to_dict()
    data["prices"][0]["state"] = "uncounted"
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(data))
    command = ["check", str(path), "--max-params", "50"]
    out = said(capsys, *command, code=1)
    assert "\nFAILED: operators without a formula, missing from the figures: aten::" in out
    assert said(capsys, *command, "--allow-uncounted", code=0).startswith("ok: params 40, limit 50")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to check: give a limit, such as --max-macs 5G, or --baseline FILE"),
        (["--baseline", "b.json"], "there is no baseline b.json yet: --update writes it"),
        (["--max-macs", "1", "--update"], "--update writes a baseline: say where by --baseline"),
        (["--max-macs", "1 GFLOP"], "--max-macs takes a whole number >= 0 such as 4089184256,"),
        (["--max-bytes", "1k", "--tolerance", "5"], "--tolerance takes a share from 0 to 1, or"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(capsys, *net, *arguments, code=2)
    assert line.startswith(f"flopdispatch: error: {message}")
    assert line.count("\n") == 1
