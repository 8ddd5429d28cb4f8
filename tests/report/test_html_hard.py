"""The HTML report where it is hard: hostile names, 10,001 modules, phones, screen readers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from torch import Tensor, nn

from flopdispatch import (
    Cost,
    FlopCounter,
    Profile,
    UncountedOperatorWarning,
    count,
    default_registry,
)
from tests.browser import DESKTOP, PHONE, Opens
from tests.programs import counted
from tests.report.pages import bars, exact, figures, focused, paths, rows

# Hostile names: as they are given, and as they are shown

NAMES = {
    "</script><img src=x onerror=alert(1)>": "</script><img src=x onerror=alert(1)>",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "<!--<script>": "<!--<script>",
    "]]>": "]]>",
    "\"'`><b onmouseover=alert(1)>": "\"'`><b onmouseover=alert(1)>",
    "javascript:alert(1)": "javascript:alert(1)",
    "&lt;b&gt;&amp;": "&lt;b&gt;&amp;",
    "${alert(1)} $title $$ %s {0}": "${alert(1)} $title $$ %s {0}",
    "\\u003c \\": "\\u003c \\",
    "__proto__": "__proto__",
    "constructor": "constructor",
    "line\nbreak\ttab\0nul": r"line\nbreak\ttab\x00nul",
    "\u202eright to left": r"\u202eright to left",
    "שכבה": "שכבה",
    "line\u2028end\u2029s": r"line\u2028end\u2029s",
    "half \ud800 pair": r"half \ud800 pair",
    "🔥日本語": "🔥日本語",
    "x" * 500: "x" * 500,
    "  spaces  ": "  spaces  ",
}


class Payload(nn.Linear):
    """A class whose name is markup."""


Payload.__name__ = "<img src=x onerror=alert(2)>"


@cache
def hostile() -> Profile:
    """A module of each name, in a hostile convention, with hostile assumptions."""
    model = nn.Sequential()
    for name in NAMES:
        model.add_module(name, Payload(2, 2))
    rules = default_registry().overlay("</title><script>alert(3)</script>", "<b>&")
    rules.formula(
        torch.ops.aten.addmm.default, estimate="<img src=x onerror=alert(4)>", override=True
    )(lambda: Cost(macs=4))

    def failing() -> Cost:
        raise ValueError("<img src=x onerror=alert(5)>")

    rules.formula(torch.ops.aten.mul.Tensor, override=True)(failing)
    counter = FlopCounter(display=False, convention=rules)

    @torch.no_grad()
    def run() -> None:
        with counter:
            out = model(torch.ones(1, 2))
            _ = out * out
            counter._recording.assume("</script><img src=x onerror=alert(6)>")

    with pytest.warns(UncountedOperatorWarning):
        run()
    return counter.profile


def test_hostile_names_are_shown_as_they_are_and_run_nothing(opens: Opens) -> None:
    page = opens(hostile().report("html", title="</title><script>alert(7)</script>"))
    page.get_by_role("button", name="Expand all").click()
    names = page.locator("#tree .name bdi").all_text_contents()
    assert names == ["(the whole block)", "Sequential", *NAMES.values(), "(outside of modules)"]
    types = set(page.locator("#tree .type").all_text_contents())
    assert types == {"", "Sequential", "<img src=x onerror=alert(2)>"}
    assert page.title() == "</title><script>alert(7)</script>: FLOPs"
    text = page.locator("main").inner_text()
    for number in (3, 4, 5, 6):
        assert f"alert({number})" in text
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2, "the data and the page's own"
    for bar in page.get_by_role("treeitem").all()[:8]:
        bar.hover()
    page.get_by_role("searchbox").fill("onerror=alert(1)")
    assert page.locator("#matches").inner_text() == "1 module found"


def test_a_search_of_hostile_text_is_text(opens: Opens) -> None:
    page = opens(hostile().report("html"))
    for text, found in (("<script>", 2), ("\\u003c", 1), ("&lt;b", 1), ("${alert", 1), ("[", 0)):
        page.get_by_role("searchbox").fill(text)
        assert page.locator("#tree .found").count() == found, text


# 10,001 modules


class Add(nn.Module):
    """Adds `size` elements, and hands its input on."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        _ = x[: self.size] + x[: self.size]
        return x


BLOCKS, LAYERS = 100, 99


