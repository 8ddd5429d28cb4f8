"""What is measured; nothing here depends on how fast this machine is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import pytest
import torch
from torch import is_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from flopdispatch import ArgumentError, FlopCounter
from flopdispatch.hardware import BANDWIDTH, measure, measure_peak


def clock_of(durations: list[float]) -> Iterator[float]:
    """The readings of a clock before and after programs of these durations."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


@pytest.mark.parametrize(
    ("durations", "budget", "expected", "why"),
    [
        ([1, 1, 9], 0, 1, "one hiccup doesn't count"),
        ([3, 1, 2], 0, 2, "at least three runs"),
        ([4, 1, 1, 1, 9], 7, 1, "runs until the time is spent, no longer"),
    ],
)
def test_a_time_is_the_median_of_the_runs_that_the_budget_holds(
    durations: list[float], budget: float, expected: float, why: str
) -> None:
    clock, ran = clock_of(durations).__next__, []
    found = measure.seconds_of(lambda: ran.append("run"), budget, lambda: ran.append("wait"), clock)
    assert found == expected, why
    timed = 4 if budget else 3
    assert ran == ["run", "wait"] * (1 + timed)  # the first isn't timed


def test_a_product_is_priced_by_two_n_cubed_and_the_fastest_size_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = iter([4.0, 4.0, 64.0])
    monkeypatch.setattr(measure, "SIZES", (2, 4, 8))
    monkeypatch.setattr(measure, "LAYOUTS", {"": measure.LAYOUTS[""]})
    monkeypatch.setattr(measure, "seconds_of", lambda *_: next(taken))
    found = measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 1e9)
    assert found == ("4 x 4", 2 * 4 * 4 * 4 / 4.0)


def test_a_layout_counts_that_is_faster_and_one_that_is_slow_is_not_tried_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = iter([4.0, 1.0, 1.9, 8.0, 2.0])  # of three layouts, then of the two within a half
    monkeypatch.setattr(measure, "SIZES", (2, 4))
    monkeypatch.setattr(measure, "seconds_of", lambda *_: next(taken))
    found = measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 1e9)
    assert found == ("4 x 4, the second transposed", 2 * 4 * 4 * 4 / 2.0)
    assert not list(taken)


@pytest.mark.parametrize("layout", measure.LAYOUTS)
def test_a_layout_is_where_the_matrices_lie(layout: str) -> None:
    a, b = measure.LAYOUTS[layout](torch.empty(2, 3), torch.empty(2, 3))
    transposed = [tensor.shape == (3, 2) for tensor in (a, b)]
    assert transposed == ["the first" in layout, "the second" in layout]


def test_a_size_that_would_take_longer_than_the_budget_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "SIZES", (2, 4, 8))
    monkeypatch.setattr(measure, "LAYOUTS", {"": measure.LAYOUTS[""]})
    monkeypatch.setattr(measure, "seconds_of", lambda *_: 1.0)  # 16 FLOP/s, then 128
    # Four runs of the second size, at the first's rate, are 4 x 128 / 16 = 32 seconds, ...
    assert measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 31)[1] == 16
    # ... and four of the third, at the second's, are 4 x 1024 / 128 = 32 too.
    assert measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 32)[1] == 1024


def test_a_size_that_does_not_fit_the_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def product_seconds(size: int, *_: object) -> dict[str, float]:
        if size > fits:
            raise torch.OutOfMemoryError("no room")
        return {"": 1.0}

    monkeypatch.setattr(measure, "SIZES", (2, 4, 8))
    monkeypatch.setattr(measure, "LAYOUTS", {"": measure.LAYOUTS[""]})
    monkeypatch.setattr(measure, "product_seconds", product_seconds)
    fits = 4
    found = measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 1e9)
    assert found == ("4 x 4", 2 * 4 * 4 * 4)
    fits = 1
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        measure.products(torch.device("cpu"), torch.float32, measure.no_wait, 1e9)


