"""PyTorch's operator database on meta: each sample in many ways, with the fast path and without.

A sample's tensors are remade on meta, laid out and wrapped in one way after another, and its
operator is called forward, with its backward, in place and with `out=`, in several modes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from benchmarks.equality_samples import (
    Plan,
    aliased,
    alone,
    as_form,
    built,
    contiguous,
    emptied,
    expanded,
    found,
    mapped,
    overlapping,
    permuted,
    planned,
    scalars_on_cpu,
    sliced,
    without_gradients,
)
from flopdispatch.capture.calls import CALLS, clear_cache
from tests.observed import Observation, Program, differences, observe

DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float16,
    torch.complex64, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
CHUNK = 32  # samples observed one way before the other way: what their calls share is tried
TIMES = 2  # runs in each counter: the second finds what the first has left
CLOSELY = 6  # samples of each operator and close dtype that are tried in every way
CLOSE_DTYPES = {torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.bool}

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


@contextmanager
def every_warning() -> Iterator[None]:
    """Warnings that torch gives once in a process are given each time."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


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


@dataclass(frozen=True, slots=True)
class Sample:
    """An operator and one call of it, with plans for tensors."""

    name: str
    op: Any
    call: tuple[tuple[Any, ...], dict[str, Any]]
    process: Callable[[Any], Any]  # of the output, before its backward
    differentiable: bool


def samples(op: Any, dtype: torch.dtype) -> Iterator[Sample]:
    """All samples that the database has of an operator in one dtype."""
    differentiable = op.supports_autograd and op.supports_dtype(dtype, "cpu")
    differentiable &= dtype in op.supported_backward_dtypes("cpu")
    torch.default_generator.manual_seed(0)
    given = op.sample_inputs("cpu", dtype, requires_grad=differentiable)
    for number, one in enumerate(given):
        name = f"{op.full_name} {str(dtype).removeprefix('torch.')} #{number}"
        call = planned(((one.input, *one.args), dict(one.kwargs)))
        yield Sample(name, op, call, one.output_process_fn_grad, differentiable)


def programs(sample: Sample, closely: bool) -> list[Program]:
    """The ways in which a sample is called."""
    found_ways = [
        *(program(sample, way, forward) for way in FORWARD),
        *(program(sample, way, backward) for way in BACKWARD if closely or way.always),
    ]
    if closely and sample.differentiable:
        found_ways.append(program(sample, Way("backward twice"), backward_twice))
        if sample.op.supports_forward_ad:
            found_ways.append(program(sample, Way("forward derivative"), forward_derivative))
    if sample.op.inplace_variant is not None:
        found_ways += [program(sample, w, in_place) for w in IN_PLACE if closely or w.always]
    if sample.op.supports_out:
        found_ways += out_programs(sample, OUTS if closely else ALWAYS_OUT)
    return found_ways


def program(sample: Sample, way: Way, run: Callable[[Sample, Any], Any]) -> Program:
    """One sample in one way."""
    call = way.layout(sample.call)

    def make() -> Any:
        with way.making():
            return built(without_gradients(call) if way.making is not nullcontext else call)

    def run_it(given: Any) -> Any:
        with way.mode():
            return run(sample, given)

    return Program(f"{sample.name}, {way.name}", make, run_it)


def forward(sample: Sample, given: Any) -> Any:
    """The operator's output."""
    args, kwargs = given
    return sample.op(*args, **kwargs)


def backward(sample: Sample, given: Any) -> Any:
    """The operator's output, after its backward where it has one."""
    output = forward(sample, given)
    roots = differentiable_in(sample.process(output) if sample.differentiable else output)
    if roots:
        torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    return output


def backward_twice(sample: Sample, given: Any) -> Any:
    """The output, its gradients and theirs."""
    output = forward(sample, given)
    roots, leaves = differentiable_in(sample.process(output)), differentiable_in(given)
    if not roots or not leaves:
        return output
    grads = torch.autograd.grad(
        roots, leaves, [torch.ones_like(r) for r in roots], create_graph=True, allow_unused=True
    )
    above = differentiable_in(list(grads))
    if not above:
        return output, grads
    ones = [torch.ones_like(root) for root in above]
    return output, grads, torch.autograd.grad(above, leaves, ones, allow_unused=True)


