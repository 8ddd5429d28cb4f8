"""A program's results are bit for bit what they are without the counter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from flopdispatch import FlopCounter
from tests.observed import graph_of
from tests.programs import (
    Attention,
    ConvNet,
    CustomFunction,
    Dataclass,
    Lora,
    Parents,
    Recursive,
)
from tests.versions import needs_torch


def nodes_of(root: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The autograd graph's names and edges."""
    # Under any dispatch mode torch itself reshapes by another view.
    return [(name.replace("ReshapeAlias", "View"), edges) for name, edges in graph_of(root)]


def tensors_in(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [t for value in output.values() for t in tensors_in(value)]
    if isinstance(output, tuple | list):
        return [t for value in output for t in tensors_in(value)]
    return tensors_in(vars(output)) if hasattr(output, "__dataclass_fields__") else []


def facts(tensor: Tensor) -> tuple[Any, ...]:
    """All that there is to a tensor, but for its values.

    Not its version: under any dispatch mode torch's fused optimizers bump it less often.
    """
    return (
        tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype,
        tensor.requires_grad, tensor.is_leaf, tensor.is_inference(),
        type(tensor), tensor.grad_fn and nodes_of(tensor.grad_fn),
    )  # fmt: skip


def training(model: nn.Module, optimizer: Any) -> Callable[[Any], list[Any]]:
    """Three training steps; everything that they changed."""

    def program(data: Any) -> list[Any]:
        stepper = optimizer(model.parameters())
        seen: list[Any] = []

        def closure() -> Tensor:
            stepper.zero_grad()
            outputs = [t for t in tensors_in(model(data)) if t.requires_grad]
            seen.extend(outputs)
            loss = torch.stack([t.float().pow(2).mean() for t in outputs]).sum()
            loss.backward()
            return loss

        for _ in range(3):
            stepper.step(closure)
        seen += [p.grad for p in model.parameters() if p.grad is not None]
        seen += list(model.state_dict().values())
        seen += [value for state in stepper.state.values() for value in tensors_in(state)]
        return seen

    return program


def inference(model: nn.Module, mode: Any) -> Callable[[Any], list[Any]]:
    """The outputs in eval mode."""

    def program(data: Any) -> list[Any]:
        with mode():
            return tensors_in(model.eval()(data))

    return program


class Checkpointed(nn.Module):
    """Recomputes its child, which draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.child, x, use_reentrant=False)
        return out


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1)


def adam(parameters: Any) -> Any:
    return torch.optim.AdamW(parameters, lr=0.01, fused=True)


def lbfgs(parameters: Any) -> Any:
    return torch.optim.LBFGS(parameters, max_iter=3)


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def vit() -> nn.Module:
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        dropout=0.1, num_classes=4,
    )  # fmt: skip
    return model


def vectors() -> Tensor:
    return torch.randn(8, 8)


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def small_images() -> Tensor:
    return torch.randn(2, 3, 16, 16)


def tokens() -> Tensor:
    return torch.randint(0, 64, (2, 6))


def sequence() -> Tensor:
    return torch.randn(5, 2, 8)


Maker = tuple[Callable[[], Any], Callable[[], Any]]

MODELS: dict[str, Maker] = {
    "attention": (Attention, vectors),
    "lora": (Lora, vectors),
    "dataclass": (Dataclass, vectors),
    "recursive": (Recursive, vectors),
    "parents": (Parents, vectors),
    "custom function": (CustomFunction, vectors),
    "checkpointed": (Checkpointed, vectors),
    "conv, norm and dropout": (ConvNet, images),
    "lstm": (lambda: nn.LSTM(8, 4, num_layers=2, dropout=0.3), sequence),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        sequence,
    ),
    "resnet18": (torchvision.models.resnet18, images),
    "mobilenet": (torchvision.models.mobilenet_v3_small, images),
    "vit": (vit, small_images),
    "llama": (llama, tokens),
}

PROGRAMS: dict[str, Callable[[nn.Module], Callable[[Any], list[Any]]]] = {
    "SGD": lambda model: training(model, sgd),
    "AdamW": lambda model: training(model, adam),
    "LBFGS": lambda model: training(model, lbfgs),
    "grad": lambda model: inference(model, torch.enable_grad),
    "no_grad": lambda model: inference(model, torch.no_grad),
    "inference_mode": lambda model: inference(model, torch.inference_mode),
}


def cases() -> Iterator[Any]:
    for model in MODELS:
        for program in PROGRAMS:
            if program != "LBFGS" or model in ("lora", "attention"):  # the others explode
                yield pytest.param(model, program, id=f"{model}, {program}")


def outcome(
    name: str, program: str, counter: AbstractContextManager[Any]
) -> tuple[list[Any], list[Any], Any]:
    """What a program gives, what it leaves behind in the model, and the random state after."""
    torch.manual_seed(0)
    random.seed(0)
    make_model, make_data = MODELS[name]
    model, data = make_model(), make_data()
    with counter:
        values = PROGRAMS[program](model)(data)
    left = [
        [(n, facts(p)) for n, p in model.named_parameters()],
        [(n, type(m), m.training, sorted(vars(m))) for n, m in model.named_modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [len(m._backward_hooks) + len(m._backward_pre_hooks) for m in model.modules()],
        list(model.state_dict()),
    ]
    return values, left, (torch.get_rng_state(), random.getstate())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "program"), list(cases()))
def test_results_gradients_state_and_randomness_are_untouched(name: str, program: str) -> None:
    values, left, random_state = outcome(name, program, nullcontext())
    counter = FlopCounter(display=False)
    same_values, same_left, same_random_state = outcome(name, program, counter)
    assert len(values) == len(same_values) > 0
    for one, other in zip(values, same_values):
        if isinstance(one, Tensor):
            assert torch.equal(one, other) or (one.isnan() == other.isnan()).all()
            assert facts(one) == facts(other)
        else:
            assert one == other
    assert left == same_left
    assert torch.equal(random_state[0], same_random_state[0])
    assert random_state[1] == same_random_state[1]
    assert counter.flops > 0


class Log(TorchDispatchMode):
    """Writes down what a program dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def both(outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]) -> Iterator[None]:
    with outer, inner:
        yield


