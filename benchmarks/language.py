"""Language models in their published sizes, made from their configurations on meta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from flopdispatch import TensorSpec, spec


@dataclass(frozen=True, slots=True)
class Llama:
    """The sizes that make a Llama; the head is not tied to the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = 128_256


# The model cards of meta-llama/Meta-Llama-3-8B and -70B and Llama-3.1-405B.
LLAMA_3 = {
    "8B": Llama(4_096, 14_336, 32, 32, 8),
    "70B": Llama(8_192, 28_672, 80, 64, 8),
    "405B": Llama(16_384, 53_248, 126, 128, 8),
}


def llama(size: Llama, device: str = "meta") -> nn.Module:
    """A Llama of this size in eval mode."""
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        tie_word_embeddings=False,
    )
    return on(device, LlamaForCausalLM, config)


def gpt2(device: str = "meta", **sizes: Any) -> nn.Module:
    """GPT-2 in eval mode, of 124 M parameters unless `sizes` of its configuration are given."""
    return on(device, GPT2LMHeadModel, GPT2Config(**sizes))


def on(device: str, kind: Any, config: Any) -> nn.Module:
    """A model of this kind, made on `device`."""
    with torch.device(device):
        model: nn.Module = kind(config)
    return model.eval()


def tokens(number: int, batch: int = 1) -> TensorSpec:
    """A batch of token sequences of this length, for `count`.

    The models are called with these alone: with `use_cache=False` or a mask they look at
    the mask's values, which are not there on meta.
    """
    return spec(batch, number, dtype=torch.long)