def forward_derivative(sample: Sample, given: Any) -> Any:
    """The outputs with their tangents."""

    def dual(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        made: Tensor = forward_ad.make_dual(tensor, torch.ones_like(tensor))
        return made

    with forward_ad.dual_level():
        output = forward(sample, mapped(given, Tensor, dual))
        return [tuple(forward_ad.unpack_dual(tensor)) for tensor in found(output, Tensor)]


def in_place(sample: Sample, given: Any) -> Any:
    """What the in-place variant returns, and the tensor that it changed."""
    (target, *args), kwargs = given
    if target.requires_grad and torch.is_grad_enabled():
        target = target.clone()  # a leaf that requires gradients may not be changed
    output = sample.op.inplace_variant(target, *args, **kwargs)
    roots = differentiable_in(output)
    if roots:
        torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    return target, output


def out_programs(sample: Sample, outs: tuple[Any, ...]) -> Iterator[Program]:
    """The sample with `out=`, laid out in several ways; none where it can't be run at all."""
    call = without_gradients(sample.call)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = planned(_plain(forward(sample, built(call))))
    except Exception:
        return

    def run(mode: Context, given: Any) -> Any:
        (args, kwargs), out = given
        with mode():
            return sample.op(*args, **kwargs, out=out)

    for lay_out in outs:
        given = call, mapped(result, Plan, partial(_laid_out, lay_out, call))
        mode = nullcontext if lay_out is out_with_gradient else torch.no_grad
        name = f"{sample.name}, {lay_out.__name__.replace('_', ' ')}"
        yield Program(name, partial(built, given), partial(run, mode))


def _laid_out(lay_out: Any, call: Any, plan: Plan) -> Plan:
    made: Plan = lay_out(plan, call)
    return made


def _plain(result: Any) -> Any:
    """A result with plain tuples for named ones."""
    return tuple(result) if isinstance(result, tuple) else result


def differentiable_in(value: Any) -> list[Tensor]:
    """The tensors that require gradients."""
    return [tensor for tensor in found(value, Tensor) if tensor.requires_grad]


@dataclass(slots=True)
class Tally:
    """How much was run, and what was different.

    Of the distinct calls `known` to the cache, those `answered` run no kernel again.
    """

    samples: int = 0
    runs: int = 0
    raised: int = 0
    calls: int = 0
    known: int = 0
    answered: int = 0
    different: list[str] = field(default_factory=list)

    def note(self, observation: Observation) -> None:
        """Add what one counter saw."""
        self.runs += len(observation.outcomes)
        self.raised += sum(bool(outcome.error) for outcome in observation.outcomes)
        self.calls += sum(row.times for row in getattr(observation.profile, "rows", ()))


def compare(op: Any, dtype: torch.dtype, tally: Tally, most: int | None = None) -> None:
    """All of an operator's samples in one dtype both ways, or `most` of them, evenly spaced."""
    chosen = list(samples(op, dtype))
    if most is not None:
        chosen = chosen[:: step_for(chosen, most)]
    step = step_for(chosen, CLOSELY)
    closely = [dtype in CLOSE_DTYPES and n % step == 0 for n in range(len(chosen))]
    for start in range(0, len(chosen), CHUNK):
        chunk = slice(start, start + CHUNK)
        compare_chunk(
            [programs(s, close) for s, close in zip(chosen[chunk], closely[chunk])], tally
        )
    tally.samples += len(chosen)


def step_for(items: list[Any], most: int) -> int:
    """The step that takes no more than so many of these."""
    return -(-len(items) // most) or 1


def compare_chunk(groups: list[list[Program]], tally: Tally) -> None:
    """Observe all groups without the fast path, then with it, its cache empty and then warm."""
    off = [observe(group, TIMES, meta_cache=False) for group in groups]
    clear_cache()
    cold = [observe(group, TIMES, meta_cache=True) for group in groups]
    warm = [observe(group, TIMES, meta_cache=True) for group in groups]
    tally.known += len(CALLS)
    tally.answered += sum(call.answer is not None for call in CALLS.values())
    for group, expected, one, other in zip(groups, off, cold, warm):
        for observation in (expected, one, other):
            tally.note(observation)
        wrong = differences(expected, one) or differences(expected, other)
        if wrong:
            # What torch does differently from one run to the next is not our doing.
            again = observe(group, TIMES, meta_cache=False)
            if differences(expected, again):
                wrong = differences(again, observe(group, TIMES, meta_cache=True))
        tally.different += [f"{group[0].name.rpartition(',')[0]}: {text}" for text in wrong]
