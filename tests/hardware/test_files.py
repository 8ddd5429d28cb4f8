"""Files of devices of one's own: how they may be written, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from flopdispatch import ArgumentError
from flopdispatch.hardware import Hardware, devices, hardware, load
from flopdispatch.hardware.lookup import as_csv, known

HEAD = "device,entry,value,source\n"


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        f"{HEAD}mine,float32,2.5,sheet; page 3\nmine,int8,10,\nmine,bandwidth,50,memory\n"
    )
    assert load(file) == {
        "mine": Hardware(
            "mine",
            peaks={"float32": 2.5e12, "int8": 1e13},
            bandwidth=5e10,
            sources={"float32": ("sheet", "page 3"), "int8": (), "bandwidth": ("memory",)},
        )
    }


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text(as_csv(devices().values(), known().names))
    again = load(file)
    assert list(again) == list(devices())
    for name, device in devices().items():
        assert again[name] == device
    for name in known().names:
        assert hardware(f"{file}:{name}") == hardware(name)


def test_a_file_stands_for_its_device_or_for_one_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(f"{HEAD}mine,bandwidth,50,\n")
    assert hardware(str(file)).bandwidth == hardware(f"{file}:Mine").bandwidth == 5e10
    with pytest.raises(ArgumentError, match="no device 'T4' is known"):
        hardware(f"{file}:T4")
    file.write_text(f"{HEAD}mine,bandwidth,50,\nmy other,bandwidth,60,\n")
    assert hardware(f"{file}:my other").bandwidth == 6e10
    for name in (str(file), f"{file}#mine"):
        with pytest.raises(ArgumentError) as raised:
            hardware(name)
        assert str(raised.value) == f"{name} has mine, my other: name one, FILE.csv:NAME"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\ufeff" + HEAD + "mine,float32,2,sheet\nmine,bandwidth,50,\n", "a spreadsheet's mark"),
        (HEAD.replace("\n", "\r\n") + "mine,float32,2,sheet\r\nmine,bandwidth,50,\r\n", "CRLF"),
        (HEAD + "\nmine,float32,2,sheet\n,,,\n\nmine,bandwidth,50,\n\n", "blank lines"),
        (HEAD + "mine,float32,2,sheet\nmine,bandwidth,50", "no source, no end of line"),
        (HEAD + "mine, float32, 2 , sheet\n mine,bandwidth,50,\n", "spaces"),
        (HEAD + '"mine","float32","2.0","sheet"\n"mine","bandwidth","5e1",""\n', "quotes"),
        (HEAD + "mine,float32,2e0,sheet\nmine,bandwidth,0.5e2,\n", "powers of ten"),
    ],
)
def test_a_file_may_be_written_in_many_ways(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(text.encode())
    sources = {"float32": ("sheet",), "bandwidth": ()}
    assert load(file) == {"mine": Hardware("mine", {"float32": 2e12}, 5e10, sources)}, why


def test_a_file_may_lie_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "all.csv.d"
    folder.mkdir()
    file = folder / "MINE.CSV"
    file.write_text(f"{HEAD}mine,bandwidth,50,\n")
    assert hardware(str(file)).name == hardware(f"{file}:mine").name == "mine"


@pytest.mark.parametrize("name", ["GPU", "NVIDIA", "显卡", "Ускоритель 2"])
def test_a_device_of_ones_own_may_have_any_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(f"{HEAD}{name},bandwidth,50,\nother,bandwidth,60,\n", encoding="utf-8")
    assert hardware(f"{file}:{name}").bandwidth == 5e10
    with pytest.raises(ArgumentError, match="no device '' is known"):
        hardware(f"{file}:")


@pytest.mark.parametrize("rate", [1 / 3, 0.1 + 0.2, 1e-9, 123456789012345.6, 7, 1e25])
def test_a_rate_is_written_to_the_last_digit(rate: float, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    mine = Hardware("mine", {"float32": rate}, rate, {"float32": (), "bandwidth": ()})
    file.write_text(as_csv([mine], {}))
    assert load(file) == {"mine": mine}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "a,bandwidth,1,\nA,bandwidth,2,\n",
            "mine.csv: 'A' is a name of two devices, a and A",
        ),
        (
            HEAD + "a,bandwidth,1,\na,name,X-1,\nb,bandwidth,2,\nb,name,x 1,\n",
            "mine.csv: 'x 1' is a name of two devices, a and b",
        ),
        (HEAD + "a,name,,\na,bandwidth,1,\n", "line 2: 'name' is another name of a, got ''"),
        (HEAD + ",bandwidth,1,\n", "line 2: expected a device's name in the first cell, got none"),
        (
            HEAD + "a,bandwidth,1,sheet, page 3\n",
            "line 2: expected 4 cells, got 5; quote one that has a comma",
        ),
        (HEAD + "# rates of a\n", "line 2: '' is none of float64, "),
        (HEAD + "a,bandwidth,50 GB/s,\n", "line 2: 'bandwidth' is a number, got '50 GB/s'"),
        (HEAD + "a,bandwidth,nan,\n", "bandwidth of 'a': expected a positive number of bytes/s"),
        (HEAD + 'a,bandwidth,1,"no end\n', "can't read devices from"),
        (HEAD.replace(",", ";"), "got 'device;entry;value;source'"),
        ("name,peak\n", "expected the columns device,entry,value,source, got 'name,peak'"),
        ("", "expected the columns device,entry,value,source, got ''"),
        (HEAD + "a,fp32,1,\n", "line 2: 'fp32' is none of float64, float32, "),
        (HEAD + "a,int8,1,\na,int8,2,\n", "line 3: a second 'int8' of a"),
        (HEAD + "a,int8,many,\n", "line 2: 'int8' is a number, got 'many'"),
        (HEAD + "a,int8\n", "line 2: 'int8' is a number, got ''"),
        (HEAD + "a,int8,1,\n", "a has no entry 'bandwidth'"),
        (HEAD + "a,bandwidth,-1,\n", "bandwidth of 'a': expected a positive number of bytes/s"),
    ],
)
def test_a_wrong_file_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(ArgumentError) as raised:
        load(file)
    assert message in str(raised.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="can't read devices from"):
        load(tmp_path / "none.csv")
