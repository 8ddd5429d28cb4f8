"""The benchmarks measure what they say; how long anything takes is not tested."""

from __future__ import annotations

import json
import platform
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flopdispatch
from benchmarks import growth, speed
from benchmarks import ways as ways_module
from benchmarks.floor import Replay, allocation, is_functional, note, noted, replay
from benchmarks.goals import Goal, GrowthGoal, growth_verdicts, verdicts
from benchmarks.machine import machine
from benchmarks.page import page
from benchmarks.programs import BACKWARD, FORWARD, Row, Work, encoder_step, forward
from benchmarks.ratios import Ratio, spread
from benchmarks.turns import WARM_UP, turns
from benchmarks.ways import COLD, FLOOR, NOOP, TORCH, UNCOUNTED, WARM, ways

ROUNDS = 3


def tiny(device: str) -> Work:
    """A perceptron's forward."""
    with torch.device(device):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        return forward(model, torch.ones(3, 4))


def breaks(model: Any, x: Any) -> int:
    """A peer that can't."""
    raise OSError("no such thing\nand more of it")


def missing(model: Any, x: Any) -> int:
    """A peer that isn't there."""
    raise ModuleNotFoundError("No module named 'missing'")


def only_real(model: Any, x: Any) -> int:
    """A peer that needs values."""
    return int(x.sum().item())


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Leave the filters of warnings and the number of threads as they were."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def record() -> Any:
    """The measurements of one tiny program on meta and one on the CPU, through JSON."""
    rows = (
        Row("tiny", FORWARD, "meta", ROUNDS, tiny, "cpu"),
        Row("tiny on the CPU", FORWARD, "cpu", ROUNDS, tiny),
    )
    peers = {"fvcore": breaks, "thop": missing, "ptflops": only_real}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways_module, "PEERS", peers)
        return json.loads(json.dumps(speed.measure(rows, growing=False)))


def cells(text: str, column: str, row: str) -> str:
    """A cell of the first table that has such a column and row."""
    headers: list[str] = []
    for line in text.splitlines():
        values = [value.strip() for value in line.strip("|").split("|")]
        if not line.startswith("|"):
            headers = []
        elif not headers:
            headers = values
        elif column in headers and values[0] == row:
            return values[headers.index(column)]
    raise LookupError(f"no {row} under {column}")


@pytest.mark.parametrize("way", [NOOP, TORCH, COLD, WARM, FLOOR, "ptflops"])
def test_the_table_is_what_the_json_says(record: Any, way: str) -> None:
    seconds = record["rows"]["tiny"]["seconds"]
    ratios = [a / b for a, b in zip(seconds[way], seconds[UNCOUNTED])]
    shown = re.split(r" \(| to |\)", cells(page(record), way, "tiny (meta)"))
    assert len(ratios) == ROUNDS
    low, middle, high = sorted(ratios)  # of three, the quartiles are halfway between
    expected = [middle, (low + middle) / 2, (middle + high) / 2]
    assert [float(text) for text in shown[:3]] == pytest.approx(expected, rel=5e-3, abs=6e-4)


def test_a_way_that_is_absent_is_a_dash_and_a_reason(record: Any) -> None:
    text = page(record)
    for way, row, reason in (
        ("fvcore", "tiny (meta)", "OSError; no such thing"),
        ("thop", "tiny (meta)", "is not installed"),
        (FLOOR, "tiny on the CPU (cpu)", "answers for kernels on meta only"),
    ):
        cell = cells(text, way, row)
        assert cell.startswith("– [")
        assert f"{cell.removeprefix('– ')} {reason}  \n" in text


def test_a_peer_that_fails_on_meta_is_timed_elsewhere_and_says_so(record: Any) -> None:
    assert record["rows"]["tiny"]["elsewhere"] == {"ptflops": "cpu"}
    assert record["rows"]["tiny on the CPU"]["elsewhere"] == {}
    mark = cells(page(record), "ptflops", "tiny (meta)").rpartition(" ")[2]
    assert f"{mark} on cpu, since it fails on meta" in page(record)


def test_the_figures_are_those_of_the_program(record: Any) -> None:
    products = 2 * (3 * 4 * 4 + 3 * 4 * 2)
    biases = 3 * 4 + 3 * 2
    for row in record["rows"].values():
        assert row["figures"][TORCH] == [products]
        assert row["figures"][COLD] == row["figures"][WARM] == [products + biases]


def test_a_figure_that_changes_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter(range(100))
    monkeypatch.setattr(ways_module, "under_ours", lambda program: next(figures))
    monkeypatch.setattr(ways_module, "PEERS", {})
    with pytest.raises(ValueError, match="tiny: cold"):
        speed.measured_row(Row("tiny", FORWARD, "meta", ROUNDS, tiny))


