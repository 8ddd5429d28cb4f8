"""Linear algebra: factorizations of dense matrices and what is told from their factors.

Counts are those of LAPACK's unblocked algorithms, from which LAPACK Working Note 41 has its
polynomials: an inner product of c terms that is taken off something is c muls and c adds. What
the note calls multiplications is told apart here: reciprocals and divisions are divs, square
roots are transcendentals. Nothing is saved by a matrix's zeros or symmetry beyond what an
algorithm is for. A matrix of a batch costs what the others do.

Letters: b matrices, m rows, n columns, k = min(m, n) or what a docstring says.
"""

from __future__ import annotations

from math import prod

import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas.folds import folds
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.pointwise import ADD, MUL, abs_, sgn
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec

aten = torch.ops.aten
rules = Registry("linalg")


def matrices(tensor: TensorSpec) -> tuple[int, int, int]:
    """How many matrices a tensor holds, their rows and their columns."""
    m, n = tensor.shape[-2:]
    return prod(tensor.shape[:-2]), m, n


# Sums over the steps of an elimination


def steps(k: int, p: int) -> int:
    """The sum of p − j over j < k.

    Example: 3 steps from 5 are 5 + 4 + 3 = 12.
    """
    return k * p - k * (k - 1) // 2


def areas(k: int, p: int, q: int) -> int:
    """The sum of (p − j)·(q − j) over j < k.

    Example: 2 steps from 5 by 3 are 5·3 + 4·2 = 23.
    """
    return k * p * q - (p + q) * (k * (k - 1) // 2) + (k - 1) * k * (2 * k - 1) // 6


# Triangular factors


def cholesky_of(n: int) -> Cost:
    """A root and a reciprocal of each pivot; each column is scaled, the triangle below updated.

    Counts: column j of i = n − 1 − j elements below: i muls to scale, and i·(i + 1)/2 muls and
    adds to update. In all (n³ − n)/6 adds, as many muls and n·(n − 1)/2, n divs and n roots.
    """
    updates, scaled = (n**3 - n) // 6, n * (n - 1) // 2
    return Cost(muls=updates + scaled, adds=updates, divs=n, transcendentals=n)


@rules.formula(aten.linalg_cholesky_ex.default, *overloads("cholesky.default"))
def linalg_cholesky_ex(self: TensorSpec) -> Cost:
    """A = L·Lᵀ.

    Counts: n³/6 + n²/2 − 2n/3 muls, (n³ − n)/6 adds, n divs: n³/3 + n²/2 + n/6 FLOPs; n roots.
    Source: LAPACK Working Note 41, POTRF.
    Example: n = 3 has 7 muls, 4 adds, 3 divs and 3 roots.
    """
    b, n, _ = matrices(self)
    return cholesky_of(n) * b


def lu_of(m: int, n: int, pivot: bool = True) -> Cost:
    """Elimination with row exchanges, m by n.

    Counts: step j of k: a reciprocal, m − 1 − j muls to scale the column, and a mul and an add
    for each of the (m − 1 − j)·(n − 1 − j) elements right of it. A pivot is the largest of
    m − j magnitudes, 2·(m − j) − 1 comparisons.
    """
    k = min(m, n)
    searches = k * (2 * m - k) if pivot else 0
    return Cost(muls=areas(k, m - 1, n), adds=areas(k, m - 1, n - 1), divs=k, comparisons=searches)


@rules.formula(aten.linalg_lu_factor_ex.default, aten.linalg_lu.default)
def linalg_lu(A: TensorSpec, pivot: bool) -> Cost:  # noqa: N803
    """P·A = L·U, the factors in one matrix or apart.

    Counts: square: (n³ − n)/3 muls, n³/3 − n²/2 + n/6 adds, n divs: 2n³/3 − n²/2 + 5n/6 FLOPs;
    n² comparisons for the pivots.
    Source: LAPACK Working Note 41, GETRF (for m < n, the note scales rows of U instead).
    Example: n = 3 has 8 muls, 5 adds, 3 divs and 9 comparisons.
    """
    b, m, n = matrices(A)
    return lu_of(m, n, pivot) * b


@rules.formula(aten._linalg_det.default)
def linalg_det(A: TensorSpec) -> Cost:  # noqa: N803
    """The product of U's diagonal.

    Counts: LU, and n − 1 muls.
    Ignores: the sign of the permutation.
    """
    b, n, _ = matrices(A)
    return lu_of(n, n) * b + Cost(muls=folds(b, n))


@rules.formula(aten._linalg_slogdet.default, typed=False)
def linalg_slogdet(A: TensorSpec) -> Cost:  # noqa: N803
    """Sign and logarithm of the determinant.

    Counts: LU; of U's diagonal n signs and their n − 1 products, n magnitudes, their n
    logarithms and n − 1 adds (real ones, of complex matrices too).
    Ignores: the sign of the permutation.
    """
    b, n, _ = matrices(A)
    diagonal = TensorSpec((b, n), A.dtype)
    counts = lu_of(n, n) * b + Cost(muls=folds(b, n))
    logarithms = Cost(transcendentals=b * n, adds=folds(b, n))
    return counts.in_dtype(A.dtype) + sgn(diagonal) + abs_(diagonal) + logarithms


@rules.formula(
    aten.linalg_ldl_factor_ex.default,
    estimate="each pivot is taken to be 1x1, found in the column that it eliminates",
)
def linalg_ldl_factor_ex(self: TensorSpec) -> Cost:
    """A = L·D·Lᵀ of a symmetric matrix, with Bunch and Kaufman's pivots.

    Counts: those of Cholesky's factorization without its roots, and the search for the pivots:
    2i − 1 comparisons in a column of i. A 2x2 pivot searches another column.
    Source: Golub & Van Loan, 4.4.4: n³/3 FLOPs; LAPACK Working Note 41, SYTRF.
    """
    b, n, _ = matrices(self)
    update = cholesky_of(n)
    return Cost(muls=update.muls, adds=update.adds, divs=n, comparisons=n * n) * b


# Orthogonal factors: products of Householder reflectors H = 1 − τ·v·vᵀ


def reflectors(k: int, m: int) -> Cost:
    """v and τ of k reflectors that annihilate columns of m, m − 1, ... elements.

    Counts: a column of c: its norm (c muls, c − 1 adds, a root), its first element's sign, τ (an
    add, a div), and the scale of v (an add, a div) on all but its leading 1 (c − 1 muls).
    """
    column = steps(k, m)
    return Cost(muls=2 * column - k, adds=column + k, divs=2 * k, transcendentals=k, comparisons=k)


def reflections(k: int, m: int, n: int) -> Cost:
    """Apply k reflectors from the left: the first to m by n elements, the next to (m−1, n−1), ...

    Counts: of c by q elements w = vᵀ·C, τ·w and C − v·w: q·(2c + 1) muls and 2·q·c adds.
    """
    products = 2 * areas(k, m, n)
    return Cost(muls=products + steps(k, n), adds=products)


def geqrf_of(m: int, n: int) -> Cost:
    """The reflectors that make R of m by n elements, each applied to the columns behind it."""
    k = min(m, n)
    return reflectors(k, m) + reflections(k, m, n - 1)


def orgqr_of(m: int, n: int, k: int) -> Cost:
    """The first n columns of the product of k reflectors, from the last to the first.

    Counts: reflector j is applied to n − 1 − j columns of m − j elements; its own column is
    −τ·v but for the first element, 1 − τ.
    """
    return reflections(k, m, n - 1) + Cost(muls=steps(k, m - 1), adds=k)


def ormqr_of(m: int, n: int, k: int) -> Cost:
    """Q·C or Qᵀ·C of m by n elements: reflector j changes m − j rows.

    Counts: n·(2c + 1) muls and 2·n·c adds for c rows: n·k·(4m − 2k + 3) FLOPs in all.
    """
    rows = steps(k, m)
    return Cost(muls=n * (2 * rows + k), adds=2 * n * rows)


@rules.formula(aten.geqrf.default)
def geqrf(self: TensorSpec) -> Cost:
    """R and the reflectors of Q.

    Counts: m ≥ n: 2mn² − 2n³/3 + mn + n² + 5n/3 FLOPs, n roots and n signs.
    Source: LAPACK Working Note 41, GEQRF, which has 14n/3: it counts the root as a
    multiplication, and a second root and product, of a norm in two parts.
    Example: (2, 1) has 3 muls, 3 adds, 2 divs, a root and a sign.
    """
    b, m, n = matrices(self)
    return geqrf_of(m, n) * b


@rules.formula(aten.linalg_householder_product.default)
def linalg_householder_product(input: TensorSpec, tau: TensorSpec) -> Cost:
    """The first n columns of Q, from k reflectors.

    Counts: 4mnk − 2(m + n)k² + 4k³/3 + 3nk − mk − k² − 4k/3 FLOPs.
    Source: LAPACK Working Note 41, ORGQR.
    Example: one reflector and column of 2: a mul and an add.
    """
    b, m, n = matrices(input)
    return orgqr_of(m, n, tau.shape[-1]) * b


@rules.formula(aten.linalg_qr.default)
def linalg_qr(A: TensorSpec, mode: str) -> Cost:  # noqa: N803
    """A = Q·R: Q has k columns if reduced, m if complete, and isn't made in mode r.

    Counts: `geqrf`, and `linalg_householder_product` of that many columns.
    """
    b, m, n = matrices(A)
    k = min(m, n)
    made = Cost() if mode == "r" else orgqr_of(m, m if mode == "complete" else k, k)
    return (geqrf_of(m, n) + made) * b


@rules.formula(aten.ormqr.default)
def ormqr(input2: TensorSpec, input3: TensorSpec, left: bool) -> Cost:
    """Q times C, C times Q, or with Qᵀ, without making Q.

    Shapes: input2 (..., k) are the τ, input3 (..., m, n) is C.
    Counts: left: n·k·(4m − 2k + 3) FLOPs. Right: w = C·v of m rows by c columns, and τ is
    multiplied into v: 2·m·c + c muls and 2·m·c adds, where left multiplies it into w.
    Source: LAPACK Working Note 41, ORMQR.
    """
    b, m, n = matrices(input3)
    k = input2.shape[-1]
    if left:
        return ormqr_of(m, n, k) * b
    columns = steps(k, n)
    return Cost(muls=2 * m * columns + columns, adds=2 * m * columns) * b


# Small products


@rules.formula(aten.linalg_cross.default)
def linalg_cross(result: TensorSpec) -> Cost:
    """Cross product of vectors of 3.

    Counts: x·v − y·u, 2 muls and an add, an element.
    """
    return (2 * MUL + ADD) * result.numel
