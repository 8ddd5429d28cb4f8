"""torchstat's table beside ours: its rows, as recorded, its columns and footer, and any model."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch import ArgumentError, UncountedOperatorWarning, default_registry
from flopdispatch.compat.torchstat import Table, stat
from flopdispatch.compat.torchstat_table import Row, scaled
from flopdispatch.conventions import convention

REFERENCE = Path(__file__).parents[1] / "reference" / "torchstat.csv"


def recorded() -> Iterator[dict[str, str]]:
    with REFERENCE.open() as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def quiet(model: nn.Module, given: Any, granularity: int = 1, **options: Any) -> Table:
    return stat(model, given, granularity, display=False, **options)


def names(table: Table) -> list[str]:
    return [row.name for row in table.rows]


# The tool's own table


def text_of(row: Row) -> list[str]:
    """A row as the recorded table has it."""
    shapes = [" ".join(map(str, shape)) for shape in (row.input_shape, row.output_shape)]
    counts = [str(n) for n in (row.madd, row.flops, row.mem_read, row.mem_write)]
    return [row.name, *shapes, str(row.params), f"{row.memory / 2**20:.6f}", *counts]


@pytest.mark.parametrize(
    ("name", "granularity"),
    [("squeezenet1_1", 1), ("mobilenet_v2", 2), ("mobilenet_v2", 3), ("mobilenet_v2", 5)],
)
def test_rows_are_torchstats(name: str, granularity: int) -> None:
    """Names, shapes and figures of each row, at each granularity."""
    theirs = [
        list(row.values())[3:12]
        for row in recorded()
        if (row["model"], row["size"]) == (name, "64") and row["granularity"] == str(granularity)
    ]
    table = quiet(torchvision.models.get_model(name), (3, 64, 64), granularity)
    ours = [text_of(row) for row in table.rows]
    if granularity > 1:  # its memory of groups isn't recorded
        ours = [[*row[:-2], "", ""] for row in ours]
    assert ours == theirs[:-1]
    total = text_of(table.total)
    assert total[3:4] + total[5:7] == theirs[-1][3:4] + theirs[-1][5:7]


# What AlexNet at 224 prints as its footer with torchstat.
FOOTER = """\
Total params: 61,100,840
---
Total memory: 4.19MB
Total MAdd: 1.43GMAdd
Total Flops: 715.54MFlops
Total MemR+W: 241.86MB
"""


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    table = stat(torchvision.models.alexnet(), (3, 224, 224))
    printed = capsys.readouterr().out
    assert printed == f"{table}\n"
    missing, lines = [], printed.splitlines()
    while lines[0].startswith("["):
        missing.append(lines.pop(0))
    assert missing == [
        f"[{column}]: aten::_adaptive_avg_pool2d.default is not supported!"
        for column in ("MAdd", "Flops", "Memory")
    ]
    header = "module name|input shape|output shape|params|memory(MB)|MAdd|Flops|MemRead(B)"
    assert re.split(r"\s{2,}", lines[0].strip()) == [
        *header.split("|"), "MemWrite(B)", "duration[%]", "MemR+W(B)",
    ]  # fmt: skip
    row = lines[9].split()
    assert row[:2] == ["8", "features.8"]
    assert row[2:8] == ["384", "13", "13", "256", "13", "13"]
    assert row[8:14] == ["884992", "0.17", "299,040,768", "149,563,648", "3799552", "173056"]
    assert re.fullmatch(r"\d+\.\d\d%", row[14])
    assert row[15] == "3972608"
    total = lines[22].split()
    assert total[:7] == [
        "total", "61100840", "4.19", "1,429,567,512", "715,543,488", "249304224", "4302752",
    ]  # fmt: skip
    assert total[7:] == ["100.00%", "253606976"]
    assert lines[23] == "=" * len(lines[0])
    assert lines[25] == "-" * len(lines[0])
    assert "\n".join(lines[24:]).replace(lines[25], "---") == FOOTER
    assert lines[0].endswith("MemR+W(B)")
    assert len({len(line) for line in lines[:23]}) == 1


def test_the_total_row_adds_up_what_is_above_it() -> None:
    """torchstat's has the last layer's bytes."""
    table = quiet(torchvision.models.squeezenet1_1(), (3, 64, 64))
    for name in ("params", "memory", "madd", "flops", "mem_read", "mem_write", "mem_total"):
        assert getattr(table.total, name) == sum(getattr(row, name) for row in table.rows)
    assert table.total.share == pytest.approx(1)
    assert all(row.seconds > 0 and row.share > 0 for row in table.rows)
    assert table.total.seconds == pytest.approx(sum(row.seconds for row in table.rows))


def test_totals_are_the_same_at_each_granularity() -> None:
    model = torchvision.models.resnet18()
    tables = [quiet(model, (3, 32, 32), granularity) for granularity in range(1, 6)]
    for name in ("params", "memory", "madd", "flops", "mem_total"):
        assert len({getattr(table.total, name) for table in tables}) == 1
    assert names(tables[-1]) == ["root"]
    assert names(tables[2])[:6] == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2.0"]
    root = tables[-1].rows[0]
    assert (root.input_shape, root.output_shape) == ((3, 32, 32), (1000,))
    assert root.params == tables[-1].total.params == 11_689_512


def test_rows_as_dicts() -> None:
    table = quiet(nn.Sequential(nn.Linear(4, 2)), (4,))
    (row,) = table.to_dicts()
    assert row.pop("duration[%]") == 1.0
    assert row == {
        "module name": "0", "input shape": (4,), "output shape": (2,), "params": 10,
        "memory(MB)": 8 / 2**20, "MAdd": 14, "Flops": 8, "MemRead(B)": 56, "MemWrite(B)": 8,
        "MemR+W(B)": 64,
    }  # fmt: skip
    assert list(table.to_dicts()[0]) == [
        "module name", "input shape", "output shape", "params", "memory(MB)", "MAdd", "Flops",
        "MemRead(B)", "MemWrite(B)", "duration[%]", "MemR+W(B)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "base", "text"),
    [
        (999, 1000, "999"),
        (1000, 1000, "1.0K"),
        (1_429_567_512, 1000, "1.43G"),
        (999_999, 1000, "1000.0K"),
        (2_500_000_000_000, 1000, "2.5T"),
        (1023, 1024, "1023"),
        (253_606_976, 1024, "241.86M"),
    ],
)
def test_footers_are_rounded_as_torchstat_does(number: int, base: int, text: str) -> None:
    assert scaled(number, base) == text


# What torchstat doesn't see


def test_functional_calls_and_bare_parameters_have_their_modules_row() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return functional.relu(self.linear(x))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.drop = nn.Dropout()
            self.weight = nn.Parameter(torch.ones(5, 2))

        def forward(self, x: Tensor) -> Any:
            return self.drop(self.inner(x)) @ self.weight

    table = quiet(Outer(), (3,))
    found = [(r.name, r.params, r.flops, r.madd, r.input_shape, r.output_shape) for r in table.rows]
    assert found == [
        ("inner.linear", 15, 15, 5 * 5, (3,), (5,)),
        ("inner", 0, 5, 5, (3,), (5,)),
        ("drop", 0, 0, 0, (5,), (5,)),
        ("root", 10, 10, 2 * 9, (3,), (2,)),
    ]
    assert [row.memory for row in table.rows] == [20, 20, 20, 8]
    grouped = quiet(Outer(), (3,), 2)
    assert [(row.name, row.flops) for row in grouped.rows] == [
        ("inner", 20), ("drop", 0), ("root", 10),
    ]  # fmt: skip
    (whole,) = quiet(Outer(), (3,), 3).rows
    assert (whole.name, whole.params, whole.flops, whole.memory) == ("root", 25, 30, 68)


def test_a_module_that_is_called_again_counts_again() -> None:
    """torchstat has the last call's figures only."""
    relu = nn.ReLU()
    table = quiet(nn.Sequential(relu, nn.Flatten(), relu), (2, 3))
    assert [(row.name, row.flops, row.memory) for row in table.rows] == [
        ("0", 12, 48),
        ("1", 0, 24),
    ]