@cache
def large(number: int = BLOCKS) -> str:
    """Blocks of 99 modules, of which the one numbered i costs i + 1."""
    blocks = [nn.Sequential(*(Add(i + 1) for i in range(LAYERS))) for _ in range(number)]
    return count(nn.Sequential(*blocks), (LAYERS,)).report("html")


def box(page: Page, selector: str) -> Any:
    return page.locator(selector).bounding_box()


def test_ten_thousand_modules_are_all_there(opens: Opens) -> None:
    page = opens(large())
    page.get_by_role("button", name="Expand all").click()
    number = 1 + BLOCKS * (1 + LAYERS)
    assert page.locator("#tree").get_attribute("aria-rowcount") == str(number + 1)
    page.locator("#tree tbody tr").first.focus()
    page.keyboard.press("End")
    assert focused(page) == "Sequential.99.98"
    row = page.locator("#tree tr:focus")
    assert row.get_attribute("aria-rowindex") == str(number + 1), "the head is the first"
    assert row.locator(".number").nth(2).inner_text() == "99"
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Sequential.99.97"
    page.keyboard.press("Home")
    assert focused(page) == "Sequential"


def test_only_the_rows_near_the_window_are_on_the_page(opens: Opens) -> None:
    page = opens(large())
    page.get_by_role("button", name="Expand all").click()
    height = box(page, "#tree")["height"]
    for place in (0.1, 0.4, 0.9):
        page.evaluate("y => scrollTo(0, y)", place * page.evaluate("document.body.scrollHeight"))
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        assert rows(page).count() < 200
        indexes = rows(page).evaluate_all("rows => rows.map(row => Number(row.ariaRowIndex))")
        assert indexes == sorted(indexes)
        at = rows(page).evaluate_all(
            "rows => rows.filter(r => { const b = r.getBoundingClientRect();"
            " return b.top < innerHeight && b.bottom > 0 }).length"
        )
        assert at > 10, "the window is full of rows"
    assert box(page, "#tree")["height"] == pytest.approx(height, abs=2)


def test_ten_thousand_modules_sort_and_are_searched(opens: Opens) -> None:
    page = opens(large())
    page.get_by_role("button", name="Expand all").click()
    page.locator("#tree").get_by_role("button", name="FLOPs", exact=True).click()
    assert paths(page)[1:4] == ["Sequential.0", "Sequential.0.98", "Sequential.0.97"]
    page.get_by_role("searchbox").fill("57.42")
    assert page.locator("#matches").inner_text() == "1 module found"
    assert figures(page, "FLOPs") == {
        "Sequential": BLOCKS * 4950,
        "Sequential.57": 4950,
        "Sequential.57.42": 43,
    }


def test_bars_narrower_than_a_pixel_are_one_bar_together_and_numbered(opens: Opens) -> None:
    page = opens(large())
    width = box(page, "#icicle")["width"]
    labels = page.get_by_role("treeitem").evaluate_all("bars => bars.map(bar => bar.ariaLabel)")
    small = [label for label in labels if "small" in label]
    assert small == [f"{LAYERS} modules too small to be drawn"] * BLOCKS, "a block is 12 pixels"
    assert len(labels) == 1 + 2 * BLOCKS
    left_out = page.locator("#left-out")
    assert left_out.inner_text().startswith(f"Modules too small to be drawn: {BLOCKS * LAYERS}.")
    page.get_by_role("treeitem", name="modules too small").nth(7).click()
    assert page.locator("#detail .path").inner_text() == "Sequential.7", "they are zoomed"
    drawn = [n for n in range(1, LAYERS + 1) if n / 4950 * width >= 1]
    rest = [n for n in range(1, LAYERS + 1) if n not in drawn]
    widths = page.get_by_role("treeitem").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    expected = [4950, sum(rest), *drawn]
    assert widths == pytest.approx([width * n / 4950 for n in expected], abs=0.05)
    assert left_out.inner_text().startswith(f"Modules too small to be drawn: {len(rest)}.")


def test_what_is_printed_has_all_rows(opens: Opens) -> None:
    page = opens(large(3))
    page.get_by_role("button", name="Expand all").click()
    assert rows(page).count() < 200
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert rows(page).count() == 1 + 3 * (1 + LAYERS)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows(page).count() < 200


# Numbers and trees out of the common


