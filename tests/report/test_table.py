"""The table: golden files, columns that add up, names that are hostile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from flopdispatch import ArgumentError, Cost, FlopCounter, Profile, count, default_registry, spec
from flopdispatch.report.rows import display_rows
from flopdispatch.report.table import HEADERS, OUTSIDE
from tests.programs import counted

Golden = Callable[[str, str], None]
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(x)
        return out


class Toy(nn.Module):
    """Blocks in a list, a tied head, and a module that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.layers = nn.ModuleList(Block() for _ in range(12))
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.unused = nn.Linear(3, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(x)
        return out


def toy(backward: bool = False) -> Profile:
    return count(Toy(), spec(2, 4, dtype=torch.long), backward=backward)


def resnet50() -> Profile:
    with torch.device("meta"):
        model = torchvision.models.resnet50().eval()
    return count(model, (1, 3, 224, 224))


def test_the_toy_model(golden: Golden) -> None:
    golden("toy.txt", toy().table())


def test_the_toy_model_forward_and_backward(golden: Golden) -> None:
    golden("toy_training.txt", toy(backward=True).table())


def test_the_toy_model_sorted_and_cut(golden: Golden) -> None:
    golden("toy_sorted.txt", toy().table(depth=1, sort="params"))


def test_resnet50_at_depth_one(golden: Golden) -> None:
    golden("resnet50.txt", resnet50().table(depth=1))


def test_an_empty_block(golden: Golden) -> None:
    golden("empty.txt", counted(lambda: None).table())


def test_operators_without_a_module(golden: Golden) -> None:
    golden("outside.txt", counted(lambda: torch.ones(2, 2) @ torch.ones(2, 2)).table())


# Columns


def cells(line: str, starts: list[int]) -> list[str]:
    ends = [*starts[1:], None]
    return [line[start:end].strip() for start, end in zip(starts, ends)]


def printed(profile: Profile, **options: Any) -> Iterator[dict[str, str]]:
    """The table's rows as they are printed, cut at the rule below the headers."""
    lines = profile.table(**options).split("\n")
    starts = [match.start() for match in re.finditer(r"-+", lines[1])]
    assert cells(lines[0], starts) == list(HEADERS)
    for line in lines[2 : lines.index("")]:
        if not line.startswith("---"):
            yield dict(zip(HEADERS, cells(line, starts)))


def number(text: str) -> float:
    digits, _, unit = text.removesuffix("B").strip().partition(" ")
    return float(digits) * UNITS[unit.strip()]


@pytest.mark.parametrize("profile", [toy(), toy(backward=True), resnet50()], ids=["a", "b", "c"])
@pytest.mark.parametrize("column", ["MACs", "FLOPs", "Bytes"])
def test_a_column_of_top_rows_adds_up_to_the_total(profile: Profile, column: str) -> None:
    *rows, total = printed(profile, depth=0)
    assert total["Module"] == "Total"
    assert sum(number(row[column]) for row in rows) == pytest.approx(
        number(total[column]), rel=1e-3
    )
    exact = {"MACs": profile.macs, "FLOPs": profile.flops, "Bytes": profile.total.nbytes}
    assert number(total[column]) == pytest.approx(exact[column], rel=5e-4)


@pytest.mark.parametrize("profile", [toy(), toy(backward=True), resnet50()], ids=["a", "b", "c"])
def test_top_rows_and_what_is_outside_are_the_total(profile: Profile) -> None:
    rows = display_rows(profile.root)
    assert sum((row.cost for row in rows), profile.root.own) == profile.total


def test_shares_are_of_all_flops() -> None:
    rows = {row["Module"]: row for row in printed(toy())}
    total = number(rows["Total"]["FLOPs"])
    for row in rows.values():
        if row["Share"]:
            share = number(row["FLOPs"]) / total
            assert float(row["Share"].rstrip("%")) == pytest.approx(100 * share, abs=0.1)


def test_the_toy_models_rows_by_hand() -> None:
    rows = {row["Module"].lstrip("│├└─ "): row for row in printed(toy())}
    # 8 tokens; a block is 2·8·16 MACs a token and 2·8·16 + 16 + 8 parameters
    assert rows["layers.0-11 ×12"]["Params"] == "3.360 k"
    assert rows["layers.0-11 ×12"]["MACs"] == "24.58 k"
    assert rows["head"]["MACs"] == "640"
    assert rows["unused"]["MACs"] == "not called"
    assert rows["unused"]["FLOPs"] == rows["unused"]["Bytes"] == ""
    assert rows["Total"]["Params"] == "3.452 k", "80 tied, 12 blocks of 280, 12 unused"


def test_the_rows_outside_of_modules_are_there_only_if_something_ran_there() -> None:
    assert OUTSIDE not in [row["Module"] for row in printed(toy())]
    assert OUTSIDE in [row["Module"] for row in printed(toy(backward=True))]


# Footer


def footer(profile: Profile) -> dict[str, str]:
    lines = profile.table().split("\n\n", 1)[1].split("\n")
    return dict(line.split(": ", 1) for line in lines)


def test_the_footer_has_exact_totals_and_the_convention() -> None:
    found = footer(toy())
    assert found["Total"].startswith("3,452 parameters, 25,216 MACs, ")
    assert found["Convention"].startswith("flopdispatch (")
    assert found["Uncounted"] == "none"
    assert "50,432" in next(value for name, value in found.items() if name.startswith("2 x MACs"))
    assert "Phases" not in found, "there is one phase only"


def test_phases_are_shown_when_there_are_several() -> None:
    profile = toy(backward=True)
    forward, backward = footer(profile)["Phases"].split(", ")
    parts = profile.by_phase()
    for text, name in ((forward, "forward"), (backward, "backward")):
        assert text.startswith(f"{name} ")
        share = 100 * parts[name].flops / profile.flops
        assert text.endswith(f"FLOPs ({share:.1f}%)")


@pytest.mark.filterwarnings("ignore::flopdispatch.UncountedOperatorWarning")
def test_uncounted_operators_are_named_with_their_calls() -> None:
    with torch.library._scoped_library("table_test", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")

        def run() -> None:
            for _ in range(2):
                torch.ops.table_test.twice(torch.ones(2))

        assert footer(counted(run))["Uncounted"] == "table_test::twice.default x2"


def test_estimates_and_assumptions_are_listed() -> None:
    rules = default_registry().overlay("mine", "a guess")
    rules.formula(torch.ops.aten.mm.default, estimate="half", override=True)(lambda: Cost(macs=1))
    with FlopCounter(display=False, convention=rules) as counter:
        torch.ones(2, 2) @ torch.ones(2, 2)
        counter._recording.assume("the moon is full")
    found = footer(counter.profile)
    assert found["Estimated"] == "aten::mm.default x1"
    assert found["Assumed"] == "the moon is full"
    assert found["Convention"] == "mine (a guess)"


# Arguments and names


@pytest.mark.parametrize("depth", [-1, 1.5, True, "all"])
def test_a_bad_depth_is_refused(depth: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        toy().table(depth=depth)
    assert str(caught.value) == f"depth= takes an integer >= 0 or None, got {depth!r}"


@pytest.mark.parametrize("width", [0, -1, 80.0, True, "80"])
def test_a_bad_width_is_refused(width: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        toy().table(width=width)
    assert str(caught.value) == f"width= takes an integer >= 1 or None, got {width!r}"


@pytest.mark.parametrize("sort", ["flop", 3, ""])
def test_a_bad_order_is_refused(sort: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        toy().table(sort=sort)
    assert str(caught.value) == (
        f"sort= takes one of flops, macs, params, bytes, name or None, got {sort!r}"
    )


@pytest.mark.parametrize("sort", ["flops", "macs", "params", "bytes", "name"])
def test_an_order_shows_the_same_rows(sort: str) -> None:
    def bare(options: dict[str, Any]) -> list[str]:
        return sorted(row["Module"].lstrip("│├└─ ") for row in printed(toy(), **options))

    assert bare({"sort": sort}) == bare({})


def test_str_is_the_default_table() -> None:
    profile = toy()
    assert str(profile) == profile.table() == profile.table(depth=None, sort=None)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a name of words", "a name of words"),
        ("  spaces around  ", "spaces around"),
        ("x" * 300, "x" * 300),
        ("line\nbreak", r"line\nbreak"),
        ("tab\tstop", r"tab\tstop"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("|pipe|", "|pipe|"),
        ("<b>&amp;", "<b>&amp;"),
        ("%s {0} \\", "%s {0} \\"),
        ("9" * 30, "9" * 30),
        ("1e5", "1e5"),
        ("None", "None"),
    ],
)
def test_a_name_can_be_anything_and_stays_on_its_line(name: str, shown: str) -> None:
    model = nn.Sequential()
    model.add_module(name, nn.Linear(2, 2))
    rows = list(printed(count(model, (1, 2))))
    assert [row["Module"].lstrip("└─").strip() for row in rows] == ["Sequential", shown, "Total"]
    assert [row["MACs"] for row in rows] == ["4", "4", "4"]


def test_a_module_with_several_names_shows_them() -> None:
    layer = nn.Linear(2, 2)
    rows = list(printed(count(nn.Sequential(layer, layer, *[layer] * 3), (1, 2))))
    assert [row["Module"] for row in rows] == [
        "Sequential", "└─ 0 (also 1, 2, 3 and 1 more)", "Total",
    ]  # fmt: skip


def test_a_wide_name_stays_on_its_line() -> None:
    model = nn.Sequential()
    model.add_module("日本語の層", nn.Linear(2, 2))
    (line,) = (text for text in str(count(model, (1, 2))).split("\n") if "日本語の層" in text)
    assert line.split() == ["└─", "日本語の層", "Linear", "6", "4", "10", "100.0%", "40", "B"]


def test_a_phase_of_few_operations_is_written_with_its_unit_apart() -> None:
    x = torch.ones(3, requires_grad=True)
    with FlopCounter(display=False) as counter:
        (x * x).sum().backward()
    # 3 products and 2 sums; two products for each gradient, and their sum.
    assert "Phases: backward 9 FLOPs (64.3%), other 5 FLOPs (35.7%)" in str(counter.profile)
