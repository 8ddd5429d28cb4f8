"""Sparse products and operators on entries, against loops over the entries."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry, sparse, sparse_entries
from flopdispatch.formulas.operators import overloads
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, TensorSpec
from tests import oracles_sparse as loops
from tests.oracles import Tally
from tests.pricing import call_of, scaled, taken_of

aten = torch.ops.aten
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

COO, CSR, CSC = torch.sparse_coo, torch.sparse_csr, torch.sparse_csc
f64 = torch.float64


def ran(overload: Any, *args: Any, **kwargs: Any) -> tuple[Any, Price]:
    """What an operator gives, and its price with what is taken from the arguments."""
    before = call_of(overload, args, kwargs, None)
    taken = taken_of(overload, args, kwargs)
    out = overload(*args, **kwargs)
    result = call_of(overload, (), {}, out).result
    return out, default_registry().price(replace(before, result=result, taken=taken))


def cost(overload: Any, *args: Any, **kwargs: Any) -> Cost:
    """The operations of a call that must be counted."""
    price = ran(overload, *args, **kwargs)[1]
    assert price.state != "uncounted", price.error
    return price.cost.moving(0, 0)


# (2, 3): entries at 0,0 0,2 1,1; (3, 3): entries at 0,1 1,1 2,0 2,2.
A = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
B = torch.tensor([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0], [3.0, 0.0, 4.0]])
DENSE = torch.rand(3, 5)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse")  # CSR is in beta state
    COO_A, COO_B, CSR_A, CSR_B = A.to_sparse(), B.to_sparse(), A.to_sparse_csr(), B.to_sparse_csr()
    CSR_C = (A @ B).to_sparse_csr()
    UPPER = torch.tensor([[1.0, 2.0], [0.0, 4.0]]).to_sparse_csr()
    TWICE = torch.sparse_coo_tensor(torch.tensor([[0, 1, 0, 2, 0]]), torch.rand(5), (4,))
SOFT = aten._sparse_softmax.default(COO_A, 1, False)
REDUCED = aten._sparse_mm_reduce_impl.default(CSR_A, DENSE, "sum")
BOTH = [True, True]


def s(*shape: int, nnz: int | None = None) -> TensorSpec:
    return TensorSpec(shape, nnz=nnz)


# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("3 entries by rows of 5", "mm.default", (COO_A, DENSE), Cost(macs=15)),
    ("4 columns of 2 by 3 entries", "mm.default", (torch.rand(4, 2), CSR_A), Cost(macs=12)),
    ("3 entries in 2 matrices by rows of 5", "bmm.default",
     (torch.stack([A, 0 * A]).to_sparse(), torch.rand(2, 3, 5)), Cost(macs=15)),
    ("3 entries", "mv.default", (COO_A, torch.rand(3)), Cost(macs=3)),
    ("0,0 meets 0,1; 0,2 meets 2,0 and 2,2; 1,1 meets 1,1",
     "_sparse_sparse_matmul.default", (COO_A, COO_B), Cost(macs=4)),
    ("3 entries by rows of 5, kept as rows", "hspmm.default", (COO_A, DENSE), Cost(macs=15)),
    ("15 and the sum with 10", "addmm.default", (torch.rand(2, 5), COO_A, DENSE),
     Cost(macs=15, adds=10)),
    ("4 pairs, added to 4 stored", "_sparse_addmm.default", (CSR_C, CSR_A, CSR_B),
     Cost(macs=4, adds=4)),
    ("3 and the sum with 2", "addmv.default", (torch.rand(2), CSR_A, torch.rand(3)),
     Cost(macs=3, adds=2)),
    ("3 by rows of 5; side by side with 2", "sspaddmm.out",
     (torch.ones(2, 5).tril().to_sparse(), COO_A, DENSE), Cost(macs=15)),
    ("3 sums of 4, 3 adds", "sparse_sampled_addmm.default",
     (CSR_A, torch.rand(2, 4), torch.rand(4, 3)), Cost(macs=12, adds=3)),
    ("3 entries by rows of 5, 10 divided", "_sparse_mm_reduce_impl.default",
     (CSR_A, DENSE, "mean"), Cost(macs=15, divs=10)),
    ("15 products, all but 10 compared", "_sparse_mm_reduce_impl.default",
     (CSR_A, DENSE, "amax"), Cost(muls=15, comparisons=5)),
    ("3 by rows of 5, for both", "_sparse_mm_reduce_impl_backward.default",
     (CSR_A, torch.rand(2, 5), DENSE, "sum", REDUCED[1], BOTH), Cost(macs=30)),
    ("2 rows of 3: one beside the diagonal, 6 divisions", "triangular_solve.default",
     (torch.rand(2, 3), UPPER), Cost(macs=3, divs=6)),
    ("2 of 4 elements below the diagonal and on it, 2 rows of 3", "triangular_solve.default",
     (torch.rand(2, 3), torch.tensor([[3.0, 1.0], [2.0, 4.0]]).to_sparse_csr(), False),
     Cost(macs=3, divs=6)),
    ("a diagonal of ones that isn't stored", "triangular_solve.default",
     (torch.rand(2, 3), torch.tensor([[0.0, 1.0], [0.0, 0.0]]).to_sparse_csr(), True, False, True),
     Cost(macs=3)),
    ("rows of 2 and of 1", "_sparse_softmax.default", (COO_A, 1, False),
     Cost(comparisons=1, adds=3 + 1, transcendentals=3, divs=3)),
    ("columns of 1", "_sparse_softmax.default", (COO_A, 0, False),
     Cost(adds=3, transcendentals=3, divs=3)),
    ("rows of 2 and of 1, 2 logarithms", "_sparse_log_softmax.default", (COO_A, 1, False),
     Cost(comparisons=1, adds=6 + 1, transcendentals=3 + 2)),
    ("6 products, one sum of 2, 3 differences", "_sparse_softmax_backward_data.default",
     (SOFT, SOFT, 1, COO_A), Cost(muls=6, adds=3 + 1)),
    ("a sum of 2; exp, a product and a difference each",
     "_sparse_log_softmax_backward_data.default", (SOFT, SOFT, 1, COO_A),
     Cost(muls=3, adds=3 + 1, transcendentals=3)),
    ("5 entries halved 3 times; index 0 three times", "_coalesce.default", (TWICE,),
     Cost(comparisons=15, adds=2)),
    ("a row of 2", "_sparse_csr_prod.dim_dtype", (CSR_A, [1], True), Cost(muls=1)),
    ("copied to the entries", "_sparse_sum_backward.default",
     (torch.rand(2).to_sparse(), COO_A, [1]), Cost()),
    ("diagonals moved", "_spdiags.default", (torch.rand(1, 3), torch.tensor([0]), [3, 3], None),
     Cost()),
    ("copied", "copy_sparse_to_sparse.default", (COO_A, COO_A), Cost()),
]  # fmt: skip

# What no CPU runs: (why; operator; specs; result; expected)
ELSEWHERE: list[tuple[str, str, tuple[Any, ...], Any, Cost]] = [
    ("6 by rows of 5, 2·2·5 sums", "baddbmm.default",
     (s(2, 2, 5), s(2, 2, 3, nnz=6), s(2, 3, 5)), s(2, 2, 5), Cost(macs=30, adds=20)),
    ("rows of 6 meet 4·(6/2)²; 20 beside the diagonal for 3 columns; 12 + 4·3 divided",
     "_spsolve.default", (s(4, 4, nnz=24), s(4, 3)), s(4, 3), Cost(macs=36 + 60, divs=24)),
]  # fmt: skip

SPARE = """
    sparse_resize_and_clear.default sparse_compressed_tensor.comp_plain_value_size
    sparse_compressed_tensor.comp_plain_value sparse_coo_tensor.size_out
    _sparse_coo_tensor_with_dims.out _sparse_coo_tensor_with_dims_and_tensors.out sspaddmm.default
