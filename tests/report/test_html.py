"""The HTML report as text and data: whole, exact, of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flopdispatch import Cost, FlopCounter, Profile, count, default_registry
from flopdispatch.report.html_data import groups, tree
from flopdispatch.report.markup import Markup, element, joined, visible
from flopdispatch.rules import name_of
from tests.programs import counted
from tests.report.pages import FLOPS, MACS, PARAMS, net
from tests.report.test_table import toy


def resnet18() -> Profile:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    return count(model, (2, 3, 64, 64), backward=True)


PROFILES = {"net": net, "toy": toy, "training": lambda: toy(backward=True), "resnet": resnet18}


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Profile:
    return PROFILES[request.param]()


class Texts(HTMLParser):
    """The text of each element that has a given tag, entities resolved."""

    def __init__(self, text: str, tag: str) -> None:
        super().__init__()
        self.tag = tag
        self.found: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == self.tag:
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != self.tag

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def data_of(page: str) -> dict[str, Any]:
    """The data that the page's script reads."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    found: dict[str, Any] = json.loads(text)
    return found


# The page


def test_the_page_but_for_its_style_and_script(golden: Callable[[str, str], None]) -> None:
    text = re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>", "", net().report("html"))
    text = re.sub(r"sha256-[\w+/=]+", "sha256-", text)
    golden("net.html", re.sub(r"(?<!\n)(?=<(tr|t[hd]|dt|li|section|h2)\b|\"\w+\":)", "\n", text))


def test_the_same_profile_gives_the_same_page(profile: Profile) -> None:
    page = profile.report("html")
    assert page == profile.report("html") == Profile.from_json(profile.to_json()).report("html")


def test_nothing_outside_of_the_page_is_named(profile: Profile) -> None:
    page = profile.report("html")
    links = re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'\s>]*)""", page)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?:|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", page)


def test_each_link_leads_to_a_section() -> None:
    page = toy().report("html")
    links = re.findall(r'href="#(\w+)"', page)
    assert len(links) == 9
    for link in links:
        assert page.count(f'id="{link}"') == 1


def test_the_title_is_the_root_s_type_or_what_is_given() -> None:
    assert Texts(toy().report("html"), "title").found == ["Toy: FLOPs"]
    page = toy().report("html", title="a < b & c")
    assert Texts(page, "title").found == ["a < b & c: FLOPs"]
    assert Texts(page, "h1").found == ["a < b & c"]


@pytest.mark.parametrize("ending", ["html", "htm"])
def test_a_file_of_that_ending_is_the_page(tmp_path: Any, ending: str) -> None:
    path = tmp_path / f"page.{ending}"
    toy().save(path)
    assert path.read_text(encoding="utf-8") == toy().report("html")


def test_what_is_not_counted_assumed_or_estimated_is_said_at_the_top() -> None:
    rules = default_registry().overlay("mine", "a guess")
    rules.formula(torch.ops.aten.mm.default, estimate="half", override=True)(lambda: Cost(macs=1))
    with FlopCounter(display=False, convention=rules) as counter:
        for _ in range(3):
            torch.ones(2, 2) @ torch.ones(2, 2)
        counter._recording.assume("the moon is full")
    page = counter.profile.report("html")
    assert Texts(page, "li").found[:2] == ["Assumed: 1", "Calls whose cost is an estimate: 3"]
    assert "Convention: mine: a guess" in page
    cells = Texts(page, "td").found
    assert "estimate: half" in cells, "at the operator"
    assert "half" in cells, "and in its own table"
    assert "the moon is full" in Texts(page, "th").found
    assert 'class="notices"' not in net().report("html").partition("<noscript>")[0]


# The tree


def by_path(data: dict[str, Any], of: str, key: str) -> dict[str, int]:
    """A column's figures by the modules' paths."""
    (column,) = (column for column in data["columns"] if column["key"] == key)
    found: list[str] = []
    for parent, name in zip(data["parent"], data["name"]):
        above = found[parent] if parent >= 0 else ""
        found.append(f"{above}.{name}" if above else name if parent >= 0 else data["path"])
    return {path: column["figures"][i][0] for path, i in zip(found, column[of])}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("flops", FLOPS | {"Net.unused": 0}),
        ("macs", MACS | {"Net.unused": 0}),
        ("params", PARAMS),
        ("calls", dict.fromkeys(FLOPS, 1) | {"Net.unused": 0}),
    ],
)
def test_the_tree_has_what_each_module_costs(key: str, expected: dict[str, int]) -> None:
    assert by_path(tree(net()), "total", key) == expected


