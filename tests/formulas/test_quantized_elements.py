from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.quantized_elements import rules
from flopdispatch.spec import spec
from tests.oracles_quantized import to_bytes
from tests.pricing import cost, cost_of_specs, overload_of, price

quantized = torch.ops.quantized

Q = to_bytes(torch.rand(2, 3))
OUT = Q.clone()
NUMBER = torch.tensor(2.0)


def each(operations: int) -> Cost:
    """So many integer operations for each of 6 elements."""
    return Cost(int_ops=6 * operations)


# To dequantize is 2, to quantize 5: between, x + y of two is 2·2 + 5 = 9, of one 7.
# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, str, tuple[Any, ...], Cost]] = [
    ("a sum", "quantized::add.default", (Q, Q, 0.1, 3), each(9 + 1)),
    ("a sum", "_quantized::add.default", (Q, Q, 0.1, 3), each(9 + 1)),
    ("a sum", "quantized::add.out", (Q, Q, OUT), each(9 + 1)),
    ("a sum", "quantized::add_out.default", (Q, Q, OUT), each(9 + 1)),
    ("a sum and a maximum", "quantized::add_relu.default", (Q, Q, 0.1, 3), each(9 + 2)),
    ("a sum and a maximum", "quantized::add_relu.out", (Q, Q, OUT), each(9 + 2)),
    ("a sum and a maximum", "quantized::add_relu_out.default", (Q, Q, OUT), each(9 + 2)),
    ("a sum with a number", "quantized::add.Scalar", (Q, 2.0), each(7 + 1)),
    ("a sum with a number", "quantized::add.Scalar2", (2.0, Q), each(7 + 1)),
    ("a sum with a number", "quantized::add.Scalar_out", (Q, 2.0, OUT), each(7 + 1)),
    ("a sum with a number", "quantized::add_scalar.default", (Q, 2.0), each(7 + 1)),
    ("a sum with a number", "quantized::add_scalar_out.default", (Q, 2.0, OUT), each(7 + 1)),
    ("and a maximum", "quantized::add_relu.Scalar", (Q, 2.0), each(7 + 2)),
    ("and a maximum", "quantized::add_relu.Scalar2", (2.0, Q), each(7 + 2)),
    ("and a maximum", "quantized::add_relu.Scalar_out", (Q, 2.0, OUT), each(7 + 2)),
    ("and a maximum", "quantized::add_scalar_relu.default", (Q, 2.0), each(7 + 2)),
    ("and a maximum", "quantized::add_scalar_relu_out.default", (Q, 2.0, OUT), each(7 + 2)),
    ("a product", "quantized::mul.default", (Q, Q, 0.1, 3), each(9 + 1)),
    ("a product", "quantized::mul.out", (Q, Q, OUT), each(9 + 1)),
    ("a product", "quantized::mul_out.default", (Q, Q, OUT), each(9 + 1)),
    ("and a maximum", "quantized::mul_relu.default", (Q, Q, 0.1, 3), each(9 + 2)),
    ("and a maximum", "quantized::mul_relu.out", (Q, Q, OUT), each(9 + 2)),
    ("and a maximum", "quantized::mul_relu_out.default", (Q, Q, OUT), each(9 + 2)),
    ("by a number", "quantized::mul.Scalar", (Q, 2.0), each(7 + 1)),
    ("by a number", "quantized::mul.Scalar2", (2.0, Q), each(7 + 1)),
    ("by a number", "quantized::mul.Scalar_out", (Q, 2.0, OUT), each(7 + 1)),
    ("by a number", "quantized::mul_scalar.default", (Q, 2.0), each(7 + 1)),
    ("by a number", "quantized::mul_scalar_out.default", (Q, 2.0, OUT), each(7 + 1)),
    ("and a maximum", "quantized::mul_relu.Scalar", (Q, 2.0), each(7 + 2)),
    ("and a maximum", "quantized::mul_relu.Scalar2", (2.0, Q), each(7 + 2)),
    ("and a maximum", "quantized::mul_relu.Scalar_out", (Q, 2.0, OUT), each(7 + 2)),
    ("and a maximum", "quantized::mul_scalar_relu.default", (Q, 2.0), each(7 + 2)),
    ("and a maximum", "quantized::mul_scalar_relu_out.default", (Q, 2.0, OUT), each(7 + 2)),
    ("a sign, an exp, an add, a div", "quantized::sigmoid.default", (Q, 0.1, 3), each(7 + 4)),
    ("an add, two bounds, a mul, a div", "quantized::hardswish.default",
     (Q, 0.1, 3), each(7 + 5)),
    ("a test and a mul", "quantized::leaky_relu.default", (Q, 0.1, False, 0.1, 3), each(7 + 2)),
    ("a test, expm1, and alpha", "quantized::elu.default", (Q, 0.1, 3, 2.0), each(7 + 3)),
    ("a test and expm1", "quantized::celu.default", (Q, 0.1, 3), each(7 + 2)),
    ("two bounds of the integers", "quantized::relu6.default", (Q,), each(2)),
    ("a test of the integers", "quantized::threshold.default", (Q, 0.1, 0.2), each(1)),
    ("two bounds of the integers", "quantized::clamp.default", (Q, 0.1, 0.2), each(2)),
    ("one bound of the integers", "quantized::clamp.default", (Q, None, 0.2), each(1)),
    ("6 exps, divs and differences; 2 rows of 2 maxima and 2 sums", "quantized::softmax.default",
     (Q, 1, 0.1, 3), each(7 + 3) + Cost(int_ops=2 * (2 + 2))),
    ("12 brought to one scale", "quantized::cat.default", ([Q, Q], 1, 0.1, 3), 2 * each(7)),
    ("and maxima", "quantized::cat_relu.default", ([Q, Q], 1, 0.1, 3), 2 * each(8)),
    ("12 brought to one scale", "quantized::cat_out.default",
     ([Q, Q], 1, torch.cat([Q, Q], 1)), 2 * each(7)),
    ("and maxima", "quantized::cat_relu_out.default",
     ([Q, Q], 1, torch.cat([Q, Q], 1)), 2 * each(8)),
    ("as it is", "quantized::dropout.default", (Q, 0.1, 3, 0.5, True), Cost()),
]  # fmt: skip