def test_a_module_with_two_parents_has_a_row_where_it_is_called() -> None:
    shared = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared, nn.ReLU()))
    table = quiet(model, (3,))
    assert [(row.name, row.flops, row.params) for row in table.rows] == [
        ("0.0", 9, 9), ("1.0", 9, 9), ("1.1", 3, 0),
    ]  # fmt: skip
    assert table.total.params == 9


def test_modules_that_are_not_called() -> None:
    """They have their parameters, and the shapes that torchstat shows of them."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)
            self.params = nn.ParameterList([torch.ones(3)])
            self.many = nn.ModuleList([nn.ReLU()])

        def forward(self, x: Tensor) -> Any:
            return self.many[0](self.used(x))

    table = quiet(Half(), (2,))
    assert [(row.name, row.params, row.flops) for row in table.rows] == [
        ("used", 6, 4), ("unused", 6, 0), ("params", 3, 0), ("many.0", 0, 2),
    ]  # fmt: skip
    assert table.rows[1].input_shape == table.rows[1].output_shape == (0, 0, 0)
    assert str(table).count("  0   0   0") == 4
    grouped = quiet(Half(), (2,), 2)
    assert names(grouped) == ["used", "unused", "params", "many"]
    assert grouped.rows[3].input_shape == (2,)  # a list is never called: its first layer's


def test_a_layer_by_itself() -> None:
    (row,) = quiet(nn.Linear(4, 2), (4,)).rows
    assert (row.name, row.params, row.flops) == ("root", 10, 8)


def test_frozen_parameters_are_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 2).requires_grad_(False))
    table = quiet(model, (4,))
    assert (table.total.params, table.total.mem_read) == (10, 4 * (4 + 10))
    assert not any(p.requires_grad for p in model.parameters())


def test_unregistered_modules_are_seen() -> None:
    class Hides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ReLU()
            self.hidden = [nn.Linear(2, 2, bias=False)]

        def forward(self, x: Tensor) -> Any:
            return self.hidden[0](self.first(x))

    table = quiet(Hides(), (2,))
    assert [(row.name, row.flops) for row in table.rows] == [("first", 2), ("Linear", 4)]


def test_operators_without_a_figure_are_said() -> None:
    """Once each, with the column that lacks it; what computes nothing isn't said."""
    model = nn.Sequential(
        nn.PReLU(), nn.GELU(), nn.Softmax(1), nn.GELU(), nn.Flatten(), nn.Dropout()
    )
    table = quiet(model, (2, 3))
    assert table.unsupported == (
        ("MAdd", "aten::_prelu_kernel.default"),
        ("MAdd", "aten::gelu.default"),
        ("Flops", "aten::gelu.default"),
        ("Memory", "aten::gelu.default"),
        ("Flops", "aten::_softmax.default"),
    )
    assert str(table).startswith("[MAdd]: aten::_prelu_kernel.default is not supported!\n")
    assert not quiet(model, (2, 3), convention="flopdispatch").unsupported


