"""Recurrent and attention layers cost the same on the CPU, on meta and on a GPU.

The GPU's are fake tensors, which run its kernels' shapes without one. What torch runs differs: a
fused kernel, fused cells, or plain operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence

from flopdispatch import FlopCounter, Profile
from flopdispatch.rules import name_of
from tests.versions import needs_torch

aten = torch.ops.aten
pytestmark = [
    needs_torch(2, 10, "without a driver, layers of fake tensors on a GPU end the process"),
    pytest.mark.filterwarnings(
        "ignore:LSTM with projections", "ignore:enable_nested_tensor", "ignore:dropout option"
    ),
]

Make = Callable[[str], nn.Module]
Given = Callable[[str], tuple[Any, ...]]

LENGTHS = torch.tensor([4, 3, 2])  # of 3 steps: sequences of 3, 3, 2 and 1


def sizes(*shapes: tuple[int, ...]) -> Given:
    """Tensors of these shapes."""
    return lambda device: tuple(torch.ones(shape, device=device) for shape in shapes)


def packed(device: str) -> tuple[Any, ...]:
    """Sequences of different lengths."""
    return (PackedSequence(torch.ones(9, 8, device=device), LENGTHS),)


def layer(kind: type[nn.Module], *sizes: int, **options: Any) -> Make:
    """A layer to be made on a device."""
    return lambda device: kind(*sizes, device=device, **options)


def recurrent() -> dict[str, tuple[Make, Given]]:
    """nn.RNN, nn.GRU and nn.LSTM with all that they offer."""
    options: dict[str, dict[str, Any]] = {
        "": {},
        "without biases": {"bias": False},
        "of two layers and directions": {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
    }
    projected: dict[str, dict[str, Any]] = {
        "projected": {"proj_size": 4},
        "projected, of two layers and directions": {
            "proj_size": 4, "num_layers": 2, "bidirectional": True,
        },
    }  # fmt: skip
    found: dict[str, tuple[Make, Given]] = {}
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        more = projected if kind is nn.LSTM else {}
        for words, chosen in {**options, **more}.items():
            make = layer(kind, 8, 16, **chosen)
            found[f"{kind.__name__} {words}"] = make, sizes((5, 3, 8))
            found[f"{kind.__name__} {words} packed"] = make, packed
        first = layer(kind, 8, 16, batch_first=True)
        found[f"{kind.__name__} batch first"] = first, sizes((3, 5, 8))
    return found


def encoder(**options: Any) -> Make:
    """nn.TransformerEncoder of two layers."""
    one = layer(nn.TransformerEncoderLayer, 16, 4, 32, batch_first=True, **options)
    return lambda device: nn.TransformerEncoder(one(device), 2)  # type: ignore[arg-type]


def decoder(device: str) -> nn.Module:
    """nn.TransformerDecoder of two layers."""
    one = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, device=device)
    return nn.TransformerDecoder(one, 2)


TOKENS = (2, 10, 16)
LAYERS: dict[str, tuple[Make, Given]] = {
    **recurrent(),
    "attention": (
        layer(nn.MultiheadAttention, 16, 4, batch_first=True),
        lambda device: (torch.ones(TOKENS, device=device),) * 3,
    ),
    "attention to other tokens": (
        layer(nn.MultiheadAttention, 16, 4, kdim=8, vdim=12, batch_first=True),
        sizes(TOKENS, (2, 7, 8), (2, 7, 12)),
    ),
    "encoder": (encoder(), sizes(TOKENS)),
    "encoder with GELU, norms first": (
        encoder(activation="gelu", norm_first=True),
        sizes(TOKENS),
    ),
    "decoder": (decoder, sizes(TOKENS, (2, 7, 16))),
    "transformer": (
        layer(nn.Transformer, 16, 4, 2, 2, 32, batch_first=True),
        sizes(TOKENS, (2, 7, 16)),
    ),
}
TRAIN, EVAL, FAST = "train", "eval", "eval without gradients"


def counted(run: Callable[[], Any], way: str) -> Profile:
    """The profile of a forward; nothing in it may be uncounted."""
    gradients = torch.no_grad() if way == FAST else nullcontext()
    with gradients, FlopCounter(display=False, strict=True) as counter:
        run()
    return counter.profile


def on(device: str, name: str, way: str) -> Profile:
    """A layer's forward on the CPU or on meta."""
    make, give = LAYERS[name]
    model, given = make(device).train(way == TRAIN), give(device)
    return counted(lambda: model(*given), way)


@contextmanager
def without_cudnn() -> Iterator[None]:
    """torch doesn't ask the driver what cuDNN can do."""
    enabled = torch._C._get_cudnn_enabled()
    torch._C._set_cudnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_cudnn_enabled(enabled)


