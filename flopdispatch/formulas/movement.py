"""Declared zeros: operators that move, reserve or describe elements but compute none.

Each table is a kind, by the bytes that it moves.
"""

from __future__ import annotations

import math

import torch

from flopdispatch.formulas.bytes_moved import named, nothing, takes, writes
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

aten = torch.ops.aten
rules = Registry("movement")


# Views: nothing moves, by their schemas. Their `_copy` variants read and write.
VIEWS = """
    view.default view.dtype view_as_real.default view_as_complex.default _reshape_alias.default
    t.default transpose.int permute.default expand.default _sparse_broadcast_to.default
    slice.Tensor slice_inverse.default select.int split.Tensor split_with_sizes.default
    unbind.int squeeze.default squeeze.dim squeeze.dims unsqueeze.default as_strided.default
    alias.default detach.default diagonal.default unfold.default lift_fresh.default
    _conj.default _neg_view.default _fw_primal.default _make_dual.default
    indices.default _indices.default values.default _values.default crow_indices.default
    col_indices.default ccol_indices.default row_indices.default _nested_get_values.default
    _nested_view_from_buffer.default _nested_view_from_jagged.default
"""
rules.zero(*overloads(*VIEWS.split()))

# Changes of metadata in place, views without an alias in their schema, and questions.
METADATA = """
    _unsafe_view.default unsafe_split.Tensor unsafe_split_with_sizes.default
    _sparse_coo_tensor_with_dims_and_tensors.default
    lift.default detach_.default t_.default transpose_.default
    squeeze_.default squeeze_.dim squeeze_.dims unsqueeze_.default as_strided_.default
    resize_.default resize_as_.default _resize_output_.default resize.default resize_as.default
    set_.default set_.source_Storage set_.source_Storage_storage_offset set_.source_Tensor
    set_.source_Tensor_storage_offset set.default set.source_Storage
    set.source_Storage_storage_offset set.source_Tensor _resize_output.default
    resize_as_sparse.default sparse_resize.default shallow_copy_data_.default _coalesced.default
    resize_as_sparse_.default
    sparse_resize_.default
    record_stream.default is_same_size.default is_set_to.default is_pinned.default
    _has_same_storage_numel.default _has_compatible_shallow_copy_type.default
    _assert_tensor_metadata.default _assert_scalar.default _functional_assert_scalar.default
    sym_constrain_range.default sym_constrain_range_for_size.default
    _functional_sym_constrain_range.default _functional_sym_constrain_range_for_size.default
    profiler::_record_function_enter.default profiler::_record_function_enter_new.default
    profiler::_record_function_exit.default profiler::_record_function_exit._RecordFunction
    _make_dep_token.default _print.default
    _use_cudnn_ctc_loss.default _use_cudnn_ctc_loss.Tensor
    _use_miopen_ctc_loss.default _use_miopen_ctc_loss.Tensor
    size.default size.int stride.default stride.int storage_offset.default numel.default
    dim.default sym_size.default sym_size.int sym_stride.default sym_stride.int
    sym_storage_offset.default sym_numel.default is_contiguous.default
    is_contiguous.memory_format sym_is_contiguous.default is_strides_like_format.default
    is_non_overlapping_and_dense.default prim::device.default prim::layout.default
    dense_dim.default sparse_dim.default _dimI.default _dimV.default _nnz.default
    is_coalesced.default _nested_tensor_size.default _nested_tensor_strides.default
    _nested_tensor_storage_offsets.default _nested_get_offsets.default
    _nested_get_lengths.default _nested_get_ragged_idx.default _nested_get_min_seqlen.default
    _nested_get_max_seqlen.default _nested_get_jagged_dummy.default
    _linalg_check_errors.default _validate_compressed_sparse_indices.default
    q_per_channel_scales.default q_per_channel_zero_points.default
    qscheme.default q_scale.default q_zero_point.default q_per_channel_axis.default
"""
rules.zero(*overloads(*METADATA.split()), nbytes=nothing)

# Allocation: memory is reserved, not touched.
ALLOCATION = """
    empty.memory_format empty.names empty.names_out
    empty_like.default empty_strided.default empty_permuted.default
    empty_quantized.default _empty_affine_quantized.default
    _empty_per_channel_affine_quantized.default new_empty.default new_empty_strided.default
    _efficientzerotensor.default _sparse_coo_tensor_with_dims.default
    _sparse_compressed_tensor_with_dims.default empty.out empty_like.out empty_strided.out
    empty_permuted.out empty_quantized.out new_empty.out new_empty_strided.out
    _efficientzerotensor.out
"""
rules.zero(*overloads(*ALLOCATION.split()), nbytes=nothing)

# Creation and fills: the result is written. Evenly spaced ranges count as creation too.
CREATION = """
    zeros.names ones.names full.names zeros.names_out ones.names_out full.names_out
    zeros.default zeros_like.default new_zeros.default ones.default ones_like.default
    new_ones.default full.default full_like.default new_full.default scalar_tensor.default
    zeros.out zeros_like.out new_zeros.out ones.out ones_like.out new_ones.out full.out
    full_like.out new_full.out scalar_tensor.out _new_zeros_with_same_feature_meta.default
    zero.default fill.Scalar arange.default arange.start arange.start_step arange.out
    arange.start_out range.default range.step range.out range.out_ linspace.default linspace.out
    eye.default eye.m eye.out eye.m_out tril_indices.default triu_indices.default
    tril_indices.out triu_indices.out fft_fftfreq.default fft_rfftfreq.default
    fft_fftfreq.out fft_rfftfreq.out from_file.default from_file.out
"""
rules.zero(*overloads(*CREATION.split()), nbytes=writes)


