"""A training step after the forward, as `count` runs it: the backward and the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch

from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import differentiable

# Of parameters: the class of an optimizer, or a function that makes one.
MakesOptimizer = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def run_backward(output: Any) -> None:
    """The backward from a model's output, as a training step would run it.

    Raises: ArgumentError if nothing in the output requires gradients.
    """
    roots = differentiable(output)
    if not roots:
        raise ArgumentError(
            "backward=True: nothing in the model's output requires gradients; does any of "
            "its parameters have requires_grad=True?"
        )
    torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])


def made_optimizer(
    make: MakesOptimizer, parameters: Iterable[torch.Tensor]
) -> torch.optim.Optimizer:
    """The optimizer of the parameters that are trained.

    Raises: ArgumentError if `make` gives none, or nothing is trained.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ArgumentError(
            "optimizer= takes a module some of whose parameters have requires_grad=True"
        )
    optimizer = make(trained)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            "optimizer= takes the class of an optimizer or a function of parameters that returns "
            f"one, such as functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9); got {make!r}"
        )
    return optimizer


def grad_mode(backward: bool) -> AbstractContextManager[Any]:
    """The caller's grad mode, or one in which a backward can run."""
    if not backward:
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack
