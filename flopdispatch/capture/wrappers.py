"""Wrappers: modules that add nothing but a way to run the module inside, and names of classes.

A report shows the model that the user wrote. `DistributedDataParallel(model)` and what
`torch.compile(model)` gives stand in no row of their own; `fully_shard` and `parametrize`
make classes of a module's class, and the user's own is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

# The attribute with the module inside, by the wrapper's class. By name: none is imported.
WRAPPERS = {
    "DistributedDataParallel": ("torch.nn.parallel.distributed", "module"),
    "DataParallel": ("torch.nn.parallel.data_parallel", "module"),
    "FullyShardedDataParallel": (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "_fsdp_wrapped_module",
    ),
    "CheckpointWrapper": (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "_checkpoint_wrapped_module",
    ),
    "OptimizedModule": ("torch._dynamo.eval_frame", "_orig_mod"),
    "AveragedModel": ("torch.optim.swa_utils", "module"),
}

# What `fully_shard` and `parametrize` put before the name of the class that they derive from.
_DERIVED = ("FSDP", "Parametrized")


def inside(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper runs, None if this isn't one."""
    kind = type(module)
    where, name = WRAPPERS.get(kind.__name__, ("", ""))
    return module._modules.get(name) if name and kind.__module__ == where else None


def unwrapped(module: nn.Module | None) -> nn.Module | None:
    """The module inside of all wrappers."""
    while module is not None and (found := inside(module)) is not None:
        module = found
    return module


def children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module's own modules by name, wrappers left out."""
    for name, child in module._modules.items():
        found = unwrapped(child) if type(child).__name__ in WRAPPERS else child
        if found is not None:
            yield name, found


def class_name(module: nn.Module) -> str:
    """The name of the class that the user knows."""
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    return _own_name(type(module))


def _own_name(kind: type) -> str:
    name = kind.__name__
    if name.startswith(_DERIVED):
        for base in kind.__mro__[1:3]:
            if name in [prefix + base.__name__ for prefix in _DERIVED]:
                return _own_name(base)
    return name
