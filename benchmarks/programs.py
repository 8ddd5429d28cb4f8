"""What is timed: small operators, module calls, models on meta, a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn

from benchmarks.language import LLAMA_3, Llama, llama
from benchmarks.zoo import build, entry, inputs

Program = Callable[[], Any]

# What kind of work a row is; the goals are stated by kind.
OPERATORS, CALLS, STEP = "small operators", "module calls", "training step"
FORWARD, BACKWARD = "forward", "forward and backward"
LLAMA_FORWARD = "Llama forward"


@dataclass(frozen=True, slots=True)
class Work:
    """A program, and where it is the forward of one model also that model and its input."""

    program: Program
    model: nn.Module | None = None
    x: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One program to time `rounds` times each way.

    `make` builds it on a device; `also` is the device to try a peer on that fails on `device`.
    """

    name: str
    kind: str
    device: str
    rounds: int
    make: Callable[[str], Work]
    also: str | None = None


def small_operators(device: str) -> Work:
    """2,000 operators of 16 elements: 500 each of relu, add, mm and view."""
    x = torch.ones(4, 4, device=device)

    def program() -> torch.Tensor:
        y = x
        for _ in range(500):
            y = torch.relu(x)
            y = torch.add(y, x)
            y = torch.mm(y, x)
            y = y.view(16)
        return y

    return Work(program)


class Repeated(nn.Module):
    """One module called many times over."""

    def __init__(self, module: nn.Module, times: int) -> None:
        super().__init__()
        self.module = module
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The module applied to its own result."""
        for _ in range(self.times):
            x = self.module(x)
        return x


def linear_calls(modules: int, times: int, device: str) -> Work:
    """Small linear modules, each called so many times, without grad."""
    with torch.device(device):
        chain = nn.Sequential(*[nn.Linear(8, 8) for _ in range(modules)])
        model = chain if times == 1 else Repeated(chain[0], times)
        x = torch.ones(4, 8)

    def program() -> Any:
        with torch.no_grad():
            return model(x)

    return Work(program, model, x)


def vision(name: str, device: str, size: int | None = None) -> Work:
    """The forward of one of torchvision's models, in eval mode, for one image."""
    found = entry("torchvision", name, size)
    if device == "meta":
        (x,) = inputs(found)
        return forward(build(found), x)
    model = torchvision.models.get_model(name, weights=None).to(device).eval()
    return forward(model, torch.zeros(found.shapes[0], device=device))


def encoder(layers: int) -> nn.TransformerEncoder:
    """Encoder layers of width 512, 8 heads and 2,048 in between, in train mode."""
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def encoder_forward(layers: int, device: str) -> Work:
    """The forward of an encoder in eval mode, for 4 sequences of 128."""
    with torch.device(device):
        return forward(encoder(layers).eval(), torch.empty(4, 128, 512))


def encoder_step(layers: int, device: str) -> Work:
    """The forward and backward of an encoder in train mode, for 4 sequences of 128."""
    with torch.device(device):
        model, x = encoder(layers), torch.empty(4, 128, 512)

    def program() -> None:
        model.zero_grad()
        model(x).sum().backward()

    return Work(program)


class Logits(nn.Module):
    """A language model that returns its logits alone, since a tracer takes no cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Any:
        """The logits of the tokens."""
        return self.model(input_ids).logits


def llama_forward(size: Llama, device: str) -> Work:
    """The forward of a Llama for 512 tokens."""
    tokens = torch.zeros(1, 512, dtype=torch.long, device=device)
    return forward(Logits(llama(size, device)), tokens)


def llama_step(size: Llama, device: str) -> Work:
    """The forward and backward of a Llama for 512 tokens."""
    model = Logits(llama(size, device))
    tokens = torch.zeros(1, 512, dtype=torch.long, device=device)

    def program() -> None:
        model.zero_grad()
        model(tokens).sum().backward()

    return Work(program)


def forward(model: nn.Module, x: torch.Tensor) -> Work:
    """A model's forward in the grad mode of the caller, which for all rows is the default one."""
    return Work(lambda: model(x), model, x)


def resnet18_step(device: str) -> Work:
    """A training step of ResNet-18 on 16 images of 64 x 64: forward, loss, backward, SGD."""
    with torch.device(device):
        model = torchvision.models.resnet18()
        images = torch.rand(16, 3, 64, 64)
        labels = torch.arange(16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def program() -> None:
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        optimizer.step()

    program()  # the optimizer's first step makes its momentum and is not like the others
    return Work(program)


def small_step(device: str) -> Program:
    """A training step of a perceptron: forward, backward, SGD."""
    with torch.device(device):
        model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        x = torch.ones(4, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def program() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    return program


def new_shapes(number: int, device: str) -> Program:
    """As many new tensors, each of its own shape, a product and a relu of each."""
    weight = torch.empty(8, 8, device=device)

    def program() -> None:
        for rows in range(1, number + 1):
            torch.relu(torch.empty(rows, 8, device=device) @ weight)

    return program


ROWS = (
    Row("2,000 small operators", OPERATORS, "cpu", 100, small_operators),
    Row("one nn.Linear, called 2,000 times", CALLS, "cpu", 25, partial(linear_calls, 1, 2000)),
    Row("2,000 nn.Linear, each called once", CALLS, "cpu", 25, partial(linear_calls, 2000, 1)),
    Row("ResNet-50, forward", FORWARD, "meta", 20, partial(vision, "resnet50"), "cpu"),
    Row("ViT-B/16, forward", FORWARD, "meta", 20, partial(vision, "vit_b_16", size=224), "cpu"),
    Row("Swin-T, forward", FORWARD, "meta", 20, partial(vision, "swin_t"), "cpu"),
    Row("EfficientNet-B0, forward", FORWARD, "meta", 20, partial(vision, "efficientnet_b0"), "cpu"),
    Row("12-layer encoder, forward", FORWARD, "meta", 20, partial(encoder_forward, 12), "cpu"),
    Row("12-layer encoder, forward + backward", BACKWARD, "meta", 20, partial(encoder_step, 12)),
    Row("Llama-3 8B, forward", LLAMA_FORWARD, "meta", 9, partial(llama_forward, LLAMA_3["8B"])),
    Row("Llama-3 70B, forward", LLAMA_FORWARD, "meta", 7, partial(llama_forward, LLAMA_3["70B"])),
    Row("Llama-3 405B, forward", LLAMA_FORWARD, "meta", 5, partial(llama_forward, LLAMA_3["405B"])),
    Row("Llama-3 8B, forward + backward", BACKWARD, "meta", 7, partial(llama_step, LLAMA_3["8B"])),
    Row("ResNet-18 at 64 px, training step", STEP, "cpu", 11, resnet18_step),
)
