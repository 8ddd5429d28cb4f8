"""Known values: when they are computed, what they are forgotten by, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn

from flopdispatch import DataDependentError, count
from flopdispatch.capture.known import SMALL
from flopdispatch.capture.roles import LIMIT, role_of
from flopdispatch.capture.steps import MAX_WAITING, Step
from tests.known_values import NOTHING, REFUSED, alive, answer, counting, data, held


class Watched:
    """The steps that run while it is entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        run = Step.run

        def watched(step: Step) -> None:
            self.runs += 1
            run(step)

        monkeypatch.setattr(Step, "run", watched)


# When they are computed


def test_nothing_is_computed_before_a_program_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    runs = []

    def program(real: Tensor) -> int:
        x, other = counting(6) + real, counting(6)
        for _ in range(50):
            other = other * 2
        mask = x.cumsum(0) > 3
        runs.append(watched.runs)
        found = int(mask.sum())
        runs.append(watched.runs)
        return found

    assert answer(program, torch.ones(6, dtype=torch.int64)) == 4  # of 1 3 6 10 15 21
    before, after = runs
    assert before == 0
    assert after == 6  # arange, the input, add, cumsum, gt, sum: not the loop


def test_what_was_asked_for_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)

    def program() -> list[int]:
        x = counting(4) * 2
        return [int(x[2]), int(x.sum()), int(x[3]), watched.runs]

    assert answer(program) == [4, 12, 6, 3]  # arange, mul, sum


def test_a_program_that_asks_nothing_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    count(model, torch.ones(2, 4), backward=True)
    assert watched.runs == 0


def test_a_long_loop_keeps_no_long_chain() -> None:
    rounds = 4 * MAX_WAITING

    def program() -> tuple[int, int]:
        x, before = torch.zeros(3, dtype=torch.int64, device="meta"), alive()
        for _ in range(rounds):
            x[1:].add_(1)
        return alive() - before, int(x.sum())

    steps, total = answer(program)
    assert steps <= MAX_WAITING + 4
    assert total == 2 * rounds


def test_a_step_that_the_cpu_has_no_kernel_for_gives_no_value() -> None:
    with torch.library._scoped_library("known_values", "FRAGMENT") as library:
        library.define("only_on_meta(Tensor x) -> Tensor")
        library.impl("only_on_meta", torch.empty_like, "Meta")

        def program() -> Any:
            x = counting(3)
            return held(torch.ops.known_values.only_on_meta(x)), held(x)

        assert answer(program, assume=NOTHING) == (REFUSED, [0, 1, 2])


# How far they go


def test_larger_tensors_are_not_known() -> None:
    def program(n: int) -> Any:
        return held(counting(n, dtype=torch.uint8)[:1])

    assert answer(program, LIMIT) == [0]
    assert answer(program, LIMIT + 1, assume=NOTHING) == REFUSED


def test_larger_inputs_and_views_are_not_known() -> None:
    def program(x: Tensor) -> Any:
        wide = counting(1).expand(LIMIT + 1)
        with pytest.raises(DataDependentError):
            wide.cpu()
        return held(x[:1]), held(wide[:1])

    small, large = (torch.zeros(n, dtype=torch.uint8) for n in (LIMIT, LIMIT + 1))
    assert answer(program, small) == ([0], [0])
    assert answer(program, large, assume=NOTHING) == (REFUSED, [0])


def test_buffers_are_known_and_parameters_only_if_small() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Parameter(torch.arange(float(SMALL)))
            self.large = nn.Parameter(torch.arange(SMALL + 1.0))
            self.table = nn.Buffer(torch.arange(SMALL + 1))

        def forward(self, x: Tensor) -> Tensor:
            seen.extend(held(one[3]) for one in (self.small, self.large, self.table))
            return x

    seen: list[Any] = []
    count(Model(), (1,), assume=NOTHING)
    assert seen == [3.0, REFUSED, 3]


# Of real inputs


@pytest.mark.parametrize(
    "real",
    [
        torch.arange(6).reshape(2, 3),
        torch.arange(12).reshape(3, 4).t(),
        torch.arange(24).reshape(4, 6)[1:, 1::2],
        torch.arange(3).expand(2, 3),
        torch.arange(2)[:, None].expand(2, 3),
        torch.arange(6).unfold(0, 3, 1),
        torch.arange(9)[8],
        torch.zeros(0, 3),
        torch.arange(4000).reshape(40, 100)[:, 7],
        torch.arange(4000).reshape(40, 100)[:, 7:8].expand(40, 3),
        nn.Parameter(torch.ones(2)),
        torch.tensor([1 + 2j, 3]),
        torch.arange(3.0, requires_grad=True) * 2,
    ],
    ids=lambda real: f"{tuple(real.shape)} {real.stride()}",
)
def test_a_real_input_is_known_however_it_lies(real: Tensor) -> None:
    def program(x: Tensor) -> Any:
        return x.flatten()[:1].tolist(), x.tolist(), (x + 1).tolist()

    assert answer(program, real) == program(real)


def test_what_lies_between_the_elements_of_a_real_input_is_known() -> None:
    real = torch.arange(24).reshape(4, 6)[1:, ::2]
    assert answer(lambda x: x.as_strided((2, 3), (6, 1)).tolist(), real) == [
        [6, 7, 8],
        [12, 13, 14],
    ]


