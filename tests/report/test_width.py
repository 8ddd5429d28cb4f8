"""Tables that fit a terminal: nothing but names and types is cut, nothing of a figure."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
import torch
import transformers
from torch import nn

from flopdispatch import Profile, count, on_meta, spec
from tests.report.test_table import resnet50, toy


def llama() -> Profile:
    """Llama 3.1's largest, by its published sizes."""
    sizes = {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126}
    heads = {"num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256}
    model = on_meta(transformers.LlamaForCausalLM, transformers.LlamaConfig(**sizes, **heads))
    return count(model, input_ids=spec(1, 64, dtype=torch.long))


LLAMA = llama()


@pytest.mark.parametrize("profile", [toy(), resnet50(), LLAMA], ids=["toy", "resnet50", "llama"])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_longer_than_the_terminal(profile: Profile, width: int) -> None:
    assert max(map(len, profile.table(width=width).split("\n"))) <= width


def test_the_largest_llama_fits_eighty_columns(golden: object) -> None:
    assert callable(golden)
    golden("llama_405b_80.txt", LLAMA.table(width=80))
    assert f"{405_853_388_800:,} parameters" in LLAMA.table(width=80)


@pytest.mark.parametrize("width", [80, 100])
def test_figures_are_not_cut(width: int) -> None:
    def figures(text: str) -> list[list[str]]:
        rows = text.split("\n\n", maxsplit=1)[0].split("\n")
        return [row.split("  ")[-5:] for row in rows if not row.startswith("---")]

    whole = [[cell.strip() for cell in row] for row in figures(LLAMA.table())]
    assert [[cell.strip() for cell in row] for row in figures(LLAMA.table(width=width))] == whole


def test_a_table_that_fits_is_not_changed() -> None:
    assert resnet50().table(depth=1, width=200) == resnet50().table(depth=1)


def test_a_cut_row_still_says_for_how_many_modules_it_stands() -> None:
    model = nn.Sequential()
    for i in range(3):
        model.add_module(f"{'long' * 30}{i}", nn.Linear(2, 2))
    (row,) = [line for line in count(model, (1, 2)).table(width=80).split("\n") if "long" in line]
    assert "longlo" in row
    assert "… ×3" in row


def test_types_are_cut_before_names_are() -> None:
    text = LLAMA.table(width=100)
    assert "post_attention_layernorm ×126  LlamaRMSNorm " in text
    assert "LlamaForCausalLM " in LLAMA.table(width=120)
    assert "LlamaDecode" in text
    assert "LlamaDecoderLayer" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is Unix's")
def test_a_counter_prints_no_line_longer_than_its_terminal() -> None:
    leader, follower = pty.openpty()
    code = (
        "import torch, flopdispatch\n"
        "model = torch.nn.Sequential()\n"
        "model.add_module('x' * 100, torch.nn.Linear(2, 2))\n"
        "with flopdispatch.FlopCounter(): model(torch.ones(1, 2))\n"
    )
    environment = {**os.environ, "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stdout=follower, env=environment, check=True)
    os.close(follower)
    printed = os.read(leader, 100_000).decode()
    os.close(leader)
    assert "xxxxx…" in printed
    assert max(map(len, printed.splitlines())) <= 80
