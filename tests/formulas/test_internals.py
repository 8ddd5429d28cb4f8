from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch._dynamo._trace_wrapped_higher_order_op
import torch._inductor.fx_passes.post_grad

from flopdispatch import default_registry
from flopdispatch.cost import Cost
from flopdispatch.formulas.internals import rules
from flopdispatch.formulas.operators import overloads
from flopdispatch.rules import name_of
from flopdispatch.spec import OpCall, spec
from tests.oracles import Tally, tensor_of
from tests.pricing import cost, price

if find_spec("torch.onnx.ops"):
    import torch.onnx.ops

aten = torch.ops.aten
f64 = torch.float64
X = torch.rand(2, 3)
LIST = torch.tensor([1, 2, 3], dtype=torch.int32)

# 2 heads of 3 queries, 5 keys, 4 numbers each: 2·3·5 = 30 scores, 6 rows of them
Q, K = torch.rand(1, 2, 3, 4), torch.rand(1, 2, 5, 4)
ATTENTION = Cost(macs=30 * 8, muls=30, adds=30 + 24, comparisons=24, divs=30, transcendentals=30)
CAP = Cost(muls=30, divs=30, transcendentals=30)
MASK = torch.rand(3, 5)

# (why, in words; operator; arguments; keyword arguments; expected), of those that run
ROWS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("one number each", "_test_optional_intlist.default", (LIST, [1, 2, 3]), {}, Cost(int_ops=3)),
    ("no numbers", "_test_optional_intlist.default", (LIST, None), {}, Cost()),
    ("one number each", "_test_optional_filled_intlist.default", (LIST[:2], [1, 2]), {},
     Cost(int_ops=2)),
    ("one number each", "_test_optional_floatlist.default", (X[0], [1.0, 2.0, 3.0]), {},
     Cost(adds=3)),
    ("2 products of 8·3 and 8·5 MACs", "inductor::_mm_plus_mm.default",
     (torch.rand(2, 3), torch.rand(3, 4), torch.rand(2, 5), torch.rand(5, 4), torch.rand(2, 4)),
     {}, Cost(macs=24 + 40, adds=8)),
    ("3 numbers to their places", "flex_lib::zeros_and_scatter.default",
     ([4], [torch.tensor([0, 2, 2])], torch.rand(3)), {}, Cost(adds=3)),
    ("no mask", "onnx::Attention.opset23", (Q, K, K), {}, ATTENTION),
    ("heads side by side", "onnx::Attention.opset23",
     (torch.rand(1, 3, 8), torch.rand(1, 5, 8), torch.rand(1, 5, 8)),
     {"q_num_heads": 2, "kv_num_heads": 2}, ATTENTION),
    ("2 of the 5 keys are past ones", "onnx::Attention.opset23",
     (Q, K[:, :, :3], K[:, :, :3], None, K[:, :, :2], K[:, :, :2]), {}, ATTENTION),
    ("a mask of numbers, a cap", "onnx::Attention.opset23", (Q, K, K, MASK), {"softcap": 2.0},
     ATTENTION + CAP + Cost(adds=30)),
    ("24 numbers of 2 products and a sum", "onnx::RotaryEmbedding.opset23",
     (Q, torch.rand(1, 3, 2), torch.rand(1, 3, 2)), {}, Cost(muls=48, adds=24)),
    ("2 of 4 numbers", "onnx::RotaryEmbedding.opset23",
     (Q, torch.rand(1, 3, 1), torch.rand(1, 3, 1)), {"rotary_embedding_dim": 2},
     Cost(muls=24, adds=12)),
    ("the same, heads side by side", "onnx::RotaryEmbedding.opset23",
     (torch.rand(1, 3, 8), torch.rand(1, 3, 1), torch.rand(1, 3, 1)),
     {"rotary_embedding_dim": 2, "num_heads": 2}, Cost(muls=24, adds=12)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "options", "expected"), ROWS)
