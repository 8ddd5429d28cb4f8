"""Targets of the user's own, the grammar of inputs, and what is said of wrong ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from flopdispatch import spec
from flopdispatch.cli.main import main
from flopdispatch.cli.targets.inputs import given_inputs
from flopdispatch.cli.targets.target import Call, Sizes
from flopdispatch.errors import ArgumentError
from tests.cli.counted import counted

NET = """
import sys
from dataclasses import dataclass
import torch
from torch import nn
import besides_the_net

class Net(nn.Module):
    def __init__(self, width=8, depth=1):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
    def forward(self, x, scale=None):
        for layer in self.layers:
            x = layer(x)
        return x if scale is None else x * scale
    @classmethod
    def large(cls):
        return cls(64)

@dataclass
class Options:
    width: int = 16

def build(width):
    print("building")
    return Net(Options(width).width)

ready = Net(4)
other = 3

def raises():
    raise RuntimeError("no such\\nmodel today")

def no_module():
    return torch.zeros(3)

def ends():
    sys.exit("usage: net.py DATA")

class Example(Net):
    example_input_array = torch.zeros(2, 8)

class Alone(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)
    def forward(self):
        return super().forward(self.weight)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of models that imports its neighbour."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "besides_the_net.py").write_text("")
    (tmp_path / "ended.py").write_text("raise SystemExit(1)")
    (tmp_path / "needs.py").write_text("import a_package_of_nobody")
    (tmp_path / "llama.json").write_text('{"model_type": "llama"}')
    (tmp_path / "unknown.json").write_text('{"model_type": "lama", "auto_map": {}}')
    (tmp_path / "plain.json").write_text('{"hidden_size": 3}')
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("target", "options", "macs", "params"),
    [
        ("net.py:Net", ["--input", "3x8"], 3 * 8 * 8, 8 * 8 + 8),
        ("net:Net", ["--input", "3x8"], 3 * 8 * 8, 8 * 8 + 8),
        ("./net.py:Net.large", ["--input", "3,64"], 3 * 64 * 64, 64 * 64 + 64),
        ("net.py:ready", ["--input", "5x4"], 5 * 4 * 4, 4 * 4 + 4),
        ("net.py:build", ["--kwargs", '{"width": 16}', "--input", "1x16"], 16 * 16, 16 * 16 + 16),
        ("net.py:Net", ["--kwargs", '{"depth": 3}', "--input", "x=2x8"], 3 * 2 * 64, 3 * 72),
        ("net.py:Net", ["--input", "1x8", "--input", "scale=8"], 64, 72),
        ("net.py:Net", ["--input", "1x8", "--batch", "7"], 7 * 64, 72),
        ("net.py:Example", [], 2 * 64, 72),
        ("net.py:Example", ["--batch", "6"], 6 * 64, 72),
        ("net.py:Alone", [], 3 * 2 * 3, 2 * 3 + 3),
        ("torch.nn:Linear", ["--kwargs", '{"in_features": 2, "out_features": 3}',
                             "--input", "5x2"], 5 * 2 * 3, 2 * 3 + 3),
        # The backward of a product is one for each of its two factors; x needs no gradient.
        ("net.py:Net", ["--input", "3x8", "--backward"], 2 * 3 * 8 * 8, 72),
    ],
)  # fmt: skip
def test_models_of_the_users_own_are_counted(
    folder: Path, target: str, options: list[str], macs: int, params: int
) -> None:
    for device in ("meta", "cpu"):
        profile = counted(target, *options, "--device", device)
        assert (profile.macs, profile.params) == (macs, params)


def test_what_a_builder_prints_stays_out_of_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted("net.py:build", "--kwargs", '{"width": 4}', "--input", "1x4")
    assert capsys.readouterr() == ("", "building\n")


def test_an_optimizer_is_a_whole_step(folder: Path) -> None:
    profile = counted("net.py:Net", "--input", "3x8", "--optimizer", "sgd")
    assert list(profile.by_phase())[:3] == ["forward", "backward", "optimizer"]
    assert profile.by_phase()["optimizer"].flops == 2 * 72  # p - lr * g
    assert profile.by_phase() == counted(
        "net.py:Net", "--input", "3x8", "--optimizer", "SGD", "--backward"
    ).by_phase()  # fmt: skip


def test_inputs_are_read_as_they_are_written() -> None:
    given = given_inputs(["1x3x224x224", "2,128:long", "mask=4:bool", "y=7x2:bf16"], Sizes())
    assert given.args == ((1, 3, 224, 224), spec(2, 128, dtype=torch.long))
    assert given.kwargs == {
        "mask": spec(4, dtype=torch.bool),
        "y": spec(7, 2, dtype=torch.bfloat16),
    }
    batched = given_inputs(["1x3", "a=2x5:torch.int64"], Sizes(batch=9))
    assert batched == Call(((9, 3),), {"a": spec(9, 5, dtype=torch.int64)})


@pytest.mark.parametrize("text", ["", "1xx3", "x", "3:float33", "=3", "a b=3", "-1x3", "3:spec"])
def test_what_is_no_input_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"can't read --input .*1x3x224x224|unknown dtype"):
        given_inputs([text], Sizes())


MISUSED, RAISED = 2, 3

