"""Calls, prices and costs survive JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch import ArgumentError, Cost, TensorSpec, codec, spec
from flopdispatch.capture.keys import ByText
from flopdispatch.rules import Price, name_of
from flopdispatch.spec import OpCall

aten = torch.ops.aten

dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.complex128, torch.bool])
shapes = st.lists(st.integers(0, 2**40), max_size=4).map(tuple)
specs = st.builds(
    TensorSpec, shapes, dtypes, st.none() | shapes, st.sampled_from([torch.device("meta"),
                                                                     torch.device("cuda:1")])
)  # fmt: skip
atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | specs
    | st.complex_numbers(allow_nan=False) | dtypes
    | st.sampled_from([torch.strided, torch.sparse_coo, torch.channels_last, torch.device("cpu:0"),
                       ByText("torch._C.Generator", ""), torch.float8_e4m3fn, math.nan])
)  # fmt: skip
values = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8)


@given(values)
def test_a_value_survives_json(value: Any) -> None:
    back = codec.decode(json.loads(json.dumps(codec.encode(value))))
    assert [back] == [value]
    assert type(back) is type(value)


@pytest.mark.parametrize("number", [math.inf, -math.inf, 1e-300, 0.1])
def test_json_without_its_extensions_holds_every_float(number: float) -> None:
    assert codec.decode(json.loads(json.dumps(codec.encode(number), allow_nan=False))) == number


def test_an_object_comes_back_as_its_text() -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

    back = codec.decode(codec.encode(Thing()))
    assert isinstance(back, ByText)
    assert back.text == "a thing"


def test_a_call_survives_json() -> None:
    x = spec(2, 3)
    call = OpCall(aten.add.Tensor, (x, x), (("alpha", 0.5),), x)
    data = json.loads(json.dumps(codec.encode_call(call)))
    assert data["operator"] == "aten::add.Tensor"
    assert codec.decode_call(data) == call


def test_a_price_survives_json() -> None:
    for dtype in (torch.float16, None):
        price = Price(Cost(macs=3, bytes_read=4), "matmul", "counted", dtype, "half of it")
        assert codec.decode_price(json.loads(json.dumps(codec.encode_price(price)))) == price


@pytest.mark.parametrize(
    ("overload", "name"),
    [
        (aten.mm.default, "aten::mm.default"),
        (aten.add_.Tensor, "aten::add_.Tensor"),
        (torch.ops.higher_order.cond, "higher_order::cond"),
        (torch.ops.higher_order.map_impl, "higher_order::map_impl"),
        (torch.ops.higher_order.flex_attention, "higher_order::flex_attention"),
    ],
)
def test_an_operator_is_found_by_its_name(overload: Any, name: str) -> None:
    assert name_of(overload) == name
    assert codec.operator(name) is overload


@pytest.mark.parametrize("name", ["aten::no_such.default", "nobody::mm.default", "aten::mm.other"])
def test_an_unknown_operator_is_refused_by_name(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        codec.operator(name)
    assert str(caught.value) == (
        f"the operator {name} is not known here; import the library that registers it first"
    )
