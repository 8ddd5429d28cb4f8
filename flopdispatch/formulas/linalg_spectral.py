"""Linear algebra: eigenvalues, singular values and functions of a matrix.

Values are estimates: how many iterations such an algorithm takes depends on the matrix. The numbers
are Golub & Van Loan's (Matrix Computations, 4th edition), of FLOPs to the highest order, taken as
muls and adds in equal parts; Working Note 41 has none for them. What follows an iteration, such
as a product of its vectors, is exact.

Where any dispatch mode is active, such as the counter's, torch asks for vectors in
`linalg.eigvalsh`, `linalg.svdvals` and `linalg.eigvals` too, and they are counted.

Letters: b matrices, m rows, n columns, k = min(m, n).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.linalg import matrices
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("linalg")

ITERATION = "order of magnitude: how soon an iteration converges depends on the matrix"


def in_equal_parts(flops: int) -> Cost:
    """As many muls as adds; of an odd number the odd one is a mul."""
    return Cost(muls=flops - flops // 2, adds=flops // 2)


# Eigenvalues


def eigh_of(n: int, vectors: bool = True) -> Cost:
    """Tridiagonal form and symmetric QR: 4n³/3 FLOPs, 9n³ with vectors (section 8.3)."""
    return in_equal_parts(9 * n**3 if vectors else 4 * n**3 // 3)


@rules.formula(aten._linalg_eigh.default, estimate=ITERATION)
def linalg_eigh(A: TensorSpec, compute_v: bool) -> Cost:  # noqa: N803
    """Eigenvalues of a symmetric matrix, and its eigenvectors.

    Counts: 4n³/3 FLOPs, with vectors 9n³.
    Source: Golub & Van Loan, 8.3.
    """
    b, n, _ = matrices(A)
    return eigh_of(n, compute_v) * b


@rules.formula(aten.linalg_eig.default, estimate=ITERATION)
def linalg_eig(self: TensorSpec) -> Cost:
    """Eigenvalues and eigenvectors: the real Schur form and its basis.

    Counts: 25n³ FLOPs.
    Source: Golub & Van Loan, 7.5.
    """
    b, n, _ = matrices(self)
    return in_equal_parts(25 * n**3) * b


@rules.formula(aten._linalg_eigvals.default, aten.linalg_eigvals.out, estimate=ITERATION)
def linalg_eigvals(self: TensorSpec) -> Cost:
    """Eigenvalues alone.

    Counts: 10n³ FLOPs.
    Source: Golub & Van Loan, 7.5.
    """
    b, n, _ = matrices(self)
    return in_equal_parts(10 * n**3) * b


# Singular values, of m ≥ n or its transpose


def svd_of(m: int, n: int) -> Cost:
    """U's first k columns, the singular values and V."""
    m, n = max(m, n), min(m, n)
    return in_equal_parts(min(14 * m * n**2 + 8 * n**3, 6 * m * n**2 + 20 * n**3))


def svd_complete_of(m: int, n: int) -> Cost:
    """All of U, the singular values and V."""
    m, n = max(m, n), min(m, n)
    golub_reinsch = 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    return in_equal_parts(min(golub_reinsch, 4 * m**2 * n + 22 * n**3))


def svdvals_of(m: int, n: int) -> Cost:
    """The singular values alone."""
    m, n = max(m, n), min(m, n)
    golub_reinsch = (12 * m * n**2 - 4 * n**3) // 3
    return in_equal_parts(min(golub_reinsch, 2 * m * n**2 + 2 * n**3))


@rules.formula(aten._linalg_svd.default, estimate=ITERATION)
def linalg_svd(A: TensorSpec, full_matrices: bool, compute_uv: bool) -> Cost:  # noqa: N803
    """Singular values, and vectors: as many as there are values, or all.

    Counts: the smaller one of Golub and Reinsch's algorithm and of that on R, after QR, of
    m ≥ n: values 4mn² − 4n³/3 or 2mn² + 2n³; with vectors 14mn² + 8n³ or 6mn² + 20n³; with
    all 4m²n + 8mn² + 9n³ or 4m²n + 22n³ FLOPs. The `driver` doesn't matter.
    Source: Golub & Van Loan, figure 8.6.1.
    """
    b, m, n = matrices(A)
    if not compute_uv:
        return svdvals_of(m, n) * b
    return (svd_complete_of(m, n) if full_matrices else svd_of(m, n)) * b


def least_squares_by_svd(m: int, n: int, k: int) -> tuple[Cost, Cost]:
    """Least squares: singular values and V, and U applied to k right-hand sides.

    Counts: 4mn² + 8n³ FLOPs, or 2mn² + 11n³ on R; of each right-hand side m·n MACs with U, n
    divisions and n² MACs with V.
    """
    factored = in_equal_parts(min(4 * m * n**2 + 8 * n**3, 2 * m * n**2 + 11 * n**3))
    return factored, Cost(macs=(m * n + n * n) * k, divs=n * k)


# Functions


@rules.formula(aten.linalg_pinv.atol_rtol_tensor, estimate=ITERATION)
def linalg_pinv(self: TensorSpec, hermitian: bool) -> Cost:
    """The pseudoinverse V·Σ⁻¹·Uᴴ.

    Counts: `linalg_svd`, or `linalg_eigh` if Hermitian; k divs, n·k muls and m·n·k MACs.
    Ignores: the tolerance, which only tells what is inverted and what becomes 0.
    """
    b, m, n = matrices(self)
    k = min(m, n)
    values = eigh_of(n) if hermitian else svd_of(m, n)
    return (values + Cost(macs=m * n * k, muls=n * k, divs=k)) * b


