"""What autograd keeps for the backward: by hand, and beside a walk through the graph itself."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flopdispatch import FlopCounter, Profile, count, spec

FLOAT = 4


def kept(profile: Profile) -> dict[tuple[str, str], int]:
    assert profile.saved is not None
    return {(scope, kind): nbytes for scope, kind, nbytes in profile.saved}


class Twice(nn.Module):
    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Any:
        x = x * 2
        return checkpoint(self.body, x, use_reentrant=False) if self.by_hand else self.body(x)


def test_a_perceptron_keeps_its_inputs_and_what_its_activations_give() -> None:
    found = kept(count(Twice(False), (3, 8), saved=True))
    assert found == {
        # x * 2 by a number keeps nothing, but its result is the first layer's input.
        ("Twice.body.0", "activations"): 3 * 8 * FLOAT,
        ("Twice.body.1", "activations"): 3 * 16 * FLOAT,  # tanh's result; the next layer's input
        ("Twice.body.2", "parameters"): 16 * 8 * FLOAT,  # for the gradient of its input
        ("Twice.body.3", "activations"): 3 * 8 * FLOAT,
    }


def test_of_what_is_checkpointed_the_input_is_kept() -> None:
    assert kept(count(Twice(True), (3, 8), saved=True)) == {("Twice", "activations"): 3 * 8 * FLOAT}


@pytest.mark.parametrize("inplace", [False, True])
def test_relu_keeps_its_result_which_is_once_with_the_next_layers_input(inplace: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace), nn.Linear(8, 8))
    assert kept(count(model, (3, 8), saved=True)) == {
        ("Sequential.0", "inputs"): 3 * 8 * FLOAT,
        ("Sequential.1", "activations"): 3 * 8 * FLOAT,
        ("Sequential.2", "parameters"): 8 * 8 * FLOAT,
    }


def test_a_frozen_layer_keeps_nothing_for_its_weight() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].requires_grad_(False)
    assert kept(count(model, (3, 8), saved=True)) == {
        ("Sequential.1", "activations"): 3 * 8 * FLOAT  # the first one's result; no weight
    }


def test_a_part_keeps_its_whole_storage() -> None:
    profile = count(lambda x: (x * 2)[:1].tanh(), torch.ones(4, 8, requires_grad=True), saved=True)
    assert kept(profile) == {("", "activations"): 8 * FLOAT}
    profile = count(lambda x: (x * 2)[:1].sin(), torch.ones(4, 8, requires_grad=True), saved=True)
    assert kept(profile) == {("", "activations"): 4 * 8 * FLOAT}


def test_a_functions_weights_are_parameters() -> None:
    first, last = nn.Linear(8, 8), nn.Linear(8, 4)
    assert kept(count(lambda x: last(first(x)), torch.ones(3, 8), saved=True, device="cpu")) == {
        ("Linear", "inputs"): 3 * 8 * FLOAT,
        ("Linear#2", "activations"): 3 * 8 * FLOAT,
        ("Linear#2", "parameters"): 8 * 4 * FLOAT,
    }


def test_what_goes_with_its_graph_is_not_kept() -> None:
    """The exponential keeps its result, which nothing needs once the sum is dropped."""
    layer = nn.Linear(8, 8)

    def program(x: Tensor) -> Tensor:
        y = layer(x)
        y.exp().sum()
        z: Tensor = y.tanh()
        return z

    found = kept(count(program, torch.ones(3, 8), saved=True, device="cpu"))
    assert found == {("Linear", "inputs"): 3 * 8 * FLOAT, ("", "activations"): 3 * 8 * FLOAT}


def test_what_a_backward_of_the_programs_own_took_was_kept() -> None:
    layer = nn.Linear(8, 8)
    x = torch.ones(3, 8)
    found = count(lambda x: layer(x).tanh().sum().backward(), x, saved=True, device="cpu")
    assert kept(found) == {("Linear", "inputs"): 96, ("", "activations"): 96}


def test_autocast_keeps_what_it_casts() -> None:
    """The input and the first result in 2 bytes an element, and a cast of the second weight."""
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)

    def program(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = second(first(x))
        return result

    assert kept(count(program, torch.ones(3, 8), saved=True, device="cpu")) == {
        ("Linear", "activations"): 3 * 8 * 2,
        ("Linear#2", "activations"): 3 * 8 * 2 + 8 * 8 * 2,
    }


class Spreading(nn.Module):
    """Over the edges of a graph, twice."""

    def forward(self, edges: Tensor, nodes: Tensor) -> Tensor:
        result: Tensor = torch.sparse.mm(edges, torch.sparse.mm(edges, nodes * 2))
        return result


@pytest.mark.parametrize(
    ("made", "places", "indices"),
    [
        (torch.sparse_coo_tensor, ([[0, 1, 4], [1, 2, 0]],), 2 * 3),
        (torch.sparse_csr_tensor, ([0, 1, 2, 2, 2, 3], [1, 2, 0]), 6 + 3),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_a_sparse_tensor_keeps_its_elements_and_indices(
    made: Any, places: tuple[Any, ...], indices: int
) -> None:
    """3 of 5 by 5: a row and a column each; or where rows begin and end, and a column each."""
    edges, nodes = made(*places, torch.ones(3), (5, 5)), torch.ones(5, 4, requires_grad=True)
    noted = count(Spreading(), edges, nodes, saved=True, device="cpu")
    assert kept(noted) == {("Spreading", "inputs"): 3 * FLOAT + indices * 8}
    assert noted.by_op() == count(Spreading(), edges, nodes, device="cpu").by_op()


def test_a_nested_tensor_keeps_its_elements_and_offsets() -> None:
    given = torch.nested.nested_tensor(
        [torch.ones(2, 8), torch.ones(3, 8)], layout=torch.jagged, requires_grad=True
    )
    found = kept(count(nn.Sequential(nn.Tanh(), nn.Tanh()), given, saved=True, device="cpu"))
    assert found == {
        ("Sequential.0", "activations"): 5 * 8 * FLOAT,
        ("Sequential.0", "inputs"): 3 * 8,  # where they begin and end
        ("Sequential.1", "activations"): 5 * 8 * FLOAT,
    }


def test_what_a_programs_own_hooks_take_is_theirs() -> None:
    calls = list[str]()

    def packed(tensor: Tensor) -> Tensor:
        calls.append("packed")
        return tensor

    def program(x: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
            y = x.tanh()
        return y.sin()

    x = torch.ones(3, 8, requires_grad=True)
    found = kept(count(program, x, saved=True, backward=True, device="cpu"))
    assert (found, calls) == ({("", "activations"): 3 * 8 * FLOAT}, ["packed"])


def test_nothing_is_held_once_it_was_counted() -> None:
    """A node that keeps its own result would never go."""
    results = list[weakref.ref[Tensor]]()

    def program(x: Tensor) -> Tensor:
        result = x.exp()
        results.append(weakref.ref(result))
        return result

    count(program, torch.ones(3, 8, requires_grad=True), saved=True, device="cpu")
    assert results[0]() is None


def graph(output: Tensor) -> Iterator[Any]:
    """All nodes of a graph."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [below for below, _ in node.next_functions]