def test_only_a_cold_turn_clears_the_cache_and_each_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(ways_module, "clear_cache", lambda: seen.append("clear"))
    monkeypatch.setattr(ways_module, "PEERS", {})
    found, _ = ways(Row("tiny", FORWARD, "meta", ROUNDS, tiny))

    def watched(name: str, way: ways_module.Way) -> ways_module.Way:
        def run() -> Any:
            seen.append(name)
            return way.run()

        return ways_module.Way(run, way.prepare)

    turns({name: watched(name, way) for name, way in found.items()}, ROUNDS)
    assert seen.count(COLD) == seen.count(WARM) == ROUNDS + WARM_UP
    before = ["clear" if i and seen[i - 1] == "clear" else "" for i in range(len(seen))]
    assert {name for name, first in zip(seen, before) if first} == {COLD}
    assert seen.count("clear") == seen.count(COLD)


OURS = str(Path(flopdispatch.__file__).parent)
KERNELS = ("_meta_registrations.py", "_refs/__init__.py", "_prims/__init__.py")


def functions_called(way: ways_module.Way) -> Counter[str]:
    """How many functions of ours and of torch's Python kernels a turn of a way calls, by file."""
    way.prepare()
    calls: Counter[str] = Counter()

    def watch(frame: Any, event: str, value: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and (file.startswith(OURS) or file.endswith(KERNELS)):
            calls[file] += 1

    sys.setprofile(watch)
    try:
        way.run()
    finally:
        sys.setprofile(None)
    return calls


def kernels_run(calls: Counter[str]) -> int:
    """How many of them are torch's."""
    return sum(number for file, number in calls.items() if file.endswith(KERNELS))


def test_a_cold_turn_begins_anew_and_a_warm_one_knows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_module, "PEERS", {})
    found, _ = ways(Row("tiny", FORWARD, "meta", ROUNDS, tiny))
    functions_called(found[COLD])  # what happens once in a process
    cold, warm, again, still = (functions_called(found[w]) for w in (COLD, WARM, COLD, WARM))
    assert cold == again
    assert warm == still
    assert cold.total() > warm.total()
    assert kernels_run(functions_called(found[UNCOUNTED])) > 0
    assert kernels_run(warm) == kernels_run(functions_called(found[FLOOR])) == 0


def test_every_way_runs_once_in_each_round_and_each_goes_first() -> None:
    seen: list[str] = []

    def run(name: str) -> Callable[[], None]:
        return lambda: seen.append(name)

    rounds = 6
    seconds, _ = turns({name: ways_module.Way(run(name)) for name in "abc"}, rounds)
    in_rounds = ["".join(seen[i : i + 3]) for i in range(0, len(seen), 3)]
    assert {"".join(sorted(turn)) for turn in in_rounds} == {"abc"}
    assert {turn[0] for turn in in_rounds} == set("abc")
    assert {name: len(those) for name, those in seconds.items()} == dict.fromkeys("abc", rounds)


class Checked(Replay):
    """The floor, which compares each result that it makes with the real one."""

    compared = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = super().__torch_dispatch__(func, types, args, kwargs)
        if is_functional(func):
            real = func(*args, **(kwargs or {}))
            assert type(made) is type(real)
            assert metadata(made) == metadata(real), func
            Checked.compared += 1
        return made


def metadata(out: Any) -> list[Any]:
    """Shape, strides and dtype of each result."""
    results = out if isinstance(out, list | tuple) else [out]
    return [(x.shape, x.stride(), x.dtype, x.device) for x in results]


def several_results(device: str) -> Work:
    """Operators with two results and with a list of them, in place and on a view."""
    x = torch.empty(4, 6, device=device)

    def program() -> Any:
        values, _ = torch.sort(x.t())
        parts = torch.ops.aten.split_with_sizes_copy(values.relu_(), [1, 5], 0)
        return torch.cat([part.double() for part in parts]).sum(0)

    return Work(program)


@pytest.mark.parametrize(
    "make", [tiny, several_results, lambda device: encoder_step(1, device)],
    ids=["perceptron", "several results", "encoder step"],
)  # fmt: skip
def test_the_floor_makes_what_the_kernels_make(make: Callable[[str], Work]) -> None:
    program = make("meta").program
    mode = Checked([allocation(call) for call in noted(program)])
    Checked.compared = 0
    with mode:
        program()
    assert Checked.compared > 1
    assert next(mode.following, "none") == "none"


def test_the_floor_calls_what_aliases_its_arguments() -> None:
    made = {str(call.operator): call.results for call in noted(several_results("meta").program)}
    called = {name for name, results in made.items() if results is None}
    assert called == {"aten.t.default", "aten.relu_.default"}


