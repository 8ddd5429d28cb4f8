"""Cases from PyTorch's three databases: operators, modules and optimizers, on CPU and on meta.

A case makes fresh inputs as often as it is asked to, each time with the same values, layouts
and sharing of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.equality_operators import (
    Sample,
    backward,
    differentiable_in,
    forward,
    in_place,
    step_for,
)
from benchmarks.equality_samples import built, mapped, planned

CPU, META = torch.device("cpu"), torch.device("meta")
DTYPES = (torch.float32, torch.complex64, torch.int64)
STEPS = 3  # of an optimizer: the first makes its state, the others use it
OPERATOR, MODULE, OPTIMIZER = "operator", "module", "optimizer"

GRAD, NO_GRAD, INFERENCE = "grad", "no_grad", "inference"
FORWARDS = (GRAD, NO_GRAD, INFERENCE)
BACKWARD, IN_PLACE, OUT = "backward", "in place", "out="
WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    GRAD: nullcontext,
    NO_GRAD: torch.no_grad,
    INFERENCE: torch.inference_mode,
    BACKWARD: nullcontext,
    IN_PLACE: torch.no_grad,
    OUT: torch.no_grad,
}

Make = Callable[[torch.device], Any]
Run = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One call in several ways: of each, what makes its inputs on a device and what takes them."""

    entry: str
    name: str
    ways: dict[str, tuple[Make, Run]]


def entries() -> list[str]:
    """The names of all entries of the databases, each with its database's."""
    return [f"{kind} {name}" for kind, database in databases().items() for name in database]


@cache
def databases() -> dict[str, dict[str, Any]]:
    """Each database by its entries' names."""
    # Seconds to import, once in a process.
    from torch.testing._internal.common_methods_invocations import op_db  # noqa: PLC0415
    from torch.testing._internal.common_modules import module_db  # noqa: PLC0415
    from torch.testing._internal.common_optimizers import optim_db  # noqa: PLC0415

    optimizers: list[Any] = optim_db  # annotated as if its classes were instances
    return {
        OPERATOR: {op.full_name: op for op in op_db},
        MODULE: {info.name: info for info in module_db},
        OPTIMIZER: {info.optim_cls.__name__: info for info in optimizers},
    }


def cases(entry: str, most: int | None = None) -> Iterator[Case]:
    """An entry's cases; with `most`, no more than so many of each dtype, evenly spaced."""
    kind, _, name = entry.partition(" ")
    info = databases()[kind][name]
    make = {OPERATOR: operator_cases, MODULE: module_cases, OPTIMIZER: optimizer_cases}[kind]
    for dtype in dtypes(kind, info):
        torch.default_generator.manual_seed(0)
        chosen = list(make(entry, info, dtype))
        yield from chosen[:: step_for(chosen, most or len(chosen) or 1)]


def dtypes(kind: str, info: Any) -> list[torch.dtype]:
    """Those of `DTYPES` that an entry takes; of an operator that takes none, any other."""
    if kind == OPTIMIZER:
        return [torch.float32, torch.complex64] if info.supports_complex else [torch.float32]
    supported = info.supported_dtypes("cpu")
    taken = [dtype for dtype in DTYPES if dtype in supported]
    return taken or sorted(supported, key=str)[:1]


def named(entry: str, dtype: torch.dtype, number: int) -> str:
    """One case's name."""
    return f"{entry} {str(dtype).removeprefix('torch.')} #{number}"


# Operators


def operator_cases(entry: str, op: Any, dtype: torch.dtype) -> Iterator[Case]:
    """The samples that the database has of an operator, with its backward where it has one."""
    differentiable = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    given = op.sample_inputs("cpu", dtype, requires_grad=differentiable)
    for number, one in enumerate(given):
        name = named(entry, dtype, number)
        call = (one.input, *one.args), dict(one.kwargs)
        sample = Sample(name, op, call, one.output_process_fn_grad, differentiable)
        make = partial(inputs_on, call)
        ways: dict[str, tuple[Make, Run]] = {
            way: (make, partial(forward, sample)) for way in FORWARDS
        }
        if differentiable:
            ways[BACKWARD] = make, partial(backward, sample)
        if op.inplace_variant is not None:
            ways[IN_PLACE] = make, partial(in_place, sample)
        if op.supports_out:
            ways[OUT] = partial(inputs_and_out, sample), partial(forward_to_out, sample)
        yield Case(entry, name, ways)


def inputs_and_out(sample: Sample, device: torch.device) -> Any:
    """Inputs on a device, and tensors of zeros like the result."""
    with torch.no_grad():
        result = forward(sample, inputs_on(sample.call, device))
    plain = tuple(result) if isinstance(result, tuple) else result  # a named one can't be mapped
    return inputs_on(sample.call, device), mapped(plain, Tensor, torch.zeros_like)


def forward_to_out(sample: Sample, given: Any) -> Any:
    """The operator's output, written to `out=`."""
    (args, kwargs), out = given
    return sample.op(*args, **kwargs, out=out)


