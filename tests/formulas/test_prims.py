from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.tensor_version_op
import torch._inductor.inductor_prims

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.prims import rules
from flopdispatch.rules import name_of
from flopdispatch.spec import signature, spec
from tests.pricing import cost, cost_of_specs, price

aten, prims = torch.ops.aten, torch.ops.prims
f32 = torch.float32

U, V = torch.rand(2, 3), torch.rand(2, 3)  # 24 bytes each
Z = torch.ones(2, 3, dtype=torch.complex64)
N, K = torch.full((2, 3), 12), torch.full((2, 3), 2)
WHERE = {"dtype": f32, "device": torch.device("cpu"), "requires_grad": False}
IMAGES = torch.rand(1, 2, 4, 4)
ONCE, CHOICE, BITS = Cost(transcendentals=6), Cost(comparisons=6), Cost(int_ops=6)

# (why, in words; primitives; arguments, the result of six elements; expected)
POINTWISE: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("one add each", "add sub", (U, V), Cost(adds=6)),
    ("one product each", "mul", (U, V), Cost(muls=6)),
    ("one division each", "div", (U, V), Cost(divs=6)),
    ("one division each", "reciprocal", (U,), Cost(divs=6)),
    ("/, rounded, ·, −", "remainder fmod", (U, V), Cost(divs=6, comparisons=6, muls=6, adds=6)),
    ("x·x, y·y, +, sqrt", "hypot", (U, V), Cost(muls=12, adds=6, transcendentals=6)),
    ("one step each", "neg abs sign floor ceil trunc round frexp", (U,), CHOICE),
    ("two signs each", "neg", (Z,), Cost(comparisons=12)),
    ("re², im², +, sqrt", "abs", (Z,), Cost(muls=12, adds=6, transcendentals=6)),
    ("one sign each", "conj_physical", (Z,), CHOICE),
    ("one choice each", "maximum minimum fmax fmin nextafter", (U, V), CHOICE),
    (
        "one function each",
        "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt cbrt sin cos tan sinh cosh tanh asin acos "
        "atan asinh acosh atanh erf erfc erfcx erf_inv ndtri lgamma digamma bessel_i0 bessel_i0e "
        "bessel_i1 bessel_i1e bessel_j0 bessel_j1 spherical_bessel_j0",
        (U,),
        ONCE,
    ),
    ("one function each", "pow atan2 igamma igammac", (U, V), ONCE),
    ("one function each", "zeta", (U + 1, V), ONCE),
    (
        "one operation on bits",
        "bitwise_and bitwise_or bitwise_xor shift_left shift_right_arithmetic gcd",
        (N, K),
        BITS,
    ),
    ("one operation on bits", "bitwise_not", (N,), BITS),
    ("a mask", "eq ne lt le gt ge", (U, V), Cost()),
    ("a mask", "isfinite signbit", (U,), Cost()),
    ("a choice by a mask", "where", (U > V, U, V), Cost()),
    ("x·y, +", "fma", (U, V, U), Cost(muls=6, adds=6)),
]

# (why, in words; primitive; arguments; keyword arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("6 into 2", "sum", (U, [1]), {}, Cost(adds=4)),
    ("6 into 1", "sum", (U, [0, 1]), {}, Cost(adds=5)),
    ("6 into 3", "prod", (U, [0]), {}, Cost(muls=3)),
    ("6 into 2", "amax", (U, [1]), {}, Cost(comparisons=4)),
    ("6 into 2", "amin", (U, [1]), {}, Cost(comparisons=4)),
    ("2 rows: 2 adds, /, 3 differences, 3 squares, 2 adds, /", "var", (U, [1], 1), {},
     Cost(adds=2 * (2 + 3 + 2), muls=6, divs=4)),
    ("that of the real parts, that of the imaginary ones, and their sum", "var", (Z, [1], 1), {},
     Cost(adds=2 * 2 * (2 + 3 + 2) + 2, muls=12, divs=8)),
    ("3 rows of 2 points: 2·1·2 muls, 3·1·2 adds", "fft_c2c", (Z,), {"dim": [0], "forward": True},
     Cost(muls=3 * 4, adds=3 * 6)),
    ("of real points half", "fft_r2c", (U,), {"dim": [0], "onesided": True},
     Cost(muls=3 * 2, adds=3 * 3)),
    ("to real points half", "fft_c2r", (Z,), {"dim": [0], "last_dim_size": 2},
     Cost(muls=3 * 2, adds=3 * 3)),
    ("2 rows of 3: 2 maxima, 3 differences, 3 exp, 2 adds", "prepare_softmax_online", (U, 1), {},
     Cost(comparisons=4, adds=10, transcendentals=6)),
    ("8 windows of 4", "_low_memory_max_pool_with_offsets",
     (IMAGES, [2, 2], [2, 2], [0, 0], [1, 1], False), {}, Cost(comparisons=24)),
    ("8 offsets: / · −; · + in 2 dimensions; · +", "_low_memory_max_pool_offsets_to_indices",
     (torch.zeros(1, 2, 2, 2, dtype=torch.int8), [2, 2], [4, 4], [2, 2], [0, 0], [1, 1]), {},
     Cost(int_ops=8 * (3 + 4 + 2))),
    ("2 rows of 3", "_unsafe_index_put_", (U.clone(), [torch.tensor([0, 0])], V, True), {},
     Cost(adds=6)),
]  # fmt: skip

