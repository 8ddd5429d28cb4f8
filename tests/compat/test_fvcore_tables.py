"""fvcore's tables and texts, line by line."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import tabulate
import torch
import torchvision
from fvcore import nn as theirs
from torch import Tensor, nn

from flopdispatch.compat import fvcore as ours
from flopdispatch.compat.fvcore_tables import shortened, tenths

X = torch.ones(1, 3, 32, 32)


class Odd(nn.Module):
    """A chain of only children, a bare parameter, a module that isn't called, one without any."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.chain = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)))
        self.unused = nn.Linear(300, 300)
        self.same = nn.Identity()
        self.act = nn.ReLU()
        self.tied = nn.Conv2d(3, 4, 3)
        self.tied.weight = self.chain[0][0].weight  # type: ignore[index]

    def forward(self, x: Tensor) -> Any:
        return self.act(self.same(self.chain(x) * self.scale)) + self.tied(x)


MODELS = {
    "odd": Odd,
    "one layer": lambda: nn.Conv2d(3, 4, 3),
    "one layer in two": lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3))),
    "nothing": nn.ReLU,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "resnet18": torchvision.models.resnet18,
    "squeezenet1_1": torchvision.models.squeezenet1_1,
}


@pytest.fixture(autouse=True)
def as_meant(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """fvcore with its indents, which it asks tabulate for in a way that 0.10 knows no more."""
    keeping = partial(tabulate.tabulate, preserve_whitespace=True)
    for name in ("print_model_statistics", "parameter_count"):
        module = importlib.import_module(f"fvcore.nn.{name}")
        assert module.tabulate is tabulate
    monkeypatch.setattr(tabulate, "tabulate", keeping)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=MODELS)
def analyses(request: pytest.FixtureRequest) -> Any:
    """FLOPs and activations, ours and fvcore's."""
    model = MODELS[request.param]().eval()
    return [
        (found.FlopCountAnalysis(model, X), found.ActivationCountAnalysis(model, X))
        for found in (ours, theirs)
    ]


def test_the_table(analyses: Any) -> None:
    for depth, shapes, with_activations in product([0, 1, 3, 9], [True, False], [True, False]):
        mine, other = (
            found.flop_count_table(flops, depth, acts if with_activations else None, shapes)
            for found, (flops, acts) in zip((ours, theirs), analyses)
        )
        assert mine == other
        assert len(mine.splitlines()) >= 3


def test_the_models_text(analyses: Any) -> None:
    for with_activations in (True, False):
        mine, other = (
            found.flop_count_str(flops, acts if with_activations else None)
            for found, (flops, acts) in zip((ours, theirs), analyses)
        )
        assert mine == other


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"nothing"}))
def test_parameters(name: str) -> None:
    model = MODELS[name]()
    assert ours.parameter_count(model) == theirs.parameter_count(model)
    assert ours.parameter_count(model)[""] == sum(p.numel() for p in model.parameters())
    assert ours.parameter_count(model)["nowhere"] == 0
    for depth in (0, 1, 3, 5):
        assert ours.parameter_count_table(model, depth) == theirs.parameter_count_table(
            model, depth
        )


def test_no_parameters() -> None:
    """fvcore raises KeyError."""
    assert ours.parameter_count_table(nn.ReLU()).splitlines()[-1].split() == [
        "|", "model", "|", "0", "|",
    ]  # fmt: skip


def test_a_name_without_a_module() -> None:
    """fvcore raises AttributeError."""
    model = nn.Linear(3, 4)
    model.register_module("none", None)
    text = ours.flop_count_str(ours.FlopCountAnalysis(model, torch.ones(2, 3)))
    assert text.splitlines() == [
        "Linear(", "  in_features=3, out_features=4, bias=True", "  #params: 16, #flops: 24",
        "  (none): None", ")",
    ]  # fmt: skip


def test_tables_say_nothing_besides(caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.NOTSET)
    flops = ours.FlopCountAnalysis(Odd().eval(), X)
    ours.flop_count_table(flops)
    ours.flop_count_str(flops.copy())
    assert caplog.messages == []
    flops.set_op_handle("aten::relu", None).total()
    assert caplog.messages != []


@pytest.mark.parametrize(
    "number", [0, 7, 100, 101, 999, 1000, 99_999, 100_001, 1e8, 123_456_789, 1e11 + 1, 2e14, -2e8]
)
def test_numbers(number: float) -> None:
    format_size = importlib.import_module("fvcore.nn.print_model_statistics")._format_size
    for digits in (2, 3):
        assert shortened(number, digits) == format_size(number, digits)


def test_numbers_of_parameters() -> None:
    found = [tenths(n) for n in (100, 101, 100_000, 100_001, 100_000_001)]
    assert found == ["100", "0.1K", "100.0K", "0.1M", "0.1G"]
