"""torch's own functions that call an operator quickly call just that operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch.capture import private

aten = torch.ops.aten


class Calls(TorchDispatchMode):
    """Notes each operator that runs, and its arguments."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def tensor(*shape: int) -> Tensor:
    return torch.linspace(-1, 2, torch.Size(shape).numel()).reshape(shape)


x, y, m = tensor(4, 6), tensor(4, 6), tensor(6, 4)
ARGUMENTS: dict[Any, list[tuple[Any, ...]]] = {
    aten.view.default: [(x, [2, 12]), (x, [-1])],
    aten.t.default: [(x,), (tensor(3),)],
    aten.transpose.int: [(x, 0, 1), (x, -1, 0)],
    aten.permute.default: [(x, [1, 0])],
    aten.expand.default: [(tensor(4, 1), [4, 6]), (tensor(4, 1), [2, -1, 6])],
    aten.unsqueeze.default: [(x, 0), (x, -1)],
    aten.select.int: [(x, 0, 1), (x, 1, -2)],
    aten.add_.Tensor: [(x.clone(), y), (x.clone(), 2), (x.clone(), tensor())],
    aten.mul_.Tensor: [(x.clone(), y), (x.clone(), 0.5)],
    aten.copy_.default: [(x.clone(), y), (x.clone(), y, True), (x.clone(), tensor(6))],
    aten.add.Tensor: [(x, y), (x, 2), (x, 2.5), (x, True), (x, tensor())],
    aten.sub.Tensor: [(x, y), (x, 2)],
    aten.mul.Tensor: [(x, y), (x, 2), (tensor(4).int(), 0.5), (x, 2j)],
    aten.div.Tensor: [(x, y), (x, 3), (tensor(4).int(), 3)],
    aten.neg.default: [(x,)],
    aten.relu.default: [(x,)],
    aten.relu_.default: [(x.clone(),)],
    aten.sigmoid.default: [(x,)],
    aten.tanh.default: [(x,)],
    aten.exp.default: [(x,)],
    aten.mm.default: [(x, m)],
    aten.bmm.default: [(tensor(2, 3, 4), tensor(2, 4, 5))],
    aten.addmm.default: [(tensor(4), x, m)],
    aten.convolution.default: [
        (tensor(1, 2, 5), tensor(3, 2, 2), None, [1], [0], [1], False, [0], 1),
        (tensor(1, 2, 5), tensor(2, 1, 2), tensor(2), [2], [1], [1], False, [0], 2),
        (tensor(1, 2, 5), tensor(2, 3, 2), None, [2], [1], [1], True, [1], 1),
    ],
    aten.native_layer_norm.default: [(x, [6], tensor(6), None, 1e-5)],
    aten.native_batch_norm.default: [
        (x, tensor(6), None, tensor(6), tensor(6).abs(), False, 0.1, 1e-5),
        (x, None, None, None, None, True, 0.1, 1e-5),
    ],
    aten._softmax.default: [(x, 1, False)],
    aten.clone.default: [(x,)],
}


def test_each_binding_has_arguments_here() -> None:
    names = (private.METHODS + private.FUNCTIONS).split()
    assert set(ARGUMENTS) == {getattr(getattr(aten, a), b) for a, b in map(split, names)}


def split(name: str) -> list[str]:
    return name.split(".")


@pytest.mark.parametrize("overload", ARGUMENTS)
def test_a_binding_calls_its_overload_with_the_same_arguments(overload: Any) -> None:
    quick = private.kernel_of(overload)
    assert quick is not overload._op, "no binding, so nothing is tested"
    for args in ARGUMENTS[overload]:
        calls, copy = [], [a.clone() if isinstance(a, Tensor) else a for a in args]
        outs = []
        for function, given in ((overload, args), (quick, copy)):
            with Calls() as mode:
                outs.append(function(*given))
            calls.append(mode.seen)
        torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=0)
        (plain,), (quickly,) = calls
        assert quickly[0] is plain[0] is overload
        assert len(quickly[1]) == len(plain[1])
        assert quickly[2] == plain[2]
        for ours, theirs in zip(quickly[1], plain[1]):
            assert type(ours) is type(theirs)
            assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def test_keywords_are_for_the_overload() -> None:
    assert private.kernel_of(aten.add.Tensor, keywords=True) is aten.add.Tensor._op
