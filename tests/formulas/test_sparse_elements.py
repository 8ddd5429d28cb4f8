"""Operators of dense tensors on sparse ones: what is stored is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry, sparse_elements, sparse_quantized
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import OpCall, TensorSpec
from flopdispatch.variants import element_twin
from tests import oracles_sparse as loops
from tests.formulas.test_sparse import matrices
from tests.oracles import Tally
from tests.pricing import cost, price

aten = torch.ops.aten
f64 = torch.float64
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

ADD, MUL, DIV = Cost(adds=1), Cost(muls=1), Cost(divs=1)
COMPARISON, FUNCTION = Cost(comparisons=1), Cost(transcendentals=1)
X, G = TensorSpec((5, 6), nnz=4), TensorSpec((5, 6), nnz=4)

# What one of 4 stored elements out of 30 costs: (operators, arguments, each)
EACH: list[tuple[str, tuple[Any, ...], Cost]] = [
    ("abs.default neg.default sign.default sgn.default angle.default relu.default ceil.default "
     "floor.default round.default trunc.default", (X,), COMPARISON),
    ("asin.default asinh.default atan.default atanh.default erf.default erfinv.default "
     "expm1.default log1p.default sin.default sinh.default sqrt.default tan.default tanh.default",
     (X,), FUNCTION),
    ("deg2rad.default rad2deg.default", (X,), MUL),
    ("mul.Tensor mul.Scalar", (X, 2), MUL),
    ("div.Tensor div.Scalar", (X, 2), DIV),
    ("div.Tensor_mode div.Scalar_mode", (X, 2, "floor"), DIV + COMPARISON),
    ("floor_divide.default floor_divide.Scalar", (X, 2), DIV + COMPARISON),
    ("frac.default", (X,), ADD + COMPARISON),
    ("nan_to_num.default", (X,), 3 * COMPARISON),
    ("pow.Tensor_Scalar", (X, 2), MUL),
    ("pow.Tensor_Scalar", (X, 2.5), FUNCTION),
    ("round.decimals", (X, 2), MUL + COMPARISON + DIV),
    ("threshold_backward.default", (G, X, 0), COMPARISON),
    ("_conj_physical.default conj_physical.out conj_physical_.default", (X,), Cost()),
]  # fmt: skip

# Reductions of the 4 elements, and their results.
ONE, ROWS = TensorSpec(()), TensorSpec((5,), nnz=3)
REDUCED: list[tuple[str, str, tuple[Any, ...], Any, Cost]] = [
    ("3 adds", "sum.default", (X,), ONE, Cost(adds=3)),
    ("4 in 3 rows", "sum.dim_IntList", (X, [1]), ROWS, Cost(adds=1)),
    ("4 in 3 rows", "_sparse_sum.dim", (X, [1]), ROWS, Cost(adds=1)),
    ("4 in 3 rows", "_sparse_csr_sum.dim_dtype", (X, [1]), ROWS, Cost(adds=1)),
    *(
        ("4 squares, 3 adds, a root", name, (X, 2), ONE, Cost(muls=4, adds=3, transcendentals=1))
        for name in ("norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype",
                     "norm.ScalarOpt_dtype", "linalg_vector_norm.default")
    ),
    ("both", "_foreach_norm.Scalar", ((X, X), 2), (ONE, ONE),
     Cost(muls=8, adds=6, transcendentals=2)),
]  # fmt: skip


def priced(overload: Any, args: tuple[Any, ...], result: Any) -> Cost:
    found = default_registry().price(OpCall(overload, args, (), result))
    assert found.state != "uncounted"
    return found.cost.moving(0, 0)


@pytest.mark.parametrize(("names", "args", "each"), EACH)
def test_each_stored_element_costs_what_a_dense_one_does(
    names: str, args: tuple[Any, ...], each: Cost
) -> None:
    for overload in overloads(*names.split()):
        assert priced(overload, args, X) == 4 * each, overload


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), REDUCED)
def test_what_is_stored_is_reduced(
    why: str, name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    for overload in overloads(name):
        assert priced(overload, args, result) == expected, why


def test_each_rule_has_a_row() -> None:
    rows = [name for names, *_ in EACH for name in names.split()] + [row[1] for row in REDUCED]
    sums = ["add.Tensor", "sub.Tensor", "add_.Tensor", "sub_.Tensor"]  # below
    assert {r.overload for r in sparse_elements.rules} == set(overloads(*rows, *sums))


def test_families_are_those_of_dense_tensors() -> None:
    x = torch.eye(3).to_sparse()
    assert price(aten.relu.default, x).family == "pointwise"
    assert price(aten.sum.default, x).family == "reduction"


def kernels(*backends: str) -> Iterator[Any]:
    """The overloads that have a kernel for one of these backends."""
    for name in torch._C._dispatch_get_all_op_names():
        if any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in backends):
            space, _, operator = name.partition("::")
            operator, _, overload = operator.partition(".")
            packet = getattr(getattr(torch.ops, space), operator, None)
            if packet is not None and (overload or "default") in packet.overloads():
                yield getattr(packet, overload or "default")


@pytest.mark.parametrize("layout", ["sparse", "nested"])
def test_whatever_has_a_kernel_has_a_rule(layout: str) -> None:
    """But for an operator of torch's own tests."""
    backends = {
        "sparse": ("SparseCPU", "SparseCUDA", "SparseCsrCPU", "SparseCsrCUDA", "SparseMeta"),
        "nested": ("NestedTensorCPU", "NestedTensorCUDA"),
    }
    rules, found = default_registry(), list(kernels(*backends[layout]))
    unknown = [
        str(overload)
        for overload in found
        if rules.rule(overload, layout) is None
        and rules.rule(element_twin(overload), layout) is None
    ]
    assert len(found) > 50
    assert unknown in ([], ["aten._test_autograd_multiple_dispatch.ntonly"])


