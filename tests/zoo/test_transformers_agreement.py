"""Transformers' architectures against torch's count, and each reason why that is off.

All of them: `python -m benchmarks.agreement --only transformers --backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import agreement, agreement_transformers
from benchmarks.agreement_architectures import (
    ARCHITECTURES,
    NEEDS_VALUES,
    NO_BACKWARD_IN_EVAL,
    build,
    devices,
    inputs,
)
from benchmarks.agreement_differences import Difference, Differences
from benchmarks.agreement_rows import Row, counts, reasons
from benchmarks.agreement_transformers import compare, disagreements, jobs, row
from flopdispatch import Cost, FlopCounter
from flopdispatch.formulas import default_registry
from tests.versions import needs_torch

GROUPED, FIFTH, EXPERTS, RECURRENT = (
    "grouped convolution",
    "fifth product",
    "grouped product",
    "recurrent layer",
)
ENDS = torch.tensor([4, 8, 12], dtype=torch.int32)  # of each expert's tokens
experts = needs_torch(2, 15, "grouped products take bfloat16 only")
torchs_attention = needs_torch(2, 15, "FlopCounterMode has no formula for attention on CPU")

# Architecture, run, and what explains torch's total: on meta, on CPU.
SLICE: list[tuple[str, str, set[str] | None, set[str]]] = [
    ("bert", "eval", set(), set()),
    ("fnet", "train+backward", set(), set()),
    ("swin", "eval", set(), set()),
    ("llama", "train+backward", set(), {FIFTH}),
    ("vit", "eval+backward", set(), {FIFTH}),
    ("mamba", "train+backward", {GROUPED}, {GROUPED}),
    ("regnet", "train+backward", {GROUPED}, {GROUPED}),
    ("mixtral", "eval", {EXPERTS}, {EXPERTS}),
    ("mixtral", "train+backward", {EXPERTS}, {EXPERTS, FIFTH}),
    ("jamba", "train+backward", {EXPERTS, GROUPED}, {EXPERTS, GROUPED, FIFTH}),
    ("bart", "eval+backward", None, {FIFTH}),
]  # fmt: skip


@torchs_attention
@pytest.mark.parametrize(("name", "run", "on_meta", "on_cpu"), SLICE)
def test_the_count_is_torchs_put_right_and_the_same_on_meta_and_cpu(
    name: str, run: str, on_meta: set[str] | None, on_cpu: set[str]
) -> None:
    found = {device: compare(name, run, device) for device in devices(name)}
    for one in found.values():
        assert one.disagreements == []
        assert one.torch + sum(d.flops for d in one.differences.values()) == one.ours > 0
    assert len({one.ours for one in found.values()}) == 1
    assert set(found["cpu"].differences) == on_cpu
    if on_meta is None:
        assert "meta" not in found
    else:
        assert set(found["meta"].differences) == on_meta


def convolution() -> None:
    """8 to 16 channels in 4 groups, 3x3, on two images of 10x10."""
    conv = nn.Conv2d(8, 16, 3, padding=1, groups=4)
    conv(torch.randn(2, 8, 10, 10, requires_grad=True)).sum().backward()


def transposed() -> None:
    """4 to 6 channels in 2 groups, 2 wide, over 3 positions."""
    conv = nn.ConvTranspose1d(4, 6, 2, groups=2)
    conv(torch.randn(1, 4, 3, requires_grad=True)).sum().backward()


def attention() -> None:
    """Two sequences, 3 heads, 5 queries and 7 keys of 4 numbers."""
    query, key, value = (torch.randn(2, 3, t, 4, requires_grad=True) for t in (5, 7, 7))
    functional.scaled_dot_product_attention(query, key, value).sum().backward()


def routed() -> None:
    """12 tokens of 16 numbers through 3 experts with 8."""
    tokens, weight = (torch.randn(*s, requires_grad=True) for s in ((12, 16), (3, 16, 8)))
    out = functional.grouped_mm(tokens, weight, offs=ENDS)
    out.square().sum().backward()


def routed_columns() -> None:
    """3 matrices of 8x16, each with its 4 of 12 columns."""
    columns = torch.randn(16, 12)
    functional.grouped_mm(torch.randn(3, 8, 16), columns, offs=ENDS)


def recurrent() -> None:
    """4 steps of two sequences of 3 numbers into 5."""
    output, _ = nn.LSTM(3, 5)(torch.randn(4, 2, 3, requires_grad=True))
    output.sum().backward()


# A program, how much must be added to torch's count of it, in how many calls, and why.
PROGRAMS: list[Any] = [
    (convolution, GROUPED, -3 * 115_200, 1,
     "products 2·16·100·2·9 = 57,600; the weight's gradient is counted 4 times for once"),
    (transposed, GROUPED, -72 * 2, 1,
     "4·3 inputs meet 3·2 weights: 72; the weight's gradient is counted twice for once"),
    pytest.param(attention, FIFTH, -2 * 2 * 3 * 5 * 7 * 4, 1,
                 "scores of 4 numbers, computed once more", marks=torchs_attention),
    pytest.param(routed, EXPERTS, 3 * 2 * 12 * 16 * 8, 3,
                 "each token meets 16·8 weights; as much for each gradient", marks=experts),
    pytest.param(routed_columns, EXPERTS, 2 * 8 * 16 * 12, 1,
                 "each column meets its matrix of 8·16", marks=experts),
    (recurrent, RECURRENT, 3 * 2 * 8 * (20 * 3 + 20 * 5), 2,
     "4 gates of 5; 8 steps in all meet 20·3 + 20·5 weights; twice as much in the backward"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "fault", "flops", "calls", "why"), PROGRAMS)
def test_each_fault_is_worth_what_its_shapes_say(
    program: Callable[[], None], fault: str, flops: int, calls: int, why: str
) -> None:
    with FlopCounter(display=False) as counter:
        program()
    with Differences() as differences, FlopCounterMode(display=False) as theirs:
        program()
    assert differences.found == {fault: Difference(flops, calls)}, why
    assert counter.profile.comparable_flops == theirs.get_total_flops() + flops


def test_an_ungrouped_convolution_has_nothing_to_explain() -> None:
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    with Differences() as differences, FlopCounterMode(display=False):
        nn.Conv2d(2, 3, 3)(x).sum().backward()
    assert differences.found == {}


def test_a_wrong_or_missing_formula_disagrees() -> None:
    x, weight = torch.randn(4, 3), torch.randn(3, 5)
    with FlopCounter(display=False) as counter:
        x @ weight
    assert disagreements(counter.profile, 2 * 4 * 3 * 5, 0) == []
    assert disagreements(counter.profile, 100, 7) == [
        "120 FLOPs for 100", "0 parameters for 7",
    ]  # fmt: skip
    rules = default_registry().overlay("no products")

    @rules.formula(torch.ops.aten.mm.default, override=True)
    def mm(result: Any) -> Cost:
        raise ValueError

    wrong = disagreements(counter.profile.reprice(rules), 120, 0)
    assert wrong == ["uncounted: aten::mm.default x1", "0 FLOPs for 120"]


@torchs_attention
def test_a_model_that_fails_or_differs_by_device_is_a_line(monkeypatch: Any) -> None:
    line, wrong = (found := row(("bert", "eval"))).line, found.wrong
    assert line.endswith("equal")
    assert wrong == []

    def other(name: str, device: str) -> dict[str, Tensor]:
        made = inputs(name, device)
        return made if device == "cpu" else {k: v[:1] for k, v in made.items()}

    monkeypatch.setattr(agreement_transformers, "inputs", other)
    differs = row(("bert", "eval"))
    assert differs.wrong == ["not the same on each device: 552,960, 1,105,920"]
    assert differs.line.endswith(differs.wrong[0])
    monkeypatch.setattr(agreement_transformers, "inputs", lambda name, device: {})
    failed = row(("bert", "eval"))
    assert "FAILED: ValueError: You must specify exactly one of input_ids" in failed.line
    assert len(failed.wrong) == 1


@pytest.mark.parametrize("name", ["bart", "switch", "xlnet"])
def test_what_is_said_to_need_values_does_not_run_on_meta(name: str) -> None:
    assert name in NEEDS_VALUES
    with pytest.raises(RuntimeError, match="meta"):
        build(name, "meta")(**inputs(name, "meta"))


def test_all_architectures_run_in_all_ways() -> None:
    everything = set(product(ARCHITECTURES, ("eval", "eval+backward", "train", "train+backward")))
    missing = everything - set(jobs(1, backward=True))
    assert missing == {(name, "eval+backward") for name in NO_BACKWARD_IN_EVAL}
    assert len(ARCHITECTURES) - len(NEEDS_VALUES) > 50


def test_the_table_of_reasons_sums_all_rows() -> None:
    some = [
        Row("", [], [{FIFTH: Difference(-8, 2)}, {FIFTH: Difference(-2_000, 1)}]),
        Row("", ["7 FLOPs for 8"], [{GROUPED: Difference(-5, 1), FIFTH: Difference(-1, 1)}]),
    ]
    lines = [line.split()[:5] for line in reasons(some)[3:]]
    assert lines == [
        ["grouped", "convolution", "1", "1", "-5"],
        ["fifth", "product", "3", "4", "-2,009"],
    ]
    assert counts(1, some) == "1 models, 2 runs: 1 agree, 1 disagree"


def test_a_part_that_is_run_alone_keeps_the_other(monkeypatch: Any, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "agreement.txt"
    monkeypatch.setattr(agreement, "SAVED", page)
    agreement.save({agreement.VISION: "first\n", agreement.LANGUAGE: "second\n"})
    agreement.save({agreement.LANGUAGE: "third\n"})
    assert page.read_text().split(agreement.BETWEEN) == ["first\n", "third\n"]
