"""The table of models on meta says what came of each, and one that fails ends nothing."""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from benchmarks import meta, meta_page
from benchmarks.meta import chunks, entries, received
from benchmarks.meta_page import NOTHING, line, page, summary
from benchmarks.meta_run import Outcome, Run, outcome
from tests import meta_cases

CASES = "tests.meta_cases"
EACH_EXPERT = "each expert gets the same"


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """What comes of each case, of processes of their own."""
    return meta.run([((CASES, i), entry) for i, entry in enumerate(entries(CASES))])


def test_each_entry_has_an_outcome_in_order_though_a_process_dies(outcomes: list[Outcome]) -> None:
    assert [found.name for found in outcomes] == [entry.name for entry in meta_cases.ENTRIES]
    linear, absent, deadly, refusing, no_gradient = outcomes
    assert (linear.params, linear.forward.macs) == (4 * 3 + 3, 4 * 3)
    assert absent.forward.missing == "no_such_package"
    assert deadly.forward.refused == "the process ended with code 3"
    assert refusing.forward.refused == "ValueError: more | less"
    assert refusing.backward is None
    assert no_gradient.forward.ran
    assert no_gradient.backward
    assert no_gradient.backward.refused.startswith("ArgumentError: backward=True: nothing")


def test_the_source_is_the_line_that_raised() -> None:
    refused = outcome(meta_cases.ENTRIES[3]).forward
    file, _, number = refused.source.rpartition(":")
    with open(meta_cases.__file__) as text:
        assert "raise ValueError" in text.read().splitlines()[int(number) - 1]
    assert file.endswith("tests/meta_cases.py")


def test_a_process_that_hangs_is_given_up() -> None:
    receive, _send = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process()
    assert list(received(process, receive, limit=0)) == ["not done after 0 s"]


def test_a_chunk_has_neighbours_and_each_entry_is_in_one() -> None:
    places = [((CASES, i), meta_cases.ENTRIES[0]) for i in range(2 * meta.CHUNK + 1)]
    parts = list(chunks(places))
    assert [len(part) for part in parts] == [meta.CHUNK, meta.CHUNK, 1]
    assert [place for part in parts for place in part] == places


def test_percentages_are_of_what_is_installed(outcomes: list[Outcome]) -> None:
    rows = [" ".join(row.split()) for row in summary(outcomes)[2:]]
    assert rows == [
        "small 2 1 50.0% 1 50.0% 2 1 50.0% 1 50.0%",
        "other 2 1 50.0% 1 50.0% 1 0 0.0% 0 0.0%",
        "all 4 2 50.0% 2 50.0% 3 1 33.3% 1 33.3%",
    ]


def assuming() -> list[Outcome]:
    """A model that assumes one thing, and another one that assumes that and one more."""
    one = Run(macs=2_000, assumptions=((EACH_EXPERT, 3),))
    both = Run(macs=6_000, assumptions=((EACH_EXPERT, 1), ("all boxes are kept", 12)))
    return [
        Outcome("one", "experts", 1_000, one, None, 0.5),
        Outcome("both", "experts", 1_000, both, Run(macs=2_000), 1.25),
    ]


def test_a_line_has_all_that_was_assumed() -> None:
    one, both = map(line, assuming())
    assert one.split()[:5] == ["one", "experts", "1.000", "k", "2.000"]
    assert one.endswith(f"0.5  assumed: {EACH_EXPERT} (3 times)")
    told = f"assumed: {EACH_EXPERT} (1 times); all boxes are kept (12 times) / {NOTHING}"
    assert both.endswith(f"1.2  {told}")


def test_a_reason_says_where_once() -> None:
    assert meta_page.reason(Run(refused="no data", source="model.py:3")) == "no data (model.py:3)"
    assert meta_page.reason(Run(refused="no data at m.py:3", source="m.py:3")) == (
        "no data at m.py:3"
    )
    assert meta_page.reason(Run(refused="the process ended")) == "the process ended"


def test_an_assumption_is_told_once_below_its_table() -> None:
    text = page(assuming())
    cells = [row.split("|") for row in text.splitlines() if row.startswith(("| one", "| both"))]
    assert [row[4].strip() for row in cells] == ["assumed [1] × 3", "assumed [1] × 1, [2] × 12"]
    assert [row[5].strip() for row in cells] == [meta_page.NO_BACKWARD, NOTHING]
    assert f"\n[1] {EACH_EXPERT}  \n[2] all boxes are kept\n" in text
    assert "**2** of 2 run (100.0%)" in text


def test_the_page_is_a_table_of_each_group(outcomes: list[Outcome]) -> None:
    text = page(outcomes)
    assert [row for row in text.splitlines() if row.startswith("## ")] == [
        "## Goals",
        "## small",
        "## other",
    ]
    assert "no_such_package is not installed" in text
    assert "more / less" in text  # a bar would end the cell


def test_the_page_is_not_written_of_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        meta.main(["--write", "--quick"])
    assert "--write takes the whole run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("most", "expected"),
    [(2, {"b": 1, "c": 1}), (4, {"a": 1, "b": 2, "c": 1}), (9, {"a": 1, "b": 3, "c": 2})],
)
def test_modules_give_models_in_turn_the_larger_first(most: int, expected: dict[str, int]) -> None:
    vision = pytest.importorskip("benchmarks.meta_vision")
    assert vision.shares({"a": 1, "b": 3, "c": 2}, most) == expected


def test_models_are_spread_over_the_names_of_a_module() -> None:
    vision = pytest.importorskip("benchmarks.meta_vision")
    assert vision.spread(list("abcdef"), 2) == ["a", "d"]
    assert vision.spread(list("abc"), 3) == ["a", "b", "c"]
