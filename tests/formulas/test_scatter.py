from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas.scatter import rules
from tests import oracles_scatter as loops
from tests.oracles import Tally, tensor_of
from tests.pricing import cost, price

aten = torch.ops.aten
f64, long = torch.float64, torch.int64

X, SRC = torch.zeros(4, 3), torch.rand(5, 3)
INDEX = torch.tensor([[0, 1], [2, 2]])  # 4 of the source's 15 elements are used
LINES, TWO = torch.tensor([3, 0]), torch.rand(2, 3)  # 2 lines of 3
POINTS = (torch.tensor([0, 2, 2]), torch.tensor([1, 1, 0]))
VALUES = torch.rand(3)
MASK = torch.tensor([True, False, True, False])
FIVE = torch.arange(12).view(4, 3) < 5


# (why, in words; operator; arguments; expected)
ROWS: list[tuple[str, Any, tuple[Any, ...], Cost]] = [
    ("written over", aten.scatter.src, (X, 0, INDEX, SRC), Cost()),
    ("written over", aten.scatter.value, (X, 0, INDEX, 1.0), Cost()),
    ("written over", aten.scatter_.src, (X.clone(), 0, INDEX, SRC), Cost()),
    ("written over", aten.scatter_.value, (X.clone(), 0, INDEX, 1.0), Cost()),
    ("written over", aten.masked_scatter.default, (X, X > 0, SRC), Cost()),
    ("4 indices", aten.scatter_add.default, (X, 0, INDEX, SRC), Cost(adds=4)),
    ("4 indices", aten.scatter_add_.default, (X.clone(), 0, INDEX, SRC), Cost(adds=4)),
    ("4 indices", aten.scatter_reduce.two, (X, 0, INDEX, SRC, "sum"), Cost(adds=4)),
    ("4 indices", aten.scatter_reduce.two, (X, 0, INDEX, SRC, "prod"), Cost(muls=4)),
    ("4 indices, 12 targets divided", aten.scatter_reduce.two, (X, 0, INDEX, SRC, "mean"),
     Cost(adds=4, divs=12)),
    ("4 indices", aten.scatter_reduce.two, (X, 0, INDEX, SRC, "amax"), Cost(comparisons=4)),
    ("4 indices", aten.scatter_reduce_.two, (X.clone(), 0, INDEX, SRC, "amin"),
     Cost(comparisons=4)),
    ("written over", aten.index_copy.default, (X, 0, LINES, TWO), Cost()),
    ("written over", aten.index_copy_.default, (X.clone(), 0, LINES, TWO), Cost()),
    ("written over", aten.index_fill.int_Scalar, (X, 0, LINES, 1.0), Cost()),
    ("written over", aten.index_fill.int_Tensor, (X, 0, LINES, torch.tensor(1.0)), Cost()),
    ("written over", aten.index_fill_.int_Scalar, (X.clone(), 0, LINES, 1.0), Cost()),
    ("written over", aten.index_fill_.int_Tensor, (X.clone(), 0, LINES, torch.tensor(1.0)),
     Cost()),
    ("2 lines of 3", aten.index_add.default, (X, 0, LINES, TWO), Cost(adds=6)),
    ("2 lines of 3", aten.index_add_.default, (X.clone(), 0, LINES, TWO), Cost(adds=6)),
    ("2 lines of 3", aten.index_reduce.default, (X, 0, LINES, TWO, "prod"), Cost(muls=6)),
    ("2 lines of 3, 12 targets divided", aten.index_reduce.default, (X, 0, LINES, TWO, "mean"),
     Cost(adds=6, divs=12)),
    ("2 lines of 3", aten.index_reduce_.default, (X.clone(), 0, LINES, TWO, "amin"),
     Cost(comparisons=6)),
    ("written over", aten.index_put.default, (X, POINTS, VALUES), Cost()),
    ("3 points", aten.index_put.default, (X, POINTS, VALUES, True), Cost(adds=3)),
    ("3 points, one value", aten.index_put.default, (X, POINTS, VALUES[0], True), Cost(adds=3)),
    ("2 lines of 3", aten.index_put.default, (X, [LINES], TWO, True), Cost(adds=6)),
    ("2 columns of 4", aten.index_put.default, (X, [None, LINES - LINES], torch.rand(4, 2), True),
     Cost(adds=8)),
    ("2 true lines of 3", aten.index_put.default, (X, [MASK], TWO, True), Cost(adds=6)),
    ("up to all 12 of a single value", aten.index_put.default, (X, [MASK], VALUES[0], True),
     Cost(adds=12)),
    ("up to all 12 of a single line", aten.index_put.default, (X, [MASK], VALUES, True),
     Cost(adds=12)),
    ("2 true lines of 3, a column for all", aten.index_put.default,
     (X, [MASK], torch.rand(2, 1), True), Cost(adds=6)),
    ("2 true columns of 4", aten.index_put.default,
     (X, [None, MASK[:3]], torch.rand(1, 2), True), Cost(adds=8)),
    ("2 true lines by 1 column", aten.index_put.default,
     (X, [MASK, LINES[1:]], torch.rand(2), True), Cost(adds=2)),
    ("2 true lines by 2 columns told by these", aten.index_put.default,
     (X, [MASK, LINES - LINES], VALUES[:1], True), Cost(adds=2)),
    ("up to 4 true lines by 1 column", aten.index_put.default,
     (X, [MASK, LINES[1:]], VALUES[:1], True), Cost(adds=4)),
    ("5 true of 12", aten.index_put.default, (X, [FIVE], torch.rand(5), True), Cost(adds=5)),
    ("2 true, in front of 3, by 1 of 2", aten.index_put.default,
     (torch.zeros(4, 3, 2), [MASK, None, LINES[1:]], torch.rand(2, 1), True), Cost(adds=6)),
    ("none true", aten.index_put.default, (X, [MASK & ~MASK], torch.rand(0, 3), True), Cost()),
    ("3 points", aten.index_put_.default, (X.clone(), POINTS, VALUES, True), Cost(adds=3)),
    ("3 points", aten._index_put_impl.default, (X, POINTS, VALUES, True), Cost(adds=3)),
    ("3 points", aten._index_put_impl_.default, (X.clone(), POINTS, VALUES, True), Cost(adds=3)),
    ("3 points", aten._unsafe_index_put.default, (X, POINTS, VALUES, True), Cost(adds=3)),
    ("3 points, masked or not", aten._unsafe_masked_index_put_accumulate.default,
     (X, VALUES > 9, POINTS, VALUES), Cost(adds=3)),
    ("written over", aten.put.default, (X, POINTS[0], VALUES), Cost()),
    ("3 elements", aten.put.default, (X, POINTS[0], VALUES, True), Cost(adds=3)),
    ("3 elements", aten.put_.default, (X.clone(), POINTS[0], VALUES, True), Cost(adds=3)),
    ("1·5 positions", aten.reflection_pad1d_backward.default,
     (torch.rand(1, 5), torch.rand(1, 3), [1, 1]), Cost(adds=5)),
    ("5·5 positions", aten.reflection_pad2d_backward.default,
     (torch.rand(1, 5, 5), torch.rand(1, 3, 3), [1, 1, 1, 1]), Cost(adds=25)),
    ("3·3·3 positions", aten.reflection_pad3d_backward.default,
     (torch.rand(1, 3, 3, 3), torch.rand(1, 2, 2, 2), [1, 0, 1, 0, 1, 0]), Cost(adds=27)),
    ("1·5 positions", aten.replication_pad1d_backward.default,
     (torch.rand(1, 5), torch.rand(1, 3), [1, 1]), Cost(adds=5)),
    ("5·5 positions", aten.replication_pad2d_backward.default,
     (torch.rand(1, 5, 5), torch.rand(1, 3, 3), [1, 1, 1, 1]), Cost(adds=25)),
    ("3·3·3 positions", aten.replication_pad3d_backward.default,
     (torch.rand(1, 3, 3, 3), torch.rand(1, 2, 2, 2), [1, 0, 1, 0, 1, 0]), Cost(adds=27)),
    ("9 blocks of 2·2", aten.col2im.default,
     (torch.rand(1, 4, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]), Cost(adds=36)),
    ("5 windows of 3", aten.unfold_backward.default, (torch.rand(5, 3), [7], 0, 3, 1),
     Cost(adds=15)),
    ("copied", aten.im2col.default, (torch.rand(1, 1, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1]),
     Cost()),
    ("copied into zeros", aten.slice_backward.default, (TWO, [4, 3], 0, 0, 2, 1), Cost()),
    ("copied into zeros", aten.select_backward.default, (VALUES, [4, 3], 0, 1), Cost()),
    ("copied into zeros", aten.diagonal_backward.default, (VALUES, [4, 3], 0, 0, 1), Cost()),
    ("picked", aten.masked_scatter_backward.default, (X, X > 0, [12]), Cost()),
    ("copied", aten.slice_scatter.default, (X, TWO, 0, 0, 2), Cost()),
    ("copied", aten.select_scatter.default, (X, VALUES, 0, 1), Cost()),
    ("copied", aten.diagonal_scatter.default, (X, VALUES), Cost()),
    ("copied", aten.as_strided_scatter.default, (X, TWO, [2, 3], [3, 1]), Cost()),
    ("each integer counted", aten.bincount.default, (torch.tensor([1, 1, 4]),), Cost(int_ops=3)),
    ("each weight added", aten.bincount.default, (torch.tensor([1, 1, 4]), VALUES),
     Cost(adds=3)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "expected"), ROWS)
