"""Variants of an operator take its formula: in place, out=, _copy and _foreach_ twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flopdispatch import Cost, Registry
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, TensorSpec, signature
from flopdispatch.variants import element_twin, elements, functional_twin, is_out, outcome
from tests.pricing import call_of

aten = torch.ops.aten


def overload(name: str) -> Any:
    packet, _, which = name.partition(".")
    return getattr(getattr(aten, packet), which)


@pytest.mark.parametrize(
    ("variant", "twin"),
    [
        ("add_.Tensor", "add.Tensor"),
        ("sub_.Scalar", "sub.Scalar"),
        ("relu_.default", "relu.default"),
        ("addmm_.default", "addmm.default"),
        ("baddbmm_.default", "baddbmm.default"),
        ("copy_.default", "copy.default"),
        ("eq_.Tensor", "eq.Tensor"),
        ("index_put_.default", "index_put.default"),
        ("addcmul_.default", "addcmul.default"),
        ("add.out", "add.Tensor"),
        ("addmm.out", "addmm.default"),
        ("convolution.out", "convolution.default"),
        ("mean.out", "mean.dim"),
        ("sum.IntList_out", "sum.dim_IntList"),
        ("topk.values", "topk.default"),
        ("max.dim_max", "max.dim"),
        ("native_batch_norm.out", "native_batch_norm.default"),
        ("upsample_nearest2d.out", "upsample_nearest2d.default"),
        ("view_copy.default", "view.default"),
        ("permute_copy.default", "permute.default"),
        ("slice_copy.Tensor", "slice.Tensor"),
        ("split_copy.Tensor", "split.Tensor"),
        ("_foreach_add_.List", "_foreach_add.List"),
    ],
)
def test_a_variant_stands_for_its_functional_twin(variant: str, twin: str) -> None:
    assert functional_twin(overload(variant)) is overload(twin)


@pytest.mark.parametrize(
    "name", ["add.Tensor", "mm.default", "view.default", "normal_.default", "empty.memory_format"]
)
def test_an_operator_of_its_own_stands_for_itself(name: str) -> None:
    assert functional_twin(overload(name)) is None


@pytest.mark.parametrize(
    ("foreach", "twin"),
    [
        ("_foreach_add.List", "add.Tensor"),
        ("_foreach_add_.Scalar", "add.Scalar"),
        ("_foreach_add_.ScalarList", "add.Scalar"),
        ("_foreach_mul_.Tensor", "mul.Tensor"),
        ("_foreach_sqrt.default", "sqrt.default"),
        ("_foreach_lerp_.Scalar", "lerp.Scalar"),
        ("_foreach_addcdiv_.Scalar", "addcdiv.default"),
        ("_foreach_addcdiv_.ScalarList", "addcdiv.default"),
        ("_foreach_maximum_.List", "maximum.default"),
        ("_foreach_copy_.default", "copy.default"),
    ],
)
def test_a_foreach_operator_applies_its_twin_to_each_tensor(foreach: str, twin: str) -> None:
    assert element_twin(overload(foreach)) is overload(twin)


@pytest.mark.parametrize("name", ["add.Tensor", "mm.default", "cat.default"])
def test_an_operator_on_one_tensor_has_no_element_twin(name: str) -> None:
    assert element_twin(overload(name)) is None


def test_higher_order_operators_have_no_twins() -> None:
    assert functional_twin(torch.ops.higher_order.cond) is None
    assert element_twin(torch.ops.higher_order.cond) is None


def all_of_aten() -> list[Any]:
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        packet_name, _, which = rest.partition(".")
        packet = getattr(aten, packet_name, None) if namespace == "aten" else None
        if packet is not None and (which or "default") in packet.overloads():
            found.append(getattr(packet, which or "default"))
    return found


def test_nearly_all_of_atens_mutable_operators_have_a_twin() -> None:
    mutable = [op for op in all_of_aten() if op._schema.is_mutable]
    twins = [op for op in mutable if functional_twin(op) is not None]
    assert len(mutable) > 1000
    assert len(twins) >= 0.9 * len(mutable)


def test_a_twin_takes_the_same_inputs_and_changes_none() -> None:
    for op in all_of_aten():
        twin = functional_twin(op)
        if twin is None:
            continue
        schema = twin._schema
        assert not schema.is_mutable, op
        inputs = [a.name for a in op._schema.arguments if not is_out(a)]
        assert [a.name for a in schema.arguments] == inputs, op
        assert signature(twin)[0] == tuple(inputs), op
        name, base = op._schema.name, schema.name
        assert name in (base, base + "_", base + "_copy"), op


# Pricing


def per_element(self: TensorSpec) -> Cost:
    return Cost(adds=self.numel)


def registry() -> Registry:
    rules = Registry("mine")
    rules.formula(aten.add.Tensor, aten.add.Scalar)(per_element)
    rules.formula(aten.addcdiv.default)(lambda self: Cost(divs=self.numel))
    rules.zero(aten.t.default)
    return rules


def priced(op: Any, *args: Any, **kwargs: Any) -> Price:
    before = call_of(op, args, kwargs, None)
    after = call_of(op, (), {}, op(*args, **kwargs))
    return registry().price(type(before)(op, before.args, before.kwargs, after.result))


def x(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(n, dtype=dtype)


@pytest.mark.parametrize(
    ("why", "op", "args", "cost"),
    [
        ("in place: both are read, one is written", "add_.Tensor", (x(5), x(5)),
         Cost(adds=5, bytes_read=40, bytes_written=20)),
        ("each list's tensors, 2 + 3 elements", "_foreach_add.List",
         ([x(2), x(3)], [x(2), x(3)]), Cost(adds=5, bytes_read=40, bytes_written=20)),
        ("in place", "_foreach_add_.List", ([x(2), x(3)], [x(2), x(3)]),
         Cost(adds=5, bytes_read=40, bytes_written=20)),
        ("a number for all", "_foreach_add_.Scalar", ([x(2), x(3)], 2.0),
         Cost(adds=5, bytes_read=20, bytes_written=20)),
        ("a number for each", "_foreach_add_.ScalarList", ([x(2), x(3)], [1.0, 2.0]),
         Cost(adds=5, bytes_read=20, bytes_written=20)),
        ("three lists", "_foreach_addcdiv_.ScalarList",
         ([x(2), x(3)], [x(2), x(3)], [x(2), x(3)], [1.0, 2.0]),
         Cost(divs=5, bytes_read=60, bytes_written=20)),
        ("each in its own type: 2 of float, 3 complex of 2 adds", "_foreach_add_.Scalar",
         ([x(2), x(3, torch.complex64)], 2.0), Cost(adds=8, bytes_read=32, bytes_written=32)),
        ("one of no dimensions among others", "_foreach_add_.Scalar",
         ([torch.ones(()), x(3)], 2.0), Cost(adds=4, bytes_read=16, bytes_written=16)),
    ],
)  # fmt: skip
def test_a_variant_costs_what_its_twin_costs(why: str, op: str, args: Any, cost: Cost) -> None:
    found = priced(overload(op), *args)
    assert found.cost == cost, why
    assert found.state == "counted"


def test_an_out_tensor_is_written_and_costs_nothing_else() -> None:
    found = priced(aten.add.out, x(5), x(5), out=x(5))
    assert found.cost == Cost(adds=5, bytes_read=40, bytes_written=20)


def test_an_in_place_view_is_zero_and_moves_nothing() -> None:
    found = priced(aten.t_.default, torch.ones(2, 3))
    assert (found.state, found.cost.flops) == ("zero", 0)


def test_a_foreach_operator_without_a_twin_is_uncounted() -> None:
    assert priced(aten._foreach_exp.default, [x(2)]).state == "uncounted"


def test_the_elements_of_a_call_are_calls_of_the_twin() -> None:
    args = ([x(2), x(3)], [x(2), x(3)])
    call = call_of(aten._foreach_add.List, args, {"alpha": 3}, aten._foreach_add.List(*args))
    first, second = elements(call, aten.add.Tensor)
    assert first.overload is second.overload is aten.add.Tensor
    assert [c.arguments()["self"].shape for c in (first, second)] == [(2,), (3,)]
    assert [c.arguments()["alpha"] for c in (first, second)] == [3, 3]
    assert [c.result.shape for c in (first, second)] == [(2,), (3,)]


def test_no_tensors_are_no_elements() -> None:
    call = call_of(aten._foreach_add.Scalar, ([], 1.0), {}, [])
    assert elements(call, aten.add.Scalar) == []


def test_what_returns_nothing_gives_what_it_writes() -> None:
    """Lists of the largest elements; the one tensor of lists and several `out=` alike."""
    x = TensorSpec((4,))
    one, two = TensorSpec(()), TensorSpec((2,))
    out = OpCall(aten._foreach_max.out, ((x, x),), (("out", (one, one)),), None)
    assert outcome(out) == (one, one)
    several = OpCall(
        aten._cudnn_rnn_backward.out, (), (("out0", one), ("out1", two), ("out3", (x,))), None
    )
    assert outcome(several) == (one, two, (x,))
    assert outcome(OpCall(aten.add.out, (x, x), (("out", x),), x)) == x
    assert outcome(OpCall(aten._assert_async.default, (one,), (), None)) is None


def test_each_element_of_a_list_is_written_where_out_says() -> None:
    x, result = TensorSpec((4,)), TensorSpec((1,))
    call = OpCall(aten._foreach_max.out, ((x, x),), (("out", (result, result)),), None)
    assert [part.result for part in elements(call, aten.max.default)] == [result, result]
