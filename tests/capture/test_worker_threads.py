"""`threads=True` counts the threads that are started in the block, and no others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import FlopCounter
from tests.programs import macs_by_scope, state_of_torch

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


def x(grad: bool = False) -> Tensor:
    return torch.randn(8, 8, requires_grad=grad)


def linear() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def in_threads(*programs: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=program) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_thread_is_counted_with_threads_and_not_without() -> None:
    layer = linear()
    start = threading.Thread.start
    for threads, expected in ((False, {}), (True, {"Linear": 3 * ONE})):
        before = state_of_torch()
        with FlopCounter(display=False, threads=threads) as counter:
            in_threads(lambda: layer(x(True)).sum().backward())
        assert macs_by_scope(counter.profile) == expected
        assert threading.Thread.start is start
        assert state_of_torch() == before


def test_one_model_in_many_threads_has_one_row_and_two_models_have_two() -> None:
    shared, other = linear(), linear()
    ready = threading.Barrier(3, timeout=30)

    def run(layer: nn.Module) -> None:
        ready.wait()
        for _ in range(20):
            layer(x(True)).sum().backward()

    with FlopCounter(display=False, threads=True) as counter:
        shared(x())
        in_threads(lambda: run(shared), lambda: run(shared), lambda: run(other))
    profile = counter.profile
    assert macs_by_scope(profile) == {"Linear": 121 * ONE, "Linear#2": 60 * ONE}
    assert {node.path: node.calls for node in profile.root.children} == {
        "Linear": 41, "Linear#2": 20,
    }  # fmt: skip
    assert profile.params == 128
    assert sum(cost.macs for cost in profile.by_phase().values()) == profile.macs


def test_threads_of_threads_are_counted_and_those_of_others_are_not() -> None:
    data = x()
    asked, done = threading.Event(), threading.Event()

    def start_another() -> None:
        in_threads(lambda: data @ data)

    def foreign() -> None:
        asked.wait(30)
        start_another()
        done.set()

    bystander = threading.Thread(target=foreign)
    bystander.start()
    with FlopCounter(display=False, threads=True) as counter:
        in_threads(start_another)
        asked.set()
        done.wait(30)
    bystander.join()
    assert macs_by_scope(counter.profile) == {"": ONE}


def test_a_pool_that_goes_on_is_counted_until_the_block_ends() -> None:
    layer = linear()
    before = state_of_torch()
    with ThreadPoolExecutor(1) as pool:
        with FlopCounter(display=False, threads=True) as counter:
            pool.submit(layer, x()).result()
            assert counter.macs == ONE
        pool.submit(layer, x()).result()
        assert counter.macs == ONE
        with FlopCounter(display=False, threads=True) as second:
            pool.submit(layer, x()).result()
        assert second.macs == 0, "its thread was started before the block"
    assert macs_by_scope(counter.profile) == {"Linear": ONE}
    assert state_of_torch() == before


def test_two_counters_count_a_thread_each_for_itself() -> None:
    data = x()
    with FlopCounter(display=False, threads=True) as outer:
        with FlopCounter(display=False, threads=True) as inner:
            in_threads(lambda: data @ data)
        in_threads(lambda: data @ data)
    assert (outer.macs, inner.macs) == (2 * ONE, ONE)


def test_a_pause_and_a_reset_are_for_all_threads() -> None:
    data = x()
    steps = [threading.Event() for _ in range(4)]

    def run() -> None:
        for at, event in zip((0, 2), (1, 3)):
            steps[at].wait(30)
            data @ data
            steps[event].set()

    with FlopCounter(display=False, threads=True) as counter:
        thread = threading.Thread(target=run)
        thread.start()
        counter.pause()
        steps[0].set()
        steps[1].wait(30)
        in_threads(lambda: data @ data)
        counter.resume()
        in_threads(lambda: data @ data)
        assert counter.macs == ONE
        counter.reset()
        steps[2].set()
        thread.join()
    assert counter.macs == ONE


def test_a_thread_is_left_as_it_was() -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            self.seen = dict(vars(self))
            raise KeyError("mine")

    caught: list[Any] = []
    hook, threading.excepthook = threading.excepthook, caught.append
    try:
        with FlopCounter(display=False, threads=True):
            thread = Mine()
            thread.start()
            thread.join()
            with pytest.raises(RuntimeError, match="once"):
                thread.start()
    finally:
        threading.excepthook = hook
    assert [type(args.exc_value) for args in caught] == [KeyError]
    assert "run" not in thread.seen
    assert "run" not in vars(thread)
