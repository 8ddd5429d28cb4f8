"""Recurrent layers as loops over steps, batch and units, forward and back through time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.oracles import Scalar, Tally

Vector = list[Scalar]
Matrix = list[Vector]
Sequences = list[Matrix]  # by step, batch, feature

RELU, TANH, LSTM, GRU = range(4)


def nested(tally: Tally, tensor: torch.Tensor) -> Any:
    """A tensor as nested lists of Scalars."""
    if tensor.ndim == 0:
        return tally.scalar(tensor.item())
    return [nested(tally, part) for part in tensor]


def values(lists: Any) -> torch.Tensor:
    """Nested lists of Scalars as a tensor."""

    def plain(item: Any) -> Any:
        return [plain(part) for part in item] if isinstance(item, list) else item.value

    return torch.tensor(plain(lists), dtype=torch.float64)


def times(tally: Tally, w: Matrix, x: Vector) -> Vector:
    """w @ x."""
    return [tally.weighted_sum(zip(row, x)) for row in w]


def transposed(w: Matrix) -> Matrix:
    return [list(column) for column in zip(*w)]


def plus(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b)]


def sigmoid(x: Scalar) -> Scalar:
    return 1.0 / ((-x).apply("exp") + 1.0)


def sigmoid_back(g: Scalar, y: Scalar) -> Scalar:
    return g * (1.0 - y) * y


def tanh_back(g: Scalar, y: Scalar) -> Scalar:
    return g * (1.0 - y * y)


def parts(vector: Vector, hidden: int) -> list[Vector]:
    """The gates' vectors, one after the other."""
    return [vector[at : at + hidden] for at in range(0, len(vector), hidden)]


def cell(mode: int, a: Vector, b: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector, Any]:
    """(h', c', what the way back needs), from the products with x and with h."""
    if mode == RELU:
        out = [(x + y).at_least(0.0) for x, y in zip(a, b)]
        return out, c, out
    if mode == TANH:
        out = [(x + y).apply("tanh") for x, y in zip(a, b)]
        return out, c, out
    if mode == LSTM:
        i, f, n, o = parts(plus(a, b), len(c))
        i, f, o = ([sigmoid(x) for x in gate] for gate in (i, f, o))
        n = [x.apply("tanh") for x in n]
        state = [f[k] * c[k] + i[k] * n[k] for k in range(len(c))]
        bent = [x.apply("tanh") for x in state]
        return [o[k] * bent[k] for k in range(len(c))], state, (i, f, n, o, c, bent)
    (ar, az, an), (br, bz, bn) = parts(a, len(h)), parts(b, len(h))
    r = [sigmoid(x + y) for x, y in zip(ar, br)]
    z = [sigmoid(x + y) for x, y in zip(az, bz)]
    n = [(an[k] + r[k] * bn[k]).apply("tanh") for k in range(len(h))]
    gap = [h[k] - n[k] for k in range(len(h))]
    return [gap[k] * z[k] + n[k] for k in range(len(h))], c, (r, z, n, bn, gap)


def cell_back(mode: int, kept: Any, dh: Vector, dc: Vector) -> tuple[Vector, Vector, Vector, Any]:
    """Gradients (of the product with x, of that with h, of c, of h apart from the product)."""
    units = range(len(dh))
    if mode == RELU:
        da = []
        for k in units:
            dh[k].tally.note("comparisons")
            da.append(dh[k] if kept[k].value > 0 else dh[k].tally.scalar(0.0))
        return da, da, dc, None
    if mode == TANH:
        da = [tanh_back(dh[k], kept[k]) for k in units]
        return da, da, dc, None
    if mode == LSTM:
        i, f, n, o, c, bent = kept
        do = [sigmoid_back(dh[k] * bent[k], o[k]) for k in units]
        state = [tanh_back(dh[k] * o[k], bent[k]) + dc[k] for k in units]
        di = [sigmoid_back(state[k] * n[k], i[k]) for k in units]
        df = [sigmoid_back(state[k] * c[k], f[k]) for k in units]
        dn = [tanh_back(state[k] * i[k], n[k]) for k in units]
        da = [*di, *df, *dn, *do]
        return da, da, [state[k] * f[k] for k in units], None
    r, z, n, bn, gap = kept
    dz = [sigmoid_back(dh[k] * gap[k], z[k]) for k in units]
    through = [dh[k] * z[k] for k in units]
    dn = [tanh_back(dh[k] - through[k], n[k]) for k in units]
    dr = [sigmoid_back(dn[k] * bn[k], r[k]) for k in units]
    return [*dr, *dz, *dn], [*dr, *dz, *(dn[k] * r[k] for k in units)], dc, through


