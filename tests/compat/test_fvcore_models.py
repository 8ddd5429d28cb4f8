"""Models of any kind through the fvcore face, which leaves them as they were."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from flopdispatch import spec
from flopdispatch.compat.fvcore import (
    ActivationCountAnalysis,
    FlopCountAnalysis,
    flop_count_str,
    flop_count_table,
)

X = torch.randn(2, 4)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No news of what is left out."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


class Net(nn.Module):
    """Several inputs, a keyword, a dict; tied, frozen and bare parameters; a shared module."""

    steps: Tensor

    def __init__(self, fails: type[Exception] | None = None, asks: bool = False) -> None:
        super().__init__()
        self.line = nn.Linear(4, 4)
        self.again = self.line
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.line.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.bare = nn.Parameter(torch.randn(4, 4))
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.zeros(1))
        self.fails, self.asks = fails, asks

    def forward(self, x: Tensor, y: Tensor, *, extra: Tensor | None = None) -> dict[str, Tensor]:
        self.steps += 1
        x = self.again(self.line(x)) + self.tied(self.frozen(y)) @ self.bare
        if self.asks and x.sum().item() > 1e9:
            return {}
        if self.fails:
            raise self.fails("no")
        return {"out": self.norm(x), "more": x if extra is None else self.line(extra)}


PRODUCT = 2 * 4 * 4
EXPECTED = {
    "": 6 * PRODUCT + 5 * 8, "line": 3 * PRODUCT, "tied": PRODUCT, "frozen": PRODUCT,
    "norm": 5 * 8,
}  # fmt: skip


@pytest.mark.parametrize("asks", [False, True])
def test_all_kinds_of_inputs_outputs_and_parameters(asks: bool) -> None:
    found = FlopCountAnalysis(Net(asks=asks), (X, X), {"extra": X})
    assert found.by_module() == EXPECTED
    assert found.by_operator() == {"linear": 5 * PRODUCT, "matmul": PRODUCT, "batch_norm": 40}
    assert found.total("again") == found.total("line")
    assert found.uncalled_modules() == set()
    shapes = FlopCountAnalysis(Net(), ((2, 4), spec(2, 4)), {"extra": (2, 4)})
    assert shapes.by_module() == EXPECTED


def test_activations_of_the_same() -> None:
    found = ActivationCountAnalysis(Net(), (X, X), {"extra": X})
    assert found.by_operator() == {"linear": 5 * 8, "matmul": 8}
    assert found.total("line") == 3 * 8


def test_activations_that_fvcore_lacks() -> None:
    class Products(nn.Module):
        def forward(self, x: Tensor, v: Tensor) -> Any:
            rows = x.unsqueeze(0)
            same = functional.conv1d(rows, torch.ones(5, 2, 3), padding="same")
            attended = functional.scaled_dot_product_attention(rows, rows, rows)
            return same, attended, torch.mm(x, x.T), torch.mv(x, v), torch.baddbmm(rows, rows, rows)

    found = ActivationCountAnalysis(Products(), (torch.ones(2, 2), torch.ones(2)))
    assert found.by_operator() == {
        "conv": 5 * 2, "scaled_dot_product_attention": 4, "mm": 4, "mv": 2, "baddbmm": 4,
    }  # fmt: skip


@pytest.mark.parametrize("leaf", [nn.Linear(4, 3), nn.Conv1d(2, 3, 1), nn.LSTM(4, 3), nn.ReLU()])
def test_a_leaf_as_the_model(leaf: nn.Module) -> None:
    expected = {nn.Linear: 2 * 12, nn.Conv1d: 3 * 4 * 2, nn.LSTM: 2 * 4 * 3 * (4 + 3), nn.ReLU: 0}
    found = FlopCountAnalysis(leaf, X)
    assert found.by_module() == {"": expected[type(leaf)]}
    assert found.uncalled_modules() == set()


def state(model: nn.Module) -> Any:
    """All that may not change."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [
        (type(m), m.training, sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in model.modules()
    ]
    parameters = [(id(p), p.requires_grad, p.grad) for p in model.parameters()]
    classes = sorted(vars(nn.Module)), sorted(vars(type(model))), nn.Module.__call__
    return values, modules, parameters, classes, torch.backends.mha.get_fastpath_enabled()


def same(one: Any, other: Any) -> bool:
    equal = all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    return one[0].keys() == other[0].keys() and equal and one[1:] == other[1:]


@pytest.mark.parametrize("asks", [False, True])
def test_a_model_is_as_it_was(asks: bool) -> None:
    model = Net(asks=asks)
    model.tied.eval()
    before = state(model)
    flops = FlopCountAnalysis(model, (X, X))
    acts = ActivationCountAnalysis(model, (X, X))
    flop_count_table(flops, activations=acts)
    flop_count_str(flops, acts)
    assert same(before, state(model))