def test_numbers_beyond_two_to_the_53_are_shown_to_the_last_digit(opens: Opens) -> None:
    side = 2**20 + 1
    with torch.device("meta"), torch.no_grad():
        profile = counted(nn.Linear(side, side, bias=False), torch.empty(side, side))
    macs = 1152924803144876033  # (2^20 + 1)^3
    page = opens(profile.report("html"))
    assert figures(page, "MACs") == {"Linear": macs}
    assert exact(page.locator(".totals .exact").nth(2).inner_text()) == 2 * macs
    assert page.get_by_role("treeitem").evaluate("bar => bar.ariaLabel") == (
        "Linear, Linear, 2.306 E FLOPs, 100.0%"
    )


def test_an_empty_block_has_a_report(opens: Opens) -> None:
    page = opens(counted(lambda: None).report("html"))
    assert page.get_by_role("heading", level=1).inner_text() == "A block without modules"
    assert paths(page) == [""]
    assert page.locator("#left-out").inner_text() == "No FLOPs here."
    assert page.locator(".none").count() == 8, "none of each kind of calls, nothing to be known"


def test_modules_that_share_parameters_stay_in_their_bar(opens: Opens) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    for layer in model:
        layer.weight = model[0].weight
    page = opens(count(model, (1, 4)).report("html"))
    assert figures(page, "Params") == {
        "Sequential": 16 + 3 * 4, "Sequential.0": 20, "Sequential.1": 20, "Sequential.2": 20,
    }  # fmt: skip
    page.get_by_role("radio", name="Params").check()
    found = bars(page)
    for name in "012":
        assert found[name]["width"] == pytest.approx(found["Sequential"]["width"] / 3, abs=0.5)
    assert set(found) == {"Sequential", "0", "1", "2"}, "and nothing is left for its own"


def test_several_models_and_what_is_outside_of_them_are_one_block(opens: Opens) -> None:
    def run() -> None:
        nn.Linear(2, 2)(torch.ones(1, 2))
        nn.ReLU()(torch.ones(3) + torch.ones(3))

    page = opens(counted(run).report("html"))
    assert figures(page, "FLOPs") == {
        "": 4 * 2 + 2 + 3, "Linear": 10, "ReLU": 0, "(outside of modules)": 3,
    }  # fmt: skip
    assert page.get_by_role("heading", level=1).inner_text() == "Linear, ReLU"


def test_what_is_nested_too_deeply_is_drawn_when_it_is_zoomed(opens: Opens) -> None:
    model: nn.Module = Add(1)
    for _ in range(60):
        model = nn.Sequential(model)
    page = opens(count(model, (1,)).report("html"))
    assert page.get_by_role("treeitem").count() == 1 + 40, "the top and 40 levels"
    assert page.locator("#left-out").inner_text().startswith("Modules too small to be drawn: 20.")
    page.get_by_role("treeitem").last.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("treeitem").count() == 1 + 20
    page.get_by_role("button", name="Expand all").click()
    page.locator("#tree tbody tr").first.focus()
    page.keyboard.press("End")
    row = page.locator("#tree tr:focus")
    assert row.get_attribute("aria-level") == "61"
    assert row.locator("bdi").is_visible()


# Screens and readers


@cache
def resnet() -> str:
    with torch.device("meta"):
        model = torchvision.models.resnet50()
    return count(model, (2, 3, 64, 64), backward=True).report("html")


PAGES: dict[str, Any] = {
    "resnet": resnet,
    "hostile": lambda: hostile().report("html"),
    "empty": lambda: counted(lambda: None).report("html"),
}


@pytest.mark.parametrize(
    ("name", "zoomed", "size", "scheme"),
    [
        ("resnet", "layer2, ", DESKTOP, "light"),
        ("resnet", "layer2, ", PHONE, "dark"),
        ("hostile", "xxx", DESKTOP, "dark"),
        ("hostile", "xxx", PHONE, "light"),
        ("empty", None, PHONE, "dark"),
    ],
)
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(
    opens: Opens, name: str, zoomed: str | None, size: tuple[int, int], scheme: str
) -> None:
    page = opens(PAGES[name](), size, color_scheme=scheme)
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    page.get_by_role("searchbox").fill("0")
    if zoomed:
        page.get_by_role("treeitem", name=zoomed).click()
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
