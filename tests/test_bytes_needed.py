"""Bytes of what an operator needs of its arguments, by hand: floats of 4 bytes unless named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopdispatch import count, default_registry
from flopdispatch.spec import OpCall, TensorSpec, spec
from tests.pricing import overload_of, price

LONG = torch.int64


def x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=LONG)


def f(*shape: int) -> TensorSpec:
    return spec(*shape, dtype=torch.float32)


IMAGE, CHANNELS = x(2, 3, 8, 8), x(3)  # 1,536 and 12 bytes
GRID, SAMPLED = x(2, 4, 4, 2), x(2, 3, 4, 4)  # 256 and 384 bytes
ROWS, PER_ROW, LINE = x(4, 8), x(4, 1), x(8)  # 128, 16 and 32 bytes
LABELS = zeros(4)  # 32 bytes
NORM = (IMAGE, IMAGE, CHANNELS, CHANNELS, CHANNELS, CHANNELS, CHANNELS)
RESERVED = x(9, dtype=torch.uint8)

# (operator; arguments; bytes read and written, with the derivation in words)
OPERATORS: list[tuple[str, tuple[Any, ...], int, int, str]] = [
    ("constant_pad_nd.default", (ROWS, [1, 1]), 128, 4 * 10 * 4, "what is added is written only"),
    ("constant_pad_nd.default", (ROWS, [-2, -1, 0, -3]), 5 * 4, 5 * 4, "the rest is cut off"),
    ("constant_pad_nd.default", (ROWS, [-2, 2]), 4 * 6 * 4, 128, "the same in one dimension"),
    ("linspace.Tensor_Tensor", (x(), x(), 5), 8, 20, "both ends are read"),
    ("linspace.Scalar_Tensor", (0, x(), 5), 4, 20, "one end is"),
    ("index_fill_.int_Tensor", (x(1000, 8), 0, LABELS, x()), 32 + 4, 4 * 32, "the value is read"),
    ("index_fill_.int_Scalar", (x(1000, 8), 0, LABELS, 1.0), 32, 4 * 32, "a number isn't"),
    ("scatter.src", (x(9, 9), 0, zeros(2, 3), x(50, 50)), 324 + 48 + 24, 324,
     "6 indices reach 6 sources"),
    ("scatter_add.default", (x(9, 9), 0, zeros(2, 3), x(50, 50)), 324 + 48 + 24, 324, "the same"),
    ("scatter_reduce.two", (x(9, 9), 0, zeros(2, 3), x(50, 50), "sum"), 324 + 48 + 24, 324,
     "the same"),
    ("scatter.value", (x(9, 9), 0, zeros(2, 3), 1.0), 324 + 48, 324, "the source is one number"),
    ("nll_loss_forward.default", (x(4, 100), LABELS, x(100), 1, -100), 32 + 2 * 4 * 4, 4 + 4,
     "4 labels, the element and the weight that each names"),
    ("nll_loss_backward.default", (x(), x(4, 100), LABELS, x(100), 1, -100, x()),
     4 + 32 + 4 * 4 + 4, 1600, "4 labels, a weight for each, the gradient and all weights' sum"),
    ("rrelu_with_noise.default", (ROWS, ROWS.clone(), 0.1, 0.3, True), 128, 128 + 128,
     "the slopes that are drawn are written, what was there isn't read"),
    ("rrelu_with_noise.default", (ROWS, ROWS.clone(), 0.1, 0.3, False), 128, 128,
     "evaluating, none are"),
    ("batch_norm_backward.default", (*NORM, True, 1e-5, [True] * 3, RESERVED),
     2 * 1536 + 3 * 12, 1536 + 24, "gradient, image, weight and what was saved; nothing reserved"),
    ("batch_norm_backward.default", (*NORM, False, 1e-5, [True, False, False], RESERVED),
     1536 + 2 * 12, 1536, "evaluating, a gradient is scaled: weight and running variance"),
    ("grid_sampler_2d_backward.default", (SAMPLED, IMAGE, GRID, 0, 0, False, [True, True]),
     384 + 256 + 1536, 1536 + 256, "all of it"),
    ("grid_sampler_2d_backward.default", (SAMPLED, IMAGE, GRID, 0, 0, False, [True, False]),
     384 + 256, 1536, "the image's gradient doesn't need the image"),
    ("_slow_conv2d_backward.output_mask",
     (x(2, 4, 6, 6), IMAGE, x(4, 3, 3, 3), [3, 3], [1, 1], [0, 0], [False, True, True]),
     1152 + 1536, 432 + 16, "the weight's gradient doesn't need the weight"),
    ("_fused_sdp_choice.default", (x(1, 2, 4, 8), x(1, 2, 6, 8), x(1, 2, 6, 8)), 0, 0,
     "a question"),
    ("addmv.default", (x(2), x(2, 3), x(3)), 8 + 24 + 12, 8, "all that is added and multiplied"),
    ("addr.default", (x(2, 3), x(2), x(3)), 24 + 8 + 12, 24, "the same"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "read", "written", "why"), OPERATORS)
def test_an_operator_reads_what_it_needs(
    name: str, args: tuple[Any, ...], read: int, written: int, why: str
) -> None:
    moved = price(overload_of(name), *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


rows, per_row, line = f(4, 8), f(4, 1), f(8)
left, right = f(2, 3, 5), f(2, 5, 7)  # 120 and 280 bytes; their product has 168
c = f(3)

# The same of what runs on other devices, with its result.
SPECS: list[tuple[str, tuple[Any, ...], Any, int, int, str]] = [
    ("_fused_rms_norm_backward.default", (rows, rows, (8,), per_row, line, (True, True)),
     (rows, line), 2 * 128 + 16 + 32, 128 + 32, "gradient, rows, roots and weight"),
    ("_fused_rms_norm_backward.default", (rows, rows, (8,), per_row, line, (False, True)),
     (None, line), 2 * 128 + 16, 32, "the weight's gradient doesn't need the weight"),
    ("matmul_backward.default", (f(2, 3, 7), left, right, (True, True)), (left, right),
     168 + 120 + 280, 120 + 280, "all of it"),
    ("matmul_backward.default", (f(2, 3, 7), left, right, (True, False)), (left, None),
     168 + 280, 120, "the left factor's gradient needs the right one"),
    ("linear_backward.default", (rows, f(4, 3), f(3, 8), (False, True, True)),
     (None, f(3, 8), c), 48 + 128, 96 + 12, "the weight's gradient doesn't need the weight"),
    ("cudnn_batch_norm_backward.default",
     (f(2, 3, 4), f(2, 3, 4), c, c, c, c, c, 1e-5, spec(9, dtype=torch.uint8)),
     (f(2, 3, 4), c, c), 2 * 96 + 3 * 12, 96 + 24, "no running statistics, nothing reserved"),
    ("mkldnn_rnn_layer.default",
     (f(5, 3, 8), f(64, 8), f(64, 16), f(64), f(64), f(1, 3, 16), f(1, 3, 16),
      False, (), 2, 16, 1, True, False, False, True),
     (f(5, 3, 16), f(1, 3, 16), f(1, 3, 16), spec(100, dtype=torch.uint8)),
     4 * (5 * 3 * 8 + 64 * (8 + 16 + 1 + 1) + 2 * 3 * 16), 4 * (5 * 3 * 16 + 2 * 3 * 16) + 100,
     "input, weights and states; results, the last states and what the backward is left"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "result", "read", "written", "why"), SPECS)
def test_the_same_on_other_devices(
    name: str, args: tuple[Any, ...], result: Any, read: int, written: int, why: str
) -> None:
    moved = default_registry().price(OpCall(overload_of(name), args, (), result)).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


def test_a_fused_encoder_layer_moves_what_its_kernels_move() -> None:
    """2 sequences of 10 by 16 floats: 1,280 bytes; 2,560 of hidden ones; weights apart:

    qkv 1 to 3, attention 3 to 1, projection 1 to 1, twice a sum 2 to 1 and a norm 1 to 1,
    feed-forward 1 to a hidden one and back. All weights, biases and norms are read once.
    """
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    with torch.no_grad():
        profile = count(layer, (2, 10, 16), device="cpu")
    (moved,) = profile.by_op().values()
    weights = 4 * (48 * 16 + 48 + 16 * 16 + 16 + 2 * 2 * 16 + 32 * 16 + 32 + 16 * 32 + 16)
    assert moved.bytes_read == (1 + 3 + 1 + 2 * (2 + 1) + 1) * 1280 + 2560 + weights
    assert moved.bytes_written == (3 + 1 + 1 + 2 * (1 + 1) + 1) * 1280 + 2560


def test_a_fused_attention_layer_moves_what_its_kernels_move() -> None:
    """192 bytes of positions; 2 sequences' 3 by 3 weights are given, the mean of the heads."""
    tokens, weights = x(2, 3, 8), (x(24, 8), x(24), x(8, 8), x(8))
    operator = overload_of("_native_multi_head_attention.default")
    moved = price(operator, tokens, tokens, tokens, 8, 2, *weights).cost
    assert moved.bytes_read == (1 + 3 + 1) * 192 + 768 + 96 + 256 + 32
    assert moved.bytes_written == (3 + 1 + 1) * 192 + 2 * 3 * 3 * 4
