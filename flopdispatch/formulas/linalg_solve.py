"""Linear algebra: solutions of linear systems, inverses and least squares.

As in `linalg`, counts are those of LAPACK's unblocked algorithms (LAPACK Working Note 41).
Systems that are broadcast are solved for each of the result's matrices, a matrix that is
broadcast is factored once.

Letters: b matrices, m rows, n columns, k right-hand sides; x elements of the solution, b·n·k.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.linalg import geqrf_of, lu_of, matrices, ormqr_of
from flopdispatch.formulas.linalg_spectral import least_squares_by_svd
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("linalg")

QR_DRIVERS = (None, "gels", "gelsy")


# Substitution


def substitution(x: int, n: int, unit: bool = False) -> Cost:
    """Triangular systems of n unknowns, x unknowns in all.

    Counts: of each right-hand side n·(n − 1)/2 muls and adds, and a division by each diagonal
    element unless these are 1.
    """
    products = x * (n - 1) // 2
    return Cost(muls=products, adds=products, divs=0 if unit else x)


def lu_substitution(x: int, n: int) -> Cost:
    """L·y = c, then U·x = y; L's diagonal is 1. Counts: 2n² − n FLOPs a right-hand side."""
    return substitution(x, n, unit=True) + substitution(x, n)


@rules.formula(aten.linalg_solve_triangular.default)
def linalg_solve_triangular(self: TensorSpec, unitriangular: bool, result: TensorSpec) -> Cost:
    """A·X = B or X·A = B with a triangular A.

    Counts: n²·k FLOPs: n·(n − 1)/2 muls and adds and n divs a right-hand side.
    Source: LAPACK Working Note 41, TRSM.
    Example: n = 3, k = 2 has 6 muls, 6 adds and 6 divs.
    """
    return substitution(result.numel, self.shape[-1], unitriangular)


@rules.formula(aten.triangular_solve.default)
def triangular_solve(
    A: TensorSpec,  # noqa: N803
    unitriangular: bool,
    result: tuple[TensorSpec, TensorSpec],
) -> Cost:
    """A·X = B with a triangular A: as `linalg_solve_triangular`."""
    return substitution(result[0].numel, A.shape[-1], unitriangular)


@rules.formula(aten.cholesky_solve.default)
def cholesky_solve(input2: TensorSpec, result: TensorSpec) -> Cost:
    """L·Lᵀ·X = B: two triangular systems, 2n²·k FLOPs.

    Source: LAPACK Working Note 41, POTRS.
    """
    return 2 * substitution(result.numel, input2.shape[-1])


