"""Small modules whose costs are easy to work out, for tests of the counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from flopdispatch import FlopCounter, Profile


def counted(program: Any, *args: Any, **kwargs: Any) -> Profile:
    """The profile of one run of a program."""
    with FlopCounter(display=False) as counter:
        program(*args, **kwargs)
    return counter.profile


def macs_by_scope(profile: Profile, own: bool = True) -> dict[str, int]:
    """MACs of the scopes that have some."""
    costs = profile.by_scope(own=own)
    return {scope: cost.macs for scope, cost in costs.items() if cost.macs}


def macs_by_row(profile: Profile) -> dict[tuple[str, str], int]:
    """MACs of the scopes and phases that have some."""
    found: dict[tuple[str, str], int] = {}
    for row in profile.rows:
        macs = profile.prices[row.call].cost.macs * row.times
        if macs:
            found[row.scope, row.phase] = found.get((row.scope, row.phase), 0) + macs
    return found


def state_of_torch() -> tuple[Any, ...]:
    """All that a counter could leave behind."""
    module = nn.modules.module
    return (
        torch._C._len_torch_dispatch_stack(),
        torch._C._len_torch_function_stack(),
        dict(module._global_forward_pre_hooks),
        dict(module._global_forward_hooks),
        dict(module._global_forward_hooks_always_called),
        dict(module._global_backward_hooks),
        dict(module._global_backward_pre_hooks),
        dict(_global_optimizer_pre_hooks),
        dict(_global_optimizer_post_hooks),
        nn.Module.__call__,
        nn.Module._call_impl,
        nn.Module.__dict__["_compiled_call_impl"],
        torch.optim.Optimizer.step,
        torch.Tensor.backward,
        torch.autograd.backward,
        torch.nn.functional.linear,
        torch.is_grad_enabled(),
    )


class Attention(nn.Module):
    """q, k and v read the same input: a tracker that hooks tensors mixes them up."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.q(x) * self.k(x) + self.v(x)
        return out


class CrossAttention(nn.Module):
    """Keys and values come from a memory that needs no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        out: Tensor = self.q(x) * self.k(memory)
        return out


class Keywords(nn.Module):
    """Calls its child with keyword arguments only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, *, hidden: Tensor) -> Tensor:
        out: Tensor = self.linear(input=hidden)
        return out


@dataclass
class Output:
    """What no pytree knows."""

    hidden: Tensor
    extra: str = "text"


class Dataclass(nn.Module):
    """Hands its result over in a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Output:
        return Output(self.linear(x))


class Lora(nn.Module):
    """A low-rank update around a linear layer: children read the parent's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8, bias=False)
        self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.up(self.down(x))
        return out


class Recursive(nn.Module):
    """Calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor, depth: int = 3) -> Tensor:
        y = self.linear(x)
        out: Tensor = y if depth == 1 else self(y, depth - 1)
        return out


class Parents(nn.Module):
    """Two parents that share one child."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(8, 8, bias=False)
        self.left, self.right = nn.Sequential(shared), nn.Sequential(shared, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.right(self.left(x))
        return out


class Square(torch.autograd.Function):
    """x·x by a product, with a backward that multiplies matrices of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return grads[0] @ x.t() + x.t() @ grads[0]


class CustomFunction(nn.Module):
    """Runs a custom autograd function between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squared: Tensor = Square.apply(self.first(x))
        out: Tensor = self.last(squared)
        return out


class Failing(nn.Module):
    """A child's forward raises the error that it was given, after computing something."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        if self.error is not None:
            raise self.error
        out: Tensor = y
        return out


class ConvNet(nn.Module):
    """Convolution, batch norm, dropout, pooling and a head: state and randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.conv(x)))
        out: Tensor = self.head(self.drop(hidden.mean((2, 3))))
        return out
