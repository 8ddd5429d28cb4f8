"""On meta, a known call is answered without its kernel, and nobody can tell."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopdispatch import FlopCounter
from flopdispatch.capture import calls
from flopdispatch.capture.calls import CALLS
from flopdispatch.capture.meta import clear_cache
from flopdispatch.rules import name_of
from tests.dispatched import Dispatched
from tests.programs import ConvNet, counted
from tests.versions import needs_torch

aten = torch.ops.aten
KERNELS = ("_refs", "_decomp", "_prims", "_meta_registrations.py", "_prims_common")


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


def meta(*shape: int, **options: Any) -> Tensor:
    return torch.empty(*shape, device="meta", **options)


def kernels_of(program: Callable[[], Any]) -> set[str]:
    """The Python functions of torch's meta kernels that ran."""
    ran: set[str] = set()

    def watch(frame: Any, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename.split("/torch/")[-1]
        if event == "call" and path.startswith(KERNELS):
            ran.add(frame.f_code.co_name)

    sys.setprofile(watch)
    try:
        program()
    finally:
        sys.setprofile(None)
    return ran


def step(model: nn.Module, x: Tensor) -> None:
    model.zero_grad()
    model(x).sum().backward()


def step_of_everything() -> Callable[[], None]:
    """A training step of all kinds of results: several, none, in place, views, lists."""
    with torch.device("meta"):
        net = ConvNet()
    x = meta(2, 3, 8, 8)

    def program() -> None:
        step(net, x)
        y = meta(4, 6)
        top, _ = y.topk(2)
        torch.cat([top, y[:, :2].relu_(), *y.split(2, dim=1)], dim=1).cumsum(0)

    return program


# What is answered


def test_a_known_program_runs_no_kernel() -> None:
    program = step_of_everything()
    with FlopCounter(display=False):
        program()
        assert not kernels_of(program)
    with FlopCounter(display=False):
        assert not kernels_of(program), "what one counter knows, all know"


def test_without_the_cache_every_kernel_runs_and_the_profile_is_the_same() -> None:
    program = step_of_everything()
    known = counted(program)
    answered = counted(program)
    with FlopCounter(display=False, meta_cache=False) as counter:
        assert {"native_batch_norm", "native_batch_norm_backward"} & kernels_of(program)
    assert counter.profile.to_dict() == known.to_dict() == answered.to_dict()


def test_other_sizes_of_a_pattern_run_no_kernel() -> None:
    norm, other = nn.BatchNorm2d(6, device="meta"), nn.BatchNorm2d(8, device="meta")
    with FlopCounter(display=False) as counter:
        norm(meta(3, 6, 5, 5))
        assert not kernels_of(lambda: other(meta(4, 8, 7, 7)))
        assert kernels_of(lambda: norm(meta(3, 6, 5, 4))), "another pattern"
    norms = [c for c in counter.profile.calls if c.overload == aten.native_batch_norm.default]
    assert [call.result[0].shape for call in norms] == [(3, 6, 5, 5), (4, 8, 7, 7), (3, 6, 5, 4)]


@needs_torch(2, 15, "its linear layers and recurrent networks need sympy on the way")
def test_the_first_run_of_a_recurrent_network_imports_no_compiler() -> None:
    """Each of these runs a kernel in Python without us, for which torch imports sympy."""
    program = """
import sys, torch, flopdispatch
from torch import nn
with torch.device("meta"):
    x = torch.empty(2, 5, 8)
    lstm, attention, linear = nn.LSTM(8, 16, 2), nn.MultiheadAttention(8, 2), nn.Linear(8, 4)
with flopdispatch.FlopCounter(display=False) as counter:
    lstm(x), attention(x, x, x), linear(x).relu().softmax(-1)
assert counter.macs > 0
print([name for name in ("sympy", "torch._dynamo") if name in sys.modules])
"""
    plain = (
        "import sys, torch; torch.empty(2, 3, device='meta').relu(); print('sympy' in sys.modules)"
    )
    ours, theirs = (
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        for text in (program, plain)
    )
    assert ours.stdout.strip() == "[]", ours.stderr
    if theirs.stdout.strip() == "False":
        pytest.skip("this torch imports nothing for a kernel: the law says nothing here")


# What is not


def both_ways(program: Callable[[], Any], times: int = 3) -> tuple[list[Any], list[Any]]:
    """What a program gives each time, with the cache off and with it."""
    results = []
    for meta_cache in (False, True):
        clear_cache()
        with FlopCounter(display=False, meta_cache=meta_cache):
            results.append([program() for _ in range(times)])
    return results[0], results[1]


def test_a_view_shares_its_storage_each_time() -> None:
    x = meta(4, 4)

    def shares() -> tuple[bool, ...]:
        return x.t()._base is x, x.relu_() is x, bool(x[1:].storage_offset() == 4)

    assert both_ways(shares) == ([(True, True, True)] * 3,) * 2


def test_operands_that_overlap_raise_each_time() -> None:
    x, out = meta(3, 3), meta(3, 3)
    index = torch.zeros(3, 3, dtype=torch.int64, device="meta")

    def overlapping() -> None:
        torch.gather(x, 0, index, out=out)
        with pytest.raises(RuntimeError, match="written-to"):
            torch.gather(x, 0, index, out=x)

    both_ways(overlapping)


def test_the_default_dtype_decides_with_the_key() -> None:
    x = meta(3, dtype=torch.int64)

    def dtypes() -> list[torch.dtype]:
        found = []
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            found.append((x / 2).dtype)
        torch.set_default_dtype(torch.float32)
        return found

    assert both_ways(dtypes) == ([[torch.float32, torch.float64]] * 3,) * 2


def test_what_must_be_deterministic_raises_as_its_kernel_does() -> None:
    indices = torch.zeros(1, 1, 2, 2, dtype=torch.int64, device="meta")
    with FlopCounter(display=False):
        for _ in range(2):
            F.max_unpool2d(meta(1, 1, 2, 2), indices, [2, 2])
        torch.use_deterministic_algorithms(True)
        try:
            with pytest.raises(RuntimeError, match="deterministic"):
                F.max_unpool2d(meta(1, 1, 2, 2), indices, [2, 2])
        finally:
            torch.use_deterministic_algorithms(False)


def test_lower_precision_on_the_cpu_is_not_asked_for_an_example() -> None:
    with torch.autocast("cpu", torch.bfloat16), FlopCounter(display=False):
        assert torch.mm(meta(2, 3), meta(3, 4)).dtype == torch.float32


def test_a_conjugate_is_one_each_time() -> None:
    x = meta(4, dtype=torch.complex64)

    def bits() -> list[bool]:
        return [torch.dot(a, b).is_conj() for a in (x, x.conj()) for b in (x, x.conj())]

    off, on = both_ways(bits)
    assert off == on


def test_kernels_of_others_always_run() -> None:
    """They may do more than their schema says: count, log, raise the third time."""
    ran: list[int] = []

    def twice(x: Tensor) -> Tensor:
        ran.append(1)
        return torch.empty_like(x)

    library = torch.library.Library("flopdispatch_test_meta", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", twice, "Meta")
    x = meta(2, 3)
    with Dispatched():
        for _ in range(3):
            torch.ops.flopdispatch_test_meta.twice(x)
    assert len(ran) == 3


class Log(TorchDispatchMode):
    """A user's own mode."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(name_of(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_around_ours_sees_what_it_would_see() -> None:
    program = step_of_everything()
    seen = []
    for meta_cache in (False, True):
        with Log() as log, FlopCounter(display=False, meta_cache=meta_cache):
            program()
            program()
        seen.append(log.seen)
    assert seen[0] == seen[1]
    assert "aten::native_batch_norm.default" in seen[0]


def test_an_outer_counter_counts_the_same() -> None:
    program = step_of_everything()
    alone = counted(program)
    with FlopCounter(display=False) as outer, FlopCounter(display=False) as inner:
        program()
    # by scope, since an older torch shows the outer one each detach twice
    assert outer.profile.by_scope() == inner.profile.by_scope() == alone.by_scope()


def test_an_inference_tensor_is_one_each_time() -> None:
    linear = nn.Linear(3, 4, device="meta")

    def kinds() -> tuple[bool, bool]:
        with torch.inference_mode():
            inside = linear(meta(2, 3)).relu()
        return inside.is_inference(), linear(meta(2, 3)).relu().is_inference()

    assert both_ways(kinds) == ([(True, False)] * 3,) * 2


def test_the_random_state_stays_as_it_was() -> None:
    with FlopCounter(display=False):
        before = torch.get_rng_state()
        for size in (3, 4):
            F.dropout(meta(size, size)).relu().softmax(0)
        assert torch.equal(torch.get_rng_state(), before)


# The cache itself


def test_the_cache_is_bounded_and_counts_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_CALLS", 10)
    with FlopCounter(display=False) as counter:
        for _ in range(3):
            for size in range(1, 31):
                torch.mm(meta(size, 2), meta(2, 3))
        assert len(CALLS) <= 10
    assert counter.macs == 3 * sum(size * 2 * 3 for size in range(1, 31))
    profile = counter.profile
    products = [r.times for r in profile.rows if profile.calls[r.call].overload == aten.mm.default]
    assert products == [3] * 30


def test_forgetting_in_the_middle_changes_no_count() -> None:
    x = meta(2, 3)
    with FlopCounter(display=False) as counter:
        x.relu()
        clear_cache()
        x.relu()
    assert [row.times for row in counter.profile.rows] == [2]


def test_threads_share_the_cache_and_keep_their_own_counts() -> None:
    net = nn.Sequential(*[nn.Linear(8, 8, device="meta") for _ in range(10)])
    found: list[int] = []

    def count_many() -> None:
        with FlopCounter(display=False) as counter:
            for size in range(1, 40):
                if size % 10 == 0:
                    clear_cache()
                net(meta(size, 8))
        found.append(counter.macs)

    workers = [threading.Thread(target=count_many) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [10 * 64 * sum(range(1, 40))] * 4


def test_the_cache_keeps_no_tensor_alive() -> None:
    x = meta(7, 3)
    with FlopCounter(display=False):
        refs = [weakref.ref(t) for t in (x, x.relu(), x.relu(), x.relu_().t())]
    del x
    gc.collect()
    assert CALLS
    assert not [ref for ref in refs if ref() is not None]


def test_an_out_variant_that_warns_warns_each_time() -> None:
    """On meta, `linear` of one row resizes what it is to write, and says so."""
    x, w, b, out = meta(3), meta(4, 3), meta(4), meta(4)

    def said() -> list[str]:
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            aten.linear.out(x, w, b, out=out)
        return [str(warning.message) for warning in caught]

    without, with_cache = both_ways(said)
    assert with_cache == without


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_of_numbers_alone_a_result_is_on_the_cpu(device: str) -> None:
    x = torch.ones(2, device=device)
    for _ in range(2):
        clear_cache()
        with FlopCounter(display=False):
            x + 1
            found = torch.add(1, 2), torch.div(8, 4, rounding_mode="trunc")
            assert [tensor.device.type for tensor in found] == ["cpu", "cpu"]
            assert [tensor.item() for tensor in found] == [3, 2]
