"""The page with a roof in a browser: nothing is blocked, all can be read and sorted."""

from __future__ import annotations

import pytest

from tests.browser import DESKTOP, PHONE, Opens
from tests.report.pages import net
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
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", list(PAGES))
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(
    opens: Opens, name: str, size: tuple[int, int], scheme: str
) -> None:
    page = opens(PAGES[name], size, color_scheme=scheme)
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


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
