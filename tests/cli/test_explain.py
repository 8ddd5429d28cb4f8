"""`flopdispatch explain`: state, formula and source of one operator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flopdispatch
from flopdispatch.catalogue import catalogue
from flopdispatch.cli.explain import explained
from flopdispatch.cli.main import main

ROOT = Path(flopdispatch.__file__).parents[1]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def places(text: str) -> list[tuple[str, str]]:
    """Each place that is named, with the line of the file there."""
    return [
        (place, (ROOT / file).read_text().splitlines()[int(line) - 1])
        for place, file, line in re.findall(r"((flopdispatch/\S+\.py):(\d+))", text)
    ]


def test_an_operator_is_told_with_schema_formula_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, "mm")
    head, *rest = text.split("\n\n")
    assert head == (
        "aten::mm.default\n"
        "  schema      aten::mm(Tensor self, Tensor mat2) -> Tensor\n"
        "  state       counted: a formula says what a call costs\n"
        "  family      matmul\n"
        "  layouts     dense, sparse, nested"
    )
    assert "  Counts: m·n·k MACs.\n" in text
    assert "        return Cost(macs=m * n * k)\n" in text
    assert '"""' not in text, "the docstring is told once"
    (_, line), *_ = places(rest[0])
    assert line.startswith("@rules.formula(")
    assert text.count("    def mm(") == 2, "one of dense and nested tensors, one of sparse"
    assert rest[-1] == "Also called so: aten::mm.dtype, aten::mm.dtype_out, aten::mm.out\n"


def test_a_variant_is_told_by_the_formula_that_it_goes_by(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, "aten::_foreach_add_.Scalar")
    assert "\n  counted as  aten::add.Scalar\n" in text
    assert "\n    def add(other" in text


def test_what_a_made_formula_was_given_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\n    where each = Cost(transcendentals=1)\n" in said(capsys, "aten::exp.default")
    text = said(capsys, "aten::_softmax.default")
    (given,) = re.findall(r"where formula = softmax, (\S+)", text)
    assert dict(places(text))[given].startswith("@rules.formula(aten._softmax.default")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("aten::view.default", "zero: declared to compute nothing; its bytes are counted"),
        ("aten::einsum.default", "decomposed: runs as other operators, which are counted"),
        (
            "higher_order::executorch_call_delegate",
            "uncounted: no formula: reports list its calls, and totals lack their cost",
        ),
    ],
)
def test_an_operator_without_a_formula_is_told_why(
    name: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, name)
    assert f"\n  state       {state}\n" in text
    assert "Formula" not in text
    assert "conventions" not in text


def test_an_estimate_says_of_what(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "aten::topk.default")
    assert "\n  estimate    order of magnitude: a selection looks at each" in text


def test_other_conventions_are_listed_by_what_they_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    every = "torch, fvcore, ptflops, thop, torchstat: nothing"
    text = said(capsys, "aten::exp.default")
    assert f"\n\nWhat other conventions count of it\n  {every}\n" in text
    assert "\n  torch, fvcore, thop: macs\n" in said(capsys, "aten::addmm.default")
    softmax = said(capsys, "aten::_softmax.default")
    (place,) = re.findall(r"\n  thop: Softmax along one dimension \((\S+)\)", softmax)
    assert place.startswith("flopdispatch/conventions/thop.py:")


def test_a_library_is_loaded_to_know_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--import", "torchvision", "nms")
    assert text.startswith("torchvision::nms.default\n  schema      torchvision::nms(Tensor dets")


def test_an_operator_of_a_file_of_one_s_own_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_explained.py").write_text(
        "import torch\ntorch.library.define('explained::mystery', '(Tensor x) -> Tensor')\n"
    )
    text = said(capsys, "--import", "mine_explained.py", "mystery")
    assert text.startswith("explained::mystery.default\n")
    assert "\n  state       uncounted: no formula" in text


def test_every_operator_can_be_explained() -> None:
    registry = flopdispatch.default_registry()
    seen: dict[str, str] = {}
    for name, overload in catalogue(registry).items():
        rule = registry.rule(overload)
        about = rule.family if rule is not None else ""
        if about not in seen:
            seen[about] = "\n".join(explained(overload, registry))
            assert seen[about].startswith(name)
            places(seen[about])
    assert len(seen) > 20


def test_an_unknown_operator_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "aten.convolutoin"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("flopdispatch: error: no operator is called 'aten.convolutoin'; close")
    assert "aten::convolution.default" in line
    assert line.count("\n") == 1
