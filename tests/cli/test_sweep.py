"""`flopdispatch sweep`: every size's figures are those of a count there."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flopdispatch.cli.main import main
from tests.cli.counted import counted

NET = """
from torch import nn

class Net(nn.Module):
    built = 0
    def __init__(self):
        super().__init__()
        Net.built += 1
        assert Net.built == 1, "built again"
        self.layer = nn.Linear(8, 4, bias=False)
    def forward(self, x):
        if len(x) == 5:
            raise ValueError("not\\nfive")
        return self.layer(x)
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model that may be built once and takes any number of samples but five."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return ["sweep", "net.py:Net", "--input", "1x8"]


# 32 MACs a sample; it reads 8 numbers a sample and 32 weights, and writes 4, of 4 bytes each.
def figures(batch: int) -> dict[str, Any]:
    """What the model does with so many samples."""
    macs, moved = 32 * batch, 4 * (8 * batch + 32 + 4 * batch)
    return {
        "batch": batch, "inputs": f"{batch}x8:float32",
        "params": 32, "macs": macs, "flops": 2 * macs, "bytes": moved,
        "flops_per_byte": 2 * macs / moved,
    }  # fmt: skip


def test_each_size_has_the_figures_of_the_hand_count(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--batch", "1,8,64", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "format": "flopdispatch-sweep/1",
        "target": "net.py:Net",
        "convention": "flopdispatch",
        "rows": [figures(1), figures(8), figures(64)],
    }
    assert err == ""


def test_the_table_is_readable(
    net: list[str], capsys: pytest.CaptureFixture[str], golden: Callable[[str, str], None]
) -> None:
    assert main([*net, "--batch", "1,64,1000000"]) == 0
    golden("sweep.txt", capsys.readouterr().out.rstrip("\n"))


def test_a_size_that_fails_says_why_and_the_others_are_counted(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--batch", "1,5,8", "--format", "csv"]) == 3
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["macs"] for row in rows] == ["32", "", "256"]
    assert [row["error"] for row in rows] == ["", "ValueError: not five", ""]
    assert err.startswith("flopdispatch: error: the model raised ValueError: not five")
    assert err.count("\n") == 1


def test_a_failed_size_stands_below_the_table(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--batch", "5,8", "--format", "markdown"]) == 3
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["|", "Batch", "|", "Params", "|", "MACs", "|", "FLOPs", "|",
                              "Bytes", "|", "FLOPs/byte", "|"]  # fmt: skip
    assert out[2].split()[:4] == ["|", "5", "|", "failed"]
    assert out[-1] == "Failed at batch 5: ValueError: not five"


def test_all_combinations_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 10}
    (tmp_path / "config.json").write_text(json.dumps(values))
    target = f"hf:{tmp_path}"
    out = tmp_path / "sizes.json"
    assert main(["sweep", target, "--batch", "1,3", "--seq", "2,16", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["batch"], row["seq"]) for row in rows] == [(1, 2), (1, 16), (3, 2), (3, 16)]
    for row in rows:
        alone = counted(target, "--batch", str(row["batch"]), "--seq", str(row["seq"]))
        assert (row["macs"], row["bytes"]) == (alone.macs, alone.total.nbytes)
        t = row["seq"]  # projections and feed-forward 12 * 8 * 8, attention, head
        assert row["macs"] == row["batch"] * t * (12 * 8 * 8 + 2 * t * 8 + 8 * 10)


def test_image_sizes_are_swept(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["sweep", "torchvision:alexnet", "--size", "64,128x96", "--format", "csv"]
    assert main(line) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["size"] for row in rows] == ["64", "128x96"]
    assert int(rows[1]["macs"]) == counted("torchvision:alexnet", "--size", "128x96").macs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "sweep takes the sizes to count at: --batch 1,8,64, --seq 128,1024 or --size 224"),
        (["--batch", "1,b"], "--batch takes whole numbers such as 1,8,64, got '1,b'"),
        (["--batch", "1,"], "--batch takes whole numbers such as 1,8,64, got '1,'"),
        (["--size", "3"], "--size changes nothing of this model's inputs, 1x8:float32: leave"),
        (["--batch", "1", "--out", "sizes.png"], "the file sizes.png has no known ending: give"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    net: list[str], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main([*net, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"flopdispatch: error: {said}")
    assert err.count("\n") == 1


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("there", [True, False])
def test_progress_is_shown_on_a_terminal_where_tqdm_is(
    net: list[str], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    if not there:
        monkeypatch.setattr("flopdispatch.cli.sweep.find_spec", lambda name: None)
    assert main([*net, "--batch", "1,8", "--out", "-"]) == 0
    assert ("0/2" in screen.getvalue()) == there
