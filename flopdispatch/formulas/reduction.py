"""Reductions and scans.

Letters: n elements in, m outputs; every output but an empty one combines n/m elements.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("reduction")

Number = int | float | complex | bool
Results = tuple[TensorSpec, ...]


# Sums and products


@rules.formula(aten.sum.default, aten.sum.dim_IntList, aten.nansum.default)
def sum_(self: TensorSpec, result: TensorSpec) -> Cost:
    """Sum over some or all dimensions.

    Counts: n − m adds; none where the result has the operand's size. The test for NaN in
    `nansum` is a mask.
    Example: (3, 4) over its last dimension is 12 − 3 = 9 adds.
    """
    return Cost(adds=combined(self.numel, result.numel))


@rules.formula(aten.mean.default, aten.mean.dim, typed=False)
def mean(self: TensorSpec, result: TensorSpec) -> Cost:
    """Mean over some or all dimensions.

    Counts: the sum, and one division per output; twice that of complex numbers, whose real and
    imaginary parts have a mean each.
    """
    real = sum_(self, result) + Cost(divs=result.numel)
    return real * 2 if result.dtype.is_complex else real


@rules.formula(aten.prod.default, aten.prod.dim_int)
def prod(self: TensorSpec, result: TensorSpec) -> Cost:
    """Product over one or all dimensions.

    Counts: n − m muls.
    """
    return Cost(muls=combined(self.numel, result.numel))


def diagonal_bytes(self: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The diagonal alone is read."""
    return min(self.shape) * self.dtype.itemsize, result.nbytes


@rules.formula(aten.trace.default, nbytes=diagonal_bytes)
def trace(self: TensorSpec) -> Cost:
    """Sum of the main diagonal.

    Shapes: self (r, c).
    Counts: min(r, c) − 1 adds.
    """
    return Cost(adds=combined(min(self.shape), 1))


@rules.formula(aten.count_nonzero.default, aten.count_nonzero.dim_IntList, typed=False)
def count_nonzero(self: TensorSpec, result: TensorSpec) -> Cost:
    """How many elements are not zero.

    Counts: n − m integer adds of the outcomes, whatever the operand's type. The comparison
    itself gives a bool and is zero.
    """
    return Cost(int_ops=combined(self.numel, result.numel))


@rules.formula(*overloads("hash_tensor.default"), typed=False)
def hash_tensor(self: TensorSpec, result: TensorSpec) -> Cost:
    """Exclusive or of the elements' bits.

    Counts: n − m integer operations, whatever the operand's type.
    """
    return Cost(int_ops=combined(self.numel, result.numel))


# Largest and smallest


@rules.formula(
    aten.amax.default,
    aten.amin.default,
    aten.max.default,
    aten.min.default,
    aten.argmax.default,
    aten.argmin.default,
)
def extremum(self: TensorSpec, result: TensorSpec) -> Cost:
    """The largest or smallest element, or where it is.

    Counts: n − m comparisons.
    """
    return Cost(comparisons=combined(self.numel, result.numel))


@rules.formula(aten.max.dim, aten.min.dim)
def extremum_and_index(self: TensorSpec, result: Results) -> Cost:
    """The largest or smallest element and its index: the comparisons give both."""
    return extremum(self, result[0])


@rules.formula(aten._foreach_max.default, typed=False)
def foreach_max(self: Results) -> Cost:
    """The largest element of each tensor in a list.

    Counts: n − 1 comparisons a tensor, each in its own type.
    """
    parts = (Cost(comparisons=combined(x.numel, 1)).in_dtype(x.dtype) for x in self)
    return sum(parts, Cost())


@rules.formula(aten.aminmax.default, aten._aminmax.default, aten._aminmax.dim)
def aminmax(self: TensorSpec, result: Results) -> Cost:
    """The smallest and the largest element.

    Counts: 2·(n − m) comparisons.
    """
    return extremum(self, result[0]) * 2


rules.zero(
    aten.all.default,
    aten.all.dim,
    aten.all.dims,
    aten.any.default,
    aten.any.dim,
    aten.any.dims,
    aten._is_all_true.default,
    aten._is_any_true.default,
)


# Spread


@rules.formula(aten.var.correction, typed=False)
def var(self: TensorSpec, result: TensorSpec) -> Cost:
    """Variance, in two passes: the mean, then the mean of the squared deviations.

    Counts: the mean (n − m adds, m divs); n subtractions; n squares; n − m adds and m divs.
    The divisor, elements less the correction, is a constant. Of complex numbers: the variance of
    the real parts and that of the imaginary ones, and m adds.
    Example: (2, 4) over its last dimension is 6 + 8 + 6 adds, 8 muls and 4 divs.
    """
    n, m = self.numel, result.numel
    real = Cost(adds=2 * combined(n, m) + n, muls=n, divs=2 * m)
    return real * 2 + Cost(adds=m) if self.dtype.is_complex else real


@rules.formula(aten.std.correction, typed=False)
def std(self: TensorSpec, result: TensorSpec) -> Cost:
    """Standard deviation: the variance, and one square root per output."""
    return var(self, result) + Cost(transcendentals=result.numel)


@rules.formula(aten.var_mean.correction, typed=False)
def var_mean(self: TensorSpec, result: Results) -> Cost:
    """Variance and mean: the variance needs the mean anyway."""
    return var(self, result[0])


@rules.formula(aten.std_mean.correction, typed=False)
def std_mean(self: TensorSpec, result: Results) -> Cost:
    """Standard deviation and mean: the former needs the latter anyway."""
    return std(self, result[0])


# Norms


