"""README's examples, run: a block of Python followed by a block of text must print that text."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import flopdispatch

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
SHOWN = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", TEXT, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    return printed.getvalue()


@pytest.mark.parametrize(("code", "output"), SHOWN)
def test_an_example_prints_what_readme_shows(code: str, output: str) -> None:
    assert run(code, {}) == output


def test_readme_shows_an_example_of_at_most_six_lines() -> None:
    assert SHOWN
    assert all(len(code.splitlines()) <= 6 for code, _ in SHOWN)


def test_every_other_block_runs() -> None:
    torch.library.define("mylib::my_op", "(Tensor x) -> Tensor")
    torch.library.impl("mylib::my_op", "CompositeExplicitAutograd", lambda x: 2 * x)
    names: dict[str, Any] = {
        **vars(flopdispatch),
        "torch": torch,
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4)),
        "x": torch.zeros(8, 3, 224, 224),
    }
    names["model"](names["x"])
    shown = {code for code, _ in SHOWN}
    for code in BLOCKS:
        if code not in shown and "input_ids=" not in code:
            run(code, names)
    with flopdispatch.FlopCounter(display=False, convention=names["rules"]) as counter:
        torch.ops.mylib.my_op(torch.ones(5))
    assert counter.profile.total.muls == 5
