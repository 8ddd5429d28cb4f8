"""Random programs on meta: the fast path changes nothing observable after any of their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flopdispatch.capture.meta import clear_cache
from tests.observed import Observation, Program, lasting_differences, observe

ROUNDS = 2  # of a program in one counter: the second finds what the first has left
VARIANTS = 2  # of each step in each mode, each with other operands
RECENT = 10  # tensors made by a program's own steps that later ones can take

NUMBERS = (1, 1.0, True, 0, -1, 2, 0.5, -0.0, 2j, float("nan"), float("inf"), 1 << 40)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64)


def start() -> list[Tensor]:
    """The tensors that a program begins with."""
    empty = partial(torch.empty, device="meta")
    images = empty(2, 4, 4, 4)
    wide = empty(6, 8)
    made = [
        empty(4, 4),
        empty(4, 4, requires_grad=True),
        nn.Parameter(empty(4, 4)),
        images,
        images.contiguous(memory_format=torch.channels_last),
        empty(2, 4, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_(),
        empty(4, 4, dtype=torch.float64),
        empty(4, 4, dtype=torch.bfloat16, requires_grad=True),
        empty(4, 4, dtype=torch.int64),
        empty(4, 4, dtype=torch.bool),
        empty(4, 4, dtype=torch.complex64),
        empty(4, 4, dtype=torch.complex64).conj(),
        torch._neg_view(empty(4, 4)),
        empty(()),
        empty((), dtype=torch.float64),
        empty((), dtype=torch.int64),
        torch.ones(()),
        empty(0),
        empty(0, 4, requires_grad=True),
        empty(4, 1).expand(4, 4),
        wide[1:5, 2:6],
        wide[:4, 4:],
        wide.t()[:4],
        empty(10)[2:6],
        empty(16),
    ]
    with torch.inference_mode():
        made.append(empty(4, 4))
    return made


Pick = Callable[[int], Tensor]


class Operands(NamedTuple):
    """What a step is given: tensors that it picks by number, and plain values.

    `x`, `y` and `z` are any tensors, `n` is a small integer, `number` a scalar, `dtype` a dtype.
    """

    pool: list[Tensor]
    x: Tensor
    y: Tensor
    z: Tensor
    n: int
    number: Any
    dtype: torch.dtype

    def one(self, fits: Callable[[Tensor], bool]) -> Tensor:
        """A tensor that fits, the n-th from the end."""
        found = [tensor for tensor in reversed(self.pool) if fits(tensor)]
        return found[self.n % len(found)]


def matrix(x: Tensor) -> bool:
    return x.dim() == 2


def floating(x: Tensor) -> bool:
    return x.dim() > 0 and x.is_floating_point()


def images(x: Tensor) -> bool:
    return x.dim() == 4 and x.dtype is torch.float32


def resize_(o: Operands) -> Any:
    x = torch.empty(4, 4, device="meta")
    return x.resize_(o.n + 1, 2), x


def set_(o: Operands) -> Any:
    x = torch.empty(4, 4, device="meta")
    memory = torch.empty(o.n + 2, 3, device="meta").untyped_storage()
    return x.set_(memory), x


def assigned(o: Operands) -> Any:
    x = o.one(matrix)
    x[o.n % 4] = o.number
    return x


def taken_by_mask(o: Operands) -> Any:
    return o.x[o.x > 0]  # fails on meta


def shifted(o: Operands) -> Any:
    x = o.one(lambda x: x.dim() > 0 and x.shape[0] > 1)
    return x[1:].add_(x[:-1])


def shifted_memory(o: Operands) -> Any:
    memory = torch.empty(32, device="meta")
    return memory[o.n : o.n + 8].copy_(memory[: 8 + o.n % 2][-8:])


def normalized(o: Operands) -> Any:
    x = o.one(images)
    mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    return F.batch_norm(x, mean, var, training=o.n % 2 == 0), mean, var


def gradients(o: Operands) -> Any:
    x = o.one(lambda x: x.requires_grad)
    (x * 1.5).sum().abs().backward()
    return x.grad


def second_gradients(o: Operands) -> Any:
    x = o.one(lambda x: x.requires_grad and x.is_leaf)
    (first,) = torch.autograd.grad((x * x).sum().abs(), x, create_graph=True)
    return torch.autograd.grad(first.sum().abs(), x)


def attention(o: Operands) -> Any:
    x = o.one(images)
    return F.scaled_dot_product_attention(x, x, x, is_causal=o.n % 2 == 0)


def drawn(o: Operands) -> Any:
    generator = torch.Generator("cpu" if o.n % 2 else "meta")
    return torch.rand(4, 4, device="meta", generator=generator)


def channels_last(o: Operands) -> Any:
    return o.one(images).to(memory_format=torch.channels_last)


def foreach(o: Operands) -> Any:
    x = [torch.empty(4, 4, device="meta"), o.one(matrix)]
    return torch._foreach_add(x, o.n), torch._foreach_mul_(x, 0.5)


VIEWS: dict[str, Callable[[Operands], Any]] = {
    "t": lambda o: o.one(matrix).t(),
    "transpose": lambda o: o.x.transpose(0, -1),
    "slice": lambda o: o.x[o.n % 3 :],
    "step": lambda o: o.x[:: o.n + 1],
    "select": lambda o: o.x[o.n % 4],
    "view": lambda o: o.x.view(-1),
    "view dtype": lambda o: o.x.view(o.dtype),
    "reshape": lambda o: o.x.reshape(-1),
    "unsafe view": lambda o: torch.ops.aten._unsafe_view(o.x, (o.x.numel(),)),
    "expand": lambda o: o.x.expand(2, *o.x.shape),
    "unsqueeze": lambda o: o.x.unsqueeze(o.n % 2),
    "squeeze": lambda o: o.x.squeeze(),
    "diagonal": lambda o: o.one(matrix).diagonal(o.n % 2),
    "as strided": lambda o: o.x.as_strided((2, 2), (o.n, 1), o.n),
    "unfold": lambda o: o.x.unfold(0, 2, 1),
    "split": lambda o: o.x.split(2),
    "unbind": lambda o: o.x.unbind(),
    "detach": lambda o: o.x.detach(),
    "conj": lambda o: o.x.conj(),
    "imag": lambda o: o.one(torch.is_complex).imag,
    "neg view": lambda o: torch._neg_view(o.x),
    "contiguous": lambda o: o.x.contiguous(),
    "same dtype": lambda o: o.x.to(o.dtype),
    "alias": lambda o: torch.ops.aten.alias(o.x),
}
IN_PLACE: dict[str, Callable[[Operands], Any]] = {
    "add_": lambda o: o.x.add_(o.y),
    "add_ itself": lambda o: o.x.add_(o.x),
    "add_ its transpose": lambda o: o.one(matrix).add_(o.one(matrix).t()),
    "shifted add_": shifted,
    "shifted copy_": shifted_memory,
    "mul_ number": lambda o: o.x.mul_(o.number),
    "div_": lambda o: o.x.div_(2),
    "copy_": lambda o: o.x.copy_(o.y),
    "zero_": lambda o: o.x.zero_(),
    "fill_": lambda o: o.x.fill_(o.number),
    "relu_": lambda o: F.relu_(o.x),
    "clamp_": lambda o: o.x.clamp_(0, o.n),
    "masked_fill_": lambda o: o.x.masked_fill_(o.x.bool(), o.number),
    "addmm_": lambda o: o.one(matrix).addmm_(o.y, o.z),
    "uniform_": lambda o: o.x.uniform_(),
    "t_": lambda o: torch.empty(o.n, 3, device="meta").t_(),
    "unsqueeze_": lambda o: torch.empty(o.n, 3, device="meta").unsqueeze_(0),
    "resize_": resize_,
    "set_": set_,
    "requires_grad_": lambda o: o.x.requires_grad_(),
    "detach_": lambda o: o.x.detach_(),
    "assign": assigned,
    "conj_physical_": lambda o: o.x.conj_physical_(),
    "neg_": lambda o: o.x.neg_(),
    "sort out of place": lambda o: o.x.sort(),
}
FUNCTIONAL: dict[str, Callable[[Operands], Any]] = {
    "add": lambda o: o.x + o.y,
    "add number": lambda o: o.x + o.number,
    "number minus": lambda o: o.number - o.x,
    "mul": lambda o: o.x * o.y,
    "divide": lambda o: o.x / o.y,
    "floor": lambda o: o.x // 2,
    "power": lambda o: o.x**o.number,
    "compare": lambda o: o.x > o.number,
    "where": lambda o: torch.where(o.x.bool(), o.x, o.number),
    "matmul": lambda o: o.one(matrix) @ o.y,
    "dot": lambda o: torch.dot(o.x[0], o.y[0]),
    "vdot": lambda o: torch.vdot(o.x[0], o.y[0]),
    "linear": lambda o: F.linear(o.x, o.one(matrix)),
    "sum": lambda o: o.x.sum(),
    "sum to": lambda o: o.x.sum(0, keepdim=o.n % 2 == 0, dtype=o.dtype),
    "mean": lambda o: o.x.mean(),
    "softmax": lambda o: o.one(floating).softmax(-1),
    "var and mean": lambda o: torch.var_mean(o.x, correction=o.n),
    "max": lambda o: o.x.max(0),
    "topk": lambda o: o.x.topk(o.n % 4, 0),
    "sort": lambda o: o.x.sort(stable=True, dim=0),
    "cumsum": lambda o: o.x.cumsum(0),
    "cat": lambda o: torch.cat([o.x, o.y]),
    "stack": lambda o: torch.stack([o.x, o.x, o.y]),
    "clone": lambda o: o.x.clone(),
    "empty like": lambda o: torch.empty_like(o.x, dtype=o.dtype),
    "zeros like": lambda o: torch.zeros_like(o.x),
    "new": lambda o: o.x.new_full((o.n, 2), 1),
    "arange": lambda o: torch.arange(o.number, device="meta"),
    "full": lambda o: torch.full((o.n,), o.number, device="meta"),
    "linspace": lambda o: torch.linspace(0, 1, o.n, device="meta"),
    "draw": drawn,
    "dropout": lambda o: F.dropout(o.one(floating), 0.5),
    "convolution": lambda o: F.conv2d(o.one(images), torch.empty(3, 4, 1, 1, device="meta")),
    "pool": lambda o: F.max_pool2d_with_indices(o.one(images), [2, 2]),
    "interpolate": lambda o: F.interpolate(o.one(images), scale_factor=2, mode="bilinear"),
    "batch norm": normalized,
    "layer norm": lambda o: F.layer_norm(o.one(floating), o.one(floating).shape[-1:]),
    "attention": attention,
    "channels last": channels_last,
    "as strided copy": lambda o: torch.as_strided_copy(o.x, (2, 2), (o.n, 1)),
    "as strided scatter": lambda o: torch.as_strided_scatter(
        o.x, torch.empty(2, device="meta"), (2,), (1,), o.n
    ),
    "slice scatter": lambda o: torch.slice_scatter(o.x, o.x[: o.n], 0, 0, o.n),
    "take": lambda o: o.x[torch.zeros(o.n, dtype=torch.long, device="meta")],
    "mask": taken_by_mask,
    "value": lambda o: o.x.sum().item(),
    "foreach": foreach,
    "gradients": gradients,
    "second gradients": second_gradients,
}
OUT: dict[str, Callable[[Operands], Any]] = {
    "add out": lambda o: torch.add(o.x, o.y, out=o.z),
    "mul out itself": lambda o: torch.mul(o.x, 2, out=o.x),
    "add out shifted": lambda o: torch.add(o.x[:-1], 1, out=o.x[1:]),
    "matmul out": lambda o: torch.mm(o.one(matrix), o.y, out=o.z),
    "sum out": lambda o: torch.sum(o.x, 0, out=o.z),
    "cat out": lambda o: torch.cat([o.x, o.y], out=o.z),
    "cat out fresh": lambda o: torch.cat([o.x, o.y], out=o.x.new_empty(o.n)),
    "arange out": lambda o: torch.arange(o.n, out=o.z),
    "max out": lambda o: torch.max(
        o.x, 0, out=(o.z, torch.empty(o.n, dtype=torch.long, device="meta"))
    ),
    "abs out fresh": lambda o: torch.abs(o.x, out=torch.empty(o.n % 2, device="meta")),
    "abs out permuted": lambda o: torch.abs(o.one(matrix), out=o.one(matrix).t().clone()),
}
STEPS = VIEWS | IN_PLACE | FUNCTIONAL | OUT


@contextmanager
def changed(get: Callable[[], Any], set_to: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """A setting of torch's, for a step."""
    before = get()
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plainly": nullcontext,
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "double": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "deterministic": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
}


