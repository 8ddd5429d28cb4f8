"""Records: exact integers that add up to the whole, one row each."""

from __future__ import annotations

import pytest
from torch import nn

from flopdispatch import ArgumentError, Profile, count
from flopdispatch.report.records import FIGURES, RECORDS, Records, figures, records
from tests.report.samples import SAMPLES

each = pytest.mark.parametrize("profile", SAMPLES.values(), ids=list(SAMPLES))


def summed(found: Records, prefix: str = "") -> dict[str, int]:
    return {name: sum(row[prefix + name] for row in found.as_dicts()) for name in FIGURES}


def whole(profile: Profile) -> dict[str, int]:
    """The figures of a profile, each asked for by name."""
    total = profile.total
    return {
        "macs": total.macs,
        "adds": total.adds,
        "muls": total.muls,
        "divs": total.divs,
        "flops": 2 * total.macs + total.adds + total.muls + total.divs,
        "transcendentals": total.transcendentals,
        "comparisons": total.comparisons,
        "int_macs": total.int_macs,
        "int_ops": total.int_ops,
        "bytes_read": total.bytes_read,
        "bytes_written": total.bytes_written,
        "bytes": total.bytes_read + total.bytes_written,
    }


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_each_kind_adds_up_to_the_whole(profile: Profile, by: str) -> None:
    found = records(profile, by)
    assert summed(found, "own_" if by == "modules" else "") == whole(profile)
    if by != "modules":
        times = sum(row.times for row in profile.rows)
        assert sum(row["calls"] for row in found.as_dicts()) == times


@each
def test_a_modules_total_is_its_own_and_its_childrens(profile: Profile) -> None:
    rows = {row["path"]: row for row in records(profile).as_dicts()}
    for path, row in rows.items():
        below = [r for p, r in rows.items() if p and p.rpartition(".")[0] == path]
        for name in FIGURES:
            expected = row[f"own_{name}"] + sum(child[f"total_{name}"] for child in below)
            assert row[f"total_{name}"] == expected
        assert row["ran"] == (
            row["calls"] > 0 or any(child["ran"] for child in below) or any(
                row[f"own_{name}"] for name in FIGURES
            )
        )  # fmt: skip


@each
def test_the_modules_are_those_of_by_scope(profile: Profile) -> None:
    rows = records(profile).as_dicts()
    assert {row["path"]: row["total_macs"] for row in rows} == {
        path: cost.macs for path, cost in profile.by_scope().items()
    }
    assert rows[0]["path"] == ""
    assert rows[0]["params"] == profile.params


def test_the_toys_modules_by_hand() -> None:
    rows = {row["path"]: row for row in records(SAMPLES["toy"]).as_dicts()}
    assert len(rows) == 2 + 1 + 1 + 12 * 5 + 2
    linear = rows["Toy.layers.11.mlp.0"]
    assert (linear["name"], linear["depth"], linear["type"]) == ("0", 4, "Linear")
    assert (linear["calls"], linear["params"], linear["own_params"]) == (1, 144, 144)
    assert linear["own_macs"] == linear["total_macs"] == 8 * 8 * 16, "8 tokens"
    assert rows["Toy.layers.11.mlp"]["own_macs"] == 0
    assert rows["Toy.layers.11.mlp"]["total_macs"] == 2 * 8 * 8 * 16
    assert rows["Toy.layers"]["total_macs"] == 12 * 2 * 8 * 8 * 16
    assert [rows[path]["depth"] for path in ("", "Toy", "Toy.head")] == [-1, 0, 1]
    assert rows["Toy.unused"]["ran"] is False
    assert rows["Toy.head"]["own_params"] == 80, "tied: it holds them, and so does the embedding"
    assert rows["Toy"]["params"] == 3452


