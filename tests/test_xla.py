"""XLA's cost analysis beside ours: each row agrees, or its reasons are worth the difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import xla
from benchmarks.xla import LEFT_OUT, PAGE, Row, page, rows, table
from benchmarks.xla_bytes import PROGRAMS, lengths, nbytes, program
from benchmarks.xla_cases import Case, cases, made
from benchmarks.xla_reasons import COMPARISONS, REASONS, Term, plus, valid_taps
from flopdispatch import Cost
from flopdispatch.errors import UncountedOperatorError

NAMES = [f"{case.op} {case.shape}" for case in cases()]


@pytest.fixture(scope="module")
def counted() -> list[Row]:
    return list(rows())


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_ours_and_the_reasons_are_xlas(counted: list[Row], place: int) -> None:
    row = counted[place]
    assert row.ours.flops + sum(row.added) == row.flops, row.explanation
    assert row.ours.transcendentals == row.transcendentals
    assert row.holds


def test_no_reason_is_idle_and_all_comparisons_are_accounted_for(counted: list[Row]) -> None:
    for row in counted:
        assert all(row.added), row.explanation
        assert bool(row.ours.comparisons) == (COMPARISONS in row.case.terms), row.case.op
        assert bool(row.ours.int_ops) == ("integers" in row.explanation), row.case.op
    used = {term.reason for row in counted for term in row.case.terms}
    assert used == set(REASONS)


def test_each_row_of_the_table_has_one_case_or_a_reason_to_be_left_out(counted: list[Row]) -> None:
    have = [(row.case.op, row.case.shape) for row in counted]
    assert len(have) == len(set(have))
    without = tuple(op for ops in LEFT_OUT for op in ops)
    for op, shape in table():
        assert ((op, shape) in have) != op.startswith(without), (op, shape)
    assert len({op for op, _ in have}) >= 40


def test_a_figure_that_is_off_by_one_does_not_hold(counted: list[Row]) -> None:
    for row in counted:
        assert not replace(row, flops=row.flops + 1).holds
        assert not replace(row, transcendentals=row.transcendentals + 1).holds


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_the_programs_move_ours_and_xlas_bytes(counted: list[Row], place: int) -> None:
    row = counted[place]
    known = program(row.case.op, row.case.shape)
    if known is None:
        return
    assert nbytes(known.ours, row.case.op, row.case.shape) == row.ours.nbytes
    assert nbytes(known.xla, row.case.op, row.case.shape) == row.nbytes
    assert row.bytes_hold
    assert row.bytes_agree or not replace(row, nbytes=row.nbytes + 1).bytes_hold


def test_forty_operators_and_more_are_compared_by_their_bytes(counted: list[Row]) -> None:
    compared = [row for row in counted if row.bytes_compared]
    assert len({row.case.op for row in compared}) >= 40
    assert sum(row.bytes_agree for row in compared) >= 40
    rows = {name for row in counted for name in (row.case.op, f"{row.case.op} {row.case.shape}")}
    assert set(PROGRAMS) <= rows


def test_letters_stand_for_numbers_of_elements() -> None:
    assert lengths("sum", "(8, 128, 256)") == {"1": 1, "N": 262144, "R": 1024, "L": 256}
    # 14 places: windows of 2 by 2 have 7 of each, of 3 by 2 within it 6, beyond its end 7.
    assert lengths("maxpool k2s2 valid", "(2, 16, 14, 14)")["O"] == 2 * 16 * 7 * 7
    assert lengths("avgpool k3s2 valid", "(2, 16, 14, 14)")["O"] == 2 * 16 * 6 * 6
    assert lengths("maxpool k3s2 SAME", "(2, 16, 14, 14)")["O"] == 2 * 16 * 7 * 7
    assert lengths("linear+bias", "4x3->5") == {"X": 12, "W": 15, "B": 5, "Y": 20}
    assert nbytes("compare N N N'; log-plus-one R R\"", "x", "(2, 3)") == 24 + 24 + 6 + 8 + 16


def test_the_page_is_current(counted: list[Row]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(counted)


def test_valid_taps_are_those_on_the_input() -> None:
    # 4 places, 3 taps: the first and the last output have 2, the two between 3.
    assert valid_taps(size=4, kernel=3, stride=1, padding=1) == 2 + 3 + 3 + 2
    assert valid_taps(size=4, kernel=3, stride=1, padding=0) == 2 * 3
    # Outputs begin at places -1, 1, 3: the last has one of its taps on place 3.
    assert valid_taps(size=4, kernel=2, stride=2, padding=1) == 1 + 2 + 1


def test_a_reason_is_one_of_the_table() -> None:
    with pytest.raises(KeyError, match="weather"):
        plus("weather", 1)


def test_an_operator_without_a_formula_is_no_row() -> None:
    namespace = torch.library.Library("xla_test", "FRAGMENT")
    namespace.define("unknown(Tensor x) -> Tensor")
    namespace.impl("unknown", torch.clone, "Meta")
    with pytest.raises(UncountedOperatorError):
        xla.counted(Case("unknown", "(2,)", lambda: torch.ops.xla_test.unknown(made(2))))


def test_an_unexplained_row_is_told_and_the_page_left(
    monkeypatch: Any, tmp_path: Any, capsys: Any
) -> None:
    odd = Row(Case("add", "(2,)", made, (Term("casts", lambda ours: 2),)), 5, 0, 0, Cost(adds=2))
    monkeypatch.setattr(xla, "rows", lambda: [odd])
    monkeypatch.setattr(xla, "PAGE", tmp_path / "xla.md")
    assert xla.main([]) == 1
    assert "add (2,): XLA 5, 0, 0 bytes; ours" in capsys.readouterr().out
    assert not (tmp_path / "xla.md").exists()
    monkeypatch.setattr(xla, "rows", lambda: [replace(odd, flops=4)])
    assert xla.main([]) == 0
    assert xla.main(["--check"]) == 0
    assert "| add | (2,) | 4 | 0 | 2 | 0 | 0 | casts +2 |" in (tmp_path / "xla.md").read_text()
    (tmp_path / "xla.md").write_text("old")
    assert xla.main(["--check"]) == 1