class Step(NamedTuple):
    """One step of a program; operands are chosen by number from the tensors there are."""

    name: str
    mode: str
    x: int
    y: int
    z: int
    n: int
    number: Any
    dtype: torch.dtype

    def run(self, pool: list[Tensor]) -> Any:
        """Run it; the tensors that it gives are there for later steps."""
        x, y, z = (pool[place % len(pool)] for place in (self.x, self.y, self.z))
        with MODES[self.mode]():
            output = STEPS[self.name](Operands(pool, x, y, z, self.n, self.number, self.dtype))
        made = output if isinstance(output, list | tuple) else [output]
        pool += [item for item in made if isinstance(item, Tensor)]
        del pool[len(start()) : -RECENT]
        return output


places = st.integers(0, 40)
steps = st.builds(
    Step,
    # As often in place or with out= as all else, and views to do it to.
    st.one_of(*(st.sampled_from(sorted(group)) for group in (VIEWS, IN_PLACE, FUNCTIONAL, OUT))),
    st.sampled_from([*MODES, "plainly", "plainly", "plainly"]),
    places,
    places,
    places,
    st.integers(0, 5),
    st.sampled_from(NUMBERS),
    st.sampled_from(DTYPES),
)
programs = st.lists(steps, min_size=1, max_size=12)