@pytest.mark.parametrize("error", [KeyError, RuntimeError])
@pytest.mark.parametrize("asks", [False, True])
def test_also_when_it_fails(error: type[Exception], asks: bool) -> None:
    model = Net(error, asks)
    before = state(model)
    found = FlopCountAnalysis(model, (X, X))
    with pytest.raises(error, match="no"):
        found.total()
    assert same(before, state(model))
    model.fails = None
    assert found.total() == 5 * PRODUCT + 40


def test_attention_layers_call_their_modules_whatever_the_grad_mode() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    x = torch.ones(1, 3, 4)
    expected = FlopCountAnalysis(layer, x).by_module_and_operator()
    assert expected["linear1"] == {"linear": 3 * 4 * 8}
    assert expected["norm1"] == {"layer_norm": 5 * 12}
    assert expected["self_attn"] == {
        "linear": 4 * 3 * 16, "scaled_dot_product_attention": 2 * 9 * 4,
    }  # fmt: skip
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert FlopCountAnalysis(layer, x).by_module_and_operator() == expected


def test_a_model_that_asks_for_gradients() -> None:
    """Forward and input's gradient of a linear layer, by the operators below."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.line(x).sum(), x)
            return slope

    found = FlopCountAnalysis(Slope(), X)
    assert found.by_operator() == {"addmm": PRODUCT, "mm": PRODUCT}
    assert found.by_module() == {"": 2 * PRODUCT, "line": PRODUCT}


class Product(torch.autograd.Function):
    """x @ w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        return x @ w

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError


class Ways(nn.Module):
    """Ways to call a layer."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.line = nn.Linear(4, 4, bias=False)
        self.way = way

    def forward(self, x: Tensor) -> Any:
        if self.way == "function":
            return Product.apply(x, self.line.weight)
        if self.way == "forward":
            return self.line.forward(x)
        if self.way == "cond":
            return torch.cond(x.sum() > -1e9, self.line, lambda x: x + 1, (x,))
        return checkpoint(self.line, x, use_reentrant=False)


@pytest.mark.parametrize(
    ("way", "line"), [("function", 0), ("forward", 0), ("checkpoint", PRODUCT), ("cond", PRODUCT)]
)
def test_ways_to_call(way: str, line: int) -> None:
    found = FlopCountAnalysis(Ways(way), X)
    assert found.total() == PRODUCT
    assert found.total("line") == line
    assert found.uncalled_modules() == ({"line"} if line == 0 else set())


def test_a_handle_that_can_not_be_called_is_news() -> None:
    """In a function that is given to torch, operators aren't noted as they are called."""
    found = FlopCountAnalysis(Ways("cond"), X).set_op_handle("aten::mm", lambda i, o: 1)
    assert found.total() == 0
    assert found.unsupported_ops()["aten::mm"] == 1


@torch.library.custom_op("flopdispatch_fvcore::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    """2·x, of which no formula is known."""
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_an_operator_without_a_formula_is_unsupported(recwarn: pytest.WarningsRecorder) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return twice(x)

    found = FlopCountAnalysis(Twice(), X)
    assert found.total() == 0
    assert found.unsupported_ops() == Counter({"flopdispatch_fvcore::twice": 1})
    assert not recwarn.list


def test_wrapped_models() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    found = FlopCountAnalysis(nn.DataParallel(model), X)
    assert found.by_module() == {
        "": PRODUCT, "module": PRODUCT, "module.0": PRODUCT, "module.1": 0,
    }  # fmt: skip
    assert found.canonical_module_name("module.1") == "module.1"


def test_half_precision_and_meta() -> None:
    for model in (nn.Linear(4, 4).half(), nn.Linear(4, 4, device="meta")):
        x = X.to(model.weight.dtype).to(model.weight.device)
        assert FlopCountAnalysis(model, x).total() == PRODUCT


def test_an_operator_without_a_formula_below_another() -> None:
    """Its own kernel is written in the other; a handle for that one covers it."""

    class Outer(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.ops.flopdispatch_fvcore.outer(x)

    found = FlopCountAnalysis(Outer(), X)
    assert found.total() == PRODUCT // 2
    assert found.by_operator() == {"outer": PRODUCT // 2}
    assert found.unsupported_ops() == {"flopdispatch_fvcore::twice": 1}
    found.set_op_handle("flopdispatch_fvcore::outer", lambda i, o: 3)
    assert found.total() == 3
    assert not found.unsupported_ops()


library = torch.library.Library("flopdispatch_fvcore", "FRAGMENT")
library.define("outer(Tensor x) -> Tensor")
library.impl("outer", lambda x: twice(x) @ x.T, "CompositeImplicitAutograd")
