from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as functional
from torch.testing._internal.distributed.fake_pg import FakeStore

from flopdispatch import FlopCounter, default_registry
from flopdispatch.cost import Cost
from flopdispatch.formulas import collectives, internals
from flopdispatch.formulas.operators import overloads
from flopdispatch.rules import name_of
from flopdispatch.spec import OpCall, signature, spec
from tests.pricing import cost_of_specs
from tests.registered import import_libraries
from tests.versions import TORCH

# What registers the operators that this torch has.
import_libraries()

RANKS = 4
Program = Callable[[torch.Tensor, torch.Tensor], Any]


@pytest.fixture
def group() -> Iterator[None]:
    """A group of four processes that sends nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    yield
    dist.destroy_process_group()


def parts(whole: torch.Tensor) -> list[torch.Tensor]:
    return list(whole.chunk(RANKS))


# What is called with 8 numbers of 4 bytes and 4 times as many; bytes read; bytes written.
PROGRAMS: dict[str, tuple[Program, int, int]] = {
    "all_reduce": (lambda x, y: dist.all_reduce(x), 32, 32),
    "broadcast": (lambda x, y: dist.broadcast(x, 0), 32, 32),
    "reduce": (lambda x, y: dist.reduce(x, 0), 32, 32),
    "all_gather": (lambda x, y: dist.all_gather(parts(y), x), 32, 128),
    "all_gather_into_tensor": (lambda x, y: dist.all_gather_into_tensor(y, x), 32, 128),
    "gather": (lambda x, y: dist.gather(x, parts(y), 0), 32, 128),
    "scatter": (lambda x, y: dist.scatter(x, parts(y), 0), 128, 32),
    "reduce_scatter": (lambda x, y: dist.reduce_scatter(x, parts(y)), 128, 32),
    "reduce_scatter_tensor": (dist.reduce_scatter_tensor, 128, 32),
    "all_to_all": (lambda x, y: dist.all_to_all(parts(y), parts(y)), 128, 128),
    "all_to_all_single": (lambda x, y: dist.all_to_all_single(y, y), 128, 128),
    "send": (lambda x, y: dist.send(x, 1), 32, 0),
    "recv": (lambda x, y: dist.recv(x, 1), 0, 32),
    "barrier": (lambda x, y: dist.barrier(), 0, 0),
    "traced all_reduce": (lambda x, y: functional.all_reduce(x, "sum", WORLD()).add(0), 32, 32),
    "traced all_gather": (
        lambda x, y: functional.all_gather_tensor(x, 0, WORLD()).add(0), 32, 128,
    ),
    "traced reduce_scatter": (
        lambda x, y: functional.reduce_scatter_tensor(y, "sum", 0, WORLD()).add(0), 128, 32,
    ),
    "traced all_to_all": (
        lambda x, y: functional.all_to_all_single(y, [8] * 4, [8] * 4, WORLD()).add(0), 128, 128,
    ),
}  # fmt: skip


def WORLD() -> Any:  # noqa: N802  dist's name of it, which it has in a group only
    return dist.group.WORLD


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_communication_moves_what_a_rank_hands_over_and_gets(group: None, name: str) -> None:
    program, read, written = PROGRAMS[name]
    with FlopCounter(display=False) as counter:
        program(torch.ones(8), torch.ones(32))
    profile = counter.profile
    assert not profile.uncounted
    assert profile.by_family()["communication"] == Cost(bytes_read=read, bytes_written=written)


S, M = spec(8), spec(32)  # 32 and 128 bytes
HALF = spec(4)  # 16
SPLITS = spec(4, dtype=torch.int64)  # 32

# (why, in words; operator; arguments; result; bytes read; bytes written)
MOVES: list[tuple[str, str, tuple[Any, ...], Any, int, int]] = [
    ("both lists", "c10d::allgather_into_tensor_coalesced_.default", ((M, M), (S, S), None), None,
     64, 256),
    ("lists of lists", "c10d::allgather_coalesced_.default", (((S, S),), (S,), None), None, 32, 64),
    ("all of it", "c10d::check_for_nan.default", (S,), None, 32, 0),
    ("what was asked for", "_c10d_functional::isend.default", (S, 1, 0, "g"), S, 32, 0),
    ("what comes", "_c10d_functional::irecv.default", (S, 1, 0, "g"), S, 0, 32),
    ("one sent, two received", "_c10d_functional::batch_p2p_ops.default",
     (("isend", "irecv", "irecv"), (1, 2, 3), (0, 0, 0), (S, M, HALF), "g"), (S, M, HALF),
     32, 128 + 16),
    ("waiting", "_c10d_functional::wait_tensor.default", (S,), S, 0, 0),
    ("both", "_c10d_functional_autograd::all_gather_into_tensor.default", (S, 4, "g"), M, 32, 128),
    ("all", "_dtensor::shard_dim_alltoall.default", (S, 0, 1, "g"), S, 32, 32),
    ("all", "symm_mem::one_shot_all_reduce.default", (S, "sum", "g"), S, 32, 32),
    ("not what it goes into", "symm_mem::one_shot_all_reduce_out.default", (S, "sum", "g", S), S,
     32, 32),
    ("it goes into the buffer too", "symm_mem::one_shot_all_reduce_copy.default",
     (S, HALF, "sum", "g"), HALF, 16, 32 + 16),
    ("in place", "symm_mem::two_shot_all_reduce_.default", (S, "sum", "g"), S, 32, 32),
    ("the sizes of the parts too", "symm_mem::all_to_all_vdev.default", (S, M, SPLITS, SPLITS, "g"),
     None, 32 + 32, 128 + 32),
    ("a part", "symm_mem::reduce_scatter_out.default", (M, "g", False, S), S, 128, 32),
    ("as much as there is", "symm_mem::memcpy_to_multicast_.default", (M, S, 0, "g"), M, 32, 32),
    ("3 numbers of 32 bits", "symm_mem::memset32_.default", (M, 0, 7, 3), M, 0, 12),
    ("one way", "symm_mem::nvshmem_put.default", (S, 1), None, 32, 0),
    ("the other way", "symm_mem::nvshmem_get.default", (S, 1), None, 0, 32),
    ("signals", "symm_mem::nvshmem_wait_for_signal.default", (S, 0, 1), None, 0, 0),
    ("a shard is put in its place", "fsdp::all_gather_copy_in.default", ((S, S), M, (8, 8), 16, 0),
     (spec(16), M), 64, 64),
    ("the source", "fsdp::copy_.default", (S, HALF), None, 16, 32),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "read", "written"), MOVES)
def test_bytes_of_what_needs_other_devices(
    why: str, name: str, args: tuple[Any, ...], result: Any, read: int, written: int
) -> None:
    for overload in overloads(name):
        priced = default_registry().price(OpCall(overload, args, (), result))
        assert (priced.state, priced.family) == ("zero", "communication")
        assert priced.cost == Cost(bytes_read=read, bytes_written=written), why


A, B, C = spec(2, 3), spec(3, 5), spec(3, 7)  # this rank's 2 of 8 rows

# (why, in words; operator; arguments; result; expected)
PRODUCTS: list[tuple[str, str, tuple[Any, ...], Any, Cost]] = [
    ("2·5·3", "_async_input_mm", (A, B, spec(4), 0), spec(2, 5), Cost(macs=30)),
    ("all 8 rows: 8·5·3 and 8·7·3", "fused_all_gather_matmul", (A, (B, C), 0, "g"),
     (spec(8, 3), (spec(8, 5), spec(8, 7))), Cost(macs=120 + 168)),
    ("without the gathered one", "fused_all_gather_matmul", (A, (B,), 0, "g"),
     (None, (spec(8, 5),)), Cost(macs=120)),
    ("2 scales of 40, 3 of 56 and a bias", "fused_all_gather_scaled_matmul",
     (A, (B, C), spec(1), (spec(1), spec(1)), 0, "g", (None, spec(7)), (None, spec(1)),
      (None, None), (False, False)),
     (spec(8, 3), (spec(8, 5), spec(8, 7))), Cost(macs=288, muls=80 + 168, adds=56)),
    ("8·5·3, whoever gets it", "fused_matmul_reduce_scatter", (spec(8, 3), B, "sum", 0, "g"),
     spec(2, 5), Cost(macs=120)),
    ("2 scales and a bias of 40", "fused_scaled_matmul_reduce_scatter",
     (spec(8, 3), B, spec(1), spec(1), "sum", 0, 0, "g", (8, 5), spec(5)), spec(2, 5),
     Cost(macs=120, muls=80, adds=40)),
    ("3 scales of 40", "fused_scaled_matmul_reduce_scatter",
     (spec(8, 3), B, spec(1), spec(1), "sum", 0, 0, "g", (8, 5), None, spec(1)), spec(2, 5),
     Cost(macs=120, muls=120)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "name", "args", "result", "expected"), PRODUCTS)
def test_fused_products(
    why: str, name: str, args: tuple[Any, ...], result: Any, expected: Cost
) -> None:
    for overload in overloads(f"symm_mem::{name}.default"):
        assert cost_of_specs(overload, *args, result=result) == expected, why


def test_only_products_are_counted() -> None:
    counted = {name_of(rule.overload) for rule in collectives.rules if rule.state == "counted"}
    assert counted == {f"symm_mem::{name}.default" for _, name, *_ in PRODUCTS}


RULES = [*collectives.rules, *internals.rules]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: name_of(rule.overload))
def test_a_rule_by_name_asks_for_what_the_operator_has(rule: Any) -> None:
    for overload in overloads(name_of(rule.overload).removeprefix("aten::")):
        known = {*signature(overload)[0], "result"}
        for function in (rule.formula, rule.nbytes):
            if function is not None:
                assert set(inspect.signature(function).parameters) <= known


def test_nearly_all_names_are_operators() -> None:
    names = [name_of(rule.overload).removeprefix("aten::") for rule in RULES]
    missing = [name for name in names if not overloads(name)]
    if TORCH >= (2, 15):
        assert missing == []
    else:
        assert len(missing) < len(names) / 2