ERRORS = (
    ("resnet18", MISUSED, "can't tell what model 'resnet18' is: expected torchvision:NAME, timm"),
    ("torchvision:resnet5", MISUSED, "unknown torchvision model 'resnet5': did you mean resnet50,"),
    ("torchvision:", MISUSED, "unknown torchvision model '': all are listed by `python -c"),
    ("timm:resnet5", MISUSED, "unknown timm model 'resnet5': did you mean resnet50, "),
    ("hf:nowhere", MISUSED, "there is no file nowhere: hf: takes a config.json or its folder and"),
    ("hf:nobody/nothing", MISUSED, "there is no file nobody/nothing: hf: takes a config.json or"),
    ("hf:broken.json", MISUSED, "can't read broken.json: Expecting property name"),
    ("hf:plain.json", MISUSED, 'plain.json has no "model_type": give the config.json of a'),
    ("hf:unknown.json", MISUSED, "unknown model_type in unknown.json 'lama': did you mean llama, "),
    ("hf:llama.json --kwargs {\"layers\":2}", MISUSED, "unknown entry of LlamaConfig 'layers': "),
    ("away.py:Net", MISUSED, "there is no file away.py: give the path of a Python file"),
    ("net.py", MISUSED, "unknown callable in net.py '': it has "),
    ("net.py:Ned", MISUSED, "unknown callable in net.py 'Ned': did you mean Net? it has "),
    ("net.py:other.more", MISUSED, "unknown callable in net.py 'other.more': it has none"),
    ("net.py:other", MISUSED, "expected net.py:other to be a class of modules, a function that"),
    ("net.py:ready --kwargs {\"a\":1}", MISUSED, "net.py:ready is a module, built already: leave"),
    ("net.py:build", MISUSED, "net.py:build takes (width) and missing a required argument: 'w"),
    ("net.py:no_module", MISUSED, "expected net.py:no_module to return a torch.nn.Module, got Ten"),
    ("net.py:ends", MISUSED, "net.py:ends ends the program when it is imported or called: put"),
    ("ended.py:Net", MISUSED, "ended.py ends the program when it is imported or called: put what"),
    ("nowhere.net:Net", MISUSED, "there is no module nowhere here: run in its project's folder or"),
    ("net.py:Net --kwargs {1", MISUSED, "--kwargs takes an object in JSON, such as "),
    ("net.py:Net --kwargs [1]", MISUSED, "--kwargs takes an object in JSON, such as "),
    ("net.py:Net", MISUSED, "what Net is called with isn't known: give each input of "
     "forward(x, scale=None) by --input, such as --input 1x3x224x224"),
    ("net.py:Net --input 1y3", MISUSED, "can't read --input '1y3': expected [NAME=]SHAPE[:DTYPE]"),
    ("net.py:Net --input x=3 --input x=4", MISUSED, "--input x= is given twice; name each input"),
    ("net.py:Net --input 1x8 --seq 3", MISUSED, "--seq changes nothing of this model's inputs, "
     "1x8:float32: leave it out, or give the inputs by --input"),
    ("net.py:Example --size 3", MISUSED, "--size changes nothing of this model's inputs, 2x8:fl"),
    ("torchvision:resnet18 --size 3x", MISUSED, "--size takes a height and a width, 224x320, or"),
    ("net.py:Net --input 1x8 --dtype f7", MISUSED, "unknown dtype 'f7': take one of torch's, such"),
    ("net.py:Net --input 1x8 --optimizer admw", MISUSED, "unknown optimizer 'admw': --optimizer"),
    ("net.py:Net --input 1x8 --assume {\"a\":1}", MISUSED, "--assume takes nonzero, nms, cond"),
    ("net.py:raises", RAISED, "the model raised RuntimeError: no such model today (--traceback"),
    ("needs.py:Net", RAISED, "the model raised ModuleNotFoundError: No module named 'a_package_of"),
    ("net.py:Net --input 1x9", RAISED, "the model raised RuntimeError: "),
)  # fmt: skip


@pytest.mark.parametrize(("line", "code", "said"), ERRORS, ids=[row[0] for row in ERRORS])
def test_what_is_wrong_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, said: str
) -> None:
    assert main(["count", *line.split()]) == code
    out, err = capsys.readouterr()
    assert out == ""
    *notes, error = err.splitlines()
    assert error.startswith(f"flopdispatch: error: {said}")
    assert all(note.startswith("flopdispatch: note: ") for note in notes)


def test_a_library_that_is_not_there_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(["count", "timm:resnet18"]) == MISUSED
    error = capsys.readouterr().err
    assert "the package timm is not installed: `pip install timm`" in error
    assert "flopdispatch[zoo]" in error


def test_the_traceback_is_shown_when_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", "net.py:raises", "--traceback"]) == RAISED
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_repository_that_was_downloaded_before_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "vocab_size": 10}
    cache = folder / "hub" / "models--owner--tiny"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    (cache / "snapshots" / "abc" / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    profile = counted("hf:owner/tiny", "--seq", "2")
    # Projections 4 * 8 * 8, feed-forward 2 * 8 * 32, scores and values, head.
    assert profile.macs == 2 * (4 * 64 + 2 * 8 * 32 + 2 * (8 + 8) + 8 * 10)
