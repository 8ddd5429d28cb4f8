"""Literals: the numbers that a program writes are known, and torch is as it was afterwards."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flopdispatch import FlopCounter, count, on_meta
from tests.known_values import NOTHING, REFUSED, answer, counting, data, held

WATCHED = {
    (torch, "tensor"), (torch, "as_tensor"), (torch, "asarray"), (torch.Tensor, "new_tensor"),
    (torch.Tensor, "__getitem__"), (torch.Tensor, "__setitem__"), (torch.Tensor, "__format__"),
}  # fmt: skip
brackets_are_told = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python says from 3.11 on which brackets run"
)


def functions() -> list[Any]:
    """torch's functions, and whether their classes and modules have them themselves."""
    return [(getattr(where, name), vars(where).get(name)) for where, name in WATCHED]


TORCH = functions()


def watching() -> FlopCounter:
    return FlopCounter(display=False, assume=NOTHING)


# What is known


def both(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sum(), x


# Each makes a tensor on a device, or from a tensor that is there.
LITERALS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "list": lambda x, d: torch.tensor([1, 2, 3], device=d),
    "nested": lambda x, d: torch.tensor([[1.5, 2], (3, 4)], device=d),
    "number": lambda x, d: torch.tensor(7, device=d),
    "truths": lambda x, d: torch.tensor([True, False], device=d),
    "complex": lambda x, d: torch.tensor([1j, 2], device=d),
    "nothing": lambda x, d: torch.tensor([], device=d),
    "range": lambda x, d: torch.tensor(range(3), device=d),
    "array": lambda x, d: torch.tensor(array("i", [4, 5]), device=d),
    "numpy": lambda x, d: torch.tensor(np.arange(3), device=d),
    "numpy's number": lambda x, d: torch.tensor(np.float64(0.1), device=d),
    "numpy's numbers": lambda x, d: torch.tensor([np.int64(2), 3], device=d),
    "keyword": lambda x, d: torch.tensor(data=[1, 2], device=d),
    "dtype": lambda x, d: torch.tensor([1.9, -1.9], dtype=torch.int8, device=d),
    "half": lambda x, d: torch.tensor([0.1, 1e-9], dtype=torch.bfloat16, device=d),
    "gradient": lambda x, d: torch.tensor([0.5], device=d, requires_grad=True),
    "as tensor": lambda x, d: torch.as_tensor([1, 2], device=d),
    "as tensor of numpy": lambda x, d: torch.as_tensor(np.ones(2), device=d),
    "asarray": lambda x, d: torch.asarray([1, 2], dtype=torch.float32, device=d),
    "asarray, keyword": lambda x, d: torch.asarray(obj=[[3]], device=d),
    "new tensor": lambda x, d: x.new_tensor([1, 2]),
    "new tensor, keyword": lambda x, d: x.new_tensor(data=(1, 2), dtype=torch.int64),
    "tensors": lambda x, d: torch.tensor([x.sum(), 2.5, x[0]], device=d),
    "tensors of one element": lambda x, d: torch.tensor([[x[:1], x[1:2]]], device=d),
    "doubles": lambda x, d: torch.tensor([x.double().sum(), 1], device=d),
    "a tensor of the cpu": lambda x, d: torch.tensor([torch.tensor(3), 2], device=d),
    "of a tensor": lambda x, d: torch.asarray(x, copy=True),
    "as tensor of a tensor": lambda x, d: torch.as_tensor(x, dtype=torch.int64),
    "scalar": lambda x, d: torch.scalar_tensor(2.5, device=d),
    "here": lambda x, d: torch.tensor([1, 2]),
    "of tensors, here": lambda x, d: torch.tensor([x.sum(), 2]),
}


@pytest.mark.parametrize("name", LITERALS)
def test_a_literal_is_known(name: str) -> None:
    def program(x: Tensor) -> Any:
        made = LITERALS[name](x, x.device)
        return made.dtype, made.requires_grad, made.shape, made.tolist()

    real = torch.arange(3.0)
    assert answer(program, real, assume=NOTHING) == program(real)


