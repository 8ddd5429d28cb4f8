"""Registry: which formula prices what, and how a call is priced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_mutation

from flopdispatch import (
    ArgumentError,
    Cost,
    FormulaError,
    Registry,
    RegistryError,
    TensorSpec,
    default_registry,
)
from flopdispatch.conventions import CONVENTIONS, convention
from flopdispatch.promotion import compute_dtype, promoted
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, spec
from tests.pricing import call_of

aten = torch.ops.aten
f16, f32, f64 = torch.float16, torch.float32, torch.float64
bf16, c64, c128 = torch.bfloat16, torch.complex64, torch.complex128
i8, i32, i64, boolean = torch.int8, torch.int32, torch.int64, torch.bool


def priced(registry: Registry, overload: Any, *args: Any, **kwargs: Any) -> Price:
    call = call_of(overload, args, kwargs, overload(*args, **kwargs))
    return registry.price(call)


def one_mul(self: TensorSpec) -> Cost:
    return Cost(muls=self.numel)


def made(overload: Any = aten.mul.Tensor, **options: Any) -> Registry:
    """A registry in which the overload costs one multiplication per element of `self`."""
    rules = Registry("mine", "one multiplication")
    rules.formula(overload, **options)(one_mul)
    return rules


# Registration


def error_of(action: Callable[[], Any]) -> str:
    with pytest.raises(RegistryError) as caught:
        action()
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_a_decorator_gives_its_function_back() -> None:
    rules = Registry("mine")
    assert rules.formula(aten.mul.Tensor)(one_mul) is one_mul


def test_a_duplicate_is_refused_unless_it_overrides() -> None:
    rules = made()
    assert error_of(lambda: rules.formula(aten.mul.Tensor)(one_mul)) == (
        "aten.mul.Tensor has a rule in the registry 'mine' already; "
        "pass override=True to replace it"
    )
    assert "already" in error_of(lambda: rules.zero(aten.mul.Tensor))
    rules.zero(aten.mul.Tensor, override=True)
    assert priced(rules, aten.mul.Tensor, torch.ones(2), torch.ones(2)).state == "zero"


def test_a_formula_asks_for_arguments_that_the_schema_has() -> None:
    def formula(self: TensorSpec, mat3: TensorSpec) -> Cost:
        return Cost()

    assert error_of(lambda: Registry("mine").formula(aten.mm.default)(formula)) == (
        "formula() asks for 'mat3', which aten.mm.default has not: "
        "its arguments are mat2, result, self, taken"
    )


def test_an_override_of_bytes_is_held_to_the_schema_too() -> None:
    def nbytes(wrong: TensorSpec) -> tuple[int, int]:
        return 0, 0

    rules = Registry("mine")
    assert "nbytes() asks for 'wrong'" in error_of(
        lambda: rules.zero(aten.t.default, nbytes=nbytes)
    )


@pytest.mark.parametrize("thing", ["aten.mm.default", torch.mm, aten.mm, None])
def test_a_rule_is_for_an_overload(thing: Any) -> None:
    assert error_of(lambda: Registry("mine").formula(thing)(one_mul)) == (
        f"a rule is registered for an operator overload such as torch.ops.aten.mm.default, or its "
        f"name 'aten::mm.default', got {thing!r}"
    )


def test_a_higher_order_operator_may_have_a_rule() -> None:
    rules = Registry("mine")

    @rules.formula(torch.ops.higher_order.cond)
    def cond(result: Any) -> Cost:
        return Cost(adds=7)

    call = OpCall(torch.ops.higher_order.cond, (), (), (spec(2),))
    assert rules.price(call).cost.adds == 7


def test_the_default_registry_is_frozen_and_an_overlay_is_not() -> None:
    assert error_of(lambda: default_registry().zero(torch.ops.higher_order.cond)) == (
        "the registry 'flopdispatch' is shared and can't be changed; "
        "register on default_registry().overlay('name') and pass it as convention="
    )
    assert default_registry() is default_registry()
    mine = default_registry().overlay("mine")
    assert mine.description == default_registry().description
    mine.formula(aten.mm.default)(one_mul)
    assert priced(mine, aten.mm.default, torch.ones(2, 3), torch.ones(3, 4)).cost.muls == 6
    assert priced(default_registry(), aten.mm.default, torch.ones(2, 3), torch.ones(3, 4)).cost == (
        Cost(macs=24, bytes_read=24 + 48, bytes_written=32)
    )


def test_an_overlay_of_an_overlay_falls_through() -> None:
    low = made()
    high = low.overlay("middle").overlay("high")
    assert priced(high, aten.mul.Tensor, torch.ones(3), torch.ones(3)).cost.muls == 3
    assert {rule.overload for rule in high} == {aten.mul.Tensor}
    high.zero(aten.mul.Tensor)
    assert [rule.state for rule in high] == ["zero"]
    assert [rule.state for rule in low] == ["counted"]


def test_a_rule_added_late_is_found() -> None:
    rules = default_registry().overlay("mine")
    kernel = triton_kernel_wrapper_mutation
    assert rules.rule(kernel) is None
    rules.zero(kernel)
    found = rules.rule(kernel)
    assert found is not None
    assert found.state == "zero"


def test_families_that_overlap_cannot_be_included() -> None:
    both = Registry("both")
    both.include(made())
    assert "already" in error_of(lambda: both.include(made()))


# States


def test_a_call_is_counted_declared_zero_or_uncounted() -> None:
    rules = made()
    rules.zero(aten.t.default, family="views")
    x = torch.ones(2, 3)
    counted = priced(rules, aten.mul.Tensor, x, x)
    zero = priced(rules, aten.t.default, x)
    unknown = priced(rules, aten.mm.default, x, x.t())
    assert (counted.state, counted.family) == ("counted", "mine")
    assert (zero.state, zero.family, zero.cost) == ("zero", "views", Cost())
    assert (unknown.state, unknown.family) == ("uncounted", "uncounted")
    assert unknown.cost == Cost(bytes_read=48, bytes_written=16), "its bytes are known all the same"


def test_an_estimate_says_so() -> None:
    rules = made(estimate="half of it")
    assert priced(rules, aten.mul.Tensor, torch.ones(2), torch.ones(2)).estimate == "half of it"


def test_a_rule_may_know_its_bytes_better() -> None:
    rules = made(nbytes=lambda self, result: (self.numel, 7))
    cost = priced(rules, aten.mul.Tensor, torch.ones(5), torch.ones(5)).cost
    assert (cost.bytes_read, cost.bytes_written, cost.muls) == (5, 7, 5)


def test_a_formula_for_real_operations_is_not_converted() -> None:
    for typed, muls in ((True, 4 * 3), (False, 3)):
        rules = made(typed=typed)
        x = torch.ones(3, dtype=c64)
        assert priced(rules, aten.mul.Tensor, x, x).cost.muls == muls


def test_a_formula_sees_keywords_defaults_and_the_result() -> None:
    rules, seen = Registry("mine"), []

    @rules.formula(aten.add.Tensor)
    def add(alpha: int, other: TensorSpec, result: TensorSpec) -> Cost:
        seen.append((alpha, other.shape, result.shape))
        return Cost()

    priced(rules, aten.add.Tensor, torch.ones(2, 1), torch.ones(3), alpha=2)
    priced(rules, aten.add.Tensor, torch.ones(2), torch.ones(()))
    assert seen == [(2, (3,), (2, 3)), (1, (), (2,))]


def test_a_formula_that_fails_names_operator_arguments_and_reason() -> None:
    rules = Registry("mine")

    @rules.formula(aten.mul.Tensor)
    def mul(self: TensorSpec) -> Cost:
        raise IndexError("no third dimension")

    with pytest.raises(FormulaError) as caught:
        priced(rules, aten.mul.Tensor, torch.ones(2), torch.ones(2))
    text = str(caught.value)
    assert text.startswith("the formula of aten.mul.Tensor raised IndexError: no third dimension; ")
    assert "its arguments were (TensorSpec(shape=(2,)" in text
    assert "its result TensorSpec(shape=(2,)" in text


@pytest.mark.parametrize("wrong", [3, None, (1, 2)])
def test_a_formula_returns_a_cost(wrong: Any) -> None:
    rules = Registry("mine")
    rules.formula(aten.mul.Tensor)(lambda self: wrong)
    with pytest.raises(FormulaError) as caught:
        priced(rules, aten.mul.Tensor, torch.ones(2), torch.ones(2))
    assert str(caught.value) == f"the formula of aten.mul.Tensor returned {wrong!r}, not a Cost"


# Types


def ones(dtype: torch.dtype, *shape: int) -> TensorSpec:
    return spec(*shape, dtype=dtype)


@pytest.mark.parametrize(
    ("why", "operands", "expected"),
    [
        ("one type", [ones(f32, 2), ones(f32, 2)], f32),
        ("the wider", [ones(f16, 2), ones(f32, 2)], f32),
        ("neither half holds the other", [ones(f16, 2), ones(bf16, 2)], f32),
        ("floating wins over integer", [ones(i64, 2), ones(f16, 2)], f16),
        ("complex wins, at the width of both", [ones(f64, 2), ones(c64, 2)], c128),
        ("integer wins over bool", [ones(boolean, 2), ones(i8, 2)], i8),
        ("a number of the same kind does not widen", [ones(f32, 2), ones(f64)], f32),
        ("wherever it stands", [ones(f64), ones(f32, 2)], f32),
        ("a number of a higher kind does", [ones(i64, 2), ones(f64)], f64),
        ("a complex number makes complex, no wider", [ones(f32, 2), ones(c128)], c64),
        ("numbers among themselves widen", [ones(f32), ones(f64)], f64),
        ("a bool mask beside floats", [ones(f16, 2), ones(boolean, 2)], f16),
        ("types of 8 bits: the larger", [ones(torch.float8_e4m3fn, 2), ones(bf16, 2)], bf16),
        ("nothing", [], None),
    ],
)
def test_operands_promote_as_torch_promotes(
    why: str, operands: list[TensorSpec], expected: torch.dtype | None
) -> None:
    assert promoted(operands) == expected, why


@pytest.mark.parametrize("one", [f32, f64, f16, bf16, c64, c128, i8, i64, boolean])
@pytest.mark.parametrize("other", [f32, f64, f16, bf16, c64, c128, i8, i64, boolean])
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((), (2,)), ((2,), ()), ((), ())])
def test_the_promotion_is_torchs_own(
    one: torch.dtype, other: torch.dtype, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    tensors = torch.ones(shapes[0], dtype=one), torch.ones(shapes[1], dtype=other)
    specs = [ones(one, *shapes[0]), ones(other, *shapes[1])]
    assert promoted(specs) == torch.result_type(*tensors)


def call(overload: Any, *args: Any, **kwargs: Any) -> OpCall:
    return call_of(overload, args, kwargs, overload(*args, **kwargs))


x, whole = torch.ones(2, 2), torch.ones(2, 2, dtype=i64)

DTYPES: list[tuple[str, OpCall, torch.dtype | None]] = [
    ("the operands'", call(aten.mul.Tensor, x, x), f32),
    ("integers divided become floats first", call(aten.div.Tensor, whole, whole), f32),
    ("integers' mean, too", call(aten.mean.dim, whole, [0], dtype=f64), f64),
    ("integers times a Python float", call(aten.mul.Scalar, whole, 0.5), f32),
    ("integers compared stay integers", call(aten.gt.Tensor, whole, whole), i64),
    ("floats compared compute in floats", call(aten.gt.Tensor, x, x), f32),
    ("an index is an operand of a wider type's", call(aten.index_select.default, x, 0,
                                                      torch.zeros(1, dtype=i64)), f32),
    ("what is written only is no operand",
     call(aten.add.out, x, x, out=torch.empty(2, 2, dtype=f64)), f32),
    ("a factory's is its result's", call(aten.arange.default, 3), i64),
    ("without tensors there is none", OpCall(torch.ops.higher_order.cond, (), (), None), None),
]  # fmt: skip


@pytest.mark.parametrize(("why", "made_call", "expected"), DTYPES, ids=[row[0] for row in DTYPES])
def test_a_call_computes_in_its_operands_type(
    why: str, made_call: OpCall, expected: torch.dtype | None
) -> None:
    assert compute_dtype(made_call) == expected


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (f16, Cost(macs=24)),
        (c64, Cost(macs=96)),
        (i64, Cost(int_macs=24, int_ops=48)),
    ],
)
def test_a_product_counts_by_its_type(dtype: torch.dtype, expected: Cost) -> None:
    a, b = torch.ones(2, 3, dtype=dtype), torch.ones(3, 4, dtype=dtype)
    assert priced(default_registry(), aten.mm.default, a, b).cost.moving(0, 0) == expected


# Conventions


def test_a_convention_is_a_name_a_registry_or_the_default() -> None:
    mine = Registry("mine")
    assert convention(None) is default_registry()
    assert convention("flopdispatch") is default_registry()
    assert convention(mine) is mine


@pytest.mark.parametrize("given", ["nonsense", 3, [], Tensor], ids=repr)
def test_an_unknown_convention_lists_those_that_are_known(given: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        convention(given)
    known = ", ".join(CONVENTIONS)
    assert str(caught.value) == f"convention= takes a Registry or one of {known}, got {given!r}"


# Rules by name, and what is taken from values


def test_a_rule_by_name_is_found_when_the_operator_is_there() -> None:
    rules = Registry("mine")

    @rules.formula("aten::mul.Tensor", "no_such_library::op.default")
    def by_name(self: TensorSpec, result: TensorSpec) -> Cost:
        return Cost(muls=self.numel)

    price = priced(rules, aten.mul.Tensor, torch.ones(2, 3), torch.ones(2, 3))
    assert (price.state, price.cost.muls) == ("counted", 6)
    in_place = priced(rules, aten.mul_.Tensor, torch.ones(2, 3), torch.ones(2, 3))
    assert in_place.cost.muls == 6, "of variants too"


@pytest.mark.parametrize("wrong", ["aten.mul.Tensor", "aten::mul", "mul", ""])
def test_a_name_is_that_of_an_overload(wrong: str) -> None:
    assert "or its name 'aten::mm.default'" in error_of(
        lambda: Registry("mine").formula(wrong)(one_mul)
    )


def test_a_rule_may_be_for_one_layout() -> None:
    rules = Registry("mine")
    rules.formula(aten.relu.default)(lambda result: Cost(comparisons=result.numel))
    rules.zero(aten.neg.default)
    sparse = torch.eye(4).to_sparse()
    assert priced(rules, aten.relu.default, sparse).state == "uncounted"
    assert priced(rules, aten.neg.default, sparse).state == "zero"
    rules.formula(aten.relu.default, layout="sparse")(lambda result: Cost(comparisons=result.nnz))
    assert priced(rules, aten.relu.default, sparse).cost.comparisons == 4
    assert priced(rules, aten.relu.default, torch.eye(4)).cost.comparisons == 16
    assert {(rule.overload, rule.layout) for rule in rules} == {
        (aten.relu.default, "dense"), (aten.relu.default, "sparse"), (aten.neg.default, "dense"),
    }  # fmt: skip
    assert "layout= takes one of dense, sparse, nested" in error_of(
        lambda: rules.formula(aten.abs.default, layout="csr")(one_mul)
    )


# What a registry says of an operator


@pytest.mark.parametrize(
    ("overload", "state", "family", "stands_for"),
    [
        (aten.mm.default, "counted", "matmul", None),
        (aten.add_.Tensor, "counted", "pointwise", aten.add.Tensor),
        (aten._foreach_add_.List, "counted", "pointwise", aten.add.Tensor),
        (aten.view.default, "zero", "movement", None),
        (aten.matmul.default, "decomposed", "", None),
        (torch.ops.higher_order.cond, "zero", "control_flow", None),
    ],
)
def test_a_registry_explains_an_operator(
    overload: Any, state: str, family: str, stands_for: Any
) -> None:
    found = default_registry().explain(overload)
    assert (found.state, found.family, found.stands_for) == (state, family, stands_for)
    assert found.overload is overload


def test_an_explanation_reads_as_text() -> None:
    rules = Registry("mine")

    @rules.formula(aten.mul.Tensor, estimate="half")
    def product(result: TensorSpec) -> Cost:
        """One mul per output."""
        return Cost(muls=result.numel)

    assert str(rules.explain(aten.mul_.Tensor)) == (
        "aten::mul_.Tensor: counted in mine, as aten::mul.Tensor (estimate: half)\n\n"
        "One mul per output."
    )
    assert str(rules.explain(aten.sin.default)) == "aten::sin.default: uncounted"
    rules.formula(aten.sin.default, layout="sparse")(product)
    assert rules.explain(aten.sin.default).layouts == ("sparse",)


def test_operators_of_torchscripts_own_are_explained_too() -> None:
    assert default_registry().explain(aten.dequantize.tensor).state == "uncounted"
