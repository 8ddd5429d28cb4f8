"""Handles and settings of fvcore's analyses, beside its own."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fvcore import nn as theirs
from fvcore.nn import jit_handles
from torch import Tensor, nn

from flopdispatch import ArgumentError
from flopdispatch.compat import fvcore as ours
from flopdispatch.compat.fvcore_values import Value
from flopdispatch.errors import CounterStateError

X = torch.ones(2, 3, 8, 8)
NORM_AND_ADD = ("aten::batch_norm", "aten::add")


class Mixed(nn.Module):
    """All that fvcore has a handle for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, groups=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False)
        self.norms = nn.Sequential(
            nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4),
            nn.BatchNorm2d(4, affine=False),
        )  # fmt: skip
        self.rows = nn.LayerNorm(4, elementwise_affine=False)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.line = nn.Linear(4, 5)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.resize(self.norms(self.up(self.conv(x))))
        x = nn.functional.interpolate(x, scale_factor=0.5)
        grid = torch.zeros(x.shape[0], 4, 4, 2)
        x = nn.functional.grid_sample(x, grid, align_corners=False)
        rows = self.line(self.rows(x.flatten(2).transpose(1, 2)))
        rows = torch.einsum("abc,abd->acd", rows, rows) @ rows.transpose(1, 2)
        return torch.bmm(rows, rows.transpose(1, 2)).relu() + torch.mm(
            self.line.weight, self.line.weight.t()
        )


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The tracer warns, and fvcore logs."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def mixed() -> Any:
    return Mixed().eval()


def test_all_of_fvcores_names() -> None:
    mine, other = ours.FlopCountAnalysis(mixed(), X), theirs.FlopCountAnalysis(mixed(), X)
    assert mine.by_operator() == other.by_operator()
    assert set(mine.by_operator()) == {
        "conv", "batch_norm", "group_norm", "instance_norm", "layer_norm", "upsample_bilinear2d",
        "upsample_nearest2d", "grid_sampler", "linear", "einsum", "matmul", "bmm", "mm",
    }  # fmt: skip
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.uncalled_modules() == other.uncalled_modules() == {"unused"}


@pytest.mark.parametrize("training", [False, True])
def test_fvcores_own_handles_work(training: bool) -> None:
    """They read shapes, constants and lists from what they are given."""
    model = Mixed().train(training)
    mine = ours.FlopCountAnalysis(model, X).clear_op_handles()
    assert mine.total() == 0
    own = importlib.import_module("fvcore.nn.flop_count")._DEFAULT_SUPPORTED_OPS
    mine.set_op_handle(**own)
    other = theirs.FlopCountAnalysis(model, X)
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.total() == other.total() > 0


def shapes(value: Any) -> Any:
    """All that both kinds of value tell of one."""
    if value.isCompleteTensor():
        return value.type().sizes()
    if value.node().kind() == "prim::ListConstruct":
        return [shapes(item) for item in value.node().inputs()]
    return value.toIValue()


@pytest.mark.parametrize(
    "name",
    ["aten::_convolution", "aten::linear", "aten::einsum", "aten::batch_norm", "aten::layer_norm",
     "aten::grid_sampler", "aten::upsample_bilinear2d", "aten::flatten", "aten::relu", "aten::bmm"],
)  # fmt: skip
def test_a_handle_is_given_what_fvcore_gives_it(name: str) -> None:
    seen: list[Any] = []

    def note(inputs: list[Any], outputs: list[Any]) -> int:
        seen.append(([shapes(v) for v in inputs], [shapes(v) for v in outputs]))
        return 1

    totals = [
        found.FlopCountAnalysis(mixed(), X).set_op_handle(name, note).by_operator()
        for found in (ours, theirs)
    ]
    half = len(seen) // 2
    assert half > 0
    # Which implementation a device is asked for is no part of the shapes.
    mine, other = [
        [(inputs[:9] if name == "aten::_convolution" else inputs, out) for inputs, out in part]
        for part in (seen[:half], seen[half:])
    ]
    assert mine == other
    assert [len(inputs) for inputs, _ in seen[:half]] == [len(inputs) for inputs, _ in seen[half:]]
    assert totals[0] == totals[1]


