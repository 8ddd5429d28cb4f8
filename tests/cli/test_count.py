"""`flopdispatch count`: what it writes, and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torchvision

from flopdispatch import count, on_meta
from flopdispatch.cli.main import main

NET = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(8, 4)
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 32 MACs a sample, in a file of the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_a_model_is_counted_by_its_name_as_by_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["count", "torchvision:resnet50", "--depth", "1"]) == 0
    out, err = capsys.readouterr()
    model = on_meta(torchvision.models.resnet50).eval()
    assert out == f"{count(model, (1, 3, 224, 224)).table(depth=1)}\n"
    assert err == "flopdispatch: note: inputs of torchvision:resnet50: 1x3x224x224:float32\n"


def test_the_table_is_as_deep_and_sorted_as_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sorted_ = ["count", "torchvision:alexnet", "--depth", "1", "--sort", "params"]
    assert main(sorted_) == 0
    rows = capsys.readouterr().out.splitlines()[3:6]
    assert [row.split()[1] for row in rows] == ["classifier", "features", "avgpool"]


def test_a_convention_prices_as_the_other_tool_does(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["count", "net.py:Net", "--input", "3x8"]
    assert main([*plain, "--convention", "torch"]) == 0
    assert "Convention: torch" in capsys.readouterr().out
    assert main(plain) == 0
    assert "Convention: flopdispatch" in capsys.readouterr().out


def test_a_file_is_written_and_said_so(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "net.py:Net", "--input", "3x8", "--out", "net.txt"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "wrote net.txt\n")
    assert "36 parameters, 96 MACs" in Path("net.txt").read_text()  # 8 * 4 + 4; 3 * 8 * 4


def test_operators_without_a_formula_are_a_warning_and_under_strict_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("""
import torch
from torch import nn

@torch.library.custom_op("cli_count::mine", mutates_args=())
def mine(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

@mine.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)

class Net(nn.Module):
    def forward(self, x):
        return mine(x)
""")
    plain = ["count", "mine.py:Net", "--input", "3"]
    assert main(plain) == 0
    out, err = capsys.readouterr()
    assert "Uncounted: cli_count::mine" in out
    assert err.startswith("flopdispatch: warning: these operators have no formula")
    assert err.count("\n") == 1
    assert main([*plain, "--strict"]) == 1
    assert "cli_count::mine" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["0", "-1", "many"])
def test_a_batch_has_a_sample(batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["count", "net.py:Net", f"--batch={batch}"])
    told = f"argument --batch: takes a whole number from 1 on, got '{batch}'; see flopdispatch"
    assert told in capsys.readouterr().err


def test_it_runs_piped_as_a_program(net: Path) -> None:
    command = [sys.executable, "-m", "flopdispatch", "count", "net.py:Net", "--input", "3x8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=net.parent, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\033" not in done.stdout
    assert "36 parameters, 96 MACs" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "net.xyz"], "has none of the known endings"),
        (["--out", "nowhere/net.txt"], "there is no folder nowhere"),
        (["--format", "html", "--depth", "1"], "the format html has no option 'depth'"),
    ],
)
def test_what_cant_be_written_is_refused_before_anything_is_counted(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Were it counted, the missing target would be the error.
    assert main(["count", "missing.py:Net", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str], net: Path) -> None:
    assert main(["count", "net.py:Net", "--input", "3x8", "--out", "-"]) == 0
    assert "36 parameters, 96 MACs" in capsys.readouterr().out
