"""LAPACK's unblocked algorithms, loop by loop."""

from __future__ import annotations

import math

import torch

from tests.oracles import Scalar, Tally

Row = list[Scalar]
Matrix = list[Row]


def matrix(tally: Tally, x: torch.Tensor) -> Matrix:
    return [[tally.scalar(value) for value in row] for row in x.tolist()]


def tensor(a: Matrix) -> torch.Tensor:
    return torch.tensor([[x.value for x in row] for row in a], dtype=torch.float64)


def zeros(tally: Tally, m: int, n: int) -> Matrix:
    return [[tally.scalar(0) for _ in range(n)] for _ in range(m)]


def columns(a: Matrix, start: int, stop: int) -> Matrix:
    return [row[start:stop] for row in a]


def magnitude(x: Scalar) -> float:
    x.tally.note("comparisons")
    return abs(x.value)


def largest(candidates: Row) -> int:
    """The place of the largest magnitude."""
    sizes = [magnitude(x) for x in candidates]
    candidates[0].tally.note("comparisons", len(sizes) - 1)
    return max(range(len(sizes)), key=sizes.__getitem__)


# Triangular factors


def cholesky(tally: Tally, x: torch.Tensor) -> torch.Tensor:
    a, n = matrix(tally, x), len(x)
    for j in range(n):
        a[j][j] = a[j][j].apply("sqrt")
        factor = 1 / a[j][j]
        for i in range(j + 1, n):
            a[i][j] = a[i][j] * factor
        for i in range(j + 1, n):
            for k in range(j + 1, i + 1):
                a[i][k] = a[i][k] - a[i][j] * a[k][j]
    return tensor(a).tril()


def lu(tally: Tally, x: torch.Tensor, pivot: bool = True) -> tuple[torch.Tensor, list[int]]:
    """L and U in one matrix, and the order of the rows."""
    a, (m, n) = matrix(tally, x), x.shape
    order = list(range(m))
    for j in range(min(m, n)):
        found = j + (largest([row[j] for row in a[j:]]) if pivot else 0)
        a[j], a[found] = a[found], a[j]
        order[j], order[found] = order[found], order[j]
        factor = 1 / a[j][j]
        for i in range(j + 1, m):
            a[i][j] = a[i][j] * factor
            for k in range(j + 1, n):
                a[i][k] = a[i][k] - a[i][j] * a[j][k]
    return tensor(a), order


def ldl(tally: Tally, x: torch.Tensor) -> torch.Tensor:
    """L, and D on its diagonal, of 1x1 pivots that are in their places."""
    a, n = matrix(tally, x), len(x)
    for j in range(n):
        found = largest([row[j] for row in a[j:]])
        assert found == 0, "the matrix needs no exchange"
        factor = 1 / a[j][j]
        scaled = {i: a[i][j] * factor for i in range(j + 1, n)}
        for i in range(j + 1, n):
            for k in range(j + 1, i + 1):
                a[i][k] = a[i][k] - scaled[i] * a[k][j]
        for i, value in scaled.items():
            a[i][j] = value
    return tensor(a).tril()


# Substitution


def solve_triangular(
    tally: Tally, a: torch.Tensor, b: torch.Tensor, upper: bool, unit: bool = False
) -> torch.Tensor:
    t, x, n = matrix(tally, a), matrix(tally, b), len(a)
    for i in reversed(range(n)) if upper else range(n):
        for c in range(b.shape[1]):
            for j in range(i + 1, n) if upper else range(i):
                x[i][c] = x[i][c] - t[i][j] * x[j][c]
            if not unit:
                x[i][c] = x[i][c] / t[i][i]
    return tensor(x)