def test_the_methods_of_a_value() -> None:
    tensor, some = Value.of(torch.ones(2, 3, dtype=torch.half)), Value.of([1, 2])
    assert jit_handles.get_shape(tensor) == [2, 3]
    assert (tensor.type().kind(), tensor.type().dtype(), tensor.type().dim()) == (
        "TensorType", torch.half, 2,
    )  # fmt: skip
    assert tensor.type().strides() == [3, 1]
    assert tensor.type().device() == torch.device("cpu")
    assert (tensor.toIValue(), tensor.node().kind()) == (None, "prim::Param")
    assert (some.toIValue(), some.type().kind(), some.type().sizes()) == ([1, 2], "ListType", None)
    assert [item.toIValue() for item in some.node().inputs()] == [1, 2]
    both = Value.of([torch.ones(2), torch.ones(3)])
    assert both.toIValue() is None
    assert [item.type().sizes() for item in both.node().inputs()] == [[2], [3]]
    none = Value.of(None)
    assert (none.isCompleteTensor(), none.toIValue(), none.type().kind()) == (
        False,
        None,
        "NoneType",
    )
    assert (none.type().strides(), none.type().dim(), none.node().inputs()) == (None, None, [])
    with pytest.raises(AttributeError, match=r"'debugName'.*type\(\), toIValue\(\) and node\(\)"):
        tensor.debugName()


def test_a_handle_by_other_names_and_more_than_one() -> None:
    def handle(inputs: list[Value], outputs: list[Value]) -> Counter[str]:
        return Counter({"twice": 2, "none": 0})

    for module in (ours, theirs):
        found = module.FlopCountAnalysis(mixed(), X).set_op_handle("aten::linear", handle)
        assert found.by_operator()["twice"] == 2
        assert "none" not in found.by_operator()
        assert "linear" not in found.by_operator()


def test_none_ignores_an_operator() -> None:
    """fvcore's text says so of "aten::batch_norm", which it goes on counting."""
    mine, other = (
        found.FlopCountAnalysis(mixed(), X).set_op_handle(**dict.fromkeys(NORM_AND_ADD))
        for found in (ours, theirs)
    )
    assert "batch_norm" not in mine.by_operator()
    assert "batch_norm" in other.by_operator()
    assert mine.total() == other.total() - other.by_operator()["batch_norm"]
    assert not set(NORM_AND_ADD) & set(mine.unsupported_ops())
    again = mine.set_op_handle("aten::batch_norm", lambda inputs, outputs: 7)
    assert again.by_operator()["batch_norm"] == 2 * 7


def test_a_handle_for_what_is_unsupported() -> None:
    mine = ours.FlopCountAnalysis(mixed(), X)
    assert mine.total() > 0
    assert mine.unsupported_ops()["aten::add"] == 1
    before = mine.total()
    mine.set_op_handle(**{"aten::add": lambda inputs, outputs: 1000.5})
    assert mine.total() == before + 1000.5
    assert "aten::add" not in mine.unsupported_ops()


