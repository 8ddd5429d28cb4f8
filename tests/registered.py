"""Every operator overload that torch's dispatcher knows in a fresh process, and its state.

`python -m tests.registered` prints a JSON object: {name: [state, tags]}; with `--save` it saves the
names, to tell which are new in a newer torch.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch._ops import _higher_order_ops

from flopdispatch import default_registry

SAVED = Path(__file__).parent / "reference" / "overloads.txt"
SAVED_FROM = (2, 15)  # torch's version

# What registers operators when it is imported.
LIBRARIES = (
    "torch._dynamo.tensor_version_op",
    "torch._dynamo._trace_wrapped_higher_order_op",
    "torch._functorch._activation_offloading.offload_ops",
    "torch._higher_order_ops",
    "torch._inductor.decomposition",
    "torch._inductor.fx_passes.bucketing",
    "torch._inductor.fx_passes.post_grad",
    "torch._inductor.inductor_prims",
    "torch.ao.quantization.fx._decomposed",
    "torch.distributed._ops.device_mesh",
    "torch.distributed._symmetric_memory",
    "torch.distributed.fsdp._fully_shard._fsdp_collectives",
    "torch.distributed.pipelining._IR",
    "torch.distributed.tensor.experimental._context_parallel._cp_custom_ops",
    "torch.nn.attention.flex_attention",
    "torch.nn.attention.varlen",
    "torch.nn.modules.linear_cross_entropy",
    "torch.onnx.ops",
    "torchvision",
    "torchvision.io",
)


def import_libraries() -> None:
    """Import those that this torch has."""
    for library in LIBRARIES:
        with suppress(ImportError):
            import_module(library)


def overloads() -> dict[str, Any]:
    """All overloads by name, higher-order operators among them."""
    found: dict[str, Any] = {}
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        operator, _, overload = rest.partition(".")
        packet = getattr(getattr(torch.ops, namespace), operator)
        found[name] = getattr(packet, overload or "default")
    found |= {f"higher_order::{name}": op for name, op in _higher_order_ops.items()}
    return found


def saved() -> list[str]:
    """The names that torch had when they were saved."""
    return SAVED.read_text().split()


def main() -> None:
    """Print or save them."""
    import_libraries()
    if "--save" in sys.argv:
        SAVED.write_text("\n".join(sorted(overloads())) + "\n")
        return
    rules = default_registry()
    states = {
        name: [rules.explain(overload).state, [tag.name for tag in getattr(overload, "tags", [])]]
        for name, overload in overloads().items()
    }
    print(json.dumps(states))


if __name__ == "__main__":
    main()
