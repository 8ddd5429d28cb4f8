"""A step is counted once and costs what the counter says; after that it is only timed."""

from __future__ import annotations

import tracemalloc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from flopdispatch import FlopCounter, count
from tests.mfu.loops import Net, comparable, flops, quiet, trained
from tests.versions import needs_torch


def test_a_step_costs_its_products_forward_and_backward() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    with meter.step(x):
        trained(model, x)
    first, last = 2 * 8 * 8, 2 * 8 * 4  # MACs; the input of the first needs no gradient
    assert flops(meter) == 2 * (2 * first + 3 * last)
    assert flops(meter) == comparable(lambda: trained(model, x))


def test_a_step_costs_what_the_counter_says_over_shape_changes() -> None:
    model = Net()
    meter, _ = quiet(model)
    for rows in (2, 5, 2, 3, 5):
        x = torch.ones(rows, 8)
        with meter.step(x):
            trained(model, x)
        assert flops(meter) == comparable(lambda x=x: trained(model, x))  # type: ignore[misc]
    rates = meter.rates()
    assert rates is not None
    assert (rates.counted, rates.steps) == (3, 2)


def test_a_frozen_layer_is_counted_anew() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    seen = []
    for frozen in (False, True, True, False):
        model.first.requires_grad_(not frozen)
        with meter.step(x):
            trained(model, x)
        seen.append(flops(meter))
        assert seen[-1] == comparable(lambda: trained(model, x))
    weight = 2 * 2 * 8 * 8  # the first layer's gradient of its weight
    into_last = 2 * 2 * 8 * 4  # and the last one's of its input, which leads nowhere then
    assert [seen[0] - other for other in seen] == [0, weight + into_last, weight + into_last, 0]
    rates = meter.rates()
    assert rates is not None
    assert rates.counted == 2


def test_a_change_of_training_mode_is_counted_anew() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    for mode in (True, False, True, False):
        model.drop.train(mode)
        with meter.step(x):
            trained(model, x)
    rates = meter.rates()
    assert rates is not None
    assert rates.counted == 2


def test_accumulated_steps_cost_the_same_apart_and_in_one() -> None:
    model, parts = Net(), [torch.ones(2, 8), torch.ones(3, 8)]
    apart, _ = quiet(model)
    costs = []
    for part in parts:
        with apart.step(part):
            trained(model, part)
        costs.append(flops(apart))
    one, _ = quiet(model)
    with one.step(parts):
        trained(model, *parts)
    assert flops(one) == sum(costs) == comparable(lambda: trained(model, *parts))


def test_what_runs_again_is_the_hardwares_only() -> None:
    x = torch.ones(2, 8)
    plain, again = Net(), Net(again=True)
    works = []
    for model in (plain, again):
        meter, ticks = quiet(model)
        for _ in range(2):
            with meter.step(x):
                trained(model, x)
                ticks.now += 1.0
        assert meter.mfu is not None
        assert meter.hfu is not None
        works.append((meter.work, meter.mfu, meter.hfu))
    (work, mfu, hfu), (work_again, mfu_again, hfu_again) = works
    assert work is not None
    assert work_again is not None
    assert work.hardware_flops == work.model_flops == work_again.model_flops
    assert work_again.hardware_flops - work_again.model_flops == 2 * 2 * 8 * 8
    assert mfu == hfu == mfu_again < hfu_again


def test_the_optimizer_is_no_part_of_it() -> None:
    class Products(torch.optim.Optimizer):
        """Computes a matrix product, as Muon does."""

        def step(self, closure: Any = None) -> Any:
            torch.ones(8, 8) @ torch.ones(8, 8)

    model, x = Net(), torch.ones(2, 8)
    optimizer = Products(model.parameters(), {})

    def step() -> None:
        trained(model, x)
        optimizer.step()

    for figure in ("comparable", "flops"):
        meter, _ = quiet(model, figure=figure)
        model.zero_grad()
        with meter.step(x):
            step()
        model.zero_grad()
        with FlopCounter(display=False) as counter:
            step()
        profile = counter.profile
        assert profile.by_phase()["optimizer"].flops == 2 * 8**3
        total = profile.comparable_flops if figure == "comparable" else profile.flops
        assert flops(meter) == total - 2 * 8**3


def test_products_outside_of_modules_are_the_models() -> None:
    model, x = nn.Linear(8, 8), torch.ones(2, 8)
    meter, _ = quiet(model)
    with meter.step(x):
        (model(x) @ model.weight.t()).sum().backward()
    one = 2 * 2 * 8 * 8
    assert flops(meter) == one * (2 + 3)  # the layer's input needs no gradient


def test_a_functions_head_in_bfloat16_goes_by_the_dtype_of_most_products() -> None:
    model, x = nn.Linear(8, 8), torch.ones(2, 8)
    meter, ticks = quiet(model)
    for _ in range(2):
        with meter.step(x), torch.autocast("cpu", torch.bfloat16):
            model(x).float().sum().backward()
            ticks.now += 1.0
    assert meter.mfu == 2 * (2 * 2 * 8 * 8) / 4000
    assert meter.work is not None
    assert meter.work.dtype is torch.bfloat16


