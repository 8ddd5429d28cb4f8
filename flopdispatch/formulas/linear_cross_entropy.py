"""A linear layer and its cross entropy, chunk by chunk, so that the logits are never all there.

Letters: n rows, f features, c classes. It costs what the layer, the logarithm of a softmax and the
loss cost one after the other, and their gradients if it is asked for these: it works them out at
once. Registered by `torch.nn.modules.linear_cross_entropy`, when it is first used: by name.
"""

from __future__ import annotations

from math import prod

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import combined, folds
from flopdispatch.formulas.loss import MEAN, NONE, SUM, nll_loss, nll_loss_backward, reduced
from flopdispatch.formulas.softmax import log_softmax, log_softmax_backward
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

rules = Registry("matmul")

Tensor = TensorSpec | None
REDUCTIONS = {"none": NONE, "mean": MEAN, "sum": SUM}


def logits_of(input: TensorSpec, linear_weight: TensorSpec) -> TensorSpec:
    """Shapes: input (n, f), linear_weight (c, f), logits (n, c)."""
    return TensorSpec((input.shape[0], linear_weight.shape[0]), input.dtype)


def loss(
    input: TensorSpec,
    linear_weight: TensorSpec,
    target: TensorSpec,
    linear_bias: Tensor,
    weight: Tensor,
    reduction: int,
) -> Cost:
    """The losses, and their reduction.

    Counts: n·c·f MACs and n·c adds for a bias; the logarithm of the softmax of n rows; of class
    indices the negative log-likelihood, of probabilities n·c muls, as many again for weights, the
    sums of the rows and a change of sign of each loss that is left.
    """
    logits = logits_of(input, linear_weight)
    n, elements = logits.shape[0], prod(logits.shape)
    layer = Cost(
        macs=elements * input.shape[1], adds=elements if linear_bias is not None else 0
    ) + log_softmax(logits, 1)
    if not probabilities(target, logits):
        return layer + nll_loss(target, weight, reduction)
    muls = elements * (1 if weight is None else 2)
    signs = n if reduction == NONE else 1
    sums = Cost(adds=folds(n, logits.shape[1])) + reduced(n, reduction)
    return layer + Cost(muls=muls, comparisons=signs) + sums


def probabilities(target: TensorSpec, logits: TensorSpec) -> bool:
    """Whether the target is a probability for each class instead of a class."""
    return target.shape == logits.shape


@rules.formula("torch_nn::_linear_cross_entropy_batch_chunked.default")
def linear_cross_entropy(
    input: TensorSpec,
    linear_weight: TensorSpec,
    target: TensorSpec,
    linear_bias: Tensor,
    weight: Tensor,
    reduction: str,
    compute_input_grad: bool,
    compute_linear_weight_grad: bool,
    compute_linear_bias_grad: bool,
) -> Cost:
    """The loss, and the gradients of input, weight and bias that are asked for.

    Counts: `loss`; for any gradient that of the logits: of the loss by the logarithms and of these
    by the logits; n·c·f MACs each for input and weight; n − 1 adds a class for the bias.
    """
    code = REDUCTIONS[reduction]
    cost = loss(input, linear_weight, target, linear_bias, weight, code)
    logits = logits_of(input, linear_weight)
    elements = prod(logits.shape)
    products = compute_input_grad + compute_linear_weight_grad
    if products or compute_linear_bias_grad:
        cost += log_softmax_backward(logits, 1)
        if probabilities(target, logits):
            divided = 1 if code == MEAN else 0
            cost += Cost(muls=elements * (1 if weight is None else 2), comparisons=1, divs=divided)
        else:
            cost += nll_loss_backward(target, weight, code)
    if compute_linear_bias_grad:
        cost += Cost(adds=combined(elements, logits.shape[1]))
    return cost + Cost(macs=products * elements * input.shape[1])


@rules.formula("torch_nn::_linear_cross_entropy_batch_chunked_no_reduction.default")
def linear_cross_entropies(
    input: TensorSpec,
    linear_weight: TensorSpec,
    target: TensorSpec,
    linear_bias: Tensor,
    weight: Tensor,
) -> Cost:
    """The loss of each row: `loss`. Its backward is seen operator by operator."""
    return loss(input, linear_weight, target, linear_bias, weight, NONE)
