"""One optimizer step as a loop over Scalars: each parameter's element on its own.

What is computed once per tensor (bias corrections, step size) is plain arithmetic on floats
and is not tallied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.oracles import Scalar, Tally, tensor_of

State = list[torch.Tensor]


@dataclass(frozen=True)
class Options:
    """Hyperparameters; each optimizer reads those that it has."""

    lr: float = 0.1
    weight_decay: float = 0.0
    maximize: bool = False
    grad_scale: float | None = None
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    first: bool = False
    beta1: float = 0.8
    beta2: float = 0.95
    eps: float = 1e-3
    amsgrad: bool = False
    lr_decay: float = 0.0
    step: int = 1


def step(tally: Tally, rule: str, options: Options, state: State) -> State:
    """The state (parameter, gradient, buffers) of one tensor after a step of `rule`."""
    columns = [tally.scalars(tensor) for tensor in state]
    rows = {at: STEPS[rule](options, *(c[at] for c in columns)) for at in columns[0]}
    shape = tuple(state[0].shape)
    return [tensor_of({at: row[i] for at, row in rows.items()}, shape) for i in range(len(state))]


def sgd(o: Options, p: Scalar, g: Scalar, *buffers: Scalar) -> list[Scalar]:
    g = unscaled = g if o.grad_scale is None else g / o.grad_scale
    if o.maximize:
        g = -g
    if o.weight_decay != 0:
        g = g + p * o.weight_decay
    if o.momentum == 0:
        return [p - g * o.lr, unscaled]
    (buffer,) = buffers
    if o.first:
        buffer = g
    elif o.dampening == 0:
        buffer = buffer * o.momentum + g
    else:
        buffer = buffer * o.momentum + g * (1 - o.dampening)
    g = g + buffer * o.momentum if o.nesterov else buffer
    return [p - g * o.lr, unscaled, buffer]


def adam(o: Options, p: Scalar, g: Scalar, *state: Scalar) -> list[Scalar]:
    return _adam(o, p, g, *state, decoupled=False)


def adamw(o: Options, p: Scalar, g: Scalar, *state: Scalar) -> list[Scalar]:
    return _adam(o, p, g, *state, decoupled=True)


def _adam(
    o: Options, p: Scalar, g: Scalar, m: Scalar, v: Scalar, *largest: Scalar, decoupled: bool
) -> list[Scalar]:
    correction1, correction2 = 1 - o.beta1**o.step, 1 - o.beta2**o.step
    shrink, step_size = 1 - o.lr * o.weight_decay, o.lr / correction1
    g = unscaled = g if o.grad_scale is None else g / o.grad_scale
    if o.maximize:
        g = -g
    if o.weight_decay != 0:
        if decoupled:
            p = p * shrink
        else:
            g = g + p * o.weight_decay
    m = m + (g - m) * (1 - o.beta1)
    v = v * o.beta2 + g * g * (1 - o.beta2)
    top = v
    if o.amsgrad:
        top = v.at_least(largest[0].value)
    denominator = top.apply("sqrt") / math.sqrt(correction2) + o.eps
    p = p - m * step_size / denominator
    return [p, unscaled, m, v, *([top] if o.amsgrad else [])]


def adagrad(o: Options, p: Scalar, g: Scalar, total: Scalar) -> list[Scalar]:
    rate = o.lr / (1 + (o.step - 1) * o.lr_decay)
    g = unscaled = g if o.grad_scale is None else g / o.grad_scale
    if o.maximize:
        g = -g
    if o.weight_decay != 0:
        g = g + p * o.weight_decay
    total = total + g * g
    return [p - g * rate / (total.apply("sqrt") + o.eps), unscaled, total]


STEPS: dict[str, Callable[..., list[Scalar]]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "adagrad": adagrad,
}
