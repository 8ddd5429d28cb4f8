"""A recording knows distinct calls and their numbers, and keeps nothing of the user's alive."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import FlopCounter
from flopdispatch.capture import recording
from flopdispatch.capture.calls import Call
from flopdispatch.capture.keys import ByText, key_of, plain_key, value_of, without_numbers
from flopdispatch.capture.recording import Recording
from flopdispatch.spec import TensorSpec
from tests.pricing import call_of
from tests.programs import ConvNet

aten = torch.ops.aten
cpu = torch.device("cpu")


# Keys


@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, None, "text", 1j, torch.float16, cpu, torch.channels_last, torch.strided,
     [1, 2], (1, (2.0, None)), float("inf"), [], [True, 1, 1.0]],
)  # fmt: skip
def test_a_plain_value_survives_its_key(value: Any) -> None:
    expected = tuple(value) if isinstance(value, list) else value
    for key in (plain_key(value), key_of(value)):
        back = value_of(key)
        assert back == expected
        assert type(back) is type(expected)
        hash(key)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0.0, False), (1.0, 1 + 0j), ([1], [1.0])]
)
def test_equal_numbers_of_different_types_have_different_keys(one: Any, other: Any) -> None:
    assert one == other
    assert key_of(one) != key_of(other)
    assert plain_key(one) != plain_key(other)


def test_nan_is_one_key() -> None:
    nan, other = float("nan"), -float("nan")
    assert key_of(nan) == key_of(other) == plain_key(nan)
    assert value_of(key_of(nan)) != value_of(key_of(nan))
    assert [value_of(key_of(nan))] == [value_of(key_of(other))], "calls with it compare equal"


def test_a_tensor_is_known_by_its_metadata() -> None:
    tensor = torch.zeros(2, 3, dtype=torch.int8).t()
    expected = TensorSpec((3, 2), torch.int8, (1, 3), cpu)
    assert value_of(plain_key(tensor)) == value_of(key_of(tensor)) == expected
    parameter = nn.Parameter(torch.zeros(2))
    assert key_of(parameter) == key_of(torch.ones(2))


def test_tensors_without_strides_are_known_by_shape() -> None:
    for sparse in (torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr()):
        assert value_of(key_of(sparse)) == TensorSpec((3, 3), torch.float32, None, cpu, nnz=3)
        with pytest.raises((TypeError, RuntimeError)):
            plain_key(sparse)
    assert plain_key(torch.ones(()).expand(3, 3)) == key_of(torch.ones(()).expand(3, 3))


@pytest.mark.filterwarnings("ignore")
def test_ragged_tensors_are_known_by_their_elements_and_the_shapes_inside() -> None:
    parts = [torch.ones(2, 4), torch.ones(3, 4)]
    nested = torch.nested.nested_tensor(parts)
    assert value_of(key_of(nested)) == TensorSpec(
        (20,), torch.float32, (1,), cpu, parts=((2, 4), (3, 4))
    )


def test_subclasses_of_containers_and_numbers_are_values_too() -> None:
    size = torch.Size([2, 3])
    assert value_of(key_of(size)) == (2, 3)
    assert value_of(key_of(OrderedDict(a=1))) == (("a", 1),)


def test_an_unknown_object_is_known_by_its_type_and_not_kept() -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    key = key_of(thing)
    assert isinstance(key, ByText)
    assert key.kind.endswith("Thing")
    del thing
    assert gone() is None


def test_a_call_is_bound_by_position_and_by_name() -> None:
    call = call_of(aten.add.Tensor, (torch.ones(2), torch.ones(2)), {"alpha": 2}, torch.ones(2))
    ones = TensorSpec((2,), torch.float32, (1,), cpu)
    assert call.arguments() == {"self": ones, "other": ones, "alpha": 2}
    assert call.result == ones


# Growth


def test_numbers_are_left_out_but_for_those_that_choose_an_algorithm() -> None:
    spec = key_of(torch.ones(100, 200))
    key = (spec, 100, 8, -1, key_of(0.5), key_of(0.37), key_of(True), (key_of(1e-3), 12))
    assert without_numbers(key) == (
        spec, int, 8, -1, (float, 0.5), float, (bool, True), (float, int),
    )  # fmt: skip


def test_calls_that_differ_in_numbers_only_are_told_apart_up_to_a_limit() -> None:
    found = Recording()
    bucket = found.bucket("", "forward")
    for i in range(500):
        found.add(bucket, Call(aten.mul.Scalar, ((float, 10 + i / 7),), (), None))
    assert len(found.calls) == len(bucket) == recording.MAX_NUMBERS
    assert sum(bucket.values()) == 500


def grown(optimizer: Any, steps: int, **options: Any) -> tuple[int, ...]:
    """How large a recording of so many training steps is."""
    torch.manual_seed(0)
    model, data = ConvNet(), torch.randn(64, 3, 4, 4)
    stepper = optimizer(model.parameters(), lr=0.01, **options)
    schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.99)
    with FlopCounter(display=False) as counter:
        for i in range(steps):
            stepper.zero_grad()
            model(data[i % 32 : i % 32 + 2]).sum().backward()
            stepper.step()
            schedule.step()
    found = counter._recording
    profile = counter.profile
    assert profile.root.children[0].calls == steps
    buckets = (len(bucket) for bucket in found.buckets.values())
    return len(found.calls), sum(buckets), len(found.buckets), len(counter._tracker.tree.scopes)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {"foreach": False}),
        (torch.optim.Adam, {"foreach": True}),
        (torch.optim.AdamW, {"fused": True}),
    ],
)
def test_a_recording_does_not_grow_with_the_steps(
    optimizer: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_NUMBERS", 4)
    assert grown(optimizer, 16, **options) == grown(optimizer, 48, **options)


def test_no_note_is_taken_where_no_graph_is_made() -> None:
    layer = nn.Sequential(nn.Linear(2, 2))
    with FlopCounter(display=False) as counter, torch.no_grad():
        for _ in range(100):
            layer(torch.ones(1, 2))
        assert len(counter._tracker.notes.starts) == 1


def test_totals_do_not_depend_on_which_call_stands_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def total() -> int:
        model = nn.Linear(3, 2)
        adam = torch.optim.Adam(model.parameters())
        with FlopCounter(display=False) as counter:
            for _ in range(20):
                model(torch.ones(1, 3)).sum().backward()
                adam.step()
        return counter.flops

    exact = total()
    monkeypatch.setattr(recording, "MAX_NUMBERS", 1)
    assert total() == exact > 0


# Nothing is kept alive


def test_no_tensor_is_kept_alive_inside_the_block() -> None:
    alive: list[weakref.ref[Tensor]] = []
    with FlopCounter(display=False):
        for _ in range(3):
            tensor = torch.ones(2, 2, requires_grad=True)
            alive += [weakref.ref(tensor), weakref.ref(tensor @ tensor)]
            del tensor
        assert [ref for ref in alive if ref() is not None] == [], "without any collection"


def test_no_module_parameter_or_optimizer_is_kept_alive() -> None:
    def run() -> list[weakref.ref[Any]]:
        model = ConvNet()
        adam = torch.optim.Adam(model.parameters())
        out = model(torch.ones(2, 3, 4, 4))
        out.sum().backward()
        adam.step()
        kept = [model, model.conv, model.conv.weight, model.conv.weight.grad, adam, out]
        return [weakref.ref(thing) for thing in kept]

    with FlopCounter(display=False) as counter:
        refs = run()
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)
    profile = counter.profile
    assert profile.params == 3 * 4 * 9 + 4 + 4 + 4 + 4 * 2 + 2
    assert [node.module_type for node in profile.root.children] == ["ConvNet"]


def test_an_exception_s_frames_are_not_kept_alive() -> None:
    counter = FlopCounter(display=False)
    tensor = torch.ones(2, 2)
    gone = weakref.ref(tensor)

    def fail(operand: Tensor) -> None:
        operand @ operand
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), counter:
        fail(tensor)
    del tensor
    gc.collect()
    assert gone() is None
    assert counter.macs == 8
