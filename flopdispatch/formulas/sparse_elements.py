"""Sparse operands of operators on dense tensors: what is stored is computed.

A function that keeps zero is applied to what a tensor stores. So the formula of the dense
operator holds, of operands and results as long as what they store: `relu` of 4 entries is 4
comparisons, a sum over rows as many additions as there are elements fewer in the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas import activation, pointwise, reduction
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.sparse import elements
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("pointwise")

Number = int | float | complex | bool

# Those that torch has kernels for, and what these are called by.
ON_ELEMENTS = """
    abs.default angle.default asin.default asinh.default atan.default atanh.default ceil.default
    _conj_physical.default conj_physical.out conj_physical_.default deg2rad.default
    div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode erf.default erfinv.default expm1.default
    floor.default floor_divide.default floor_divide.Scalar frac.default log1p.default
    mul.Tensor mul.Scalar nan_to_num.default neg.default pow.Tensor_Scalar rad2deg.default
    relu.default round.default round.decimals sgn.default sign.default sin.default sinh.default
    sqrt.default tan.default tanh.default threshold_backward.default trunc.default
    sum.default sum.dim_IntList norm.Scalar norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype
    norm.ScalarOpt_dtype
    linalg_vector_norm.default _foreach_norm.Scalar
"""

# The same, of operators that only sparse tensors have.
SUMS = "_sparse_sum.dim _sparse_csr_sum.dim_dtype"


def on_elements(formula: Callable[..., Cost]) -> Callable[..., Cost]:
    """The formula, given sparse tensors as the elements that they store."""

    @wraps(formula)
    def of_elements(**given: Any) -> Cost:
        return formula(**{name: in_a_row(value) for name, value in given.items()})

    return of_elements


def in_a_row(value: Any) -> Any:
    """An argument or a result, its sparse tensors as the elements that they store."""
    if isinstance(value, TensorSpec):
        return value if value.nnz is None else replace(value, shape=(value.nnz,), nnz=None)
    return tuple(map(in_a_row, value)) if isinstance(value, tuple) else value


DENSE = {
    rule.overload: rule
    for family in (pointwise.rules, activation.rules, reduction.rules)
    for rule in family
}

for overload in overloads(*ON_ELEMENTS.split()):
    rule = DENSE[overload]
    assert rule.formula is not None
    rules.formula(
        overload, family=rule.family, estimate=rule.estimate, typed=rule.typed, layout="sparse"
    )(on_elements(rule.formula))

rules.formula(*overloads(*SUMS.split()), family="reduction", layout="sparse")(
    on_elements(reduction.sum_)
)


# Sums of two tensors: what both store is added


def added_bytes(self: TensorSpec, other: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """In place, in a dense tensor: of it only what is hit is read and written."""
    if self.nnz is None and other.nnz is not None:
        hit = other.nnz * self.dtype.itemsize
        return size(other) + hit, hit
    return size(self, other), size(result)


@rules.formula(*overloads("add_.Tensor", "sub_.Tensor"), layout="sparse", nbytes=added_bytes)
@rules.formula(*overloads("add.Tensor", "sub.Tensor"), layout="sparse")
def add(self: TensorSpec, other: TensorSpec, alpha: Number, result: TensorSpec) -> Cost:
    """self ± alpha·other.

    Counts: an add for each element that both store, and a mul for each that `other` stores if
    alpha isn't 1. In a dense tensor each of the sparse one's is added; two sparse ones share what
    the result stores less than both: none if their entries are only put side by side.
    Example: 4 and 3 entries give 5: 2 adds.
    """
    return Cost(adds=shared(self, other, result), muls=elements(other) if alpha != 1 else 0)


def shared(self: TensorSpec, other: TensorSpec, result: TensorSpec) -> int:
    """How many elements both store."""
    if self.nnz is None or other.nnz is None:
        return elements(self) if other.nnz is None else elements(other)
    return self.nnz + other.nnz - elements(result)