def test_the_toys_operators_by_hand() -> None:
    rows = {row["operator"]: row for row in records(SAMPLES["toy"], "operators").as_dicts()}
    addmm = rows["aten::addmm.default"]
    assert (addmm["family"], addmm["state"], addmm["estimate"]) == ("matmul", "counted", "")
    assert (addmm["calls"], addmm["macs"]) == (24, 24 * 8 * 8 * 16)
    assert addmm["adds"] == 12 * 8 * 16 + 12 * 8 * 8, "the biases"
    assert rows["aten::embedding.default"]["state"] == "zero"
    flops = [row["flops"] for row in rows.values()]
    assert flops == sorted(flops, reverse=True)


def test_a_call_has_the_shapes_of_its_arguments() -> None:
    (call,) = (
        row
        for row in records(SAMPLES["toy"], "calls").as_dicts()
        if row["path"] == "Toy.layers.0.mlp.0" and row["operator"] == "aten::addmm.default"
    )
    assert call["shapes"] == ((16,), (8, 8), (8, 16))
    assert (call["phase"], call["dtype"], call["calls"]) == ("forward", "float32", 1)


def test_what_failed_and_what_is_unknown_is_said() -> None:
    rows = records(SAMPLES["uncounted"], "operators").as_dicts()
    assert [row["state"] for row in rows if row["operator"] == "samples::twice.default"] == [
        "uncounted"
    ]


def test_phases_and_dtypes_are_rows() -> None:
    assert {row[0] for row in records(SAMPLES["step"], "phases").rows} == {
        "forward", "other", "backward", "optimizer",
    }  # fmt: skip
    assert {row[0] for row in records(SAMPLES["toy"], "dtypes").rows} >= {"float32"}


@each
@pytest.mark.parametrize("by", list(RECORDS))
def test_every_row_has_every_column(profile: Profile, by: str) -> None:
    columns, rows = records(profile, by)
    assert len(set(columns)) == len(columns)
    assert {len(row) for row in rows} <= {len(columns)}


def test_numbers_of_any_size_stay_exact() -> None:
    rows = records(SAMPLES["huge"]).as_dicts()
    assert rows[0]["total_macs"] == 4 * (2**53 + 1)
    assert rows[0]["total_flops"] == 4 * (2 * (2**53 + 1) + 2**64 + 1)
    assert rows[0]["params"] == 405_853_388_800 + 2**53 + 1


def test_the_figures_of_a_cost_are_in_order() -> None:
    cost = SAMPLES["step"].total
    assert dict(zip(FIGURES, figures(cost))) == whole(SAMPLES["step"])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        records(SAMPLES["empty"], "layers")
    assert str(caught.value) == (
        "by= takes one of modules, operators, families, phases, dtypes, calls, got 'layers'"
    )


SAVING = count(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)), (3, 8), saved=True)


def test_modules_have_the_elements_that_their_products_write() -> None:
    rows = {row["path"]: row for row in records(SAVING).as_dicts()}
    own = {path: row["own_activations"] for path, row in rows.items() if row["own_activations"]}
    assert own == {"Sequential.0": 3 * 4, "Sequential.2": 3 * 2}
    assert rows["Sequential"]["total_activations"] == rows[""]["total_activations"] == 18


def test_modules_have_the_bytes_that_are_saved_where_they_were_asked_for() -> None:
    rows = {row["path"]: row for row in records(SAVING).as_dicts()}
    expected = {  # 3 x 8 floats of the input; 3 x 4 of tanh's result; 4 x 2 of the weight
        "Sequential.0": (0, 0, 96), "Sequential.1": (48, 0, 0), "Sequential.2": (0, 32, 0),
        "Sequential": (48, 32, 96), "": (48, 32, 96),
    }  # fmt: skip
    names = [f"total_bytes_saved_{kind}" for kind in ("activations", "parameters", "inputs")]
    assert {path: tuple(row[name] for name in names) for path, row in rows.items()} == expected
    assert [rows["Sequential"][name.replace("total", "own")] for name in names] == [0, 0, 0]
    assert not [name for name in records(SAMPLES["toy"]).columns if "saved" in name]