# (why, in words; primitive; arguments; keyword arguments; bytes read; bytes written)
ZEROS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], int, int]] = [
    ("a view", "as_strided", (U, [2], [3], 0), {}, 0, 0),
    ("a view", "broadcast_in_dim", (U, [4, 2, 3], [1, 2]), {}, 0, 0),
    ("a view", "collapse_view", (U, 0, 1), {}, 0, 0),
    ("a view", "split_dim", (U, 1, 3), {}, 0, 0),
    ("a view", "squeeze", (U[:1], [0]), {}, 0, 0),
    ("a view", "transpose", (U, [1, 0]), {}, 0, 0),
    ("a view", "view_of", (U,), {}, 0, 0),
    ("a view", "view_of_dtype", (U, torch.int32), {}, 0, 0),
    ("a view", "conj", (Z,), {}, 0, 0),
    ("a view", "real", (Z,), {}, 0, 0),
    ("a view", "imag", (Z,), {}, 0, 0),
    ("metadata", "resize", (U.clone(), [1, 3]), {}, 0, 0),
    ("a number of a type", "maximum_value", (f32,), {}, 0, 0),
    ("a number of a type", "minimum_value", (f32,), {}, 0, 0),
    ("not touched", "empty", ([2, 3],), WHERE, 0, 0),
    ("not touched", "empty_strided", ([2, 3], [3, 1]), WHERE, 0, 0),
    ("not touched", "empty_permuted", ([2, 3], [1, 0]), WHERE, 0, 0),
    ("a version", "_tensor_version", (U,), {}, 0, 0),
    ("filled", "full", ([2, 3], 1.0), WHERE, 0, 24),
    ("filled", "full_like", (U, 1.0), WHERE, 0, 24),
    ("filled", "fill", (U, 1.0), {}, 0, 24),
    ("filled", "iota", (6,), {"start": 0, "step": 1, **WHERE, "dtype": torch.int64}, 0, 48),
    ("filled", "scalar_tensor", (1.0,), {"dtype": f32, "device": torch.device("cpu")}, 0, 4),
    ("random", "normal", ([2, 3],), {"mean": 0.0, "std": 1.0, **WHERE}, 0, 24),
    ("random", "uniform", ([2, 3],), {
        "low": 0.0, "high": 1.0, "dtype": f32, "device": torch.device("cpu"), "stride": [3, 1],
    }, 0, 24),
    ("copied", "cat", ([U, V], 0), {}, 48, 48),
    ("copied", "clone", (U,), {}, 24, 24),
    ("copied", "collapse", (U, 0, 1), {}, 24, 24),
    ("twice as wide", "convert_element_type", (U, torch.float64), {}, 24, 48),
    ("copied", "copy_strided", (U, [1, 2]), {}, 24, 24),
    ("copied", "device_put", (U, torch.device("cpu")), {}, 24, 24),
    ("copied", "reshape", (U, [6]), {}, 24, 24),
    ("copied", "rev", (U, [0]), {}, 24, 24),
    ("one number", "item", (U[0, 0],), {}, 4, 0),
    ("both; a copy", "as_strided_scatter", (U, V[0], [3], [1], 0), {}, 24 + 12, 24),
    ("the source only", "copy_to", (U.clone(), V), {}, 24, 24),
    ("copied, if at all", "inductor_force_stride_order", (U, [1, 2]), {}, 24, 24),
    ("a cast", "inductor_cvt_e8m0_rceil", (U,), {}, 24, 6),
    ("made up", "inductor_seeds", (3, torch.device("cpu")), {}, 0, 24),
    ("made up", "inductor_seed", (torch.device("cpu"),), {}, 0, 8),
    ("one of 3", "inductor_lookup_seed", (torch.tensor([1, 2, 3]), 0), {}, 8, 8),
    ("made up", "inductor_random", ([2, 3], torch.tensor(1), "rand"), {}, 0, 24),
    ("made up", "inductor_randint", (0, 9, [2, 3], torch.tensor(1)), {}, 0, 48),
]  # fmt: skip

UNREACHED = """
    _make_token _sink_tokens _unsafe_set_version_counter inductor_rand_eager_offset
    inductor_rand_eager_offsets
"""  # tokens and versions; offsets into a GPU's random numbers


