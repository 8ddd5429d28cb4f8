"""torchstat's face with inputs of any kind, models left as they were, and its command line."""

from __future__ import annotations

import re
import runpy
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as hooks

from flopdispatch import ArgumentError, spec
from flopdispatch.compat.torchstat import ModelStat, main, stat
from tests.compat.test_torchstat import names, quiet

# Any input


class Many(nn.Module):
    """Several inputs, by place and by name, of any type; a dict returned."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(
        self, ids: Tensor, image: Tensor, *, scale: Tensor | None = None, times: int = 1
    ) -> dict[str, Tensor]:
        out = self.linear(self.embedding(ids)).sum() * image
        return {"out": out if scale is None else times * scale * out}


def test_several_inputs_and_keywords() -> None:
    ids = spec(2, 5, dtype=torch.long)
    table = quiet(Many(), [ids, (3, 8, 8)], keywords={"scale": (3, 8, 8), "times": 2})
    assert [(row.name, row.input_shape, row.output_shape, row.flops) for row in table.rows] == [
        ("embedding", (5,), (5, 4), 0), ("linear", (5, 4), (5, 3), 2 * 5 * 12),
    ]  # fmt: skip
    again = quiet(Many(), (torch.zeros(2, 5, dtype=torch.long), torch.ones(1)))
    assert again.total.flops == table.total.flops
    (whole,) = quiet(Many(), [ids, (3, 8, 8)], 2).rows
    assert (whole.input_shape, whole.output_shape) == ((5,), (3, 8, 8))


def test_keyword_inputs_alone_and_nested_ones() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3, bias=False)

        def forward(self, xs: Any) -> Any:
            return self.linear(input=xs["a"][0])

    table = quiet(Nested(), (), keywords={"xs": {"a": [(4,), None]}})
    assert (table.total.flops, table.rows[0].input_shape) == (12, (4,))


Pair = namedtuple("Pair", "first second")


@dataclass
class Output:
    """What some models return."""

    value: Tensor
    other: Any = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: Pair(x, x),
        lambda x: Output(x, [x]),
        lambda x: {"a": (x, x)},
        lambda x: [None, x, x],
    ],
)
def test_outputs_of_any_kind(wrap: Any) -> None:
    class Wraps(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return wrap(x)

    (row,) = quiet(Wraps(), (5, 6)).rows
    assert (row.output_shape, row.memory) == ((5, 6), 2 * 4 * 30)


def test_no_tensor_in_or_out() -> None:
    class Empty(nn.Module):
        def forward(self) -> int:
            return 3

    table = quiet(Empty(), ())
    assert (table.rows[0].input_shape, table.rows[0].output_shape) == ((), ())
    assert str(table)


def test_a_batch_is_a_batch() -> None:
    """torchstat takes one input; shapes are shown without the batch."""
    one = quiet(nn.Linear(4, 2), (4,)).rows[0]
    three = quiet(nn.Linear(4, 2), torch.ones(3, 4)).rows[0]
    assert (three.flops, three.madd, three.memory) == (3 * one.flops, 3 * one.madd, 3 * one.memory)
    assert three.output_shape == one.output_shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_have_the_models_dtype(dtype: torch.dtype) -> None:
    (row,) = quiet(nn.Linear(4, 2).to(dtype), (4,)).rows
    assert row.memory == 2 * dtype.itemsize


def test_a_model_on_meta() -> None:
    model = torchvision.models.squeezenet1_1().to("meta")
    assert quiet(model, (3, 64, 64)).total.flops == 22_050_768


@pytest.mark.parametrize(
    "given", ["3x8x8", 3, None, {"x": (3, 8)}, (3, 8.0), [3, torch.ones(1)], ["3", "8"]]
)
def test_what_is_no_input_is_said(given: Any) -> None:
    with pytest.raises(ArgumentError, match="input_size="):
        quiet(nn.ReLU(), given)


def test_negative_sizes_are_said() -> None:
    with pytest.raises(ArgumentError, match=r"input_size\[1\]: a size has integers >= 0, got"):
        quiet(nn.ReLU(), [(3,), (2, -1)])
    with pytest.raises(ArgumentError, match=r"x=\['a'\]: a size has integers >= 0, got \(-1,\)"):
        quiet(nn.ReLU(), (), keywords={"x": {"a": (-1,)}})


@pytest.mark.parametrize("granularity", [0, -1, 1.0, "1", None, True])
def test_what_is_no_granularity_is_said(granularity: Any) -> None:
    with pytest.raises(ArgumentError, match="query_granularity= takes an integer >= 1, got"):
        quiet(nn.ReLU(), (3,), granularity)


def test_a_granularity_above_the_model_is_said() -> None:
    with pytest.raises(ArgumentError, match=r"takes 1 .* to 2 \(one for all .*, got 3"):
        quiet(nn.Sequential(nn.ReLU()), (3,), 3)


def test_a_model_that_is_none_is_said() -> None:
    with pytest.raises(ArgumentError, match="takes a module as its model, got function"):
        stat(functional.relu, (3,))  # type: ignore[arg-type]


# The model is as it was


class Net(nn.Module):
    """Modes that differ, a buffer that a forward writes, an input that it writes."""

    steps: Tensor

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("steps", torch.zeros(1))
        self.norm.eval()
        self.fails = fails

    def forward(self, x: Tensor) -> Any:
        assert not self.drop.training
        assert not torch.is_grad_enabled()
        self.steps += 1
        x.mul_(2)
        if self.fails:
            raise KeyError("no")
        return self.drop(self.act(self.norm(self.conv(x))))


def state(model: nn.Module) -> Any:
    modules = [
        (
            type(m), m.training, sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks),
            sorted(m._buffers), type(m).__call__,
        )
        for m in model.modules()
    ]  # fmt: skip
    values = [(name, value.tolist()) for name, value in model.state_dict().items()]
    return values, modules, [(p.requires_grad, p.grad) for p in model.parameters()]


def process() -> Any:
    """What torchstat and others leave behind in a process."""
    return (
        [dict(kept) for name, kept in vars(hooks).items() if name.startswith("_global_")
         and isinstance(kept, dict)],
        nn.Module.__call__, nn.Module._call_impl, torch.is_grad_enabled(),
        torch.get_rng_state().tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails: bool) -> None:
    model, x = Net(fails), torch.ones(1, 3, 8, 8)
    before = state(model), process()
    if fails:
        with pytest.raises(KeyError, match="no"):
            quiet(model, x)
    else:
        assert quiet(model, x).rows
    assert (state(model), process()) == before
    assert torch.equal(x, torch.ones_like(x))
    model.load_state_dict(Net().state_dict())


def test_it_fails_in_the_timed_run_only() -> None:
    """Hooks are removed then too."""

    runs = []

    class Second(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Any:
            runs.append(x.device)
            if len(runs) == 2:
                raise KeyboardInterrupt
            return self.relu(x)

    before = process()
    with pytest.raises(KeyboardInterrupt):
        quiet(Second(), (3,))
    assert process() == before


def test_models_that_catch_exceptions() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("caught")

    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raises, self.relu = Raises(), nn.ReLU()

        def forward(self, x: Tensor) -> Any:
            try:
                return self.raises(x)
            except ValueError:
                return self.relu(x)

    table = quiet(Catches(), (3,))
    assert [(row.name, row.flops, row.seconds > 0) for row in table.rows] == [
        ("raises", 0, False), ("relu", 3, True),
    ]  # fmt: skip


def test_modules_of_other_threads_are_not_timed() -> None:
    other = nn.Sequential(nn.Linear(2, 2))

    class Starts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Any:
            thread = threading.Thread(target=other, args=(torch.ones(1, 2),))
            thread.start()
            thread.join()
            return self.relu(x)

    assert names(quiet(Starts(), (3,))) == ["relu"]


@pytest.mark.filterwarnings("error")
def test_compiled_and_parallel_models_run_as_they_were_written() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    compiled: Any = torch.compile(model, backend="eager")
    first: Any = torch.compile(model[0], backend="eager")
    parts = nn.Sequential(first, model[1])
    in_place = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    in_place.compile(backend="eager")
    for other in (compiled, parts, in_place, nn.DataParallel(model)):
        table = quiet(other, (3,))
        assert [(row.name, row.flops, row.memory) for row in table.rows] == [
            ("0", 9, 12), ("1", 3, 12),
        ]  # fmt: skip
        assert all(row.seconds > 0 for row in table.rows)


def test_a_module_inside_of_itself_has_one_row() -> None:

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor, depth: int = 2) -> Any:
            return self(self.relu(x), depth - 1) if depth else x

    table = quiet(Again(), (3,))
    assert [(row.name, row.flops) for row in table.rows] == [("relu", 6)]


def test_a_fused_encoder_layer_stays_fused() -> None:
    """Hooks on a module would turn its fused kernel off."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    table = quiet(nn.Sequential(layer), torch.ones(1, 3, 8))
    assert table.total.flops == 3 * 4 * 64 + 2 * 9 * 8 + 3 * 2 * 8 * 16
    assert table.total.params == sum(p.numel() for p in layer.parameters())


