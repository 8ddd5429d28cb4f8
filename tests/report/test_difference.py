"""The difference as text, Markdown and JSON: golden files, columns that add up, hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn

from flopdispatch import ArgumentError, count
from flopdispatch.difference import FIGURES, Difference
from flopdispatch.report.changes import spanned
from flopdispatch.report.difference import as_json, markdown, text
from tests.programs import counted
from tests.report.test_folded import Named
from tests.report.test_table import resnet50, toy
from tests.test_difference import net
from tests.versions import needs_torch

Golden = Callable[[str, str], None]
NAMES = ("before.json", "net.py:Net")


def changed() -> Difference:
    """A block more, wider ones, another activation at the end."""
    return Difference(net(blocks=2, width=8), net(blocks=3, width=10, head=nn.Tanh))


def trained() -> Difference:
    return Difference(toy(), toy(backward=True))


def tables(shown: str) -> dict[str, list[dict[str, str]]]:
    """The rows of each table by the title of its first column, read at the rule's columns."""
    found = {}
    for block in shown.split("\n\n"):
        header, *rest = block.split("\n")
        if rest and rest[0].startswith("---"):
            spans = [match.span() for match in re.finditer("-+", rest[0])]
            titles, *rows = (
                [line[start:end].strip() for start, end in spans] for line in (header, *rest[1:])
            )
            found[titles[0]] = [dict(zip(titles, row, strict=True)) for row in rows]
    return found


def test_the_text(golden: Golden) -> None:
    golden("difference.txt", text(changed(), NAMES))


@needs_torch(2, 15, "gradients are detached once more")
def test_the_text_of_a_step_that_is_new(golden: Golden) -> None:
    golden("difference_training.txt", text(trained(), width=80))


def test_the_markdown(golden: Golden) -> None:
    golden("difference.md", markdown(changed(), NAMES))


def test_the_json(golden: Golden) -> None:
    found = Difference(net(blocks=1), net(blocks=1, head=nn.Tanh))
    golden("difference.json", as_json(found, NAMES))


def test_printed_it_is_the_text() -> None:
    assert str(changed()) == text(changed())


def plain(cell: str) -> int:
    """A figure below a thousand, which is written exactly."""
    return int(cell.removesuffix(" B") or "0")


@pytest.mark.parametrize("top", [1, 2, 20])
def test_each_column_adds_up_to_the_change_in_total(top: int) -> None:
    found = Difference(net(blocks=1), net(blocks=2, head=nn.Tanh))
    shown = tables(text(found, top=top))
    first, last = found.total
    for title in ("Module", "Operator"):
        *rows, total = shown[title]
        for column, name in (("Params", "params"), ("MACs", "macs"), ("FLOPs", "flops")):
            if column in total:
                assert sum(plain(row[column]) for row in rows) == last[name] - first[name]
                assert plain(total[column]) == last[name] - first[name]
    *rows, _ = shown["Operator"]
    assert sum(plain(row["Calls"]) for row in rows) == last["calls"] - first["calls"]


def test_the_totals_are_those_of_either_profile() -> None:
    before, after = net(blocks=1), net(blocks=2)
    rows = {row[""]: row for row in tables(text(Difference(before, after)))[""]}
    # A block is two layers of 2 rows: 2·4·8 MACs each; 4·8 + 8 and 8·4 + 4 parameters.
    assert list(rows["MACs"].values()) == ["MACs", "128", "256", "+128", "+100.0%"]
    assert [rows["Params"][title] for title in ("Before", "After")] == ["76", "152"]


def test_modules_that_changed_alike_are_one_row_with_their_sum() -> None:
    found = Difference(net(blocks=3, width=8), net(blocks=3, width=10))
    rows = {row["Module"]: row for row in tables(text(found))["Module"]}
    assert set(rows) == {
        "layers.0-2.up ×3", "layers.0-2.down ×3", "layers.0-2 ×3", "Total"
    }  # fmt: skip
    assert rows["layers.0-2.up ×3"]["MACs"] == f"+{3 * 2 * 4 * 2}"
    assert rows["layers.0-2.up ×3"]["FLOPs %"] == "+25.0%"


def test_what_is_new_or_gone_is_one_row_with_all_below() -> None:
    found = Difference(net(blocks=1), net(blocks=3))
    row, total = tables(text(found))["Module"]
    assert (row["Module"], row["Type"], row["FLOPs %"]) == ("layers.1-2 ×2", "Block", "new")
    assert total["MACs"] == row["MACs"] == "+256"
    row, _ = tables(text(Difference(found.after, found.before)))["Module"]
    assert (row["MACs"], row["FLOPs %"]) == ("-256", "gone")


def test_other_figures_are_shown_where_nothing_else_differs() -> None:
    found = Difference(net(head=nn.ReLU), net(head=nn.Hardtanh))
    row, total = tables(text(found))["Module"]
    # 8 elements, which are compared with two bounds rather than one.
    assert row == {
        "Module": "head", "Type": "ReLU → Hardtanh", "Compar.": "+8", "FLOPs %": ""
    }  # fmt: skip
    assert total["Compar."] == "+8"


def size(cell: str) -> float:
    """How large a figure is, whatever its sign."""
    return float(re.sub("[^0-9.]", "", cell) or 0) * (1000 if "k" in cell else 1)


def test_what_changed_most_comes_first_by_the_figure_asked_for() -> None:
    found = changed()
    for sort, title in (("flops", "FLOPs"), ("params", "Params"), ("bytes", "Bytes")):
        *rows, _ = tables(text(found, sort=sort))["Module"]
        numbers = [size(row[title]) for row in rows]
        assert numbers == sorted(numbers, reverse=True)
        assert f"{title} %" in rows[0]