# Real tensors of each layout


def packed(x: torch.Tensor, layout: torch.layout) -> torch.Tensor:
    blocks = (1, 2) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    return x.to_sparse(layout=layout, blocksize=blocks)


DIAGONAL = torch.eye(4)


@pytest.mark.parametrize(
    ("layout", "stored"),
    [
        (torch.sparse_coo, 4),
        (torch.sparse_csr, 4),
        (torch.sparse_csc, 4),
        (torch.sparse_bsr, 8),  # 4 blocks of 2
        (torch.sparse_bsc, 8),
    ],
)
def test_each_layout_is_counted_by_what_it_stores(layout: torch.layout, stored: int) -> None:
    x = packed(DIAGONAL, layout)
    assert cost(aten.neg.default, x) == Cost(comparisons=stored)
    assert cost(aten.tanh_.default, x.clone()) == Cost(transcendentals=stored)
    assert cost(aten.sum.default, x) == Cost(adds=stored - 1)


def test_dense_dimensions_are_stored_whole() -> None:
    """2 entries of 3 elements, a row of zeros not."""
    x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]).to_sparse(1)
    assert cost(aten.abs.default, x) == Cost(comparisons=6)
    assert cost(aten.sum.default, x) == Cost(adds=5)


def test_a_product_has_the_entries_that_both_have() -> None:
    """0,0 alone; with a dense one those that are stored."""
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    for layout in (torch.sparse_coo, torch.sparse_csr):
        both = packed(x, layout), packed(x.T.contiguous(), layout)
        assert cost(aten.mul.Tensor, *both) == Cost(muls=1)
        assert cost(aten.mul.Tensor, both[0], torch.rand(2, 2)) == Cost(muls=2)


@given(data=st.data(), alpha=st.sampled_from([1, 2]))
def test_a_sum_of_sparse_tensors_is_the_loop(data: st.DataObject, alpha: int) -> None:
    a, b = data.draw(matrices(2, 3)), data.draw(matrices(2, 3))
    for layout in (torch.sparse_coo, torch.sparse_csr):
        both, tally = (packed(a, layout), packed(b, layout)), Tally()
        torch.testing.assert_close(loops.merged(tally, *both, alpha=alpha), a + alpha * b)
        assert cost(aten.add.Tensor, *both, alpha=alpha) == tally.cost
    coo, tally = (a.to_sparse(), b.to_sparse()), Tally()
    loops.merged(tally, *coo, alpha=alpha)
    assert cost(aten.sub.Tensor, *coo, alpha=alpha) == tally.cost
    assert cost(aten.add_.Tensor, *coo, alpha=alpha) == tally.cost


