"""What a backward makes for another backward belongs to the module that it was made for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter
from tests.programs import counted, macs_by_scope

ONE = 512  # MACs of two matrices of 8 by 8


def x() -> Tensor:
    return torch.randn(8, 8, requires_grad=True)


def linear() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def test_the_gradient_of_a_gradient_belongs_to_the_modules() -> None:
    model, data = nn.Sequential(linear(), nn.Tanh(), linear()), x()

    def run() -> None:
        (grad,) = torch.autograd.grad(model(data).sum(), data, create_graph=True)
        (grad @ grad).sum().backward()

    # h = tanh(xA), y = hB, the gradient is ((1 - h²)∘B')A'. First: the forward, one gradient.
    # Second, of the gradient: both factors of its last product, B's of the other; of xA
    # inside of h, both.
    assert macs_by_scope(counted(run)) == {
        "Sequential.0": 6 * ONE,
        "Sequential.2": 3 * ONE,
        "": 3 * ONE,
    }


def test_what_runs_after_such_a_backward_belongs_where_it_runs() -> None:
    layer, data, other = linear(), x(), x()

    def run() -> None:
        (grad,) = torch.autograd.grad(layer(data).pow(2).sum(), data, create_graph=True)
        (grad.sum() + (other @ other).sum()).backward()

    assert macs_by_scope(counted(run)) == {"Linear": 6 * ONE, "": 3 * ONE}


def test_a_gradient_inside_of_a_module_belongs_to_it_and_to_those_below() -> None:
    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = linear()

        def forward(self, x: Tensor) -> Tensor:
            energy = self.energy(x).pow(2).sum()
            (grad,) = torch.autograd.grad(energy, x, create_graph=True)
            out: Tensor = grad @ x
            return out

    data = x()
    profile = counted(lambda: Score()(data).sum().backward())
    assert macs_by_scope(profile) == {"Score.energy": 6 * ONE, "Score": 3 * ONE}


def test_with_a_checkpoint_on_the_way_rows_stay_right() -> None:
    first, second, data = linear(), nn.Sequential(linear(), nn.Tanh()), x()

    def run() -> None:
        hidden = checkpoint(second, first(data), use_reentrant=False)
        (grad,) = torch.autograd.grad(hidden.sum(), data, create_graph=True)
        grad.pow(2).sum().backward()

    costs = macs_by_scope(counted(run))
    assert set(costs) == {"Linear", "Sequential.0"}
    # The forward, the gradient of the input, and of that gradient both factors; of the
    # product inside of tanh the weight's gradient and the input's, which goes on to the first.
    assert costs["Linear"] == 1 * ONE + 1 * ONE + 2 * ONE + 2 * ONE
    assert costs["Sequential.0"] >= 1 * ONE + 1 * ONE + 2 * ONE + 2 * ONE


def test_a_backward_that_raises_leaves_nothing_wrong_behind() -> None:
    layer, data = linear(), x()

    def fail(grad: Tensor) -> None:
        raise KeyError("mine")

    with FlopCounter(display=False) as counter:
        hidden = layer(data)
        hidden.register_hook(fail)
        with pytest.raises(KeyError, match="mine"):
            torch.autograd.grad((hidden @ hidden).sum(), data, create_graph=True)
        torch.autograd.grad(layer(data).sum(), data, create_graph=True)
        data @ data
        (data @ data).sum().backward()
    assert macs_by_scope(counter.profile) == {"Linear": 3 * ONE, "": 7 * ONE}