@pytest.mark.filterwarnings("ignore:index_reduce")
def test_hand_arithmetic(why: str, op: Any, args: tuple[Any, ...], expected: Cost) -> None:
    assert cost(op, *args) == expected, why


# (why, in words; operator; arguments; options; expected)
OPTIONS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], Cost]] = [
    ("times 2", aten.index_add.default, (X, 0, LINES, TWO), {"alpha": 2}, Cost(adds=6, muls=6)),
    ("4 indices", aten.scatter.reduce, (X, 0, INDEX, SRC), {"reduce": "add"}, Cost(adds=4)),
    ("4 indices", aten.scatter.value_reduce, (X, 0, INDEX, 2.0), {"reduce": "multiply"},
     Cost(muls=4)),
    ("4 indices", aten.scatter_.reduce, (X.clone(), 0, INDEX, SRC), {"reduce": "multiply"},
     Cost(muls=4)),
    ("4 indices", aten.scatter_.value_reduce, (X.clone(), 0, INDEX, 2.0), {"reduce": "add"},
     Cost(adds=4)),
    ("2 segments of 2 lines of 3", aten.segment_reduce.default, (torch.rand(4, 3), "sum"),
     {"lengths": torch.tensor([2, 2])}, Cost(adds=6)),
    ("and 6 divisions", aten.segment_reduce.default, (torch.rand(4, 3), "mean"),
     {"lengths": torch.tensor([2, 2])}, Cost(adds=6, divs=6)),
    ("2 segments of 2 lines of 3", aten.segment_reduce.default, (torch.rand(4, 3), "max"),
     {"lengths": torch.tensor([2, 2])}, Cost(comparisons=6)),
    ("2 segments of 2 lines of 3", aten.segment_reduce.default, (torch.rand(4, 3), "min"),
     {"lengths": torch.tensor([2, 2])}, Cost(comparisons=6)),
    ("2 segments of 2 lines of 3", aten.segment_reduce.default, (torch.rand(4, 3), "prod"),
     {"lengths": torch.tensor([2, 2])}, Cost(muls=6)),
    ("4 lines of 3 added to a first value", aten.segment_reduce.default,
     (torch.rand(4, 3), "sum"), {"lengths": torch.tensor([3, 0, 1]), "initial": 2.0},
     Cost(adds=12)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "options", "expected"), OPTIONS)
