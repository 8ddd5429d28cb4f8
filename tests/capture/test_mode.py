"""The mode records what runs, whatever runs it, and runs it as it would run without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torch._higher_order_ops.map import map as hop_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flopdispatch import FlopCounter, Profile
from flopdispatch.rules import name_of
from flopdispatch.spec import TensorSpec
from tests.programs import counted
from tests.versions import needs_torch

aten = torch.ops.aten
linear = nn.Linear(4, 4)


def x() -> Tensor:
    return torch.arange(16.0).reshape(4, 4) / 16


def ran(profile: Profile) -> dict[str, int]:
    """How often each operator ran."""
    found: dict[str, int] = {}
    for row in profile.rows:
        name = name_of(profile.calls[row.call].overload)
        found[name] = found.get(name, 0) + row.times
    return found


def ragged(layout: torch.layout = torch.jagged) -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=layout)


def trained_ragged() -> list[Tensor]:
    parameters = [p.detach().requires_grad_() for p in linear.parameters()]
    F.linear(ragged(), *parameters).values().sum().backward()
    return [p.grad for p in parameters if p.grad is not None]


def higher_order(branch: bool) -> Tensor:
    out: Tensor = torch.cond(torch.tensor(branch), lambda a: a @ a, lambda a: a + 1, (x(),))
    return out


def square(a: Tensor) -> Tensor:
    return (a @ a).relu()


def multiply(a: Tensor, *others: Any) -> Tensor:
    return a @ a


def sparse_and_back() -> Tensor:
    return (x().to_sparse() * 2).to_dense()


def attend() -> Tensor:
    q, k, v = torch.ones(3, 1, 2, 8, 4).unbind()
    return flex_attention(q, k, v)


def autocast(a: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return a @ a


# (program, MACs by hand, operators that have no formula yet); a product of 4 by 4 is 64 MACs
PROGRAMS: list[tuple[str, Callable[[], Any], int, set[str]]] = [
    ("a compiled function", lambda: torch.compile(square, backend="eager")(x()), 64, set()),
    (
        "a compiled function that must not break its graph",
        lambda: torch.compile(square, backend="eager", fullgraph=True)(x()),
        64,
        set(),
    ),
    (
        "a compiled module and its gradient",
        lambda: torch.autograd.grad(
            torch.compile(linear, backend="aot_eager")(x()).sum(), list(linear.parameters())
        ),
        128,
        set(),
    ),
    ("a jagged tensor: 5 rows, output and weight gradient", trained_ragged, 2 * 80, set()),
    (
        "a nested tensor of the old layout",
        lambda: linear(ragged(torch.strided)).to_padded_tensor(0.0),
        80,
        set(),
    ),
    ("vmap", lambda: torch.vmap(square)(torch.ones(3, 4, 4)), 3 * 64, set()),
    ("a functional gradient", lambda: torch.func.grad(lambda a: square(a).sum())(x()), 192, set()),
    (
        "a gradient per sample",
        lambda: torch.vmap(torch.func.grad(lambda a: square(a).sum()))(torch.ones(3, 4, 4)),
        3 * 192,
        set(),
    ),
    ("a forward derivative", lambda: torch.func.jvp(square, (x(),), (x(),)), 192, set()),
    ("the branch not taken", lambda: higher_order(False), 0, set()),
    ("the branch taken", lambda: higher_order(True), 64, set()),
    (
        "a loop",
        lambda: while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a @ a), (torch.tensor(0), x())),
        3 * 64,
        set(),
    ),
    (
        "a scan",
        lambda: scan(lambda c, a: (c + a, c @ c), x(), torch.ones(3, 4, 4)),
        3 * 64,
        set(),
    ),
    (
        "a map",
        lambda: hop_map(multiply, torch.ones(3, 4, 4)),
        3 * 64,
        set(),
    ),
    (
        "flexible attention",
        attend,
        2 * 8 * 8 * (4 + 4),
        set(),
    ),
    ("a script", lambda: torch.jit.script(nn.Sequential(linear, nn.ReLU()))(x()), 64, set()),
    ("a sparse tensor", sparse_and_back, 0, set()),
    ("a symbolic trace", lambda: torch.fx.symbolic_trace(linear)(x()), 64, set()),
    (
        "a graph traced with symbolic sizes, then run",
        lambda: make_fx(square, tracing_mode="symbolic")(x())(x()),
        128,
        set(),
    ),
    ("automatic mixed precision", lambda: autocast(x()), 64, set()),
]


CONDITIONAL = needs_torch(
    2, 15, "under a dispatch mode of any kind torch.cond fails and a scan begins twice"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("program", "macs", "uncounted"),
    [
        pytest.param(
            *row, id=name, marks=CONDITIONAL if "branch" in name or name == "a scan" else ()
        )
        for name, *row in PROGRAMS
    ],
)
def test_any_program_runs_as_without_us_and_nothing_is_left_out_in_silence(
    program: Callable[[], Any], macs: int, uncounted: set[str]
) -> None:
    alone = tree_leaves(program())
    with FlopCounter(display=False) as counter:
        under_us = tree_leaves(program())
    assert len(alone) == len(under_us)
    for before, after in zip(alone, under_us):
        if isinstance(before, Tensor):
            assert torch.equal(before, after)
            assert before.dtype == after.dtype
    profile = counter.profile
    assert profile.macs == macs
    assert {name_of(overload) for overload in profile.uncounted} == uncounted
    assert torch._C._len_torch_dispatch_stack() == 0


@pytest.mark.filterwarnings("ignore")
def test_a_trace_is_the_one_that_is_made_without_us() -> None:
    model = nn.Sequential(linear, nn.ReLU())
    alone = torch.jit.trace(model, x())
    with FlopCounter(display=False) as counter:
        traced = torch.jit.trace(model, x())  # it checks itself by tracing again
    assert traced.code == alone.code
    assert counter.params == 20


# Composite operators


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_composite_operators_count_as_what_they_are_made_of(mode: Any) -> None:
    data = torch.ones(2, 3, 8, 8)
    conv = nn.Conv2d(3, 4, 3, padding="same")

    def run() -> None:
        with mode():
            y = conv(data).flatten(1)
            F.linear(y, torch.ones(5, 256), torch.ones(5)).softmax(-1)
            torch.einsum("bi,ci->bc", y, y)
            F.interpolate(data, scale_factor=2, mode="bilinear")

    profile = counted(run)
    # 2·8·8 positions by 4·3·9; 2·256·5; 2·2·256; 2·3·16·16 outputs by 4 taps
    assert profile.macs == 13824 + 2560 + 1024 + 6144
    assert profile.uncounted == {}
    composite = {"aten::conv2d", "aten::linear", "aten::softmax", "aten::einsum", "aten::flatten"}
    assert not composite & {name.partition(".")[0] for name in ran(profile)}


def test_inference_tensors_stay_inference_tensors() -> None:
    with FlopCounter(display=False), torch.inference_mode():
        y = linear(x())
    assert y.is_inference()
    assert torch.equal(y, linear(x()))


# What is recorded of a call


def calls_of(overload: Any, program: Callable[[], Any]) -> list[Any]:
    return [call for call in counted(program).calls if call.overload == overload]


def test_an_in_place_operator_is_recorded_as_its_target_was_before() -> None:
    def run() -> None:
        torch.ones(2, 3).t_()

    (call,) = calls_of(aten.t_.default, run)
    assert call.args == (TensorSpec((2, 3), torch.float32, (3, 1), torch.device("cpu")),)
    assert call.result == TensorSpec((3, 2), torch.float32, (1, 3), torch.device("cpu"))


def test_results_whose_shape_depends_on_data_are_told_apart() -> None:
    def run() -> None:
        for k in (1, 2, 2):
            torch.nonzero(torch.arange(4) < k)

    profile = counted(run)
    shapes = {
        call.result.shape: row.times
        for row in profile.rows
        for call in (profile.calls[row.call],)
        if call.overload == aten.nonzero.default
    }
    assert shapes == {(1, 1): 1, (2, 1): 2}


def test_the_same_number_of_another_type_is_another_call() -> None:
    def run() -> None:
        for number in (1, 1.0, True, 1):
            torch.full((2,), number, dtype=torch.float32)

    found = sorted(str(call.args[1]) for call in calls_of(aten.full.default, run))
    assert found == ["1", "1.0", "True"]


def test_questions_about_metadata_are_no_operators() -> None:
    with FakeTensorMode(), FlopCounter(display=False) as counter:
        torch.ones(2, 3).sum()
    assert ran(counter.profile) == {"aten::ones.default": 1, "aten::sum.default": 1}


@pytest.mark.parametrize("outside", [True, False])
def test_fake_tensors_count_once_inside_and_outside(outside: bool) -> None:
    counter, fake = FlopCounter(display=False), FakeTensorMode()
    first, second = (fake, counter) if outside else (counter, fake)
    with first, second:
        for _ in range(3):  # the second time, the fake mode answers from its cache
            nn.Linear(4, 4, bias=False)(torch.ones(2, 4)).sum().backward()
    assert counter.macs == 3 * 2 * 32
    assert counter.profile.uncounted == {}


def test_another_mode_inside_the_block_sees_what_it_would_see() -> None:
    class Log(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    seen: list[Any] = []
    with Log():
        linear(x()).relu()
    alone, seen = seen, []
    with FlopCounter(display=False) as counter, Log():
        linear(x()).relu()
    assert seen == alone
    assert counter.macs == 64


def test_annotations_of_the_profiler_are_no_operators() -> None:
    def run() -> None:
        with torch.profiler.record_function("mine"):
            x() @ x()

    profile = counted(run)
    assert profile.uncounted == {}
    assert not any(name.startswith("profiler") for name in ran(profile))
