"""XLA's cost analysis beside ours: each row agrees, or its reasons are worth the difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import xla
from benchmarks.xla import LEFT_OUT, PAGE, Row, page, rows, table
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
    odd = Row(Case("add", "(2,)", made, (Term("casts", lambda ours: 2),)), 5, 0, Cost(adds=2))
    monkeypatch.setattr(xla, "rows", lambda: [odd])
    monkeypatch.setattr(xla, "PAGE", tmp_path / "xla.md")
    assert xla.main([]) == 1
    assert "add (2,): XLA 5, 0; ours" in capsys.readouterr().out
    assert not (tmp_path / "xla.md").exists()
    monkeypatch.setattr(xla, "rows", lambda: [replace(odd, flops=4)])
    assert xla.main([]) == 0
    assert xla.main(["--check"]) == 0
    assert "| add | (2,) | 4 | 0 | 2 | 0 | 0 | casts +2 |" in (tmp_path / "xla.md").read_text()
    (tmp_path / "xla.md").write_text("old")
    assert xla.main(["--check"]) == 1
