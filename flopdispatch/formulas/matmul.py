"""Matrix products.

Letters: m rows, k inner, n columns, b batch.
"""

from __future__ import annotations

import torch

from flopdispatch.cost import Cost
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("matmul")

Number = int | float | complex | bool


@rules.formula(aten.mm.default)
def mm(self: TensorSpec, mat2: TensorSpec) -> Cost:
    """Matrix product.

    Shapes: self (m, k), mat2 (k, n).
    Counts: m·n·k MACs.
    Example: (2, 4) by (4, 3) is 2·3·4 = 24 MACs.
    """
    (m, k), (_, n) = self.shape, mat2.shape
    return Cost(macs=m * n * k)


@rules.formula(aten.addmm.default)
def addmm(
    mat1: TensorSpec, mat2: TensorSpec, beta: Number, alpha: Number, result: TensorSpec
) -> Cost:
    """beta·self + alpha·(mat1 @ mat2).

    Shapes: mat1 (m, k), mat2 (k, n), self broadcast to (m, n).
    Counts: the product, and the scaled sum.
    Example: (2, 4) by (4, 3) is 24 MACs and 6 adds.
    """
    return mm(mat1, mat2) + scaled_sum(result.numel, beta, alpha)


def scaled_sum(outputs: int, beta: Number, alpha: Number) -> Cost:
    """beta·input + alpha·product per output; a factor of 1 isn't multiplied, beta = 0 skips input.

    Counts: one add per output, and one mul per output for each factor other than 1.
    """
    scaling = outputs if alpha != 1 else 0
    if beta == 0:
        return Cost(muls=scaling)
    return Cost(muls=scaling + (outputs if beta != 1 else 0), adds=outputs)


@rules.formula(aten.bmm.default)
def bmm(self: TensorSpec, mat2: TensorSpec) -> Cost:
    """Batched matrix product.

    Shapes: self (b, m, k), mat2 (b, k, n).
    Counts: b·m·n·k MACs.
    """
    (b, m, k), n = self.shape, mat2.shape[2]
    return Cost(macs=b * m * n * k)
