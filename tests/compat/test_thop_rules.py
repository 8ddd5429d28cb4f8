"""Rules by module: the user's hooks and recurrent layers, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from flopdispatch import ArgumentError
from flopdispatch.compat.thop import profile
from flopdispatch.conventions import convention
from tests.compat.test_thop import PRODUCT, Block, Net, X, add_seven, basic_hooks, image, made, thop


def test_a_rule_replaces_what_is_inside_the_module() -> None:
    macs, _, layers = profile(
        Net(), (X,), custom_ops={Block: add_seven}, verbose=False, ret_layer_info=True
    )
    assert macs == 2 * 7 + 2 * PRODUCT
    assert layers["one"][2]["0"] == (7.0, 32.0, {})


def test_a_rule_counts_each_call_and_the_outermost_stands() -> None:
    assert profile(Net(), (X,), {nn.Linear: add_seven}, False)[0] == (2 * 3) * 7 + 2 * PRODUCT
    rules = {nn.Linear: add_seven, Block: add_seven}
    assert profile(Net(), (X,), rules, False)[0] == (2 + 2) * 7


def test_a_rule_of_the_model_itself_replaces_all() -> None:
    assert profile(Net(), (X,), {Net: add_seven}, False)[0] == 7
    assert profile(nn.Linear(4, 4), (X,), {nn.Linear: add_seven}, False) == (7, 20)


@pytest.mark.parametrize("kind", [nn.Conv2d, torchvision.models.resnet.BasicBlock, nn.Sequential])
def test_rules_give_what_they_give_in_thop(kind: type) -> None:
    ours = profile(made("resnet18"), (image(""),), custom_ops={kind: add_seven}, verbose=False)
    assert ours == thop.profile(
        made("resnet18"), (image(""),), custom_ops={kind: add_seven}, verbose=False
    )


def by_sizes(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops += inputs[0].numel() * module.out_features


def by_tensor(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops += torch.Tensor([output.numel()]).prod()


def assigned(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops = torch.tensor(3.0)


def a_number(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    module.total_ops = 5
    return output + 1  # what a hook returns changes nothing


def by_values(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops += (inputs[0] == inputs[0]).sum()


def by_values_only(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops = (inputs[0] == inputs[0]).sum()


def seen(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    total, params = module.total_ops, module.total_params
    assert isinstance(total, Tensor)
    assert isinstance(params, Tensor)
    assert (total.dtype, total.shape, total.device.type) == (torch.float64, (1,), "cpu")
    assert (params.dtype, params.shape) == (torch.float64, (1,))
    assert module.total_ops == 0


@pytest.mark.parametrize(
    ("hook", "expected"),
    [(add_seven, 7), (by_sizes, 32), (by_tensor, 8), (assigned, 3), (a_number, 5), (by_values, 8),
     (by_values_only, 8),
     (seen, 0), (basic_hooks.count_linear, 32)],
)  # fmt: skip
def test_hooks(hook: Any, expected: int) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    assert profile(model, (X,), {nn.Linear: hook}, verbose=False)[0] == expected


def test_a_run_that_begins_again_on_real_tensors_counts_once() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.again = nn.LSTMCell(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.again(self.layer(x))[0]
            return x if x.sum().item() > 0 else -x

    whole = profile(Asks(), (X,), {nn.Linear: add_seven}, verbose=False)[0]
    assert whole == 7 + 2 * (4 * (6 * 10 + 18) + 24)


def test_a_model_that_calls_itself_counts_all_its_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor, again: bool = True) -> Tensor:
            x = self.layer(x)
            return self.layer(self(x, False)) if again else x

    assert profile(Twice(), (X,), {nn.Linear: add_seven}, verbose=False)[0] == 3 * 7


# Recurrent layers


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(input=x)[0])
        return out


class Mine(nn.LSTM):
    pass


def test_recurrent_layers_have_thops_figure() -> None:
    model, x = nn.Sequential(nn.LSTM(4, 6, 2)), torch.randn(3, 2, 4)
    assert profile(model, (x,), verbose=False) == thop.profile(model, (x,), verbose=False)
    macs, _, layers = profile(Recurrent(nn.LSTM(4, 6)), (x,), verbose=False, ret_layer_info=True)
    assert layers["layer"][0] == 6 * (4 * (60 + 18) + 24)
    assert macs == layers["layer"][0] + 6 * 12


def test_a_rule_of_the_users_comes_before_the_built_in_one() -> None:
    assert profile(nn.LSTM(4, 6), ((3, 2, 4),), {nn.LSTM: add_seven}, verbose=False)[0] == 7


def test_derived_recurrent_layers_and_other_conventions_count_matrix_products() -> None:
    x, products = torch.randn(3, 2, 4), 6 * 4 * 60
    assert profile(Mine(4, 6), (x,), verbose=False)[0] == products
    assert profile(nn.LSTM(4, 6), (x,), verbose=False, convention="torch")[0] == products
    mine = convention("thop").overlay("mine")
    assert profile(nn.LSTM(4, 6), (x,), verbose=False, convention=mine)[0] > products


# What is left


class Chain(nn.Sequential):
    """Parameters of all kinds: bare, tied, frozen."""

    def __init__(self) -> None:
        super().__init__(Block(), nn.Linear(4, 4), nn.Linear(4, 4))
        self[2].weight = self[1].weight
        self[2].bias.requires_grad_(False)


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError(str(self.norm(self.layer(x)).shape))


def fails(module: nn.Module, inputs: Any, output: Any) -> None:
    raise KeyError("hook")


def state(model: nn.Module) -> list[Any]:
    """Attributes in their order, hooks, modes, values, gradients; and those of the class."""
    found: list[Any] = [list(vars(nn.Module)), list(model.state_dict())]
    for module in model.modules():
        own = vars(module)
        hooks = {name: dict(value) for name, value in own.items() if "hook" in name and value}
        attributes = [(name, id(own[name])) for name in own]
        buffers = [(name, id(b), b.clone()) for name, b in module._buffers.items() if b is not None]
        found.append((module.training, attributes, hooks, buffers))
    found += [(p.grad, p.requires_grad, p.device, p.clone()) for p in model.parameters()]
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    ("make", "hook", "raises"),
    [
        (Net, add_seven, False),
        (Chain, add_seven, False),
        (Fails, add_seven, True),
        (Fails, fails, True),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), add_seven, False),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LSTMCell(4, 6)), fails, True),
        (lambda: nn.Linear(4, 4), add_seven, False),
    ],
)
def test_the_model_is_as_it_was(make: Callable[[], nn.Module], hook: Any, raises: bool) -> None:
    model = make()
    before = state(model)
    for custom in ({nn.Linear: hook}, None):
        try:
            profile(model, (X,), custom_ops=custom, verbose=False, ret_layer_info=True)
            raised = False
        except KeyError:
            raised = True
        assert raised == (raises and (custom is not None or isinstance(model, Fails)))
        assert same(before, state(model))
    assert not hasattr(model, "total_ops")


def test_attributes_of_these_names_are_kept() -> None:
    """What thop left behind in an earlier run, for one."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].register_buffer("total_ops", torch.ones(1))
    model[0].register_buffer("last", torch.ones(1))
    vars(model[1])["total_ops"] = "mine"
    before = state(model)
    assert profile(model, (X,), {nn.Linear: add_seven}, verbose=False)[0] == 14
    assert profile(model, (X,), {nn.Linear: assigned}, verbose=False)[0] == 6
    assert same(before, state(model))


def two(module: Any, inputs: Any, output: Any) -> None:
    module.total_ops = torch.ones(2)


def text(module: Any, inputs: Any, output: Any) -> None:
    module.total_ops = "many"


@pytest.mark.parametrize(("hook", "left"), [(two, "tensor([1., 1.])"), (text, "'many'")])
def test_a_hook_that_leaves_no_number(hook: Any, left: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        profile(nn.Linear(4, 4), (X,), {nn.Linear: hook}, verbose=False)
    assert str(caught.value) == (
        f"custom_ops: {hook.__name__}() left {left} in total_ops of Linear; it adds one number, "
        "as in module.total_ops += torch.DoubleTensor([n])"
    )
