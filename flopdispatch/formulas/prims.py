"""Primitive operators: what torch's decompositions and reference implementations end in.

Each costs what the operator of aten that it stands for costs; the conventions are those of
`pointwise` and `reduction`. Those that torch.compile adds come with its import: by name.
"""

from __future__ import annotations

from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas import fft, linalg_spectral, pointwise, reduction
from flopdispatch.formulas.bytes_moved import nothing, takes, writes
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.movement import copy_bytes
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import (
    ADD,
    BITS,
    COMPARISON,
    DIV,
    MODULUS,
    MUL,
    TRANSCENDENTAL,
    Row,
    register_table,
)
from flopdispatch.formulas.pooling import maxima
from flopdispatch.formulas.scatter import index_put, put_bytes
from flopdispatch.formulas.softmax import rows_of
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("pointwise")


def named(operators: str) -> str:
    """The full names of these primitives' overloads.

    Example: `named("add sub")` is `"prims::add.default prims::sub.default"`.
    """
    return " ".join(f"prims::{name}.default" for name in operators.split())


def prims(operators: str) -> list[object]:
    """The overloads of these primitives."""
    return overloads(*named(operators).split())


# Pointwise

POINTWISE: tuple[Row, ...] = (
    ("add sub", ADD, "x ± y"),
    ("mul", MUL, "x·y"),
    ("div", DIV, "x / y"),
    ("reciprocal", DIV, "1 / x"),
    ("remainder fmod", ADD + MUL + DIV + COMPARISON, "x − y·floor(x / y), or trunc"),
    ("hypot", MODULUS, "sqrt(x·x + y·y)"),
    ("sign floor ceil trunc round", COMPARISON, "the sign, or rounded"),
    ("maximum minimum fmax fmin", COMPARISON, "the larger, the smaller"),
    ("nextafter frexp", COMPARISON, "read off, or changed in, what x is stored as"),
    ("exp exp2 expm1 log log2 log10 log1p", TRANSCENDENTAL, "exponentials and logarithms"),
    ("pow sqrt rsqrt cbrt", TRANSCENDENTAL, "powers and roots"),
    ("sin cos tan sinh cosh tanh", TRANSCENDENTAL, "trigonometric and hyperbolic functions"),
    ("asin acos atan atan2 asinh acosh atanh", TRANSCENDENTAL, "their inverses"),
    (
        "erf erfc erfcx erf_inv ndtri lgamma digamma igamma igammac zeta "
        "bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0 bessel_j1 spherical_bessel_j0",
        TRANSCENDENTAL,
        "one evaluation of the function",
    ),
    (
        "bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right_arithmetic",
        BITS,
        "one operation on bits",
    ),
)
register_table(rules, [(named(names), each, words) for names, each, words in POINTWISE])
register_table(
    rules,
    [(named("gcd"), BITS, "the greatest divisor")],
    estimate="the number of steps is data; counted as one integer operation",
)
rules.formula(*prims("neg"), typed=False)(pointwise.neg)
rules.formula(*prims("abs"), typed=False)(pointwise.abs_)
rules.formula(*prims("conj_physical"), typed=False)(pointwise.conj_physical)
rules.zero(*prims("eq ne lt le gt ge isfinite signbit where"))


# Reductions


@rules.formula(*prims("sum"), family="reduction")
def sum_(inp: TensorSpec, result: TensorSpec) -> Cost:
    """Sum over some or all dimensions: n − m adds."""
    return reduction.sum_(inp, result)


@rules.formula(*prims("prod"), family="reduction")
def product(inp: TensorSpec, result: TensorSpec) -> Cost:
    """Product over some or all dimensions: n − m muls."""
    return reduction.prod(inp, result)


@rules.formula(*prims("amax amin"), family="reduction")
def extremum(inp: TensorSpec, result: TensorSpec) -> Cost:
    """The largest or smallest over some or all dimensions: n − m comparisons."""
    return reduction.extremum(inp, result)


@rules.formula(*prims("var"), family="reduction", typed=False)
def var(inp: TensorSpec, result: TensorSpec) -> Cost:
    """Variance over some or all dimensions, in two passes."""
    return reduction.var(inp, result)


@rules.formula(*prims("xor_sum"), family="reduction", typed=False)
def xor_sum(inp: TensorSpec, result: TensorSpec) -> Cost:
    """Exclusive or over some or all dimensions: n − m operations on bits."""
    return reduction.hash_tensor(inp, result)


# Transforms and singular values


