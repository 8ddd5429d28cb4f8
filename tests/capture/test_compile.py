"""Compiled code: in a block it runs as eager code does, and a report says so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import FlopCounter
from tests.programs import counted, macs_by_scope

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients

EAGER = (
    "what torch.compile made of a module ran as the module itself does: with a dispatch mode "
    "on, torch runs no compiled code"
)


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Older torch compiles nothing any more once compiled code has met a dispatch mode."""
    torch._dynamo.reset()


def x() -> Tensor:
    return torch.randn(8, 8, requires_grad=True)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU())


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_model_is_counted_as_the_model_and_the_report_says_so(
    before: bool, fullgraph: bool
) -> None:
    model = torch.compile(net(), backend="aot_eager", fullgraph=fullgraph)
    data = x()
    expected = model(data) if before else None
    with FlopCounter(display=False) as counter:
        out = model(data)
        out.sum().backward()
    if expected is not None:
        assert torch.equal(out, expected)
    assert macs_by_scope(counter.profile) == {"Sequential.0": 3 * ONE}
    assert counter.profile.assumptions == (EAGER,)
    assert f"Assumed: {EAGER}" in str(counter.profile)
    after = model(data)
    assert torch.equal(after, out)


def test_a_compiled_function_is_counted_as_the_function() -> None:
    function = torch.compile(lambda x: (x @ x).relu(), backend="aot_eager", fullgraph=True)
    data = x()
    expected = function(data)
    assert counted(lambda: function(data).sum().backward()).macs == 3 * ONE
    assert torch.equal(function(data), expected)


def test_a_backward_that_was_compiled_outside_is_owned_up_to() -> None:
    model = torch.compile(net(), backend="aot_eager")
    loss = model(x()).sum()
    profile = counted(loss.backward)
    assert len(profile.assumptions) == 2
    assert any("compiled before the block" in text for text in profile.assumptions)
    assert any("made before the block" in text for text in profile.assumptions)


def test_an_exported_program_runs_and_is_counted() -> None:
    model, data = net(), torch.randn(8, 8)
    program = torch.export.export(model, (data,)).module()
    assert counted(lambda: program(data)).macs == ONE


def test_a_traced_graph_module_has_the_rows_of_its_modules() -> None:
    graph = torch.fx.symbolic_trace(net())
    profile = counted(lambda: graph(x()).sum().backward())
    assert {scope.rpartition(".")[2]: macs for scope, macs in macs_by_scope(profile).items()} == {
        "0": 3 * ONE
    }
