from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.movement import rules
from flopdispatch.traffic import is_view
from tests.pricing import call_of, price

aten = torch.ops.aten
long = torch.int64

X = torch.rand(2, 3)  # 24 bytes
CUBE = torch.rand(2, 3, 4)  # 96 bytes
IMAGE = torch.rand(1, 4, 2, 2)  # 64 bytes
PAIR = torch.tensor([1, 0])  # 16 bytes
COMPLEX = torch.ones(2, 3, dtype=torch.complex64)

# Views: no bytes move
VIEWS: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.view.default, (X, [6])),
    (aten.view.dtype, (X, torch.int32)),
    (aten._reshape_alias.default, (X, [6], [1])),
    (aten._unsafe_view.default, (X, [6])),
    (aten.t.default, (X,)),
    (aten.transpose.int, (X, 0, 1)),
    (aten.permute.default, (CUBE, [2, 0, 1])),
    (aten.expand.default, (X[:1], [5, 3])),
    (aten.slice.Tensor, (X, 0, 0, 1)),
    (aten.select.int, (X, 0, 1)),
    (aten.split.Tensor, (X, 1)),
    (aten.split_with_sizes.default, (X, [1, 1])),
    (aten.unbind.int, (X,)),
    (aten.squeeze.default, (X[:1],)),
    (aten.squeeze.dim, (X[:1], 0)),
    (aten.squeeze.dims, (X[:1], [0])),
    (aten.unsqueeze.default, (X, 0)),
    (aten.as_strided.default, (X, [2], [1])),
    (aten.alias.default, (X,)),
    (aten.detach.default, (X,)),
    (aten.diagonal.default, (X,)),
    (aten.unfold.default, (X, 1, 2, 1)),
    (aten.lift_fresh.default, (X,)),
    (aten.lift.default, (X,)),
    (aten.view_as_real.default, (COMPLEX,)),
    (aten.view_as_complex.default, (torch.rand(3, 2),)),
    (aten._conj.default, (COMPLEX,)),
    (aten._neg_view.default, (X,)),
]

# Changes of metadata in place, questions, allocation: no bytes move either
METADATA: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.detach_.default, (X.clone(),)),
    (aten.t_.default, (X.clone(),)),
    (aten.transpose_.default, (X.clone(), 0, 1)),
    (aten.squeeze_.default, (torch.rand(1, 3),)),
    (aten.squeeze_.dim, (torch.rand(1, 3), 0)),
    (aten.squeeze_.dims, (torch.rand(1, 3), [0])),
    (aten.unsqueeze_.default, (X.clone(), 0)),
    (aten.as_strided_.default, (X.clone(), [2], [1])),
    (aten.resize_.default, (X.clone(), [1, 3])),
    (aten.set_.default, (X.clone(),)),
    (aten.set_.source_Tensor, (X.clone(), CUBE)),
    (aten.is_same_size.default, (X, X)),
    (aten.is_set_to.default, (X, X)),
    (aten._has_same_storage_numel.default, (X, X)),
    (aten._assert_tensor_metadata.default, (X, [2, 3])),
    (aten.sym_size.int, (X, 0)),
    (aten.sym_numel.default, (X,)),
    (aten.sym_stride.int, (X, 0)),
    (torch.ops.prim.device.default, (X,)),
    (aten.empty.memory_format, ([2, 3],)),
    (aten.empty_like.default, (X,)),
    (aten.empty_strided.default, ([2, 3], [3, 1])),
    (aten.new_empty.default, (X, [9])),
    (aten.new_empty_strided.default, (X, [9], [1])),
]


@pytest.mark.parametrize(("op", "args"), VIEWS + METADATA)
def test_nothing_moves(op: Any, args: tuple[Any, ...]) -> None:
    priced = price(op, *args)
    assert (priced.state, priced.family, priced.cost) == ("zero", "movement", Cost())


