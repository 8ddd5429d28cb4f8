"""What other counters do to the program that they count; ours leaves it as it is."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as map_operator
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from flopdispatch import FlopCounter, count
from tests.programs import counted, state_of_torch
from tests.versions import needs_torch

ONES: Any = torch.ones(8)


def x() -> Tensor:
    return torch.linspace(-1, 1, 64).view(8, 8)


# Higher-order operators: FlopCounterMode runs both branches of a cond and returns the first's
# output, returns NotImplemented from a while_loop, and raises in a scan and in flex_attention


def cond(x: Tensor, taken: bool) -> Tensor:
    out: Tensor = torch.cond(torch.tensor(taken), lambda x: x @ x, lambda x: x.sin() + 1, (x,))
    return out


def loop(x: Tensor) -> Any:
    return while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, (x @ x).tanh()), (torch.tensor(0), x)
    )[1]


def attend(x: Tensor, mask: Any = None) -> Tensor:
    q = x.view(1, 1, 64, 1).expand(2, 2, 64, 16)
    out: Any = flex_attention(q, q.flip(2), q * 2, score_mod=_score, block_mask=mask)
    return out  # type: ignore[no-any-return]


def _score(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, kv: Tensor) -> Tensor:
    return score + (q - kv)


def attend_in_blocks(x: Tensor) -> Tensor:
    return attend(x, create_block_mask(lambda b, h, q, kv: q >= kv, None, None, 64, 64, "cpu"))


HIGHER: dict[str, Callable[[Tensor], Any]] = {
    "cond, taken": lambda x: cond(x, True),
    "cond, not taken": lambda x: cond(x, False),
    "two conds": lambda x: cond(x, False) + cond(x, True),
    "while_loop": loop,
    "scan": lambda x: scan(lambda carry, x: (carry + x, carry * x), torch.zeros(8), x)[1],
    "associative_scan": lambda x: associative_scan(torch.mul, x, 0, combine_mode="generic"),
    "map": lambda x: map_operator(lambda x, y: x * y, x, ONES),
    "flex_attention": attend,
    "flex_attention with a block mask": attend_in_blocks,
}


@pytest.mark.parametrize("name", HIGHER)
def test_higher_order_operators_give_what_they_give_without_us(name: str) -> None:
    torch._dynamo.reset()
    expected = HIGHER[name](x())
    with FlopCounter(display=False) as counter:
        found = HIGHER[name](x())
    assert torch.equal(found, expected)
    assert counter.flops > 0
    assert counter.profile.uncounted == {}


@needs_torch(2, 15, "a dispatch mode keeps these operators from compiling what they differentiate")
@pytest.mark.parametrize("name", HIGHER)
def test_higher_order_operators_have_the_gradients_that_they_have_without_us(name: str) -> None:
    torch._dynamo.reset()

    def gradient() -> Any:
        data = x().requires_grad_()
        try:
            return torch.autograd.grad(HIGHER[name](data).sum(), data)[0]
        except NotImplementedError as error:  # flex_attention on the CPU has none
            return str(error)

    expected = gradient()
    with FlopCounter(display=False):
        found = gradient()
    assert torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected


def test_a_whole_graph_is_compiled_and_a_leaf_has_its_gradient() -> None:
    model = nn.Linear(8, 8)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    data = x().requires_grad_()
    (expected,) = torch.autograd.grad(model(data).sum(), data)
    with FlopCounter(display=False):
        compiled(data)
        (found,) = torch.autograd.grad(model(data).sum(), data)
    assert torch.equal(found, expected)


def test_a_linear_layer_takes_jagged_tensors() -> None:
    rows = [torch.ones(2, 8), torch.ones(3, 8)]
    jagged = torch.nested.nested_tensor(rows, layout=torch.jagged)
    weight = x()
    profile = counted(F.linear, jagged, weight)
    assert profile.macs == 5 * 8 * 8


# One counter twice, an exception, a formula that raises, a report that can't be made


def test_an_exception_is_the_users_own_where_no_table_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tabulate", None)
    monkeypatch.delitem(sys.modules, "flopdispatch.report.table", raising=False)
    monkeypatch.delitem(sys.modules, "flopdispatch.report", raising=False)
    error = KeyError("mine")
    before = state_of_torch()
    with pytest.raises(KeyError) as caught, FlopCounter():
        raise error
    assert caught.value is error
    assert state_of_torch() == before


def test_what_an_exception_leaves_is_not_on_later_calls() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    with FlopCounter(display=False) as counter:
        with pytest.raises(ValueError, match="no"):
            nn.Sequential(nn.Identity(), Fails())(x())
        nn.Linear(8, 8, bias=False)(x())
    costs = counter.profile.by_scope()
    assert costs["Linear"].macs == 512
    assert costs["Sequential"].macs == 0


# Views of parameters without gradients: FlopCounterMode's hooks fail on them


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_siglip_224", "cait_xxs24_224", "pit_ti_224", "samvit_base_patch16"]
)
def test_models_that_view_their_parameters_run_without_gradients(name: str) -> None:
    model = timm.create_model(name).eval().to("meta")
    size = model.default_cfg["input_size"]
    with torch.no_grad(), FlopCounter(display=False) as counter:
        model(torch.empty(1, *size, device="meta"))
    assert counter.profile.uncounted == {}
    with torch.inference_mode(), FlopCounter(display=False) as again:
        model(torch.empty(1, *size, device="meta"))
    assert again.macs == counter.macs > 0


# One input for all iterations: FlopCounterMode hooks it anew each time


def test_a_persistent_input_is_never_hooked() -> None:
    model, data = nn.Sequential(nn.Linear(8, 8), nn.ReLU()), x().requires_grad_()
    with FlopCounter(display=False):
        for _ in range(5):
            model(data).sum().backward()
            assert data._backward_hooks is None
            assert data.grad_fn is None
            assert not data._post_accumulate_grad_hooks


# State of the model: thop's buffers, ptflops' eval mode, torchstat's keys and patch


class Shared(nn.Module):
    """One ReLU in two places, as thop can't have it."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.body = nn.Sequential(nn.Linear(8, 8), relu, nn.BatchNorm1d(8), nn.Linear(8, 8), relu)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_model_has_the_state_mode_and_hooks_that_it_had(training: bool, fails: bool) -> None:
    model = Shared().train(training)
    before, patches = copy.deepcopy(model.state_dict()), state_of_torch()
    shape = (4, 7) if fails else (4, 8)
    for _ in range(3):
        if fails:
            with pytest.raises(RuntimeError, match="dim"):
                count(model, shape)
        else:
            # 4 rows through two layers of 8 by 8.
            assert count(model, shape).macs == 2 * 4 * 8 * 8
    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    model.load_state_dict(before)
    for module in model.modules():
        assert module.training is training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert state_of_torch() == patches
    model(x())


def test_a_failure_is_raised_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        count(nn.Linear(8, 8), (1, 7))
    assert capsys.readouterr() == ("", "")
