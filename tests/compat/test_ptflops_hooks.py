"""Hooks and classes that are left out, and models as they were, by the face of ptflops."""

from __future__ import annotations

import io
import re
import sys
import warnings
from typing import Any

import ptflops
import pytest
import torch
from torch import Tensor, nn

from flopdispatch import UncountedOperatorWarning
from flopdispatch.compat.ptflops import get_model_complexity_info
from tests.compat.test_ptflops import Net, macs, shared

aten = torch.ops.aten


def outputs_by_hundred(module: nn.Module, inputs: Any, output: Tensor) -> None:
    module.__flops__ += 100 * output.numel()  # type: ignore[assignment, operator]


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.inner(x) @ torch.ones(4, 4, device=x.device))
        return out


def test_ignored_classes_and_operators() -> None:
    model = nn.Sequential(Outer(), nn.ReLU())
    assert macs(model, (4,)) == 2 * 20 + 2 * 8 + 16
    assert macs(model, (4,), ignore_modules=[nn.ReLU]) == 2 * 20 + 16
    assert macs(model, (4,), ignore_modules=(nn.Linear,)) == 2 * 8 + 16
    assert macs(model, (4,), ignore_modules=[Outer]) == 8
    assert macs(model, (4,), ignore_modules=[aten.addmm]) == 2 * 8 + 16
    tool = ptflops.get_model_complexity_info(
        model, (4,), as_strings=False, print_per_layer_stat=False, ignore_modules=[nn.Linear]
    )
    assert tool[0] == 2 * 8  # the tool doesn't see `@`


def test_a_hook_replaces_what_is_counted_inside() -> None:
    model = nn.Sequential(Outer(), nn.ReLU())
    assert macs(model, (4,), custom_modules_hooks={Outer: outputs_by_hundred}) == 400 + 8
    hooks = {Outer: outputs_by_hundred, nn.ReLU: outputs_by_hundred}
    assert macs(model, (4,), custom_modules_hooks=hooks) == 400 + 400
    assert macs(model, (4,), custom_modules_hooks=hooks, ignore_modules=[Outer]) == 400


def test_a_hook_is_the_tools() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Tanh())

    def given(shape: Any) -> Tensor:
        return torch.zeros(3, *shape)

    options: dict[str, Any] = {
        "custom_modules_hooks": {nn.Tanh: outputs_by_hundred}, "input_constructor": given,
    }  # fmt: skip
    tool = ptflops.get_model_complexity_info(
        model, (4,), as_strings=False, print_per_layer_stat=False, **options
    )
    assert macs(model, (4,), **options) == tool[0] == 20 + 800


def test_a_hook_of_an_operator_sees_tensors() -> None:
    hooks = {aten.addmm: lambda inputs, outputs: 7 * inputs[1].numel() + outputs[0].shape[-1]}
    assert macs(nn.Linear(4, 5), (4,), custom_modules_hooks=hooks) == 7 * 4 + 5


def test_a_module_called_twice_has_its_hook_twice_and_is_printed_so() -> None:
    stream = io.StringIO()
    hooks = {nn.Linear: outputs_by_hundred}
    found = get_model_complexity_info(shared(), (4,), ost=stream, custom_modules_hooks=hooks)
    assert found == ("812 Mac", "20")
    shown = re.findall(r"([\d.]+) Mac", stream.getvalue())
    assert shown == ["812.0", "800.0", "8.0", "800.0"]


def test_a_module_of_two_parents_has_its_hook_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(nn.Sequential(layer), nn.Sequential(nn.ReLU(), layer))
    hooks = {nn.Linear: outputs_by_hundred}
    assert macs(model, (4,), custom_modules_hooks=hooks) == 2 * 400 + 8


def test_a_module_that_calls_itself_counts_all_of_its_calls() -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            out: Tensor = self.layer(x)
            return self(out, depth - 1) if depth else out

    assert macs(Recursive(), (4,)) == 3 * 20
    for kind in (nn.Linear, Recursive):
        assert macs(Recursive(), (4,), custom_modules_hooks={kind: outputs_by_hundred}) == 3 * 400


def test_a_hook_counts_the_run_that_ended() -> None:
    """The first, on meta, ends where the model asks for a value."""

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out * out.sum().item()

    assert macs(Looks(), (4,), custom_modules_hooks={nn.Linear: outputs_by_hundred}) == 400


@torch.library.custom_op("flopdispatch_ptflops::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    """An operator without a formula."""
    return x.clone()


@unknown.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = unknown(x)
        return out


def test_operators_without_a_formula_are_warned_of_unless_they_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Unknown())
    for options in ({}, {"ignore_modules": [nn.Linear]}):
        with pytest.warns(UncountedOperatorWarning, match="flopdispatch_ptflops::unknown"):
            macs(model, (4,), **options)
    replaced: tuple[dict[str, Any], ...] = (
        {"ignore_modules": [Unknown]},
        {"custom_modules_hooks": {Unknown: outputs_by_hundred}},
        {"ignore_modules": [torch.ops.flopdispatch_ptflops.unknown]},
    )
    for given in replaced:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            macs(model, (4,), **given)


# The model stays as it is


def state(model: nn.Module) -> Any:
    modules = [
        (m.training, sorted(vars(m)), m.__dict__.get("__flops__"), len(m._forward_hooks),
         len(m._forward_pre_hooks), len(m._forward_hooks_always_called), m.extra_repr())
        for m in model.modules()
    ]  # fmt: skip
    values = {name: value.clone() for name, value in model.state_dict().items()}
    classes = [sorted(vars(type(m))) for m in model.modules()]
    return modules, values, classes, [p.grad for p in model.parameters()], sorted(vars(nn.Module))


def same(one: Any, other: Any) -> bool:
    values = all(torch.equal(one[1][name], other[1][name]) for name in {**one[1], **other[1]})
    return values and (one[0], *one[2:]) == (other[0], *other[2:])


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_as_it_was(fails: bool) -> None:
    model = nn.Sequential(Outer(), nn.BatchNorm1d(4), nn.Dropout(), Fails() if fails else Net())
    model.train()[1].eval()
    model[0].__dict__["__flops__"] = 3  # the user's own
    before = state(model)

    def run() -> None:
        get_model_complexity_info(
            model, (4,), ost=io.StringIO(), verbose=True,
            custom_modules_hooks={Outer: outputs_by_hundred},
        )  # fmt: skip

    if fails:
        with pytest.raises(KeyError, match="no such thing") as caught:
            run()
        if sys.version_info >= (3, 11):
            (note,) = caught.value.__notes__
            assert note == (
                "get_model_complexity_info ran Sequential on one input of shape (1, 4); "
                "input_constructor= makes other inputs"
            )
    else:
        run()
    assert same(before, state(model))


def test_a_hook_that_fails_leaves_nothing() -> None:
    def fails(module: nn.Module, inputs: Any, output: Any) -> None:
        raise ZeroDivisionError

    model = Net()
    before = state(model)
    with pytest.raises(ZeroDivisionError):
        macs(model, (4,), custom_modules_hooks={nn.Linear: fails})
    assert same(before, state(model))


def test_a_model_with_a_module_of_two_names_is_as_it_was() -> None:
    model = shared()
    before = state(model)
    macs(model, (4,))
    assert same(before, state(model))