@pytest.mark.filterwarnings("ignore:The reduce argument")
def test_hand_arithmetic_with_options(
    why: str, op: Any, args: tuple[Any, ...], options: dict[str, Any], expected: Cost
) -> None:
    assert cost(op, *args, **options) == expected, why


def test_each_rule_has_a_row() -> None:
    proved = {op for _, op, _, _ in ROWS} | {op for _, op, _, _, _ in OPTIONS}
    assert {rule.overload for rule in rules} <= proved


# (why, in words; operator; arguments; bytes read; bytes written), at 4 bytes, indices at 8
BYTES: list[tuple[str, Any, tuple[Any, ...], int, int]] = [
    ("4 indices, sources and targets", aten.scatter_add_.default, (X.clone(), 0, INDEX, SRC),
     32 + 16 + 16, 16),
    ("4 indices and sources", aten.scatter_.src, (X.clone(), 0, INDEX, SRC), 32 + 16, 16),
    ("4 indices", aten.scatter_.value, (X.clone(), 0, INDEX, 1.0), 32, 16),
    ("8 indices and sources, 3 targets hit often", aten.scatter_add_.default,
     (torch.zeros(3), 0, torch.zeros(8, dtype=torch.long), torch.ones(8)), 64 + 32 + 12, 12),
    ("8 indices, one source", aten.scatter_add_.default,
     (torch.zeros(9), 0, torch.arange(8), torch.ones(1).expand(8)), 64 + 4 + 32, 32),
    ("the copy: 12, 4 indices, 4 of 15 sources", aten.scatter_add.default, (X, 0, INDEX, SRC),
     48 + 32 + 16, 48),
    ("2 indices, 6 sources and targets", aten.index_add_.default, (X.clone(), 0, LINES, TWO),
     16 + 24 + 24, 24),
    ("2 indices, 6 sources", aten.index_copy_.default, (X.clone(), 0, LINES, TWO), 16 + 24, 24),
    ("2 indices", aten.index_fill_.int_Scalar, (X.clone(), 0, LINES, 1.0), 16, 24),
    ("2 indices, 4 in each column", aten.index_fill_.int_Scalar,
     (X.clone(), -1, LINES - LINES, 1.0), 16, 32),
    ("3 pairs of indices, 3 values", aten.index_put_.default, (X.clone(), POINTS, VALUES),
     48 + 12, 12),
    ("3 targets are read too", aten.index_put_.default, (X.clone(), POINTS, VALUES, True),
     48 + 12 + 12, 12),
    ("a single line; up to 4 of 3 are written", aten.index_put_.default,
     (X.clone(), [MASK], VALUES), 4 + 12, 48),
    ("3 indices, 3 values", aten.put_.default, (X.clone(), POINTS[0], VALUES), 24 + 12, 12),
    ("3 targets are read too", aten.put_.default, (X.clone(), POINTS[0], VALUES, True),
     24 + 12 + 12, 12),
    ("the gradient, not the operand", aten.reflection_pad1d_backward.default,
     (torch.rand(1, 5), torch.rand(1, 3), [1, 1]), 20, 12),
    ("the gradient; zeros too", aten.select_backward.default, (VALUES, [4, 3], 0, 1), 12, 48),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "read", "written"), BYTES)