@rules.formula(aten._cholesky_solve_helper.default)
def cholesky_solve_helper(A: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """As `cholesky_solve`."""
    return cholesky_solve(A, result)


@rules.formula(aten.linalg_lu_solve.default)
def linalg_lu_solve(LU: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """L·U·X = B, or from the other side, or with the adjoint.

    Counts: n·(n − 1)·k muls and adds, n·k divs.
    Source: LAPACK Working Note 41, GETRS.
    """
    return lu_substitution(result.numel, LU.shape[-1])


@rules.formula(aten.linalg_ldl_solve.default, estimate="each pivot is taken to be 1x1: a division")
def linalg_ldl_solve(LD: TensorSpec, result: TensorSpec) -> Cost:  # noqa: N803
    """L·D·Lᵀ·X = B: two systems with a diagonal of 1, and a division by each pivot between them.

    Source: LAPACK Working Note 41, SYTRS.
    """
    x, n = result.numel, LD.shape[-1]
    return 2 * substitution(x, n, unit=True) + Cost(divs=x)


@rules.formula(aten._linalg_solve_ex.default)
def linalg_solve_ex(A: TensorSpec, result: tuple[TensorSpec, ...]) -> Cost:  # noqa: N803
    """A·X = B: `linalg_lu` and `linalg_lu_solve`.

    Source: LAPACK Working Note 41, GESV.
    Example: n = 3, k = 1 has 8 + 6 muls, 5 + 6 adds, 3 + 3 divs and 9 comparisons.
    """
    b, n, _ = matrices(A)
    return lu_of(n, n) * b + lu_substitution(result[0].numel, n)


# Inverses


def triangular_inverse(n: int) -> Cost:
    """Column j of U⁻¹: minus its reciprocal times the columns before it times U's elements.

    Counts: j elements above the diagonal: j·(j + 1)/2 muls and j·(j − 1)/2 adds to sum, j muls
    to scale. In all n³/6 + n²/2 − 2n/3 muls, n·(n − 1)·(n − 2)/6 adds, n divs.
    Source: LAPACK Working Note 41, TRTRI.
    """
    summed, scaled = (n**3 - n) // 6, n * (n - 1) // 2
    return Cost(muls=summed + scaled, adds=n * (n - 1) * (n - 2) // 6, divs=n)


@rules.formula(aten.linalg_inv_ex.default)
def linalg_inv_ex(A: TensorSpec) -> Cost:  # noqa: N803
    """The inverse from LU: U is inverted, then X·L = U⁻¹ is solved.

    Counts: `linalg_lu`, `triangular_inverse`, and n²·(n − 1)/2 muls and adds:
    2n³ − 3n²/2 + 3n/2 FLOPs in all. Solving A·X = 1, as torch does on CPU, would be 8n³/3.
    Source: LAPACK Working Note 41, GETRF and GETRI; of the latter the note's polynomial has n
    more.
    Example: n = 2 has 2 + 2 + 2 muls, 1 + 0 + 2 adds, 2 + 2 divs and 4 comparisons.
    """
    b, n, _ = matrices(A)
    return (lu_of(n, n) + triangular_inverse(n) + substitution(n * n, n, unit=True)) * b


@rules.formula(aten.cholesky_inverse.default)
def cholesky_inverse(self: TensorSpec) -> Cost:
    """(L·Lᵀ)⁻¹: L is inverted and multiplied by its transpose.

    Counts: `triangular_inverse`; of the product's lower triangle n·(n + 1)·(n + 2)/6 muls and
    (n³ − n)/6 adds: 2n³/3 + n²/2 + 5n/6 FLOPs in all.
    Source: LAPACK Working Note 41, POTRI.
    """
    b, n, _ = matrices(self)
    product = Cost(muls=n * (n + 1) * (n + 2) // 6, adds=(n**3 - n) // 6)
    return (triangular_inverse(n) + product) * b


# Least squares


def is_estimated(driver: str | None) -> bool:
    """Only `gels` takes the same whatever the rank is, and how soon singular values converge."""
    return driver != "gels"


@rules.formula(
    aten.linalg_lstsq.default,
    estimate="the rank is taken to be full, a singular value to converge in two steps",
    estimated_if=is_estimated,
)
def linalg_lstsq(
    self: TensorSpec, b: TensorSpec, driver: str | None, result: tuple[TensorSpec, ...]
) -> Cost:
    """The X of least norm with the least |A·X − B|.

    Counts: `gels`, and so whatever the device's default is: QR of A, or of its transpose if m <
    n; Q times the right-hand sides; a triangular system. `gelsy` is that with column exchanges,
    which are ignored, if the rank is full. `gelsd` and `gelss`: the singular values of A with
    both sides' vectors applied. Residuals, where asked for, are m − n squares and their sum.
    Source: LAPACK Working Note 41, GEQRF, ORMQR and TRSM; Golub & Van Loan, table 5.5.1.
    """
    solution, unfitted, _, _ = result
    m, n = self.shape[-2:]
    k = 1 if b.ndim < self.ndim else b.shape[-1]
    matrices_of_a, systems = prod(self.shape[:-2]), prod(solution.shape[: self.ndim - 2])
    squares = unfitted.numel * (m - n)
    residuals = Cost(muls=squares, adds=squares - unfitted.numel)
    long, short = max(m, n), min(m, n)
    if driver not in QR_DRIVERS:
        factored, solved = least_squares_by_svd(long, short, k)
    else:
        factored = geqrf_of(long, short)
        solved = ormqr_of(long, k, short) + substitution(short * k, short)
    return factored * matrices_of_a + solved * systems + residuals
