"""Naive loops of convolution: every output position, every tap, over a padded input.

Letters: n batch, c channels in, f filters (channels out), g groups; a *position* is a tuple of
indices, one for each spatial dimension, a *tap* a position in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from tests.oracles import Scalar, Tally, tensor_of

Position = tuple[int, ...]
Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Window:
    """How a kernel lies on a tensor: one number for each spatial dimension."""

    stride: Position
    padding: Position
    dilation: Position

    def touched(self, position: Position, tap: Position) -> Position:
        """Where, on the side that has the padding, `tap` lies when the kernel is at `position`."""
        return tuple(
            p * s + t * d - q
            for p, s, t, d, q in zip(position, self.stride, tap, self.dilation, self.padding)
        )


def positions(shape: tuple[int, ...]) -> Iterator[Position]:
    return product(*(range(size) for size in shape))


def at(*index: int) -> Position:
    """One index from its parts; Python 3.10 has no `weight[f, c, *tap]`."""
    return index


def convolution(
    tally: Tally,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    window: Window,
    groups: int,
    out_shape: tuple[int, ...],
) -> torch.Tensor:
    """Each output is the weighted sum of the input under the kernel; padding reads a zero."""
    data, weight, zero = tally.scalars(x), tally.scalars(w), tally.scalar(0.0)
    taken, per_group = w.shape[1], w.shape[0] // groups
    out = {}
    for n, f in product(range(x.shape[0]), range(w.shape[0])):
        first = (f // per_group) * taken
        for position in positions(out_shape):
            terms = (
                (
                    data.get((n, first + c, *window.touched(position, tap)), zero),
                    weight[at(f, c, *tap)],
                )
                for c in range(taken)
                for tap in positions(tuple(w.shape[2:]))
            )
            total = tally.weighted_sum(terms)
            out[at(n, f, *position)] = total if bias is None else total + bias[f].item()
    return tensor_of(out, (x.shape[0], w.shape[0], *out_shape))


def transposed(
    tally: Tally,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    window: Window,
    groups: int,
    out_shape: tuple[int, ...],
) -> torch.Tensor:
    """Each input is spread over the outputs under the kernel; what falls on padding is cut off."""
    data, weight = tally.scalars(x), tally.scalars(w)
    given, per_group = w.shape[1], x.shape[1] // groups
    shape = (x.shape[0], given * groups, *out_shape)
    sums: dict[Position, list[tuple[Scalar, Scalar]]] = {}
    for (n, c, *position), value in data.items():
        first = (c // per_group) * given
        for f in range(given):
            for tap in positions(tuple(w.shape[2:])):
                target = (n, first + f, *window.touched(tuple(position), tap))
                sums.setdefault(target, []).append((value, weight[at(c, f, *tap)]))
    reached = {target: tally.weighted_sum(terms) for target, terms in sums.items()}
    zero = tally.scalar(0.0)
    out = {index: reached.get(index, zero) for index in positions(shape)}
    if bias is not None:
        out = {index: value + bias[index[1]].item() for index, value in out.items()}
    return tensor_of(out, shape)


def backward(
    tally: Tally,
    grad: torch.Tensor,
    x: torch.Tensor,
    w: torch.Tensor,
    window: Window,
    groups: int,
    mask: tuple[bool, bool, bool],
) -> Gradients:
    """Gradients of a convolution: each product of the forward, seen from its two factors.

    The input's gradient gathers grad·weight over the kernel positions that read it, padding
    included (and cut off); a weight's gathers grad·input over all outputs that used it.
    """
    g, data, weight = tally.scalars(grad), tally.scalars(x), tally.scalars(w)
    zero = tally.scalar(0.0)
    taken, per_group = w.shape[1], w.shape[0] // groups
    to_input: dict[Position, list[tuple[Scalar, Scalar]]] = {}
    to_weight: dict[Position, list[tuple[Scalar, Scalar]]] = {}
    for (n, f, *position), slope in g.items():
        first = (f // per_group) * taken
        for c in range(taken):
            for tap in positions(tuple(w.shape[2:])):
                read = (n, first + c, *window.touched(tuple(position), tap))
                used = (f, c, *tap)
                to_input.setdefault(read, []).append((slope, weight[used]))
                to_weight.setdefault(used, []).append((slope, data.get(read, zero)))
    return _gathered(tally, (to_input, to_weight), g, (x, w), w.shape[0], mask)


def transposed_backward(
    tally: Tally,
    grad: torch.Tensor,
    x: torch.Tensor,
    w: torch.Tensor,
    window: Window,
    groups: int,
    mask: tuple[bool, bool, bool],
) -> Gradients:
    """Gradients of a transposed convolution: the same, over the inputs and where they went."""
    g, data, weight = tally.scalars(grad), tally.scalars(x), tally.scalars(w)
    zero = tally.scalar(0.0)
    given, per_group = w.shape[1], x.shape[1] // groups
    to_input: dict[Position, list[tuple[Scalar, Scalar]]] = {}
    to_weight: dict[Position, list[tuple[Scalar, Scalar]]] = {}
    for (n, c, *position), value in data.items():
        first = (c // per_group) * given
        for f in range(given):
            for tap in positions(tuple(w.shape[2:])):
                slope = g.get((n, first + f, *window.touched(tuple(position), tap)), zero)
                used = (c, f, *tap)
                to_input.setdefault((n, c, *position), []).append((slope, weight[used]))
                to_weight.setdefault(used, []).append((slope, value))
    return _gathered(tally, (to_input, to_weight), g, (x, w), given * groups, mask)


def _gathered(
    tally: Tally,
    terms: tuple[dict[Position, list[tuple[Scalar, Scalar]]], ...],
    grad: dict[Position, Scalar],
    operands: tuple[torch.Tensor, torch.Tensor],
    filters: int,
    mask: tuple[bool, bool, bool],
) -> Gradients:
    """The sums that `mask` asks for, and the bias's: each channel of grad summed."""
    found = []
    for asked, sums, operand in zip(mask, terms, operands):
        shape = tuple(operand.shape)
        reached = (
            {where: tally.weighted_sum(pairs) for where, pairs in sums.items()} if asked else {}
        )
        inside = {where: value for where, value in reached.items() if _within(where, shape)}
        found.append(tensor_of(inside, shape))
    bias = {
        (f,): tally.sum(value for where, value in grad.items() if where[1] == f)
        for f in (range(filters) if mask[2] else ())
    }
    return found[0], found[1], tensor_of(bias, (filters,))


def _within(index: Position, shape: tuple[int, ...]) -> bool:
    return all(0 <= i < size for i, size in zip(index, shape))


def over_time(
    tally: Tally, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, pad: int
) -> torch.Tensor:
    """(time, batch, c) by (taps, c, f): conv_tbc."""
    (time, batch, channels), (taps, _, filters) = x.shape, w.shape
    data, weight, zero = tally.scalars(x), tally.scalars(w), tally.scalar(0.0)
    length = time + 2 * pad - taps + 1
    out = {
        (t, n, f): tally.weighted_sum(
            (data.get((t + tap - pad, n, c), zero), weight[tap, c, f])
            for tap in range(taps)
            for c in range(channels)
        )
        + bias[f].item()
        for t, n, f in product(range(length), range(batch), range(filters))
    }
    return tensor_of(out, (length, batch, filters))