# Normalizations: 24 elements of (2, 4, 3), dequantized and quantized in floats
X = to_bytes(torch.rand(2, 4, 3))
IMAGE = to_bytes(torch.rand(2, 4, 3, 1))
SHELL = Cost(adds=2 * 24, muls=2 * 24, comparisons=3 * 24)
W3, W4 = torch.rand(3), torch.rand(4)
BATCH = Cost(adds=24 + 2 * 4, muls=24 + 2 * 4, transcendentals=4) + SHELL

ROWS += [
    ("8 rows of 3: 2 + 3 + 2 + 1 adds, 3 squares, 2 divs, rsqrt; 3 muls",
     "quantized::layer_norm.default", (X, [3], None, None, 1e-5, 0.1, 3),
     Cost(adds=64, muls=24 + 24, divs=16, transcendentals=8) + SHELL),
    ("and a mul and an add per element with a weight and a bias",
     "quantized::layer_norm.default", (X, [3], W3, W3, 1e-5, 0.1, 3),
     Cost(adds=64 + 24, muls=24 + 48, divs=16, transcendentals=8) + SHELL),
    ("4 groups of 6: 5 + 6 + 5 + 1 adds, 6 squares, 2 divs, rsqrt; a mul per element",
     "quantized::group_norm.default", (X, 2, None, None, 1e-5, 0.1, 3),
     Cost(adds=68, muls=24 + 24, divs=8, transcendentals=4) + SHELL),
    ("8 channels of 3", "quantized::instance_norm.default", (X, None, None, 1e-5, 0.1, 3),
     Cost(adds=64, muls=24 + 24, divs=16, transcendentals=8) + SHELL),
    *(
        ("4 channels of eps, rsqrt, 2 muls, a shift; a mul and an add per element",
         f"quantized::batch_norm{d}.default", (x, W4, W4, W4, W4, 1e-5, 0.1, 3), BATCH)
        for d, x in (("", IMAGE), ("1d", X), ("2d", IMAGE), ("3d", IMAGE[..., None]))
    ),
    *(
        ("and 24 maxima", f"quantized::batch_norm{d}_relu.default",
         (x, W4, W4, W4, W4, 1e-5, 0.1, 3), BATCH + Cost(comparisons=24))
        for d, x in (("", IMAGE), ("1d", X), ("2d", IMAGE), ("3d", IMAGE[..., None]))
    ),
    ("as the other", "quantized_batch_norm.default", (IMAGE, W4, W4, W4, W4, 1e-5, 0.1, 3),
     BATCH),
]  # fmt: skip

