"""Communication between processes, and products that are fused with it.

Declared zeros, those that reduce too: each rank passes its tensors to a library, and which of the
k − 1 additions an element takes are done on this rank, by another one or in the network's switch
depends on the library's algorithm and the group's size, which no shape tells. Bytes are those of
this rank's own tensors: what it hands over is read, what it gets is written. Of an operator with
a root each rank is taken for it.

Most operators are registered by libraries that are loaded later or not at all: all go by name.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from flopdispatch.cost import Cost
from flopdispatch.formulas.bytes_moved import nothing
from flopdispatch.formulas.matmul_scaled import rescaled
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("communication")

Many = tuple[TensorSpec, ...]


def named(namespace: str, operators: str) -> list[str]:
    """The names of the default overloads of these operators."""
    return [f"{namespace}::{name}.default" for name in operators.split()]


def moving(read: str, written: str) -> Callable[..., tuple[int, int]]:
    """Bytes of a call that reads and writes the arguments of these names."""
    names = dict.fromkeys([*read.split(), *written.split()])

    def nbytes(**given: Any) -> tuple[int, int]:
        return (
            size(*[given[name] for name in read.split()]),
            size(*[given[name] for name in written.split()]),
        )

    parameters = [Parameter(name, Parameter.KEYWORD_ONLY) for name in names]
    nbytes.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return nbytes


# Namespace, operators, the arguments read and those written.
MOVES = (
    ("c10d", "allgather_ alltoall_ gather_ reduce_scatter_ scatter_",
     "input_tensors", "output_tensors"),
    ("c10d", "_allgather_base_ _reduce_scatter_base_ gather_into_tensor_",
     "input_tensor", "output_tensor"),
    ("c10d", "allgather_coalesced_", "input_list", "output_lists"),
    ("c10d", "allgather_into_tensor_coalesced_ reduce_scatter_tensor_coalesced_",
     "inputs", "outputs"),
    ("c10d", "alltoall_base_", "input", "output"),
    ("c10d", "allreduce_ allreduce_coalesced_ reduce_ broadcast_", "tensors", "tensors"),
    ("c10d", "send", "tensors", ""),
    ("c10d", "recv_ recv_any_source_", "", "tensors"),
    ("c10d", "check_for_nan", "tensor", ""),
    ("_c10d_functional", "isend", "tensor", ""),
    ("_c10d_functional", "irecv", "", "tensor"),
    ("symm_mem", "multimem_all_gather_out multimem_one_shot_all_reduce_out "
     "multimem_one_shot_reduce_out one_shot_all_reduce_out nccl_all_to_all_nd "
     "nccl_reduce_scatter_offset nvshmem_all_to_all", "input", "out"),
    ("symm_mem", "all_to_all_vdev all_to_all_vdev_2d",
     "input in_splits", "out out_splits_offsets"),
    ("symm_mem", "all_to_all_vdev_2d_offset",
     "input in_splits_offsets", "out out_splits_offsets"),
    ("symm_mem", "_low_contention_all_gather_ce_multicast_out", "tensor", "out"),
    ("symm_mem", "reduce_scatter_out two_shot_all_reduce_out", "input", "output"),
    ("symm_mem", "one_shot_all_reduce_copy", "local_input", "symm_buffer result"),
    ("symm_mem", "one_shot_all_reduce_copy_out", "local_input", "symm_buffer out"),
    ("symm_mem", "memcpy_to_multicast_", "src", "src"),
    ("symm_mem", "tile_reduce", "in_tile", "out_tile"),
    ("symm_mem", "multi_root_tile_reduce", "in_tiles", "out_tile"),
    ("symm_mem", "nccl_put nccl_put_with_signal nvshmem_put nvshmem_put_with_signal",
     "tensor", ""),
    ("symm_mem", "nccl_put_signal", "src", ""),
    ("symm_mem", "nccl_get nvshmem_get", "", "tensor"),
    ("symm_mem", "nccl_get_out nvshmem_get_out", "", "dst"),
    ("fsdp", "all_gather_copy_in", "all_gather_inputs", "all_gather_inputs"),
    ("fsdp", "copy_", "data", "tensor"),
    ("bucketing", "_pre_bucket_all_gather", "ag_ins", "ag_ins"),
)  # fmt: skip

for _namespace, _operators, _read, _written in MOVES:
    rules.zero(*named(_namespace, _operators), nbytes=moving(_read, _written))


def batch_bytes(op_list: tuple[str, ...], tensors: Many) -> tuple[int, int]:
    """Tensors that are sent are read, those that are received written."""
    received = [tensor for op, tensor in zip(op_list, tensors) if op == "irecv"]
    return size(tensors) - size(received), size(received)


rules.zero(*named("_c10d_functional", "batch_p2p_ops"), nbytes=batch_bytes)

# Their schemas say what is read and written.
FUNCTIONAL = """
    all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out
    all_reduce all_reduce_ all_reduce_coalesced all_reduce_coalesced_ all_to_all_single broadcast
    broadcast_ reduce_scatter_tensor reduce_scatter_tensor_coalesced reduce_scatter_tensor_out
