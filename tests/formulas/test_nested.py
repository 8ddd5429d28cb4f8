"""Nested tensors in strided layout cost what the tensors in them do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry, nested
from flopdispatch.formulas.operators import overloads
from flopdispatch.spec import OpCall, TensorSpec, signature
from tests.dispatched import Dispatched
from tests.pricing import cost

aten = torch.ops.aten
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def ragged(*shapes: tuple[int, ...], grad: bool = False) -> torch.Tensor:
    parts = [torch.randn(shape) for shape in shapes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an old layout, once a process
        return torch.nested.nested_tensor(parts, requires_grad=grad)


def s(*parts: tuple[int, ...]) -> TensorSpec:
    """A nested tensor: its elements in a row."""
    numel = sum(torch.Size(shape).numel() for shape in parts)
    return TensorSpec((numel,), stride=(1,), parts=parts)


# Parts (2, 4) and (3, 4): 20 elements in 5 rows.
X = ragged((2, 4), (3, 4))
SQUARES = ragged((2, 2), (3, 3))
ONES = torch.ones(4)
WEIGHT = torch.rand(6, 4)
NORM = aten.native_layer_norm.default(X, [4], ONES, ONES, 1e-5)

# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("2·2 and 3·3 sums of 4", "bmm.default", (X, X.transpose(1, 2)), Cost(macs=16 + 36)),
    ("2·2 and 3·3 sums of 4", "matmul.default", (X, X.transpose(1, 2)), Cost(macs=16 + 36)),
    ("both factors of 2·2 and 3·3 sums of 4", "matmul_backward.default",
     (SQUARES, X, X.transpose(1, 2), [True, True]), Cost(macs=2 * (16 + 36))),
    ("2 rows of 2 and 3 of 3: 13 elements, 2 + 6 folds", "_softmax.default",
     (SQUARES, -1, False), Cost(comparisons=8, adds=13 + 8, transcendentals=13, divs=13)),
    ("5 rows of 4: 20 elements, 15 folds", "_softmax.default",
     (X, 2, False), Cost(comparisons=15, adds=20 + 15, transcendentals=20, divs=20)),
    ("2 rows of 2 and 3 of 3, cleared", "_safe_softmax.default",
     (SQUARES, -1), Cost(comparisons=8, adds=13 + 8, transcendentals=13, divs=13)),
    ("26 products, 8 folds, 13 differences", "_softmax_backward_data.default",
     (SQUARES, SQUARES, -1, torch.float32), Cost(muls=26, adds=13 + 8)),
    ("5 rows of 4: 3 + 4 + 3 + 1 adds each, and 20", "native_layer_norm.default",
     (X, [4], ONES, ONES, 1e-5),
     Cost(adds=5 * 11 + 20, muls=20 + 40, divs=10, transcendentals=5)),
    ("by weight and bias: 5 rows summed twice for 4, 20 differences; 20 scaled, 20 products",
     "native_layer_norm_backward.default",
     (X, X, [4], NORM[1], NORM[2], ONES, ONES, [False, True, True]),
     Cost(adds=20 + 2 * 16, muls=20 + 20)),
    ("5 rows of 6 sums of 4", "linear.default", (X, WEIGHT, torch.rand(6)),
     Cost(macs=120, adds=30)),
    ("input, weight; 5 rows of 6 summed up", "linear_backward.default",
     (X, ragged((2, 6), (3, 6)), WEIGHT, [True, True, True]), Cost(macs=240, adds=24)),
    ("20 elements, 5 left", "sum.dim_IntList", (X, [-1], True), Cost(adds=15)),
    ("20 elements", "gelu.default", (X,), Cost(muls=60, adds=20, transcendentals=20)),
    ("20 sums", "add.Tensor", (X, X), Cost(adds=20)),
    ("taken apart", "chunk.default", (X, 2, -1), Cost()),
    ("a part of it", "narrow.default", (X, 0, 0, 1), Cost()),
    ("expanded", "_nested_sum_backward.default", (ragged((2, 1), (3, 1)), X, [-1], True), Cost()),
    ("cut from the padded", "_nested_from_padded_and_nested_example.default",
     (torch.rand(2, 3, 4), X), Cost()),
    ("2 heads of 2·2 and 3·3: 26 elements, 2·2 + 2·6 folds",
     "_nested_tensor_softmax_with_shape.default", (torch.rand(2, 2, 3, 3), X),
     Cost(comparisons=16, adds=26 + 16, transcendentals=26, divs=26)),
    ("where parts begin", "_nested_compute_contiguous_strides_offsets.default",
     (torch.tensor([[2, 4], [3, 4]]),), Cost()),
    ("whether a mask is of the left", "_nested_tensor_from_mask_left_aligned.default",
     (torch.rand(2, 3, 4), torch.tensor([[True, True, False], [True, True, True]])), Cost()),
]  # fmt: skip

# Fused attention, which CUDA has for nested tensors: 2 heads, 2 and 3 queries of 4 see 1 and 5
# keys; values of 6. 4·1 + 6·5 = 34 scores in 10 rows.
Q, K, V = s((2, 2, 4), (2, 3, 4)), s((2, 1, 4), (2, 5, 4)), s((2, 1, 6), (2, 5, 6))
SCORES = Cost(macs=34 * 10, muls=34, comparisons=34 - 10, adds=34 + 24, transcendentals=34, divs=34)
GRADIENTS = Cost(macs=2 * 34 * 10, muls=34 + 2 * 34, adds=34 + 24)
FUSED = [
    ("_scaled_dot_product_flash_attention", SCORES, GRADIENTS),
    ("_scaled_dot_product_efficient_attention", SCORES, GRADIENTS),
    ("_scaled_dot_product_cudnn_attention", SCORES, GRADIENTS),
]


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, op: str, args: tuple[Any, ...], expected: Cost) -> None:
    for overload in overloads(op):
        assert cost(overload, *args) == expected, why


@pytest.mark.parametrize(("name", "forward", "backward"), FUSED)
def test_fused_attention_pairs_the_parts(name: str, forward: Cost, backward: Cost) -> None:
    known = {"query": Q, "key": K, "value": V, "dropout_p": 0.0}
    for suffix, expected in ((".default", forward), ("_backward.default", backward)):
        for overload in overloads(name + suffix):
            given = {n: v for n, v in known.items() if n in signature(overload)[0]}
            price = default_registry().price(OpCall(overload, (), tuple(given.items()), None))
            assert price.cost.moving(0, 0) == expected
            assert (price.family, price.estimate) == ("attention", "")


def test_each_rule_has_a_row() -> None:
    fused = [name + suffix for name, *_ in FUSED for suffix in (".default", "_backward.default")]
    rest = ["value_selecting_reduction_backward.default"]  # scatters; no program could reach it
    named = {op for row in ROWS for op in overloads(row[1])}
    assert {rule.overload for rule in nested.rules} <= named | set(overloads(*fused, *rest))


def test_unknown_parts_are_an_error_in_the_table_and_no_number() -> None:
    rows = TensorSpec((20,), stride=(1,))
    call = OpCall(aten.bmm.default, (rows, rows), (), TensorSpec((13,), stride=(1,)))
    assert default_registry().price_or_error(call).state == "uncounted"


# Programs: a nested tensor against its parts, one by one

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def alone(parts: Sequence[torch.Tensor], run: Callable[[torch.Tensor], Any]) -> Cost:
    """What a program costs on each part as a batch of one."""
    with Dispatched() as dispatched:
        for part in parts:
            run(part[None])
    return dispatched.total()


PROGRAMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "bmm": lambda x: torch.bmm(x, x.transpose(1, 2)),
    "matmul": lambda x: torch.matmul(x, x.transpose(1, 2)),
    "softmax": lambda x: torch.softmax(x, -1),
    "softmax of products": lambda x: torch.softmax(torch.bmm(x, x.transpose(1, 2)), -1),
    "layer_norm": lambda x: functional.layer_norm(x, (4,), ONES, ONES),
    "linear": lambda x: functional.linear(x, WEIGHT),
    "gelu": functional.gelu,
    "scaled": lambda x: x / 2,
    "sum": lambda x: x.sum(-1, keepdim=True),
}


@pytest.mark.parametrize("name", PROGRAMS)
@given(rows=shapes)
@settings(max_examples=8, deadline=None)
def test_a_nested_tensor_costs_what_its_parts_do(name: str, rows: list[int]) -> None:
    parts = [torch.randn(n, 4) for n in rows]
    x = torch.nested.nested_tensor(parts)
    with Dispatched() as whole:
        PROGRAMS[name](x)
    assert whole.total() == alone(parts, PROGRAMS[name])
    assert whole.uncounted() == set()


def grad_modes(run: Callable[[], Any]) -> list[Cost]:
    """What a program costs with gradients, without, and in inference mode."""
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), Dispatched() as dispatched:
            run()
        assert dispatched.uncounted() == set()
        found.append(dispatched.total())
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_grad_modes_count_alike(name: str) -> None:
    first, *others = grad_modes(lambda: PROGRAMS[name](ragged((2, 4), (3, 4), grad=True)))
    assert others == [first, first]
    assert first != Cost()


def test_attention_of_nested_tensors_is_that_of_their_parts() -> None:
    """2 heads; 3 and 5 positions of 4: 2·(9 + 25) scores of 4 + 4, forth; twice that, back."""
    q, k, v = (ragged((2, 3, 4), (2, 5, 4), grad=True) for _ in range(3))
    with Dispatched() as forward:
        out = functional.scaled_dot_product_attention(q, k, v)
    with Dispatched() as backward:
        out.backward(torch.ones_like(out))
    assert (forward.total().macs, backward.total().macs) == (544, 1088)
    assert forward.uncounted() | backward.uncounted() == set()
    first, *others = grad_modes(lambda: functional.scaled_dot_product_attention(q, k, v))
    assert others == [first, first]


def test_a_linear_layer_trains() -> None:
    """5 rows of 6 sums of 4, thrice; biases added; their gradients are sums of 5."""
    layer = torch.nn.Linear(4, 6)
    x = ragged((2, 4), (3, 4), grad=True)
    with Dispatched() as dispatched:
        out = layer(x)
        out.backward(torch.ones_like(out))
    assert dispatched.total() == Cost(macs=3 * 120, adds=30 + 6 * 4)
    assert dispatched.uncounted() == set()
