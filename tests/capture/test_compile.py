"""Compiled code: in a block it runs as eager code does, and a report says so."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from flopdispatch import Assumption, FlopCounter
from tests.programs import Failing, counted, macs_by_scope
from tests.versions import needs_torch

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients

EAGER = (
    "what torch.compile made ran as the code that it was made of: with a dispatch mode on, torch "
    "runs no compiled code"
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
    assert counter.profile.assumptions == (Assumption(EAGER),)
    assert f"Assumed: {EAGER}" in str(counter.profile)
    after = model(data)
    assert torch.equal(after, out)


def test_a_compiled_function_is_counted_as_the_function() -> None:
    function = torch.compile(lambda x: (x @ x).relu(), backend="aot_eager", fullgraph=True)
    data = x()
    expected = function(data)
    profile = counted(lambda: function(data).sum().backward())
    assert profile.macs == 3 * ONE
    assert profile.assumptions == (Assumption(EAGER),)
    assert torch.equal(function(data), expected)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_model_that_is_compiled_in_place_has_its_rows(before: bool, inside: bool) -> None:
    model, data = net(), x()

    def compile_it() -> None:
        model.compile(backend="aot_eager")

    if not inside:
        compile_it()
    if before:
        model(data)
    with FlopCounter(display=False) as counter:
        if inside:
            compile_it()
        for _ in range(2):
            model(data).sum().backward()
    assert macs_by_scope(counter.profile) == {"Sequential.0": 6 * ONE}
    assert [m.calls for m in counter.profile.modules] == [2, 2, 2, 0]
    assert counter.profile.assumptions == (Assumption(EAGER),)
    made = model._compiled_call_impl
    assert made is model.__dict__["_compiled_call_impl"]
    with FlopCounter(display=False) as again:  # by a counter that it wasn't compiled under
        model(data)
    assert [m.calls for m in again.profile.modules] == [1, 1, 1, 0]


def test_a_module_of_a_compiled_one_may_be_compiled_too_and_raise() -> None:
    model = nn.Sequential(Failing(ValueError("no")), nn.ReLU())
    model[0].compile(backend="aot_eager")
    with FlopCounter(display=False) as counter:
        with pytest.raises(ValueError, match="no"):
            model(x())
        x() @ x()
    assert macs_by_scope(counter.profile) == {"": ONE, "Sequential.0.linear": ONE}


@needs_torch(2, 15, "what has run under any mode isn't compiled later")
def test_a_thread_may_compile_while_another_counts() -> None:
    """What it compiles meanwhile stays compiled, and what was compiled runs as it is."""
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    first, second, data = net(), net(), x()
    first.compile(backend=backend)
    expected = first(data)
    assert len(compiled) == 1

    def work() -> None:
        assert torch.equal(first(data), expected)
        assert len(compiled) == 1
        second.compile(backend=backend, fullgraph=True)
        found.append(second(data))

    found: list[Tensor] = []
    with FlopCounter(display=False):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    assert len(compiled) == 2
    assert torch.equal(second(data), found[0])


def test_code_that_runs_beside_compiled_code_is_not_said_to_be_compiled() -> None:
    torch.compile(lambda x: x @ x, backend="aot_eager")(x())
    assert counted(x().matmul, x()).assumptions == ()


def test_a_backward_that_was_compiled_outside_is_owned_up_to() -> None:
    model = torch.compile(net(), backend="aot_eager")
    loss = model(x()).sum()
    profile = counted(loss.backward)
    assert len(profile.assumptions) == 2
    assert any("compiled before the block" in told.text for told in profile.assumptions)
    assert any("made before the block" in told.text for told in profile.assumptions)


@needs_torch(2, 15, "make_fx sees a detach more under any mode before")
@pytest.mark.parametrize("way", ["strict export", "export", "make_fx", "symbolic_trace"])
def test_a_graph_taken_in_the_block_is_the_one_that_is_taken_without_us(way: str) -> None:
    model, data = net(), torch.randn(8, 8)
    ways: dict[str, Any] = {
        "strict export": lambda: torch.export.export(model, (data,), strict=True),
        "export": lambda: torch.export.export(model, (data,), strict=False),
        "make_fx": lambda: make_fx(model)(data),
        "symbolic_trace": lambda: torch.fx.symbolic_trace(model),
    }
    expected = str(ways[way]().graph)
    with FlopCounter(display=False):
        found = str(ways[way]().graph)
    assert found == expected


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