@dataclass
class Direction:
    """One layer in one direction: its parameters, and what its forward leaves behind.

    `weights` are (g·h, i), (g·h, h), then both biases or none, then a projection or none.
    """

    mode: int
    weights: Sequence[Any]
    reverse: bool
    h: Matrix
    c: Matrix
    x: Sequences = field(default_factory=list)
    kept: dict[tuple[int, int], Any] = field(default_factory=dict)

    @property
    def projection(self) -> Matrix | None:
        return self.weights[-1] if len(self.weights) % 2 else None

    @property
    def biases(self) -> Sequence[Vector]:
        return self.weights[2:4] if len(self.weights) >= 4 else ()

    def steps(self) -> list[int]:
        order = list(range(len(self.x)))
        return order[::-1] if self.reverse else order

    def forward(self, tally: Tally, x: Sequences) -> Sequences:
        self.x = x
        out: dict[int, Matrix] = {}
        for t in self.steps():
            out[t] = []
            for k, row in enumerate(x[t]):
                before = self.h[k]
                a = times(tally, self.weights[0], row)
                b = times(tally, self.weights[1], before)
                if self.biases:
                    a, b = plus(a, self.biases[0]), plus(b, self.biases[1])
                h, self.c[k], kept = cell(self.mode, a, b, before, self.c[k])
                whole = h
                if self.projection is not None:
                    h = times(tally, self.projection, h)
                self.h[k] = h
                self.kept[t, k] = (kept, before, whole)
                out[t].append(h)
        return [out[t] for t in range(len(x))]

    def backward(self, tally: Tally, grad: Sequences) -> tuple[Sequences, list[Any]]:
        """Gradients of the input and of each weight; every zero is added like any other."""
        w, u = transposed(self.weights[0]), transposed(self.weights[1])
        projection = self.projection
        batch, hidden = len(self.x[0]), len(self.c[0])
        dh = [[tally.scalar(0.0) for _ in self.h[0]] for _ in range(batch)]
        dc = [[tally.scalar(0.0) for _ in range(hidden)] for _ in range(batch)]
        dx: dict[int, Matrix] = {}
        rows: list[tuple[Vector, Vector, Vector, Vector, Vector, Vector]] = []
        for t in reversed(self.steps()):
            dx[t] = []
            for k in range(batch):
                kept, before, whole = self.kept[t, k]
                total = plus(grad[t][k], dh[k])
                inner = total if projection is None else times(tally, transposed(projection), total)
                da, db, dc[k], through = cell_back(self.mode, kept, inner, dc[k])
                dh[k] = times(tally, u, db)
                if through is not None:
                    dh[k] = plus(dh[k], through)
                dx[t].append(times(tally, w, da))
                rows.append((da, self.x[t][k], db, before, total, whole))

        def outer(left: int, right: int) -> Matrix:
            return [
                [
                    tally.weighted_sum((row[left][i], row[right][j]) for row in rows)
                    for j in range(len(rows[0][right]))
                ]
                for i in range(len(rows[0][left]))
            ]

        gradients: list[Any] = [outer(0, 1), outer(2, 3)]
        if self.biases:
            for which in (0, 2):
                size = len(rows[0][which])
                gradients.append([tally.sum(row[which][i] for row in rows) for i in range(size)])
        if projection is not None:
            gradients.append(outer(4, 5))
        return [dx[t] for t in range(len(self.x))], gradients


def forward(tally: Tally, layers: list[list[Direction]], x: Sequences) -> Sequences:
    """All layers; the directions' outputs stand side by side."""
    for directions in layers:
        outs = [direction.forward(tally, x) for direction in directions]
        x = [
            [[unit for out in outs for unit in out[t][k]] for k in range(len(x[0]))]
            for t in range(len(x))
        ]
    return x


def backward(
    tally: Tally, layers: list[list[Direction]], grad: Sequences
) -> tuple[Sequences, list[Any]]:
    """Gradients of the input and of all weights, first layer first."""
    found: list[Any] = []
    for directions in reversed(layers):
        width = len(directions[0].h[0])
        ways = [
            direction.backward(
                tally, [[row[at * width :][:width] for row in step] for step in grad]
            )
            for at, direction in enumerate(directions)
        ]
        found = [gradient for _, gradients in ways for gradient in gradients] + found
        grad = ways[0][0]
        for other, _ in ways[1:]:
            grad = [[plus(a, b) for a, b in zip(*pair)] for pair in zip(grad, other)]
    return grad, found