# (why, in words; operator; arguments; bytes read; bytes written)
BYTES: list[tuple[str, Any, tuple[Any, ...], int, int]] = [
    # creation and fills
    ("made up", aten.zeros.default, ([2, 3],), 0, 24),
    ("made up", aten.ones.default, ([2, 3],), 0, 24),
    ("made up", aten.full.default, ([2, 3], 7.0), 0, 24),
    ("made up", aten.scalar_tensor.default, (7.0,), 0, 4),
    ("the shape is looked at", aten.zeros_like.default, (X,), 0, 24),
    ("the shape is looked at", aten.ones_like.default, (X,), 0, 24),
    ("the shape is looked at", aten.full_like.default, (X, 7.0), 0, 24),
    ("the type is looked at", aten.new_zeros.default, (X, [9]), 0, 36),
    ("the type is looked at", aten.new_ones.default, (X, [9]), 0, 36),
    ("the type is looked at", aten.new_full.default, (X, [9], 7.0), 0, 36),
    ("the target isn't read", aten.zero_.default, (X.clone(),), 0, 24),
    ("the target isn't read", aten.fill_.Scalar, (X.clone(), 7.0), 0, 24),
    ("the shape is looked at", aten.fill.Scalar, (X, 7.0), 0, 24),
    ("one value is read", aten.fill_.Tensor, (X.clone(), X[0, 0]), 4, 24),
    ("5 integers", aten.arange.default, (5,), 0, 40),
    ("4 integers", aten.arange.start, (1, 5), 0, 32),
    ("2 integers", aten.arange.start_step, (1, 5, 2), 0, 16),
    ("5 numbers", aten.linspace.default, (0, 1, 5), 0, 20),
    ("3 by 3", aten.eye.default, (3,), 0, 36),
    ("6 pairs", aten.tril_indices.default, (3, 3), 0, 96),
    ("3 pairs", aten.triu_indices.default, (3, 3, 1), 0, 48),
    ("5 numbers", aten.fft_fftfreq.default, (5,), 0, 20),
    ("3 numbers", aten.fft_rfftfreq.default, (5,), 0, 12),
    # copies and casts
    ("twice as wide", aten._to_copy.default, (X,), 24, 24),
    ("read and written", aten.clone.default, (X,), 24, 24),
    ("an expanded row is read once", aten.clone.default, (X[:1].expand(5, 3),), 12, 60),
    ("the source is read", aten.copy_.default, (CUBE.clone(), X[..., None]), 24, 96),
    ("the source is read", aten.copy.default, (CUBE, X[..., None]), 24, 96),
    ("both tensors", aten._foreach_copy_.default, ([X.clone(), CUBE.clone()], [X, CUBE]),
     24 + 96, 24 + 96),
    ("both tensors", aten._foreach_zero_.default, ([X.clone(), CUBE.clone()],), 0, 24 + 96),
    ("all of it", aten.view_copy.default, (X, [6]), 24, 24),
    ("all of it", aten.detach_copy.default, (X,), 24, 24),
    ("one of two rows", aten.slice_copy.Tensor, (X, 0, 0, 1), 12, 12),
    ("one of two rows", aten.select_copy.int, (X, 0, 1), 12, 12),
    ("2 of 6", aten.diagonal_copy.default, (X,), 8, 8),
    ("2 of 6", aten.as_strided_copy.default, (X, [2], [1]), 8, 8),
    ("2 rows of 2 windows of 2: all of it", aten.unfold_copy.default, (X, 1, 2, 1), 24, 32),
    ("2 rows of a window of 2: 4 of 6", aten.unfold_copy.default, (X, 1, 2, 2), 16, 16),
    # rearrangements
    ("both", aten.cat.default, ([X, X],), 48, 48),
    ("both", aten.stack.default, ([X, X],), 48, 48),
    ("both; zeros between", aten.block_diag.default, ([X, X],), 48, 96),
    ("zeros around", aten.constant_pad_nd.default, (X, [1, 1]), 24, 40),
    ("2 more columns", aten.reflection_pad1d.default, (X, [1, 1]), 24, 40),
    ("6 by 6", aten.reflection_pad2d.default, (torch.rand(1, 4, 4), [1, 1, 1, 1]), 64, 144),
    ("4 by 4", aten.replication_pad2d.default, (torch.rand(1, 2, 2), [1, 1, 1, 1]), 16, 64),
    ("2 more columns", aten.replication_pad1d.default, (X, [1, 1]), 24, 40),
    ("3 times", aten.repeat.default, (X, [3, 1]), 24, 72),
    ("read and written", aten.roll.default, (X, [1], [0]), 24, 24),
    ("read and written", aten.flip.default, (X, [0]), 24, 24),
    ("read and written", aten.rot90.default, (X,), 24, 24),
    ("read and written", aten.tril.default, (X,), 24, 24),
    ("read and written", aten.triu.default, (X,), 24, 24),
    ("in place", aten.tril_.default, (X.clone(),), 24, 24),
    ("zeros around", aten.diag_embed.default, (X,), 24, 72),
    ("read and written", aten.channel_shuffle.default, (IMAGE, 2), 64, 64),
    ("read and written", aten.native_channel_shuffle.default, (IMAGE, 2), 64, 64),
    ("read and written", aten.pixel_shuffle.default, (IMAGE, 2), 64, 64),
    ("read and written", aten.pixel_unshuffle.default, (IMAGE, 2), 64, 64),
    # taking some
    ("6 integers; 6 pairs", aten.nonzero.default, (X + 1,), 24, 96),
    ("all, their mask; all", aten.masked_select.default, (X, X > -1), 24 + 6, 24),
    ("2 indices, 2 rows of 2", aten.index_select.default, (X, 1, PAIR), 16 + 16, 16),
    ("2 indices, 2 elements", aten.gather.default, (X, 0, PAIR[None]), 16 + 8, 8),
    ("2 indices, 2 elements", aten.take.default, (X, PAIR), 16 + 8, 8),
    ("20 indices, which name each of 6 elements often", aten.take.default,
     (X, PAIR.repeat(10)), 160 + 24, 80),
    ("10 indices, the 2 rows", aten.index.Tensor, (X, [PAIR.repeat(5)]), 80 + 24, 120),
    ("2 indices, 2 rows of 12", aten.index.Tensor, (CUBE, [PAIR]), 16 + 96, 96),
    ("2 indices, 4 columns of 2", aten.index.Tensor, (CUBE, [None, PAIR]), 16 + 64, 64),
    ("2 truths, a row", aten.index.Tensor, (X, [PAIR > 0]), 2 + 12, 12),
    ("2 indices, 2 rows of 12", aten._unsafe_index.Tensor, (CUBE, [PAIR]), 16 + 96, 96),
    ("2 truths, 2 indices, 2 rows", aten._unsafe_masked_index.default,
     (torch.rand(4), PAIR > 0, [PAIR], 0.0), 2 + 16 + 8, 8),
    ("one number", aten._local_scalar_dense.default, (X[0, 0],), 4, 0),
    ("one truth", aten._assert_async.default, (torch.tensor(True),), 1, 0),
    ("2 numbers; 2 indices", aten.repeat_interleave.Tensor, (torch.tensor([1, 1]),), 16, 16),
]  # fmt: skip