def test_a_step_without_flops_needs_no_peak_and_reaches_none_of_it() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, ticks = quiet(model)
    for shape in (2, 3, 2, 3):
        with meter.step(torch.ones(shape, 8)):
            if shape == 3:
                torch.arange(5).sum()  # int64, whose rate isn't known
            else:
                trained(model, x)
            ticks.now += 1.0
    assert meter.work is not None
    assert (meter.work.model_flops, meter.work.dtype) == (0, None)
    assert meter.mfu == 896 / 1000 / 2  # of the two that were timed, one has products


# What tells steps apart


def test_the_same_shapes_by_other_names_are_another_step() -> None:
    first, second, x = nn.Linear(8, 4), nn.Linear(8, 16), torch.ones(2, 8)
    both = nn.ModuleDict({"first": first, "second": second})
    meter, _ = quiet(both)
    seen = []
    for name in ("first", "second", "first", "second"):
        with meter.step({"text": "none", "of": {name: x}}):
            both[name](x).sum().backward()
        seen.append(flops(meter))
    assert seen == [256, 1024, 256, 1024]
    rates = meter.rates()
    assert rates is not None
    assert rates.counted == 2


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_go_by_their_rows_and_elements(layout: torch.layout) -> None:
    model = Net()
    meter, _ = quiet(model)
    for lengths in ((3, 2), (3, 2), (1, 4), (9, 2)):
        parts = [torch.ones(length, 8) for length in lengths]
        with meter.step(torch.nested.nested_tensor(parts, layout=layout)):
            trained(model, parts[0])
    rates = meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (4, 2)


def test_a_key_stands_for_a_batch_whose_tensors_are_out_of_sight() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    for key in ("short", "long", "short"):
        with meter.step(object(), key=key):
            trained(model, x)
    rates = meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (3, 2)


def test_a_large_models_state_is_kept_once_however_many_the_shapes() -> None:
    model = nn.Sequential(*[nn.ReLU() for _ in range(5000)])
    meter, _ = quiet(model)
    shapes = 40
    tracemalloc.start()
    try:
        for key in range(shapes):
            with meter.step(key=key):
                pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < shapes * 5000 * 8 / 4  # a flag for each module takes 8 bytes


def test_a_batch_may_be_freed_within_its_step() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    for _ in range(2):
        x = torch.ones(2, 8)
        freed = weakref.ref(x)
        with meter.step({"x": x}):
            trained(model, x)
            del x
            assert freed() is None


# Nothing in the loop


def test_nothing_of_a_counter_is_active_when_a_step_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered: list[FlopCounter] = []
    enter = FlopCounter.__enter__

    def watched(counter: FlopCounter) -> FlopCounter:
        entered.append(counter)
        return enter(counter)

    monkeypatch.setattr(FlopCounter, "__enter__", watched)
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    seen = []
    for _ in range(3):
        with meter.step(x):
            trained(model, x)
            seen.append((len(_get_current_dispatch_mode_stack()), len(entered)))
    assert seen == [(1, 1), (0, 1), (0, 1)]


def test_a_profile_or_a_counter_stands_for_every_step() -> None:
    model, x = Net(), torch.ones(2, 8)
    with FlopCounter(display=False) as counter:
        trained(model, x)
    for given in (counter, counter.profile, count(model, (2, 8), backward=True)):
        meter, ticks = quiet(given)
        with meter.step(tokens=6):
            assert _get_current_dispatch_mode_stack() == []
            ticks.now += 2.0
        assert meter.mfu == 2 * (2 * 128 + 3 * 64) / 2 / 1000
        rates = meter.rates()
        assert rates is not None
        assert rates.tokens_per_s == 3


def test_what_was_counted_on_meta_is_not_counted_again() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    meter.expect(x, count(model, x, backward=True))
    with meter.step(x):
        assert _get_current_dispatch_mode_stack() == []
        trained(model, x)
    rates = meter.rates()
    assert rates is not None
    assert rates.counted == 0
    assert flops(meter) == comparable(lambda: trained(model, x))


def test_recount_counts_what_no_shape_tells() -> None:
    model, x = Net(), torch.ones(2, 8)
    meter, _ = quiet(model)
    seen = []
    for again in (False, True):
        model.again = again
        meter.recount()
        with meter.step(x):
            trained(model, x)
        assert meter.work is not None
        seen.append(meter.work.hardware_flops)
    assert seen[1] - seen[0] == 2 * 2 * 8 * 8


@needs_torch(2, 15, "what another test has run under a mode isn't compiled later")
def test_a_compiled_model_is_counted_as_eager_code_and_then_runs_compiled() -> None:
    ran = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            ran.append(len(_get_current_dispatch_mode_stack()))
            return graph.forward(*args)

        return run

    torch.compiler.reset()
    model, x = Net(), torch.ones(2, 8)
    compiled: Any = torch.compile(model, backend=backend)
    meter, _ = quiet(compiled)
    for _ in range(3):
        with meter.step(x):
            trained(compiled, x)
    assert flops(meter) == comparable(lambda: trained(model, x))
    assert ran == [0, 0]