def lu_solve(tally: Tally, factors: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """b's rows are in the order of the factors."""
    y = solve_triangular(tally, factors, b, upper=False, unit=True)
    return solve_triangular(tally, factors, y, upper=True)


def ldl_solve(tally: Tally, factors: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    y = matrix(tally, solve_triangular(tally, factors, b, upper=False, unit=True))
    pivots = [tally.scalar(value) for value in factors.diagonal().tolist()]
    y = [[value / pivot for value in row] for row, pivot in zip(y, pivots)]
    return solve_triangular(tally, factors.mT, tensor(y), upper=True, unit=True)


# Inverses


def invert_upper(tally: Tally, u: torch.Tensor) -> Matrix:
    """A column at a time: the columns before it times its elements, times its own reciprocal."""
    a, n = matrix(tally, u), len(u)
    for j in range(n):
        a[j][j] = 1 / a[j][j]
        minus = Scalar(-a[j][j].value, tally)
        for i in range(j):
            a[i][j] = tally.sum([a[i][k] * a[k][j] for k in range(i, j)])
        for i in range(j):
            a[i][j] = a[i][j] * minus
    return a


def invert(tally: Tally, x: torch.Tensor) -> torch.Tensor:
    """X·L = U⁻¹ from the last column on, and the columns back in their order."""
    factors, order = lu(tally, x)
    a, lower, n = invert_upper(tally, factors.triu()), matrix(tally, factors), len(x)
    for i in range(n):
        for j in range(i):
            a[i][j] = tally.scalar(0)
    for j in reversed(range(n)):
        for k in range(j + 1, n):
            for i in range(n):
                a[i][j] = a[i][j] - a[i][k] * lower[k][j]
    inverse = torch.empty_like(x)
    inverse[:, order] = tensor(a)
    return inverse


def cholesky_inverse(tally: Tally, lower: torch.Tensor) -> torch.Tensor:
    """U⁻¹·(U⁻¹)ᵀ for U = Lᵀ; the triangle above is the mirror of the one below."""
    a, n = invert_upper(tally, lower.mT), len(lower)
    out = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i + 1):
            total = tally.sum([a[i][k] * a[j][k] for k in range(i, n)])
            out[i, j] = out[j, i] = total.value
    return out


# Householder reflectors


def reflector(column: Row) -> tuple[Scalar, Scalar, Row]:
    """β, τ and v without its leading 1, of the H that makes the column (β, 0, ...)."""
    alpha, rest, tally = column[0], column[1:], column[0].tally
    beta = tally.sum([x * x for x in column]).apply("sqrt")
    tally.note("comparisons")  # against cancellation, β has the other sign
    beta = Scalar(-math.copysign(beta.value, alpha.value), tally)
    tau = (beta - alpha) / beta
    factor = 1 / (alpha - beta)
    return beta, tau, [x * factor for x in rest]


def reflect_rows(a: Matrix, first: int, v: Row, tau: Scalar) -> None:
    """H·A from row `first` on; v begins with 1. w = vᵀ·A is summed up from zero."""
    for c in range(len(a[0]) if a else 0):
        w = tau.tally.scalar(0)
        for i, value in enumerate(v):
            w = w + value * a[first + i][c]
        w = tau * w
        for i, value in enumerate(v):
            a[first + i][c] = a[first + i][c] - value * w


def geqrf(tally: Tally, x: torch.Tensor) -> tuple[torch.Tensor, list[Scalar], list[Row]]:
    """R, and τ and v of each reflector."""
    a, (m, n) = matrix(tally, x), x.shape
    taus, vs = [], []
    for j in range(min(m, n)):
        beta, tau, rest = reflector([row[j] for row in a[j:]])
        v = [tally.scalar(1), *rest]
        right = columns(a, j + 1, n)
        reflect_rows(right, j, v, tau)
        for i, row in enumerate(right):
            a[i][j + 1 :] = row
        a[j][j] = beta
        taus.append(tau)
        vs.append(v)
    return tensor(a)[: min(m, n)].triu(), taus, vs


def noted_in(tally: Tally, taus: list[Scalar], vs: list[Row]) -> tuple[list[Scalar], list[Row]]:
    """The same reflectors, of which what is done to them from here on is told to a tally."""
    return (
        [tally.scalar(tau.value) for tau in taus],
        [[tally.scalar(x.value) for x in v] for v in vs],
    )


def form_q(tally: Tally, m: int, n: int, taus: list[Scalar], vs: list[Row]) -> torch.Tensor:
    """The first n columns of the reflectors' product, the last reflector first."""
    q = zeros(tally, m, n)
    for j in range(len(taus), n):
        q[j][j] = tally.scalar(1)
    for j in reversed(range(len(taus))):
        right = columns(q, j + 1, n)
        reflect_rows(right, j, vs[j], taus[j])
        for i, row in enumerate(right):
            q[i][j + 1 :] = row
        minus = Scalar(-taus[j].value, tally)
        for i, value in enumerate(vs[j][1:], start=j + 1):
            q[i][j] = value * minus
        q[j][j] = 1 - taus[j]
    return tensor(q)


def reflected(tally: Tally, x: torch.Tensor, first: int, v: Row, tau: Scalar) -> torch.Tensor:
    """One reflector on C, from row `first` on."""
    a = matrix(tally, x)
    reflect_rows(a, first, v, tau)
    return tensor(a)


def q_times(tally: Tally, x: torch.Tensor, taus: list[Scalar], vs: list[Row]) -> torch.Tensor:
    """Q·C."""
    a = matrix(tally, x)
    for j in reversed(range(len(taus))):
        reflect_rows(a, j, vs[j], taus[j])
    return tensor(a)


def times_q(tally: Tally, x: torch.Tensor, taus: list[Scalar], vs: list[Row]) -> torch.Tensor:
    """C·Q: of each row w = C·v, then C − w·(τ·v)."""
    a = matrix(tally, x)
    for j, (tau, v) in enumerate(zip(taus, vs)):
        scaled = [tau * value for value in v]
        for row in a:
            w = tally.scalar(0)
            for i, value in enumerate(v):
                w = w + row[j + i] * value
            for i, value in enumerate(scaled):
                row[j + i] = row[j + i] - w * value
    return tensor(a)


# Functions of a diagonal


def determinant(tally: Tally, x: torch.Tensor) -> float:
    """The product of U's diagonal, with the sign of the permutation."""
    factors, order = lu(tally, x)
    pivots = [tally.scalar(value) for value in factors.diagonal().tolist()]
    product = pivots[0]
    for pivot in pivots[1:]:
        product = product * pivot
    return product.value * torch.eye(len(x), dtype=torch.float64)[order].det().item()


def log_determinant(tally: Tally, x: torch.Tensor) -> tuple[float, float]:
    """Its sign and the logarithm of its magnitude."""
    factors, order = lu(tally, x)
    sign, logarithms = None, []
    for value in factors.diagonal().tolist():
        tally.note("comparisons")
        own = tally.scalar(math.copysign(1, value))
        sign = own if sign is None else sign * own
        size = tally.scalar(magnitude(tally.scalar(value)))
        logarithms.append(size.apply("log"))
    assert sign is not None
    parity = torch.eye(len(x), dtype=torch.float64)[order].det().item()
    return sign.value * parity, tally.sum(logarithms).value


# Products


def cross(tally: Tally, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of vectors of 3, a row each."""
    out = [
        [a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3] for i in range(3)]
        for a, b in zip(matrix(tally, x), matrix(tally, y))
    ]
    return tensor(out)