@pytest.mark.parametrize(("why", "op", "args", "read", "written"), BYTES)
def test_moved_bytes(why: str, op: Any, args: tuple[Any, ...], read: int, written: int) -> None:
    priced = price(op, *args)
    assert (priced.state, priced.family) == ("zero", "movement")
    assert priced.cost == Cost(bytes_read=read, bytes_written=written), why


def test_a_cast_writes_its_own_width() -> None:
    moved = price(aten._to_copy.default, X, dtype=torch.float64).cost
    assert moved == Cost(bytes_read=24, bytes_written=48)


def test_all_movement_is_declared_zero() -> None:
    assert {rule.state for rule in rules} == {"zero"}


@pytest.mark.parametrize("rule", list(rules), ids=lambda rule: str(rule.overload))
def test_a_declared_zero_costs_nothing_whatever_it_is_called_with(rule: Any) -> None:
    if rule.nbytes is None:
        call = call_of(rule.overload, (), {}, ())
        assert default_registry().price(call).cost == Cost()
    assert default_registry().rule(rule.overload) is rule


def views() -> list[Any]:
    """All overloads of aten that give views by their schemas and are not composite."""
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, operator = name.partition("::")
        operator, _, overload = operator.partition(".")
        if namespace != "aten" or operator.startswith("_test"):
            continue
        op = getattr(getattr(aten, operator), overload or "default")
        composite = torch._C.DispatchKey.CompositeImplicitAutograd
        if is_view(op._schema) and not op.has_kernel_for_dispatch_key(composite):
            found.append(op)
    return found


@pytest.mark.parametrize("op", views(), ids=str)
def test_every_view_is_declared(op: Any) -> None:
    rule = default_registry().rule(op)
    assert rule is not None
    assert rule.state == "zero"
