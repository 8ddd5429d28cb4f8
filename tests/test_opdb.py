"""A part of PyTorch's databases under the counter; `python -m benchmarks.opdb` runs them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flopdispatch import Cost, FlopCounter, Profile, Registry, default_registry
from tests.versions import needs_torch

pytest.importorskip("expecttest", reason="torch's own tests, the databases' home, need it")

from benchmarks import opdb, opdb_exemptions, opdb_runs
from benchmarks.opdb_runs import (
    BY_DEVICE,
    BY_MODE,
    BY_VARIANT,
    BYTES,
    FORMULA,
    RESULT,
    Tally,
    check_profile,
    compare,
    compare_devices,
    compare_modes,
    compare_variants,
    run_entry,
)
from benchmarks.opdb_samples import (
    CPU,
    GRAD,
    INFERENCE,
    META,
    MODULE,
    NO_GRAD,
    OPERATOR,
    OPTIMIZER,
    OUT,
    Case,
    cases,
    entries,
)
from benchmarks.opdb_seen import bare, bits, contents

PARTS = {OPERATOR: 20, MODULE: 6, OPTIMIZER: 3}  # of each database; each gives its middle entry
SAMPLES = 2  # of each of them, in each dtype


def middles() -> list[str]:
    """The entries in the middle of each part."""
    chosen = []
    for kind, parts in PARTS.items():
        names = [name for name in entries() if name.startswith(kind)]
        chosen += [names[len(names) * (2 * part + 1) // (2 * parts)] for part in range(parts)]
    return chosen


@pytest.mark.parametrize("part", range(sum(PARTS.values())))
def test_an_entry_runs_alike_and_is_counted_whole(part: int) -> None:
    tally = run_entry(middles()[part], SAMPLES)
    assert tally.wrong == {}
    assert tally.uncounted == {}
    assert tally.cases > 0
    assert tally.runs.total() > tally.raised.total()
    assert tally.forwards > 0


def case_of(call: Callable[[torch.Tensor], Any]) -> Case:
    """A program on one tensor, in grad mode."""

    def make(device: torch.device) -> torch.Tensor:
        return torch.arange(6.0).reshape(2, 3).to(device).requires_grad_()

    return Case("operator mine", "operator mine #0", {GRAD: (make, call)})


CHANGES: dict[str, Callable[[torch.Tensor], Any]] = {
    "values": lambda x: x * 3,
    "the last bit": lambda x: x * (2 + 2**-22),
    "strides": lambda x: (x * 2).t().contiguous().t(),
    "dtype": lambda x: (x * 2).double(),
    "a view": lambda x: (x * 2)[:],
    "the graph": lambda x: x + x,
    "an error": lambda x: x.view(5),
    "a warning": lambda x: (x * 2, torch.empty(3).resize_(2), x.T.mT.sum(3))[0],
    "a random number drawn": lambda x: (x * 2, torch.rand(()))[0],
    "a gradient": lambda x: (x * 2, x.sum().backward())[0],
}


def differing(change: str, monkeypatch: pytest.MonkeyPatch, in_any_mode: bool = False) -> Tally:
    """What is told if the counter, or any mode, made a program do something else."""
    case, other = case_of(lambda x: x * 2), case_of(CHANGES[change])
    monkeypatch.setattr(opdb_runs, "counted", lambda _, *where: bare(other, *where))
    if in_any_mode:
        monkeypatch.setattr(opdb_runs, "in_any_mode", lambda _, *where: bare(other, *where))
    tally = Tally(case.entry)
    compare(case, CPU, GRAD, tally)
    return tally


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_by_the_counter_is_wrong(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = differing(change, monkeypatch)
    assert len(tally.wrong[RESULT]) == 1
    assert (tally.equal, tally.exempted) == (0, {})


@pytest.mark.parametrize("change", ["values", "strides", "dtype", "an error", "a gradient"])
def test_what_is_not_listed_is_wrong_in_any_mode_too(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(differing(change, monkeypatch, in_any_mode=True).wrong[RESULT]) == 1


def test_rounding_is_exempt_where_any_mode_rounds_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = differing("the last bit", monkeypatch, in_any_mode=True)
    assert tally.wrong == {}
    assert tally.exempted == {"rounding": 1}


def test_no_change_is_equal() -> None:
    tally = Tally("operator mine")
    compare(case_of(lambda x: x * 2), CPU, GRAD, tally)
    assert (tally.wrong, tally.exempted, tally.equal) == ({}, {}, 1)


def profile_of(program: Callable[[], Any]) -> Profile:
    """What a program costs."""
    with FlopCounter(display=False) as counter:
        program()
    return counter.profile


ONE = torch.ones(4)
COPIED = profile_of(lambda: (ONE * 2, ONE.clone()))
FLIPPED = profile_of(lambda: (ONE * 2, ONE[:2].flip(0)))
DOUBLED = profile_of(lambda: ONE * 2)
ADDED = profile_of(lambda: ONE * 2 + ONE)


@pytest.mark.parametrize(
    ("grad", "no_grad", "inference", "wrong", "copies"),
    [
        (DOUBLED, DOUBLED, DOUBLED, None, 0),
        (ADDED, DOUBLED, DOUBLED, BY_MODE, 0),
        (DOUBLED, DOUBLED, ADDED, BY_MODE, 0),
        (FLIPPED, DOUBLED, DOUBLED, BYTES, 0),
        (COPIED, DOUBLED, DOUBLED, None, 1),
        (COPIED, COPIED, DOUBLED, BYTES, 0),  # the copies that autograd saves are in grad mode
    ],
)
def test_costs_are_compared_between_grad_modes(
    grad: Profile, no_grad: Profile, inference: Profile, wrong: str | None, copies: int
) -> None:
    tally = Tally("operator mine")
    found = {GRAD: grad, NO_GRAD: no_grad, INFERENCE: inference}
    compare_modes(case_of(torch.abs), CPU, found, tally)
    assert list(tally.wrong) == ([] if wrong is None else [wrong])
    assert tally.exempted["SAVED_COPIES"] == copies


def test_operations_are_compared_between_devices_and_with_variants() -> None:
    tally, case = Tally("operator mine"), case_of(torch.abs)
    compare_devices(case, {CPU: {NO_GRAD: ADDED}, META: {NO_GRAD: DOUBLED}}, tally)
    compare_variants(case, CPU, {NO_GRAD: ADDED, OUT: DOUBLED}, tally)
    assert list(tally.wrong) == [BY_DEVICE, BY_VARIANT]


def test_uncounted_calls_and_formulas_that_fail_are_told() -> None:
    tally, case = Tally("operator mine"), case_of(torch.abs)
    mul, add = torch.ops.aten.mul.Tensor, torch.ops.aten.add.Tensor
    check_profile(case, ADDED.reprice(Registry("nothing")), tally)
    assert tally.uncounted == {"aten::mul.Tensor": 1, "aten::add.Tensor": 1}
    assert tally.wrong == {}
    rules = default_registry().overlay("wrong")
    rules.formula(mul, override=True)(lambda: Cost(muls=-1))
    rules.formula(add, override=True)(lambda: Cost(adds=1 // 0))
    check_profile(case, ADDED.reprice(rules), tally)
    assert sorted("negative" if "is -1" in text else "raised" for text in tally.wrong[FORMULA]) == [
        "negative", "raised",
    ]  # fmt: skip


def test_a_case_makes_the_same_inputs_each_time() -> None:
    for entry in ("operator mul", "module nn.Linear", "optimizer Adam"):
        case = next(iter(cases(entry, 1)))
        make, _ = case.ways[GRAD]
        one, other = ([bits(t) for t in contents(make(CPU))] for _ in range(2))
        assert len(one) > 0
        assert one == other
        assert list(contents(make(META))) == []


@needs_torch(2, 15, "its databases lack some of these entries")
def test_each_exemption_is_of_an_entry_and_has_a_reason() -> None:
    known = set(entries())
    for name in opdb.TABLES:
        table = getattr(opdb_exemptions, name)
        assert table.keys() <= known, name
        assert all(len(reason) > 5 for reason in table.values())


def test_the_report_adds_up() -> None:
    one = Tally("operator abs", cases=2, calls=7, equal=3)
    one.runs.update({"cpu grad": 3, "meta grad": 2})
    one.raised["cpu grad"] = 1
    one.exempted["version"] = 1
    one.find(RESULT, "something")
    other = Tally("module nn.Linear", cases=1, calls=5, equal=4)
    other.runs["cpu grad"] = 4
    other.uncounted["aten::abs"] = 6
    lines = list(opdb.report([one, other]))
    rows = {line.split()[0]: line.split()[1:] for line in reversed(lines) if line}  # the first
    assert rows["operator"] == ["1", "2", "5", "1", "3", "1", "1"]
    assert rows["module"] == ["1", "1", "4", "0", "4", "0", "0"]
    assert rows["all"] == ["2", "3", "9", "1", "7", "1", "1"]
    assert rows["aten::abs"] == ["6", "module", "nn.Linear"]
    assert opdb.failed([one])
    assert opdb.failed([other])
    assert not opdb.failed([Tally("operator abs")])
