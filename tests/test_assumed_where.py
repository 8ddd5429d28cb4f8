"""Where something is assumed of data on meta: by scope, listed with its line, or refused there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import Assume, Assumption, DataDependentError, FlopCounter, count
from tests.assumed import AS_ON_THE_CPU, SHAPE, WIDTH, asked, positive, weighed

# Scopes


class Masked(nn.Module):
    """Chooses some of its input's elements."""

    def forward(self, x: Tensor) -> Tensor:
        """Choose."""
        return weighed(x[x > 0])


class Block(nn.Module):
    """Two that choose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Masked(), Masked()

    def forward(self, x: Tensor) -> Tensor:
        """Choose twice, and once itself."""
        out: Tensor = self.first(x) + self.second(x) + weighed(x[x > 1])
        return out


class Net(nn.Module):
    """Blocks that choose."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = Masked()

    def forward(self, x: Tensor) -> Tensor:
        """All of them, one after the other."""
        for layer in self.layers:
            layer(x)
        out: Tensor = self.head(x)
        return out


PATHS = ("layers.0", "layers.0.first", "layers.0.second",
         "layers.1", "layers.1.first", "layers.1.second", "head")  # fmt: skip


def chosen_by(scopes: dict[str, Assume], nonzero: float | int = 1.0) -> tuple[int, ...]:
    """How many elements each module of PATHS chooses by itself."""
    profile = count(Net(), SHAPE, assume=Assume(nonzero=nonzero, scopes=scopes))
    own = {row.scope: 0 for row in profile.rows}
    for row in profile.rows:
        own[row.scope] += profile.prices[row.call].cost.macs * row.times
    return tuple([own[f"Net.{path}"] // WIDTH for path in PATHS])


ONE, TWO, THREE = Assume(nonzero=1), Assume(nonzero=2), Assume(nonzero=3)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({}, (9, 9, 9, 9, 9, 9, 9)),
        ({"Net": ONE}, (1, 1, 1, 1, 1, 1, 1)),
        ({"*": ONE}, (1, 1, 1, 1, 1, 1, 1)),
        ({"Net.head": ONE}, (9, 9, 9, 9, 9, 9, 1)),
        ({"Net.layers.0": ONE}, (1, 1, 1, 9, 9, 9, 9)),
        ({"Net.layers": ONE}, (1, 1, 1, 1, 1, 1, 9)),
        ({"*.first": ONE}, (9, 1, 9, 9, 1, 9, 9)),
        ({"*.layers.?.second": ONE}, (9, 9, 1, 9, 9, 1, 9)),
        ({"*.[0-9]": ONE, "*.first": TWO}, (1, 2, 1, 1, 2, 1, 9)),
        # The last one that fits holds, though it says less.
        ({"*.first": TWO, "*.[0-9]": ONE}, (1, 1, 1, 1, 1, 1, 9)),
        ({"Net": ONE, "Net.layers.1": TWO, "*.second": THREE}, (1, 1, 3, 2, 2, 3, 1)),
        # No part of a name is a name.
        ({"Net.he": ONE, "first": ONE, "layers": ONE}, (9, 9, 9, 9, 9, 9, 9)),
    ],
)
def test_a_scopes_assumption_holds_there_and_below(
    scopes: dict[str, Assume], expected: tuple[int, ...]
) -> None:
    assert chosen_by(scopes, nonzero=9) == expected


def test_a_scopes_assumption_is_whole() -> None:
    # What it doesn't say is the default, not what is said above it.
    outer = Assume(nonzero=9, condition=True, scopes={"Net": Assume(number=3)})
    inner = outer.at("Net.head")
    assert (inner.nonzero, inner.condition, inner.number) == (1.0, False, 3)
    assert outer.at("Other") is outer


def test_scopes_of_choices_are_told_apart_too() -> None:
    class Router(nn.Module):
        def forward(self, x: Tensor) -> list[Any]:
            return x.argmax(-1).tolist()

    model = nn.Sequential(Router())
    assert count(model, SHAPE).assumptions[0].scope == "Sequential.0"
    with pytest.raises(DataDependentError):
        count(model, SHAPE, assume=Assume(scopes={"*.0": Assume(even=False)}))
    count(model, SHAPE, assume=Assume(even=False, scopes={"*.0": Assume()}))


# What is listed


