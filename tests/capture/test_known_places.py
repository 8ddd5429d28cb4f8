"""Known values under modes, transforms and threads, on other devices, and after a block."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.equality_ways import double_by_default
from flopdispatch import Assume, FlopCounter, count, on_meta
from flopdispatch.capture import known as known_values
from flopdispatch.capture.known import FIRST_SWEEP, KEPT
from flopdispatch.capture.roles import role_of
from tests.known_values import NOTHING, REFUSED, alive, answer, counting, data, held
from tests.versions import needs_torch

# Where they are


def test_a_storage_at_an_old_one_s_place_is_not_taken_for_it() -> None:
    def program(x: Tensor) -> Any:
        seen = set()
        x.data = data(3)  # the stand-in's own memory is gone
        for _ in range(20):
            y = counting(3)
            del y
            seen |= {str(held(data(3))) for _ in range(5)}
        return seen, held(x)

    assert answer(program, torch.arange(3.0), assume=NOTHING) == ({REFUSED}, REFUSED)


def test_storages_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = []
    with FlopCounter(display=False, assume=Assume()) as counter:
        kept = counting(3)
        for _ in range(3 * FIRST_SWEEP):
            counting(5)
        assert counter._questions is not None
        entries = list(counter._questions.known.entries)
        assert held(kept) == [0, 1, 2]
    assert len(entries) <= FIRST_SWEEP + 1


def test_computed_values_that_are_gone_are_forgotten_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_values, "HELD", 1 << 12)

    def program() -> int:
        before = alive()
        for _ in range(64):
            assert held(counting(64)[:1]) == [0]  # 512 bytes each
        return alive() - before

    assert answer(program) <= 10


def test_nothing_is_kept_after_the_block() -> None:
    real = torch.arange(5)
    gone, before = weakref.ref(real), alive()
    counter = FlopCounter(display=False, assume=Assume())
    for leaves in (None, ZeroDivisionError):
        with pytest.raises(leaves) if leaves else nullcontext(), counter:
            x = real.to("meta") + torch.tensor([1, 2, 3, 4, 5], device="meta")
            y = counting(3) * 2
            assert held(x) == [1, 3, 5, 7, 9]
            if leaves:
                raise leaves
    assert alive() == before
    count(lambda x: held(x[1:] + 1), real)
    del real
    assert gone() is None
    assert alive() == before
    with counter:
        assert held(y) is REFUSED  # known in its own block only


class Table(nn.Module):
    """Has numbers in buffers, of which one is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Buffer(torch.arange(4) * 2)
        self.last = nn.Buffer(self.numbers[2:])

    def forward(self) -> Any:
        return held(self.numbers + 1), held(self.last)


def test_buffers_of_a_model_on_meta_are_kept_as_long_as_it_lives() -> None:
    before, steps = len(KEPT), alive()
    model = on_meta(Table)
    assert len(KEPT) == before + 2
    seen: list[Any] = []
    model.register_forward_hook(lambda module, args, out: seen.append(out))
    for _ in range(2):
        with FlopCounter(display=False, assume=NOTHING):
            model()
        count(model, assume=NOTHING)
        count(model.__call__, assume=NOTHING)
        model.numbers.add_(1)  # torch knows that they changed, and nobody what they are
    assert seen == [([1, 3, 5, 7], [4, 6])] * 3 + [(REFUSED, REFUSED)] * 3
    del model
    assert len(KEPT) == before
    assert alive() == steps


# Under what a program runs


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plainly": nullcontext,
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "double": double_by_default,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "on meta": lambda: torch.device("meta"),
}


def course(device: str) -> list[Any]:
    """Values, and where they lead."""
    x = torch.arange(6, device=device).reshape(2, 3)
    scores = x / 3
    product = x.float() @ x.t().float()
    scores[0] += 1
    seen = [product.tolist(), scores.dtype, scores.tolist(), scores[scores > 1].tolist()]
    return [*seen, x.unique().tolist(), "yes" if (x > 4).any() else "no", int(x.sum())]


@pytest.mark.parametrize("asked", MODES)
@pytest.mark.parametrize("made", MODES)
def test_modes_change_no_answer(made: str, asked: str) -> None:
    def program(device: str) -> list[Any]:
        with MODES[made]():
            x = torch.ones(2, 2, device=device) / 3
            product = torch.full((2, 2), 3, device=device) @ torch.eye(2, device=device).long()
            values = course(device)
        with MODES[asked]():
            return [*values, (x > 0).all().item(), x.tolist(), product.tolist()]

    with MODES[made]():
        expected = course("cpu")
    assert answer(lambda: program("meta"))[: len(expected)] == expected
    if "on meta" not in (made, asked):
        assert answer(lambda: program("meta")) == program("cpu")