def test_hand_arithmetic(
    why: str, name: str, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    for overload in overloads(name):
        assert cost(overload, *args, **options) == expected, why


A, B = spec(2, 3), spec(3, 4)

# The same of operators that don't run here, with what they would give.
SPECS: list[tuple[str, str, tuple[Any, ...], Any, Cost]] = [
    ("without places the sum of 5", "flex_lib::zeros_and_scatter.default",
     ((), (), spec(5)), spec(), Cost(adds=4)),
    ("4·4·5, both halves", "inductor::quack_symmetric_mm.default", (spec(4, 5),), spec(4, 4),
     Cost(macs=80)),
    ("6 adds", "inductor::accumulate_grad_.default", (A, A, A), None, Cost(adds=6)),
    ("2·4·3", "_native::bmm_triton_0.default", (spec(2, 2, 3), spec(2, 3, 4)), spec(2, 2, 4),
     Cost(macs=48)),
    ("twice 2·4·3", "_native::_foreach_mm_native_1.default", ((A, A), (B, B)), None,
     Cost(macs=48)),
    ("as layer norm's: 2 rows of 3", "static_runtime::layer_norm.default", (A, (3,)), (A, A, A),
     Cost(adds=2 * (2 + 3 + 2 + 1), muls=12, divs=4, transcendentals=2)),
    ("5 rows of 3 into 2", "static_runtime::embedding_bag.default",
     (spec(9, 3), spec(5, dtype=torch.int64), spec(2, dtype=torch.int64)), (A, A, A),
     Cost(adds=15 - 6)),
    ("sign, abs, log1p, ·", "static_runtime::signed_log1p.default", (A,), A,
     Cost(comparisons=12, transcendentals=6, muls=6)),
    ("nan, inf, −inf, one bound", "static_runtime::clamp_nan_to_num.default", (A, 0.0), A,
     Cost(comparisons=24)),
    ("− zero, ·scale", "static_runtime::dequantize_copy.self", (spec(2, 3, dtype=torch.quint8),), A,
     Cost(adds=6, muls=6)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), SPECS)
def test_hand_arithmetic_of_what_does_not_run(
    why: str, name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    for overload in overloads(name):
        if name != "inductor::accumulate_grad_.default" or len(overload._schema.arguments) == 3:
            priced = default_registry().price(OpCall(overload, args, (), result))
            assert priced.cost.moving(0, 0) == expected, why


def test_the_other_polar_decomposition_is_the_first() -> None:
    for other in overloads("_native::linalg_polar_out_native_3.default"):
        priced = default_registry().price(
            OpCall(other, (spec(4, 3),), (), (spec(4, 3), spec(3, 3)))
        )
        assert priced.cost.moving(0, 0) == cost(aten.linalg_polar.default, torch.rand(4, 3))
        assert priced.cost.flops > 0
        assert priced.estimate


# (operator; arguments; bytes read; bytes written), of declared zeros that run
ZEROS: list[tuple[str, tuple[Any, ...], int, int]] = [
    ("_foobar.default", (X,), 24, 24),
    ("_test_warn_in_autograd.default", (X,), 24, 24),
    ("_test_functorch_fallback.default", (X, X), 48, 24),
    ("_test_autograd_multiple_dispatch.fullcoverage", (X,), 24, 24),
    ("_test_autograd_multiple_dispatch_view.default", (X,), 0, 0),
    ("_test_autograd_multiple_dispatch_view_copy.default", (X,), 24, 24),
    ("_test_parallel_materialize.default", (X, 2), 0, 0),
    ("inductor::_reinterpret_tensor.default", (X, [6], [1]), 0, 0),
    ("flex_gemm::to_blocked.default", (torch.rand(128, 4),), 2048, 2048),
]


@pytest.mark.parametrize(("name", "args", "read", "written"), ZEROS)
def test_zeros_and_their_bytes(name: str, args: tuple[Any, ...], read: int, written: int) -> None:
    for overload in overloads(name):
        priced = price(overload, *args)
        assert priced.state == "zero"
        assert priced.cost == Cost(bytes_read=read, bytes_written=written)


@pytest.mark.parametrize("name", ["debugprims::load_tensor", "onnx_symbolic::_symbolic"])
def test_what_is_made_up_is_only_written(name: str) -> None:
    for overload in overloads(f"{name}.default"):
        priced = default_registry().price(OpCall(overload, (spec(8),), (), spec(2, 3)))
        assert priced.state == "zero"
        assert priced.cost == Cost(bytes_written=24)


def test_each_counted_rule_has_a_row() -> None:
    counted = {name_of(r.overload).removeprefix("aten::") for r in rules if r.state == "counted"}
    elsewhere = {"_native::linalg_polar_out_native_3.default"}
    elsewhere |= {"static_runtime::embedding_bag.padding_idx"}  # the same formula
    assert counted - elsewhere == {name for _, name, *_ in ROWS} | {name for _, name, *_ in SPECS}


@pytest.mark.parametrize("size", [2, 4])
def test_a_rotation_is_the_loop_over_pairs(size: int) -> None:
    for op in overloads("onnx::RotaryEmbedding.opset23"):
        x, angles, tally = (
            torch.rand(1, 2, 3, size, dtype=f64),
            torch.rand(1, 3, size // 2),
            Tally(),
        )
        values, half, out = tally.scalars(x), size // 2, {}
        for h in range(2):
            for s in range(3):
                for i in range(half):
                    cos, sin = (f(angles[0, s, i].item()) for f in (math.cos, math.sin))
                    p, q = values[0, h, s, i], values[0, h, s, i + half]
                    out[0, h, s, i] = p * cos - q * sin
                    out[0, h, s, i + half] = p * sin + q * cos
        args = (x, angles.cos().to(f64), angles.sin().to(f64))
        torch.testing.assert_close(tensor_of(out, tuple(x.shape)), op(*args), rtol=1e-5, atol=1e-5)
        assert cost(op, *args) == tally.cost