@pytest.mark.parametrize("name", LITERALS)
def test_a_literal_under_a_device_is_known(name: str) -> None:
    def program(x: Tensor, device: str) -> Any:
        with torch.device(device):
            made = LITERALS[name](x, None)
        assert made.device.type == device
        return made.dtype, made.tolist()

    real = torch.arange(3.0)
    assert answer(lambda x: program(x, "meta"), real) == program(real, "cpu")


def test_a_list_may_change_after_it_was_made_into_a_tensor() -> None:
    def program(x: Tensor) -> Any:
        numbers, memory, mixed = [1, 2], np.arange(2), [x.sum(), 1]
        made = [torch.tensor(value, device=x.device) for value in (numbers, memory, mixed)]
        numbers[0], memory[0], mixed[1] = 9, 9, 9
        return [tensor.tolist() for tensor in made]

    assert answer(program, torch.arange(3)) == [[1, 2], [0, 1], [3, 1]]


def test_a_literal_of_data_is_data() -> None:
    def program() -> Any:
        return held(torch.tensor([data(2).sum(), 1], device="meta")), held(data(1).new_tensor([2]))

    assert answer(program, assume=NOTHING) == (REFUSED, [2])


def test_text_of_a_number_that_is_known_shows_it() -> None:
    def program(x: Tensor) -> str:
        return f"{x.sum()} {x.sum() / 3:.2f} {x[0]:>3} {x.requires_grad}"

    real = torch.arange(3.0)
    assert answer(program, real) == program(real) == "3.0 1.00 0.0 False"
    assert answer(lambda: f"{data(1).sum()}", assume=NOTHING) == f"{torch.empty((), device='meta')}"
    assert answer(lambda: f"{counting(2)}") == f"{counting(2)}"


# What is in brackets


def of_names(x: Tensor) -> Any:
    pair, picked, ranks, numbers = [0, 2], (slice(None), [1, 1]), range(2), np.array([2, 0])
    return (
        x[ranks],
        x[:, numbers],
        x[numbers, ranks],
        x[pair],
        x[picked],
        x[:, pair],
        x[-1, pair],
        x[1:, pair],
    )


def assigned(x: Tensor) -> Any:
    y = x.clone()
    y[[0, 2]] = 7
    y[:, [1]] += 1
    y[[True, False, True], 3] = torch.tensor(5, device=x.device)
    y[[0, 1], [1, 0]] = y.new_tensor([8, 9])
    return y, y[:2][[1]]


BRACKETS: dict[str, Callable[[Tensor], Any]] = {
    "list": lambda x: x[[0, -1]],
    "columns": lambda x: x[:, [0, -1]],
    "both": lambda x: x[[0, 1], [1, 0]],
    "nested": lambda x: x[:, [[0, 1], [2, 3]]],
    "truths": lambda x: x[[True, False, True]],
    "truths of columns": lambda x: x[..., [True, False, False, True]],
    "empty": lambda x: x[[]],
    "none": lambda x: x[None, [1, 0]],
    "tuple in it": lambda x: x[:, (0, 2)],
    "tensor beside": lambda x: x[[0, 1], x[:2, 1] % 2],
    "arrays in a list": lambda x: x[[np.array([0, 1]), np.array([1, 0])]],
    "tensors in a list": lambda x: x[[x[0, :2], x[0, 1:3]]],
    "two lines": lambda x: x[
        :,
        [3, 1],
    ],
    "twice": lambda x: (x[[0]], x[[1]], x[[1, 0]][:, [0, 1]][[0]]),
    "names": of_names,
    "assigned": assigned,
    "written": lambda x: "ä" and x[[2, 1]],
}


@brackets_are_told
@pytest.mark.parametrize("name", BRACKETS)
def test_lists_in_brackets_are_known(name: str) -> None:
    def program(x: Tensor) -> Any:
        found = BRACKETS[name](x)
        return [one.tolist() for one in (found if isinstance(found, tuple) else (found,))]

    real = torch.arange(12).reshape(3, 4)
    assert answer(program, real) == program(real)


