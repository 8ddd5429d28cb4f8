"""Every operator overload that torch's dispatcher knows in a fresh process, and its state.

`python -m tests.registered` prints a JSON object: {name: [state, tags]}.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch._higher_order_ops
import torchvision  # noqa: F401 (registers its operators)
from torch._ops import _higher_order_ops

from flopdispatch import default_registry


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


def main() -> None:
    """Print them."""
    rules = default_registry()
    states = {
        name: [rules.explain(overload).state, [tag.name for tag in getattr(overload, "tags", [])]]
        for name, overload in overloads().items()
    }
    print(json.dumps(states))


if __name__ == "__main__":
    main()
