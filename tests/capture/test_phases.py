"""Forward, recomputation, backward and optimizer are told apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import Profile, count
from tests.programs import counted, macs_by_row

ONE = 512  # MACs of two matrices of 8 by 8

W = nn.Parameter(torch.randn(8, 8))


def x() -> Tensor:
    return torch.randn(8, 8, requires_grad=True)


def twice(x: Tensor) -> Tensor:
    return x @ W @ W


def macs_by_phase(profile: Profile) -> dict[str, int]:
    return {phase: cost.macs for phase, cost in profile.by_phase().items() if cost.macs}


# The newer checkpoint stops early: nothing needs the result of the last product.
@pytest.mark.parametrize(("reentrant", "again"), [(True, 2 * ONE), (False, ONE)])
def test_a_function_that_is_checkpointed_is_recomputed(reentrant: bool, again: int) -> None:
    profile = counted(lambda: checkpoint(twice, x(), use_reentrant=reentrant).sum().backward())
    assert macs_by_phase(profile) == {
        "other": 2 * ONE, "recompute": again, "backward": 4 * ONE,
    }  # fmt: skip


class Checkpoints(nn.Module):
    """Checkpoints two products, in no module of their own."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        run = lambda x: x @ self.weight @ self.weight  # noqa: E731
        out: Tensor = checkpoint(run, x, use_reentrant=self.reentrant)
        return out


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("kept", [{}, {"retain_graph": True}, {"create_graph": True}])
@pytest.mark.parametrize(("reentrant", "again"), [(True, 2 * ONE), (False, ONE)])
def test_a_function_that_a_module_checkpoints_is_recomputed_in_the_module(
    reentrant: bool, again: int, kept: dict[str, bool]
) -> None:
    model = nn.Sequential(Checkpoints(reentrant), Checkpoints(reentrant))
    profile = counted(lambda: model(x()).sum().backward(**kept))
    one = {"forward": 2 * ONE, "recompute": again, "backward": 4 * ONE}
    assert macs_by_row(profile) == {
        (f"Sequential.{i}", phase): macs for i in "01" for phase, macs in one.items()
    }


def test_code_that_is_recomputed_after_a_module_is_not_the_modules() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            run = lambda x: W @ self.inner(x @ W)  # noqa: E731
            out: Tensor = checkpoint(run, x, use_reentrant=True)
            return out

    model = Mixed()
    # The gradient comes as it is: the checkpoint is the first that the backward meets.
    profile = counted(lambda: model(x()).backward(torch.ones(8, 8)))
    assert macs_by_row(profile) == {
        ("Mixed", "forward"): 2 * ONE,
        ("Mixed", "recompute"): 2 * ONE,
        ("Mixed", "backward"): 4 * ONE,
        ("Mixed.inner", "forward"): ONE,
        ("Mixed.inner", "recompute"): ONE,
        ("Mixed.inner", "backward"): 2 * ONE,
    }


def test_nested_checkpoints_of_functions_are_recomputed() -> None:
    def nested(x: Tensor) -> Tensor:
        inner: Tensor = checkpoint(twice, x, use_reentrant=False)
        return inner @ W

    profile = counted(lambda: checkpoint(nested, x(), use_reentrant=False).sum().backward())
    # Run again: both products of the inner one for the outer one's sake, then, for its own
    # backward, the first of them.
    assert macs_by_phase(profile) == {
        "other": 3 * ONE, "recompute": 3 * ONE, "backward": 6 * ONE,
    }  # fmt: skip


def test_what_a_custom_function_runs_again_is_recomputed() -> None:
    class Frugal(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)  # type: ignore[attr-defined]
            return twice(x)

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                y = twice(x)
            made: Tensor = torch.autograd.grad(y, x, grad)[0]
            return made

    profile = counted(lambda: Frugal.apply(x()).sum().backward())
    assert macs_by_phase(profile) == {
        "other": 2 * ONE, "recompute": 2 * ONE, "backward": 2 * ONE,
    }  # fmt: skip


def test_the_gradient_of_a_gradient_is_no_recomputation() -> None:
    data = x()

    def run() -> None:
        (grad,) = torch.autograd.grad((data @ W).pow(2).sum(), data, create_graph=True)
        grad.sum().backward()

    # y = xW and dx = 2yW' are two products of two factors that all need a gradient: 2 + 4,
    # of which the first is the forward.
    assert macs_by_phase(counted(run)) == {"other": ONE, "backward": 5 * ONE}


def test_what_runs_outside_of_modules_is_other_and_a_function_that_is_counted_a_forward() -> None:
    model, data = nn.Linear(8, 8, bias=False), x()

    def run() -> None:
        out = model(data)
        (out @ W).sum().backward()

    assert macs_by_phase(counted(run)) == {"forward": ONE, "backward": 4 * ONE, "other": ONE}
    assert macs_by_phase(count(twice, (8, 8), device="cpu")) == {"forward": 2 * ONE}
