"""`--hardware`: the times are those of `profile.roofline`, for count, price and sweep."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from flopdispatch import Profile
from flopdispatch.cli.main import main
from tests.cli.counted import counted


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A model in net.py, and its profile in net.json."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\nnet = nn.Linear(8, 4, bias=False)\n")
    made = counted("net.py:net", "--input", "2x8")
    made.save("net.json")
    return made


OPTIONS: dict[str, dict[str, Any]] = {
    "": {}, "--tf32": {"tf32": True}, "--rate=bfloat16": {"dtype": "bfloat16"},
}  # fmt: skip


@pytest.mark.parametrize("option", list(OPTIONS))
@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv", "html"])
def test_count_and_price_write_what_the_roofline_reports(
    net: Profile, capsys: pytest.CaptureFixture[str], form: str, option: str
) -> None:
    expected = net.roofline("H100-SXM", **OPTIONS[option]).report(form).rstrip("\n") + "\n"
    more = ["--hardware", "H100-SXM", "--format", form, "--out", "-", *filter(None, [option])]
    assert main(["count", "net.py:net", "--input", "2x8", *more]) == 0
    assert capsys.readouterr().out == expected
    assert main(["price", "net.json", *more]) == 0
    assert capsys.readouterr().out == expected


def test_lines_by_operator_in_the_order_of_their_times(
    net: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--by", "operators", "--sort", "time", "--hardware", "L4", "--out", "table.txt"]
    assert main(["price", "net.json", *more]) == 0
    expected = net.roofline("L4").table(by="operators", sort="time")
    assert Path("table.txt").read_text() == expected + "\n"
    assert capsys.readouterr().out == ""


def test_the_plot_is_drawn_beside(net: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["price", "net.json", "--hardware", "L4", "--plot", "cli.svg"]) == 0
    assert "Machine: L4: float32" in capsys.readouterr().out
    net.roofline("L4").plot("api.svg")
    assert Path("cli.svg").read_text() == Path("api.svg").read_text()


@pytest.mark.usefixtures("net")
def test_sweep_has_the_time_of_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "net.py:net", "--input", "2x8", "--batch", "1,512", "--hardware", "L4"]
    expected = [counted("net.py:net", "--input", f"{n}x8").roofline("L4") for n in (1, 512)]
    assert main([*command, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["hardware"], data["rates"]) == ("L4", expected[0].rates)
    rows = data["rows"]
    assert [row["seconds"] for row in rows] == [found.seconds for found in expected]
    assert [row["bound"] for row in rows] == ["memory", "memory"]
    assert main([*command, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(line["seconds"]) for line in lines] == [found.seconds for found in expected]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert text.split("\n")[0].split()[-3:] == ["Time", "Bound", "by"]
    assert "Machine: L4: float32" in text
    assert main([*command, "--rate", "float16", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["rates"]) == ["float16", "memory"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hardware", "nonesuch"], "no device 'nonesuch' is known"),
        (["--sort", "time"], "--sort time goes with --hardware NAME, which is missing"),
        (["--tf32"], "--tf32 goes with --hardware NAME, which is missing"),
        (["--rate", "tf32"], "--rate goes with --hardware NAME, which is missing"),
        (["--plot", "x.svg"], "--plot goes with --hardware NAME, which is missing"),
        (["--hardware", "L4", "--plot", "no/x.svg"], "can't write no/x.svg: there is no folder no"),
        (["--hardware", "L4", "--format", "folded"], "the format folded has no option 'hardware'"),
    ],
)
@pytest.mark.usefixtures("net")
def test_what_cannot_be_is_said_before_anything_is_counted(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["count", "missing.py:net", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
