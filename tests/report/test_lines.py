"""Tables by operator, family, phase or dtype: what adds up, their order, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch import ArgumentError, Profile
from flopdispatch.report.lines import NAMES
from flopdispatch.report.records import records
from flopdispatch.report.roofline import lines as bounded
from flopdispatch.report.table import lines
from flopdispatch.units import duration, exact, si
from tests.programs import counted
from tests.report.pages import net
from tests.report.samples import SAMPLES
from tests.report.test_roofline_reports import FAST
from tests.test_roofline import MACHINE

each = pytest.mark.parametrize("profile", SAMPLES.values(), ids=list(SAMPLES))
kinds = pytest.mark.parametrize("by", list(NAMES)[1:])


def test_the_operators_of_a_net_worked_out_by_hand() -> None:
    # Of five rows: 4·8 + 8·4 + 4·2 MACs and biases of 8 + 4 + 2, a sum of 4; bytes as in TIMES.
    assert net().table(by="operators").split("\n\n")[0].split("\n") == [
        "Operator             Family       Calls    MACs    FLOPs    Share     Bytes",
        "-------------------  ---------  -------  ------  -------  -------  --------",
        "aten::addmm.default  matmul           3     360      790    97.5%     944 B",
        "aten::add.Tensor     pointwise        1       0       20     2.5%     240 B",
        "aten::relu.default   pointwise        1       0        0     0.0%     320 B",
        "aten::t.default      movement         3       0        0     0.0%       0 B",
        "-------------------  ---------  -------  ------  -------  -------  --------",
        "Total                                 8     360      810   100.0%  1.504 kB",
    ]


def test_their_times_come_with_the_longest_first() -> None:
    rows = bounded(net().roofline(FAST), by="operators")
    assert [(row[0], *row[-3:]) for row in rows] == [
        ("aten::addmm.default", "compute", "790.0 ns", "73.8%"),
        ("aten::relu.default", "memory", "160.0 ns", "15.0%"),
        ("aten::add.Tensor", "memory", "120.0 ns", "11.2%"),
        ("aten::t.default", "", "0", "0.0%"),
        ("Total", "compute 73.8%", "1.070 µs", "100.0%"),
    ]
    by_bytes = bounded(net().roofline(FAST), by="operators", sort="bytes")
    assert [row[0].split(".")[0] for row in by_bytes[:3]] == [
        "aten::addmm", "aten::relu", "aten::add",
    ]  # fmt: skip
    assert [row[0] for row in bounded(net().roofline(FAST), by="phases")] == ["forward", "Total"]


@each
@kinds
def test_the_lines_are_the_records(profile: Profile, by: str) -> None:
    *found, total = lines(profile, by=by)
    rows = records(profile, by).as_dicts()
    assert [row[0] for row in found] == [next(iter(row.values())) or "no tensors" for row in rows]
    assert [row[-5:-3] for row in found] == [[exact(r["calls"]), si(r["macs"])] for r in rows]
    assert total[-5] == exact(sum(row.times for row in profile.rows))
    assert sorted(row[0] for row in bounded(profile.roofline(MACHINE), by=by)) == sorted(
        row[0] for row in (*found, total)
    )


@kinds
@pytest.mark.parametrize("machine", [None, FAST])
def test_markdown_has_the_cells_of_the_table(by: str, machine: Any) -> None:
    text = net().report("markdown", by=by, hardware=machine).split("\n\n")[0].split("\n")[2:]
    shown = [[cell.strip().strip("`*") for cell in row.split("|")[1:-1]] for row in text]
    plain = lines(net(), by=by)
    assert shown == (plain if machine is None else bounded(net().roofline(machine), by=by))


def test_siblings_are_in_the_order_of_their_times() -> None:
    rows = bounded(net().roofline(FAST), sort="time")
    assert [row[0].lstrip("│├└─ ") for row in rows] == [
        "Net", "body", "0", "2", "1", "head", "unused", "Total",
    ]  # fmt: skip
    assert [row[-2] for row in rows[1:6]] == [
        duration(time * 1e-9) for time in (860, 360, 340, 160, 90)
    ]


def test_a_narrow_table_keeps_operators_apart() -> None:
    def run() -> None:
        x = torch.ones(2, 2, requires_grad=True)
        torch.nn.functional.gelu(torch.nn.functional.layer_norm(x, (2,))).sum().backward()

    profile = counted(run)
    head = profile.report("table", by="operators", width=80, hardware=MACHINE).split("\n\n")[0]
    assert max(map(len, head.split("\n"))) <= 80
    names = [line.split()[0] for line in head.split("\n")[2:]]
    assert {"native_l…backward", "native_layer_norm", "gelu_backward", "aten::gelu"} < set(names)
    assert len(set(names)) == len(records(profile, "operators").rows) + 2, "a rule, the total"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "calls"}, "by= takes one of modules, operators, families, phases, dtypes in a"),
        ({"by": "x"}, "in a table, got 'x'"),
        ({"by": "phases", "depth": 1}, "depth= is of the tree of modules: leave it out with by="),
        ({"by": "phases", "sort": "params"}, "one of flops, macs, bytes, name"),
    ],
)
@pytest.mark.parametrize("name", ["table", "markdown"])
@pytest.mark.parametrize("machine", [None, FAST])
def test_what_lines_do_not_have_is_refused(
    options: dict[str, Any], message: str, name: str, machine: Any
) -> None:
    with pytest.raises(ArgumentError, match=message):
        net().report(name, hardware=machine, **options)


@pytest.mark.parametrize("by", list(NAMES))
def test_an_order_by_time_needs_a_machine(by: str) -> None:
    with pytest.raises(ArgumentError, match="got 'time', which needs a machine: give hardware="):
        net().table(sort="time", by=by)
    with pytest.raises(ArgumentError, match="bytes, name, time or None, got 'x'"):
        net().roofline(FAST).table(sort="x", by=by)


def test_times_say_that_uncounted_operators_are_left_out() -> None:
    text = SAMPLES["uncounted"].roofline(FAST).table()
    assert "Times leave out 1 call of uncounted operators" in text
    assert "samples::twice.default x1" in text
    assert "Times leave out" not in net().roofline(FAST).table()
    assert "Times leave out 1 call" in SAMPLES["uncounted"].roofline(FAST).report("html")
