"""`flopdispatch hardware`: the list of devices, and one with the sources of its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flopdispatch.cli import hardware as command
from flopdispatch.cli.main import main
from flopdispatch.hardware import Hardware, devices

MINE = "device,entry,value,source\nmine,name,My GPU,\nmine,bfloat16,2.5,sheet; measured\n"
MINE += "mine,int8,5,\nmine,bandwidth,50,sheet\n"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command writes to standard output, or to standard error if it fails."""
    assert main(["hardware", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.csv"
    file.write_text(MINE)
    return str(file)


def test_a_list_has_a_line_a_device_and_leaves_empty_what_is_not_known(
    mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line.split() for line in said(capsys, "--file", mine).splitlines()]
    assert rows[0] == [
        *["Device", "float64", "float32", "tf32", "bfloat16", "float16", "float8", "int8"],
        "Bandwidth",
    ]
    assert rows[2:] == [["mine", "2.500", "T", "5.000", "T", "50.00", "GB/s"]]


def test_all_known_devices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = [line.split()[0] for line in said(capsys).splitlines()[2:]]
    assert names == list(devices())


def test_one_device_is_shown_with_the_sources_of_each_figure(
    mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "my gpu", "--file", mine) == (
        "mine (also My GPU)\n"
        "bfloat16   2.500 TFLOP/s\n"
        "           sheet\n"
        "           measured\n"
        "int8       5.000 TOP/s\n"
        "bandwidth  50.00 GB/s\n"
        "           sheet\n"
    )


def test_json_is_in_plain_units(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = json.loads(said(capsys, "--file", mine, "--format", "json"))
    assert one["peaks"] == {"bfloat16": 2.5e12, "int8": 5e12}
    assert one["bandwidth"] == 5e10
    assert (one["name"], one["names"]) == ("mine", ["My GPU"])
    assert one["sources"]["bfloat16"] == ["sheet", "measured"]


def test_csv_is_a_file_of_ones_own(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "mine", "--file", mine, "--format", "csv").splitlines() == [
        "device,entry,value,source",
        "mine,name,My GPU,",
        "mine,bfloat16,2.5,sheet; measured",
        "mine,int8,5,",
        "mine,bandwidth,50,sheet",
    ]


def test_a_file_can_be_written(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.txt"
    assert said(capsys, "--file", mine, "--out", str(out)) == ""
    assert out.read_text().startswith("Device")


@pytest.mark.parametrize(
    ("columns", "heads"),
    [
        (120, ["float64", "float32", "tf32", "bfloat16", "float16", "float8", "int8"]),
        (80, ["float32", "bfloat16", "float8"]),
        (60, ["bfloat16"]),
        (40, []),
    ],
)
def test_a_list_has_the_columns_that_fit_the_terminal(
    columns: int,
    heads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "width", lambda: columns)
    head, *lines = said(capsys).splitlines()
    assert head.split() == ["Device", *heads, "Bandwidth"]
    assert max(map(len, lines)) <= columns


def test_the_machine_at_hand_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Hardware("cpu, 1 thread", {"bfloat16": 3e9}, 2e10, {"bfloat16": ("measured",)})
    asked = []

    def measure_peak(*arguments: object) -> Hardware:
        asked.append(list(map(str, arguments)))
        return found

    monkeypatch.setattr(command, "measure_peak", measure_peak)
    text = said(capsys, "--measure", "cpu", "--dtype", "bf16")
    assert asked == [["cpu", "torch.bfloat16"]]
    assert text == (
        "cpu, 1 thread\nbfloat16   3.000 GFLOP/s\n           measured\nbandwidth  20.00 GB/s\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RTX 4090 Laptop"], "no device 'RTX 4090 Laptop' is known; near are RTX-4090"),
        ([""], "no device '' is known"),
        (["T4", "--measure", "cpu"], "--measure takes neither NAME nor --file"),
        (["--measure", "meta"], "measure_peak runs on cpu"),
        (["--measure", "cpu", "--dtype", "long"], "measure_peak measures torch.float64"),
        (["--file", "none.csv"], "can't read devices from none.csv"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(capsys, *arguments, code=2)
    assert line.startswith(f"flopdispatch: error: {message}")
    assert line.count("\n") == 1
