"""JSON: it holds to its published schema, comes back as the profile, and its summary adds up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
import torch
import torchvision
import transformers
from jsonschema import Draft202012Validator
from torch import nn

from flopdispatch import ArgumentError, Assume, Profile, count, on_meta, spec
from flopdispatch.capture.recording import PHASES
from flopdispatch.profile import FORMAT
from flopdispatch.report.json import SUMMARIZED
from flopdispatch.report.records import FIGURES, records
from tests.programs import counted
from tests.report.samples import HOSTILE, SAMPLES
from tests.report.test_records import whole
from tests.versions import needs_torch

pytestmark = pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of nested")

SCHEMA = json.loads((files("flopdispatch.report") / "profile.schema.json").read_text())


def small() -> Profile:
    """A forward and backward that can be worked out by hand."""
    return count(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), (4, 2), backward=True)


def llama() -> Profile:
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50, tie_word_embeddings=True,
    )  # fmt: skip
    model = on_meta(transformers.LlamaForCausalLM, config).to(torch.bfloat16)
    return count(model, input_ids=spec(1, 8, dtype=torch.long))


def mobilenet() -> Profile:
    model = on_meta(torchvision.models.mobilenet_v3_small)
    return count(model.train(), (2, 3, 64, 64), backward=True, optimizer=torch.optim.SGD)


def data_dependent() -> Profile:
    return count(lambda x: torch.exp(x[x > 0]), (100,), assume=Assume(nonzero=0.25))


def saving() -> Profile:
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    return count(model, (3, 8), saved=True)


def odd_values() -> Profile:
    """Arguments that JSON has no word for: infinities, complex numbers, dtypes, generators."""

    def run() -> None:
        x = torch.ones(2, 3)
        x.masked_fill(x > 1, -torch.inf).clamp(min=-torch.inf).nan_to_num(torch.nan, 1e-300)
        torch.full((2,), 1 - 2j) * x[0, :2].to(torch.complex64)
        x.to(torch.float16).contiguous(memory_format=torch.contiguous_format)
        torch.rand(2, generator=torch.Generator())
        x[None].expand(4, 2, 3).sum()

    return counted(run)


def odd_layouts() -> Profile:
    """Sparse tensors, and nested ones."""

    def run() -> None:
        torch.sparse.mm(torch.eye(3).to_sparse(), torch.ones(3, 2))
        torch.ones(3, 2).to_sparse_csr() @ torch.ones(2, 3)
        nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)])
        nn.functional.linear(nested, torch.ones(5, 4))

    return counted(run)


PROFILES: dict[str, Callable[[], Profile]] = {
    "small": small, "llama": llama, "mobilenet": mobilenet, "data_dependent": data_dependent,
    "odd_values": odd_values, "odd_layouts": odd_layouts, "saving": saving,
}  # fmt: skip

made = cache(lambda name: SAMPLES[name] if name in SAMPLES else PROFILES[name]())
each = pytest.mark.parametrize("name", [*SAMPLES, *PROFILES])


def errors(data: Any) -> list[str]:
    """Where a document isn't as the schema says."""
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(data)]


# Schema


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@each
def test_a_profile_is_as_the_schema_says(name: str) -> None:
    profile: Profile = made(name)
    assert errors(json.loads(profile.report("json"))) == []
    assert errors(json.loads(profile.to_json())) == [], "without a summary"


def test_the_profiles_have_what_the_schema_speaks_of() -> None:
    """So that the test above has seen each kind of value."""
    texts = "".join(made(name).report("json") for name in (*SAMPLES, *PROFILES))
    for kind in SCHEMA["$defs"]["value"]["anyOf"][-1]["properties"]:
        assert f'{{"{kind}": ' in texts, kind
    layouts = made("odd_layouts")
    tensors = [call.result for call in layouts.calls] + [a for c in layouts.calls for a in c.args]
    assert any(getattr(tensor, "nnz", None) == 3 for tensor in tensors)
    assert any(getattr(tensor, "parts", None) == ((2, 4), (3, 4)) for tensor in tensors)
    assert made("data_dependent").assumptions
    assert made("uncounted").uncounted


def described(schema: Any, path: str = "$") -> Iterator[tuple[str, bool]]:
    """Each key that a document may have, and whether the schema says what it is."""
    if isinstance(schema, dict):
        for name, value in schema.get("properties", {}).items():
            target = value.get("$ref", "").removeprefix("#/$defs/")
            own = "description" in value or "description" in SCHEMA["$defs"].get(target, {})
            yield f"{path}.{name}", own
        for name, value in schema.items():
            yield from described(value, f"{path}.{name}")
    elif isinstance(schema, list):
        for item in schema:
            yield from described(item, path)


def test_every_key_is_described() -> None:
    found = dict(described(SCHEMA))
    assert len(found) > 80
    assert [path for path, is_described in found.items() if not is_described] == []