@needs_torch(2, 15, "a second mode of any kind makes the first see other detach calls")
def test_the_same_operators_run_with_and_without_us() -> None:
    for program in ("AdamW", "no_grad", "grad"):
        alone, under_us = Log(), Log()
        outcome("vit", program, alone)
        outcome("vit", program, both(under_us, FlopCounter(display=False)))
        assert len(alone.seen) > 30
        assert under_us.seen == alone.seen


class Functions(TorchFunctionMode):
    """Notes each torch function that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(torch.overrides.resolve_name(func) or str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_mode_of_the_user_sees_the_same_functions(device: str) -> None:
    model = Attention().to(device)
    x = torch.ones(8, 8, device=device)

    def seen(counter: AbstractContextManager[Any], ours_is_outer: bool) -> list[str]:
        mode = Functions()
        with both(counter, mode) if ours_is_outer else both(mode, counter):
            for _ in range(2):
                model(x).relu().sum().backward()
        return mode.seen

    alone = seen(nullcontext(), True)
    assert len(alone) > 6
    for ours_is_outer in (True, False):
        for _ in range(2):  # the second time, all calls are known
            assert seen(FlopCounter(display=False), ours_is_outer) == alone


def test_gradients_that_exist_are_added_to() -> None:
    model = nn.Linear(2, 2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    kept = [p.grad for p in model.parameters()]
    with FlopCounter(display=False):
        model(torch.ones(1, 2)).sum().backward()
    assert [p.grad is k for p, k in zip(model.parameters(), kept)] == [True, True]
    assert [p.grad.tolist() for p in model.parameters() if p.grad is not None] == [
        [[2.0, 2.0], [2.0, 2.0]],
        [2.0, 2.0],
    ]


def test_views_keep_their_base_and_in_place_operators_their_target() -> None:
    base = torch.zeros(4)
    with FlopCounter(display=False):
        view = base.view(2, 2)[0]
        returned = view.add_(1)
        out = torch.empty(2)
        given = torch.add(view, view, out=out)
    assert returned is view
    assert given is out
    assert view._base is base
    assert base.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert out.tolist() == [2.0, 2.0]


def test_hooks_of_the_user_are_called_as_ever() -> None:
    def run(counter: AbstractContextManager[Any]) -> list[str]:
        torch.manual_seed(0)
        calls: list[str] = []
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, n=name: calls.append(f"pre {n}"))
            module.register_forward_hook(lambda *_, n=name: calls.append(f"post {n}"))
            module.register_full_backward_hook(lambda *_, n=name: calls.append(f"back {n}"))
        stepper = sgd(model.parameters())
        stepper.register_step_post_hook(lambda *_: calls.append("step"))
        x = torch.ones(1, 2, requires_grad=True)
        x.register_hook(lambda grad: calls.append(f"grad {grad.tolist()}"))
        with counter:
            model(x).sum().backward()
            stepper.step()
        return calls

    alone = run(nullcontext())
    assert len(alone) == 3 * 3 + 2
    assert run(FlopCounter(display=False)) == alone
