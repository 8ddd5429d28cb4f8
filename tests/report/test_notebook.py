"""What a notebook shows of a profile: the table, whole when asked for, with nothing that runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from flopdispatch import Profile, count
from flopdispatch.report.roofline import headers
from flopdispatch.report.roofline import lines as bounded
from flopdispatch.report.table import HEADERS, footer, lines
from tests.browser import PHONE, Opens
from tests.programs import counted
from tests.report.pages import net
from tests.report.test_html_hard import NAMES, hostile
from tests.report.test_roofline_reports import FAST
from tests.report.test_table import toy


def shown(profile: Profile) -> str:
    """What a notebook asks an object for."""
    found: Any = profile._repr_html_()
    assert isinstance(found, str)
    return found


def page(profile: Profile) -> str:
    return f'<!DOCTYPE html><meta charset="utf-8"><title>Notebook</title>{shown(profile)}'


def test_the_net_in_a_notebook(golden: Callable[[str, str], None]) -> None:
    golden("notebook.html", re.sub(r"(?<!\n)(?=<(tr|p|details)\b)", "\n", shown(net())))


def test_a_notebook_shows_the_table_and_its_footer(opens: Opens) -> None:
    profile = toy(backward=True)
    view = opens(page(profile))
    assert view.locator("thead th").all_text_contents() == list(HEADERS)
    cells = view.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert cells == lines(profile)
    assert view.locator("p").all_text_contents()[:-1] == footer(profile)


def blocks(number: int) -> Profile:
    """Blocks of two layers, all of another size, that no rows are folded."""
    model = nn.Sequential(
        *(nn.Sequential(nn.Linear(i, i + 9), nn.Linear(i + 9, i + 1)) for i in range(1, number + 1))
    )
    with torch.no_grad():
        return count(model, (1, 1))


def test_whole_levels_are_shown_at_once_and_the_rest_when_asked_for(opens: Opens) -> None:
    view = opens(page(blocks(12)))  # 1 + 12 + 24 rows, and the total
    tables = view.locator("table")
    assert tables.count() == 2
    assert [tables.nth(i).locator("tbody tr").count() for i in (0, 1)] == [14, 38]
    assert not tables.nth(1).is_visible()
    view.get_by_text("24 more rows").press("Enter")
    assert tables.nth(1).is_visible()


def test_what_fits_is_shown_once() -> None:
    assert shown(blocks(9)).count("<tr>") == 1 + 1 + 9 + 18 + 1
    assert "<details>" not in shown(blocks(9))


def test_of_a_thousand_rows_and_more_the_upper_levels_are_shown() -> None:
    found = shown(blocks(400))
    assert found.count("<table>") == 2
    assert found.count("<tr>") == (1 + 1 + 1) + (1 + 1 + 400 + 1)
    assert "400 more rows" in found


def test_an_empty_block_is_shown(opens: Opens) -> None:
    view = opens(page(counted(lambda: None)))
    assert view.locator("tbody th").all_text_contents() == ["(outside of modules)", "Total"]


def test_hostile_names_are_text_in_a_notebook(opens: Opens) -> None:
    found = shown(hostile())
    assert set(re.findall(r"<(\w+)", found)) <= {
        "div", "style", "table", "thead", "tbody", "tr", "th", "td", "p", "details", "summary",
    }  # fmt: skip
    view = opens(page(hostile()), PHONE)
    text = view.locator("tbody th").all_text_contents()
    for name in NAMES.values():
        assert any(line.endswith(name) for line in text), name


def test_a_roofline_in_a_notebook_is_its_table_and_its_repr_is_short() -> None:
    found = net().roofline(FAST)
    text = re.sub(r"<style>.*?</style>", "", found._repr_html_(), flags=re.DOTALL)
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)
    ]
    assert rows == [headers("modules"), *bounded(found)]
    notes = re.findall(r"<p>(.*?)</p>", text)
    assert notes[0].startswith("Machine: fast: float32 1.000 GFLOP/s")
    assert repr(found) == f"Roofline(hardware={found.hardware!r}, rates={found.rates!r})"
