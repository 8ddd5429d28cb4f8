"""What is assumed of data on meta: as told, and as the CPU has it where data are so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as numbers
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import ArgumentError, Assume, DataDependentError, FlopCounter, count
from tests.assumed import AS_ON_THE_CPU, ROWS, SHAPE, asked, elements


@pytest.mark.parametrize("name", AS_ON_THE_CPU)
def test_what_is_assumed_costs_what_such_data_cost_on_the_cpu(name: str) -> None:
    program, real, assume = AS_ON_THE_CPU[name]
    assert elements(program, SHAPE, assume=assume) == elements(program, real, device="cpu") > 0
    profile = count(program, SHAPE, assume=assume)
    assert len(profile.assumptions) >= 1
    # Of real data nothing is assumed: their values are known.
    known = count(program, real, assume=assume, strict=True)
    assert known.assumptions == ()
    assert elements(program, real) == elements(program, real, device="cpu")


# How many of n

SHARES: list[tuple[Any, int, int, str]] = [
    (1.0, 10, 10, "all"),
    (0.0, 10, 0, "none"),
    (0.25, 10, 2, "rounded, a half to the even number"),
    (0.75, 10, 8, "the same"),
    (0.333, 10, 3, "rounded"),
    (7, 10, 7, "a number"),
    (0, 10, 0, "no element"),
    (7, 4, 4, "of fewer, all"),
    (lambda n: n // 3, 10, 3, "a function of n"),
    (lambda n: 2 * n, 10, 10, "of more than n, n"),
    (lambda n: -1, 10, 0, "of fewer than none, none"),
    (None, 10, None, "no answer"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("share", "n", "expected", "why"), SHARES)
def test_a_share_is_a_fraction_a_number_or_a_function(
    share: Any, n: int, expected: int | None, why: str
) -> None:
    assert Assume(nonzero=share).share("aten::nonzero", "nonzero", n) == expected, why
    assert Assume(nms=share).share("torchvision::nms", "nms", n) == expected, why
    if share is not None:
        own = Assume(nonzero=1, nms=1, operators={"aten::unique_dim": share})
        assert own.share("aten::unique_dim", "nonzero", n) == expected, why
        assert own.share("aten::nonzero", "nonzero", n) == 1


def test_an_operators_share_holds_for_that_operator() -> None:
    assume = Assume(nonzero=0.5, operators={"aten::index": 3, "aten::_unique2": 0.25})
    assert elements(lambda x: x[x > 0], SHAPE, assume=assume) == 3
    assert elements(lambda x: x.unique(), SHAPE, assume=assume) == 5
    assert elements(lambda x: x.masked_select(x > 0), SHAPE, assume=assume) == 10


def test_one_mask_chooses_the_same_wherever_it_is_used() -> None:
    def program(x: Tensor) -> tuple[int, ...]:
        mask = x > 0
        found = mask.nonzero()
        return len(x[mask]), len(found), int(mask.sum()), len(x[~mask]), len(x[mask | ~mask])

    assert asked(program, assume=Assume(nonzero=0.25)) == (5, 5, 5, 15, 20)


# Choices


CHOICES: list[tuple[Callable[[Tensor], Tensor], Any]] = [
    (lambda x: x.topk(2).indices, [[0, 1], [2, 3], [4, 0], [1, 2]]),
    (lambda x: x.topk(2, dim=0).indices, [[0, 2, 0, 2, 0], [1, 3, 1, 3, 1]]),
    (lambda x: x.topk(5).indices, [[0, 1, 2, 3, 4]] * 4),
    (lambda x: x.sort(descending=True).indices, [[0, 1, 2, 3, 4]] * 4),
    (lambda x: x.argsort(dim=0, stable=True), [[i] * 5 for i in range(4)]),
    (lambda x: x.argmax(-1), [0, 1, 2, 3]),
    (lambda x: x.argmin(0), [0, 1, 2, 3, 0]),
    (lambda x: x.argmax(-1, keepdim=True), [[0], [1], [2], [3]]),
    (lambda x: x.argmax(), 0),
    (lambda x: x.max(0).indices, [0, 1, 2, 3, 0]),
    (lambda x: x.min(-1, keepdim=True).indices, [[0], [1], [2], [3]]),
    (lambda x: x.kthvalue(2).indices, [0, 1, 2, 3]),
    (lambda x: x.median(-1).indices, [0, 1, 2, 3]),
    (lambda x: x.mode(0).indices, [0, 1, 2, 3, 0]),
    (lambda x: x.softmax(-1).multinomial(2), [[0, 1], [2, 3], [4, 0], [1, 2]]),
    (lambda x: x[0].softmax(-1).multinomial(3), [0, 1, 2]),
    (lambda x: x.view(2, 2, 5).topk(3).indices, [[[0, 1, 2], [3, 4, 0]], [[1, 2, 3], [4, 0, 1]]]),
]


@pytest.mark.parametrize(("program", "positions"), CHOICES)
def test_choices_among_data_are_dealt_in_turn(
    program: Callable[[Tensor], Tensor], positions: Any
) -> None:
    assert asked(lambda x: program(x).tolist()) == positions
    with pytest.raises(DataDependentError, match=r"values of a torch\.int64 tensor"):
        asked(lambda x: program(x).tolist(), assume=Assume(even=False))


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5), (7,), (3, 1), (4, 2, 2, 3)])
@pytest.mark.parametrize("dim", [0, -1])
def test_rows_are_dealt_to_like_players_at_a_table(shape: tuple[int, ...], dim: int) -> None:
    n = shape[dim]
    for chosen in range(1, n + 1):
        found = torch.tensor(asked(lambda x, k=chosen: x.topk(k, dim).indices.tolist(), of=shape))
        turn = numbers()
        for row in found.movedim(dim, -1).reshape(-1, chosen).tolist():
            assert row == [next(turn) % n for _ in range(chosen)]


@pytest.mark.parametrize("experts", [2, 3, 4, 8])
@pytest.mark.parametrize("chosen", [1, 2])
def test_each_of_n_is_chosen_as_often_as_any_other(experts: int, chosen: int) -> None:
    tokens = 24

    def loads(scores: Tensor) -> list[int]:
        found: list[int] = (
            scores.topk(chosen).indices.flatten().bincount(minlength=experts).tolist()
        )
        return found

    assert asked(loads, of=(tokens, experts)) == [tokens * chosen // experts] * experts


def test_only_positions_are_assumed_and_no_scores() -> None:
    for program in (
        lambda x: x.topk(2).values.tolist(),
        lambda x: x.max().tolist(),
        lambda x: x.sort().values.cpu(),
    ):
        with pytest.raises(DataDependentError, match=r"torch\.float32"):
            asked(program)


def test_what_is_known_is_not_dealt() -> None:
    def program(x: Tensor) -> Any:
        scores = torch.tensor([[1.0, 5.0, 3.0], [9.0, 0.0, 7.0]], device=x.device)
        return scores.topk(2).indices.tolist(), scores.argmax().item(), (scores > 0).all().item()

    # 5 and 3; 9 and 7. The largest is the fourth of all. One is 0.
    assert asked(program, strict=True) == ([[1, 2], [0, 2]], 3, False)


# Conditions and numbers


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_is_what_is_said(condition: bool) -> None:
    assume = Assume(condition=condition)
    assert asked(lambda x: bool(x[0, 0] > 0), assume=assume) is condition
    assert asked(lambda x: torch.equal(x, x + 1), assume=assume) is condition
    assert asked(lambda x: torch.allclose(x, x + 1), assume=assume) is condition
    # These aren't any condition: all are, or none is, as where nothing is padded.
    assert asked(lambda x: bool((x > 0).all()), assume=assume) is True
    assert asked(lambda x: bool((x > 0).any()), assume=assume) is False
    assert asked(lambda x: (x > 0).all(-1).tolist(), assume=assume) == [True] * ROWS


@pytest.mark.parametrize(
    "program",
    [
        lambda x: bool(x[0, 0] > 0),
        lambda x: bool((x > 0).all()),
        lambda x: bool((x > 0).any()),
        lambda x: torch.equal(x, x + 1),
    ],
)
def test_no_condition_is_refused(program: Callable[[Tensor], bool]) -> None:
    with pytest.raises(DataDependentError, match=r"or assume=Assume\(condition=\.\.\.\) says"):
        asked(program, assume=Assume(condition=None))


def test_a_number_is_what_is_said_in_the_tensors_type() -> None:
    assume = Assume(number=2.7)
    assert asked(lambda x: x[0, 0].item(), assume=assume) == 2.7
    assert asked(lambda x: x[0, 0].long().item(), assume=assume) == 2
    assert asked(lambda x: list(range(x[0, 0].long())), assume=assume) == [0, 1]
    found = asked(lambda x: x[0, 0].item(), assume=Assume(number=2))
    assert (type(found), found) == (float, 2.0)
    found = asked(lambda x: x[0, 0].to(torch.complex64).item(), assume=Assume(number=2))
    assert (type(found), found) == (complex, 2 + 0j)


# Arguments


@pytest.mark.parametrize("name", ["nonzero", "nms"])
@pytest.mark.parametrize("value", [1.5, -0.1, -1, "all", True, float("nan"), [1]])
def test_a_share_of_another_kind_is_an_error(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        Assume(**{name: value})
    assert str(caught.value) == (
        f"{name}= takes a fraction from 0.0 to 1.0, a number >= 0 or a function of n, got {value!r}"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operators": {"aten::index": 2.0}},
         "operators['aten::index'] takes a fraction from 0.0 to 1.0, a number >= 0 or a function "
         "of n, got 2.0"),
        ({"condition": "yes"}, "condition= takes True, False or None, got 'yes'"),
        ({"number": "3"}, "number= takes a finite number or None, got '3'"),
        ({"number": True}, "number= takes a finite number or None, got True"),
        ({"number": float("nan")}, "number= takes a finite number or None, got nan"),
        ({"condition": 1}, "condition= takes True, False or None, got 1"),
        ({"scopes": {"*.rpn": 0.5}}, "scopes['*.rpn'] takes an Assume, got 0.5"),
    ],
)  # fmt: skip
def test_an_argument_of_another_kind_is_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Assume(**arguments)
    assert str(caught.value) == message


def test_a_function_that_gives_no_whole_number_is_an_error() -> None:
    half: Any = lambda n: n / 2  # noqa: E731
    with pytest.raises(ArgumentError, match=r"share of aten::index of 20 takes an int, got 10\.0"):
        asked(lambda x: x[x > 0], assume=Assume(nonzero=half))


@pytest.mark.parametrize("value", [True, 0.5, {}, Assume])
def test_counters_take_an_assume_only(value: Any) -> None:
    message = r"assume= takes an Assume or None, got"
    with pytest.raises(ArgumentError, match=message):
        FlopCounter(assume=value)
    with pytest.raises(ArgumentError, match=message):
        count(nn.Linear(2, 2), (1, 2), assume=value)
