"""Real models trained one step: each module's backward is what its operators' gradients need.

A product or convolution needs as many MACs again for each operand that requires a gradient;
an attention kernel twice its own, whichever are asked for. Which operands do is looked up in
a forward alone, in which hooks on the modules tell where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from flopdispatch import Cost, FlopCounter, Profile
from flopdispatch.training import run_backward

aten = torch.ops.aten


class Product(NamedTuple):
    """One operator with MACs: where it ran, and how many its forward and its gradients have.

    `saves` is how many tensors had been saved for the backward when it was about to run.
    """

    scope: str
    forward: int
    backward: int
    saves: int


# The operators with two factors, and where they stand among the arguments.
FACTORS = {
    aten.mm.default: (0, 1), aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2), aten.baddbmm.default: (1, 2),
}  # fmt: skip
CONVOLUTION = aten.convolution.default
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default


class Products(TorchDispatchMode):
    """Notes the products of a forward, by the module of `model` that they run in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Product] = []
        self.saves = 0
        self.last_save: Counter[str] = Counter()  # by scope, which of all saves was its last
        self.stack: list[str] = []
        root = type(model).__name__
        self.handles: list[Any] = []
        for name, module in model.named_modules():
            scope = f"{root}.{name}" if name else root
            self.handles += [
                module.register_forward_pre_hook(lambda *_, s=scope: self.stack.append(s)),
                module.register_forward_hook(lambda *_: self.leave()),
            ]

    def leave(self) -> None:
        """A module has run."""
        self.stack.pop()

    def save(self, tensor: Tensor) -> Tensor:
        """A tensor is saved for the backward."""
        self.saves += 1
        for scope in self.stack:
            self.last_save[scope] = self.saves
        return tensor.detach()  # an output that saves itself would never be freed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in FACTORS:
            one, other = (args[place] for place in FACTORS[func])
            self.note(out.numel() * one.shape[-1], one.requires_grad + other.requires_grad)
        elif func is CONVOLUTION:
            x, weight, transposed = args[0], args[1], args[6]
            positions = x if transposed else out
            macs = positions.shape[0] * prod(positions.shape[2:]) * weight.numel()
            self.note(macs, x.requires_grad + weight.requires_grad)
        elif func is ATTENTION:
            query, key, value = args[:3]
            scores = prod(query.shape[:-1]) * key.shape[-2]
            asked = any(tensor.requires_grad for tensor in (query, key, value))
            self.note(scores * (query.shape[-1] + value.shape[-1]), 2 * asked)
        return out

    def note(self, macs: int, gradients: int) -> None:
        """A product of so many MACs, of which so many gradients are needed."""
        scope = self.stack[-1] if self.stack else ""
        self.found.append(Product(scope, macs, gradients * macs, self.saves))


def products(model: nn.Module, given: Any) -> Products:
    """The products of one forward."""
    noted = Products(model)
    with torch.autograd.graph.saved_tensors_hooks(noted.save, lambda saved: saved), noted:
        model(**given)
    for handle in noted.handles:
        handle.remove()
    return noted


def trained(model: nn.Module, given: Any) -> Profile:
    """One training step with AdamW."""
    stepper = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with FlopCounter(display=False, strict=True) as counter:
        output = model(**given)
        run_backward(output)
        stepper.step()
        stepper.zero_grad()
    return counter.profile


def macs_by_place(profile: Profile) -> Counter[tuple[str, str]]:
    """MACs by scope and phase, of those that have some."""
    found: Counter[tuple[str, str]] = Counter()
    for row in profile.rows:
        found[row.scope, row.phase] += row.times * profile.prices[row.call].cost.macs
    return Counter({place: macs for place, macs in found.items() if macs})


# Models, small, with the names of what they are called with


def images(name: str, size: int = 64) -> dict[str, Tensor]:
    return {name: torch.randn(2, 3, size, size)}


def words(**more: Tensor) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, 50, (2, 12)), **more}


def vit() -> nn.Module:
    """Of two layers."""
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64
    )
    return model


def swin() -> nn.Module:
    """Of two stages, in windows that shift."""
    model: nn.Module = torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4]
    )
    return model


def llama() -> Any:
    """Keys are shared by two heads."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    )


def gpt2() -> Any:
    """Its head is its embedding."""
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 50}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def bert() -> Any:
    """With its pooler."""
    return BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )


def t5() -> Any:
    """An encoder and a decoder that looks at it."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=50,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    )


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **options)


Maker = tuple[Callable[[], Any], Callable[[], dict[str, Tensor]]]
MODELS: dict[str, Maker] = {
    "resnet18": (torchvision.models.resnet18, lambda: images("x", 32)),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, lambda: images("x", 32)),
    "swin": (swin, lambda: images("x", 32)),
    "vit": (vit, lambda: images("x", 32)),
    "timm regnetx": (timm_model("regnetx_002"), lambda: images("x", 32)),
    "timm convnext": (
        timm_model("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)),
        lambda: images("x"),
    ),
    "llama": (llama, words),
    "gpt2": (gpt2, words),
    "bert": (bert, words),
    "t5": (t5, lambda: words(labels=torch.randint(0, 50, (2, 7)))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_each_modules_backward_is_what_its_operators_gradients_need(name: str) -> None:
    make, make_inputs = MODELS[name]
    model, given = make().train(), make_inputs()
    expected: Counter[tuple[str, str]] = Counter()
    for product in products(model, given).found:
        expected[product.scope, "forward"] += product.forward
        expected[product.scope, "backward"] += product.backward
    profile = trained(model, given)
    assert len(expected) > 10
    assert macs_by_place(profile) == expected

    phases = profile.by_phase()
    assert set(phases) <= {"forward", "backward", "optimizer", "other"}
    assert sum(phases.values(), Cost()) == profile.total == profile.root.total
    assert phases["optimizer"].macs == 0
    assert phases["optimizer"].flops > 2 * profile.params, "several for each parameter"
    assert {row.scope for row in profile.rows if row.phase == "optimizer"} == {""}
    assert profile.params == sum(parameter.numel() for parameter in model.parameters())


# Checkpointing, of a language model's layers


LAYERS = {"llama": "LlamaForCausalLM.model.layers.", "bert": "BertModel.encoder.layer."}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_recomputation_is_the_checkpointed_layers_forward(name: str, reentrant: bool) -> None:
    make, make_inputs = MODELS[name]
    model, given, layers = make().train(), make_inputs(), LAYERS[name]
    noted = products(model, given)
    expected: Counter[tuple[str, str]] = Counter()
    left_out = 0
    for product in noted.found:
        expected[product.scope, "forward"] += product.forward
        expected[product.scope, "backward"] += product.backward
        if product.scope.startswith(layers):
            layer = layers + product.scope.removeprefix(layers).split(".")[0]
            # The newer checkpoint stops as soon as it has what the backward needs.
            if reentrant or product.saves < noted.last_save[layer]:
                expected[product.scope, "recompute"] += product.forward
            else:
                left_out += product.forward
    # A layer of llama ends in a product and a sum, one of bert in a norm, which saves its input.
    assert (left_out > 0) == (name == "llama" and not reentrant)

    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    profile = trained(model, given)
    assert macs_by_place(profile) == expected
    assert sum(profile.by_phase().values(), Cost()) == profile.total
    model.gradient_checkpointing_disable()
    assert "recompute" not in trained(model, given).by_phase()
