"""The command line as a whole: help, errors, exit codes, pipes and colours."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from flopdispatch import count
from flopdispatch.cli import COMMANDS, ops
from flopdispatch.cli.main import main

PROGRAM = [sys.executable, "-m", "flopdispatch"]
ESCAPE = "\033["

BROKEN = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)

    def forward(self, x):
        raise LookupError("it broke\\nin two lines")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a profile."""
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text(BROKEN)
    Path("net.py").write_text("import torch\n\ndef Net():\n    return torch.nn.Linear(4, 8)\n")
    Path("profile.json").write_text(count(nn.Linear(4, 8), (3, 4)).to_json())
    return tmp_path


def ended(*arguments: str) -> int:
    """The exit code, however it is given."""
    try:
        return main(arguments)
    except SystemExit as ending:
        return int(ending.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "the following arguments are required: COMMAND; see flopdispatch --help"),
        (["nonsense"], 2, "argument COMMAND: invalid choice: 'nonsense' (choose from"),
        (["count"], 2, "the following arguments are required: TARGET; see flopdispatch count --h"),
        (["ops", "--state", "odd"], 2, "argument --state: invalid choice: 'odd' (choose from"),
        (["price", "none.json"], 2, "can't read a profile from none.json: [Errno 2] No such file"),
        (["price", "net.py"], 2, "net.py is no saved profile: expected the text that to_json"),
        (["count", "net.py:Nought"], 2, ""),
        (["count", "net.py:Net"], 2, ""),
        (["count", "broken.py:Net", "--input", "3x4"], 3, "the model raised LookupError: it broke"),
        (["check", "profile.json", "--max-macs", "5", "--baseline", "no"], 2, "there is no base"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"flopdispatch: error: {message}")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_traceback_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    broken = "count", "broken.py:Net", "--input", "3x4"
    assert ended(*broken) == 3
    assert "(--traceback shows where)" in capsys.readouterr().err
    assert ended(*broken, "--traceback") == 3
    *whole, last = capsys.readouterr().err.splitlines()
    assert whole[0] == "Traceback (most recent call last):"
    assert any("broken.py" in line for line in whole)
    assert last == "flopdispatch: error: the model raised LookupError: it broke in two lines"


def test_an_exit_code_says_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the help's list, as it numbers them."""
    assert ended("check", "profile.json", "--max-macs", "96") == 0
    assert ended("check", "profile.json", "--max-macs", "95") == 1
    assert ended("check", "profile.json") == 2
    assert ended("count", "broken.py:Net", "--input", "3x4") == 3
    capsys.readouterr()
    assert ended("--help") == 0
    listed = re.findall(r"^  (\d+) +\w", capsys.readouterr().out, re.MULTILINE)
    assert listed == ["0", "1", "2", "3", "130"]


def test_an_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ops, "run", interrupt)
    assert ended("ops") == 130
    assert capsys.readouterr().err == "flopdispatch: error: interrupted\n"


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--help") == 0
    listed = re.findall(r"^    (\w+) +\S", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(command, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: flopdispatch {command} ")
    _, _, examples = text.partition("\nexample")
    assert f"flopdispatch {command} " in examples
    options = re.findall(r"^  (?:-\w, )?(--\w[\w-]*)(.*(?:\n {20,}\S.*)*)", text, re.MULTILINE)
    assert all(len(about.split()) > 1 for _, about in options), "each option says what it does"
    assert max(map(len, text.splitlines())) <= 105


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_are_right_use(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are parsed, and not run."""
    monkeypatch.setattr(COMMANDS[command], "run", lambda _: 0)
    assert ended(command, "--help") == 0
    text = capsys.readouterr().out.partition("\nexample")[2]
    examples = re.findall(r"^.*?flopdispatch (.*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        words = subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {example}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert ended(*words) == 0, example


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    assert capsys.readouterr().out == f"{version('flopdispatch')}\n"


def test_a_terminal_without_glyphs_is_no_error() -> None:
    done = subprocess.run(
        [*PROGRAM, "explain", "mm"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Counts: m?n?k MACs." in done.stdout


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = " ".join([*PROGRAM, "ops", "|", "head", "-n", "1"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Operator ")
    assert done.stdout.count("\n") == 1


FAILING = "check", "profile.json", "--max-macs", "95"


def test_what_is_piped_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*FAILING) == 1
    assert ended("check", "profile.json") == 2
    assert ESCAPE not in "".join(capsys.readouterr())


@pytest.mark.parametrize("plain", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_shows_colours_unless_it_has_none(
    plain: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | plain).items():
        monkeypatch.setenv(name, value)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert ended(*FAILING) == 1
    assert ended("check", "profile.json") == 2
    out, err = capsys.readouterr()
    if plain:
        assert ESCAPE not in out + err
    else:
        assert out.startswith("\033[31mFAILED\033[0m: MACs 96, limit 95: 1 more (1.1%)\n")
        assert err.startswith("flopdispatch: \033[31merror:\033[0m nothing to check")


def test_a_real_terminal_gets_colours_and_tables_of_its_width() -> None:
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    running = subprocess.Popen(
        [*PROGRAM, *FAILING], stdout=theirs, env=environment | {"COLUMNS": "60"}
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert running.wait() == 1
    first, *table = written.decode().splitlines()
    assert first.startswith("\033[31mFAILED\033[0m: ")
    rules = [line for line in table if line.startswith("---")]
    assert rules
    assert max(map(len, rules)) <= 60
