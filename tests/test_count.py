"""count(): one run of a model, of which nothing is changed."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import ArgumentError, UncountedOperatorError, count, spec
from flopdispatch.spec import TensorSpec
from tests.programs import ConvNet, Failing, Keywords, macs_by_scope, state_of_torch

META, CPU = "meta", "cpu"


def snapshot(model: nn.Module) -> list[Any]:
    """All of a model that a run could change."""
    state: list[Any] = [(n, m.training, sorted(vars(m))) for n, m in model.named_modules()]
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        grad = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
        place = (id(tensor), type(tensor), tensor.device, tensor.requires_grad, tensor._version)
        state.append((name, place, tensor.data_ptr(), tensor.tolist(), grad))
    return [*state, list(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]]


def random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate()


class Draws(nn.Module):
    """Draws from the CPU's generator wherever it runs, as layer drop does."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(torch.rand(1, device="cpu"))


class Reassigns(nn.Module):
    """Replaces a buffer of its own in the forward."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return x + self.steps


@pytest.mark.parametrize("device", [META, CPU])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_of_the_model_is_changed(device: str, backward: bool, training: bool) -> None:
    model = nn.Sequential(ConvNet(), Reassigns(), Draws()).train(training)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    next(iter(model.parameters())).requires_grad_(False)
    before, states, rest = snapshot(model), random_states(), state_of_torch()
    profile = count(model, (2, 3, 8, 8), backward=backward, device=device)
    assert profile.macs > 0
    assert snapshot(model) == before
    assert random_states() == states
    assert state_of_torch() == rest


@pytest.mark.parametrize("device", [META, CPU])
def test_an_exception_in_the_model_changes_nothing_and_comes_through(device: str) -> None:
    error = ValueError("boom")
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(), Failing(error))
    before, states, rest = snapshot(model), random_states(), state_of_torch()
    with pytest.raises(ValueError, match="boom") as caught:
        count(model, (4, 8), device=device)
    assert caught.value is error
    assert snapshot(model) == before
    assert random_states() == states
    assert state_of_torch() == rest


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    count(nn.Linear(2, 2), (1, 2))
    assert capsys.readouterr() == ("", "")


def test_meta_and_cpu_agree() -> None:
    model = ConvNet()
    profiles = [count(model, (2, 3, 8, 8), backward=True, device=d) for d in (META, CPU)]
    # 2·8·8 positions by 4·27; head 2·2·4; backward: weights of both, input of the head only
    assert [p.macs for p in profiles] == [2 * (13824 + 16) + 16] * 2
    assert profiles[0].params == 3 * 4 * 9 + 4 + 8 + 4 * 2 + 2
    assert profiles[0].total.flops == profiles[1].total.flops


# Inputs


class Given(nn.Module):
    """Tells what it is called with."""

    called: list[Any] = []  # noqa: RUF012 (a module's own attributes are as they were)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        self.called[:] = [args, kwargs]
        return self.scale * 2


def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    count(Given(), *args, **kwargs)
    args, kwargs = Given.called
    return args, kwargs


def test_a_tuple_of_integers_is_a_float_tensor_on_meta() -> None:
    (x,), _ = given((2, 3))
    assert (x.shape, x.dtype, x.device.type) == ((2, 3), torch.float32, "meta")


def test_a_spec_says_its_dtype() -> None:
    _, kwargs = given(ids=spec(2, 3, dtype=torch.long))
    x = kwargs["ids"]
    assert (x.shape, x.dtype, x.device.type) == ((2, 3), torch.long, "meta")
    (x,), _ = given(TensorSpec((4,), torch.bool))
    assert (x.shape, x.dtype) == ((4,), torch.bool)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_shape_follows_the_default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        (x,), _ = given((2,))
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.dtype == dtype


def test_a_tensor_keeps_its_metadata_and_loses_its_data() -> None:
    tensor = torch.ones(3, 2, dtype=torch.float16, requires_grad=True).t()
    (x,), _ = given(tensor)
    assert (x.shape, x.stride(), x.dtype) == ((2, 3), (1, 2), torch.float16)
    assert x.device.type == "meta"
    assert x.requires_grad


def test_inputs_are_found_in_containers_and_the_rest_is_passed_on() -> None:
    marker = object()
    args, kwargs = given(
        [(1, 2), (3, 4)], {"x": spec(5)}, [7, 8], (), True, 3, None, marker, text="(1, 2)"
    )
    assert [x.shape for x in args[0]] == [(1, 2), (3, 4)]
    assert args[1]["x"].shape == (5,)
    assert args[2:] == ([7, 8], (), True, 3, None, marker)
    assert kwargs == {"text": "(1, 2)"}


def test_keyword_only_models_are_called_with_keywords() -> None:
    assert count(Keywords(), hidden=(8, 8)).macs == 512


def test_functions_are_counted_too() -> None:
    profile = count(lambda a, b: a @ b, (2, 3), (3, 4))
    assert macs_by_scope(profile) == {"": 24}


def test_an_input_that_needs_a_gradient_has_one_counted() -> None:
    layer = nn.Linear(4, 3, bias=False)
    without = count(layer, (2, 4), backward=True)
    with_grad = count(layer, torch.ones(2, 4, requires_grad=True), backward=True)
    assert (without.macs, with_grad.macs) == (2 * 24, 3 * 24)
    x = torch.ones(2, 4, requires_grad=True)
    with torch.inference_mode():
        assert count(layer, x).macs == count(layer, x, device="cpu").macs == 24
        assert count(layer, x, backward=True).macs == 3 * 24
    count(layer, x, backward=True, device="cpu")
    assert x.grad is None


# Ties, modes, backward


def test_tied_parameters_stay_tied_and_count_once() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False))
    model[1].weight = model[0].weight
    profile = count(model, spec(2, 3, dtype=torch.long))
    assert profile.params == 28
    assert profile.macs == 6 * 28


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_callers_grad_mode_holds_and_backward_runs_in_any(mode: Any) -> None:
    model = ConvNet()
    with mode():
        forward = count(model, (2, 3, 8, 8))
        both = count(model, (2, 3, 8, 8), backward=True)
    assert forward.macs == 13824 + 16
    assert both.macs == 2 * (13824 + 16) + 16
    assert "backward" in both.by_phase()


@dataclass
class Output:
    """What models of transformers return."""

    loss: Tensor | None
    logits: Tensor


class WithLoss(nn.Module):
    """Offers a loss beside its logits."""

    def __init__(self, loss: bool) -> None:
        super().__init__()
        self.linear, self.loss = nn.Linear(4, 4, bias=False), loss

    def forward(self, x: Tensor) -> Output:
        logits = self.linear(x)
        extra = logits @ logits.t()
        return Output(logits.sum() if self.loss else None, extra)


def test_the_backward_begins_at_the_loss_or_else_at_all_outputs() -> None:
    # forward: 2·4·4, and 2·2·4 for the product with itself; the backward of the loss alone is
    # the weight's 32; that of the logits also two products of 2·2·4
    assert count(WithLoss(True), (2, 4), backward=True).macs == 32 + 16 + 32
    assert count(WithLoss(False), (2, 4), backward=True).macs == 32 + 16 + 32 + 2 * 16


# Errors


def text_of(kind: type[Exception], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(kind) as caught:
        count(*args, **kwargs)
    return str(caught.value)


def test_a_model_must_be_callable() -> None:
    assert text_of(ArgumentError, "resnet50") == (
        "count() takes a module or a function as its model, got str"
    )


@pytest.mark.parametrize("device", ["gpu", 3.5])
def test_a_device_must_be_one(device: Any) -> None:
    assert text_of(ArgumentError, nn.Linear(2, 2), (1, 2), device=device) == (
        f"device= takes 'meta', 'cpu', 'cuda' or a torch.device, got {device!r}"
    )


def test_a_size_is_not_negative() -> None:
    assert text_of(ArgumentError, nn.Linear(2, 2), (-1, 2)) == (
        "input 0: a shape has sizes >= 0, got (-1, 2)"
    )
    assert text_of(ArgumentError, Given(), x=[{"a": (2, -2)}]) == (
        "x=[0]['a']: a shape has sizes >= 0, got (2, -2)"
    )


def test_an_output_without_gradients_has_no_backward() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    assert text_of(ArgumentError, frozen, (1, 2), backward=True) == (
        "backward=True: nothing in the model's output requires gradients; does any of its "
        "parameters have requires_grad=True?"
    )


def test_a_lazy_model_is_refused() -> None:
    assert text_of(ArgumentError, nn.LazyLinear(2), (1, 2)) == (
        "the parameter weight of LazyLinear is uninitialized (a lazy module); run the model "
        "once on real inputs first"
    )


def test_an_unknown_convention_is_refused() -> None:
    assert text_of(ArgumentError, nn.Linear(2, 2), (1, 2), convention="thop2").endswith(
        "got 'thop2'"
    )


def test_strict_raises_here_too() -> None:
    text = text_of(UncountedOperatorError, unknown, (2,), strict=True)
    assert "flopdispatch_tests::unknown.default ran 1 times, in the block itself" in text


@torch.library.custom_op("flopdispatch_tests::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    """An operator without a formula."""
    return x.clone()


@unknown.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_a_module_at_several_paths_keeps_its_own_parameters() -> None:
    """Also where one is a part of two others, and a parameter is in two modules."""
    shared, tied = nn.BatchNorm1d(4), nn.Linear(4, 4)
    tied.weight = nn.Parameter(torch.randn(4, 4))
    other = nn.Linear(4, 4)
    other.weight = tied.weight
    model = nn.Sequential(nn.Sequential(shared, tied), nn.Sequential(shared, other), shared)
    before = dict(model.state_dict(keep_vars=True))
    profile = count(model, (2, 4), backward=True)
    after = dict(model.state_dict(keep_vars=True))
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert shared.weight.device.type == "cpu"
    assert profile.params == 2 * 4 + 16 + 2 * 4
    assert all(p.grad is None for p in model.parameters())


def test_data_parallel_is_looked_through() -> None:
    model = nn.Linear(4, 3)
    assert count(nn.DataParallel(model), (2, 4)).macs == count(model, (2, 4)).macs == 24


def test_what_a_forward_keeps_in_its_module_is_not_of_a_counts_run() -> None:
    """Attributes, what is in lists and dicts, new buffers and modules; also where it raises."""

    class Keeps(nn.Module):
        def __init__(self, fails: bool) -> None:
            super().__init__()
            self.anchors, self.seen = torch.ones(3), [1, 2]
            self.cache: dict[str, Any] = {"x": 1}
            self.fails, self.gone = fails, "here"

        def forward(self, x: Tensor) -> Tensor:
            self.anchors = self.anchors.to(x.device)
            self.cache["mask"] = x
            self.cache["x"] += 1
            self.seen.append(3)
            self.new = x
            del self.gone
            self.register_buffer("late", x)
            self.child = nn.Identity()
            if self.fails:
                raise KeyError("no")
            return x * 2

    for fails in (False, True):
        model = Keeps(fails)
        anchors, names = model.anchors, list(vars(model))
        with pytest.raises(KeyError) if fails else nullcontext():
            count(nn.Sequential(model), (2, 3))
        assert model.anchors is anchors
        assert (model.cache, model.seen, model.gone) == ({"x": 1}, [1, 2], "here")
        assert sorted(vars(model)) == sorted(names)
        assert not list(model.buffers())
        assert not list(model.children())


def test_a_scripted_model_is_refused_with_a_way_out() -> None:
    scripted = torch.jit.script(nn.Linear(4, 3))
    with pytest.raises(ArgumentError, match="FlopCounter"):
        count(scripted, (2, 4))