def held_by_graph(output: Tensor, without: set[int]) -> int:
    """Bytes of the storages that the nodes of a graph hold."""
    storages = {}
    for node in graph(output):
        for name in dir(node):
            if not name.startswith("_saved_"):
                continue
            value = getattr(node, name)
            for item in value if isinstance(value, tuple | list) else [value]:
                if isinstance(item, Tensor):
                    storage = item.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(nbytes for place, nbytes in storages.items() if place not in without)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_16"])
def test_it_is_what_the_graph_holds(name: str, device: str) -> None:
    options = {"image_size": 32} if name == "vit_b_16" else {}
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, **options).train()
    x = torch.randn(2, 3, 32, 32)
    found = count(model, x, saved=True, device=device).saved
    mine = sum(n for _, kind, n in found or () if kind == "activations")
    there = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers(), x]}
    assert mine == held_by_graph(model(x), there)


def test_a_language_model_keeps_the_same_on_meta_and_cpu() -> None:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 8}
    config = transformers.GPT2Config(**sizes)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = spec(1, 8, dtype=torch.long)
    on_meta, on_cpu = (
        count(model, input_ids=ids, use_cache=False, saved=True, device=device).saved
        for device in ("meta", "cpu")
    )
    assert on_meta == on_cpu


def test_gradients_and_costs_are_the_same() -> None:
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18().eval(), torch.randn(1, 3, 32, 32)
    plain, noted = (
        count(model, x, backward=True, device="cpu", saved=saved) for saved in (False, True)
    )
    assert plain.saved is None
    assert noted.by_scope() == plain.by_scope()
    assert noted.by_phase() == plain.by_phase()


def test_gradients_of_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8), torch.randn(3, 8)

    def penalty(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).exp().sum(), x, create_graph=True)
        found = torch.autograd.grad(slope.square().sum(), layer.weight)
        gradients.append(found[0])
        return slope

    gradients = list[Tensor]()
    penalty(x)
    count(penalty, x, saved=True, device="cpu")
    assert torch.equal(*gradients)


def test_without_gradients_nothing_is_kept() -> None:
    with torch.no_grad():
        assert count(nn.Linear(8, 4), (2, 8), saved=True).saved == ()


def test_a_profile_keeps_it_when_it_is_saved_itself() -> None:
    profile = count(Twice(False), (3, 8), saved=True)
    assert Profile.from_json(profile.to_json()).saved == profile.saved
    assert Profile.from_json(profile.report("json")) == profile
    assert (
        "Saved for the backward: 384 B of activations, 512 B of parameters, 0 B of inputs"
        in profile.table()
    )


def test_a_counter_has_none() -> None:
    with FlopCounter(display=False) as counter:
        nn.Linear(8, 4)(torch.ones(2, 8))
    assert counter.profile.saved is None
    assert "Saved for" not in counter.profile.table()
