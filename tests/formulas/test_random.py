from __future__ import annotations

from typing import Any

import pytest
import torch

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.random import rules
from tests.pricing import price

aten = torch.ops.aten

X = torch.rand(2, 3)  # 24 bytes
P = torch.rand(2, 3)

# (why, in words; operator; arguments; bytes read; bytes written)
ROWS: list[tuple[str, Any, tuple[Any, ...], int, int]] = [
    ("made up", aten.rand.default, ([2, 3],), 0, 24),
    ("made up", aten.randn.default, ([2, 3],), 0, 24),
    ("made up, 8 bytes each", aten.randint.default, (9, [2, 3]), 0, 48),
    ("made up, 8 bytes each", aten.randint.low, (1, 9, [2, 3]), 0, 48),
    ("made up, 8 bytes each", aten.randperm.default, (5,), 0, 40),
    ("only the shape is looked at", aten.rand_like.default, (X,), 0, 24),
    ("only the shape is looked at", aten.randn_like.default, (X,), 0, 24),
    ("only the shape is looked at", aten.randint_like.default, (X, 9), 0, 24),
    ("only the shape is looked at", aten.randint_like.low_dtype, (X, 1, 9), 0, 24),
    ("and a bound", aten.randint_like.Tensor, (X, torch.tensor(9)), 8, 24),
    ("its target isn't read", aten.normal_.default, (X.clone(),), 0, 24),
    ("its target isn't read", aten.uniform_.default, (X.clone(),), 0, 24),
    ("its target isn't read", aten.exponential_.default, (X.clone(),), 0, 24),
    ("its target isn't read", aten.geometric_.default, (X.clone(), 0.5), 0, 24),
    ("its target isn't read", aten.cauchy_.default, (X.clone(),), 0, 24),
    ("its target isn't read", aten.log_normal_.default, (X.clone(),), 0, 24),
    ("its target isn't read", aten.random_.default, (X.clone(),), 0, 24),
    ("its target isn't read", getattr(aten.random_, "from"), (X.clone(), 0, 3), 0, 24),
    ("its target isn't read", aten.random_.to, (X.clone(), 3), 0, 24),
    ("its target isn't read", aten.bernoulli_.float, (X.clone(), 0.5), 0, 24),
    ("the shape and a number", aten.bernoulli.p, (X, 0.5), 0, 24),
    ("the shape and numbers", aten.uniform.default, (X,), 0, 24),
    ("the shape and numbers", aten.normal_functional.default, (X,), 0, 24),
    ("made up", aten.normal.float_float, (0.0, 1.0, [2, 3]), 0, 24),
    ("the probabilities, not the target", aten.bernoulli_.Tensor, (X.clone(), P), 24, 24),
    ("the probabilities", aten.bernoulli.default, (P,), 24, 24),
    ("the weights; 4 indices", aten.multinomial.default, (P, 2), 24, 32),
    ("the rates", aten.poisson.default, (P,), 24, 24),
    ("the counts and probabilities", aten.binomial.default, (X, P), 48, 24),
    ("the means", aten.normal.Tensor_float, (X,), 24, 24),
    ("the deviations", aten.normal.float_Tensor, (0.0, P), 24, 24),
    ("both", aten.normal.Tensor_Tensor, (X, P), 48, 24),
    ("the shapes of gammas", aten._standard_gamma.default, (P,), 24, 24),
    ("the concentrations", aten._sample_dirichlet.default, (P,), 24, 24),
]


@pytest.mark.parametrize(("why", "op", "args", "read", "written"), ROWS)
def test_random_numbers_are_zero_and_written(
    why: str, op: Any, args: tuple[Any, ...], read: int, written: int
) -> None:
    priced = price(op, *args)
    assert (priced.state, priced.family) == ("zero", "random")
    assert priced.cost == Cost(bytes_read=read, bytes_written=written), why


def test_all_random_rules_are_declared_zeros() -> None:
    assert {rule.state for rule in rules} == {"zero"}


@pytest.mark.parametrize(
    "name", ["rand", "randn", "randint", "randint_like", "randperm", "normal_"]
)
def test_a_generator_changes_nothing(name: str) -> None:
    packet = getattr(aten, name)
    unnamed = [o for o in packet.overloads() if "names" not in o]  # going out of torch
    known = {default_registry().rule(getattr(packet, o)) is not None for o in unnamed}
    assert known == {True}, unnamed