@given(data=st.data(), alpha=st.sampled_from([1, 2]))
def test_a_sparse_tensor_added_to_a_dense_one_is_the_loop(data: st.DataObject, alpha: int) -> None:
    dense, sparse, tally = torch.rand(3, 4, dtype=f64), data.draw(matrices(3, 4)), Tally()
    for x in (sparse.to_sparse(), sparse.to_sparse(1)):
        tally = Tally()
        out = loops.added_to_dense(tally, dense, x, alpha)
        torch.testing.assert_close(out, dense + alpha * sparse)
        assert cost(aten.add.Tensor, dense, x, alpha=alpha) == tally.cost
        assert cost(aten.add_.Tensor, dense.clone(), x, alpha=alpha) == tally.cost


@given(data=st.data(), dim=st.integers(0, 2), keep=st.booleans())
def test_a_sum_along_a_dimension_is_the_loop(data: st.DataObject, dim: int, keep: bool) -> None:
    x, tally = data.draw(matrices(2, 3, 2)), Tally()
    x[0, 0, 0] = 1.0  # a result of no entry is not asked about
    out = loops.along(tally, x.to_sparse(), (dim,), keep)
    torch.testing.assert_close(out, x.sum(dim, keep))
    assert cost(aten.sum.dim_IntList, x.to_sparse(), [dim], keep) == tally.cost
    if not keep:
        assert cost(aten._sparse_sum.dim, x.to_sparse(), [dim]) == tally.cost


@given(data=st.data(), dim=st.integers(0, 1))
def test_a_sum_along_rows_is_the_loop(data: st.DataObject, dim: int) -> None:
    x, tally = data.draw(matrices(3, 4)), Tally()
    out = loops.along(tally, x.to_sparse_csr(), (dim,), True)
    torch.testing.assert_close(out, x.sum(dim, True))
    for op in (aten._sparse_csr_sum.dim_dtype, aten.sum.dim_IntList):
        assert cost(op, x.to_sparse_csr(), [dim], True) == tally.cost


# Bytes


def test_a_gradient_added_to_a_dense_weight_moves_what_it_hits() -> None:
    """2 rows of 8 floats, read from both and written to one."""
    gradient = torch.sparse_coo_tensor(torch.tensor([[1, 3]]), torch.rand(2, 8), (100, 8))
    priced = price(aten.add_.Tensor, torch.rand(100, 8), gradient).cost
    assert (priced.bytes_read, priced.bytes_written) == (2 * 64, 64)
    priced = price(aten.add.Tensor, torch.rand(100, 8), gradient).cost
    assert (priced.bytes_read, priced.bytes_written) == (3_200 + 64, 3_200)


# Weights of which blocks are zero


def test_a_quantized_layer_with_a_sparse_weight_is_counted_as_dense() -> None:
    """2 rows of 8 by 3 columns; per output, or per element first, a mul, an add, 3 comparisons."""
    x = TensorSpec((2, 8), torch.quint8)
    out = TensorSpec((2, 3), torch.quint8)
    found = {rule.overload for rule in sparse_quantized.rules}
    names = ("qlinear", "qlinear_relu", "qlinear_dynamic", "qlinear_relu_dynamic")
    for overload in found & set(overloads(*(f"sparse::{name}.default" for name in names))):
        floating = "dynamic" in str(overload)
        specs = (TensorSpec((2, 8)), TensorSpec((2, 3))) if floating else (x, out)
        price = default_registry().price(OpCall(overload, (specs[0], None), (), specs[1]))
        assert price.cost.int_macs == 2 * 8 * 3
        assert price.cost.adds == (2 * 8 if floating else 0)
        relu = 6 if "relu" in str(overload) else 0
        assert price.cost.int_ops == 2 * 48 + (0 if floating else 6 * 5 + relu)
        assert "dense" in price.estimate