def test_a_second_name_is_the_first() -> None:
    class Names(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.concat([x, x]).clip(0, 1).multiply(2).swapaxes(0, 1)
            z: Tensor = torch.linalg.matmul(y.T.conj().clip_(0), 1 - y)
            return z

    found = []
    for module in (ours, theirs):
        analysis = module.FlopCountAnalysis(Names(), torch.ones(2, 3))
        analysis.total()
        found.append((analysis.by_operator(), analysis.unsupported_ops()))
    assert found[0] == found[1]
    assert found[0][0] == {"matmul": 4 * 3 * 4}


class Shares(nn.Module):
    """Calls a module of its child, and a child by two names."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.same = self.child
        self.other = nn.Module()
        self.other.line = self.child[0]

    def forward(self, x: Tensor) -> Any:
        return self.same(self.child[0](x)) + self.get_submodule("other.line")(x)


@pytest.mark.parametrize("mode", ["owner", "caller"])
def test_ancestor_modes(mode: str) -> None:
    x = torch.ones(2, 3)
    mine, other = (f.FlopCountAnalysis(Shares(), x).ancestor_mode(mode) for f in (ours, theirs))
    assert mine.by_module_and_operator() == other.by_module_and_operator()
    assert mine.total("child") == {"owner": 3, "caller": 1}[mode] * 18
    assert mine.uncalled_modules() == other.uncalled_modules()
    for name in ("same.0", "other.line", "child.0", ""):
        assert mine.canonical_module_name(name) == other.canonical_module_name(name)
        assert mine.total(name) == other.total(name)


def test_a_mode_holds_for_what_was_counted() -> None:
    mine = ours.FlopCountAnalysis(Shares(), torch.ones(2, 3))
    assert mine.total("child") == 3 * 18
    assert mine.ancestor_mode("caller").total("child") == 18


def test_a_copy_keeps_all_settings() -> None:
    mine = ours.FlopCountAnalysis(Shares(), torch.ones(2, 3), convention="torch")
    mine.ancestor_mode("caller").set_op_handle("aten::add", lambda i, o: 5, "aten::linear", None)
    mine.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("all")
    same = mine.copy()
    assert type(same) is ours.FlopCountAnalysis
    assert same.by_module_and_operator() == mine.by_module_and_operator()
    assert {k: v for k, v in vars(same).items() if k != "_stats"} == {
        k: v for k, v in vars(mine).items() if k != "_stats"
    }
    bigger = mine.set_op_handle("aten::linear", lambda i, o: 11).copy(new_inputs=torch.ones(8, 3))
    assert bigger.total("child") == 11
    line = nn.Linear(3, 4)
    assert mine.copy(line).by_module() == {"": 11}
    plain = ours.FlopCountAnalysis(Shares(), torch.ones(2, 3)).copy(line, torch.ones(8, 3))
    assert plain.total() == 8 * 12
    acts = ours.ActivationCountAnalysis(line, torch.ones(8, 3)).copy()
    assert acts.total() == 8 * 4


def test_clearing_counts_nothing_but_new_handles() -> None:
    mine, other = (
        found.FlopCountAnalysis(mixed(), X).clear_op_handles() for found in (ours, theirs)
    )
    assert mine.total() == other.total() == 0
    assert mine.unsupported_ops() == other.unsupported_ops()
    mine.set_op_handle("aten::relu", lambda inputs, outputs: 3)
    assert mine.by_operator() == {"relu": 3}


def test_messages(caplog: pytest.LogCaptureFixture) -> None:
    ours.FlopCountAnalysis(mixed(), X).total()
    assert "Unsupported operator aten::add encountered 1 time(s)" in caplog.messages
    assert any(
        "No operator ran in these modules" in m and m.endswith("unused") for m in caplog.messages
    )
    caplog.clear()
    mine = ours.FlopCountAnalysis(mixed(), X)
    mine.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert caplog.messages == []
    containers = nn.Sequential(nn.Identity(), nn.Linear(8, 8))
    mine = ours.FlopCountAnalysis(containers, X)
    assert mine.total() > 0
    assert mine.uncalled_modules() == {"0"}
    assert caplog.messages == []


def test_warnings_of_the_model() -> None:
    class Warns(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            warnings.warn("look", stacklevel=1)
            return x

    for mode, number in {"all": 1, "no_tracer_warning": 1, "none": 0}.items():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            ours.FlopCountAnalysis(Warns(), X).tracer_warnings(mode).total()
        assert len(seen) == number


def test_errors() -> None:
    mine = ours.FlopCountAnalysis(mixed(), X)
    with pytest.raises(CounterStateError, match="ask for a count first"):
        mine.unsupported_ops()
    for asked in (mine.total, mine.by_operator, mine.canonical_module_name):
        with pytest.raises(KeyError, match="Mixed has no module 'nowhere'; the names are"):
            asked("nowhere")
    with pytest.raises(ArgumentError, match="a string; got Linear"):
        mine.total(mixed().line)
    with pytest.raises(ArgumentError, match="takes one of owner, caller, got 'both'"):
        mine.ancestor_mode("both")
    with pytest.raises(ArgumentError, match="takes one of all, no_tracer_warning, none, got 'no'"):
        mine.tracer_warnings("no")
    with pytest.raises(ArgumentError, match="pairs of a name and a handle, got 1 arguments"):
        mine.set_op_handle("aten::mm")
    with pytest.raises(ArgumentError, match="function or None, got 'aten::mm' and 3"):
        mine.set_op_handle("aten::mm", 3)
    words: Any = Counter()
    words["mm"] = "12"
    for given in ("12", words):
        with pytest.raises(ArgumentError, match="the handle of aten::mm returned"):
            mine.set_op_handle("aten::mm", lambda inputs, outputs, given=given: given).total()
    with pytest.raises(ArgumentError, match=r"takes an nn\.Module, got function"):
        ours.FlopCountAnalysis(mixed, X)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"write \(\(2, 3, 8, 8\),\)"):
        ours.FlopCountAnalysis(mixed(), (2, 3, 8, 8))
    with pytest.raises(ArgumentError, match="convention= takes"):
        ours.FlopCountAnalysis(mixed(), X, convention="none")


def test_an_error_of_a_handle_comes_through() -> None:
    def fails(inputs: list[Value], outputs: list[Value]) -> int:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        ours.FlopCountAnalysis(mixed(), X).set_op_handle("aten::mm", fails).total()
