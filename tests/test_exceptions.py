"""An exception in the block goes through as it is, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import FlopCounter
from tests.programs import Failing, counted, state_of_torch

EIGHT = torch.ones(2, 2)  # its square is 2·2·2 = 8 MACs


class Stop(BaseException):
    """Not even an Exception."""


def in_the_block(error: BaseException) -> None:
    EIGHT @ EIGHT
    raise error


def in_a_forward(error: BaseException) -> None:
    nn.Sequential(Failing(error))(torch.ones(1, 8))


def in_a_hook(error: BaseException) -> None:
    model = nn.Linear(8, 8)

    def hook(*args: Any) -> None:
        raise error

    model.register_forward_hook(hook)
    model(torch.ones(1, 8))


def in_a_backward(error: BaseException) -> None:
    def hook(grad: Tensor) -> None:
        raise error

    x = torch.ones(2, 2, requires_grad=True)
    y = x @ x
    y.register_hook(hook)
    y.sum().backward()


def in_a_step(error: BaseException) -> None:
    def closure() -> float:
        EIGHT @ EIGHT
        raise error

    torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1).step(closure)


PLACES = (in_the_block, in_a_forward, in_a_hook, in_a_backward, in_a_step)


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), Stop()], ids=repr)
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_goes_through_and_leaves_nothing_behind(
    place: Callable[[BaseException], None],
    error: BaseException,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = state_of_torch()
    counter = FlopCounter()
    with pytest.raises(type(error)) as caught, counter:
        place(error)
    assert caught.value is error
    assert state_of_torch() == before
    assert capsys.readouterr() == ("", "")
    assert counter.macs >= 8, "what ran before the exception stays"
    assert counted(lambda: EIGHT @ EIGHT).macs == 8


def test_nothing_is_left_behind_by_a_block_that_ends() -> None:
    before = state_of_torch()
    with FlopCounter(display=False):
        nn.Linear(2, 2)(EIGHT).sum().backward()
    assert state_of_torch() == before