def ends_bytes(start: object, end: object, result: TensorSpec) -> tuple[int, int]:
    """The ends that are tensors are read, the result written."""
    return size(start, end), size(result)


RANGES = """
    linspace.Tensor_Tensor linspace.Tensor_Scalar linspace.Scalar_Tensor
    linspace.Tensor_Tensor_out linspace.Tensor_Scalar_out linspace.Scalar_Tensor_out
"""
rules.zero(*overloads(*RANGES.split()), nbytes=ends_bytes)


def fill_bytes(value: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """A value is read, the target written."""
    return size(value), size(result)


rules.zero(aten.fill.Tensor, nbytes=fill_bytes)


# Copies, casts and rearrangements: the operands are read, the result written.
COPIES = """
    _to_copy.default _to_copy.out clone.default _lazy_clone.default _pin_memory.default
    _reshape_copy.default _copy_from.default _copy_from_and_resize.default cat.default
    stack.default _stack.default _chunk_cat.default
    block_diag.default reflection_pad1d.default
    reflection_pad2d.default reflection_pad3d.default replication_pad1d.default
    replication_pad2d.default replication_pad3d.default repeat.default
    repeat_interleave.Tensor roll.default rot90.default flip.default tril.default triu.default
    diag_embed.default channel_shuffle.default native_channel_shuffle.default
    pixel_shuffle.default pixel_unshuffle.default unsafe_split.Tensor_out
    unsafe_split_with_sizes.out _unsafe_view.out nonzero.default nonzero_static.default
    masked_select.default lu_unpack.default _local_scalar_dense.default
    _assert_async.default _assert_async.msg _functional_assert_async.msg
    _foreach_clone.default to_mkldnn.default _to_dense.default _to_sparse.default
    _to_sparse.sparse_dim _to_sparse_csr.default _to_sparse_csc.default _to_sparse_bsr.default
    _to_sparse_bsc.default sparse_coo_tensor.size
    _convert_indices_from_coo_to_csr.default _convert_indices_from_csr_to_coo.default
    sparse_mask.default _sparse_mask_projection.default to_padded_tensor.default
    _nested_tensor_from_tensor_list.default _nested_tensor_from_mask.default
    _nested_from_padded.default _nested_from_padded_tensor.default
    _nested_select_backward.default _padded_dense_to_jagged_forward.default
    _jagged_to_padded_dense_forward.default _pack_padded_sequence.default
    _mkldnn_reshape.default _mkldnn_transpose.default mkldnn_reorder_conv2d_weight.default
    mkldnn_reorder_conv3d_weight.default _cudnn_rnn_flatten_weight.default int_repr.default
"""
rules.zero(*overloads(*COPIES.split()))


def copy_bytes(src: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The source is read, the target only written."""
    return size(src), size(result)


rules.zero(aten.copy.default, aten.copy_.default, nbytes=copy_bytes)


# Copies of a part: only that is read.
PARTS = """
    slice_copy.Tensor select_copy.int diagonal_copy.default as_strided_copy.default
    narrow_copy.default
"""
rules.zero(*overloads(*PARTS.split()), nbytes=takes)


def padded_bytes(self: TensorSpec, pad: tuple[int, ...], result: TensorSpec) -> tuple[int, int]:
    """What stays is read: negative padding cuts it off. `pad` begins with the last dimension."""
    cut = [min(before, 0) + min(after, 0) for before, after in zip(pad[::2], pad[1::2])]
    kept = math.prod(n + less for n, less in zip(reversed(self.shape), cut))
    return named(self, kept * math.prod(self.shape[: self.ndim - len(cut)])), size(result)


rules.zero(aten.constant_pad_nd.default, nbytes=padded_bytes)


def window_bytes(self: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """What windows hold is read, but nothing twice where they overlap."""
    return min(size(self), size(result)), size(result)


rules.zero(*overloads("unfold_copy.default"), nbytes=window_bytes)


# Gathering: the indices and the elements that they name are read, none of these twice.


def index_bytes(self: TensorSpec, index: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The index and the elements that it names."""
    return size(index) + named(self, result.numel), size(result)


def indices_bytes(
    self: TensorSpec, indices: tuple[TensorSpec | None, ...], result: TensorSpec
) -> tuple[int, int]:
    """The indices and the elements that they name."""
    return size(indices) + named(self, result.numel), size(result)


def masked_index_bytes(
    self: TensorSpec,
    mask: TensorSpec,
    indices: tuple[TensorSpec | None, ...],
    result: TensorSpec,
) -> tuple[int, int]:
    """The mask, the indices and the elements that they name."""
    return size(mask, indices) + named(self, result.numel), size(result)


rules.zero(aten.gather.default, aten.index_select.default, aten.take.default, nbytes=index_bytes)
rules.zero(aten.index.Tensor, *overloads("_unsafe_index.Tensor"), nbytes=indices_bytes)
rules.zero(*overloads("_unsafe_masked_index.default"), nbytes=masked_index_bytes)