# Embeddings: rows of 8, dequantized by a mul and an add
TABLE = torch.rand(5, 8)
ROWS_OF_BYTES = quantized.embedding_bag_byte_prepack(TABLE)
ROWS_OF_4, ROWS_OF_2 = (
    getattr(quantized, f"embedding_bag_{bits}_prepack")(TABLE) for bits in ("4bit", "2bit")
)
INDICES, OFFSETS = torch.tensor([0, 2, 2]), torch.tensor([0, 2])
BAGS: Cost = Cost(muls=24, adds=24 + 8)  # 3 rows; 3 - 2 of them added to another

ROWS += [
    *(("3 rows in 2 bags", f"quantized::embedding_bag_{bits}_rowwise_offsets.default",
       (table, INDICES, OFFSETS), BAGS)
      for bits, table in (("byte", ROWS_OF_BYTES), ("4bit", ROWS_OF_4), ("2bit", ROWS_OF_2))),
    ("each row by its weight: MACs", "quantized::embedding_bag_byte_rowwise_offsets.default",
     (ROWS_OF_BYTES, INDICES, OFFSETS, False, 0, False, torch.rand(3)),
     Cost(muls=24, adds=24, macs=24)),
]  # fmt: skip

BYTES = spec(2, 3, dtype=torch.uint8)
SCALED = (BYTES, 0.1, 3, BYTES, 0.1, 3, 0.1, 3, torch.uint8)
# Engines and packed objects: (operator; arguments; result; expected)
SPECS: list[tuple[str, tuple[Any, ...], Any, Cost]] = [
    ("onednn::qadd.tensor", SCALED, BYTES, each(9 + 1)),
    ("onednn::qadd_relu.tensor", SCALED, BYTES, each(9 + 2)),
    ("onednn::qmul.tensor", SCALED, BYTES, each(9 + 1)),
    *((f"onednn::{name}.tensor", SCALED, spec(2, 3), Cost(adds=12, muls=12) + more)
      for name, more in (("qadd", Cost(adds=6)), ("qadd_relu", Cost(adds=6, comparisons=6)),
                         ("qmul", Cost(muls=6)))),
    ("onednn::qbatch_norm2d.default",
     (spec(2, 4, 3, 1, dtype=torch.uint8), 0.1, 3, spec(4), spec(4), spec(4), spec(4), 1e-5, 0.1,
      3, torch.uint8), spec(2, 4, 3, 1, dtype=torch.uint8), BATCH),
    ("quantized::prelu.default", (spec(2, 3, dtype=torch.quint8), spec(1), 0.1, 3),
     spec(2, 3, dtype=torch.quint8), each(7 + 2)),
    *((f"quantized::{name}_scalar{relu}{out}.Tensor",
       (spec(2, 3, dtype=torch.quint8), spec()),
       spec(2, 3, dtype=torch.quint8), each(7 + 1 + (relu != "")))
      for name in ("add", "mul") for relu in ("", "_relu") for out in ("", "_out")),
    ("quantized::embedding_byte.default", (None, spec(3, dtype=torch.int64)), spec(3, 8),
     Cost(muls=24, adds=24)),
    ("quantized::embedding_4bit.default", (None, spec(3, dtype=torch.int64)), spec(3, 8),
     Cost(muls=24, adds=24)),
    ("quantized::embedding_bag_byte.default",
     (None, spec(3, dtype=torch.int64), spec(2, dtype=torch.int64)), spec(2, 8), BAGS),
    ("quantized::embedding_bag_4bit.default",
     (None, spec(3, dtype=torch.int64), spec(2, dtype=torch.int64), False, 1), spec(2, 8),
     BAGS + Cost(divs=16)),
    ("quantized::embedding_bag_prepack.default", (spec(5, 8, dtype=torch.quint8),), None, Cost()),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "expected"), ROWS)
