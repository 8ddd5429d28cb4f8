"""TensorSpec, spec() and OpCall: what formulas see."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch import ArgumentError, TensorSpec, spec
from flopdispatch.spec import OpCall, signature, tensors

aten = torch.ops.aten


@given(st.lists(st.integers(0, 4), max_size=4))
def test_a_spec_is_a_contiguous_tensor_on_meta(shape: list[int]) -> None:
    real = torch.empty(shape, device="meta")
    made = spec(*shape)
    assert made == TensorSpec(tuple(shape), torch.float32, real.stride(), torch.device("meta"))
    assert (made.ndim, made.numel, made.nbytes) == (real.ndim, real.numel(), 4 * real.numel())


def test_a_spec_has_the_dtype_it_is_given() -> None:
    assert spec(2, 128, dtype=torch.long).nbytes == 2 * 128 * 8
    assert spec(3, dtype=torch.bool).nbytes == 3
    assert spec(2, dtype=torch.complex64).nbytes == 16


def test_a_spec_follows_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert spec(2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("shape", "bad"), [(((2, 3),), "(2, 3)"), ((2, -1), "-1"), ((2.0,), "2.0"), ((True,), "True"),
                       (("B", 3), "'B'")]
)  # fmt: skip
def test_sizes_are_separate_integers(shape: Any, bad: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        spec(*shape)
    assert str(caught.value) == (
        f"spec() takes sizes as separate integers >= 0, got {bad} in {shape!r}; "
        "write spec(2, 3), not spec((2, 3))"
    )


@pytest.mark.parametrize("dtype", ["float32", int, 4])
def test_a_dtype_is_torchs(dtype: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        spec(2, dtype=dtype)
    assert str(caught.value) == f"spec() takes dtype as a torch.dtype, got {dtype!r}"


def test_an_argument_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="spec"):
        spec(-1)


@pytest.mark.parametrize(
    ("why", "tensor", "nbytes"),
    [
        ("2·3 elements of 4 bytes", torch.ones(2, 3), 24),
        ("a transposed view holds as many", torch.ones(2, 3).t(), 24),
        ("an expanded dimension is held once", torch.ones(1, 3).expand(5, 3), 12),
        ("all dimensions expanded: one element", torch.ones(()).expand(5, 3), 4),
        ("a size of 1 with stride 0", torch.ones(3).expand(1, 3), 12),
        ("a slice holds what it shows", torch.ones(8)[::2], 16),
        ("3 windows of 4, one step apart: 6 places", torch.ones(6).unfold(0, 4, 1), 24),
        ("2 windows of 2 apart from each other: 4 of 6", torch.ones(6).unfold(0, 2, 4), 16),
        ("windows of an expanded row", torch.ones(6).unfold(0, 4, 1).expand(5, 3, 4), 24),
        ("nothing", torch.ones(0, 3), 0),
        ("nothing, expanded", torch.ones(0, 1).expand(0, 3), 0),
        ("one number", torch.ones((), dtype=torch.float64), 8),
        ("complex numbers have two parts", torch.ones(2, dtype=torch.complex128), 32),
    ],
)
def test_bytes_are_those_of_the_elements_held(why: str, tensor: torch.Tensor, nbytes: int) -> None:
    made = TensorSpec(tuple(tensor.shape), tensor.dtype, tensor.stride(), tensor.device)
    assert made.nbytes == nbytes, why


def test_an_expanded_empty_tensor_holds_nothing() -> None:
    assert TensorSpec((0, 3), torch.float32, (0, 0)).nbytes == 0


def test_a_spec_without_strides_holds_all_its_elements() -> None:
    assert TensorSpec((2, 3), torch.float16).nbytes == 12


def test_a_spec_is_frozen_and_hashable() -> None:
    assert hash(spec(2, 3)) == hash(spec(2, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec(2).shape = (3,)  # type: ignore[misc]


# Calls


def test_arguments_are_bound_by_name_with_their_defaults() -> None:
    x = spec(2)
    call = OpCall(aten.add.Tensor, (x, x), (), x)
    assert call.arguments() == {"self": x, "other": x, "alpha": 1}
    call = OpCall(aten.add.Tensor, (x,), (("alpha", 3), ("other", x)), x)
    assert call.arguments() == {"self": x, "other": x, "alpha": 3}


def test_a_signature_is_the_schemas() -> None:
    names, defaults = signature(aten.convolution.default)
    assert names == (
        "input", "weight", "bias", "stride", "padding", "dilation", "transposed",
        "output_padding", "groups",
    )  # fmt: skip
    assert defaults == (None,) * 9
    # Higher-order operators have no schema: these are the parameters of its Python method.
    names, defaults = signature(torch.ops.higher_order.cond)
    assert names == ("pred", "true_fn", "false_fn", "operands")
    assert defaults == (None,) * 4


def test_tensors_are_found_in_nested_lists_in_order() -> None:
    one, two, three = spec(1), spec(2), spec(3)
    assert list(tensors((one, None, (two, 3, "text"), three))) == [one, two, three]
    assert list(tensors(one)) == [one]
    assert list(tensors(None)) == list(tensors("text")) == list(tensors(3)) == []
