from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.fft import n_log2_n, rules
from tests import oracles_fft as loops
from tests.oracles import Tally
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
c128 = torch.complex128

SPECTRUM = torch.rand(8, dtype=c128)
UNSCALED, BY_ROOT, BY_N = 0, 1, 2

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("4·3 butterflies, each 4 muls and 6 adds", aten._fft_c2c.default,
     (SPECTRUM, [0], UNSCALED, True), Cost(muls=48, adds=72)),
    ("2 transforms, and both parts of 16 points scaled", aten._fft_c2c.default,
     (SPECTRUM.expand(2, 8), [-1], BY_N, False), Cost(muls=2 * (48 + 16), adds=144)),
    ("4 by 2 are 8 points", aten._fft_c2c.default,
     (SPECTRUM.reshape(4, 2), [0, 1], UNSCALED, True), Cost(muls=48, adds=72)),
    ("3 transforms of 4 by 2", aten._fft_c2c.default,
     (SPECTRUM.reshape(4, 1, 2).expand(4, 3, 2), [0, 2], UNSCALED, True),
     Cost(muls=144, adds=216)),
    ("one point is itself", aten._fft_c2c.default, (SPECTRUM[:1], [0], UNSCALED, True), Cost()),
    ("half of 48 and 72", aten._fft_r2c.default, (torch.rand(8), [0], UNSCALED, True),
     Cost(muls=24, adds=36)),
    ("the other half is a mirror", aten._fft_r2c.default,
     (torch.rand(8), [0], UNSCALED, False), Cost(muls=24, adds=36)),
    ("4 by 2 are 8 points, scaled by half of 16 muls", aten._fft_r2c.default,
     (torch.rand(4, 2), [0, 1], BY_ROOT, True), Cost(muls=24 + 8, adds=36)),
    ("3 points in parts of 3 and 2: 5, and 7.5 adds", aten._fft_r2c.default,
     (torch.rand(3), [0], UNSCALED, True), Cost(muls=5, adds=8)),
    ("8 real points from 5 complex ones", aten._fft_c2r.default,
     (SPECTRUM[:5], [0], UNSCALED, 8), Cost(muls=24, adds=36)),
    ("4 by 2 from 4 by 2, scaled", aten._fft_c2r.default,
     (SPECTRUM.reshape(4, 2), [0, 1], BY_N, 2), Cost(muls=24 + 8, adds=36)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


def test_each_rule_has_a_row() -> None:
    assert {rule.overload for rule in rules} == {op for _, op, _, _ in ROWS}


def test_a_transform_has_5_n_log2_n_flops_whatever_its_precision() -> None:
    for dtype in (torch.complex64, c128):
        x = torch.rand(3, 1024, dtype=dtype)
        assert cost(aten._fft_c2c.default, x, [1], UNSCALED, True).flops == 3 * 5 * 1024 * 10


powers = st.sampled_from([1, 2, 4, 8])


@given(batch=st.integers(1, 3), rows=powers, columns=powers, forward=st.booleans())
def test_a_transform_is_the_loop_over_butterflies(
    batch: int, rows: int, columns: int, forward: bool
) -> None:
    x, tally = torch.rand(batch, rows, columns, dtype=c128), Tally()
    value = loops.fft(tally, x, (1, 2), -1 if forward else 1)
    expected = torch.fft.fft2(x) if forward else torch.fft.ifft2(x, norm="forward")
    torch.testing.assert_close(value, expected)
    assert cost(aten._fft_c2c.default, x, [1, 2], UNSCALED, forward) == tally.cost


@given(batch=st.integers(1, 3), n=powers)
def test_a_scaled_transform_is_the_loop_and_a_product_of_each_part(batch: int, n: int) -> None:
    x, tally = torch.rand(batch, n, dtype=c128), Tally()
    value = loops.scaled(tally, loops.fft(tally, x, (1,), 1), 1 / n)
    torch.testing.assert_close(value, torch.fft.ifft(x))
    assert cost(aten._fft_c2c.default, x, [1], BY_N, False) == tally.cost


@given(n=st.integers(1, 5000))
def test_n_log2_n_is_the_sum_of_all_halves(n: int) -> None:
    assert n_log2_n(n) == loops.halved(n)
    assert 0 <= n_log2_n(n) - n * math.log2(n) + 1e-6 <= 0.087 * n


@given(n=st.integers(2, 60), batch=st.integers(1, 4))
def test_real_points_are_half_as_much_and_batches_are_independent(n: int, batch: int) -> None:
    real, both = torch.rand(batch, n), torch.rand(batch, n, dtype=c128)
    whole = cost(aten._fft_c2c.default, both, [1], UNSCALED, True)
    half = cost(aten._fft_r2c.default, real, [1], UNSCALED, True)
    back = cost(aten._fft_c2r.default, both[:, : n // 2 + 1], [1], UNSCALED, n)
    assert half == back
    assert 2 * half.muls == whole.muls
    assert whole.adds <= 2 * half.adds <= whole.adds + batch
    assert half == scaled(cost(aten._fft_r2c.default, real[:1], [1], UNSCALED, True), batch)


def test_a_transform_of_real_points_writes_half_of_the_spectrum() -> None:
    priced = price(aten._fft_r2c.default, torch.rand(8), [0], UNSCALED, True)
    assert (priced.cost.bytes_read, priced.cost.bytes_written) == (8 * 4, 5 * 8)