def test_a_real_input_stays_as_it_is() -> None:
    real = torch.arange(3)
    assert answer(lambda x: [x.add_(1).tolist(), x.tolist()], real) == [[1, 2, 3], [1, 2, 3]]
    assert real.tolist() == [0, 1, 2]


def test_tensors_of_the_cpu_are_known_where_they_are_used() -> None:
    offsets = torch.arange(9)[3::3]

    def program(x: Tensor) -> Any:
        moved = offsets.to("meta")
        return (x + moved).tolist(), x.add_(torch.tensor(2)).tolist(), x.copy_(offsets).tolist()

    assert answer(program, torch.ones(2, dtype=torch.int64)) == ([4, 7], [3, 3], [3, 6])


# What forgets them


ALIASES: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda x: x,
    "slice": lambda x: x[1:3],
    "row": lambda x: x[0],
    "transposed": lambda x: x.t(),
    "flat": lambda x: x.view(-1),
    "other dtype": lambda x: x.view(torch.int32).view(torch.float32),
    "data": lambda x: x.data,
    "detached": lambda x: x.detach(),
    "diagonal": lambda x: x.diagonal(),
    "chunk": lambda x: x.chunk(2)[1],
    "strided": lambda x: x.as_strided((2, 2), (1, 2)),
    "set": lambda x: torch.empty(0, device="meta").set_(x),  # type: ignore[call-overload]
}
WRITES: dict[str, Callable[[Tensor], Any]] = {
    "add_": lambda x: x.add_(data(*x.shape)),
    "copy_": lambda x: x.copy_(data(*x.shape)),
    "assigned": lambda x: x.__setitem__(0, data(*x.shape)[0]),
    "out=": lambda x: torch.add(x, data(*x.shape), out=x),
    "normal_": lambda x: x.normal_(),
    "foreach": lambda x: torch._foreach_add_([x], [data(*x.shape)]),
    "masked": lambda x: x.masked_fill_(data(*x.shape) > 0.5, 1),
    "indexed": lambda x: x.index_fill_(0, (data(1) * 2).long(), 5),
    "dropout": lambda x: F.dropout(x, inplace=True),
    "bernoulli_": lambda x: x.bernoulli_(0.5),
    "resize_": lambda x: torch.ops.aten.resize_(x, x.shape).copy_(data(*x.shape)),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("alias", ALIASES)
def test_data_written_through_an_alias_is_seen_by_all(alias: str, write: str) -> None:
    def program() -> Any:
        x, other = torch.zeros(4, 4, device="meta"), torch.zeros(4, 4, device="meta")
        views = [make(x) for make in ALIASES.values()]
        before = [held(view) for view in views]
        WRITES[write](ALIASES[alias](x))
        return before, [held(view) for view in views], held(other)

    before, after, other = answer(program, assume=NOTHING)
    assert REFUSED not in before
    assert set(after) == {REFUSED}
    assert other == [[0.0] * 4] * 4


def test_what_overwrites_all_is_known_again() -> None:
    def program() -> Any:
        x = data(3)
        seen = [held(x), held(x.zero_()), held(x.add_(data(3))), held(x.copy_(counting(3)))]
        return [*seen, held(x.fill_(x[2])), held(data(3).copy_(x)), held(data(4)[:3].copy_(x))]

    assert answer(program, assume=NOTHING) == [
        REFUSED, [0, 0, 0], REFUSED, [0, 1, 2], [2, 2, 2], [2, 2, 2], REFUSED,
    ]  # fmt: skip


def test_data_copied_onto_itself_is_data() -> None:
    def program() -> Any:
        x, y = data(3), data(3)
        return held(x.copy_(x)), held(y.fill_(y[0])), held(x.copy_(x.flip(0)))

    assert answer(program, assume=NOTHING) == (REFUSED,) * 3


def test_what_nobody_wrote_to_stands_for_data() -> None:
    def program() -> Any:
        x = torch.empty(2, 2, device="meta")
        before = held(x), held(torch.empty_like(x) + 1), held(torch.empty(0, device="meta"))
        x[:, 0] = 3
        x[:, 1] = x[:, 0] + 1
        return *before, held(x)

    assert answer(program, assume=NOTHING) == (REFUSED, REFUSED, [], [[3, 4], [3, 4]])


def test_running_statistics_are_data_once_they_run() -> None:
    def program() -> Any:
        mean, var = torch.ones(2, device="meta"), torch.ones(2, device="meta")
        F.batch_norm(data(3, 2), mean, var, training=False)
        before = held(mean), held(var)
        F.batch_norm(data(3, 2), mean, var, training=True)
        return *before, held(mean), held(var)

    assert answer(program, assume=NOTHING) == ([1, 1], [1, 1], REFUSED, REFUSED)


def test_nothing_is_known_of_what_is_drawn() -> None:
    names = [schema for schema in torch._C._jit_get_all_schemas() if schema.name[:6] == "aten::"]
    drawn = [one for one in names if any("Generator" in str(a.type) for a in one.arguments)]
    gives = [one for one in drawn if any("Tensor" in str(r.type) for r in one.returns)]
    assert len(gives) > 50
    for schema in gives:
        packet = getattr(torch.ops.aten, schema.name[6:])
        role = role_of(getattr(packet, schema.overload_name or "default"))
        assert role is None or not role.replayed or schema.name[6:].startswith("_no_grad_"), schema