@rules.formula(*prims("fft_c2c"), family="fft", typed=False)
def fft_c2c(self: TensorSpec, dim: fft.Dims) -> Cost:
    """Complex transform, not scaled."""
    return fft.fft_c2c(self, dim, fft.UNSCALED)


@rules.formula(*prims("fft_r2c"), family="fft", typed=False)
def fft_r2c(self: TensorSpec, dim: fft.Dims) -> Cost:
    """Transform of real points, not scaled."""
    return fft.fft_r2c(self, dim, fft.UNSCALED)


@rules.formula(*prims("fft_c2r"), family="fft", typed=False)
def fft_c2r(dim: fft.Dims, result: TensorSpec) -> Cost:
    """Transform to real points, not scaled."""
    return fft.fft_c2r(dim, fft.UNSCALED, result)


@rules.formula(*prims("svd"), family=linalg_spectral.rules.name, estimate=linalg_spectral.ITERATION)
def svd(A: TensorSpec, full_matrices: bool) -> Cost:  # noqa: N803  the schema's
    """Singular values and vectors."""
    return linalg_spectral.linalg_svd(A, full_matrices, True)


# Declared zeros

VIEWS = """
    as_strided broadcast_in_dim collapse_view conj real imag split_dim squeeze transpose view_of
    view_of_dtype resize maximum_value minimum_value empty empty_permuted empty_strided
    _make_token _sink_tokens
"""
rules.zero(*prims(VIEWS), family="movement", nbytes=nothing)
rules.zero(*prims("full full_like iota scalar_tensor fill"), family="movement", nbytes=writes)
rules.zero(
    *prims(
        "cat clone collapse convert_element_type copy_strided device_put reshape rev item "
        "as_strided_scatter"
    ),
    family="movement",
)
rules.zero(*prims("normal uniform"), family="random", nbytes=writes)


def copied_bytes(b: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The source is read, the target only written."""
    return copy_bytes(b, result)


rules.zero(*prims("copy_to"), family="movement", nbytes=copied_bytes)
rules.zero(*overloads("rngprims::philox_rand.default"), family="random", nbytes=writes)


# What torch.compile adds


def later(operators: str) -> list[str]:
    """The names of primitives that aren't there before torch.compile is imported."""
    return named(operators).split()


rules.formula(*later("fma"))(pointwise.per_output(MUL + ADD, "x·y + z"))


@rules.formula(*later("prepare_softmax_online"), family="softmax")
def softmax_parts(a: TensorSpec, dim: int) -> Cost:
    """max x and Σ exp(x − max x) for each of r rows of n.

    Counts, for a row: n − 1 comparisons; n subtractions; n exp; n − 1 additions.
    """
    r, n = rows_of(a, dim)
    return Cost(comparisons=folds(r, n), adds=r * n + folds(r, n), transcendentals=r * n)


@rules.formula(*later("_low_memory_max_pool_with_offsets"), family="pooling")
def max_pool(kernel_size: tuple[int, ...], result: tuple[TensorSpec, TensorSpec]) -> Cost:
    """Largest of windows, and where in their windows they are: k − 1 comparisons an output."""
    values, _ = result
    return maxima(prod(kernel_size) * values.numel, values.numel)


@rules.formula(*later("_low_memory_max_pool_offsets_to_indices"), family="pooling", typed=False)
def offsets_to_indices(self: TensorSpec, kernel_size: tuple[int, ...]) -> Cost:
    """Flat indices into the input from flat offsets into windows of d dimensions.

    Counts, in integers: d − 1 times a division, a mul and a subtraction take the offset apart;
    a mul by the dilation and an add to the window's start in each dimension; d − 1 muls and adds
    put the index together.

    Ignores: the windows' starts, O(height + width).
    """
    d = len(kernel_size)
    return Cost(int_ops=(5 * (d - 1) + 2 * d) * self.numel)


rules.formula(*later("_unsafe_index_put_"), family="scatter", nbytes=put_bytes)(index_put)
rules.zero(*later("_tensor_version _unsafe_set_version_counter"), family="movement", nbytes=nothing)
rules.zero(
    *later("inductor_force_stride_order inductor_cvt_e8m0_rceil"), family="movement"
)  # a copy, a cast
rules.zero(
    *later(
        "inductor_seed inductor_seeds inductor_random inductor_randint "
        "inductor_rand_eager_offset inductor_rand_eager_offsets"
    ),
    "inductor_prims::inductor_reserve_rng_state.default",
    family="random",
    nbytes=writes,
)
rules.zero(*later("inductor_lookup_seed"), family="random", nbytes=takes)