def test_own_figures_add_up_to_the_total(profile: Profile) -> None:
    data = data_of(profile.report("html"))
    total = profile.total
    for key, whole in (("flops", total.flops), ("macs", total.macs), ("bytes", total.nbytes)):
        assert sum(by_path(data, "own", key).values()) == whole
        assert next(iter(by_path(data, "total", key).values())) == whole
    assert next(iter(by_path(data, "total", "params").values())) == profile.params


def test_totals_are_the_profile_s_by_module(profile: Profile) -> None:
    data = tree(profile)
    expected = {path: cost.flops for path, cost in profile.by_scope().items()}
    found = by_path(data, "total", "flops")
    assert {path: found[path] for path in found.keys() & expected.keys()} == {
        path: flops for path, flops in expected.items() if path in found
    }
    assert found.keys() - expected.keys() <= {"(outside of modules)"}
    assert expected.keys() - found.keys() <= {""}, "the block, where all ran in one module"


def test_types_that_weigh_have_colours_and_what_has_no_type_has_none() -> None:
    def run() -> None:
        big, small = torch.ones(1000), torch.ones(1)
        for _ in range(9):
            big * big
        nn.Linear(8, 8)(torch.ones(8, 8))
        nn.Tanh()(small)

    data = tree(counted(run))
    assert data["types"] == ["Linear", "Tanh", ""]
    assert data["coloured"] == 1, "a Tanh of one element is no hundredth of anything"


def test_a_number_is_written_once_exact_and_short() -> None:
    figures = {c["key"]: c["figures"] for c in tree(net())["columns"]}
    assert figures["flops"][0] == (810, "810", "810", "100.0%")
    assert figures["bytes"][0][1:3] == ("1,504", "1.504 kB")
    for known in figures.values():
        assert len({number for number, *_ in known}) == len(known)


# Groups of calls


def test_groups_have_the_profile_s_costs(profile: Profile) -> None:
    by_op = groups(profile, lambda row: name_of(profile.calls[row.call].overload))
    assert {group.name: group.cost for group in by_op} == {
        name_of(op): cost for op, cost in profile.by_op().items()
    }
    assert sum(group.calls for group in by_op) == sum(row.times for row in profile.rows)
    for other in (
        groups(profile, lambda row: row.phase),
        groups(profile, lambda row: profile.prices[row.call].family),
    ):
        assert sum((group.cost for group in other), Cost()) == profile.total


def test_calls_of_one_operator_that_differ_say_so() -> None:
    def run() -> None:
        torch.ones(2) * torch.ones(2)
        nn.Linear(2, 2)(torch.ones(1, 2))

    (found,) = groups(counted(run), lambda row: "all")
    assert set(found.family.split(", ")) >= {"pointwise", "matmul", "movement"}
    assert set(found.state.split(", ")) == {"counted", "zero"}
    assert found.scopes == ("", "Linear")


# Markup


@given(st.text(), st.text())
def test_text_never_becomes_markup(text: str, more: str) -> None:
    made = element("p", text, title=more)
    assert made.count("<") == made.count(">") == 2
    kept = text.replace("\r\n", "\n").replace("\r", "\n")
    assert [
        found.replace("\r\n", "\n").replace("\r", "\n") for found in Texts(made, "p").found
    ] == [kept]


def test_markup_is_kept_and_text_beside_it_is_escaped() -> None:
    assert joined(Markup("<b>"), "<b>") == "<b>&lt;b&gt;"
    assert element("td", "<b>", class_="number", data_value=3, id=None) == (
        '<td class="number" data-value="3">&lt;b&gt;</td>'
    )


@given(st.text())
def test_a_visible_name_can_be_seen_and_written(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    shown.encode()
    assert visible(shown) == shown
    assert shown == text or not text.isprintable()
