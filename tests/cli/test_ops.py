"""`flopdispatch ops`: the list of operators, whole or by pattern, state and family."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch

from flopdispatch.cli.main import main
from flopdispatch.cli.ops import totals, written

HEADS = ["operator", "state", "family", "stands_for", "estimate", "layouts"]
MM_OUT = "aten::mm.out", "counted", "matmul", "aten::mm.default", "", ["dense", "sparse", "nested"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command writes to standard output, or to standard error if it fails."""
    assert main(["ops", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_a_list_is_a_table_that_ends_with_how_many_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said(capsys, "aten::bmm.*") == (
        "Operator             State    Family    Counted as\n"
        "-------------------  -------  --------  -----------------\n"
        "aten::bmm.default    counted  matmul\n"
        "aten::bmm.dtype      counted  matmul\n"
        "aten::bmm.dtype_out  counted  matmul    aten::bmm.dtype\n"
        "aten::bmm.out        counted  matmul    aten::bmm.default\n"
        "\n"
        "4 operators: 4 counted\n"
    )


def test_every_form_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(said(capsys, "aten::mm.out", "--format", "json"))
    assert found == dict(zip(HEADS, MM_OUT))
    head, row = csv.reader(io.StringIO(said(capsys, "aten::mm.out", "--format", "csv")))
    assert head == HEADS
    assert row == [*MM_OUT[:-1], "dense sparse nested"]
    markdown = said(capsys, "aten::mm.out", "--format", "markdown")
    assert "| aten::mm.out | counted | matmul   | aten::mm.default |\n" in markdown


def test_all_operators_are_listed_and_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    every = said(capsys)
    names = {line.split()[0] for line in every.splitlines()[2:-2]}
    written_in_full = {name for name in torch._C._dispatch_get_all_op_names() if "." in name}
    assert written_in_full <= names
    last = every.splitlines()[-1].replace(",", "")
    whole, *parts = map(int, re.findall(r"(\d+) (?:operators|counted|zero|decomposed|unc)", last))
    assert whole == sum(parts) == len(every.splitlines()[2:-2])
    assert whole > 3_000


@pytest.mark.parametrize("state", ["counted", "zero", "decomposed", "uncounted"])
def test_a_state_is_listed_alone(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "--state", state, "--format", "json"))
    assert {row["state"] for row in found} == {state}


def test_a_family_is_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "mm.out", "--family", "matmul", "--format", "json"))
    assert "aten::mm.out" in {row["operator"] for row in found}
    assert {row["family"] for row in found} == {"matmul"}


def test_a_convention_has_its_own_states(capsys: pytest.CaptureFixture[str]) -> None:
    assert "aten::exp.default  counted" in said(capsys, "aten::exp.default")
    assert "aten::exp.default  zero" in said(capsys, "aten::exp.default", "--convention", "torch")


def test_an_estimate_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "aten::topk.default")
    assert "aten::topk.default  counted ~" in text
    assert text.endswith("\n1 operator: 1 counted; ~ 1 by an estimate\n")


def test_a_file_s_ending_names_its_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mm.json"
    assert said(capsys, "aten::mm.out", "--out", str(out)) == ""
    assert json.loads(out.read_text())[0]["operator"] == "aten::mm.out"


def test_a_table_that_is_too_wide_leaves_out_what_operators_are_counted_as() -> None:
    rows = [dict(zip(HEADS, MM_OUT))]
    assert "Counted as" in written(rows, "table", 50)
    narrow = written(rows, "table", 40)
    assert "Counted as" not in narrow
    assert max(map(len, narrow.splitlines())) <= 40


def test_no_operators_are_a_count_too() -> None:
    assert totals([]) == "0 operators"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "no operator fits 'nonsense'"),
        (["--family", "foo"], "--family takes one of attention, comm"),
        (["--import", "no_such_library"], "there is no module no_such_library here: run in its"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(capsys, *arguments, code=2)
    assert line.startswith(f"flopdispatch: error: {message}")
    assert line.count("\n") == 1