def on_a_gpu(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A layer's forward on fake tensors. torch would ask the driver for cuDNN, and for memory in
    which weights lie in a row.
    """
    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", lambda self: None)
    make, give = LAYERS[name]
    model = make("cpu").train(way == TRAIN)
    with without_cudnn(), FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for key, value in list(module.named_parameters(recurse=False)):
                there = torch.empty(value.shape, device="cuda")
                setattr(module, key, nn.Parameter(there))
        given = give("cuda")
        if isinstance(given[0], PackedSequence):
            return counted(lambda: run_packed(model, given[0].data), way)
        return counted(lambda: model(*given), way)


def run_packed(model: Any, data: Tensor) -> Any:
    """What a layer runs for packed sequences; by itself it reads lengths, which are fake."""
    stacked = model.num_layers * (2 if model.bidirectional else 1)
    h = torch.zeros(stacked, 4, model.proj_size or 16, device="cuda")
    kinds: dict[str, Any] = {
        "RNN_TANH": torch._VF.rnn_tanh,
        "GRU": torch._VF.gru,
        "LSTM": torch._VF.lstm,
    }
    state = (h, torch.zeros(stacked, 4, 16, device="cuda")) if model.mode == "LSTM" else h
    options = model.bias, model.num_layers, model.dropout, model.training, model.bidirectional
    return kinds[model.mode](data, LENGTHS, state, model._flat_weights, *options)


@pytest.mark.parametrize("way", [TRAIN, EVAL, FAST])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_takes_the_same_macs_on_every_device(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, meta = on("cpu", name, way), on("meta", name, way)
    gpu = on_a_gpu(name, way, monkeypatch)
    assert cpu.total.macs == meta.total.macs == gpu.total.macs > 0


@pytest.mark.parametrize(
    ("name", "way", "kernel"),
    [
        ("LSTM ", TRAIN, "aten::_thnn_fused_lstm_cell.default"),
        ("GRU ", TRAIN, "aten::_thnn_fused_gru_cell.default"),
        ("attention", FAST, "aten::_native_multi_head_attention.default"),
        ("encoder", FAST, "aten::_transformer_encoder_layer_fwd.default"),
    ],
)
def test_a_gpu_runs_fused_kernels(
    name: str, way: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That these are the ones that were compared."""
    profile = on_a_gpu(name, way, monkeypatch)
    assert kernel in {name_of(call.overload) for call in profile.calls}


# Kernels of a GPU's own, with their gradients, called as autograd calls them.
# Letters: b batch 2, h heads 4, s queries 10, t keys 7, d size of a head 8.

PRODUCT = 2 * 4 * 10 * 7 * 8


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    """(b, h, s or t, d)."""
    q = torch.ones(2, 4, 10, 8, dtype=torch.half, device="cuda")
    k = torch.ones(2, 4, 7, 8, dtype=torch.half, device="cuda")
    return q, k, k


def flash() -> Any:
    q, k, v = qkv()
    out, lse, cum_q, cum_k, max_q, max_k, seed, offset, _ = (
        aten._scaled_dot_product_flash_attention(q, k, v)
    )
    return aten._scaled_dot_product_flash_attention_backward(
        q, q, k, v, out, lse, cum_q, cum_k, max_q, max_k, 0.0, False, seed, offset
    )


def efficient() -> Any:
    q, k, v = qkv()
    out, lse, seed, offset = aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
    return aten._scaled_dot_product_efficient_attention_backward(
        q, q, k, v, None, out, lse, seed, offset, 0.0, [True, True, True, False]
    )


def cudnn() -> Any:
    q, k, v = qkv()
    out, lse, cum_q, cum_k, max_q, max_k, seed, offset, _ = (
        aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
    )
    return aten._scaled_dot_product_cudnn_attention_backward(
        q, q, k, v, out, lse, seed, offset, None, cum_q, cum_k, max_q, max_k, 0.0, False
    )


@pytest.mark.parametrize("kernel", [flash, efficient, cudnn])
def test_a_gpus_attention_is_two_products_and_four_back(kernel: Callable[[], Any]) -> None:
    with FakeTensorMode(), FlopCounter(display=False, strict=True) as counter:
        kernel()
    assert counter.macs == (2 + 4) * PRODUCT


def test_cudnns_recurrent_layer_is_that_of_any_device() -> None:
    """An LSTM(8, 16) on (5, 3, 8) is 5·3·4·16·(8 + 16) MACs, the CPU's; twice that back."""
    with FakeTensorMode(), FlopCounter(display=False, strict=True) as counter:
        x, weights, flat, h = (
            torch.ones(5, 3, 8, device="cuda"),
            [torch.ones(64, 8, device="cuda"), torch.ones(64, 16, device="cuda"),
             torch.ones(64, device="cuda"), torch.ones(64, device="cuda")],
            torch.ones(64 * (8 + 16 + 2), device="cuda"),
            torch.zeros(1, 3, 16, device="cuda"),
        )  # fmt: skip
        options: Any = 2, 16, 0, 1, False, 0.0, True, False, [], None
        out, hy, cy, reserve, _ = aten._cudnn_rnn(x, weights, 4, flat, h, h, *options)
    forward = 5 * 3 * 4 * 16 * (8 + 16)
    assert counter.macs == forward == on("cpu", "LSTM ", TRAIN).total.macs
    assert {out.device.type, hy.device.type, cy.device.type, reserve.device.type} == {"cuda"}