"""
rules.zero(*named("_c10d_functional", FUNCTIONAL))
rules.zero(
    *named(
        "_c10d_functional_autograd",
        "all_gather_into_tensor all_to_all_single reduce_scatter_tensor",
    ),
    *named("_dtensor", "shard_dim_alltoall"),
    *named("cplib", "flex_cp_allgather flex_cp_allgather_backward"),
    *named(
        "symm_mem",
        "_low_contention_all_gather _low_contention_all_gather_ce_multicast "
        "_low_contention_reduce_scatter multimem_all_reduce_ multimem_one_shot_all_reduce "
        "one_shot_all_reduce two_shot_all_reduce_ nvshmem_broadcast",
    ),
    *named("fsdp", "chunk_cat chunk_cat_mixed_dtype split_with_sizes_copy"),
    *named("bucketing", "_pre_bucket_reduce_scatter"),
    *named("ao", "offload reload"),
)

# Waiting, signals, questions about groups and meshes.
rules.zero(
    *named("c10d", "barrier monitored_barrier_"),
    *named("_c10d_functional", "wait_tensor wait_tensors _wrap_tensor_autograd"),
    *named("_dtensor", "mesh_get_process_group"),
    *named("device_mesh", "_get_submesh _get_flattened_submesh _runtime_compute_coordinate_on_dim"),
    *named("fsdp", "record_grad_output_stream"),
    *named("pippy", "_pipe_split"),
    *named("ao", "wait_tensor"),
    *named(
        "symm_mem",
        "_barrier _rendezvous get_remote_tensors nccl_wait_for_signal nccl_wait_signal "
        "nvshmem_wait_for_signal stream_write_value32_",
    ),
    nbytes=nothing,
)


def memset_bytes(count: int) -> tuple[int, int]:
    """`count` numbers of 32 bits are written."""
    return 0, 4 * count


rules.zero(*named("symm_mem", "memset32_"), nbytes=memset_bytes)


# Products fused with communication


@rules.formula(*named("symm_mem", "_async_input_mm"), family="matmul")
def async_input_mm(a: TensorSpec, result: TensorSpec) -> Cost:
    """Product of a matrix whose rows arrive meanwhile.

    Shapes: a (m, k), result (m, n).
    Counts: m·n·k MACs.
    """
    return Cost(macs=result.numel * a.shape[-1])


@rules.formula(*named("symm_mem", "fused_all_gather_matmul"), family="matmul")
def all_gather_matmul(Bs: Many, result: tuple[Any, Many]) -> Cost:  # noqa: N803  the schema's
    """Products of the matrix that all ranks' parts make up with each of several.

    Shapes: Bs (k, n) each, result[1] (..., m, n) each, m being that of all ranks.
    Counts: m·n·k MACs each.
    """
    _, products = result
    return Cost(macs=sum(out.numel * b.shape[0] for b, out in zip(Bs, products)))


@rules.formula(*named("symm_mem", "fused_all_gather_scaled_matmul"), family="matmul")
def all_gather_scaled_matmul(
    Bs: Many,  # noqa: N803  the schema's
    biases: tuple[TensorSpec | None, ...],
    result_scales: tuple[TensorSpec | None, ...],
    result: tuple[Any, Many],
) -> Cost:
    """As `all_gather_matmul`, each product times its scales, as `_scaled_mm`'s."""
    cost = all_gather_matmul(Bs, result)
    for out, bias, scale in zip(result[1], biases, result_scales):
        cost += rescaled(out, 2 if scale is None else 3, bias)
    return cost


@rules.formula(*named("symm_mem", "fused_matmul_reduce_scatter"), family="matmul")
def matmul_reduce_scatter(A: TensorSpec, B: TensorSpec) -> Cost:  # noqa: N803  the schema's
    """This rank's product, of which all ranks' are added and dealt out.

    Shapes: A (..., k), B (k, n).
    Counts: A's elements times n MACs; the sum over ranks is communication.
    """
    return Cost(macs=A.numel * B.shape[-1])


@rules.formula(*named("symm_mem", "fused_scaled_matmul_reduce_scatter"), family="matmul")
def scaled_matmul_reduce_scatter(
    A: TensorSpec,  # noqa: N803  the schema's
    B: TensorSpec,  # noqa: N803
    bias: TensorSpec | None,
    result_scale: TensorSpec | None,
) -> Cost:
    """As `matmul_reduce_scatter`, times its scales and with a bias, as `_scaled_mm`.

    Counts: a mul per element of the product for each scale, an add for the bias.
    """
    product = TensorSpec((*A.shape[:-1], B.shape[-1]))
    scaled = rescaled(product, 2 if result_scale is None else 3, bias)
    return matmul_reduce_scatter(A, B) + scaled