def test_the_schema_names_the_columns_of_the_records() -> None:
    summary = SCHEMA["$defs"]["summary"]["properties"]
    assert SCHEMA["$defs"]["module"]["required"] == list(records(made("small")).columns)
    for kind in SUMMARIZED[1:]:
        required = [*summary[kind]["items"]["required"], *SCHEMA["$defs"]["figures"]["required"]]
        assert required == list(records(made("small"), kind).columns)
    assert SCHEMA["$defs"]["phase"]["enum"] == list(PHASES)
    assert SCHEMA["properties"]["format"]["const"] == FORMAT


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another format": (lambda data: data.update(format="flopdispatch-profile/2"), "$.format"),
    "no rows": (lambda data: data.pop("rows"), "$"),
    "a key too many": (lambda data: data.update(note="mine"), "$"),
    "a float": (lambda data: data["summary"]["totals"].update(macs=1.5), "$.summary.totals.macs"),
    "a number as text": (
        lambda data: data["summary"]["modules"][0].update(total_flops="8"),
        "$.summary.modules[0].total_flops",
    ),
    "a negative number": (
        lambda data: data["prices"][0]["cost"].update(adds=-1),
        "$.prices[0].cost.adds",
    ),
    "a total too many": (
        lambda data: data["summary"]["totals"].update(ops=1),
        "$.summary.totals",
    ),
    "an operator without a number": (
        lambda data: data["summary"]["operators"][0].pop("bytes"),
        "$.summary.operators[0]",
    ),
    "a derived cost": (lambda data: data["prices"][0]["cost"].update(flops=1), "$.prices[0].cost"),
    "an unknown state": (lambda data: data["prices"][0].update(state="free"), "$.prices[0].state"),
    "an unknown phase": (lambda data: data["rows"][0].__setitem__(1, "warmup"), "$.rows[0][1]"),
    "a row cut short": (lambda data: data["rows"][0].pop(), "$.rows[0]"),
    "a row too long": (lambda data: data["rows"][0].append(1), "$.rows[0]"),
    "a bare float": (lambda data: data["calls"][0]["args"].append(0.5), "$.calls[0].args[1]"),
    "an unknown kind of value": (
        lambda data: data["calls"][0].update(result={"array": []}),
        "$.calls[0].result",
    ),
    "a module without a type": (lambda data: data["modules"][0].pop("type"), "$.modules[0]"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_not_as_the_schema_says(name: str) -> None:
    damage, where = BROKEN[name]
    data = deepcopy(json.loads(made("small").report("json")))
    damage(data)
    assert errors(data) == [where]


# Round trip


@pytest.mark.parametrize("name", [name for name in (*SAMPLES, *PROFILES) if name != "uncounted"])
def test_a_report_comes_back_as_the_profile(name: str) -> None:
    profile: Profile = made(name)
    text = profile.report("json")
    back = Profile.from_json(text)
    assert back.report("json") == text
    assert back.rows == profile.rows
    assert back.total == profile.total
    assert back.root == profile.root


@each
def test_a_report_without_its_summary_is_to_dict(name: str) -> None:
    data = json.loads(made(name).report("json"))
    del data["summary"]
    assert data == json.loads(made(name).to_json())


def test_a_summary_is_not_read_back() -> None:
    data = json.loads(made("small").report("json"))
    data["summary"] = {"totals": {"macs": 0}}
    assert Profile.from_dict(data) == made("small")


def test_a_later_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(ArgumentError) as caught:
        Profile.from_json(json.dumps({"format": "flopdispatch-profile/2"}))
    assert str(caught.value) == (
        "expected a dict with format 'flopdispatch-profile/1', got 'flopdispatch-profile/2': "
        "read it with the flopdispatch that wrote it, or a later one"
    )


# Summary


def summary(name: str) -> Any:
    return json.loads(made(name).report("json"))["summary"]


@each
def test_the_summary_adds_up_to_its_totals(name: str) -> None:
    found, totals = summary(name), whole(made(name))
    assert {key: found["totals"][key] for key in FIGURES} == totals
    for kind in SUMMARIZED:
        before = "own_" if kind == "modules" else ""
        sums = {key: sum(item[before + key] for item in found[kind]) for key in FIGURES}
        assert sums == totals, kind


def test_the_small_models_summary_by_hand() -> None:
    found = summary("small")
    # Forward 4·2·3 MACs, backward as many for the weight alone: the input needs no gradient.
    assert found["totals"]["params"] == 2 * 3 + 3
    assert found["totals"]["macs"] == 2 * 4 * 2 * 3
    assert found["totals"]["comparable_flops"] == 2 * 2 * 4 * 2 * 3
    assert found["totals"]["activations"] == 4 * 3
    linear = next(item for item in found["modules"] if item["path"] == "Sequential.0")
    assert (linear["type"], linear["depth"], linear["params"]) == ("Linear", 1, 9)
    assert linear["own_macs"] == linear["total_macs"] == 48
    phases = {item["phase"]: item["macs"] for item in found["phases"]}
    assert (phases["forward"], phases["backward"]) == (24, 24)


def test_what_is_missing_from_the_figures_is_in_the_summary() -> None:
    assert summary("uncounted")["uncounted"] == {"samples::twice.default": 1}
    assert summary("small")["uncounted"] == {}


def test_numbers_of_any_size_are_written_in_full() -> None:
    totals = summary("huge")["totals"]
    assert totals["params"] == 405_853_388_800 + 2**53 + 1
    assert totals["adds"] == 4 * (2**64 + 1)
    assert f'"adds": {4 * (2**64 + 1)}' in made("huge").report("json")


def test_names_come_back_whatever_they_are() -> None:
    names = [item["name"] for item in summary("hostile")["modules"]]
    assert names[2:] == list(HOSTILE)


# Text


@needs_torch(2, 15, "gradients are detached once more")
def test_a_small_models_training(golden: Callable[[str, str], None]) -> None:
    golden("small_training.json", made("small").report("json"))


@each
def test_each_record_has_its_line(name: str) -> None:
    text = made(name).report("json")
    data = json.loads(text)
    lists = [data["summary"][kind] for kind in SUMMARIZED]
    lists += [data[key] for key in ("modules", "calls", "prices", "rows", "assumptions")]
    lines = [line.strip().rstrip(",") for line in text.split("\n")]
    items = [json.loads(line) for line in lines if line[:1] in ("{", "[") and line[1:]]
    assert items == [item for found in lists for item in found]


def test_it_is_ascii_and_strict_json() -> None:
    def constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for name in ("hostile", "odd_values"):
        text = made(name).report("json")
        assert text.isascii()
        json.loads(text, parse_constant=constant)