def test_the_rest_is_one_row() -> None:
    found = changed()
    every = len(tables(text(found))["Operator"]) - 1
    rows = tables(text(found, top=2))["Operator"]
    assert [row["Operator"] for row in rows[2:]] == [f"{every - 2} more", "Total"]


def test_no_difference_is_said_with_what_was_compared() -> None:
    assert text(Difference(net(), net()), ("a", "b")).splitlines()[:4] == [
        "Before: a", "After: b", "", "No difference: 12 modules, 5 operators"
    ]  # fmt: skip
    empty = counted(lambda: None)
    assert text(Difference(empty, empty)).startswith("No difference: 0 modules, 0 operators\n")


def test_what_ran_outside_of_modules_has_its_row() -> None:
    rows = tables(text(trained()))["Module"]
    assert any(row["Module"] == "(outside of modules)" for row in rows)


def test_other_conventions_and_uncounted_operators_are_told() -> None:
    profile = net()
    prices = [replace(price, state="uncounted") for price in profile.prices]
    other = replace(profile.reprice("torch"), prices=tuple(prices))
    lines = text(Difference(profile, other)).splitlines()
    conventions = [line for line in lines if line.startswith("Conventions differ: flopdispatch (")]
    assert len(conventions) == 1
    assert " before, torch (" in conventions[0]
    assert lines[-1].startswith("Uncounted after: aten::")


@pytest.mark.parametrize("width", [70, 80, 100])
def test_a_table_fits_its_width(width: int) -> None:
    found = Difference(resnet50(), resnet50().reprice("fvcore"))
    shown = text(found, width=width)
    assert max(map(len, shown.splitlines())) <= width
    wide = tables(text(found))["Module"]
    narrow = tables(shown)["Module"]
    for row, whole in zip(narrow, wide, strict=True):
        assert whole["Module"].endswith(row["Module"].removeprefix("…")), "a path's end stays"
        assert row["FLOPs"] == whole["FLOPs"]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["a.b"], "a.b"),
        (["l.0.a", "l.1.a", "l.2.a"], "l.0-2.a"),
        (["l.9", "l.10"], "l.9-10"),
        (["l.0", "l.2"], "l.*"),
        (["l.0.c1", "l.0.c2", "l.1.c1", "l.1.c2"], "l.0-1.c1-2"),
        (["l.0.c1", "l.1.c2"], "l.*.c*"),
        (["l.1", "l.01"], "l.*"),
    ],
)
def test_several_names_are_one_with_the_numbers_that_they_span(names: list[str], name: str) -> None:
    assert spanned(names) == name


def test_names_that_would_break_a_table_do_not() -> None:
    names = ["a|b", "new\nline", "`tick`", "<b>", "=cmd", "@all"]
    before = count(Named(["same"]), (1, 2))
    found = Difference(before, count(Named(["same", *names]), (1, 2)))
    rows = tables(text(found))["Module"]
    shown = {row["Module"] for row in rows}
    assert shown == {name.replace("\n", "\\n") for name in names} | {"Total"}
    block = markdown(found).split("\n\n")[1].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in block} == {8}, "seven cells"
    cells = {re.split(r"(?<!\\)\|", line)[1].strip() for line in block[2:]}
    assert cells == {
        r"`a\|b`", r"`new\nline`", "`` `tick` ``", "`<b>`", "`=cmd`", "`@all`", "Total"
    }  # fmt: skip
    footer = markdown(found, ("a*b*", "<i>")).split("\n\n")[0]
    assert footer == "- Before: a\\*b\\*\n- After: \\<i\\>"


def test_json_has_all_that_differs_in_exact_figures() -> None:
    found = changed()
    data = json.loads(as_json(found, NAMES))
    assert data["format"] == "flopdispatch-difference/1"
    assert (data["same"], data["before"]["name"]) == (False, "before.json")
    total = data["total"]
    assert (total["before"]["macs"], total["after"]["macs"]) == (
        found.before.macs,
        found.after.macs,
    )
    assert total["change"]["macs"] == found.after.macs - found.before.macs
    for kind in ("modules", "operators", "phases", "dtypes"):
        skipped = "calls" if kind == "modules" else "params"
        for name in set(FIGURES) - {skipped}:
            changes = [entry["change"]["own"][name] for entry in data[kind]]
            assert sum(changes) == total["change"][name]
    new = next(entry for entry in data["modules"] if entry["name"] == "Net.layers.2")
    assert (new["state"], new["before"], new["after"]["kind"]) == ("new", None, "Block")
    assert new["change"]["total"]["macs"] == 2 * (2 * 4 * 10)
    assert data["unchanged"]["modules"] == 0


def test_json_of_no_difference_lists_nothing() -> None:
    data = json.loads(as_json(Difference(net(), net())))
    assert data["same"] is True
    assert data["modules"] == data["operators"] == data["phases"] == data["dtypes"] == []
    assert data["unchanged"]["modules"] == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sort": "name"}, "sort= takes one of params, calls, macs, flops, bytes, got 'name'"),
        ({"top": 0}, "top= takes an integer >= 1, got 0"),
        ({"top": 2.5}, "top= takes an integer >= 1, got 2.5"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, str], message: str) -> None:
    for profile in (net(), net(blocks=1)):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            text(Difference(net(), profile), **options)  # type: ignore[arg-type]