@rules.formula(
    *overloads(
        "linalg_polar.default",
        "_native::linalg_polar_native_2.default",
        "_native::linalg_polar_out_native_3.default",
    ),
    estimate=ITERATION,
)
def linalg_polar(A: TensorSpec) -> Cost:  # noqa: N803
    """A = U·H with H symmetric: from A = W·Σ·Vᴴ, U = W·Vᴴ and H = V·Σ·Vᴴ, m ≥ n.

    Counts: `linalg_svd`; m·n² MACs; n² muls and n³ MACs.
    """
    b, m, n = matrices(A)
    return (svd_of(m, n) + Cost(macs=m * n * n + n**3, muls=n * n)) * b


@rules.formula(*overloads("linalg_matrix_sqrth.default"), estimate=ITERATION)
def linalg_matrix_sqrth(self: TensorSpec) -> Cost:
    """The square root of a positive semidefinite matrix, V·sqrt(Λ)·Vᴴ.

    Counts: `linalg_eigh`; n roots, n² muls and n³ MACs.
    """
    b, n, _ = matrices(self)
    return (eigh_of(n) + Cost(macs=n**3, muls=n * n, transcendentals=n)) * b


class Polynomial(NamedTuple):
    """One that approximates an exponential: products of matrices, and work on each element.

    It is near enough up to a 1-norm, in single and in double precision; the last one takes any
    matrix, halved as often as need be.
    """

    products: int
    each: Cost
    single: float
    double: float


POLYNOMIALS = (
    # degree 1: 1 + A; 2: 1 + A + A²/2
    Polynomial(0, Cost(adds=1), 1.192092800768788e-07, 2.220446049250313e-16),
    Polynomial(1, Cost(adds=2, divs=1), 5.978858893805233e-04, 2.580956802971767e-08),
    # 4 and 8: combinations of so many matrices
    Polynomial(2, Cost(macs=3 + 4), 5.116619363445086e-02, 3.397168839976962e-04),
    Polynomial(3, Cost(macs=2 + 2 + 4 + 5), 5.800524627688768e-01, 4.991228871115323e-02),
    # 12: 4 combinations of 1, A, A² and A³; 18: 5 of these and A⁶, the matrix divided first
    Polynomial(4, Cost(macs=16, adds=3), 1.461661507209034e00, 2.996158913811580e-01),
    Polynomial(5, Cost(macs=25, adds=3, divs=1), 3.010066362817634e00, 1.090863719290036e00),
)


def polynomials(self: torch.Tensor) -> tuple[int, ...]:
    """How many of a batch's matrices take each polynomial, and how many squarings follow."""
    single = self.dtype in (torch.float32, torch.complex64)
    limits = [p.single if single else p.double for p in POLYNOMIALS]
    counts, squarings = [0] * len(limits), 0
    for norm in self.abs().sum(-2).amax(-1).flatten().tolist():
        counts[bisect_left(limits[:-1], norm)] += 1
        if norm > limits[-1]:
            squarings += math.ceil(math.log2(norm / limits[-1]))
    return (*counts, squarings)


def is_unknown(self: TensorSpec, taken: tuple[int, ...] | None) -> bool:
    """Whether a call ran without data that its cost lies in: of 1x1 it doesn't."""
    return taken is None and self.shape[-1] > 1


@rules.formula(
    aten.linalg_matrix_exp.default,
    takes=polynomials,
    estimate="a matrix without data is taken to need degree 18 and no squaring",
    estimated_if=is_unknown,
)
def linalg_matrix_exp(self: TensorSpec, taken: tuple[int, ...] | None) -> Cost:
    """The exponential of a matrix, by a Taylor polynomial of a degree that its norm asks for.

    Counts: per matrix 0 to 5 products of n³ MACs for the degrees 1, 2, 4, 8, 12 and 18, their
    combinations, and a product for each time that the norm was halved. 1x1 is an exp.
    Ignores: the norm, n² − n adds, n² magnitudes and n − 1 comparisons.
    Source: Bader, Blanes & Casas, Computing the Matrix Exponential with an Optimized Taylor
    Polynomial Approximation, 2019.
    Example: 4x4 of zeros is 1 + A, 16 adds; of norm 1 in single precision degree 12: 4·64 + 16·16
    MACs and 3·16 adds.
    """
    b, n, _ = matrices(self)
    if n == 1:
        return Cost(transcendentals=b)
    *counts, squarings = taken if taken is not None else (0, 0, 0, 0, 0, b, 0)
    chosen = list(zip(counts, POLYNOMIALS))
    products = sum(count * p.products for count, p in chosen) + squarings
    each = sum([count * p.each for count, p in chosen], Cost())
    return Cost(macs=products * n**3) + each * (n * n)


@rules.formula(aten._compute_linear_combination.default)
def compute_linear_combination(coefficients: TensorSpec, result: TensorSpec) -> Cost:
    """Weighted sums of tensors.

    Shapes: input (t, ...), coefficients (r, t), result (r, ...).
    Counts: t MACs an element of the result.
    """
    return Cost(macs=result.numel * coefficients.shape[-1])
