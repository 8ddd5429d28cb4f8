from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.reduction import rules
from tests import oracles_reduction as loops
from tests.dispatched import Dispatched
from tests.oracles import Scalar, Tally
from tests.pricing import cost, overload_of, price, scaled

aten = torch.ops.aten
f64 = torch.float64

X = torch.ones(2, 3, 4)
IMAGINARY = torch.ones(2, 3, dtype=torch.complex64)
DIAGONAL = torch.eye(3).to_sparse()

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("24 into 1", aten.sum.default, (X,), Cost(adds=23)),
    ("24 into 6", aten.sum.dim_IntList, (X, [-1]), Cost(adds=18)),
    ("24 into 3, dimensions kept", aten.sum.dim_IntList, (X, [0, 2], True), Cost(adds=21)),
    ("to the same size", aten.sum.dim_IntList, (torch.ones(1, 3), [0]), Cost()),
    ("nothing to sum", aten.sum.dim_IntList, (torch.ones(0, 3), [0]), Cost()),
    ("integers", aten.sum.default, (torch.ones(5, dtype=torch.int64),), Cost(int_ops=4)),
    ("truths add up to an integer", aten.sum.default, (torch.ones(5) > 0,), Cost(int_ops=4)),
    ("complex: 2 adds each", aten.sum.default, (IMAGINARY,), Cost(adds=2 * 5)),
    ("24 into 8", aten.nansum.default, (X, [1]), Cost(adds=16)),
    ("the sum, one division", aten.mean.default, (X,), Cost(adds=23, divs=1)),
    ("24 into 6, 6 divisions", aten.mean.dim, (X, [2]), Cost(adds=18, divs=6)),
    ("24 into 1", aten.prod.default, (X,), Cost(muls=23)),
    ("24 into 12", aten.prod.dim_int, (X, 0), Cost(muls=12)),
    ("3 on the diagonal", aten.trace.default, (torch.ones(3, 5),), Cost(adds=2)),
    ("the outcomes add up", aten.count_nonzero.default, (X,), Cost(int_ops=23)),
    ("by rows", aten.count_nonzero.dim_IntList, (X, [2]), Cost(int_ops=18)),
    ("bits of 24 into 1", aten.hash_tensor.default, (X,), Cost(int_ops=23)),
    ("bits of 24 into 6", aten.hash_tensor.default, (X, [2]), Cost(int_ops=18)),
    ("24 into 6", aten.amax.default, (X, [2]), Cost(comparisons=18)),
    ("24 into 1", aten.amin.default, (X,), Cost(comparisons=23)),
    ("24 into 1", aten.max.default, (X,), Cost(comparisons=23)),
    ("24 into 1", aten.min.default, (X,), Cost(comparisons=23)),
    ("the index comes along", aten.max.dim, (X, 1), Cost(comparisons=16)),
    ("the index comes along", aten.min.dim, (X, 2), Cost(comparisons=18)),
    ("24 into 1", aten.argmax.default, (X,), Cost(comparisons=23)),
    ("24 into 6", aten.argmin.default, (X, 2), Cost(comparisons=18)),
    ("twice 23", aten.aminmax.default, (X,), Cost(comparisons=46)),
    ("twice 23", aten._aminmax.default, (X,), Cost(comparisons=46)),
    ("twice 24 into 12", aten._aminmax.dim, (X, 0), Cost(comparisons=24)),
    ("truths", aten.all.default, (X,), Cost()),
    ("truths", aten.all.dim, (X, 0), Cost()),
    ("truths", aten.all.dims, (X, [0, 1]), Cost()),
    ("truths", aten.any.default, (X,), Cost()),
    ("truths", aten.any.dim, (X, 0), Cost()),
    ("truths", aten.any.dims, (X, [0, 1]), Cost()),
    ("truths", aten._is_all_true.default, (X > 0,), Cost()),
    ("truths", aten._is_any_true.default, (X > 0,), Cost()),
    (
        "mean 18 adds and 6 divs, 24 differences, 24 squares, their mean 18 and 6",
        aten.var.correction,
        (X, [2]),
        Cost(adds=18 + 24 + 18, muls=24, divs=12),
    ),
    ("and 6 roots", aten.std.correction, (X, [2]),
     Cost(adds=60, muls=24, divs=12, transcendentals=6)),
    ("the mean is there", aten.var_mean.correction, (X, [2]), Cost(adds=60, muls=24, divs=12)),
    ("and 1 root", aten.std_mean.correction, (X,),
     Cost(adds=23 + 24 + 23, muls=24, divs=2, transcendentals=1)),
    ("6 norms of 4", aten.linalg_vector_norm.default, (X, 2, [2]),
     Cost(muls=24, adds=18, transcendentals=6)),
    ("6 norms of 4: 24 absolute values", aten.linalg_vector_norm.default, (X, 1, [2]),
     Cost(comparisons=24, adds=18)),
    ("24 absolute values, 23 maxima", aten.linalg_vector_norm.default, (X, math.inf),
     Cost(comparisons=47)),
    ("24 absolute values, 23 minima", aten.linalg_vector_norm.default, (X, -math.inf),
     Cost(comparisons=47)),
    ("how many aren't zero", aten.linalg_vector_norm.default, (X, 0), Cost(adds=23)),
    ("24 absolute values and powers, a root", aten.linalg_vector_norm.default, (X, 3),
     Cost(comparisons=24, adds=23, transcendentals=25)),
    ("of 6 complex: 12 squares, all summed", aten.linalg_vector_norm.default, (IMAGINARY,),
     Cost(muls=12, adds=11, transcendentals=1)),
    ("of 6 complex: each a root of 2 squares", aten.linalg_vector_norm.default, (IMAGINARY, 1),
     Cost(muls=12, adds=6 + 5, transcendentals=6)),
    ("24 squares", aten.norm.Scalar, (X,), Cost(muls=24, adds=23, transcendentals=1)),
    ("None is 2", aten.norm.ScalarOpt_dim, (X, None, [2]),
     Cost(muls=24, adds=18, transcendentals=6)),
    ("24 absolute values", aten.norm.ScalarOpt_dim, (X, 1, [2]), Cost(comparisons=24, adds=18)),
    ("of 6 complex", aten.norm.Scalar, (IMAGINARY,), Cost(muls=12, adds=11, transcendentals=1)),
    ("3 squares are stored", aten.native_norm.default, (DIAGONAL,),
     Cost(muls=3, adds=2, transcendentals=1)),
    ("3 absolute values", aten.native_norm.ScalarOpt_dim_dtype, (DIAGONAL, 1, [], False, None),
     Cost(comparisons=3, adds=2)),
    ("of 4 and of 6", aten._foreach_norm.Scalar, ([torch.ones(4), torch.ones(2, 3)],),
     Cost(muls=4 + 6, adds=3 + 5, transcendentals=2)),
    ("of 4 and of 6", aten._foreach_norm.Scalar, ([torch.ones(4), torch.ones(2, 3)], 1),
     Cost(comparisons=4 + 6, adds=3 + 5)),
    ("of 4 and of 6", aten._foreach_max.default, ([torch.ones(4), torch.ones(2, 3)],),
     Cost(comparisons=3 + 5)),
    ("of 4, of 2 whole numbers", aten._foreach_max.default,
     ([torch.ones(4), torch.ones(2, dtype=torch.int64)],), Cost(comparisons=3, int_ops=1)),
    ("6 slices of 4", aten.cumsum.default, (X, -1), Cost(adds=18)),
    ("8 slices of 3", aten.cumsum.default, (X, -2), Cost(adds=16)),
    ("a number alone", aten.cumsum.default, (torch.tensor(1.0), 0), Cost()),
    ("12 slices of 2", aten.cumprod.default, (X, 0), Cost(muls=12)),
    ("8 slices of 3", aten.cummax.default, (X, 1), Cost(comparisons=16)),
    ("8 slices of 3", aten.cummin.default, (X, 1), Cost(comparisons=16)),
    ("18 steps", aten._cummax_helper.default,
     (X, torch.ones(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.int64), 2), Cost(comparisons=18)),
    ("18 steps", aten._cummin_helper.default,
     (X, torch.ones(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.int64), 2), Cost(comparisons=18)),
    ("18 steps of 1, 2 and 2", aten.logcumsumexp.default, (X, 2),
     Cost(comparisons=18, adds=36, transcendentals=36)),
    ("12 steps of 1, 2 and 2", aten._logcumsumexp.default, (X, 0),
     Cost(comparisons=12, adds=24, transcendentals=24)),
]  # fmt: skip
NAMED = [
    ("24 squares", "norm.ScalarOpt_dtype", (X, 2), Cost(muls=24, adds=23, transcendentals=1)),
    ("6 norms of 4", "norm.ScalarOpt_dim_dtype", (X, 2, [2], False),
     Cost(muls=24, adds=18, transcendentals=6)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:_aminmax is deprecated")
@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


@pytest.mark.parametrize(("why", "name", "args", "expected"), NAMED)
def test_norms_with_a_dtype(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    overload = getattr(aten.norm, name.split(".")[1])
    assert cost(overload, *args, dtype=f64) == expected, why


def test_power_sums_are_norms_without_the_root() -> None:
    if not hasattr(aten, "linalg__powsum"):
        pytest.skip("newer than this torch")
    assert cost(aten.linalg__powsum.default, X, 2, [2]) == Cost(muls=24, adds=18)
    assert cost(aten._foreach_powsum.Scalar, [X, X], 3) == Cost(
        comparisons=48, transcendentals=48, adds=46
    )


# (why, in words; operator; arguments after the tensors; expected, of 4 and of 6 elements)
LISTS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("10 squares, 3 + 5 adds, 2 roots", "_foreach_norm.Scalar_out", (2,),
     Cost(muls=10, adds=8, transcendentals=2)),
    ("10 magnitudes and powers, 3 + 5 adds", "_foreach_powsum.Scalar_out", (3,),
     Cost(comparisons=10, transcendentals=10, adds=8)),
    ("3 + 5 comparisons", "_foreach_max.out", (), Cost(comparisons=8)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "options", "expected"), LISTS)
def test_lists_are_reduced_into_other_lists(
    why: str, name: str, options: tuple[Any, ...], expected: Cost
) -> None:
    operands, out = [torch.ones(4), torch.ones(2, 3)], [torch.empty(()), torch.empty(())]
    assert cost(overload_of(name), operands, *options, out=out) == expected, why


def test_each_rule_has_a_row() -> None:
    proved = {op for _, op, _, _ in ROWS} | {
        getattr(aten.norm, name.split(".")[1]) for _, name, _, _ in NAMED
    }
    others = {"linalg__powsum.default", "_foreach_powsum.Scalar"}  # in a test of their own
    left = {rule.overload for rule in rules} - proved
    assert {str(overload).removeprefix("aten.") for overload in left} <= others


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)

REDUCTIONS: dict[str, tuple[Any, Callable[[Tally], Callable[[list[Scalar]], Scalar]]]] = {
    "sum": (aten.sum.dim_IntList, lambda tally: tally.sum),
    "mean": (aten.mean.dim, lambda tally: lambda row: loops.mean(tally, row)),
    "amax": (aten.amax.default, lambda tally: tally.max),
    "var": (aten.var.correction, lambda tally: lambda row: loops.variance(tally, row)),
    "std": (
        aten.std.correction,
        lambda tally: lambda row: loops.variance(tally, row).apply("sqrt"),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(shape=shapes, data=st.data())
def test_a_reduction_is_the_loop_over_each_group(
    name: str, shape: list[int], data: st.DataObject
) -> None:
    op, fold = REDUCTIONS[name]
    dims = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x, tally = torch.randn(shape, dtype=f64), Tally()
    options = {"correction": 0} if name in ("var", "std") else {}
    torch.testing.assert_close(loops.reduced(tally, x, dims, fold(tally)), op(x, dims, **options))
    assert cost(op, x, dims, **options) == tally.cost


@given(shape=shapes)
def test_prod_is_the_loop(shape: list[int]) -> None:
    x, tally = torch.randn(shape, dtype=f64), Tally()
    torch.testing.assert_close(loops.reduced(tally, x, [0], loops.product), x.prod(0))
    assert cost(aten.prod.dim_int, x, 0) == tally.cost


@given(shape=shapes, p=st.sampled_from([0, 1, 2, 3, 2.5, math.inf, -math.inf]))
def test_a_norm_is_the_loop(shape: list[int], p: float) -> None:
    x, tally, last = torch.randn(shape, dtype=f64), Tally(), len(shape) - 1
    value = loops.reduced(tally, x, [last], lambda row: loops.p_norm(tally, row, p))
    torch.testing.assert_close(value, torch.linalg.vector_norm(x, p, -1))
    assert cost(aten.linalg_vector_norm.default, x, p, [-1]) == tally.cost


SCANS: dict[str, tuple[Any, Callable[[Scalar, Scalar], Scalar]]] = {
    "cumsum": (aten.cumsum.default, lambda a, b: a + b),
    "cumprod": (aten.cumprod.default, lambda a, b: a * b),
    "cummax": (aten.cummax.default, loops.larger),
    "logcumsumexp": (aten.logcumsumexp.default, loops.log_add),
}


@pytest.mark.parametrize("name", SCANS)
@given(shape=shapes, data=st.data())
def test_a_scan_is_the_loop(name: str, shape: list[int], data: st.DataObject) -> None:
    op, step = SCANS[name]
    dim = data.draw(st.integers(0, len(shape) - 1))
    x, tally = torch.randn(shape, dtype=f64), Tally()
    value = op(x, dim)
    value = value[0] if isinstance(value, tuple) else value
    torch.testing.assert_close(loops.scan(tally, x, dim, step), value)
    assert cost(op, x, dim) == tally.cost
    assert cost(op, x, dim - len(shape)) == tally.cost


@pytest.mark.parametrize("op", [aten.sum.dim_IntList, aten.var.correction, aten.amin.default])
@given(batch=st.integers(1, 5))
def test_rows_are_reduced_independently(op: Any, batch: int) -> None:
    assert cost(op, torch.ones(batch, 7), [1]) == scaled(cost(op, torch.ones(1, 7), [1]), batch)


def test_a_reduction_reads_its_operand_and_writes_its_result() -> None:
    moved = price(aten.sum.dim_IntList, X, [2]).cost
    assert (moved.bytes_read, moved.bytes_written) == (24 * 4, 6 * 4)


def test_a_trace_reads_the_diagonal() -> None:
    moved = price(aten.trace.default, torch.ones(3, 5)).cost
    assert (moved.bytes_read, moved.bytes_written) == (3 * 4, 4)


@pytest.mark.parametrize("op", [aten._cummax_helper.default, aten._cummin_helper.default])
def test_a_scan_into_its_arguments_does_not_read_them(op: Any) -> None:
    moved = price(op, X, torch.empty(2, 3, 4), torch.empty(2, 3, 4, dtype=torch.int64), 2).cost
    assert (moved.bytes_read, moved.bytes_written) == (24 * 4, 24 * 4 + 24 * 8)


def test_meta_is_priced_as_cpu() -> None:
    assert cost(aten.var_mean.correction, X.to("meta"), [1]) == cost(
        aten.var_mean.correction, X, [1]
    )


COMPLEX = torch.ones(2, 3, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (aten.mean.default, Cost(adds=2 * 5, divs=2)),
        # mean 5 and 1, 6 differences, 6 squares, their mean 5 and 1, of each part; their sum
        (aten.var.correction, Cost(adds=2 * 16 + 1, muls=2 * 6, divs=2 * 2)),
        (aten.std.correction, Cost(adds=2 * 16 + 1, muls=2 * 6, divs=2 * 2, transcendentals=1)),
        (aten.var_mean.correction, Cost(adds=2 * 16 + 1, muls=2 * 6, divs=2 * 2)),
        (aten.std_mean.correction,
         Cost(adds=2 * 16 + 1, muls=2 * 6, divs=2 * 2, transcendentals=1)),
    ],
)  # fmt: skip
def test_complex_numbers_spread_in_their_two_parts(op: Any, expected: Cost) -> None:
    assert cost(op, COMPLEX) == expected


def test_a_call_computes_in_the_type_that_it_asks_for() -> None:
    floats, f64 = torch.ones(4), torch.float64
    assert price(aten.sum.default, floats, dtype=f64).dtype is f64
    assert price(aten.cumsum.default, floats, 0, dtype=f64).dtype is f64
    assert cost(aten.sum.default, floats, dtype=torch.int64) == Cost(int_ops=3)
    assert cost(aten.sum.default, floats.bool(), dtype=torch.float32) == Cost(adds=3)
    # the real parts of complex numbers, of which a softmax has 1 + 1 additions or subtractions
    op, out = aten.softmax.int_out, torch.empty(1)
    found = price(op, torch.ones(1, dtype=torch.complex64), 0, torch.float32, out=out)
    assert (found.dtype, found.cost.adds, found.cost.divs) == (torch.float32, 1, 1)


def test_a_complex_number_makes_a_product_complex() -> None:
    """3 products of 4 muls and 2 adds, by a number or by a tensor."""
    floats = torch.ones(3)
    expected = Cost(muls=3 * 4, adds=3 * 2)
    assert cost(aten.mul.Tensor, floats, torch.tensor(2j)) == expected
    with Dispatched() as dispatched:
        floats * 2j
    assert dispatched.total().moving(0, 0) == expected


def test_the_mean_of_integers_is_computed_as_its_result() -> None:
    ones = torch.ones(4, dtype=torch.int64)
    assert cost(aten.mean.default, ones, dtype=torch.float32) == Cost(adds=3, divs=1)
