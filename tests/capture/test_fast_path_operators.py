"""A part of PyTorch's operator database on meta: the fast path changes nothing observable.

`python -m benchmarks.equality operators` runs all of it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.equality import operator_names, run_operator
from flopdispatch.capture.meta import clear_cache
from tests.observed import Program, differences, observe

pytest.importorskip("expecttest", reason="torch's own tests, the database's home, need it")

PARTS = 20  # of the database; each gives the operator in its middle
SAMPLES = 3  # of each of them, in each dtype


@pytest.mark.parametrize("part", range(PARTS))
def test_operators_give_and_count_the_same(part: int) -> None:
    names = operator_names()
    tally = run_operator(names[len(names) * (2 * part + 1) // (2 * PARTS)], SAMPLES)
    assert tally.different == []
    assert tally.samples > 0
    assert tally.runs > tally.raised


def changed(change: str, x: torch.Tensor) -> Any:
    """A tensor like x but for one thing."""
    changes: dict[str, Any] = {
        "nothing": lambda: x,
        "shape": lambda: x.new_empty(6, 4),
        "stride": lambda: x.new_empty(6, 4).t(),
        "dtype": x.double,
        "memory": lambda: x.new_empty(5, 6)[:4],
        "offset": lambda: x.new_empty(5, 6)[1:],
        "alias": x.detach,
        "copy": x.clone,
        "kind": lambda: torch.nn.Parameter(x),
        "container": lambda: [x],
        "version": x.zero_,
        "error": lambda: x.view(5),
        "draw": lambda: (torch.rand(()), x)[1],
        "gradient": x.requires_grad_,
        "conj": lambda: torch._neg_view(x),
    }
    return changes[change]()


CHANGES = (
    "shape", "stride", "dtype", "memory", "offset", "alias", "copy", "kind", "container",
    "version", "error", "draw", "gradient", "conj",
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_the_comparison_sees_each_change(change: str) -> None:
    def seen(what: str) -> Any:
        program = Program(
            "it", lambda: torch.empty(4, 6, device="meta"), lambda x: changed(what, x)
        )
        return observe([program], 1, meta_cache=False)

    outcomes = [seen("nothing").outcomes, seen(change).outcomes]
    assert outcomes[0] != outcomes[1]
    assert differences(seen("nothing"), seen(change)) != []
    assert differences(seen(change), seen(change)) == []


def test_the_comparison_sees_a_call_more_and_a_number_of_another_type() -> None:
    def seen(number: Any, times: int = 1) -> Any:
        clear_cache()
        program = Program(
            "it", lambda: torch.empty(4, device="meta"), lambda x: torch.mul(x, number)
        )
        return observe([program], times, meta_cache=True)

    assert differences(seen(1), seen(1)) == []
    assert differences(seen(1), seen(1.0)) != []
    assert differences(seen(1), seen(1, times=2)) != []
