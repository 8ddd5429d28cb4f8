"""The catalogue of operators: names as people write them, patterns, and close names."""

from __future__ import annotations

import pytest
import torch

from flopdispatch import ArgumentError, default_registry
from flopdispatch.catalogue import catalogue, find, matching

aten = torch.ops.aten
KNOWN = catalogue(default_registry())

# The rest of the name space, in small.
FEW = dict.fromkeys(
    ("aten::mm.default", "aten::mm.out", "aten::bmm.default", "lib::mm.default", "lib::sole.int")
)


def test_a_name_gives_the_overload_of_that_name() -> None:
    assert KNOWN["aten::mm.default"] is aten.mm.default
    assert KNOWN["aten::add.Tensor"] is aten.add.Tensor
    assert KNOWN["higher_order::cond"].__name__ == "cond"


def test_an_operator_whose_library_is_not_loaded_is_known_by_its_rule() -> None:
    assert "flash_attn::_flash_attn_forward.default" in KNOWN


@pytest.mark.parametrize(
    "text",
    ["aten::mm.default", "aten::mm", "aten.mm.default", "aten.mm", "mm.default", "mm",
     "torch.ops.aten.mm.default", "torch.ops.aten.mm"],
)  # fmt: skip
def test_an_operator_is_found_however_it_is_written(text: str) -> None:
    assert find(text, KNOWN)[0] == "aten::mm.default"


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("add", "aten::add.Tensor", "no overload is the default, and tensors are likelier"),
        ("add_", "aten::add_.Tensor", "in place only if written so"),
        ("add.Scalar", "aten::add.Scalar", "the overload is given"),
        ("cond", "higher_order::cond", "a higher-order operator has no overloads"),
        ("nms", "torchvision::nms.default", "no other namespace has it"),
    ],
)
def test_what_is_left_out_of_a_name_is_the_likeliest(text: str, name: str, why: str) -> None:
    assert find(text, KNOWN)[0] == name, why


def test_what_writes_to_out_is_the_least_likely_overload() -> None:
    writes = [KNOWN[name]._schema.is_mutable for name in find("aten::softmax", KNOWN)]
    assert writes == sorted(writes)
    assert set(writes) == {False, True}


def test_all_that_a_name_may_mean_is_found() -> None:
    assert find("mm", FEW) == ["aten::mm.default", "aten::mm.out", "lib::mm.default"]


def test_an_unknown_operator_is_told_with_close_names() -> None:
    with pytest.raises(ArgumentError) as raised:
        find("lib::sola", FEW)
    assert str(raised.value) == (
        "no operator is called 'lib::sola'; close are lib::sole.int, lib::mm.default. Those of a "
        "library are known once it is loaded: --import MODULE"
    )


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("mm", ["aten::mm.default", "aten::mm.out", "aten::bmm.default", "lib::mm.default"]),
        ("::mm", ["aten::mm.default", "aten::mm.out", "lib::mm.default"]),
        ("MM.OUT", ["aten::mm.out"]),
        ("mm.*", ["aten::mm.default", "aten::mm.out", "lib::mm.default"]),
        ("aten::?mm.*", ["aten::bmm.default"]),
        ("*", list(FEW)),
    ],
)
def test_a_pattern_fits_a_part_or_with_a_star_the_whole(pattern: str, names: list[str]) -> None:
    assert matching(pattern, FEW) == names


def test_a_pattern_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"no operator fits 'bmmm'; close are aten::bmm\.d"):
        matching("bmmm", FEW)