@pytest.mark.parametrize("meta_cache", [True, False])
def test_the_fast_path_changes_no_answer(meta_cache: bool) -> None:
    for _ in range(2):
        with FlopCounter(display=False, assume=NOTHING, meta_cache=meta_cache):
            assert course("meta") == course("cpu")


def test_transforms_change_no_answer() -> None:
    def program(device: str) -> list[Any]:
        x = torch.arange(6.0, device=device).reshape(2, 3)
        outside, seen = torch.arange(3, device=device), []

        def body(row: Tensor) -> Tensor:
            seen.append((outside + 1).sum().item())
            return (row * row).sum() * int(outside.max())

        mapped = torch.vmap(body)(x)
        slope = torch.func.grad(lambda x: body(x).sum())(x)
        pulled = torch.func.jvp(body, (x[1],), (torch.ones(3, device=device),))[1]
        made = torch.func.jacrev(body)(x[0])
        both = torch.vmap(torch.func.grad(body))(x)
        return [seen, *(y.tolist() for y in (mapped, slope, pulled, made, both))]

    assert answer(lambda: program("meta")) == program("cpu")


def test_gradients_are_known() -> None:
    def program(device: str) -> Any:
        x = torch.arange(3.0, device=device, requires_grad=True)
        (x * x).sum().backward()
        assert x.grad is not None
        return x.grad.tolist(), x.tolist(), (x.grad > 1).nonzero().tolist()

    assert answer(lambda: program("meta")) == program("cpu")


@pytest.mark.parametrize("threads", [True, False])
def test_threads_that_are_counted_are_answered(threads: bool) -> None:
    seen: list[Any] = []

    def work() -> None:
        x = torch.tensor([3, 1, 2], device="meta")
        seen.append((x.sort().values.tolist(), (shared + x).tolist()))

    with FlopCounter(display=False, assume=NOTHING, threads=threads):
        shared = counting(3)
        thread = Thread(target=work if threads else lambda: seen.append(shared.is_meta))
        thread.start()
        thread.join()
    assert seen == ([([1, 2, 3], [3, 2, 4])] if threads else [True])


def test_what_is_written_while_a_counter_is_paused_is_seen() -> None:
    with FlopCounter(display=False, assume=NOTHING) as counter:
        x, y = counting(3), counting(3)
        counter.pause()
        x.add_(data(3).long())
        y.add_(1)
        counter.resume()
        assert held(x) == REFUSED
        assert held(y) == [1, 2, 3]


def test_a_counter_inside_of_another_changes_no_answer() -> None:
    with FlopCounter(display=False, assume=NOTHING):
        x = counting(3)
        for assume in (None, NOTHING):
            with FlopCounter(display=False, assume=assume):
                x.add_(1)
        assert held(x) == [2, 3, 4]


# Elsewhere


@needs_torch(2, 10, "a convolution on a fake GPU ends the process")
def test_a_device_that_this_machine_has_not_knows_as_much() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    real = torch.tensor([2, 0, 1])

    def program(ids: Tensor, scores: Tensor) -> list[Any]:
        place = ids.device
        steps = torch.arange(3, device=place) + ids
        literal = torch.tensor([5, 6], device=place)
        chosen = steps.masked_select(steps > 2)
        ids.select(0, 0).fill_(7)
        return [
            ids.tolist(), steps.tolist(), steps.sum().item(), chosen.shape, chosen.tolist(),
            literal.tolist(), bool((steps > 4).any()), steps.unique().tolist(),
            ids.repeat_interleave(steps).tolist(), held(scores > 0.5),
        ]  # fmt: skip

    assert answer(program, real, (3,), device="cuda", assume=NOTHING) == [
        [7, 0, 1], [2, 1, 3], 6, (1,), [3], [5, 6], False, [1, 2, 3], [7, 7, 0, 1, 1, 1], REFUSED,
    ]  # fmt: skip
    assert real.tolist() == [2, 0, 1]


def test_what_other_processes_hold_is_not_known() -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    for operator in ("all_reduce", "all_reduce_", "all_gather_into_tensor", "broadcast"):
        role = role_of(getattr(torch.ops._c10d_functional, operator).default)
        assert role is None or not role.replayed
