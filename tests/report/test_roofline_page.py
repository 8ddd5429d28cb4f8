"""The page with a roof in a browser: nothing is blocked, all can be read and sorted."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser import DESKTOP, PHONE, Opens
from tests.report.pages import bars, net, paths
from tests.report.samples import SAMPLES
from tests.report.test_html_hard import violations
from tests.report.test_roofline_reports import FAST
from tests.test_roofline import MACHINE

PAGES = {
    "net": net().roofline(FAST).report("html"),
    "step": SAMPLES["step"].roofline(MACHINE).report("html"),
    "training": SAMPLES["training"].roofline(MACHINE).report("html"),
    "empty": SAMPLES["empty"].roofline(MACHINE).report("html"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE, (1030, 900)])
@pytest.mark.parametrize("name", list(PAGES))
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(
    opens: Opens, name: str, size: tuple[int, int], scheme: str
) -> None:
    page = opens(PAGES[name], size, color_scheme=scheme)
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


@pytest.mark.parametrize(("way", "expected"), [(1, [0, 2, 1]), (2, [1, 2, 0])])
def test_the_modules_have_their_times_and_sort_by_them(
    opens: Opens, way: int, expected: list[int]
) -> None:
    page = opens(PAGES["net"])
    heads = page.locator("#tree thead th").all_inner_texts()
    cells = page.locator("#tree tbody tr").evaluate_all(
        """(rows, i) => rows.map(({ cells }) =>
            [cells[0].title, cells[i].innerText, cells[i + 1].innerText])""",
        heads.index("Time"),
    )
    assert heads[-2:] == ["Time", "Bound by"]
    assert cells == [
        ["Net", "1.070 µs", "compute 73.8%"],
        ["Net.body", "860.0 ns", "compute 81.4%"],
        ["Net.body.0", "360.0 ns", "compute"],
        ["Net.body.1", "160.0 ns", "memory"],
        ["Net.body.2", "340.0 ns", "compute"],
        ["Net.head", "90.00 ns", "compute"],
        ["Net.unused", "", ""],
    ]
    for _ in range(way):
        page.get_by_role("button", name="Time", exact=True).first.click()
    found = [path for path in paths(page) if path.startswith("Net.body.")]
    assert found == [f"Net.body.{i}" for i in expected]


def test_bars_can_be_as_wide_as_times(opens: Opens) -> None:
    page = opens(PAGES["net"])
    page.get_by_role("radio", name="Time").check()
    found = bars(page)
    whole = found["Net"]["width"]
    widths = {path: found[path]["width"] / whole for path in ("body", "head", "own work of Net")}
    expected = {"body": 860 / 1070, "head": 90 / 1070, "own work of Net": 120 / 1070}
    assert widths == pytest.approx(expected, abs=0.01)
    page = opens(PAGES["step"])
    outside = figures_of(page, "Time", "(outside of modules)")
    assert outside == SAMPLES["step"].roofline(MACHINE).by_scope(own=True)[""].seconds
    assert not opens(net().report("html")).get_by_role("radio", name="Time").count()


def figures_of(page: Page, column: str, module: str) -> float:
    """The number in the tree's column of a module, in full."""
    place = page.locator("#tree thead th").all_inner_texts().index(column)
    row = page.locator("#tree tbody tr").filter(has_text=module)
    return float(row.locator("th, td").nth(place).get_attribute("title") or "")


def test_operators_have_the_numbers_of_their_points_and_sort_by_time(opens: Opens) -> None:
    page = opens(PAGES["net"])
    table = page.get_by_role("region", name="Times of operators")
    names = table.locator("tbody th")
    assert names.all_inner_texts() == [
        "aten::addmm.default (1)", "aten::relu.default", "aten::add.Tensor (2)",
    ]  # fmt: skip
    head = table.get_by_role("columnheader", name="Time")
    head.get_by_role("button").click()
    first = names.first.inner_text()
    head.get_by_role("button").click()
    assert {first, names.first.inner_text()} == {"aten::addmm.default (1)", "aten::add.Tensor (2)"}
    drawing = page.get_by_role("img", name="Roofline of fast")
    assert drawing.locator("circle").count() == 2