def test_each_use_is_listed_with_operator_scope_line_and_times() -> None:
    profile = count(Net(), SHAPE, assume=Assume(nonzero=7))
    line = Masked.forward.__code__.co_firstlineno + 2
    (found,) = [said for said in profile.assumptions if said.scope == "Net.head"]
    assert found.source.endswith(f"test_assumed_where.py:{line}")
    assert found == Assumption(
        "7 of 20 elements are chosen", "aten::index", "Net.head", found.source
    )
    assert str(found) == (f"aten::index: 7 of 20 elements are chosen at {found.source} in Net.head")
    assert {said.scope for said in profile.assumptions} == {f"Net.{path}" for path in PATHS}


def test_the_same_use_is_listed_once_with_its_times() -> None:
    def program(x: Tensor) -> None:
        for _ in range(3):
            x[x > 0].sum()
        x[x > 0].sum()

    looped, alone = count(program, SHAPE).assumptions
    assert (looped.times, alone.times) == (3, 1)
    assert looped.scope == alone.scope == ""
    assert str(looped).endswith(f" at {looped.source}, 3 times")
    assert looped.text == alone.text == "20 of 20 elements are chosen"


def test_what_rests_on_an_assumption_says_so() -> None:
    def program(x: Tensor) -> None:
        first = x.argmax(-1)[0]
        (first + 1 > 0).item()

    (found,) = count(program, SHAPE).assumptions
    assert found.operator == "aten::_local_scalar_dense"
    assert found.text == "aten::argmax chooses evenly among data"


def test_what_nobody_asks_for_is_not_assumed() -> None:
    def program(x: Tensor) -> Tensor:
        values, positions = x.topk(2)
        mask = (x > 0) & x.bool().any(-1, keepdim=True)
        return x.gather(-1, positions) + values + mask.sum() + x.masked_fill(mask, 0).sum()

    assert count(program, SHAPE, strict=True).assumptions == ()


@pytest.mark.parametrize("name", AS_ON_THE_CPU)
def test_strict_assumes_nothing_and_names_the_line(name: str) -> None:
    program, _, assume = AS_ON_THE_CPU[name]
    with pytest.raises(DataDependentError) as caught:
        count(program, SHAPE, assume=assume, strict=True)
    assert "/assumed.py:" in str(caught.value)
    assert "strict=True assumes nothing (else: " in str(caught.value)
    assert "give the inputs that decide it as real tensors" in str(caught.value)


REFUSED: list[tuple[Callable[[Tensor], Any], Assume, str]] = [
    (lambda x: x.nonzero(), Assume(nonzero=None), "nonzero"),
    (lambda x: x[x > 0], Assume(nonzero=None), "nonzero"),
    (lambda x: x.masked_select(x > 0), Assume(nonzero=None), "nonzero"),
    (lambda x: x.unique(), Assume(nonzero=None), "nonzero"),
    (lambda x: x[0, 0].item(), Assume(), "number"),
    (lambda x: torch.repeat_interleave(x, x[:, 0].long(), dim=0), Assume(), "number"),
    (lambda x: bool(x[0, 0] > 0), Assume(condition=None), "condition"),
    (lambda x: x.long().flatten().bincount(), Assume(), ""),
    (lambda x: x.cpu(), Assume(), ""),
    (lambda x: x.tolist(), Assume(number=2), ""),
]


@pytest.mark.parametrize(("program", "assume", "keyword"), REFUSED)
def test_what_may_not_be_assumed_is_refused_and_the_keyword_named(
    program: Callable[[Tensor], Any], assume: Assume, keyword: str
) -> None:
    with pytest.raises(DataDependentError) as caught:
        asked(program, assume=assume)
    told = str(caught.value)
    line = program.__code__.co_firstlineno
    assert f"test_assumed_where.py:{line} for values of a torch." in told
    assert "Give the inputs that decide them as real tensors" in told
    assert (f", or assume=Assume({keyword}=...) says what to assume" in told) == bool(keyword)


def test_without_assume_a_counter_answers_nothing() -> None:
    x = torch.empty(SHAPE, device="meta")
    with pytest.raises(RuntimeError), FlopCounter(display=False):
        x[0, 0].item()
    with FlopCounter(display=False, assume=Assume(number=4)) as counter:
        assert x[0, 0].item() == 4
    (found,) = counter.profile.assumptions
    assert found.text == "a number that depends on data is 4.0"


def test_with_data_nothing_is_assumed() -> None:
    model, x = Net(), positive(7)
    assume = Assume(nonzero=1, condition=True)
    profile = count(model, x, device="cpu", assume=assume, strict=True)
    assert profile.assumptions == ()
    assert profile.macs == count(model, x, device="cpu").macs
