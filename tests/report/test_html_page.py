"""The HTML report in a browser: what it shows, and that it can be asked by keyboard alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import Page

from tests.browser import Opens
from tests.report.pages import FLOPS, MACS, PARAMS, bars, exact, figures, focused, net, paths

NET = net()
PAGE = NET.report("html")


@pytest.fixture
def page(opens: Opens) -> Page:
    return opens(PAGE)


def totals(page: Page) -> dict[str, str]:
    names = page.locator(".totals dt").all_inner_texts()
    return dict(zip(names, page.locator(".totals .exact").all_inner_texts()))


def test_the_totals_are_the_profile_s(page: Page) -> None:
    assert totals(page) == {
        "Parameters": "98",
        "MACs": "360",
        "FLOPs": "810",
        "Comparable FLOPs": "720",
        "Bytes": f"{NET.total.nbytes:,}",
        "Activations": "70",  # five rows of 8, 4 and 2
    }


@pytest.mark.parametrize(
    ("column", "expected"), [("FLOPs", FLOPS), ("MACs", MACS), ("Params", PARAMS)]
)
def test_the_rows_are_what_the_modules_cost(
    page: Page, column: str, expected: dict[str, int]
) -> None:
    assert figures(page, column) == expected


def test_a_module_that_never_ran_says_so(page: Page) -> None:
    row = page.get_by_role("row", name="unused")
    assert row.get_by_role("gridcell").all_inner_texts()[1:] == ["12", "not called", "", "", "", ""]


def test_shares_are_of_what_modules_are_sized_by(page: Page) -> None:
    head = page.get_by_role("row", name="head")
    assert head.locator(".share").inner_text() == "11.1%", "90 of 810"
    page.get_by_role("radio", name="Params").check()
    assert head.locator(".share").inner_text() == "10.2%", "10 of 98"
    assert page.get_by_role("columnheader", name="Share of Params").count() == 1


# The table by keyboard


def children(page: Page) -> list[str]:
    return [path.rpartition(".")[2] for path in paths(page) if path.count(".") == 1]


@pytest.mark.parametrize(
    ("head", "orders"),
    [
        ("FLOPs", ["body head unused", "unused head body", "body head unused"]),
        ("Params", ["body unused head", "head unused body", "body head unused"]),
        ("Module", ["body head unused", "unused head body", "body head unused"]),
        ("Type", ["head unused body", "body head unused", "body head unused"]),
    ],
)
def test_a_head_sorts_one_way_then_the_other_then_not(
    page: Page, head: str, orders: list[str]
) -> None:
    ways = (
        ["ascending", "descending"] if head in ("Module", "Type") else ["descending", "ascending"]
    )
    button = page.locator("#tree").get_by_role("button", name=head, exact=True)
    for way, order in zip([*ways, None], orders):
        button.press("Enter")
        assert button.locator("..").get_attribute("aria-sort") == way
        assert children(page) == order.split(), way


def test_rows_open_close_and_are_walked_by_arrows(page: Page) -> None:
    page.locator("#tree tbody tr").first.focus()
    walk = [
        ("ArrowDown", "Net.body"),
        ("ArrowRight", "Net.body.0"),
        ("ArrowLeft", "Net.body"),
        ("ArrowLeft", "Net.body"),  # closes it
        ("ArrowDown", "Net.head"),
        ("ArrowUp", "Net.body"),
        ("ArrowRight", "Net.body"),  # opens it
        ("ArrowDown", "Net.body.0"),
        ("End", "Net.unused"),
        ("Home", "Net"),
    ]
    for key, name in walk:
        page.keyboard.press(key)
        assert focused(page) == name, key
    body = page.locator("#tree tr", has_text="body")
    assert body.get_attribute("aria-expanded") == "true"
    assert body.get_attribute("aria-level") == "2"


def test_all_rows_open_and_close_at_once(page: Page) -> None:
    page.get_by_role("button", name="Collapse all").press("Enter")
    assert paths(page) == ["Net"]
    page.get_by_role("button", name="Expand all").press("Enter")
    assert set(paths(page)) == set(PARAMS)


def test_a_search_keeps_what_it_finds_and_what_that_is_in(page: Page) -> None:
    before = paths(page)
    page.get_by_role("searchbox", name="Search").press_sequentially("linear")
    assert paths(page) == ["Net", "Net.body", "Net.body.0", "Net.body.2", "Net.head", "Net.unused"]
    live = page.locator("#matches")
    assert (live.inner_text(), live.get_attribute("aria-live")) == ("4 modules found", "polite")
    page.keyboard.type(" BODY")
    assert paths(page) == ["Net", "Net.body", "Net.body.0", "Net.body.2"]
    page.keyboard.type(" nowhere")
    assert paths(page) == []
    assert live.inner_text() == "0 modules found"
    page.get_by_role("searchbox").fill("")
    assert paths(page) == before
    assert live.inner_text() == ""


def test_what_was_closed_before_a_search_is_closed_after_it(page: Page) -> None:
    page.get_by_role("button", name="Collapse all").click()
    page.get_by_role("searchbox").fill("relu")
    assert paths(page) == ["Net", "Net.body", "Net.body.1"]
    page.get_by_role("searchbox").fill("")
    assert paths(page) == ["Net"]


def test_tables_of_calls_sort_by_any_column(page: Page) -> None:
    section = page.locator("section", has=page.locator("#operators"))
    names = section.locator("tbody th")
    costs = section.locator("tbody td:nth-of-type(7)")
    assert names.first.inner_text() == "aten::addmm.default"
    section.get_by_role("button", name="Operator").press("Enter")
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    section.get_by_role("button", name="Bytes").press("Enter")
    numbers = [exact(text) for text in costs.evaluate_all("cells => cells.map(c => c.title)")]
    assert numbers == sorted(numbers, reverse=True)
    assert sum(numbers) > 0
    section.get_by_role("button", name="Bytes").press("Enter")
    numbers = [exact(text) for text in costs.evaluate_all("cells => cells.map(c => c.title)")]
    assert numbers == sorted(numbers)


# The icicle


def test_bars_are_as_wide_as_their_modules_cost(page: Page) -> None:
    found = bars(page)
    whole = found["Net"]["width"]
    assert whole > 1000
    for name, flops in (
        ("body", 700),
        ("0", 360),
        ("2", 340),
        ("head", 90),
        ("own work of Net", 20),
    ):
        assert found[name]["width"] == pytest.approx(whole * flops / 810, abs=0.5), name
    assert "1" not in found, "a ReLU has no FLOPs"
    page.get_by_role("radio", name="Params").check()
    assert bars(page)["unused"]["width"] == pytest.approx(whole * 12 / 98, abs=0.5)


def test_bars_lie_below_their_module_side_by_side(page: Page) -> None:
    found = bars(page)
    for outer, *inner in (["Net", "body", "head", "own work of Net"], ["body", "0", "2"]):
        assert found[inner[0]]["left"] == pytest.approx(found[outer]["left"], abs=0.5)
        assert found[inner[-1]]["right"] == pytest.approx(found[outer]["right"], abs=0.5)
        for one, other in pairwise(inner):
            assert found[one]["right"] == pytest.approx(found[other]["left"], abs=0.5)
            assert found[one]["top"] == found[other]["top"] > found[outer]["top"]


def test_bars_are_read_out_with_type_figure_and_share(page: Page) -> None:
    labels = page.get_by_role("treeitem").evaluate_all("all => all.map(b => b.ariaLabel)")
    assert labels == [
        "Net, Net, 810 FLOPs, 100.0%",
        "body, Sequential, 700 FLOPs, 86.4%",
        "0, Linear, 360 FLOPs, 44.4%",
        "2, Linear, 340 FLOPs, 42.0%",
        "head, Linear, 90 FLOPs, 11.1%",
        "own work of Net, Net, 20 FLOPs, 2.5%",
    ]


def test_the_icicle_is_walked_and_zoomed_by_keys(page: Page) -> None:
    page.get_by_role("treeitem").first.focus()
    walk = [
        ("ArrowDown", "body"),
        ("ArrowRight", "head"),
        ("ArrowRight", "own work of Net"),
        ("ArrowRight", "own work of Net"),
        ("Home", "body"),
        ("ArrowDown", "0"),
        ("End", "2"),
        ("ArrowUp", "body"),
        ("Enter", "body"),
    ]
    for key, name in walk:
        page.keyboard.press(key)
        assert focused(page).split(",")[0] == name, key
    found = bars(page)
    assert set(found) == {"body", "0", "2"}
    assert found["0"]["width"] == pytest.approx(found["body"]["width"] * 360 / 700, abs=0.5)
    crumbs = page.get_by_role("navigation", name="Zoomed to").get_by_role("button")
    assert crumbs.all_inner_texts() == ["Net", "body"]
    page.keyboard.press("Escape")
    assert focused(page).split(",")[0] == "Net"
    assert "head" in bars(page)
    page.keyboard.press("Escape")
    assert "head" in bars(page), "there is nothing to leave"


def test_crumbs_lead_back(page: Page) -> None:
    page.get_by_role("treeitem", name="body, ").click()
    page.get_by_role("treeitem", name="0, ").click()
    assert set(bars(page)) == {"0"}
    page.get_by_role("navigation", name="Zoomed to").get_by_role("button", name="Net").click()
    assert "head" in bars(page)


def test_what_is_looked_at_is_told_in_full(page: Page) -> None:
    page.get_by_role("treeitem", name="2, ").hover()
    text = " ".join(page.locator("#detail").inner_text().split())
    assert text.startswith("Net.body.2 Linear Params 36 (36.7%) MACs 160 (44.4%) FLOPs 340 (42.0%)")
    page.get_by_role("treeitem", name="own work of Net").hover()
    text = " ".join(page.locator("#detail").inner_text().split())
    assert "own work" in text
    assert "FLOPs 20 (2.5%)" in text


# Themes


def ground(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_system_s_until_one_is_chosen(opens: Opens, scheme: str) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
    page = opens(PAGE, color_scheme=scheme)
    assert ground(page) == {"light": light, "dark": dark}[scheme]
    button = page.get_by_role("button", name="Theme: auto")
    button.press("Enter")
    assert ground(page) == light
    page.get_by_role("button", name="Theme: light").press("Enter")
    assert ground(page) == dark


def test_without_scripts_all_but_the_tree_is_there(opens: Opens) -> None:
    page = opens(PAGE, java_script_enabled=False)
    assert page.locator("noscript").inner_text().startswith("The modules are drawn by a script")
    assert totals(page)["FLOPs"] == "810"
    assert page.get_by_role("rowheader", name="aten::addmm.default").is_visible()
    assert page.get_by_role("button").count() == 0, "none that does nothing"
