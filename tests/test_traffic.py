"""Bytes that a call reads and writes, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.spec import OpCall, spec
from flopdispatch.traffic import is_view, traffic
from tests.pricing import call_of, overload_of, price

aten = torch.ops.aten
half, long, boolean = torch.float16, torch.int64, torch.bool


def x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


def moved(op: Any, *args: Any, **kwargs: Any) -> tuple[int, int]:
    before = call_of(op, args, kwargs, None)
    after = call_of(op, (), {}, op(*args, **kwargs))
    return traffic(OpCall(op, before.args, before.kwargs, after.result))


ROWS: list[tuple[str, Any, tuple[Any, ...], tuple[int, int]]] = [
    ("(2·3 + 3·4)·4 read, 2·4·4 written", aten.mm.default, (x(2, 3), x(3, 4)), (72, 32)),
    ("bias, input and weight", aten.addmm.default, (x(4), x(2, 3), x(3, 4)), (88, 32)),
    ("halves are 2 bytes", aten.add.Tensor, (x(5, dtype=half), x(5, dtype=half)), (20, 10)),
    ("mixed: 2 and 4 read, 4 written", aten.add.Tensor, (x(5, dtype=half), x(5)), (30, 20)),
    ("a comparison writes bools", aten.gt.Tensor, (x(5), x(5)), (40, 5)),
    ("a number is no tensor", aten.add.Scalar, (x(5), 2.0), (20, 20)),
    ("one element broadcast", aten.add.Tensor, (x(5), torch.ones(())), (24, 20)),
    ("an expanded operand is read once", aten.add.Tensor, (x(5, 3), x(3).expand(5, 3)), (72, 60)),
    ("in place: target read and written", aten.add_.Tensor, (x(5), x(5)), (40, 20)),
    ("in place, halves from floats", aten.add_.Tensor, (x(5, dtype=half), x(5)), (30, 10)),
    ("a clone reads and writes", aten.clone.default, (x(5),), (20, 20)),
    ("a cast reads one size and writes another",
     aten._to_copy.default, (x(5, dtype=half),), (10, 10)),
    ("a factory writes", aten.ones.default, ([5],), (0, 20)),
    ("views move nothing", aten.view.default, (x(2, 3), [6]), (0, 0)),
    ("nor do transposes", aten.t.default, (x(2, 3),), (0, 0)),
    ("nor expansions", aten.expand.default, (x(1, 3), [5, 3]), (0, 0)),
    ("nor detached ones", aten.detach.default, (x(2, 3),), (0, 0)),
    ("nor several views", aten.split.Tensor, (x(4, 3), 2), (0, 0)),
    ("a view's copy moves", aten.view_copy.default, (x(2, 3), [6]), (24, 24)),
    ("a list is read whole", aten.cat.default, ([x(2), x(3)],), (20, 20)),
    ("several results: 3 floats and 3 indices of 8", aten.max.dim, (x(3, 4), 1), (48, 36)),
    ("results not asked for", aten.native_layer_norm.default,
     (x(2, 3), [3], None, None, 1e-5), (24, 24 + 8 + 8)),
    ("a list of results", aten._foreach_add.List, ([x(2), x(3)], [x(2), x(3)]), (40, 20)),
    ("lists in place", aten._foreach_add_.List, ([x(2), x(3)], [x(2), x(3)]), (40, 20)),
    ("complex numbers are two", aten.mul.Tensor,
     (x(3, dtype=torch.complex64), x(3, dtype=torch.complex64)), (48, 24)),
    ("nothing is nothing", aten.add.Tensor, (x(0), x(0)), (0, 0)),
    ("one tensor twice is read twice", aten.mul.Tensor, (x(5), x(5)), (40, 20)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_bytes_by_hand(why: str, op: Any, args: Any, expected: tuple[int, int]) -> None:
    assert moved(op, *args) == expected


@pytest.mark.parametrize(
    ("why", "op", "args", "expected"),
    [
        ("a copy reads its source, not its target", aten.copy_.default,
         (x(5, dtype=half), x(5)), (20, 10)),
        ("a fill only writes", aten.fill_.Scalar, (x(5), 0.0), (0, 20)),
        ("zeros too", aten.zero_.default, (x(5),), (0, 20)),
        ("a view in place moves nothing", aten.t_.default, (x(2, 3),), (0, 0)),
        ("memory that is reserved isn't touched", aten.empty.memory_format, ([5],), (0, 0)),
        ("a table is read where it is looked up: 3 rows of 4, 3 indices", aten.embedding.default,
         (x(100, 4), torch.zeros(3, dtype=long)), (48 + 24, 48)),
    ],
)  # fmt: skip
def test_families_say_it_where_the_general_rule_is_wrong(
    why: str, op: Any, args: Any, expected: tuple[int, int]
) -> None:
    cost = price(op, *args).cost
    assert (cost.bytes_read, cost.bytes_written) == expected, why


def test_an_out_tensor_is_written_only() -> None:
    assert moved(aten.add.out, x(5), x(5), out=x(5)) == (40, 20)
    out = (x(3), torch.empty(3, dtype=long))
    assert moved(aten.max.dim_max, x(3, 4), 1, max=out[0], max_values=out[1]) == (48, 36)


def test_an_out_tensor_is_written_in_the_size_that_it_is_given() -> None:
    assert moved(aten.add.out, x(5), x(5), out=x(0)) == (40, 20)
    out = (x(0), torch.empty(0, dtype=long))
    assert moved(aten.max.dim_max, x(3, 4), 1, max=out[0], max_values=out[1]) == (48, 36)
    assert moved(aten._foreach_add.List_out, [x(2)], [x(2)], out=[x(2)]) == (16, 8)


def test_higher_order_operators_say_nothing_of_their_bytes() -> None:
    assert traffic(OpCall(torch.ops.higher_order.cond, (spec(3),), (), (spec(3),))) == (0, 0)


def test_views_are_those_whose_every_result_is_an_argument_unwritten() -> None:
    views = [aten.view.default, aten.select.int, aten.unbind.int, aten.alias.default]
    others = [aten.add_.Tensor, aten.add.out, aten.mm.default, aten.clone.default,
              aten.view_copy.default, aten._assert_async.default]  # fmt: skip
    assert all(is_view(op._schema) for op in views)
    assert not any(is_view(op._schema) for op in others)


def test_an_out_tensor_by_place_is_written_only() -> None:
    """5 queries, keys and values of 2·8 floats, and two tensors of 3 ends of 8 bytes."""
    x, ends = spec(5, 2, 8), spec(3, dtype=long)
    op = overload_of("_flash_attention_forward_no_dropout_inplace.default")
    call = OpCall(op, (x, x, x, x, ends, ends, 3, 3, 0.0, False, False), (), spec(2, 5))
    assert traffic(call)[0] == 3 * 4 * 80 + 2 * 8 * 3
