"""Where rates go."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path

import pytest

from flopdispatch import MfuMeter, count
from flopdispatch.errors import ArgumentError
from flopdispatch.mfu import Rates, json_lines, tensorboard
from tests.mfu.loops import MACHINE, Net, Ticks

RATES = Rates("training", 8, 4, 1, 2.0, 6000, 8000, 100, None, 0.25, 0.5)
WRITTEN = {
    "kind": "training",
    "step": 8,
    "steps": 4,
    "counted": 1,
    "ranks": 1,
    "seconds_per_step": 0.5,
    "model_flops_per_step": 1500.0,
    "hardware_flops_per_step": 2000.0,
    "model_flop_per_s": 3000.0,
    "mfu": 0.25,
    "hfu": 0.5,
    "tokens_per_s": 50.0,
}


def test_json_lines_go_to_a_file_a_stream_or_what_print_writes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    for file in (tmp_path / "rates.jsonl", str(tmp_path / "other.jsonl"), stream, None):
        log = json_lines(file)
        log(RATES)
        log(RATES)
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    for text in (*texts, stream.getvalue(), capsys.readouterr().out):
        assert [json.loads(line) for line in text.splitlines()] == [WRITTEN, WRITTEN]


def test_a_path_in_no_folder_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"a folder that exists, got '.*runs/mfu.jsonl': make"):
        json_lines(tmp_path / "runs" / "mfu.jsonl")


def test_a_meter_writes_json_lines_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticks = Ticks()
    meter = MfuMeter(count(Net(), (2, 8), backward=True), MACHINE, window=1, clock=ticks)
    with meter.step():
        ticks.now += 2.0
    assert json.loads(capsys.readouterr().out)["mfu"] == 896 / 1000 / 2


def test_tensorboard_has_each_rate_as_a_scalar(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tensorboard(tmp_path)(RATES)
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(tmp_path)).Reload()
    names = {f"training/{name}" for name in WRITTEN} - {"training/kind", "training/step"}
    assert set(found.Tags()["scalars"]) == names
    (event,) = found.Scalars("training/mfu")
    assert (event.step, event.value) == (8, 0.25)


def test_without_tensorboard_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("flopdispatch.mfu.logs.import_module", missing)
    with pytest.raises(ArgumentError, match=r'pip install "flopdispatch\[tensorboard\]"'):
        tensorboard(tmp_path)
