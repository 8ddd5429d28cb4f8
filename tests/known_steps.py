"""Steps of random programs on known values: the same code runs on meta and on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor

NUMBERS = (1, 2.0, True, 0, -1, 3, 0.5, -0.0, float("inf"), 7)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8)


def start() -> list[Tensor]:
    """The real tensors that a program is given: none shares its memory with another."""
    counting = torch.arange
    return [
        counting(12).reshape(3, 4),
        counting(12.0).reshape(4, 3).t(),
        counting(24).reshape(4, 6)[1:, ::2],
        counting(10, dtype=torch.int32)[4:8],
        counting(3).expand(2, 3),
        counting(9).reshape(3, 3) % 2 == 0,
        torch.tensor([True, False, True, True]),
        torch.tensor([2, 0, 2, 1]),
        torch.tensor([3, 2, 2, 1]),
        torch.tensor(2),
        torch.tensor(1.5, dtype=torch.float64),
        torch.tensor(True),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, 4),
        torch.tensor([[1.5, -2.0, 0.25], [0.0, 4.0, -2.0]]),
        torch.tensor([[[1, 1], [2, 3]], [[1, 1], [0, 3]]], dtype=torch.uint8),
    ]


class Operands(NamedTuple):
    """What a step is given: tensors that it picks by number, and plain values.

    `x`, `y` and `z` are any tensors, `n` is a small integer, `number` a scalar, `dtype` a dtype.
    `draw` gives data of a shape, which nothing is known of on meta.
    """

    pool: list[Tensor]
    x: Tensor
    y: Tensor
    z: Tensor
    n: int
    number: Any
    dtype: torch.dtype
    device: str
    draw: Callable[..., Tensor]

    def one(self, fits: Callable[[Tensor], bool]) -> Tensor:
        """A tensor that fits, the n-th from the end."""
        found = [tensor for tensor in reversed(self.pool) if fits(tensor)]
        return found[self.n % len(found)]

    def like(self, x: Tensor) -> Tensor:
        """A tensor of the same shape."""
        return self.one(lambda other: other.shape == x.shape)

    def mask(self) -> Tensor:
        """A mask of some shape."""
        return self.one(lambda x: x.dtype is torch.bool)

    def masked(self) -> tuple[Tensor, Tensor]:
        """A tensor and a mask of its shape."""
        return self.x, self.x > self.n

    def ids(self) -> Tensor:
        """Whole numbers from 0 to 3, some in a row."""
        return self.one(whole) % 4

    def matrix(self) -> Tensor:
        """A tensor of two dimensions, none of which is empty."""
        return self.one(lambda x: x.dim() == 2 and x.numel() > 0)

    def floats(self) -> Tensor:
        """A tensor of floating-point numbers."""
        return self.one(lambda x: x.is_floating_point())


def whole(x: Tensor) -> bool:
    return x.dim() == 1 and not x.is_floating_point() and x.dtype is not torch.bool


def filled(x: Tensor, n: Any) -> Tensor:
    x[...] = n
    return x


def assigned(x: Tensor, index: Any, value: Any) -> Tensor:
    x[index] = value
    return x


def doubled_parts(o: Operands) -> None:
    for part in o.x.chunk(2):
        part.mul_(2)


def masked_plus_one(o: Operands) -> None:
    x, mask = o.masked()
    x[mask] = x[mask] + 1


def churned(o: Operands) -> Tensor:
    total = o.x.new_zeros(())
    for i in range(5):
        total = total + torch.full((i + 1,), i, device=o.device).sum().to(total.dtype)
    return total


def left_behind(o: Operands) -> Tensor:
    """A copy on the device of what is then written to where it came from."""
    origin = torch.arange(o.n + 1)
    copy = origin.to(o.device, copy=True)
    origin.add_(1)
    return copy


def exchanged(o: Operands) -> Tensor:
    x, data = o.x.clone(), o.like(o.x).to(o.x.dtype)
    if x.is_inference() != data.is_inference():  # torch refuses these on meta
        data = data.clone()
    x.data = data
    return x


def moved(o: Operands) -> Tensor:
    x = o.x.clone()
    source: Any = o.one(lambda y: y.dtype is x.dtype)
    x.set_(source)
    return x


def resized(o: Operands) -> Tensor:
    x = o.x.clone()
    before = x.numel()
    x.resize_(o.n + 1, 2)
    if before < x.numel():
        x.view(-1)[before:] = o.draw(x.numel() - before)
    return x


def overwritten(o: Operands, value: Tensor) -> None:
    o.x[o.n % max(len(o.x), 1)] = value


def in_double(o: Operands) -> Tensor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return o.x / 3
    finally:
        torch.set_default_dtype(before)


Steps = dict[str, Callable[[Operands], Any]]

MADE: Steps = {
    "arange": lambda o: torch.arange(o.n, device=o.device),
    "arange step": lambda o: torch.arange(7, o.n, -0.5, device=o.device),
    "zeros": lambda o: torch.zeros(3, o.n, device=o.device, dtype=o.dtype),
    "ones": lambda o: torch.ones(o.n, device=o.device),
    "full": lambda o: torch.full((o.n, 2), o.number, device=o.device),
    "eye": lambda o: torch.eye(3, o.n, device=o.device),
    "tril indices": lambda o: torch.tril_indices(3, o.n, device=o.device),
    "linspace": lambda o: torch.linspace(0, 1, o.n, device=o.device),
    "zeros like": lambda o: torch.zeros_like(o.x, dtype=o.dtype),
    "ones like": lambda o: torch.ones_like(o.x),
    "full like": lambda o: torch.full_like(o.x, o.n),
    "new zeros": lambda o: o.x.new_zeros(o.n, 2),
    "new ones": lambda o: o.x.new_ones(3, dtype=o.dtype),
    "new full": lambda o: o.x.new_full((o.n,), 1),
    "tensor": lambda o: torch.tensor([[o.n, 1], [2, 0]], device=o.device),
    "tensor of a number": lambda o: torch.tensor(o.number, device=o.device),
    "as tensor": lambda o: torch.as_tensor([0.5, o.n], dtype=o.dtype, device=o.device),
    "asarray": lambda o: torch.asarray([o.n, 2], device=o.device),
    "new tensor": lambda o: o.x.new_tensor([o.n, 1, 2]),
    "scalar tensor": lambda o: torch.scalar_tensor(o.number, device=o.device),
    "empty, filled": lambda o: torch.empty(3, o.n, device=o.device).fill_(o.n),
    "empty, zero": lambda o: torch.empty_like(o.x).zero_(),
    "empty, assigned": lambda o: filled(o.x.new_empty(o.n), o.n),
    "tensor of tensors": lambda o: torch.tensor([o.x.sum(), o.n], device=o.device),
    "copy of a tensor": lambda o: torch.asarray(o.x, copy=True),
    "to meta and back": lambda o: torch.arange(9)[o.n :: 2].clone().to(o.device),
    "left behind": left_behind,
    "of a tensor": lambda o: torch.full((2,), 1, device=o.device) * o.x.sum(),
    "churn": churned,
}
VIEWS: Steps = {
    "t": lambda o: o.one(lambda x: x.dim() == 2).t(),
    "transpose": lambda o: o.x.transpose(0, -1),
    "slice": lambda o: o.x[o.n % 3 :],
    "step": lambda o: o.x[:: o.n + 1],
    "select": lambda o: o.x[o.n % max(len(o.x), 1)],
    "last": lambda o: o.x[..., -1],
    "view": lambda o: o.x.view(-1),
    "view dtype": lambda o: o.one(lambda x: x.dtype is torch.float32).view(torch.int32),
    "reshape": lambda o: o.x.reshape(-1),
    "unsafe view": lambda o: torch.ops.aten._unsafe_view(o.x, (o.x.numel(),)),
    "expand": lambda o: o.x.expand(2, *o.x.shape),
    "unsqueeze": lambda o: o.x.unsqueeze(o.n % 2),
    "squeeze": lambda o: o.x.squeeze(),
    "diagonal": lambda o: o.matrix().diagonal(o.n % 2),
    "as strided": lambda o: o.x.contiguous().as_strided((2, 2), (o.n % 3, 1)),
    "unfold": lambda o: o.x.unfold(0, 2, 1),
    "chunk": lambda o: o.x.chunk(2),
    "unbind": lambda o: o.x.unbind(-1),
    "movedim": lambda o: o.x.movedim(0, -1),
    "detach": lambda o: o.x.detach(),
    "data": lambda o: o.x.data,
    "contiguous": lambda o: o.x.contiguous(),
    "same dtype": lambda o: o.x.to(o.x.dtype),
    "set_": moved,
    "exchanged data": exchanged,
}
IN_PLACE: Steps = {
    "add_": lambda o: o.x.add_(o.like(o.x)),
    "add_ itself": lambda o: o.x.add_(o.x),
    "mul_": lambda o: o.x.mul_(o.n),
    "sub_ through data": lambda o: o.x.data.sub_(1),
    "zero_": lambda o: o.x.zero_(),
    "fill_": lambda o: o.x.fill_(o.number),
    "fill_ of its own": lambda o: o.x.fill_(o.x.flatten()[-1]),
    "copy_": lambda o: o.x.copy_(o.like(o.x)),
    "copy_ itself": lambda o: o.x.copy_(o.x),
    "copy_ backwards": lambda o: o.x.copy_(o.x.flip(0)),
    "shifted copy_": lambda o: o.x[1:].copy_(o.x[:-1].clone()),
    "masked_fill_": lambda o: o.x.masked_fill_(o.x > 1, o.n),
    "clamp_": lambda o: o.x.clamp_(0, o.n),
    "cumsum_": lambda o: o.x.cumsum_(0),
    "t_": lambda o: o.x.clone().t_().add_(1),
    "squeeze_": lambda o: o.x.clone().squeeze_(),
    "abs_": lambda o: o.x.abs_(),
    "diagonal fill_": lambda o: o.matrix().diagonal().fill_(o.n),
    "fill diagonal": lambda o: o.matrix().fill_diagonal_(o.n),
    "scatter_": lambda o: o.matrix().scatter_(0, o.matrix().new_zeros(1, 2).long(), o.n),
    "index_fill_": lambda o: o.x.index_fill_(0, o.ids() % max(len(o.x), 1), 1),
    "index_add_": lambda o: o.x.index_add_(0, o.ids()[:1] % len(o.x), o.x[:1].clone()),
    "masked_scatter_": lambda o: o.x.masked_scatter_(o.x > 0, o.like(o.x).to(o.x.dtype)),
    "assign": lambda o: assigned(o.x, o.n % max(len(o.x), 1), o.number),
    "assign by tensor": lambda o: assigned(o.x, o.ids() % max(len(o.x), 1), o.n),
    "assign by mask": lambda o: assigned(o.x, o.x > o.n, o.number),
    "masked, plus one": masked_plus_one,
    "double its parts": doubled_parts,
    "foreach": lambda o: torch._foreach_add_([o.x, o.like(o.x)], 1),
    "logical_not_": lambda o: o.mask().logical_not_(),
}
FUNCTIONAL: Steps = {
    "add": lambda o: o.x + o.like(o.x),
    "add any": lambda o: o.x + o.y,
    "add number": lambda o: o.x + o.number,
    "number minus": lambda o: o.n - o.x,
    "mul": lambda o: o.x * o.n,
    "divide": lambda o: o.x / 3,
    "divide in double": in_double,
    "floor": lambda o: o.x // 2,
    "remainder": lambda o: o.x % 3,
    "compare": lambda o: o.x > o.n,
    "equals": lambda o: o.x == o.like(o.x),
    "where": lambda o: torch.where(o.x > 1, o.x, o.like(o.x)),
    "where number": lambda o: torch.where(o.x > 1, o.x, o.number),
    "not": lambda o: ~o.mask(),
    "sum": lambda o: o.x.sum(),
    "sum along": lambda o: o.x.sum(0, dtype=torch.float64),
    "max": lambda o: o.x.max(0),
    "argmax": lambda o: o.x.argmax(-1),
    "cumsum": lambda o: o.x.cumsum(-1),
    "cat": lambda o: torch.cat([o.x, o.like(o.x), o.x]),
    "stack": lambda o: torch.stack([o.x, o.like(o.x)], -1),
    "sort": lambda o: o.x.sort(stable=True, dim=0),
    "argsort": lambda o: o.x.argsort(stable=True),
    "topk": lambda o: o.x.topk(o.n % 3, 0),
    "one hot": lambda o: F.one_hot(o.ids().long(), 5),
    "index": lambda o: o.x[o.ids() % max(len(o.x), 1)],
    "gather": lambda o: o.matrix().gather(1, o.matrix().argsort(stable=True)),
    "scatter": lambda o: o.matrix().scatter(1, o.matrix().argsort(stable=True), o.matrix()),
    "masked fill": lambda o: o.x.masked_fill(o.x > o.n, o.number),
    "to": lambda o: o.x.to(torch.float64).nan_to_num().clamp(-99, 99).to(o.dtype),
    "to bool": lambda o: o.x.bool(),
    "clone": lambda o: o.x.clone(),
    "flip": lambda o: o.x.flip(0),
    "roll": lambda o: o.x.roll(o.n, 0),
    "repeat": lambda o: o.x.repeat(2, *[1] * o.x.dim()),
    "tril": lambda o: o.matrix().tril(o.n - 2),
    "isin": lambda o: torch.isin(o.x, o.ids()),
    "searchsorted": lambda o: torch.searchsorted(o.ids().sort().values, o.x),
    "product": lambda o: o.matrix() @ o.matrix().t(),
    "any": lambda o: o.x.any(-1),
    "all": lambda o: (o.x >= 0).all(),
    "index select": lambda o: o.x.index_select(0, o.ids().long() % max(len(o.x), 1)),
    "pad": lambda o: F.pad(o.x, (1, o.n)),
    "meshgrid": lambda o: torch.meshgrid(o.ids(), o.ids(), indexing="ij"),
    "vmap": lambda o: torch.vmap(lambda row: row.cumsum(0) + 1)(o.matrix()),
    "no grad": torch.no_grad()(lambda o: o.x * 2),
    "inference": torch.inference_mode()(lambda o: o.x * 2),
}
OUT: Steps = {
    "add out": lambda o: torch.add(o.x, o.like(o.x), out=o.like(o.x)),
    "mul out itself": lambda o: torch.mul(o.x, 2, out=o.x),
    "add out shifted": lambda o: torch.add(o.x[1:].clone(), 1, out=o.x[:-1]),
    "cat out": lambda o: torch.cat([o.x, o.x], out=o.x.new_zeros(2)),
    "arange out": lambda o: torch.arange(o.n, out=torch.zeros(o.n, device=o.device)),
    "sort out": lambda o: torch.sort(
        o.x.flatten(), out=(o.x.new_ones(o.x.numel()), o.x.new_zeros(o.x.numel()).long())
    ),
    "eq out": lambda o: torch.eq(o.x, o.n, out=o.x.new_ones(o.x.shape, dtype=torch.bool)),
    "where out": lambda o: torch.where(o.x > 1, o.x, o.x + 1, out=o.x),
}
# What is in brackets is known from Python 3.11 on: see capture/brackets.py.
LISTS: Steps = {
    "index of columns": lambda o: o.x[:, [0, -1]],
    "index by a list": lambda o: o.x[[0, -1]],
    "index by truths": lambda o: o.one(lambda x: x.shape[:1] == (3,))[[True, False, True]],
    "index by lists": lambda o: o.matrix()[[0, 1], [1, 0]],
    "index by a nested list": lambda o: o.matrix()[:, [[0, 1], [1, 0]]],
    "assign to a list": lambda o: assigned(o.x, [0, -1], o.n),
    "assign to columns": lambda o: assigned(o.x, (slice(None), [0, 1]), o.n),
}
# Of what these give or write to, nothing is known on meta.
DATA: Steps = {
    "draw": lambda o: o.draw(3, 4),
    "draw whole numbers": lambda o: (o.draw(4) * 4).long(),
    "draw truths": lambda o: o.draw(3, 4) > 0.5,
    "add data": lambda o: o.x + o.draw(*o.x.shape),
    "where data": lambda o: torch.where(o.x > 1, o.draw(*o.x.shape).to(o.x.dtype), o.x),
    "cat data": lambda o: torch.cat([o.x, o.draw(*o.x.shape).to(o.x.dtype)]),
    "add_ data": lambda o: o.x.add_((o.draw(*o.x.shape) * 9).to(o.x.dtype)),
    "copy_ data": lambda o: o.x.copy_(o.draw(*o.x.shape) * 9),
    "assign data": lambda o: overwritten(o, o.draw() * 9),
    "assign by data": lambda o: assigned(o.x, (o.draw() * len(o.x)).long()[None], 5),
    "assign by a mask of data": lambda o: assigned(o.x, o.draw(*o.x.shape) > 0.5, 5),
    "masked_fill_ by data": lambda o: o.x.masked_fill_(o.draw(*o.x.shape) > 0.5, 5),
    "add out data": lambda o: torch.add(o.x, o.draw(*o.x.shape), out=o.like(o.x)),
    "data through data": lambda o: o.x.data.add_((o.draw(*o.x.shape) * 9).to(o.x.dtype)),
    "foreach data": lambda o: torch._foreach_copy_([o.x], [o.draw(*o.x.shape) * 9]),
    "resize_": resized,
}
