"""The ways in which a sample of the operator database is called: layouts, modes, `out=`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from benchmarks.equality_samples import (
    Plan,
    aliased,
    alone,
    as_form,
    contiguous,
    emptied,
    expanded,
    found,
    overlapping,
    permuted,
    resized,
    scalars_on_cpu,
    sliced,
    without_gradients,
)

Context = Callable[[], AbstractContextManager[Any]]


@contextmanager
def double_by_default() -> Iterator[None]:
    """float64 is the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    """Operators without a deterministic algorithm raise."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def same_layout(call: Any) -> Any:
    """The layout that the sample has."""
    return call


class Way(NamedTuple):
    """One way to call a sample: how it is laid out, made, called, and in which mode."""

    name: str
    layout: Callable[[Any], Any] = same_layout
    mode: Context = nullcontext
    making: Context = nullcontext
    always: bool = False  # on every sample, not just those looked at closely


FORWARD = (
    Way("no grad", without_gradients, torch.no_grad, always=True),
    Way("inference", without_gradients, torch.inference_mode, always=True),
)
BACKWARD = (
    Way("backward", always=True),
    Way("backward longer", resized(lambda size: size + 1), always=True),
    Way("backward doubled", resized(lambda size: 2 * size)),
    Way("backward all alike", resized(lambda size: 2)),
    Way("backward permuted", permuted),
    Way("backward expanded", expanded),
    Way("backward sliced", sliced),
    Way("backward empty", emptied),
    Way("backward aliased", aliased),
    Way("backward overlapping", overlapping),
    Way("backward of views", as_form("view")),
    Way("backward of parameters", as_form("parameter")),
    Way("backward of a subclass", as_form("subclass")),
    Way("backward, conj", as_form("conj")),
    Way("backward, neg", as_form("neg")),
    Way("backward, scalars on the CPU", scalars_on_cpu),
    Way("of inference tensors", without_gradients, making=torch.inference_mode),
    Way("inference of inference tensors", without_gradients, torch.inference_mode,
        torch.inference_mode),
    Way("double by default", mode=double_by_default),
    Way("deterministic", mode=deterministic),
)  # fmt: skip
IN_PLACE = (
    Way("in place, no grad", without_gradients, torch.no_grad, always=True),
    Way("in place", always=True),
    Way("in place longer", resized(lambda size: size + 1)),
    Way("in place permuted", permuted),
    Way("in place expanded", expanded),
    Way("in place sliced", sliced),
    Way("in place aliased", aliased),
    Way("in place overlapping", overlapping),
    Way("in place on views", as_form("view")),
    Way("in place, conj", as_form("conj")),
    Way("in place, neg", as_form("neg")),
    Way("in place, inference", without_gradients, torch.inference_mode),
    Way("in place on inference tensors", without_gradients, making=torch.inference_mode),
)


def out_alike(plan: Plan, call: Any) -> Plan:
    """As the operator would make it."""
    return plan


def out_empty(plan: Plan, call: Any) -> Plan:
    """Of no elements, to be resized."""
    return alone(replace(plan, shape=(0,)), (1,))


def out_longer(plan: Plan, call: Any) -> Plan:
    """Of another shape, resized with a warning."""
    shape = (*plan.shape, 2)
    return alone(replace(plan, shape=shape), contiguous(shape))


def out_permuted(plan: Plan, call: Any) -> Plan:
    """With other strides, which stay."""
    laid: Plan = permuted(plan)
    return laid


def out_expanded(plan: Plan, call: Any) -> Plan:
    """With elements that share memory."""
    laid: Plan = expanded(plan)
    return laid


def out_sliced(plan: Plan, call: Any) -> Plan:
    """In a larger memory."""
    laid: Plan = sliced(plan)
    return laid


def out_double(plan: Plan, call: Any) -> Plan:
    """Of another dtype that some can be written to."""
    return alone(replace(plan, dtype=torch.float64), plan.stride)


def out_integer(plan: Plan, call: Any) -> Plan:
    """Of a dtype that fractions can't be written to."""
    return alone(replace(plan, dtype=torch.int64), plan.stride)


def out_of_inputs(plan: Plan, call: Any) -> Plan:
    """An argument itself, where one is alike."""
    alike = (p for p in found(call, Plan) if (p.shape, p.dtype) == (plan.shape, plan.dtype))
    return next(alike, plan)


def out_with_gradient(plan: Plan, call: Any) -> Plan:
    """Refused where gradients are taken."""
    floats = plan.dtype.is_floating_point or plan.dtype.is_complex
    return replace(plan, requires_grad=floats)


def out_conjugated(plan: Plan, call: Any) -> Plan:
    """With a conj or neg bit of its own."""
    wrapped: Plan = as_form("conj" if plan.dtype.is_complex else "neg")(plan)
    return wrapped


OUTS = (
    out_alike, out_empty, out_longer, out_permuted, out_expanded, out_sliced, out_double,
    out_integer, out_of_inputs, out_with_gradient, out_conjugated,
)  # fmt: skip
ALWAYS_OUT = (out_alike, out_empty, out_permuted)