def inputs_on(value: Any, device: torch.device) -> Any:
    """A nested value with fresh tensors like its own, on the CPU or on meta."""
    if device is CPU:
        return copied(value)
    return mapped(built(planned(value)), Tensor, lambda t: t if t.is_meta else t.to(META))


def copied(value: Any) -> Any:
    """A nested value with copies of its tensors, identity and sharing of memory kept."""
    memories: dict[int, torch.UntypedStorage] = {}
    copies: dict[int, Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = copy_of(tensor, memories).requires_grad_(tensor.requires_grad)
        return copies[id(tensor)]

    return mapped(value, Tensor, copy)


def copy_of(tensor: Tensor, memories: dict[int, torch.UntypedStorage]) -> Tensor:
    """A leaf of the same values and strides; `memories` are the copied storages."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return tensor.detach().clone()
    memory = tensor.untyped_storage()
    if memory._cdata not in memories:
        memories[memory._cdata] = memory.clone()
    made = torch.empty(0, dtype=tensor.dtype)
    made.set_(memories[memory._cdata], tensor.storage_offset(), tensor.shape, tensor.stride())
    made = made.conj() if tensor.is_conj() else made
    return torch._neg_view(made) if tensor.is_neg() else made


# Modules


def module_cases(entry: str, info: Any, dtype: torch.dtype) -> Iterator[Case]:
    """A module with each of its inputs, in training and not."""
    number = 0
    for training in (True, False):
        for one in info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=True, training=training
        ):
            if one.forward_input is not None:
                name = f"{named(entry, dtype, number)} {'train' if training else 'eval'}"
                make = partial(module_and_inputs, info.module_cls, one, dtype, training)
                ways: dict[str, tuple[Make, Run]] = dict.fromkeys(FORWARDS, (make, module_forward))
                yield Case(entry, name, {**ways, BACKWARD: (make, module_backward)})
            number += 1


def module_and_inputs(
    kind: Any, one: Any, dtype: torch.dtype, training: bool, device: torch.device
) -> Any:
    """A module with the same parameters each time, what it is called with, and its state."""
    torch.default_generator.manual_seed(0)
    args, kwargs = copied((one.constructor_input.args, one.constructor_input.kwargs))
    module = kind(*args, **kwargs).to(device=device, dtype=dtype).train(training)
    given = inputs_on((one.forward_input.args, one.forward_input.kwargs), device)
    return module, given, dict(module.named_parameters()), dict(module.named_buffers())


def module_forward(given: Any) -> Any:
    """The module's output."""
    module, (args, kwargs), *_ = given
    return module(*args, **kwargs)


def module_backward(given: Any) -> Any:
    """The module's output, after its backward if it has one."""
    output = module_forward(given)
    roots = differentiable_in(output)
    if roots:
        torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    return output


# Optimizers


def optimizer_cases(entry: str, info: Any, dtype: torch.dtype) -> Iterator[Case]:
    """An optimizer with each of its settings and implementations."""
    number = 0
    for given in info.optim_inputs_func("cpu"):
        plain = dict.fromkeys(info.supported_impls, False)
        for name in ("plain", *info.supported_impls):
            settings = {**given.kwargs, **plain, **({} if name == "plain" else {name: True})}
            make = partial(optimizer_and_parameters, info, settings, dtype)
            text = f"{named(entry, dtype, number)} {given.desc}, {name}"
            yield Case(entry, text, dict.fromkeys(FORWARDS, (make, optimizer_steps)))
            number += 1


def optimizer_and_parameters(
    info: Any, settings: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> Any:
    """An optimizer, its state, parameters with their gradients, and the closure it needs."""
    torch.default_generator.manual_seed(0)
    shapes = [(4, 3), (3, 5)] if info.optim_cls.__name__ == "Muon" else [(4, 3), (4,), ()]
    tensors = [torch.randn(shape, dtype=dtype) for shape in shapes]
    leaves = [tensor.to(device).requires_grad_() for tensor in tensors]
    # A differentiable step changes its parameters in the graph: they may not be leaves.
    parameters = [x.clone() for x in leaves] if settings.get("differentiable") else leaves
    for parameter, tensor in zip(parameters, tensors):
        grad = tensor.square()
        parameter.grad = (grad.to_sparse() if info.only_supports_sparse_grads else grad).to(device)
    optimizer = info.optim_cls(parameters, **copied(settings))
    closure = partial(squares, parameters) if info.step_requires_closure else None
    return optimizer, optimizer.state, leaves, parameters, closure


def squares(parameters: list[Tensor]) -> Tensor:
    """A loss, after its backward."""
    loss = torch.stack([parameter.abs().square().sum() for parameter in parameters]).sum()
    loss.backward()
    return loss


def optimizer_steps(given: Any) -> None:
    """Some steps."""
    optimizer, *_, closure = given
    for _ in range(STEPS):
        optimizer.step(closure)