def overload_of(name: str) -> Any:
    found = overloads(f"prims::{name}.default")
    if not found:
        pytest.skip(f"this torch has no prims::{name}")
    return found[0]


@pytest.mark.parametrize(
    ("why", "name", "args", "expected"),
    [(why, name, args, cost) for why, names, args, cost in POINTWISE for name in names.split()],
)
def test_pointwise(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    overload = overload_of(name)
    assert cost(overload, *args) == expected, why
    assert price(overload, *args).family == "pointwise"


@pytest.mark.parametrize(("why", "name", "args", "options", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, name: str, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    assert cost(overload_of(name), *args, **options) == expected, why


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(("why", "name", "args", "options", "read", "written"), ZEROS)
def test_zeros_and_their_bytes(
    why: str, name: str, args: tuple[Any, ...], options: dict[str, Any], read: int, written: int
) -> None:
    known, _ = signature(overload_of(name))  # older torch takes fewer
    priced = price(overload_of(name), *args, **{k: v for k, v in options.items() if k in known})
    assert priced.state == "zero"
    assert priced.cost == Cost(bytes_read=read, bytes_written=written), why


def test_an_exclusive_or_of_6_into_2() -> None:
    numbers = spec(2, 3, dtype=torch.int64)  # it runs in compiled code only
    found = cost_of_specs(overload_of("xor_sum"), numbers, [1], result=spec(2, dtype=torch.int64))
    assert found == Cost(int_ops=4)


def test_singular_values_are_aten_s() -> None:
    x = torch.rand(5, 4, 3)
    ours = price(prims.svd.default, x, full_matrices=False)
    assert ours.cost.moving(0, 0) == cost(aten._linalg_svd.default, x, False, True)
    assert ours.cost.flops > 0
    assert ours.estimate


# What of aten a primitive stands for, where the names differ.
TWINS = {
    "abs": "abs.default", "add": "add.Tensor", "sub": "sub.Tensor", "mul": "mul.Tensor",
    "div": "div.Tensor", "remainder": "remainder.Tensor", "fmod": "fmod.Tensor",
    "pow": "pow.Tensor_Tensor", "erf_inv": "erfinv.default", "erfcx": "special_erfcx.default",
    "ndtri": "special_ndtri.default", "bessel_i0": "i0.default", "bessel_i1": "special_i1.default",
    "bessel_i0e": "special_i0e.default", "bessel_i1e": "special_i1e.default",
    "bessel_j0": "special_bessel_j0.default", "bessel_j1": "special_bessel_j1.default",
    "spherical_bessel_j0": "special_spherical_bessel_j0.default", "zeta": "special_zeta.default",
    "frexp": "frexp.Tensor", "conj_physical": "_conj_physical.default",
    "bitwise_and": "bitwise_and.Tensor", "bitwise_or": "bitwise_or.Tensor",
    "bitwise_xor": "bitwise_xor.Tensor", "shift_left": "bitwise_left_shift.Tensor",
    "shift_right_arithmetic": "bitwise_right_shift.Tensor", "where": "where.self",
    **{name: f"{name}.Tensor" for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}  # fmt: skip
ALONE = {"cbrt", "isfinite", "fma"}


@pytest.mark.parametrize(
    ("name", "args"),
    [(n, args) for _, names, args, _ in POINTWISE for n in names.split() if n not in ALONE],
)
def test_a_primitive_costs_what_aten_s_operator_does(name: str, args: tuple[Any, ...]) -> None:
    (twin,) = overloads(TWINS.get(name, f"{name}.default"))
    ours, theirs = overload_of(name)(*args), twin(*args)
    torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert cost(overload_of(name), *args) == cost(twin, *args)


def test_each_rule_has_a_row() -> None:
    proved = {name for _, names, *_ in POINTWISE for name in names.split()}
    proved |= {name for _, name, *_ in ROWS} | {name for _, name, *_ in ZEROS} | {"svd", "xor_sum"}
    named = {name_of(rule.overload).split("::")[1].removesuffix(".default") for rule in rules}
    elsewhere = {"philox_rand", "inductor_reserve_rng_state"}  # of namespaces of their own
    assert named - elsewhere - set(UNREACHED.split()) == proved


@pytest.mark.parametrize("rule", list(rules), ids=lambda rule: name_of(rule.overload))
def test_a_rule_by_name_asks_for_what_the_operator_has(rule: Any) -> None:
    found = overloads(name_of(rule.overload))
    if not found:
        pytest.skip("this torch has no such primitive")
    known = {*signature(found[0])[0], "result"}
    for function in (rule.formula, rule.nbytes):
        if function is not None:
            asked = set(function.__code__.co_varnames[: function.__code__.co_argcount])
            assert asked <= known
