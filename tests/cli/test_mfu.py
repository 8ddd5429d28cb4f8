"""`flopdispatch mfu`: the share of the peak, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import count
from flopdispatch.cli.main import main

NET = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(8, 4)
"""
STEP = 2 * 2 * (2 * 8 * 4)  # FLOPs of two samples: the output, and the weight's gradient
T4 = 8.1e12  # float32 FLOP/s


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line for a model of one product, on two samples."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return ["mfu", "net.py:Net", "--input", "2x8", "--hardware", "T4"]


def test_a_step_that_takes_twice_its_time_at_the_peak_has_half_of_it(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--seconds", repr(2 * STEP / T4)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Model FLOPs of a step: 256"
    assert out.splitlines()[1] == "Peak: 8.100 TFLOP/s (T4, float32)"
    assert out.splitlines()[-1] == "MFU: 50.0%"


def test_several_devices_share_a_step(net: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*net, "--seconds", repr(STEP / T4), "--devices", "4", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mfu"] == pytest.approx(1 / 4)
    assert found["peak_flop_per_s"] == 4 * T4
    assert found["seconds_at_peak"] == pytest.approx(STEP / T4 / 4)


def test_another_rate_is_named(net: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*net, "--seconds", repr(STEP / 65e12), "--peak", "float16"]) == 0
    assert "MFU: 100.0%" in capsys.readouterr().out


def test_all_flops_are_more_than_the_comparable_ones(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--seconds", "1", "--figure", "flops"]) == 0
    # 8 additions of the bias, and 4 for its gradient
    assert "Model FLOPs of a step: 268" in capsys.readouterr().out


def test_a_saved_step_with_checkpoints_has_its_hfu(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(8, 4), nn.Tanh())  # whose output is needed

        def forward(self, x: object) -> object:
            return checkpoint(self.layer, x, use_reentrant=False)

    count(Checkpointed(), (2, 8), backward=True).save("step.json")
    assert main(["mfu", "step.json", "--seconds", repr(STEP / T4 * 4), "--hardware", "T4"]) == 0
    out = capsys.readouterr().out
    assert "MFU: 25.0%" in out
    assert "HFU: 37.5% (with recomputation, 384 FLOPs)" in out


def test_more_than_the_peak_is_a_warning(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, "--seconds", repr(STEP / T4 / 2)]) == 0
    assert "warning: more than the peak" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "0"], "--seconds takes a time > 0"),
        (["--seconds", "nan"], "--seconds takes a time > 0"),
        (["--seconds", "inf"], "--seconds takes a time > 0"),
        (["--seconds", "1", "--devices", "0"], "--devices takes a number >= 1"),
        (["--seconds", "1", "--peak", "float99"], "float99"),
        (["--seconds", "1", "--hardware", "T5"], "no device 'T5' is known"),
    ],
)
def test_what_cant_be_is_refused(
    net: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*net, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_products_has_no_mfu(
    net: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    count(nn.ReLU(), (2, 8)).save("relu.json")
    assert main(["mfu", "relu.json", "--seconds", "1", "--hardware", "T4"]) == 2
    assert "relu.json has no comparable FLOPs" in capsys.readouterr().err