def test_hand_arithmetic(why: str, name: str, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(overload_of(name), *args) == expected, why


@pytest.mark.parametrize(("name", "args", "result", "expected"), SPECS)
def test_hand_arithmetic_of_specs(
    name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    assert cost_of_specs(overload_of(name), *args, result=result) == expected


def test_every_rule_has_a_row() -> None:
    rows = {name for _, name, _, _ in ROWS} | {name for name, _, _, _ in SPECS}
    assert {rule.overload for rule in rules} == set(overloads(*rows))


def test_embeddings_read_the_rows_that_they_name() -> None:
    bag = price(
        quantized.embedding_bag_byte_rowwise_offsets.default, ROWS_OF_BYTES, INDICES, OFFSETS
    )
    assert bag.cost.bytes_read == 3 * 8 + 2 * 8 + 3 * (8 + 8), "indices, offsets, 3 rows, 2 floats"
    assert bag.cost.bytes_written == 2 * 8 * 4
    assert bag.dtype is torch.float32


def test_rows_of_fewer_bits_are_smaller() -> None:
    """3 indices and rows of 8: 2 or 4 to a byte, a scale and an offset of 2 bytes each."""
    half = price(quantized.embedding_bag_4bit_rowwise_offsets.default, ROWS_OF_4, INDICES, OFFSETS)
    assert half.cost.bytes_read == 3 * 8 + 2 * 8 + 3 * (4 + 4)
    least = price(quantized.embedding_bag_2bit_rowwise_offsets.default, ROWS_OF_2, INDICES, OFFSETS)
    assert least.cost.bytes_read == 3 * 8 + 2 * 8 + 3 * (2 + 4)


@pytest.mark.parametrize(("bits", "dtype", "row"), [("byte", torch.quint8, 8 + 8),
                                                    ("4bit", torch.quint4x2, 4 + 4)])  # fmt: skip
def test_packed_tables_have_the_same_rows(bits: str, dtype: torch.dtype, row: int) -> None:
    args = (TABLE, torch.ones(5), torch.zeros(5), 0, dtype)
    packed = quantized.embedding_bag_prepack(torch.quantize_per_channel(*args))
    one = price(overload_of(f"quantized::embedding_{bits}.default"), packed, INDICES)
    bags = price(overload_of(f"quantized::embedding_bag_{bits}.default"), packed, INDICES, OFFSETS)
    assert (one.cost.bytes_read, one.cost.bytes_written) == (3 * 8 + 3 * row, 3 * 8 * 4)
    read = 3 * 8 + 2 * 8 + 3 * row
    assert (bags.cost.bytes_read, bags.cost.bytes_written) == (read, 2 * 8 * 4)


def test_what_is_given_for_the_result_is_only_written() -> None:
    """6 bytes an operand and 4 of a number in a tensor."""
    add = quantized.add
    for op, args, read in (
        (quantized.add_out.default, (Q, Q, OUT), 12),
        (add.out, (Q, Q, OUT), 12),
        (add.Scalar_out, (Q, 2.0, OUT), 6),
        (quantized.mul_scalar_relu_out.default, (Q, 2.0, OUT), 6),
        (quantized.mul_scalar_out.Tensor, (Q, NUMBER, OUT), 6 + 4),
        (quantized.cat_out.default, ([Q, Q], 1, torch.cat([Q, Q], 1)), 12),
    ):
        moved = price(op, *args).cost
        assert moved.bytes_read == read
        assert moved.bytes_written == size(args[-1])


def size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def test_between_quantized_tensors_all_is_integer() -> None:
    assert price(quantized.add.default, Q, Q, 0.1, 3).cost.flops == 0
    assert price(quantized.sigmoid.default, Q, 0.1, 3).cost.transcendentals == 0
    number = price(quantized.add_scalar.Tensor, Q, NUMBER).cost.moving(0, 0)
    assert number == cost(quantized.add_scalar.default, Q, 2.0)