# Its other ways in


def test_model_stat(capsys: pytest.CaptureFixture[str]) -> None:
    table = ModelStat(nn.Sequential(nn.ReLU()), (3, 4, 4), 2).show_report()
    assert names(table) == ["root"]
    assert capsys.readouterr().out == f"{table}\n"
    with pytest.raises(ArgumentError):
        ModelStat("resnet18", (3, 4, 4))  # type: ignore[arg-type]


FILE = """
from torch import nn
from beside import SIZE

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(SIZE, 2)

    def forward(self, x, y=None):
        return self.linear(x if y is None else x + y)

def fails():
    raise KeyError("in the file")

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "beside.py").write_text("SIZE = 4")
    (tmp_path / "net.py").write_text(FILE)
    return str(tmp_path / "net.py")


def test_the_command(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.path), sys.modules.get("models")
    main(["-f", file, "-m", "Net", "-s", "4"])
    assert "Total params: 10\n" in capsys.readouterr().out
    main(["--file", file, "--model", "Net", "--size", "4,4", "-g", "2", "-c", "flopdispatch"])
    printed = capsys.readouterr().out
    assert re.search(r"^0 +root +4 +2 +10 ", printed, re.MULTILINE)
    assert (list(sys.path), sys.modules.get("models")) == before


def test_the_command_as_a_module(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["torchstat", "-f", file, "-m", "Net", "-s", "4"])
    monkeypatch.delitem(sys.modules, "flopdispatch.compat.torchstat")
    runpy.run_module("flopdispatch.compat.torchstat", run_name="__main__")
    assert "Total Flops: 8Flops\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "Net"], "required: --file/-f"),
        (["-f", "FILE", "-m", "Nett"], "has no class or function 'Nett'"),
        (["-f", "FILE", "-m", "number"], "has no class or function 'number'"),
        (["-f", "FILE", "-m", "Net", "-s", "3xa"], "--size takes a size such as 3x224x224"),
        (["-f", "FILE", "-m", "Net", "-s", "4x-1"], "a size has integers >= 0"),
        (["-f", "FILE", "-m", "Net", "-s", "4", "-g", "9"], "query_granularity= takes 1"),
        (["-f", "FILE", "-m", "Net", "-s", "4", "-c", "mine"], "convention= takes"),
        (["-f", "nothing.py", "-m", "Net"], "--file takes a Python file, got 'nothing.py'"),
        (["-f", "FILE", "-m", "SIZE", "-s", "4"], "has no class or function 'SIZE'"),
    ],
)
def test_the_command_says_what_is_wrong(
    file: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([file if argument == "FILE" else argument for argument in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_what_the_file_raises_comes_through(file: str) -> None:
    before = list(sys.path)
    with pytest.raises(KeyError, match="in the file"):
        main(["-f", file, "-m", "fails"])
    assert sys.path == before