def itself(pool: list[Tensor]) -> list[Tensor]:
    return pool


def observed(program: list[Step], way: bool | None) -> Observation:
    """All tensors after each step, in rounds that begin with fresh ones."""
    runs = []
    for _ in range(ROUNDS):
        pool = start()
        runs += [Program(str(step), partial(itself, pool), step.run) for step in program]
    return observe(runs, 1, meta_cache=way)


def slowly(program: list[Step]) -> tuple[Observation, Observation]:
    """Uncounted, and counted without the fast path."""
    return observed(program, None), observed(program, False)


def quickly(program: list[Step]) -> Observation:
    """With the fast path."""
    return observed(program, True)


@given(programs, programs)
@settings(max_examples=60)
def test_programs_do_and_count_the_same(first: list[Step], second: list[Step]) -> None:
    slow = slowly(first), slowly(second)
    clear_cache()
    one, two, again = quickly(first), quickly(second), quickly(first)
    assert lasting_differences(partial(observed, first), slow[0], (one, again)) == []
    assert lasting_differences(partial(observed, second), slow[1], (two,)) == []


@pytest.mark.parametrize("name", STEPS)
def test_each_step_does_and_counts_the_same_in_each_mode(name: str) -> None:
    program = [
        Step(name, mode, 3 * i + j, 5 * i + j, 7 * i + 2, i + j, NUMBERS[3 * i + j], DTYPES[i + j])
        for i in range(VARIANTS)
        for j, mode in enumerate(MODES)
    ]
    slow = slowly(program)
    clear_cache()
    fast = quickly(program), quickly(program)
    assert lasting_differences(partial(observed, program), slow, fast) == []


def test_each_step_runs_for_some_operands() -> None:
    ran = set()
    for place in range(len(start())):
        n, number = place % 6, NUMBERS[place % 6]
        made = [
            Step(name, "plainly", place, place + n // 2, place + n, n, number, DTYPES[n])
            for name in STEPS
        ]
        found = observe([Program(step.name, start, step.run) for step in made], 1, meta_cache=False)
        ran |= {outcome.name for outcome in found.outcomes if not outcome.error}
    assert set(STEPS) - ran == set()
