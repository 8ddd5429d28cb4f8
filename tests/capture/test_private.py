"""Private names of torch: here they exist; where they don't, counting goes on without them."""

from __future__ import annotations

import subprocess
import sys

import torch

from flopdispatch import FlopCounter
from flopdispatch.capture import private, scopes
from tests.programs import Attention, counted, macs_by_scope

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8


def test_nodes_are_numbered_in_the_order_they_are_made() -> None:
    x = torch.ones(2, requires_grad=True)
    before = private.next_sequence_number()
    first, second = x * 2, x + 1
    after = private.next_sequence_number()
    numbers = [private.sequence_number(y.grad_fn) for y in (first, second)]
    assert numbers == [before, before + 1]
    assert after == before + 2


def test_a_leaf_gets_a_number_that_no_forward_gives() -> None:
    x = torch.ones(2, requires_grad=True)
    accumulate = (x * 2).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
    assert private.sequence_number(accumulate) >= scopes.NO_FORWARD


def test_the_backward_knows_its_node_and_its_task() -> None:
    seen = []

    def look(grad: torch.Tensor) -> None:
        seen.append((private.current_node(), private.current_graph_task() >= 0))

    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(look)
    assert private.current_graph_task() == -1
    y.sum().backward()
    assert seen[0][1]
    assert private.current_node() is None
    assert private.current_graph_task() == -1


def test_without_an_attribute_a_node_has_no_number() -> None:
    assert private.sequence_number(object()) == -1


def test_without_private_names_totals_stay_and_the_backward_belongs_to_the_block() -> None:
    program = """
import torch
for owner, name in (
    (torch._C._autograd, "_get_sequence_nr"),
    (torch._C, "_current_autograd_node"),
    (torch._C._dynamo.eval_frame, "set_fullgraph_compiled_frame_count"),
    (torch._C._dynamo.eval_frame, "_FrameExecStrategy"),
):
    if hasattr(owner, name):  # not every torch has all of them
        delattr(owner, name)
from tests.programs import Attention, counted, macs_by_scope
x = torch.randn(8, 8, requires_grad=True)
print(macs_by_scope(counted(lambda: Attention()(x).sum().backward())))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(
        {"": 6 * ONE, "Attention.q": ONE, "Attention.k": ONE, "Attention.v": ONE}
    )


def test_importing_the_package_does_not_import_the_compiler() -> None:
    program = "import sys, torch, flopdispatch; print('torch._dynamo' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_counting_does_not_import_the_compiler() -> None:
    program = """
import sys, torch
from flopdispatch import FlopCounter
with FlopCounter(display=False):
    torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()
print('torch._dynamo' in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_a_composite_operator_is_told_from_one_with_a_kernel() -> None:
    aten = torch.ops.aten
    x = [torch.ones(2, 2)]
    assert private.is_composite(aten.linear.default)
    assert not private.is_composite(aten.mm.default)
    assert not private.has_own_kernel(aten.matmul.default, x)
    assert private.has_own_kernel(aten.mm.default, x)


def test_a_wrapper_is_known_by_its_class() -> None:
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    assert private.is_wrapper(type(ragged))
    assert sorted(part.numel() for part in private.parts_of(ragged))[-1] == 5
    assert not private.is_wrapper(torch.Tensor)
    assert private.parts_of(torch.ones(2)) == []


def test_the_block_is_left_as_torch_compile_had_it() -> None:
    private.compiled_frames(-1)  # nobody asks
    with FlopCounter(display=False), FlopCounter(display=False):
        counted(Attention(), torch.ones(1, 8))
    assert private.compiled_frames(-1) == -1
    assert macs_by_scope(counted(Attention(), torch.ones(8, 8))) == {
        "Attention.q": ONE,
        "Attention.k": ONE,
        "Attention.v": ONE,
    }
