"""The roofline: times by hand in both regimes, sums that hold, nothing faster than physics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flopdispatch import ArgumentError, Cost, FlopCounter, Profile, count, spec
from flopdispatch.hardware import Hardware
from flopdispatch.profile import Row
from flopdispatch.roofline import Bound, Roofline, work_of
from flopdispatch.rules import Price
from tests.programs import counted
from tests.report.samples import SAMPLES

# A machine whose times are easy: one operation and one byte a nanosecond, other rates in multiples.
PEAKS = {"float64": 0.5e9, "float32": 1e9, "tf32": 2e9, "bfloat16": 4e9, "int8": 8e9}
MACHINE = Hardware("easy", PEAKS, bandwidth=1e9)

each = pytest.mark.parametrize("profile", SAMPLES.values(), ids=list(SAMPLES))


def product(m: int, k: int, n: int, dtype: torch.dtype = torch.float32) -> Profile:
    """One matrix product."""
    return count(torch.mm, spec(m, k, dtype=dtype), spec(k, n, dtype=dtype))


def nanoseconds(profile: Profile, machine: Hardware = MACHINE, **options: Any) -> float:
    return float(profile.roofline(machine, **options).seconds * 1e9)


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("why", "shape", "expected", "bound"),
    [
        ("2·64³ operations; 3·64²·4 bytes take 49152 ns", (64, 64, 64), 524288, "compute"),
        ("(64 + 64·64 + 64)·4 bytes; 2·64² operations take 8192 ns", (1, 64, 64), 16896, "memory"),
        ("an outer product: (64 + 64 + 64²)·4 bytes", (64, 1, 64), 16896, "memory"),
        ("6³·2 = 432 operations, 3·6²·4 = 432 bytes: the ridge", (6, 6, 6), 432, "compute"),
        ("5³·2 = 250 operations, 300 bytes: just left of it", (5, 5, 5), 300, "memory"),
        ("7³·2 = 686 operations, 588 bytes: just right of it", (7, 7, 7), 686, "compute"),
    ],
)
def test_a_product_takes_as_long_as_its_busier_part(
    why: str, shape: tuple[int, int, int], expected: int, bound: str
) -> None:
    found = product(*shape).roofline(MACHINE)
    assert found.seconds * 1e9 == about(expected), why
    assert found.total.bound == bound
    assert found.total.memory_seconds == (found.seconds if bound == "memory" else 0)


def test_intensity_is_operations_a_byte_and_the_ridge_its_place_in_the_roof() -> None:
    found = product(6, 6, 6).roofline(MACHINE)
    assert found.total.intensity == 1.0
    assert found.ridges == {"float32": 1.0}
    assert product(12, 12, 12).roofline(MACHINE).total.intensity == 2.0, "2·12³ / (3·12²·4)"


@pytest.mark.parametrize(
    ("why", "dtype", "expected"),
    [
        ("2·64³ at half the rate", torch.float64, 2 * 524288),
        ("2·64³ at four times the rate", torch.bfloat16, 524288 / 4),
        ("a complex MAC is four, in float32", torch.complex64, 4 * 524288),
        ("3·64²·8 bytes: no published rate is of wide integers", torch.int64, 3 * 64 * 64 * 8),
        ("2·64³ at the rate of int8", torch.int8, 524288 / 8),
    ],
)
def test_work_is_held_against_the_rate_of_the_calls_own_dtype(
    why: str, dtype: torch.dtype, expected: float
) -> None:
    assert nanoseconds(product(64, 64, 64, dtype)) == about(expected), why


def test_calls_of_several_dtypes_each_take_their_own_time() -> None:
    def both() -> None:
        torch.mm(torch.ones(64, 64), torch.ones(64, 64))
        half = torch.ones(64, 64, dtype=torch.bfloat16)
        torch.mm(half, half)

    found = counted(both).roofline(MACHINE)
    products = found.by_family()["matmul"]
    assert products.work == {"float32": 524288, "bfloat16": 524288}
    assert products.seconds * 1e9 == about(524288 + 524288 / 4)
    assert products.overlapped_seconds * 1e9 == about(524288), "each in units of its own"


def test_what_computes_nothing_that_has_a_rate_is_bound_by_its_bytes() -> None:
    found = count(torch.exp, (100,)).roofline(MACHINE)
    assert found.seconds * 1e9 == about(800), "100 elements read and written"
    assert (found.total.operations, found.total.bound) == (0, "memory")
    views = counted(lambda: torch.empty(4).view(2, 2)).roofline(MACHINE)
    assert views.total == Bound(), "nothing moves"


def test_with_tf32_the_products_of_float32_run_at_its_rate_and_nothing_else_does() -> None:
    layer = count(nn.Linear(64, 64), (64, 64))
    plain = layer.roofline(MACHINE).total
    assert plain.work == {"float32": 524288 + 4096}
    fast = layer.roofline(MACHINE, tf32=True).total
    assert fast.work == {"tf32": 524288, "float32": 4096}, "64·64 biases are no products"
    assert fast.seconds * 1e9 == about(524288 / 2)
    assert nanoseconds(product(64, 64, 64, torch.bfloat16), tf32=True) == about(524288 / 4)
    square = count(torch.square, (100,))
    assert nanoseconds(square, tf32=True) == nanoseconds(square)


def test_a_dtype_that_is_named_is_the_rate_of_all_and_bytes_stay() -> None:
    wide = product(64, 64, 64)
    assert nanoseconds(wide, dtype=torch.bfloat16) == about(524288 / 4)
    assert nanoseconds(wide, dtype="tf32") == about(524288 / 2)
    found = wide.roofline(MACHINE, dtype="bfloat16").total
    assert found.nbytes == wide.total.nbytes == 3 * 64 * 64 * 4


def test_quantized_kernels_take_their_macs_in_integers_and_scales_in_floats() -> None:
    cost = Cost(macs=3, adds=1, int_macs=10, int_ops=25)
    for dtype in (torch.quint8, torch.qint8, torch.uint8, torch.float32, None):
        price = Price(cost, "matmul", "counted", dtype)
        assert work_of(price, None, False) == {"float32": 7, "int8": 20}
    for dtype in (torch.int64, torch.int32, torch.int16, torch.bool):
        price = Price(cost, "matmul", "counted", dtype)
        assert work_of(price, None, False) == {"float32": 7}


def refused(profile: Profile, machine: Hardware, **options: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        profile.roofline(machine, **options)
    return str(caught.value)


def test_a_rate_that_is_not_known_is_an_error_that_says_of_what_and_what_to_do() -> None:
    assert refused(product(2, 2, 2, torch.float16), MACHINE) == (
        "easy has no known peak rate of float16; known are float64, float32, tf32, bfloat16, int8. "
        "aten::mm.default would run at it: hold all against another rate (dtype= or --rate), or "
        "give a machine that has it, as Hardware(name, peaks={...}, bandwidth=...) or in a file"
    )
    plain = Hardware("plain", {"float32": 1e9}, bandwidth=1e9)
    assert "rate of tf32; known are float32. aten::mm.default would run at it: leave TF32 out" in (
        refused(product(2, 2, 2), plain, tf32=True)
    )
    assert "rate of int8; known are float32. aten::mm.default would run at it: give a machine" in (
        refused(product(2, 2, 2, torch.int8), plain)
    )
    copied = count(torch.clone, spec(4, dtype=torch.float16))
    assert nanoseconds(copied, plain) == about(16), "a copy needs no rate but the memory's"


@pytest.mark.parametrize("dtype", ["int8", torch.int64, "half", 3])
def test_only_a_floating_rate_can_be_named_for_all(dtype: Any) -> None:
    with pytest.raises(ArgumentError, match="dtype= takes one of float64, float32, tf32, bfloat16"):
        product(2, 2, 2).roofline(MACHINE, dtype=dtype)


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no device 'nonesuch' is known"):
        product(2, 2, 2).roofline("nonesuch")


def test_nothing_takes_no_time() -> None:
    found = SAMPLES["empty"].roofline(MACHINE)
    assert (found.seconds, found.overlapped_seconds, found.compute_seconds) == (0, 0, 0)
    assert (found.total.bound, found.total.intensity, found.ridges) == ("", None, {})
    assert found.by_op() == found.by_family() == found.by_phase() == {}
    assert found.by_scope() == {"": Bound()}


def check_physics(found: Roofline) -> None:
    """Calls one by one take no less than all at once, and that no less than any part is busy."""
    profile, total = found.profile, found.total
    limits = [total.work[name] / PEAKS[name] for name in total.work]
    limits.append(profile.total.nbytes / MACHINE.bandwidth)
    slack = 1 - 1e-12
    assert total.seconds >= total.overlapped_seconds * slack
    assert total.overlapped_seconds == about(max(limits))
    assert total.seconds <= sum(limits) / slack, "no longer than one part after the other"
    assert total.operations == profile.flops + sum(
        2 * profile.prices[row.call].cost.int_macs * row.times
        for row in profile.rows
        if profile.prices[row.call].dtype != torch.int64
    )
    assert 0 <= total.memory_seconds <= total.seconds / slack


@each
def test_no_time_is_less_than_physics_allows(profile: Profile) -> None:
    check_physics(profile.roofline(MACHINE))


NUMBERS = st.integers(0, 10**15)
PRICES = st.builds(
    lambda macs, adds, int_macs, read, family, dtype: Price(
        Cost(macs=macs, adds=adds, int_macs=int_macs, bytes_read=read), family, "counted", dtype
    ),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["matmul", "pointwise"]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.qint8, torch.complex64]),
)


@given(st.lists(st.tuples(PRICES, st.integers(1, 1000)), max_size=6), st.booleans())
def test_no_time_of_any_calls_is_less_than_physics_allows(
    found: list[tuple[Price, int]], tf32: bool
) -> None:
    call = product(1, 1, 1).calls[0]
    profile = replace(
        SAMPLES["empty"],
        calls=tuple(call for _ in found),
        prices=tuple(price for price, _ in found),
        rows=tuple(Row("", "other", i, times) for i, (_, times) in enumerate(found)),
    )
    check_physics(profile.roofline(MACHINE, tf32=tf32))


@each
def test_every_view_adds_up_to_the_whole(profile: Profile) -> None:
    found = profile.roofline(MACHINE)
    views = [found.by_op(), found.by_family(), found.by_phase(), found.by_scope(own=True)]
    for view in views:
        assert sum(bound.seconds for bound in view.values()) == about(found.seconds)
        assert sum(bound.nbytes for bound in view.values()) == profile.total.nbytes
        assert sum(bound.operations for bound in view.values()) == found.total.operations


@each
def test_a_modules_time_is_its_own_and_its_childrens(profile: Profile) -> None:
    found = profile.roofline(MACHINE)
    total, own = found.by_scope(), found.by_scope(own=True)
    assert list(total) == list(profile.by_scope())
    for path, bound in total.items():
        below = [b for p, b in total.items() if p and p.rpartition(".")[0] == path]
        expected = own[path].seconds + sum(child.seconds for child in below)
        assert bound.seconds == about(expected)
        assert bound.nbytes == profile.by_scope()[path].nbytes


def test_phases_are_told_apart_in_their_order() -> None:
    layer = nn.Linear(64, 64, bias=False)
    with FlopCounter(display=False) as counter:
        layer(torch.ones(64, 64)).backward(torch.ones(64, 64))
    found = counter.profile.roofline(MACHINE).by_phase()
    assert [name for name in found if name in ("forward", "backward")] == ["forward", "backward"]
    assert found["forward"].seconds * 1e9 == about(524288)
    assert found["backward"].work == {"float32": 524288}, "of the weight: x needs no gradient"


@each
def test_a_machine_twice_as_fast_takes_half_the_time(profile: Profile) -> None:
    twice = Hardware("twice", {name: 2 * rate for name, rate in PEAKS.items()}, bandwidth=2e9)
    assert profile.roofline(twice).seconds == about(profile.roofline(MACHINE).seconds / 2)


@each
def test_more_bandwidth_never_takes_more_time(profile: Profile) -> None:
    wider = Hardware("wider", PEAKS, bandwidth=3e9)
    assert profile.roofline(wider).seconds <= profile.roofline(MACHINE).seconds


def test_a_groups_bound_is_that_of_most_of_its_time() -> None:
    slow, fast = Bound.of({}, 30, {"memory": 1e9}), Bound.of({"float32": 20}, 0, {
        "float32": 1e9, "memory": 1e9,
    })  # fmt: skip
    assert Bound.total([(slow, 1), (fast, 1)]).bound == "memory"
    assert Bound.total([(slow, 1), (fast, 2)]).bound == "compute"


def test_a_machine_goes_by_its_name() -> None:
    found = product(2, 2, 2).roofline("H100-SXM")
    assert found.hardware.name == "H100-SXM"
    assert found.rates["memory"] == found.hardware.bandwidth
