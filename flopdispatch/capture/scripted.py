"""TorchScript: what a scripted module computes where no dispatch mode sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from flopdispatch.capture.private import may_fuse

# Kernels that `optimize_for_inference` puts into a graph; the interpreter runs them itself.
_BUILT_IN = ("prim::mkldnn", "prim::MKLDNN")


def unseen(module: nn.Module) -> Iterator[str]:
    """What to say of a module whose operators aren't all seen; nothing of one in Python."""
    if not isinstance(module, torch.jit.ScriptModule):
        return
    graph = getattr(module, "graph", None)  # a module without a forward has none
    built_in = Counter(kind for kind in _kinds(graph) if kind.startswith(_BUILT_IN))
    if built_in:
        names = ", ".join(f"{kind} x{times}" for kind, times in built_in.items())
        yield (
            f"the scripted {module.original_name} has operators that TorchScript runs itself, "
            f"which are not seen and not counted: {names}"
        )
    devices = {tensor.device.type for tensor in [*module.parameters(), *module.buffers()]}
    for device in sorted(devices):
        if may_fuse(device):
            yield (
                f"TorchScript may fuse operators of the scripted {module.original_name} on "
                f"{device} after its first calls; those that it fuses are not seen and not counted"
            )


def _kinds(block: Any) -> Iterator[str]:
    """The kinds of all nodes of a graph, and of the graphs inside of it."""
    for node in () if block is None else block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
        if node.hasAttribute("Subgraph"):
            yield from _kinds(node.g("Subgraph"))
