"""Eight threads, each with its own counter and model: every count is right, nothing is left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.checkpoint import checkpoint

from flopdispatch import Cost, FlopCounter, scope
from flopdispatch.capture import module_calls
from tests.programs import macs_by_scope, state_of_torch

THREADS = 8
ROUNDS = 1_000  # of each thread


@pytest.fixture(autouse=True)
def _switching_often() -> Iterator[None]:
    """Let threads take turns after every few operators, not after dozens."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Model(nn.Module):
    """Linear layers of one width, one more that is checkpointed, and a product in a region."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.last = nn.Linear(width, width, bias=False)
        self.weight = nn.Parameter(torch.randn(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        x = checkpoint(self.last, x, use_reentrant=True, preserve_rng_state=False)
        with scope("end"):
            return x @ self.weight


def sizes(number: int) -> tuple[int, int, int]:
    """Width, depth and rows of a thread's model, all of them of one thread alone."""
    return 3 + number, 1 + number % 3, 2 + number


def expected(number: int, rounds: int) -> dict[str, int]:
    """MACs of so many rounds of a thread's model, by scope.

    A layer of w by w on n rows: n·w·w forward, as many for the weight's gradient, and for the
    input's but in the first. The checkpointed one is run forward twice.
    """
    width, depth, rows = sizes(number)
    layer = rounds * rows * width * width
    macs = {f"Model.layers.{i}": 3 * layer for i in range(depth)}
    macs["Model.layers.0"] = 2 * layer
    return {**macs, "Model.last": 4 * layer, "Model.end": 3 * rounds * rows * width}


def by_phase(counter: FlopCounter) -> dict[str, int]:
    """MACs of the phases that have some."""
    return {phase: cost.macs for phase, cost in counter.profile.by_phase().items() if cost.macs}


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work(number)` in all threads at once.

    Raises: what the first of them raised.
    """
    barrier = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def made(number: int, device: str = "cpu") -> tuple[Model, Tensor]:
    """A thread's model, and the rows that it is run on."""
    width, depth, rows = sizes(number)
    return Model(width, depth).to(device), torch.ones(rows, width, device=device)


# On meta, threads share the calls that the fast path knows.
@pytest.mark.parametrize(("device", "rounds"), [("cpu", ROUNDS), ("meta", ROUNDS // THREADS)])
def test_each_threads_counter_has_its_own_thread_in_it(device: str, rounds: int) -> None:
    before = state_of_torch()

    def work(number: int) -> None:
        model, data = made(number, device)
        fresh = state_of_torch()
        width, depth, rows = sizes(number)
        with FlopCounter(display=False) as whole:
            for _ in range(rounds):
                with FlopCounter(display=False) as one:
                    model(data).sum().backward()
                assert macs_by_scope(one.profile) == expected(number, 1)
        assert macs_by_scope(whole.profile) == expected(number, rounds)
        layer = rows * width * width
        assert by_phase(whole) == {
            "forward": rounds * ((depth + 1) * layer + rows * width),
            "recompute": rounds * layer,
            "backward": rounds * ((2 * depth + 1) * layer + 2 * rows * width),
        }
        calls = {m.scope: m.calls for m in whole.profile.modules}
        assert calls["Model"] == rounds
        assert calls["Model.last"] == 2 * rounds
        assert one.params == sum(p.numel() for p in model.parameters())
        assert fresh[:2] == state_of_torch()[:2]

    in_threads(work)
    assert state_of_torch() == before
    assert module_calls._followers == {}


def test_a_thread_whose_program_fails_leaves_the_others_right() -> None:
    before = state_of_torch()

    def work(number: int) -> None:
        model, data = made(number)

        def fail(*_: object) -> None:
            raise ValueError(f"thread {number}")

        failing = number % 2 == 1
        if failing:
            model.weight.register_hook(fail)
        for _ in range(ROUNDS // 40):
            counter = FlopCounter(display=False)
            if failing:
                with pytest.raises(ValueError, match=f"thread {number}"), counter:
                    model(data).sum().backward()
                assert by_phase(counter).keys() == {"forward", "backward"}
            else:
                with counter:
                    model(data).sum().backward()
                assert macs_by_scope(counter.profile) == expected(number, 1)

    in_threads(work)
    assert state_of_torch() == before
    assert module_calls._followers == {}


def test_each_threads_optimizer_is_in_its_own_counter() -> None:
    before = state_of_torch()
    all_begun, all_done = threading.Barrier(THREADS), threading.Barrier(THREADS)

    def phases(number: int, steps: int) -> dict[str, Cost]:
        model, data = made(number)
        with FlopCounter(display=False) as counter:
            adam = torch.optim.AdamW(model.parameters(), lr=0.1, foreach=False)
            if steps > 1:
                all_begun.wait()
            for _ in range(steps):
                model(data).sum().backward()
                adam.step()
            if steps > 1:
                all_done.wait()
        return counter.profile.by_phase()

    alone = [phases(number, 1) for number in range(THREADS)]
    steps = ROUNDS // 40

    def work(number: int) -> None:
        found = phases(number, steps)
        for phase in ("forward", "recompute", "backward", "other"):
            assert found[phase].macs == steps * alone[number][phase].macs
        # A step's arithmetic is the same each time: numbers differ, operators don't.
        assert found["optimizer"].flops == steps * alone[number]["optimizer"].flops > 0

    in_threads(work)
    assert state_of_torch() == before


def test_a_counter_may_begin_in_one_thread_while_another_steps() -> None:
    stepper = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)

    def begin_and_end() -> None:
        with FlopCounter(display=False):
            pass

    def elsewhere(*_: object) -> None:
        thread = threading.Thread(target=begin_and_end)
        thread.start()
        thread.join()

    handle = register_optimizer_step_pre_hook(elsewhere)  # runs when another thread could
    try:
        with FlopCounter(display=False):
            stepper.step()
    finally:
        handle.remove()
