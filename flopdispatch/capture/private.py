"""The private names of torch that capture stands on, each with a fallback.

A torch that lacks one loses that one's precision, nothing else: without sequence numbers,
backward operators belong to the block instead of to a module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _nothing() -> None:
    return None


def _never() -> int:
    return -1


# The sequence number that the next autograd node made in this thread will get.
next_sequence_number: Callable[[], int] = getattr(
    getattr(torch._C, "_autograd", None), "_get_sequence_nr", _never
)

# The autograd node being evaluated in this thread, None outside of a backward.
current_node: Callable[[], Any] = getattr(torch._C, "_current_autograd_node", _nothing)

# The number of the backward running in this thread, -1 outside of one.
current_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", _never)


def sequence_number(node: Any) -> int:
    """The number that a node got when the forward made it; huge for AccumulateGrad."""
    number = getattr(node, "_sequence_nr", _never)()
    return int(number)


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_BACKENDS = [
    getattr(torch._C.DispatchKey, name)
    for name in ("CPU", "CUDA", "Meta", "MPS", "XPU", "NestedTensorCPU", "NestedTensorCUDA",
                 "SparseCPU", "SparseCUDA", "SparseCsrCPU", "SparseCsrCUDA", "MkldnnCPU",
                 "QuantizedCPU", "QuantizedCUDA")
    if hasattr(torch._C.DispatchKey, name)
]  # fmt: skip


def is_composite(overload: Any) -> bool:
    """Whether a kernel in terms of other operators stands behind this overload."""
    return bool(overload.has_kernel_for_dispatch_key(_COMPOSITE))


def has_own_kernel(overload: Any, tensors: list[torch.Tensor]) -> bool:
    """Whether the tensors' backend has its own kernel for a composite operator."""
    keys = [torch._C._dispatch_keys(tensor) for tensor in tensors]
    return any(
        overload.has_kernel_for_dispatch_key(backend)
        for backend in _BACKENDS
        if any(key.has(backend) for key in keys)
    )


def run_composite(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the composite kernel: the path that eager takes where no mode is active."""
    return overload._op_dk(_COMPOSITE, *args, **kwargs)
