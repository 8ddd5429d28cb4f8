"""Programs with sparse and nested tensors: all that runs is counted, by what is stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from flopdispatch import FlopCounter
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.spec import OpCall, TensorSpec
from tests.dispatched import Dispatched

aten = torch.ops.aten
pytestmark = pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of nested")


# Sparse


def test_a_sparse_product_is_counted_by_its_entries() -> None:
    sparse, dense = torch.eye(8).to_sparse(), torch.ones(8, 8)
    with FlopCounter(display=False, strict=True) as counter:
        sparse @ dense
    assert counter.macs == 8 * 8


def test_a_sparse_operand_is_never_counted_as_a_dense_one() -> None:
    """A running sum has no sparse kernel and no rule for one."""
    x = TensorSpec((8, 8), nnz=8)
    price = default_registry().price(OpCall(aten.cumsum.default, (x, 0), (), x))
    assert (price.state, price.cost.flops) == ("uncounted", 0)


def test_copying_a_sparse_tensor_is_declared_zero() -> None:
    with FlopCounter(display=False, strict=True) as counter:
        torch.eye(8).to_sparse().to_dense()
    assert counter.flops == 0


def test_products_of_sparse_tensors_differ_in_the_entries_that_meet() -> None:
    """3 entries each: all meet, or one row meets three columns, or none."""
    corner, column, row = torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3, 3)
    column[:, 0], row[0, :], corner[1:, 1:] = 1, 1, torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    pairs = [(torch.eye(3), torch.eye(3)), (column, row), (column, corner)]
    for layout in (torch.sparse_coo, torch.sparse_csr):
        found = []
        for left, right in pairs:
            a, b = left.to_sparse(layout=layout), right.to_sparse(layout=layout)
            for product in (torch.sparse.mm, torch.mm):
                with Dispatched() as dispatched:
                    product(a, b)
                found.append(dispatched.total().macs)
                assert {price.estimate for _, price in dispatched.prices} == {""}
        assert found == [3, 3, 9, 9, 0, 0]


def test_variants_take_what_the_functional_operator_takes() -> None:
    """A diagonal of 3 by ones; in place it is one of the factors, as it was before."""
    a, b = torch.eye(3).to_sparse_csr(), torch.ones(3, 3).to_sparse_csr()
    out = torch.zeros(3, 3).to_sparse_csr()
    runs: list[Callable[[], Any]] = [lambda: torch.addmm(a, a, b, out=out), lambda: a.addmm_(a, b)]
    for run in runs:
        with Dispatched() as dispatched:
            run()
        assert dispatched.total().macs == 9
        assert {price.estimate for _, price in dispatched.prices} == {""}


def test_nothing_is_taken_from_dense_matrices() -> None:
    with FlopCounter(display=False) as counter:
        torch.eye(3) @ torch.eye(3)
    assert {call.taken for call in counter.profile.calls} == {None}


def test_a_tensor_made_sparse_stores_what_it_has() -> None:
    with FlopCounter(display=False) as counter:
        for dense in (torch.eye(4), torch.ones(4, 4), torch.zeros(4, 4)):
            dense.to_sparse()
    made = [call.result for call in counter.profile.calls if "to_sparse" in str(call.overload)]
    assert [result.nnz for result in made] == [4, 16, 0]


def eye(layout: torch.layout) -> torch.Tensor:
    """4 entries."""
    return torch.eye(4).to_sparse(layout=layout).requires_grad_()


def total(run: Callable[[], torch.Tensor]) -> Cost:
    """What a program and its backward cost."""
    with Dispatched() as dispatched:
        run().backward()
    assert dispatched.uncounted() == set()
    return dispatched.total()


def test_the_gradients_of_a_sparse_product_are_counted() -> None:
    """12 MACs; by the sparse factor 4·4 sums of 3, then masked, or 4 of them; by the dense 12."""
    b = torch.randn(4, 3, requires_grad=True)
    coo = total(lambda: torch.sparse.mm(eye(torch.sparse_coo), b).sum())
    csr = total(lambda: torch.sparse.mm(eye(torch.sparse_csr), b).sum())
    assert (coo.macs, csr.macs) == (12 + 48 + 12, 12 + 12 + 12)


COO = torch.sparse_coo
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "sum": lambda: torch.sparse.sum(eye(COO), 0).to_dense().sum(),
    "softmax": lambda: torch.sparse.softmax(eye(COO), 1).to_dense().sum(),
    "log_softmax": lambda: torch.sparse.log_softmax(eye(COO), 1).to_dense().sum(),
    "addmm": lambda: torch.sparse.addmm(torch.randn(4, 4), eye(COO), torch.randn(4, 4)).sum(),
    "product of two": lambda: torch.sparse.mm(eye(COO), eye(COO)).to_dense().sum(),
    "mul": lambda: (eye(COO) * eye(COO)).to_dense().sum(),
    "add": lambda: (eye(COO) + eye(COO)).to_dense().sum(),
    "add to dense": lambda: torch.sum(torch.randn(4, 4) + eye(COO)),
    "vector": lambda: torch.sum(eye(COO) @ torch.randn(4)),
    "batched": lambda: torch.bmm(
        torch.eye(4).expand(2, 4, 4).to_sparse().requires_grad_(), torch.randn(2, 4, 3)
    ).sum(),
    "sampled": lambda: torch.sparse.sampled_addmm(
        eye(torch.sparse_csr), torch.randn(4, 4), torch.randn(4, 4)
    ).to_dense().sum(),
    "mean of products": lambda: torch.sparse.mm(
        eye(torch.sparse_csr), torch.randn(4, 3), "mean"
    ).sum(),
    "relu": lambda: (eye(COO) * 2).relu().to_dense().sum(),
    "square": lambda: eye(COO).pow(2).to_dense().sum(),
    "quotient": lambda: (eye(COO) / 3).to_dense().sum(),
    "converted": lambda: eye(COO).to_sparse_csr().to_dense().sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_functions_and_their_gradients_are_counted(name: str) -> None:
    assert total(FUNCTIONS[name]).flops > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_functions_count_alike_in_each_grad_mode(name: str) -> None:
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), Dispatched() as dispatched:
            FUNCTIONS[name]()
        assert dispatched.uncounted() == set()
        found.append(dispatched.total())
    assert found[1:] == found[:1] * 2


# 3 indices, one of them twice: gradients of 3 rows of 4, of which 2 are left once added up.
OPTIMIZERS: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], Cost]] = {
    "SGD: 12 scaled and added": (
        lambda params: torch.optim.SGD(params, 0.1),
        Cost(muls=12, adds=12),
    ),
    "SparseAdam: 8 of 12 left, 6 comparisons; two moments of 8 (a difference, a product, "
    "squares for one); two made sums; root, eps, quotient, step, and the weight's sum": (
        lambda params: torch.optim.SparseAdam(list(params)),
        Cost(
            comparisons=6,
            adds=4 + 3 * 8 + 3 * 8 + 8 + 8,
            muls=8 + 2 * 8 + 8,
            transcendentals=8,
            divs=8,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_embedding_with_sparse_gradients_trains(name: str) -> None:
    make, step = OPTIMIZERS[name]
    embedding = nn.Embedding(10, 4, sparse=True)
    optimizer = make(embedding.parameters())
    embedding(torch.tensor([1, 2, 1])).sum().backward()
    with Dispatched() as dispatched:
        optimizer.step()
    assert dispatched.uncounted() == set()
    assert dispatched.total() == step


def test_momentum_of_sparse_gradients_is_counted() -> None:
    """12 of the momentum scaled, as many in the same order added; 12 scaled and added."""
    embedding = nn.Embedding(10, 4, sparse=True)
    optimizer = torch.optim.SGD(embedding.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        embedding(torch.tensor([1, 2, 1])).sum().backward()
        with Dispatched() as dispatched:
            optimizer.step()
    assert dispatched.uncounted() == set()
    assert dispatched.total() == Cost(muls=12 + 12, adds=12 + 12)


# Nested


def ragged(layout: torch.layout, *rows: int, grad: bool = False) -> torch.Tensor:
    parts = [torch.randn(n, 4) for n in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(parts, layout=layout, requires_grad=grad)


def test_a_nested_tensor_counts_the_elements_it_has() -> None:
    with FlopCounter(display=False) as counter:
        torch.relu(ragged(torch.strided, 2, 3))
    assert counter.profile.total.comparisons == 20


def test_a_jagged_linear_is_the_linear_of_its_rows() -> None:
    with FlopCounter(display=False) as counter:
        functional.linear(ragged(torch.jagged, 2, 3), torch.ones(6, 4))
    assert counter.macs == 5 * 4 * 6


# 5 rows of 4; what goes through a padded tensor has 2·3.
JAGGED: dict[str, tuple[Callable[[torch.Tensor], Any], Cost]] = {
    "linear, 5 rows": (
        lambda x: functional.linear(x, torch.ones(6, 4), torch.ones(6)),
        Cost(macs=120, adds=30),
    ),
    "matmul, 5 rows": (lambda x: torch.matmul(x, torch.ones(4, 6)), Cost(macs=120)),
    "bmm, padded": (lambda x: torch.bmm(x, torch.ones(2, 4, 6)), Cost(macs=6 * 4 * 6)),
    "softmax, 5 rows of 4": (
        lambda x: torch.softmax(x, -1),
        Cost(comparisons=15, adds=35, transcendentals=20, divs=20),
    ),
    "sum, 5 rows of 4": (lambda x: x.sum(-1), Cost(adds=15)),
    "sum along the ragged dimension, padded": (lambda x: x.sum(1), Cost(adds=24 - 8)),
    "layer norm, 5 rows of 4": (
        lambda x: functional.layer_norm(x, (4,), torch.ones(4), torch.ones(4)),
        Cost(adds=5 * 11 + 20, muls=60, divs=10, transcendentals=5),
    ),
    "gelu, 20": (functional.gelu, Cost(muls=60, adds=20, transcendentals=20)),
}


@pytest.mark.parametrize("name", JAGGED)
def test_jagged_tensors_count_alike_in_each_grad_mode(name: str) -> None:
    run, expected = JAGGED[name]
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            x = ragged(torch.jagged, 2, 3, grad=mode is torch.enable_grad)
            with Dispatched() as dispatched:
                run(x)
        assert dispatched.uncounted() == set()
        assert dispatched.total() == expected


def test_jagged_attention_is_that_of_its_sequences() -> None:
    """2 heads of 2: sequences of 2 and 3 have 2·(4 + 9) = 26 scores of 2 + 2, in each mode."""
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            x = ragged(torch.jagged, 2, 3, grad=mode is torch.enable_grad)
            q = x.view(2, -1, 2, 2).transpose(1, 2)
            with Dispatched() as dispatched:
                functional.scaled_dot_product_attention(q, q, q)
        assert dispatched.uncounted() == set()
        assert dispatched.total().macs == 26 * 4
        assert dispatched.total().transcendentals == 26


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_of_no_tensors() -> None:
    with FlopCounter(display=False) as counter:
        torch.nested.nested_tensor([])
    assert counter.flops == 0