def test_what_would_have_to_be_run_is_not_known() -> None:
    def program(x: Tensor) -> Any:
        same = [0, 1]
        return held(x[list(same)]), held(x[[i for i in same]]), held(x[torch.tensor(same)])  # noqa: C416

    found = answer(program, torch.arange(3), assume=NOTHING)
    assert found == (REFUSED, REFUSED, [0, 1])


# What a program is left with


def test_these_functions_are_torch_s_own_after_a_block() -> None:
    with watching():
        assert torch.tensor is not TORCH_TENSOR
        with watching(), FlopCounter(display=False):
            pass
        with FlopCounter(display=False):
            pass
        assert torch.tensor([1], device="meta").tolist() == [1]
    assert functions() == TORCH
    with pytest.raises(ZeroDivisionError), watching():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        count(lambda x: 1 // 0, (2,))
    with pytest.raises(ZeroDivisionError):
        on_meta(lambda: 1 // 0)  # type: ignore[type-var]
    assert functions() == TORCH


TORCH_TENSOR = torch.tensor


def test_blocks_of_two_threads_end_one_after_the_other() -> None:
    entered, left = Barrier(2), Barrier(2)
    seen: dict[str, Any] = {}

    def first() -> None:
        with watching():
            entered.wait()
            seen["first"] = held(torch.tensor([1], device="meta"))
        left.wait()

    def second() -> None:
        with watching():
            entered.wait()
            left.wait()
            seen["second"] = held(torch.tensor([2], device="meta"))

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"first": [1], "second": [2]}
    assert functions() == TORCH


def test_a_thread_that_is_not_counted_makes_what_it_makes() -> None:
    seen: list[Any] = []

    def other() -> None:
        seen.extend([torch.tensor([1, 2]).tolist(), torch.tensor([1], device="meta").is_meta])
        seen.append(f"{torch.tensor(1, device='meta')}")

    with watching():
        thread = Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [[1, 2], True, f"{torch.tensor(1, device='meta')}"]


def test_what_somebody_puts_around_these_functions_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def around(*args: Any, **kwargs: Any) -> Tensor:
        return TORCH_TENSOR(*args, **kwargs)

    with watching():
        monkeypatch.setattr(torch, "tensor", around)
    assert torch.tensor is around
    with watching():
        assert torch.tensor([1], device="meta").tolist() == [1]
    assert torch.tensor is around


class Seen(TorchFunctionMode):
    """Notes what torch calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(func)
        return func(*args, **(kwargs or {}))


class Own(Tensor):
    """A tensor of the user's, which notes what is called on it."""

    calls: list[Any] = []  # noqa: RUF012 (one list of all)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def used(x: Tensor) -> None:
    made = [torch.tensor([1]), torch.as_tensor([1]), torch.asarray(obj=[1]), x.new_tensor([1, 2])]
    x[0] = made[0].sum()
    x[[0, 1]] = x[[1, 0]]
    x.new_tensor(made[3])


def test_a_mode_of_the_user_s_sees_torch_s_own_functions_and_no_more() -> None:
    with Seen() as alone:
        used(torch.arange(3.0, device="meta"))
    with watching(), Seen() as watched:
        used(torch.arange(3.0, device="meta"))
    assert watched.calls == alone.calls


def test_a_tensor_of_the_user_s_sees_torch_s_own_functions() -> None:
    def calls() -> list[Any]:
        Own.calls.clear()
        used(torch.arange(3.0).as_subclass(Own))
        return list(Own.calls)

    alone = calls()
    with watching():
        assert calls() == alone


def test_tensors_are_no_sequences() -> None:
    def program() -> Any:
        x, y = torch.tensor(3), torch.arange(12).reshape(3, 4)
        made = (TORCH_TENSOR([x, 2]), torch.Tensor([x, 2]), torch.LongTensor([x, x]), y[:, [x, 0]])
        return [tensor.tolist() for tensor in made]

    expected = program()
    with watching():
        assert program() == expected


def scripted(x: Tensor) -> Tensor:
    return x + torch.tensor([1, 2]) + torch.as_tensor([3, 4])


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_knows_these_functions() -> None:
    with watching():
        made = torch.jit.script(scripted)
        assert made(torch.zeros(2)).tolist() == [4, 6]
