from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.optimizer import rules
from tests import oracles
from tests.oracles_optimizer import Options, step
from tests.pricing import cost, price, scaled

aten = torch.ops.aten
f64 = torch.float64
SGD, ADAM, ADAMW, ADAGRAD = "_fused_sgd", "_fused_adam", "_fused_adamw", "_fused_adagrad"
KERNELS = (SGD, ADAM, ADAMW, ADAGRAD)


def lists(kernel: str, options: Options, *shapes: tuple[int, ...]) -> list[list[torch.Tensor]]:
    """Parameters, gradients and the kernel's buffers, by argument."""

    def drawn(positive: bool = False) -> list[torch.Tensor]:
        tensors = [torch.randn(shape, dtype=f64) for shape in shapes]
        return [tensor.abs() for tensor in tensors] if positive else tensors

    def steps() -> list[torch.Tensor]:
        return [torch.tensor(float(options.step)) for _ in shapes]

    if kernel == SGD:
        return [drawn(), drawn(), drawn() if options.momentum else []]
    if kernel == ADAGRAD:
        return [drawn(), drawn(), drawn(positive=True), steps()]
    largest = drawn(positive=True) if options.amsgrad else []
    return [drawn(), drawn(), drawn(), drawn(positive=True), largest, steps()]


def keywords(kernel: str, o: Options) -> dict[str, Any]:
    """The kernel's keyword arguments."""
    common: dict[str, Any] = {"lr": o.lr, "weight_decay": o.weight_decay, "maximize": o.maximize}
    if o.grad_scale is not None:
        common |= {"grad_scale": torch.tensor(o.grad_scale), "found_inf": torch.tensor(0.0)}
    if kernel == SGD:
        own = {"momentum": o.momentum, "dampening": o.dampening, "nesterov": o.nesterov}
        return common | own | {"is_first_step": o.first}
    if kernel == ADAGRAD:
        return common | {"lr_decay": o.lr_decay, "eps": o.eps}
    own = {"beta1": o.beta1, "beta2": o.beta2, "eps": o.eps, "amsgrad": o.amsgrad}
    return common | own


def variant(kernel: str, options: Options, in_place: bool, tensor_lr: bool) -> tuple[Any, Any]:
    """The overload, and the keywords that it takes."""
    packet = getattr(aten, kernel + ("_" if in_place else ""))
    words = keywords(kernel, options)
    if not tensor_lr:
        return packet.default, words
    return packet.tensor_lr, words | {"lr": torch.tensor(options.lr, dtype=f64)}


# (why, in words, per element; kernel; options; expected for one element)
ROWS = [
    ("p - lr·g", SGD, Options(), Cost(adds=1, muls=1)),
    ("and g + wd·p", SGD, Options(weight_decay=0.1), Cost(adds=2, muls=2)),
    ("and a change of sign", SGD, Options(maximize=True), Cost(adds=1, muls=1, comparisons=1)),
    ("and g / scale", SGD, Options(grad_scale=2.0), Cost(adds=1, muls=1, divs=1)),
    ("the first momentum is g", SGD, Options(momentum=0.9, first=True), Cost(adds=1, muls=1)),
    ("then m·b + g", SGD, Options(momentum=0.9), Cost(adds=2, muls=2)),
    ("or m·b + (1-d)·g", SGD, Options(momentum=0.9, dampening=0.5), Cost(adds=2, muls=3)),
    ("and g + m·b", SGD, Options(momentum=0.9, nesterov=True), Cost(adds=3, muls=3)),
    (
        "lerp 2 adds 1 mul; v 1 add 3 muls; root, division, eps; step mul, division, add",
        ADAM,
        Options(),
        Cost(adds=2 + 1 + 1 + 1, muls=1 + 3 + 1, divs=1 + 1, transcendentals=1),
    ),
    (
        "and g + wd·p, the larger v, a change of sign, g / scale",
        ADAM,
        Options(weight_decay=0.1, amsgrad=True, maximize=True, grad_scale=2.0),
        Cost(adds=6, muls=6, divs=3, transcendentals=1, comparisons=2),
    ),
    ("as Adam", ADAMW, Options(), Cost(adds=5, muls=5, divs=2, transcendentals=1)),
    (
        "and p·(1 - lr·wd)",
        ADAMW,
        Options(weight_decay=0.1),
        Cost(adds=5, muls=6, divs=2, transcendentals=1),
    ),
    (
        "s + g·g; root; eps; step mul, division, add",
        ADAGRAD,
        Options(),
        Cost(adds=3, muls=2, divs=1, transcendentals=1),
    ),
    (
        "and g + wd·p, a change of sign",
        ADAGRAD,
        Options(weight_decay=0.1, maximize=True),
        Cost(adds=4, muls=3, divs=1, transcendentals=1, comparisons=1),
    ),
]


@pytest.mark.parametrize(("why", "kernel", "options", "each"), ROWS)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_hand_arithmetic(
    *, why: str, kernel: str, options: Options, each: Cost, in_place: bool, tensor_lr: bool
) -> None:
    op, words = variant(kernel, options, in_place, tensor_lr)
    args = lists(kernel, options, (2, 3), (4,))
    assert cost(op, *args, **words) == scaled(each, 2 * 3 + 4), why
    assert price(op, *args, **words).family == "optimizer"


