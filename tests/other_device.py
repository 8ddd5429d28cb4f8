"""A device whose backward autograd runs in a thread of its own, as it does for a GPU.

Its tensors have sizes and no data: every kernel is that of meta. Importing this registers it in
the process, for good: run it in one of its own, as a module with the name of a program below. It
prints MACs by scope and phase on this device and on the CPU, what was assumed, and how many
threads computed.
"""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter, scope
from tests.programs import macs_by_row

NAME = "other"
threads: set[int] = set()  # in which its kernels ran


class Backend(_DummyBackendModule):
    """What checkpointing asks a device for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]


def register() -> torch.library.Library:
    """Make the device known; it is as long as the library is kept."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(_kernel, "PrivateUse1")
    return library


def put(tensor: Tensor) -> Tensor:
    """A tensor of this size on the device."""
    made: Tensor = torch._C._acc.create_empty_tensor(tuple(tensor.shape), tensor.dtype)
    return made


def _kernel(operator: Any, *args: Any, **kwargs: Any) -> Any:
    threads.add(threading.get_ident())
    plain_args, plain_kwargs = tree_map(_on_meta, (args, kwargs))
    out = operator(*plain_args, **plain_kwargs)
    for given, argument in zip(args, operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return given
    return tree_map(lambda value: put(value) if isinstance(value, Tensor) else value, out)


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type == NAME:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("meta")
    return value


# Programs, on whatever device `move` moves to

Move = Callable[[Tensor], Tensor]


class Linear(nn.Module):
    """A product with a weight."""

    def __init__(self, move: Move) -> None:
        super().__init__()
        self.weight = nn.Parameter(move(torch.randn(8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Block(nn.Module):
    """Two layers, and a product in a region of its own."""

    def __init__(self, move: Move) -> None:
        super().__init__()
        self.first, self.last = Linear(move), Linear(move)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        with scope("square"):
            x = x @ x
        out: Tensor = self.last(x)
        return out


class Net(nn.Module):
    """Two blocks, each run by `run`."""

    def __init__(self, move: Move, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = Block(move), Block(move)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.two, self.run(self.one, x))


def again(reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
    """Runs by way of a checkpoint."""

    def run(block: Any, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(block, x, use_reentrant=reentrant)
        return out

    return run


def in_another(reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
    """Runs by way of a checkpoint in a checkpoint."""

    def run(block: Any, x: Tensor) -> Tensor:
        return again(reentrant)(lambda x: again(reentrant)(block, x), x)

    return run


def products(reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
    """Runs products of the block's weights, in no module of theirs."""

    def run(block: Any, x: Tensor) -> Tensor:
        return again(reentrant)(lambda x: x @ block.first.weight @ block.last.weight, x)

    return run


def trained(run: Callable[[Any, Tensor], Tensor], times: int = 2, **options: Any) -> Any:
    """Some iterations of forward and backward."""

    def program(move: Move) -> None:
        model = Net(move, run)
        for _ in range(times):
            model(move(torch.randn(8, 8)).requires_grad_()).sum().backward(**options)

    return program


def first_of_all(move: Move) -> None:
    """The first that its thread ever does for the block is to run a module again."""
    model = Net(move, again(reentrant=False))
    model(move(torch.randn(8, 8)).requires_grad_()).backward(move(torch.ones(8, 8)))


def steps_in_backward(move: Move) -> None:
    """Each parameter is updated as soon as it has its gradient."""
    model = Net(move, lambda block, x: block(x))
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=0.1, foreach=False)

        def step(_: Tensor, optimizer: Any = optimizer) -> None:
            optimizer.step()
            torch.ones(8, 8) @ torch.ones(8, 8)  # to be seen that this is no step any more

        parameter.register_post_accumulate_grad_hook(step)
    model(move(torch.randn(8, 8)).requires_grad_()).sum().backward()


def twice(move: Move) -> None:
    """A gradient of a gradient."""
    model = Net(move, lambda block, x: block(x))
    data = move(torch.randn(8, 8)).requires_grad_()
    (gradient,) = torch.autograd.grad(model(data).sum(), data, create_graph=True)
    gradient.sum().backward()


PROGRAMS: dict[str, Any] = {
    "plain": trained(lambda block, x: block(x)),
    "reentrant": trained(again(reentrant=True)),
    "checkpoint": trained(again(reentrant=False)),
    "reentrant in reentrant": trained(in_another(reentrant=True)),
    "checkpoint in checkpoint": trained(in_another(reentrant=False)),
    "reentrant products": trained(products(reentrant=True)),
    "products": trained(products(reentrant=False)),
    "reentrant with retain_graph": trained(again(reentrant=True), retain_graph=True),
    "first of all": first_of_all,
    "steps in the backward": steps_in_backward,
    "twice": twice,
}


def report(program: Any, move: Move) -> dict[str, Any]:
    """Rows and assumptions of a program, by two counters one in the other."""
    warnings.simplefilter("ignore")
    threads.clear()
    with FlopCounter(display=False) as outer, FlopCounter(display=False) as inner:
        program(move)
    rows, others = ([[*k, v] for k, v in macs_by_row(c.profile).items()] for c in (outer, inner))
    assert sorted(rows) == sorted(others)
    calls = {m.scope: m.calls for m in inner.profile.modules}
    step = inner.profile.by_phase().get("optimizer")
    return {
        "rows": sorted(rows),
        "calls": calls,
        "assumptions": [told.text for told in inner.profile.assumptions],
        "optimizer": 0 if step is None else step.flops,
        "threads": len(threads),
    }


if __name__ == "__main__":
    library = register()
    chosen = PROGRAMS[sys.argv[1]]
    print(json.dumps({"cpu": report(chosen, lambda x: x), NAME: report(chosen, put)}))