def test_the_floor_calls_what_shares_a_storage_whatever_its_schema_says() -> None:
    x = torch.empty(3, device="meta")
    functional = torch.ops.aten.relu.default
    assert note(functional, ((x,), None), x.detach()).results is None
    assert note(functional, ((x,), None), torch.empty_like(x)).results is not None
    y = torch.empty(3, device="meta")
    assert note(functional, ((x,), None), (y, y.detach())).results is None


def test_the_floor_leaves_the_result_and_gradients_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).to("meta")
    x = torch.empty(2, 3, 8, 8, device="meta")

    def program() -> torch.Tensor:
        model.zero_grad()
        loss: torch.Tensor = model(x).sum()
        loss.backward()
        return loss

    loss = replay(program)()
    assert metadata(loss) == metadata(program())
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert metadata(parameter.grad) == metadata(parameter)


def test_a_program_that_makes_other_calls_has_no_floor() -> None:
    sizes = iter(range(1, 9))

    def program() -> None:
        torch.empty(next(sizes), device="meta").relu()

    with pytest.raises(RuntimeError, match="other calls"):
        noted(program)


def rows_of(kind: str, **medians: float) -> dict[str, Any]:
    """Measurements of rows in which ours took so many times the uncounted run, in each round."""
    return {
        name: {"kind": kind, "seconds": {UNCOUNTED: [1.0, 2.0, 3.0], COLD: [m, 2 * m, 3 * m]}}
        for name, m in medians.items()
    }


def test_a_goal_is_reached_if_the_worst_row_is_within_it() -> None:
    goal = Goal("forward", Ratio(COLD, UNCOUNTED), 0.5, (FORWARD,))
    rows = {**rows_of(FORWARD, good=0.25, even=0.5), **rows_of(BACKWARD, other=9.0)}
    (verdict,) = verdicts(rows, [goal])
    assert (verdict.least, verdict.greatest, verdict.row) == (0.25, 0.5, "even")
    assert verdict.reached
    (verdict,) = verdicts({**rows, **rows_of(FORWARD, bad=0.51)}, [goal])
    assert not verdict.reached
    assert verdicts({}, [goal]) == []


def test_time_added_leaves_out_the_uncounted_run_of_the_same_round() -> None:
    seconds = {UNCOUNTED: [1.0, 5.0, 2.0], COLD: [2.0, 6.0, 3.0], NOOP: [3.0, 7.0, 4.0]}
    found = spread(Ratio(COLD, NOOP, added=True), {"seconds": seconds})
    assert found is not None
    assert (found.low, found.median, found.high) == (0.5, 0.5, 0.5)


def test_growth_is_of_our_counter_by_unit_or_as_a_whole() -> None:
    points = [
        {"series": "iterations", "units": units, "way": way, "seconds": seconds, "nbytes": nbytes}
        for units, way, seconds, nbytes in (
            (10, COLD, 1.0, 500), (100, COLD, 20.0, 800), (100, UNCOUNTED, 1.0, 0)
        )
    ]  # fmt: skip
    by_unit = GrowthGoal("iterations", "seconds", 10, 100, 2.0)
    whole = GrowthGoal("iterations", "nbytes", 10, 100, 299, by_unit=False)
    unmeasured = GrowthGoal("iterations", "seconds", 10, 1_000, 2.0)
    one, other = growth_verdicts(points, [by_unit, whole, unmeasured])
    assert (one.greatest, one.reached) == (2.0, True)
    assert (other.greatest, other.reached) == (300, False)


@pytest.mark.parametrize("name", growth.SERIES)
def test_a_longer_program_has_as_many_units(name: str) -> None:
    make = growth.SERIES[name].make
    one, two, four = (ways_module.under_torch(make(units)) for units in (1, 2, 4))
    if name == "distinct shapes":  # the products have 1, 2, 3 and 4 rows of 8 x 8
        assert (one, two, four) == (2 * 64, 2 * 64 * 3, 2 * 64 * 10)
    else:
        assert (two, four) == (2 * one, 4 * one)
    point = growth.measure(name, 2, COLD)
    assert (point["series"], point["units"], point["way"]) == (name, 2, COLD)


def test_a_saved_run_gives_the_same_page(
    record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page_file = tmp_path / "page.md"
    monkeypatch.setattr(speed, "PAGE", page_file)
    saved = tmp_path / "run.json"
    saved.write_text(json.dumps(record))
    assert speed.main(["--read", str(saved), "--write"]) == 0
    assert capsys.readouterr().out == page(record) == page_file.read_text(encoding="utf-8")


def test_the_machine_is_described_but_not_named() -> None:
    told = machine()
    assert told["torch"] == torch.__version__.partition("+")[0]
    assert platform.node() not in told.values()
