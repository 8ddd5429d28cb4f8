"""Softmax, sorting and products of the entries of sparse tensors, against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.spec import OpCall
from tests import oracles_sparse as loops
from tests.formulas.test_sparse import matrices, ran, s
from tests.oracles import Tally

aten = torch.ops.aten
f64 = torch.float64
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

softmaxes = {
    False: (aten._sparse_softmax.default, aten._sparse_softmax_backward_data.default),
    True: (aten._sparse_log_softmax.default, aten._sparse_log_softmax_backward_data.default),
}


@given(data=st.data(), sparse_dims=st.integers(1, 3), dim=st.integers(0, 2), log=st.booleans())
@settings(max_examples=40)
def test_softmax_is_the_loop_over_rows(
    data: st.DataObject, sparse_dims: int, dim: int, log: bool
) -> None:
    x, tally = data.draw(matrices(2, 3, 2)).to_sparse(sparse_dims), Tally()
    out = loops.row_softmax(tally, x, dim, log)
    found, price = ran(softmaxes[log][0], x, dim, False)
    torch.testing.assert_close(out, found.to_dense())
    assert (price.cost.moving(0, 0), price.estimate) == (tally.cost, "")

    grad, tally = torch.rand(2, 3, 2, dtype=f64).sparse_mask(x.coalesce()), Tally()
    out = loops.row_softmax_backward(tally, grad, found, dim, log)
    back, price = ran(softmaxes[log][1], grad, found, dim, x)
    torch.testing.assert_close(out, back.to_dense())
    assert price.cost.moving(0, 0) == tally.cost


def test_rows_of_unknown_entries_are_estimated() -> None:
    """3 rows, 5 elements: 2 comparisons if each row has one."""
    for forward, backward in softmaxes.values():
        for op, more in ((forward, (1, False)), (backward, (s(3, 4, nnz=5), 1, s(3, 4, nnz=5)))):
            call = OpCall(op, (s(3, 4, nnz=5), *more), (), s(3, 4, nnz=5))
            price = default_registry().price(call)
            assert price.estimate == "of unknown entries each row is taken to have one"
            if op is forward:
                assert price.cost.comparisons == 2


@given(data=st.data(), dense=st.booleans())
def test_coalescing_adds_what_has_the_same_index(data: st.DataObject, dense: bool) -> None:
    indices = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2))
    values = torch.rand(len(indices), *((2,) if dense else ()), dtype=f64)
    shape = (3, 3, 2) if dense else (3, 3)
    x, tally = torch.sparse_coo_tensor(torch.tensor(indices).T, values, shape), Tally()
    out = loops.merged(tally, x)
    found, price = ran(aten._coalesce.default, x)
    torch.testing.assert_close(out, found.to_dense())
    rounds = 0
    while 2**rounds < len(indices):
        rounds += 1
    assert price.cost.moving(0, 0) == tally.cost + Cost(comparisons=len(indices) * rounds)


@given(data=st.data(), dim=st.integers(0, 1))
def test_a_product_along_rows_is_the_loop(data: st.DataObject, dim: int) -> None:
    x, tally = data.draw(matrices(3, 4)).to_sparse_csr(), Tally()
    out = loops.along(tally, x, (dim,), True, times=True)
    found, price = ran(aten._sparse_csr_prod.dim_dtype, x, [dim], True)
    torch.testing.assert_close(out, found.to_dense())
    assert price.cost.moving(0, 0) == tally.cost