def test_bytes(why: str, op: Any, args: tuple[Any, ...], read: int, written: int) -> None:
    moved = price(op, *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


def test_a_number_combined_in_place_is_no_tensor_to_read() -> None:
    """4 indices of 8 bytes and the 4 targets of 4 that they name."""
    moved = price(aten.scatter_.value_reduce, X.clone(), 0, INDEX, 2.0, reduce="add").cost
    assert (moved.bytes_read, moved.bytes_written) == (32 + 16, 16)


@pytest.mark.parametrize(
    ("values", "accumulate", "estimated"),
    [
        (VALUES[0], True, True),
        (VALUES, True, True),
        (TWO[:, :1], True, False),  # 2 rows: the number of true elements
        (VALUES[0], False, False),  # nothing is counted
    ],
)
def test_a_mask_is_a_bound_where_values_do_not_tell(
    values: torch.Tensor, accumulate: bool, estimated: bool
) -> None:
    for op in (aten.index_put.default, aten.index_put_.default):
        estimate = price(op, X.clone(), [MASK], values, accumulate).estimate
        assert ("mask" in estimate) is estimated


size = st.integers(1, 4)
places = st.sampled_from(["all", "mask", "list", "one", "square"])


def index_of(kind: str, n: int, chosen: int) -> torch.Tensor | None:
    """An index of a dimension of n: none, or a mask of which `chosen` are true, ..."""
    listed = torch.arange(chosen) % n
    return {
        "all": None, "mask": torch.arange(n) < chosen, "list": listed, "one": listed[:1],
        "square": listed.expand(chosen, chosen),
    }[kind]  # fmt: skip


@given(shape=st.tuples(*[st.integers(3, 4)] * 3), kinds=st.tuples(*[places] * 3), chosen=size)
def test_accumulating_adds_each_element_that_the_index_names(
    shape: tuple[int, int, int], kinds: tuple[str, str, str], chosen: int
) -> None:
    """As many as indexing gives."""
    chosen = min(chosen, *shape)
    indices = [index_of(kind, n, chosen) for kind, n in zip(kinds, shape)]
    if all(index is None for index in indices):
        return
    x = torch.zeros(shape)
    named = aten.index.Tensor(x, indices)
    given = (x, indices, torch.ones(named.shape), True)
    found = price(aten.index_put.default, *given)
    if found.estimate:  # a mask of one true element may be broadcast
        assert found.cost.adds >= named.numel()
        assert chosen == 1
    else:
        assert found.cost.adds == named.numel()
    if "mask" not in kinds:  # what else the values are doesn't matter
        assert cost(aten.index_put.default, x, indices, torch.ones(1), True) == Cost(
            adds=named.numel()
        )


@given(
    rows=size, columns=size, reach=size,
    reduce=st.sampled_from(["sum", "prod", "mean", "amax", "amin"]), data=st.data(),
)  # fmt: skip
def test_scatter_reduce_is_the_loop(
    rows: int, columns: int, reach: int, reduce: str, data: st.DataObject
) -> None:
    tally, x = Tally(), torch.rand(rows, columns, dtype=f64)
    src = torch.rand(reach + 1, columns, dtype=f64)
    into = st.lists(st.integers(0, rows - 1), min_size=columns, max_size=columns)
    table = data.draw(st.lists(into, min_size=reach, max_size=reach))
    targets: dict[loops.Index, loops.Index]
    targets = {(i, j): (table[i][j], j) for i in range(reach) for j in range(columns)}
    args = (x, 0, torch.tensor(table), src, reduce)
    torch.testing.assert_close(
        loops.scattered(tally, x, targets, src, reduce), aten.scatter_reduce.two(*args)
    )
    assert cost(aten.scatter_reduce.two, *args) == tally.cost
    if reduce == "sum":
        assert cost(aten.scatter_add.default, *args[:4]) == tally.cost


@pytest.mark.filterwarnings("ignore:index_reduce")
@given(
    rows=size, columns=size, reduce=st.sampled_from(["sum", "prod", "mean", "amax", "amin"]),
    lines=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)  # fmt: skip
def test_reducing_slices_is_the_loop(
    rows: int, columns: int, reduce: str, lines: list[int]
) -> None:
    tally, x = Tally(), torch.rand(rows + 3, columns, dtype=f64)
    src = torch.rand(len(lines), columns, dtype=f64)
    targets: dict[loops.Index, loops.Index]
    targets = {(i, j): (line, j) for i, line in enumerate(lines) for j in range(columns)}
    args: tuple[Any, ...] = (x, 0, torch.tensor(lines), src)
    if reduce == "sum":
        op = aten.index_add.default
    else:
        op, args = aten.index_reduce.default, (*args, reduce)
    torch.testing.assert_close(loops.scattered(tally, x, targets, src, reduce), op(*args))
    assert cost(op, *args) == tally.cost
    if reduce == "sum":
        put = (x, [torch.tensor(lines)], src, True)
        assert cost(aten.index_put.default, *put) == tally.cost


@given(
    channels=st.integers(1, 2), kernel=st.tuples(*[st.integers(1, 2)] * 2),
    size=st.tuples(*[st.integers(3, 4)] * 2), dilation=st.tuples(*[st.integers(1, 2)] * 2),
    padding=st.tuples(*[st.integers(0, 1)] * 2), stride=st.tuples(*[st.integers(1, 2)] * 2),
)  # fmt: skip
def test_fold_is_the_loop_over_blocks(
    channels: int, kernel: tuple[int, int], size: tuple[int, int], dilation: tuple[int, int],
    padding: tuple[int, int], stride: tuple[int, int],
) -> None:  # fmt: skip
    window = (kernel, dilation, padding, stride)
    image = torch.rand(1, channels, *size, dtype=f64)
    blocks = torch.rand_like(aten.im2col.default(image, *window))
    tally = Tally()
    torch.testing.assert_close(
        loops.fold(tally, blocks[0], size, *window),
        aten.col2im.default(blocks, size, *window)[0],
    )
    assert cost(aten.col2im.default, blocks, size, *window) == tally.cost


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data())
def test_the_gradient_of_padding_is_the_loop(mode: str, dims: int, data: st.DataObject) -> None:
    shape = [2, *data.draw(st.lists(st.integers(2, 3), min_size=dims, max_size=dims))]
    side = st.tuples(st.integers(0, 1), st.integers(0, 1))
    pads = data.draw(st.lists(side, min_size=dims, max_size=dims))
    grad = torch.rand(2, *(n + sum(pad) for n, pad in zip(shape[1:], pads)), dtype=f64)
    name = f"{'reflection' if mode == 'reflect' else 'replication'}_pad{dims}d_backward"
    flat = [side for pad in reversed(pads) for side in pad]
    args = (grad, torch.rand(shape, dtype=f64), flat)
    op, tally = getattr(aten, name).default, Tally()
    torch.testing.assert_close(loops.pad_gradient(tally, grad, shape, pads, mode), op(*args))
    assert cost(op, *args) == tally.cost


@given(n=st.integers(3, 6), window=st.integers(1, 3), step=st.integers(1, 3))
def test_the_gradient_of_windows_is_the_loop(n: int, window: int, step: int) -> None:
    grad = torch.rand(torch.zeros(n).unfold(0, window, step).shape, dtype=f64)
    tally = Tally()
    out = {(i,): tally.scalar(0.0) for i in range(n)}
    for (place, i), value in tally.scalars(grad).items():
        out[(place * step + i,)] = out[(place * step + i,)] + value
    args = (grad, [n], 0, window, step)
    torch.testing.assert_close(tensor_of(out, (n,)), aten.unfold_backward.default(*args))
    assert cost(aten.unfold_backward.default, *args) == tally.cost
