"""Optimizers: fused kernels that update whole lists of parameters, and gradient scaling.

Every count is per element of the parameters. `_foreach_*` operators are pointwise and resolve
to the operator on one tensor; fused kernels are priced here, by the update rule that
torch.optim's single-tensor function spells out, so that plain, foreach and fused agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from flopdispatch.cost import Cost
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, COMPARISON, DIV, MUL, TRANSCENDENTAL
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("optimizer")

Tensors = Sequence[TensorSpec]
Rate = float | TensorSpec

AXPY = ADD + MUL  # x + a·y
LERP = 2 * ADD + MUL  # x + w·(y − x)
NOTHING = Cost()


def elements(parameters: Tensors) -> int:
    """Elements of all parameters."""
    return sum(parameter.numel for parameter in parameters)


def gradient(maximize: bool, grad_scale: TensorSpec | None) -> Cost:
    """The gradient as an update takes it, per element.

    Counts: unscaling by `grad_scale` is a division; `maximize` a change of sign.
    """
    unscaled = NOTHING if grad_scale is None else DIV
    return unscaled + (COMPARISON if maximize else NOTHING)


# SGD


def sgd_traffic(
    self: Tensors,
    grads: Tensors,
    momentum_buffer_list: Tensors,
    *,
    lr: Rate,
    is_first_step: bool,
    grad_scale: TensorSpec | None,
    found_inf: TensorSpec | None,
) -> tuple[int, int]:
    """Reads all but a momentum not there yet; writes parameters, momentum, unscaled gradients."""
    buffers = size(momentum_buffer_list)
    read = size(self, grads, lr, grad_scale, found_inf) + (0 if is_first_step else buffers)
    return read, size(self) + buffers + (0 if grad_scale is None else size(grads))


@rules.formula(
    *overloads("_fused_sgd_.default", "_fused_sgd_.tensor_lr"),
    nbytes=sgd_traffic,
)
@rules.formula(*overloads("_fused_sgd.default", "_fused_sgd.tensor_lr"))
def fused_sgd(
    self: Tensors,
    *,
    weight_decay: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: TensorSpec | None,
) -> Cost:
    """Stochastic gradient descent: p ← p − lr·g.

    Counts, per element: p − lr·g is 1 mul and 1 add. Weight decay: g + wd·p, as much.
    Momentum: b ← m·b + (1 − dampening)·g, 1 mul and 1 add, and 1 mul more with dampening;
    the first step copies g, which is nothing. Nesterov: g + m·b, 1 mul and 1 add.
    Ignores: what is computed once per tensor.
    Example: 10 elements with momentum, second step: 20 muls and 20 adds.
    Source: torch.optim.sgd, `_single_tensor_sgd`.
    """
    each = gradient(maximize, grad_scale) + AXPY
    if weight_decay != 0:
        each += AXPY
    if momentum != 0:
        if not is_first_step:
            each += AXPY + (MUL if dampening != 0 else NOTHING)
        if nesterov:
            each += AXPY
    return each * elements(self)


# Adam


def adam_traffic(
    *,
    self: Tensors,
    grads: Tensors,
    exp_avgs: Tensors,
    exp_avg_sqs: Tensors,
    max_exp_avg_sqs: Tensors,
    state_steps: Tensors,
    lr: Rate,
    amsgrad: bool,
    grad_scale: TensorSpec | None,
    found_inf: TensorSpec | None,
) -> tuple[int, int]:
    """Reads everything; writes parameters, moments and unscaled gradients."""
    updated = size(self, exp_avgs, exp_avg_sqs) + (size(max_exp_avg_sqs) if amsgrad else 0)
    read = updated + size(grads, state_steps, lr, grad_scale, found_inf)
    return read, updated + (0 if grad_scale is None else size(grads))


def moments(amsgrad: bool, maximize: bool, grad_scale: TensorSpec | None) -> Cost:
    """Adam's update per element, weight decay apart.

    Counts: m ← m + (1 − β₁)(g − m): 2 adds, 1 mul.
    v ← β₂·v + (1 − β₂)·g·g: 3 muls, 1 add. √v / c₂ + ε: 1 root, 1 division, 1 add.
    p ← p − α·m / d: 1 mul, 1 division, 1 add. AMSGrad: the larger v, 1 comparison.
    """
    second = ADD + 3 * MUL
    denominator = TRANSCENDENTAL + DIV + ADD + (COMPARISON if amsgrad else NOTHING)
    return gradient(maximize, grad_scale) + LERP + second + denominator + AXPY + DIV


@rules.formula(
    *overloads("_fused_adam_.default", "_fused_adam_.tensor_lr"),
    nbytes=adam_traffic,
)
@rules.formula(*overloads("_fused_adam.default", "_fused_adam.tensor_lr"))
def fused_adam(
    self: Tensors,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    grad_scale: TensorSpec | None,
) -> Cost:
    """Adam: the moments' update, after g + wd·p.

    Counts, per element: 5 adds, 5 muls, 2 divs and 1 root; 1 comparison each for `amsgrad`
    and `maximize`; weight decay 1 mul and 1 add.
    Ignores: bias corrections and step size, once per tensor.
    Source: torch.optim.adam, `_single_tensor_adam`.
    """
    decay = AXPY if weight_decay != 0 else NOTHING
    return (moments(amsgrad, maximize, grad_scale) + decay) * elements(self)


@rules.formula(
    *overloads("_fused_adamw_.default", "_fused_adamw_.tensor_lr"),
    nbytes=adam_traffic,
)
@rules.formula(*overloads("_fused_adamw.default", "_fused_adamw.tensor_lr"))
def fused_adamw(
    self: Tensors,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    grad_scale: TensorSpec | None,
) -> Cost:
    """AdamW: the moments' update, after p·(1 − lr·wd).

    Counts: as Adam, but weight decay is 1 mul per element.
    Ignores: bias corrections and step size, once per tensor.
    Source: torch.optim.adam, `_single_tensor_adam` with decoupled weight decay.
    """
    decay = MUL if weight_decay != 0 else NOTHING
    return (moments(amsgrad, maximize, grad_scale) + decay) * elements(self)


# Adagrad


def adagrad_traffic(
    self: Tensors,
    grads: Tensors,
    state_sums: Tensors,
    state_steps: Tensors,
    *,
    lr: Rate,
    grad_scale: TensorSpec | None,
    found_inf: TensorSpec | None,
) -> tuple[int, int]:
    """Reads everything; writes parameters, sums and unscaled gradients."""
    updated = size(self, state_sums)
    read = updated + size(grads, state_steps, lr, grad_scale, found_inf)
    return read, updated + (0 if grad_scale is None else size(grads))


@rules.formula(
    *overloads("_fused_adagrad_.default", "_fused_adagrad_.tensor_lr"),
    nbytes=adagrad_traffic,
)
@rules.formula(*overloads("_fused_adagrad.default", "_fused_adagrad.tensor_lr"))
def fused_adagrad(
    self: Tensors, weight_decay: float, maximize: bool, grad_scale: TensorSpec | None
) -> Cost:
    """Adagrad: s ← s + g·g, p ← p − α·g / (√s + ε).

    Counts, per element: the sum 1 mul and 1 add; √s + ε 1 root and 1 add; the update 1 mul,
    1 division, 1 add; weight decay 1 mul and 1 add; `maximize` 1 comparison.
    Ignores: the learning rate's decay, once per tensor.
    Source: torch.optim.adagrad, `_single_tensor_adagrad`.
    """
    each = gradient(maximize, grad_scale) + AXPY + TRANSCENDENTAL + ADD + AXPY + DIV
    if weight_decay != 0:
        each += AXPY
    return each * elements(self)


# Gradient scaling


@rules.formula(*overloads("_amp_foreach_non_finite_check_and_unscale.default"))
def amp_foreach_non_finite_check_and_unscale(self: Tensors) -> Cost:
    """Each gradient times the inverse scale, and whether all are finite.

    Counts: 1 mul per element. The check compares to a bool, which is nothing.
    """
    return MUL * elements(self)


@rules.formula(
    *overloads("_amp_update_scale.default"),
    typed=False,
    estimate="one multiplication, which is done only in steps that change the scale",
)
def amp_update_scale(self: TensorSpec) -> Cost:
    """The scale backs off after an overflow and grows after enough steps without one.

    Counts: 1 mul for the scale, and 1 integer operation for the growth tracker.
    """
    return Cost(muls=self.numel, int_ops=self.numel)
