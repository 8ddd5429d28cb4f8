"""GMACs that timm publishes, counted by fvcore: one model of each of its modules."""

from __future__ import annotations

import pytest

from benchmarks import published
from benchmarks.published import STEP, Row, agrees, macs, main, one_a_module

ROWS = {f"{row.entry.name} {row.entry.shapes[0][-1]}": row for row in one_a_module()}


@pytest.mark.parametrize("name", ROWS)
def test_gmacs_are_those_published(name: str) -> None:
    row = ROWS[name]
    assert macs(row.entry) / 1e9 == pytest.approx(row.gmacs, abs=STEP + 1e-9)


def test_all_modules_are_among_them() -> None:
    files = {row.module.split(".")[0] for row in published.published()}
    assert sorted(row.module.split(".")[0] for row in ROWS.values()) == sorted(files)
    assert len(files) == 30


def test_what_would_be_published_as_another_number_differs() -> None:
    row = next(iter(ROWS.values()))
    near, far = (round((row.gmacs + off) * 1e9) for off in (0.0049, 0.0051))
    assert agrees(row, near)
    assert not agrees(row, far)


def test_a_row_says_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(iter(ROWS.values()))
    text, agree = published.line(Row(row.entry, row.module, row.gmacs + 1))
    assert not agree
    assert text.endswith("DIFFERS")
    assert published.line(row)[0].endswith("agrees")
    monkeypatch.setattr(published, "build", lambda entry: 1 / 0)
    assert published.line(row)[0].endswith("FAILED: ZeroDivisionError: division by zero")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(ROWS.values())).entry.name
    assert main([name]) == 0
    text = capsys.readouterr().out
    assert "agree to 0.005 GMACs, 0 don't" in text
    assert name in text
    assert main(["nothing"]) == 1