"""  # made or emptied, or an alias


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: str, args: tuple[Any, ...], expected: Cost) -> None:
    for overload in overloads(op):
        out = {"out": torch.zeros(2, 5).to_sparse()} if op.endswith(".out") else {}
        assert cost(overload, *args, **out) == expected, why


@pytest.mark.parametrize(("why", "op", "args", "result", "expected"), ELSEWHERE)
def test_hand_arithmetic_of_specs(
    why: str, op: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    for overload in overloads(op):
        priced = default_registry().price(OpCall(overload, args, (), result))
        assert priced.cost.moving(0, 0) == expected, why


def test_each_rule_has_a_row() -> None:
    names = [row[1] for row in ROWS] + [row[1] for row in ELSEWHERE] + SPARE.split()
    found = {rule.overload for rule in (*sparse.rules, *sparse_entries.rules)}
    assert found == set(overloads(*names))


# Random entries


@st.composite
def matrices(draw: st.DrawFn, *shape: int) -> torch.Tensor:
    """A dense tensor of which about half is zero."""
    source = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    chosen = torch.rand(shape, generator=source) < draw(st.sampled_from([0.2, 0.5, 1.0]))
    return torch.randn(shape, generator=source, dtype=f64) * chosen


size = st.integers(1, 4)
factors = st.sampled_from([0, 1, 2])


@given(data=st.data(), m=size, k=size, n=size, layout=st.sampled_from([COO, CSR, CSC]))
def test_sparse_by_dense_is_the_loop(
    data: st.DataObject, m: int, k: int, n: int, layout: torch.layout
) -> None:
    a, b, tally = data.draw(matrices(m, k)), torch.rand(k, n, dtype=f64), Tally()
    packed = a.to_sparse(layout=layout)
    torch.testing.assert_close(loops.sparse_by_dense(tally, packed, b), a @ b)
    assert cost(aten.mm.default, packed, b) == tally.cost


@given(data=st.data(), m=size, k=size, n=size, layout=st.sampled_from([CSR, CSC]))
def test_dense_by_sparse_is_the_loop(
    data: st.DataObject, m: int, k: int, n: int, layout: torch.layout
) -> None:
    a, b, tally = torch.rand(m, k, dtype=f64), data.draw(matrices(k, n)), Tally()
    packed = b.to_sparse(layout=layout)
    torch.testing.assert_close(loops.dense_by_sparse(tally, a, packed), a @ b)
    assert cost(aten.mm.default, a, packed) == tally.cost


@given(data=st.data(), n=size)
def test_a_product_with_blocks_multiplies_their_zeros(data: st.DataObject, n: int) -> None:
    a, b, tally = data.draw(matrices(4, 6)), torch.rand(6, n, dtype=f64), Tally()
    packed = a.to_sparse_bsr((2, 2))
    torch.testing.assert_close(loops.sparse_by_dense(tally, packed, b), a @ b)
    assert cost(aten.mm.default, packed, b) == tally.cost


@given(data=st.data(), b=size, m=size, k=size, n=size)
def test_a_batched_product_is_the_loop(data: st.DataObject, b: int, m: int, k: int, n: int) -> None:
    left, right, tally = data.draw(matrices(b, m, k)), torch.rand(b, k, n, dtype=f64), Tally()
    packed = left.to_sparse()
    torch.testing.assert_close(loops.sparse_by_dense(tally, packed, right), left @ right)
    assert cost(aten.bmm.default, packed, right) == tally.cost


@given(data=st.data(), m=size, k=size, n=size)
def test_sparse_by_sparse_is_the_loop_over_pairs(
    data: st.DataObject, m: int, k: int, n: int
) -> None:
    a, b, tally = data.draw(matrices(m, k)), data.draw(matrices(k, n)), Tally()
    torch.testing.assert_close(loops.sparse_by_sparse(tally, a.to_sparse(), b.to_sparse()), a @ b)
    op = aten._sparse_sparse_matmul.default
    assert cost(op, a.to_sparse(), b.to_sparse()) == tally.cost
    zeros = torch.zeros(m, n, dtype=f64).to_sparse_csr()
    packed = a.to_sparse_csr(), b.to_sparse_csr()
    assert cost(aten._sparse_addmm.default, zeros, *packed, beta=0) == tally.cost


def test_pairs_are_taken_from_each_layout() -> None:
    """4 pairs meet; blocks of 1 by 3 in all of A and of B: 6 elements by 3 columns."""
    op = aten._sparse_sparse_matmul.default
    for layout in (COO, CSR, CSC):
        pair = A.to_sparse(layout=layout), B.to_sparse(layout=layout)
        assert taken_of(op, pair, {}) == (4,)
    assert taken_of(op, (A.to_sparse_bsr((1, 3)), B.to_sparse_bsr((1, 3))), {}) == (18,)
    assert taken_of(op, (A, B.to_sparse()), {}) is None


def test_pairs_of_unknown_entries_are_estimated() -> None:
    """8·12 / 6."""
    op = aten._sparse_sparse_matmul.default
    call = OpCall(op, (s(5, 6, nnz=8), s(6, 7, nnz=12)), (), s(5, 7, nnz=15))
    price = default_registry().price(call)
    assert price.cost.macs == 16
    assert "spread evenly" in price.estimate
    assert ran(op, COO_A, COO_B)[1].estimate == ""


def test_a_product_with_a_dense_factor_is_no_estimate() -> None:
    for overload in (aten.mm.default, aten._sparse_addmm.default, aten.addmm.default):
        start = () if overload is aten.mm.default else (torch.rand(2, 5),)
        assert ran(overload, *start, COO_A, DENSE)[1].estimate == ""


@given(data=st.data(), m=size, k=size, n=size, beta=factors, alpha=factors)
def test_addmm_is_the_loop(
    data: st.DataObject, m: int, k: int, n: int, beta: int, alpha: int
) -> None:
    a, b, tally = data.draw(matrices(m, k)), torch.rand(k, n, dtype=f64), Tally()
    start = torch.rand(m, n, dtype=f64)
    product = loops.sparse_by_dense(tally, a.to_sparse(), b)
    out = loops.scaled_sum(tally, start, product, beta, alpha)
    for op, packed in (
        (aten.addmm.default, a.to_sparse()),
        (aten._sparse_addmm.default, a.to_sparse_csr()),
    ):
        found, price = ran(op, start, packed, b, beta=beta, alpha=alpha)
        torch.testing.assert_close(out, found)
        assert price.cost.moving(0, 0) == tally.cost


@given(data=st.data(), m=size, k=size, n=size, beta=factors, alpha=factors)
def test_a_sampled_product_is_the_loop(
    data: st.DataObject, m: int, k: int, n: int, beta: int, alpha: int
) -> None:
    pattern, tally = data.draw(matrices(m, n)).to_sparse_csr(), Tally()
    a, b = torch.rand(m, k, dtype=f64), torch.rand(k, n, dtype=f64)
    out = loops.sampled(tally, pattern, a, b, beta, alpha)
    found, price = ran(aten.sparse_sampled_addmm.default, pattern, a, b, beta=beta, alpha=alpha)
    torch.testing.assert_close(out, found.to_dense())
    assert price.cost.moving(0, 0) == tally.cost


reductions = st.sampled_from(["sum", "mean", "amax", "amin"])


@given(data=st.data(), m=size, k=size, n=size, reduce=reductions)
def test_a_reduced_product_is_the_loop(
    data: st.DataObject, m: int, k: int, n: int, reduce: str
) -> None:
    a, b, tally = data.draw(matrices(m, k)), torch.rand(k, n, dtype=f64), Tally()
    packed = a.to_sparse_csr()
    out = loops.reduced_product(tally, packed, b, reduce)
    found, price = ran(aten._sparse_mm_reduce_impl.default, packed, b, reduce)
    torch.testing.assert_close(out, found[0])
    assert (price.cost.moving(0, 0), price.estimate) == (tally.cost, "")


@given(data=st.data(), m=size, k=size, n=size, reduce=reductions)
def test_the_gradients_of_a_reduced_product_are_the_loop(
    data: st.DataObject, m: int, k: int, n: int, reduce: str
) -> None:
    """Values are a dense program's: torch's kernel for a maximum may crash."""
    a, b, tally = data.draw(matrices(m, k)), torch.rand(k, n, dtype=f64), Tally()
    g, packed = torch.rand(m, n, dtype=f64), a.to_sparse_csr()
    by_self, by_other = loops.reduced_product_backward(tally, packed, g, b, reduce)

    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    stored = (a != 0)[:, :, None]
    products = x[:, :, None] * y
    sums = (products * stored).sum(1)
    worst = torch.inf if reduce == "amin" else -torch.inf
    chosen = products.masked_fill(~stored, worst)
    out = {"sum": sums, "mean": sums / stored.sum(1).clamp(1)}.get(reduce)
    if out is None:
        out = chosen.amin(1) if reduce == "amin" else chosen.amax(1)
    out.backward(g)
    assert x.grad is not None
    torch.testing.assert_close(by_self, x.grad * stored[:, :, 0])
    torch.testing.assert_close(by_other, y.grad)

    back = aten._sparse_mm_reduce_impl_backward.default
    for mask, times in (([True, True], 1), ([True, False], 2), ([False, True], 2)):
        args = (packed, g, b, reduce, g.long(), mask)
        call = replace(call_of(back, args, {}, None), taken=taken_of(back, args, {}))
        price = default_registry().price(call)
        assert scaled(price.cost.moving(0, 0), times) == tally.cost
        assert price.estimate == ""


@pytest.mark.parametrize(
    ("reduce", "estimated"), [("sum", (0, 0)), ("mean", (1, 0)), ("amin", (1, 1))]
)
def test_rows_of_unknown_products_are_taken_to_have_one(
    reduce: str, estimated: tuple[int, int]
) -> None:
    """2 rows by 3 columns: 6 outputs of 5·3 products."""
    a, b, g = s(2, 4, nnz=5), s(4, 3), s(2, 3)
    forward = OpCall(aten._sparse_mm_reduce_impl.default, (a, b, reduce), (), (g, g))
    args = (a, g, b, reduce, g, (True, True))
    back = OpCall(aten._sparse_mm_reduce_impl_backward.default, args, (), (a, b))
    prices = [default_registry().price(call) for call in (forward, back)]
    assert tuple(int(price.estimate != "") for price in prices) == estimated
    expected = {
        "sum": (Cost(macs=15), Cost(macs=30)),
        "mean": (Cost(macs=15, divs=6), Cost(macs=30, divs=10)),
        "amin": (Cost(muls=15, comparisons=9), Cost(macs=12)),
    }
    assert tuple(price.cost.moving(0, 0) for price in prices) == expected[reduce]


@given(
    data=st.data(), m=size, n=size, upper=st.booleans(), transpose=st.booleans(),
    diagonal=st.sampled_from([0, 1, 2]),
)  # fmt: skip
def test_a_triangular_solve_is_the_loop(
    *, data: st.DataObject, m: int, n: int, upper: bool, transpose: bool, diagonal: int
) -> None:
    """Of a matrix with elements in its other triangle too; ones may be stored or not."""
    a, b, tally = data.draw(matrices(m, m)), torch.rand(m, n, dtype=f64), Tally()
    a = a.fill_diagonal_(diagonal).to_sparse_csr()
    ones = diagonal != 2
    assume(a.values().numel() > 0)  # torch's solution by a matrix of no entry is nan
    of = a.to_dense().T.to_sparse_csr() if transpose else a
    out = loops.solve_triangular(tally, of, b, ones, upper is not transpose)
    found, price = ran(aten.triangular_solve.default, b, a, upper, transpose, ones)
    torch.testing.assert_close(out, found[0])
    assert (price.cost.moving(0, 0), price.estimate) == (tally.cost, "")


def test_a_triangle_of_unknown_entries_is_estimated() -> None:
    """5 elements beside 4 on the diagonal, 3 columns."""
    call = OpCall(aten.triangular_solve.default, (s(4, 3), s(4, 4, nnz=9)), (), (s(4, 3), s()))
    price = default_registry().price(call)
    assert (price.cost.macs, price.cost.divs) == (15, 12)
    assert "in the triangle" in price.estimate


@pytest.mark.parametrize(("beta", "alpha", "muls"), [(1, 1, 0), (2, 1, 3), (0, 1, 0), (2, 3, 13)])
def test_factors_of_what_is_put_side_by_side(beta: int, alpha: int, muls: int) -> None:
    """3 elements and the 10 of a product of 2 rows."""
    start = torch.ones(2, 5).tril().to_sparse()
    kept = torch.zeros(2, 5).to_sparse()
    args = {"beta": beta, "alpha": alpha, "out": kept}
    assert cost(aten.sspaddmm.out, start, COO_A, DENSE, **args) == Cost(macs=15, muls=muls)