@given(
    kernel=st.sampled_from(KERNELS),
    in_place=st.booleans(),
    tensor_lr=st.booleans(),
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=2).map(tuple), min_size=1, max_size=3),
    options=st.builds(
        Options,
        weight_decay=st.sampled_from([0.0, 0.1]),
        maximize=st.booleans(),
        grad_scale=st.sampled_from([None, 4.0]),
        momentum=st.sampled_from([0.0, 0.9]),
        dampening=st.sampled_from([0.0, 0.25]),
        nesterov=st.booleans(),
        first=st.booleans(),
        amsgrad=st.booleans(),
        lr_decay=st.sampled_from([0.0, 0.5]),
        step=st.integers(1, 5),
    ),
)
def test_a_fused_kernel_is_the_loop_over_elements(
    kernel: str,
    in_place: bool,
    tensor_lr: bool,
    shapes: list[tuple[int, ...]],
    options: Options,
) -> None:
    args = lists(kernel, options, *shapes)
    tally = oracles.Tally()
    columns = [column for column in (args if kernel == SGD else args[:-1]) if column]
    rule = kernel.removeprefix("_fused_")
    after = [step(tally, rule, options, list(state)) for state in zip(*columns)]

    fresh = [[tensor.clone() for tensor in column] for column in args]
    in_place_op, words = variant(kernel, options, True, tensor_lr)
    in_place_op(*fresh, **words)
    for i, expected in enumerate(after):
        for column, value in zip([column for column in fresh if column], expected):
            torch.testing.assert_close(column[i], value)

    op, words = variant(kernel, options, in_place, tensor_lr)
    assert cost(op, *args, **words) == tally.cost


# (kernel; options; tensors read and written of four float64 elements each; other bytes read)
TRAFFIC = [
    (SGD, Options(), 2, 1, 0),
    (SGD, Options(momentum=0.9), 3, 2, 0),
    (SGD, Options(momentum=0.9, first=True), 2, 2, 0),
    (SGD, Options(grad_scale=2.0), 2, 2, 8),
    (ADAM, Options(), 4, 3, 4),
    (ADAM, Options(amsgrad=True), 5, 4, 4),
    (ADAM, Options(grad_scale=2.0), 4, 4, 12),
    (ADAMW, Options(), 4, 3, 4),
    (ADAGRAD, Options(), 3, 2, 4),
    (ADAGRAD, Options(grad_scale=2.0), 3, 3, 12),
]


@pytest.mark.parametrize(("kernel", "options", "read", "written", "scalars"), TRAFFIC)
def test_an_in_place_kernel_writes_gradients_only_to_unscale_them(
    kernel: str, options: Options, read: int, written: int, scalars: int
) -> None:
    tensor = 4 * 8
    for tensor_lr in (False, True):
        op, words = variant(kernel, options, True, tensor_lr)
        moved = price(op, *lists(kernel, options, (2, 2)), **words).cost
        assert moved.bytes_read == read * tensor + scalars + 8 * tensor_lr
        assert moved.bytes_written == written * tensor


def test_a_step_of_two_lists_is_the_sum_of_the_steps() -> None:
    for kernel in KERNELS:
        options = Options(momentum=0.9, weight_decay=0.1)
        op, words = variant(kernel, options, True, False)
        both = price(op, *lists(kernel, options, (3,), (2, 5)), **words).cost
        one = price(op, *lists(kernel, options, (3,)), **words).cost
        other = price(op, *lists(kernel, options, (2, 5)), **words).cost
        assert both == one + other


def test_half_precision_parameters_beside_float_steps_compute_in_half() -> None:
    args = [[tensor.half() for tensor in column] for column in lists(ADAM, Options(), (2, 3))]
    args[-1] = [torch.tensor(1.0)]
    priced = price(aten._fused_adam_.default, *args, **keywords(ADAM, Options()))
    assert priced.dtype == torch.float16


def test_unscaling_is_a_multiplication_per_gradient() -> None:
    for name in (
        "_amp_foreach_non_finite_check_and_unscale",
        "_amp_foreach_non_finite_check_and_unscale_",
    ):
        op = getattr(aten, name).default
        grads, found = [torch.ones(2, 3), torch.ones(4)], torch.tensor(0.0)
        priced = price(op, grads, found, torch.tensor(0.5))
        assert priced.cost.moving(0, 0) == Cost(muls=10)
        assert priced.cost.bytes_read == 10 * 4 + 2 * 4
        assert priced.cost.bytes_written == 10 * 4 + 4
        expected = 0.5 if name.endswith("_") else 1.0
        assert grads[1].tolist() == [expected] * 4


@pytest.mark.parametrize("name", ["_amp_update_scale", "_amp_update_scale_"])
def test_updating_the_scale_is_at_most_one_multiplication(name: str) -> None:
    tracker = torch.tensor(1, dtype=torch.int32)
    priced = price(
        getattr(aten, name).default, torch.tensor(2.0), tracker, torch.tensor(0.0), 2.0, 0.5, 9
    )
    assert priced.cost.moving(0, 0) == Cost(muls=1, int_ops=1)
    assert priced.estimate


def test_every_variant_of_the_family_has_a_rule() -> None:
    names = [
        f"{kernel}{suffix}.{overload}"
        for kernel in KERNELS
        for suffix, kinds in (
            ("", ("default", "tensor_lr", "out")),
            ("_", ("default", "tensor_lr")),
        )
        for overload in kinds
    ]
    for overload in overloads(*names):
        rule = default_registry().rule(overload)
        assert rule is not None
        assert rule.family == "optimizer", overload
    assert len(list(rules)) == len(KERNELS) * 4 + 2