@torch.library.custom_op("flopdispatch_tests::unheard_of", mutates_args=())
def unheard_of(x: Tensor) -> Tensor:
    """An operator that nobody has a formula for."""
    return x.clone()


def test_an_operator_without_a_formula_is_warned_of_and_said() -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return unheard_of(x)

    with pytest.warns(UncountedOperatorWarning, match="unheard_of"):
        table = quiet(Calls(), (2,))
    assert ("Flops", "flopdispatch_tests::unheard_of.default") in table.unsupported


def test_other_conventions() -> None:
    """Flops are MACs and MAdd FLOPs: 4 outputs of 9·2 MACs, a bias each, a comparison each."""
    model = nn.Sequential(nn.Conv2d(2, 1, 3), nn.ReLU())
    found = {
        name: [(row.flops, row.madd) for row in quiet(model, (2, 4, 4), convention=name).rows]
        for name in ("torchstat", "flopdispatch", "torch", "thop")
    }
    assert found == {
        "torchstat": [(76, 144), (4, 4)],
        "flopdispatch": [(72, 148), (0, 0)],
        "torch": [(72, 144), (0, 0)],
        "thop": [(72, 144), (0, 0)],
    }
    mine = convention("torchstat").overlay("mine")
    assert [r.madd for r in quiet(model, (2, 4, 4), convention=mine).rows] == [144, 4]
    with pytest.raises(ArgumentError, match="convention= takes"):
        quiet(model, (2, 4, 4), convention="nobodys")
    assert default_registry().name == "flopdispatch"