def test_products_take_the_memory_of_three_matrices_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ref[torch.Tensor]] = []
    most = 0
    randn = torch.randn

    def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal most
        tensor = randn(*args, **kwargs)
        made.append(ref(tensor))
        most = max(most, sum(one.nbytes for each in made if (one := each()) is not None))
        return tensor

    monkeypatch.setattr(torch, "randn", watched)
    monkeypatch.setattr(measure, "SIZES", (16, 32))
    monkeypatch.setattr(measure, "seconds_of", lambda *_: 1.0)
    measure.products(torch.device("cpu"), torch.float64, measure.no_wait, 1e9)
    assert len(made) == 6
    assert most == 3 * 32 * 32 * 8


def test_bytes_of_a_stream_are_those_of_the_arrays_that_it_touches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "STREAM_NBYTES", 1024)
    table: list[tuple[list[float], tuple[str, int]]] = [  # three turns each, so 3 x 1024 an array
        ([1, 1, 9, 9], ("out = a + s * b", 9216)),  # three arrays in the time of two
        ([1, 2, 9, 9], ("out = a", 6144)),
        ([9, 9, 1, 1], ("a *= s", 6144)),
        ([4, 4, 4, 0.5], ("a.sum()", 6144)),  # one array, in an eighth of the time
    ]
    for seconds, expected in table:
        taken = iter(seconds)
        monkeypatch.setattr(measure, "seconds_of", lambda *_, taken=taken: next(taken))
        found = measure.streams(torch.device("cpu"), torch.float32, measure.no_wait, 1.0)
        assert found == expected


def test_no_stream_stays_in_a_cache_that_holds_two_of_the_arrays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touched: list[set[int]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            touched[-1] |= {one.data_ptr() for one in tree_iter((args, kwargs)) if is_tensor(one)}
            return func(*args, **(kwargs or {}))

    def seconds_of(run: Callable[[], object], *_: object) -> float:
        touched.append(set())
        with Watch():  # type: ignore[no-untyped-call]
            run()
        return 1.0

    monkeypatch.setattr(measure, "STREAM_NBYTES", 1024)
    monkeypatch.setattr(measure, "seconds_of", seconds_of)
    measure.streams(torch.device("cpu"), torch.float32, measure.no_wait, 1.0)
    assert list(map(len, touched)) == [3, 3, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_machine_is_measured_and_says_so(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "STREAM_NBYTES", 2**16)
    monkeypatch.setattr(measure, "SIZES", (16, 32))
    state, mode = torch.get_rng_state(), torch.is_inference_mode_enabled()
    here = measure_peak("cpu", dtype, seconds=1e-3)
    name = str(dtype).removeprefix("torch.")
    assert set(here.peaks) == {name}
    assert here.peak(dtype) > 0
    assert here.bandwidth > 0
    assert here.name.startswith(f"cpu, {torch.get_num_threads()} thread")
    assert "measured: the product of two matrices of" in here.sources[name][0]
    assert here.sources[BANDWIDTH][0].endswith("on arrays of 65.54 kB")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_inference_mode_enabled() is mode


def test_active_modes_see_nothing_of_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "STREAM_NBYTES", 2**16)
    monkeypatch.setattr(measure, "SIZES", (16,))
    ran: list[type] = []

    def seconds_of(run: Callable[[], object], *_: object) -> float:
        ran.append(type(run()))
        return 1.0

    monkeypatch.setattr(measure, "seconds_of", seconds_of)
    with FakeTensorMode(), FlopCounter(display=False) as counter:
        measure_peak("cpu", seconds=1e-3)
    assert counter.profile.by_op() == {}
    assert set(ran) == {torch.Tensor, type(None)}  # the product's: a fake one would take no time


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "2", None])
def test_seconds_are_a_positive_number(seconds: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        measure_peak("cpu", seconds=seconds)
    assert str(raised.value) == (
        f"seconds of measure_peak: expected a positive number, got {seconds!r}"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cpu", torch.int8), "measure_peak measures torch.float64, torch.float32, torch.bfloat16"),
        (("meta",), "here, got 'meta'"),
        (("nonsense",), "here, got 'nonsense'"),
        (("cpu:",), "measure_peak runs on cpu"),
        (("cpu:1",), "here, got 'cpu:1'"),
        (("cuda:99",), "here, got 'cuda:99'"),
        ((None,), "here, got 'None'"),
    ],
)
def test_what_can_not_be_measured_is_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        measure_peak(*arguments)
    assert message in str(raised.value)
