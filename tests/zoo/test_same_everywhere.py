"""A model costs the same on every device, in every grad mode and for every part of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from benchmarks.language import Llama, gpt2, llama
from flopdispatch import Cost, FlopCounter, Profile, count
from flopdispatch.training import run_backward

Maker = Callable[[int], torch.Tensor]  # a batch of inputs


def images(size: int) -> Maker:
    """Images of this size."""
    return lambda batch: torch.zeros(batch, 3, size, size)


def words(number: int) -> Maker:
    """Token sequences of this length."""
    return lambda batch: torch.zeros(batch, number, dtype=torch.long)


def small_vit() -> nn.Module:
    """A vision transformer of two layers."""
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64
    )
    return model


def small_encoder() -> nn.Module:
    """nn.TransformerEncoder with a fused path for inference."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
    return nn.Sequential(nn.Embedding(100, 32), nn.TransformerEncoder(layer, 2))


def small_lstm() -> nn.Module:
    """A tagger with a fused recurrent kernel on the CPU."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(100, 16)
            self.lstm = nn.LSTM(16, 24, num_layers=2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(48, 5)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.lstm(self.embedding(x))[0])

    return Tagger()


def torchvision_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of torchvision by name."""
    return lambda: torchvision.models.get_model(name, weights=None, **options)


def timm_model(name: str) -> Callable[[], nn.Module]:
    """A model of timm by name."""
    return partial(timm.create_model, name)


T = 12  # tokens
SMALL_LLAMA = Llama(hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2, vocabulary=100)
SMALL_GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 100}
SMALL_GPT2 |= {"bos_token_id": 0, "eos_token_id": 0}

MODELS: dict[str, tuple[Callable[[], nn.Module], Maker]] = {
    "resnet18": (torchvision_model("resnet18"), images(64)),
    "mobilenet_v3_small": (torchvision_model("mobilenet_v3_small"), images(64)),
    "swin_t": (torchvision_model("swin_t"), images(64)),
    "convnext_tiny": (torchvision_model("convnext_tiny"), images(64)),
    "vit": (small_vit, images(32)),
    "deeplabv3_mobilenet_v3_large": (
        torchvision_model("deeplabv3_mobilenet_v3_large", weights_backbone=None, aux_loss=True),
        images(64),
    ),
    "timm efficientvit_b0": (timm_model("efficientvit_b0"), images(64)),
    "timm hgnet_tiny": (timm_model("hgnet_tiny"), images(64)),
    "gpt2": (lambda: gpt2("cpu", **SMALL_GPT2), words(T)),
    "llama": (lambda: llama(SMALL_LLAMA, "cpu"), words(T)),
    "encoder": (small_encoder, words(T)),
    "lstm": (small_lstm, words(T)),
}


@cache
def made(name: str) -> nn.Module:
    """The model on the CPU, in eval mode."""
    return MODELS[name][0]().eval()


def on_cpu(name: str, batch: int = 1, backward: bool = False) -> Profile:
    """Counted on real tensors."""
    model, x = made(name), MODELS[name][1](batch)
    with FlopCounter(display=False, strict=True) as counter:
        output = model(x)
        if backward:
            run_backward(output)
    model.zero_grad(set_to_none=True)
    return counter.profile


def on_meta(name: str, batch: int = 1, backward: bool = False) -> Profile:
    """Counted on meta tensors."""
    return count(made(name), MODELS[name][1](batch), backward=backward, strict=True)


def on_fake(name: str, batch: int = 1, backward: bool = False) -> Profile:
    """Counted on fake tensors that say they are on the CPU."""
    model, x = made(name), MODELS[name][1](batch)
    mode = FakeTensorMode()
    tensors = [*model.named_parameters(), *model.named_buffers()]
    state: dict[str, torch.Tensor] = {key: mode.from_tensor(value) for key, value in tensors}
    given = mode.from_tensor(x)
    with mode, FlopCounter(display=False, strict=True) as counter:
        output = functional_call(model, state, (given,))
        if backward:
            run_backward(output)
    return counter.profile


def operations(profile: Profile) -> Cost:
    """All that was computed, without bytes."""
    return profile.total.moving(0, 0)


# The CPU's LSTM kernel gives the gradient of the first hidden state, asked for or not; the
# operators that it stands for leave that product (24 by 4·24) out, in 2 layers and 2 directions.
FIRST_STATES = {"lstm": 2 * 2 * 24 * 4 * 24}


@pytest.mark.parametrize("name", MODELS)
def test_a_forward_costs_the_same_on_meta_cpu_and_fake_tensors(name: str) -> None:
    real, meta, fake = on_cpu(name), on_meta(name), on_fake(name)
    assert real.macs == meta.macs == fake.macs > 0
    assert operations(real) == operations(fake) == operations(meta)


@pytest.mark.parametrize("name", MODELS)
def test_a_backward_costs_the_same_macs_on_meta_cpu_and_fake_tensors(name: str) -> None:
    real, meta, fake = (count_on(name, backward=True) for count_on in (on_cpu, on_meta, on_fake))
    assert real.macs == fake.macs == meta.macs + FIRST_STATES.get(name, 0)
    assert real.by_phase()["forward"].macs == on_cpu(name).macs
    assert real.by_phase()["backward"].macs > real.by_phase()["forward"].macs


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count_on", [on_cpu, on_meta, on_fake])
def test_a_forward_costs_the_same_in_every_grad_mode(
    name: str, count_on: Callable[[str], Profile]
) -> None:
    with torch.enable_grad():
        grad = count_on(name)
    with torch.no_grad():
        no_grad = count_on(name)
    with torch.inference_mode():
        inference = count_on(name)
    assert operations(grad) == operations(no_grad) == operations(inference)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count_on", [on_cpu, on_meta])
def test_a_batch_of_eight_costs_eight_times_one(
    name: str, count_on: Callable[[str, int], Profile]
) -> None:
    one, eight = count_on(name, 1), count_on(name, 8)
    assert eight.macs == 8 * one.macs
    assert eight.comparable_flops == 8 * one.comparable_flops