def power_sum(n: int, m: int, p: Number, is_complex: bool = False) -> Cost:
    """Sum of |x|^p, or the largest (smallest) |x| for p = ±inf.

    Counts: p = 0: n − m adds of `x != 0`; p = 2: n squares and n − m adds; otherwise n
    absolute values, a power of each unless p is 1 or ±inf, and n − m adds or comparisons.
    Of a complex number, |x|² is 2 squares and an add, and |x| its root.
    """
    many = combined(n, m)
    squares = Cost(muls=2 * n, adds=n) if is_complex else Cost(muls=n)
    magnitudes = squares + Cost(transcendentals=n) if is_complex else Cost(comparisons=n)
    if p == 0:
        return Cost(adds=many)
    if p == 2:
        return squares + Cost(adds=many)
    if p in (math.inf, -math.inf):
        return magnitudes + Cost(comparisons=many)
    if p == 1:
        return magnitudes + Cost(adds=many)
    return magnitudes + Cost(transcendentals=n, adds=many)


def p_norm(n: int, m: int, p: Number | None, is_complex: bool = False) -> Cost:
    """The p-norm of each of m groups out of n elements; `None` is p = 2.

    Counts: the sum of |x|^p, and a root per output unless p is 0, 1 or ±inf.
    """
    p = 2 if p is None else p
    rooted = p not in (0, 1, math.inf, -math.inf)
    return power_sum(n, m, p, is_complex) + Cost(transcendentals=m if rooted else 0)


@rules.formula(aten.linalg_vector_norm.default, typed=False)
def linalg_vector_norm(self: TensorSpec, ord: Number, result: TensorSpec) -> Cost:
    """The `ord`-norm over some or all dimensions.

    Counts: those of `p_norm`.
    Example: the 2-norms of 3 rows of 4 are 12 muls, 9 adds and 3 square roots.
    """
    return p_norm(self.numel, result.numel, ord, self.dtype.is_complex)


@rules.formula(
    aten.norm.Scalar,
    aten.norm.ScalarOpt_dim,
    aten.norm.ScalarOpt_dim_dtype,
    aten.norm.ScalarOpt_dtype,
    typed=False,
)
def norm(self: TensorSpec, p: Number | None, result: TensorSpec) -> Cost:
    """The p-norm, as `linalg_vector_norm`."""
    return p_norm(self.numel, result.numel, p, self.dtype.is_complex)


@rules.formula(
    *overloads("native_norm.default", "native_norm.ScalarOpt_dim_dtype"),
    layout="sparse",
    typed=False,
)
def native_norm(self: TensorSpec, p: Number | None, result: TensorSpec) -> Cost:
    """The p-norm of what a sparse tensor stores, over all dimensions.

    Counts: those of `p_norm` for the elements stored.
    Ignores: the sums of elements stored twice.
    """
    return p_norm(self.nnz or 0, result.numel, p, self.dtype.is_complex)


@rules.formula(*overloads("linalg__powsum.default"), typed=False)
def linalg_powsum(self: TensorSpec, ord: Number, result: TensorSpec) -> Cost:
    """Sum of |x|^ord over some or all dimensions: a norm before its root."""
    return power_sum(self.numel, result.numel, ord, self.dtype.is_complex)


@rules.formula(aten._foreach_norm.Scalar, typed=False)
def foreach_norm(self: Results, ord: Number) -> Cost:
    """The norm of each tensor in a list."""
    return sum((p_norm(x.numel, 1, ord, x.dtype.is_complex) for x in self), Cost())


@rules.formula(*overloads("_foreach_powsum.Scalar"), typed=False)
def foreach_powsum(self: Results, ord: Number) -> Cost:
    """The sum of |x|^ord of each tensor in a list."""
    return sum((power_sum(x.numel, 1, ord, x.dtype.is_complex) for x in self), Cost())


# Scans


def steps(self: TensorSpec, dim: int) -> int:
    """Steps of a scan along a dimension: each slice's elements but its first.

    Example: (3, 4) along its last dimension has 12 − 3 = 9 steps.
    """
    if not self.ndim:
        return 0
    slices = math.prod(self.shape[:dim] + self.shape[dim:][1:])
    return combined(self.numel, slices)


@rules.formula(aten.cumsum.default)
def cumsum(self: TensorSpec, dim: int) -> Cost:
    """Running sum: one add a step."""
    return Cost(adds=steps(self, dim))


@rules.formula(aten.cumprod.default)
def cumprod(self: TensorSpec, dim: int) -> Cost:
    """Running product: one mul a step."""
    return Cost(muls=steps(self, dim))


@rules.formula(aten.cummax.default, aten.cummin.default)
def cummax(self: TensorSpec, dim: int) -> Cost:
    """Running extremum and its index: one comparison a step."""
    return Cost(comparisons=steps(self, dim))


def filled_bytes(self: TensorSpec, values: TensorSpec, indices: TensorSpec) -> tuple[int, int]:
    """The results are arguments, which are written and not read."""
    return self.nbytes, values.nbytes + indices.nbytes


rules.formula(aten._cummax_helper.default, aten._cummin_helper.default, nbytes=filled_bytes)(cummax)


@rules.formula(aten.logcumsumexp.default, aten._logcumsumexp.default)
def logcumsumexp(self: TensorSpec, dim: int) -> Cost:
    """Running log of a sum of exponentials: a step is big + log1p(exp(small − big)).

    Counts: a step is one comparison, which tells big from small, 2 adds, an exp and a log1p.
    """
    many = steps(self, dim)
    return Cost(comparisons=many, adds=2 * many, transcendentals=2 * many)
