"""PyTorch's operator database on meta: each sample in many ways, with the fast path and without.

A sample's tensors are remade on meta, laid out and wrapped in one way after another, and its
operator is called forward, with its backward, in place and with `out=`, in several modes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from benchmarks.equality_samples import (
    Plan,
    built,
    found,
    mapped,
    planned,
    without_gradients,
)
from benchmarks.equality_ways import (
    ALWAYS_OUT,
    BACKWARD,
    FORWARD,
    IN_PLACE,
    OUTS,
    Context,
    Way,
    out_with_gradient,
)
from flopdispatch.capture.meta import clear_cache
from tests.observed import Observation, Program, lasting_differences, observe

DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float16,
    torch.complex64, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
CHUNK = 32  # samples observed one way before the other way: what their calls share is tried
TIMES = 2  # runs in each counter: the second finds what the first has left
CLOSELY = 1  # samples of each operator and close dtype that are tried in every way
CLOSE_DTYPES = {torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.bool}


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
    """How much was run, and what was different."""

    samples: int = 0
    runs: int = 0
    raised: int = 0
    calls: int = 0
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
    """Observe all groups uncounted, without the fast path, with its cache empty, and warm."""
    alone = [observe(group, 1, meta_cache=None) for group in groups]
    off = [observe(group, TIMES, meta_cache=False) for group in groups]
    clear_cache()
    cold = [observe(group, TIMES, meta_cache=True) for group in groups]
    warm = [observe(group, TIMES, meta_cache=True) for group in groups]
    for group, *observations in zip(groups, alone, off, cold, warm):
        for observation in observations:
            tally.note(observation)
        wrong = lasting_differences(
            partial(observed_again, group),
            (observations[0], observations[1]),
            (observations[2], observations[3]),
        )
        sample = group[0].name.rpartition(",")[0]
        tally.different += [t if t.startswith(sample) else f"{sample}: {t}" for t in wrong]


def observed_again(group: list[Program], way: bool | None) -> Observation:
    """A group's observation by itself, in one of the ways."""
    return observe(group, 1 if way is None else TIMES, meta_cache=way)
