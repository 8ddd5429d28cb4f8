"""Questions of random programs on known values: what a program may ask of its data."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from tests.known_steps import Operands, Steps


def held(x: Tensor) -> tuple[Any, ...]:
    """What a tensor on the CPU holds, which on the CPU may be another tensor of the program's."""
    assert x.device.type == "cpu"
    return x.shape, x.dtype, x.tolist()


def number(x: Tensor) -> Any:
    """A tensor where torch's types say that a number stands, which it reads of a tensor."""
    return x


def packed(o: Operands) -> Any:
    """A padded batch without its padding, and how many of each step there are."""
    lengths = o.ids().long().clamp(1)
    batch = torch.ones(len(lengths), 4, device=o.device).cumsum(0)
    data, sizes, *_ = pack_padded_sequence(batch, lengths.cpu(), True, enforce_sorted=False)
    return data, held(sizes)


def padded(o: Operands) -> Tensor:
    parts = torch.arange(int(o.ids().sum()), device=o.device).split(o.ids().tolist())
    return pad_sequence(parts, batch_first=True, padding_value=-1)


def branched(o: Operands) -> str:
    if (o.x > o.n).any():
        return "some" if not (o.x > o.n).all() else "all"
    return "none"


def iterated(o: Operands) -> list[Any]:
    return [row.sum().item() for row in o.x]


def counted(o: Operands) -> int:
    steps, x = 0, o.x.double().abs().sum()
    while x > 1 and steps < 9:
        x, steps = x / 2, steps + 1
    return steps


def routed(o: Operands) -> Tensor:
    """Each row goes to the expert of its number, which adds this number to it."""
    ids = o.ids()
    rows = torch.zeros(len(ids), 2, device=o.device)
    for expert in range(4):
        (chosen,) = torch.where(ids == expert)
        rows.index_add_(0, chosen, rows[chosen] + expert)
    return rows


def grown(o: Operands) -> Tensor:
    return torch.cat([torch.full((int(n), 2), i, device=o.device) for i, n in enumerate(o.ids())])


ASKED: Steps = {
    "item": lambda o: o.x.sum().item(),
    "bool": lambda o: bool(o.x.sum() > o.n),
    "int": lambda o: int(o.ids().sum()),
    "float": lambda o: float(o.x.double().sum()),
    "index of a tensor": lambda o: [7, 8, 9, 10][o.ids()[0]],
    "tolist": lambda o: o.x.tolist(),
    "cpu": lambda o: held(o.x.cpu()),
    "to cpu": lambda o: held(o.x.to("cpu", torch.float64)),
    "copy to cpu": lambda o: held(torch.zeros(o.x.shape, dtype=o.x.dtype).copy_(o.x)),
    "numpy": lambda o: o.x.double().cpu().numpy().sum().item(),
    "equal": lambda o: torch.equal(o.x, o.like(o.x)),
    "allclose": lambda o: torch.allclose(o.x, o.like(o.x)),
    "nonzero": lambda o: o.x.nonzero(),
    "nonzero as tuple": lambda o: o.x.nonzero(as_tuple=True),
    "argwhere": lambda o: torch.argwhere(o.x > o.n),
    "where": lambda o: torch.where(o.x > o.n),
    "masked select": lambda o: o.x.masked_select(o.x > o.n),
    "masked": lambda o: o.x[o.x > o.n],
    "masked rows": lambda o: o.x[(o.x > o.n).flatten(1).any(1)],
    "masked columns": lambda o: o.matrix()[:, o.matrix()[0] > o.n],
    "unique": lambda o: o.x.unique(),
    "unique, all of it": lambda o: o.x.unique(return_inverse=True, return_counts=True),
    "unique, inverse": lambda o: torch.unique(o.x, return_inverse=True),
    "unique rows": lambda o: o.x.unique(dim=0, return_counts=True),
    "unique columns": lambda o: o.matrix().unique(dim=1, return_inverse=True),
    "unique consecutive": lambda o: o.x.unique_consecutive(return_inverse=True),
    "unique consecutive rows": lambda o: o.x.unique_consecutive(dim=0, return_counts=True),
    "repeat interleave": lambda o: o.ids().repeat_interleave(o.ids()),
    "repeat interleave along": lambda o: o.x.repeat_interleave(o.x.new_ones(len(o.x)).long(), 0),
    "interleaved ranks": lambda o: torch.repeat_interleave(o.ids()),
    "bincount": lambda o: o.ids().bincount(),
    "bincount of weights": lambda o: o.ids().bincount(o.ids() / 2, minlength=o.n),
    "tensor split": lambda o: o.x.tensor_split(o.ids().sort().values.tolist()),
    "split": lambda o: o.x.split([int(o.x.new_tensor(len(o.x))), 0]),
    "in": lambda o: o.n in o.x,
    "range": lambda o: list(range(int(o.ids().max()))),
    "sliced": lambda o: o.x[o.ids()[0] : o.ids()[-1]],
    "selected": lambda o: o.x[o.ids()[0] % len(o.x)],
    "text": lambda o: f"{o.x.sum()} {o.x.double().sum():.3f}",
    "rows": iterated,
    "max": lambda o: o.x.max().item(),
    "branch": branched,
    "loop": counted,
    "packed": packed,
    "padded": padded,
    "routed": routed,
    "grown": grown,
    "arange of a tensor": lambda o: torch.arange(number(o.ids().max()), device=o.device),
    "sizes of tensors": lambda o: torch.zeros(number(o.ids()[0]), 2, device=o.device),
    "full of a tensor": lambda o: torch.full((2,), number(o.x.sum()), device=o.device),
    "one hot": lambda o: F.one_hot(o.ids().long()),
    "is nonzero": lambda o: torch.is_nonzero(o.x.sum()),
    "combinations": lambda o: torch.combinations(o.ids()),
    "count nonzero": lambda o: int(o.x.count_nonzero()),
    "histogram": lambda o: torch.histc(o.x.double(), 4, 0, 4).tolist(),
    "put, masked": lambda o: o.x.clone().masked_scatter_(o.x > 1, o.x[o.x > 1] + 1),
    "tensor of tensors": lambda o: torch.tensor([o.x.sum(), 1]).tolist(),
}
