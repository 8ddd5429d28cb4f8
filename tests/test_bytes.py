"""Bytes of operators and of whole blocks, each derived by hand: floats of 4 bytes unless named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch import FlopCounter
from flopdispatch.rules import name_of
from tests.pricing import overload_of, price

LONG, HALF, BF16 = torch.int64, torch.float16, torch.bfloat16


def x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


def mask(text: str) -> list[bool]:
    """Which gradients are asked for: "input weight bias", a dash for those that aren't."""
    return [letter != "-" for letter in text]


IMAGE, KERNEL = x(2, 3, 8, 8), x(4, 3, 3, 3)  # 1,536 and 432 bytes
OUT = x(2, 4, 6, 6)  # of the two: 1,152 bytes
POOLED = torch.ops.aten.max_pool2d_with_indices.default(IMAGE, [2, 2], [2, 2])
ROWS, LINE = x(4, 8), x(8)  # 128 and 32 bytes
PER_ROW = x(4, 1)  # 16 bytes
HEADS = x(1, 2, 4, 8)  # queries: 256 bytes
KEYS = x(1, 2, 6, 8)  # 384 bytes
LABELS = torch.zeros(4, dtype=LONG)  # 32 bytes
ATTENDED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(HEADS, KEYS, KEYS)
CHANNELS = x(3)  # 12 bytes

CONV_BACKWARD = [[4], [1, 1], [0, 0], [1, 1], False, [0, 0], 1]


# (operator; arguments; bytes read and written, with the derivation in words)
OPERATORS: list[tuple[str, tuple[Any, ...], int, int, str]] = [
    ("mm.default", (x(2, 3, dtype=HALF), x(3, 4, dtype=HALF)), (6 + 12) * 2, 8 * 2,
     "both factors and the product, 2 bytes an element"),
    ("addmm.default", (x(4), x(2, 3), x(3, 4)), (4 + 6 + 12) * 4, 8 * 4,
     "the bias is read as it is stored, not as it is broadcast"),
    ("convolution.default", (IMAGE, KERNEL, x(4), [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
     1536 + 432 + 16, 1152, "image, kernel and bias once, however often windows overlap"),
    ("convolution_backward.default", (OUT, IMAGE, KERNEL, *CONV_BACKWARD, mask("iwb")),
     1152 + 1536 + 432, 1536 + 432 + 16, "all of it"),
    ("convolution_backward.default", (OUT, IMAGE, KERNEL, *CONV_BACKWARD, mask("-wb")),
     1152 + 1536, 432 + 16, "the first layer: the weight's gradient doesn't need the weight"),
    ("convolution_backward.default", (OUT, IMAGE, KERNEL, *CONV_BACKWARD, mask("i--")),
     1152 + 432, 1536, "frozen: the image's gradient doesn't need the image"),
    ("convolution_backward.default", (OUT, IMAGE, KERNEL, *CONV_BACKWARD, mask("--b")),
     1152, 16, "the bias sums what comes in"),
    ("baddbmm.default", (x(2, 4, 5), x(2, 4, 3), x(2, 3, 5)), 160 + 96 + 120, 160,
     "what is added and both factors"),
    ("max_pool2d_with_indices.default", (IMAGE, [2, 2], [2, 2]), 1536, 384 + 768,
     "96 maxima and their places, which are integers of 8 bytes"),
    ("max_pool2d_with_indices_backward.default",
     (POOLED[0], IMAGE, [2, 2], [2, 2], [0, 0], [1, 1], False, POOLED[1]), 384 + 768, 1536,
     "gradients and places; of the image only the shape"),
    ("native_layer_norm.default", (ROWS, [8], LINE, LINE, 1e-5), 128 + 64, 128 + 16 + 16,
     "rows, weight and bias; the result, and a mean and a deviation of each row"),
    ("native_layer_norm_backward.default",
     (ROWS, ROWS, [8], PER_ROW, PER_ROW, LINE, LINE, mask("iwb")),
     2 * 128 + 32 + 32, 128 + 32 + 32,
     "gradient, rows, statistics, weight; no gradient needs the bias"),
    ("native_layer_norm_backward.default",
     (ROWS, ROWS, [8], PER_ROW, PER_ROW, LINE, LINE, mask("--b")), 128, 32,
     "the bias sums what comes in"),
    ("native_batch_norm_backward.default",
     (IMAGE, IMAGE, CHANNELS, CHANNELS, CHANNELS, CHANNELS, CHANNELS, True, 1e-5, mask("iwb")),
     2 * 1536 + 3 * 12, 1536 + 24, "gradient, image, weight and the two saved statistics"),
    ("native_batch_norm_backward.default",
     (IMAGE, IMAGE, CHANNELS, CHANNELS, CHANNELS, None, None, False, 1e-5, mask("i--")),
     1536 + 2 * 12, 1536, "evaluating, a gradient is scaled: weight and running variance"),
    ("_softmax.default", (ROWS, -1, False), 128, 128, "one kernel: nothing between is stored"),
    ("_scaled_dot_product_flash_attention_for_cpu.default", (HEADS, KEYS, KEYS),
     256 + 2 * 384, 256 + 32,
     "queries, keys, values; the output and 8 logarithms. No scores: 2·4·6 of them never leave"),
    ("_scaled_dot_product_flash_attention_for_cpu_backward.default",
     (HEADS, HEADS, KEYS, KEYS, *ATTENDED, 0.0, False),
     3 * 256 + 2 * 384 + 32, 256 + 2 * 384, "gradient, output, q, k, v, logarithms; dq, dk, dv"),
    ("embedding.default", (x(1000, 8), LABELS), 32 + 4 * 32, 4 * 32,
     "4 indices and 4 rows, not the table of 32,000 bytes"),
    ("embedding.default", (x(2, 8), torch.zeros(50, dtype=LONG)), 400 + 64, 1600,
     "50 indices name 2 rows"),
    ("index_add_.default", (x(1000, 8), 0, LABELS, ROWS), 32 + 128 + 128, 128,
     "indices, sources and the 4 rows that they are added to"),
    ("nll_loss_forward.default", (x(4, 100), LABELS, None, 1, -100), 32 + 4 * 4, 4 + 4,
     "4 labels and the element that each names; the loss and the weight of all"),
    ("native_dropout.default", (ROWS, 0.5, True), 128, 128 + 32, "the mask is bools"),
    ("upsample_nearest2d.default", (IMAGE, [16, 16]), 1536, 4 * 1536, "each pixel read once"),
    ("where.self", (ROWS > 0, ROWS, x()), 32 + 128 + 4, 128, "bools, elements and one number"),
    ("cumsum.default", (ROWS, 1), 128, 128, "a running sum stays in the kernel"),
    ("cat.default", ([ROWS, x(1, 8)],), 160, 160, "all parts"),
    ("unsafe_split.Tensor", (ROWS, 2), 0, 0, "parts of the same memory"),
    ("gather.default", (x(9, 9), 0, torch.zeros(2, 3, dtype=LONG)), 48 + 24, 24,
     "6 indices and the 6 elements that they name"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "read", "written", "why"), OPERATORS)
def test_an_operator_moves_what_it_needs(
    name: str, args: tuple[Any, ...], read: int, written: int, why: str
) -> None:
    moved = price(overload_of(name), *args).cost
    assert (moved.bytes_read, moved.bytes_written) == (read, written), why


@pytest.mark.parametrize(
    ("name", "args", "read"),
    [
        ("addmm.default", (x(2, 4), x(2, 3), x(3, 4)), 24 + 48),
        ("baddbmm.default", (x(2, 4, 5), x(2, 4, 3), x(2, 3, 5)), 96 + 120),
        ("addbmm.default", (x(4, 5), x(2, 4, 3), x(2, 3, 5)), 96 + 120),
        ("addmv.default", (x(2), x(2, 3), x(3)), 24 + 12),
        ("addr.default", (x(2, 3), x(2), x(3)), 8 + 12),
    ],
)
def test_what_is_times_zero_is_not_read(name: str, args: tuple[Any, ...], read: int) -> None:
    assert price(overload_of(name), *args, beta=0).cost.bytes_read == read
    assert price(overload_of(name), *args).cost.bytes_read == read + args[0].nbytes


def test_overlapping_windows_are_read_once() -> None:
    """10 numbers as 8 windows of 3, squared: 40 bytes in, 8·3·4 out."""
    windows = torch.ones(10).unfold(0, 3, 1)
    moved = price(overload_of("neg.default"), windows).cost
    assert (moved.bytes_read, moved.bytes_written) == (40, 96)


# Whole blocks: every call that moves anything, in the order of the program.

Moves = list[tuple[str, int, int]]


def moves(program: Any) -> Moves:
    """Operator, bytes read and bytes written, all that ran, sorted; and the total is their sum."""
    with FlopCounter(display=False, strict=True) as counter:
        program()
    profile, found = counter.profile, list[tuple[str, int, int]]()
    for row in profile.rows:
        cost, name = profile.prices[row.call].cost, name_of(profile.calls[row.call].overload)
        if cost.nbytes:
            found += [(name.split("::")[1].split(".")[0], cost.bytes_read, cost.bytes_written)] * (
                row.times
            )
    assert profile.total.bytes_read == sum(read for _, read, _ in found)
    assert profile.total.bytes_written == sum(written for _, _, written in found)
    return sorted(found)


def test_convolution_batch_norm_relu_by_hand() -> None:
    """Training on a (2, 3, 8, 8) image, which needs no gradient: 1,536 bytes; 4 channels out."""
    block = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    )
    image, kernel, out, channels = 2 * 3 * 64 * 4, 4 * 27 * 4, 2 * 4 * 64 * 4, 4 * 4
    assert (image, kernel, out, channels) == (1536, 432, 2048, 16)
    assert moves(lambda: block(torch.rand(2, 3, 8, 8)).sum().backward()) == sorted([
        ("rand", 0, image),
        ("convolution", image + kernel, out),
        ("add_", 8, 8),  # how many batches were seen
        # weight, bias and running mean and variance; the running ones and the batch's own
        ("native_batch_norm", out + 4 * channels, out + 4 * channels),
        ("relu_", out, out),
        ("sum", out, 4),
        ("ones_like", 0, 4),
        # the sum's gradient is one number, seen from all places
        ("threshold_backward", 4 + out, out),
        # weight and the batch's mean and deviation; gradients of weight and bias
        ("native_batch_norm_backward", 2 * out + 3 * channels, out + 2 * channels),
        ("convolution_backward", out + image, kernel),
    ])  # fmt: skip


class Attending(nn.Module):
    """Two heads of 4, a residual and a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).split(8, -1)
        q, k, v = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts]
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.norm(x + self.out(mixed))
        return out


def test_attention_by_hand() -> None:
    """2 sequences of 3 by 8 numbers: 192 bytes; splitting and turning heads moves nothing."""
    tokens = 2 * 3 * 8 * 4
    block, given = Attending(), torch.rand(2, 3, 8)
    assert moves(lambda: block(given)) == sorted([
        ("addmm", tokens + 24 * 8 * 4 + 24 * 4, 3 * tokens),
        # q, k, v; the output and the logarithm of each of 2·2·3 sums
        ("_scaled_dot_product_flash_attention_for_cpu", 3 * tokens, tokens + 12 * 4),
        ("addmm", tokens + 8 * 8 * 4 + 8 * 4, tokens),
        ("add", 2 * tokens, tokens),
        # weight and bias; a mean and a deviation of each of 2·3 rows
        ("native_layer_norm", tokens + 2 * 8 * 4, tokens + 2 * 6 * 4),
    ])  # fmt: skip


def test_attention_unfused_moves_its_scores_by_hand() -> None:
    """On meta torch takes the attention apart: 2·2 heads of 3·3 scores, moved thrice."""
    tokens, scores = 2 * 3 * 8 * 4, 2 * 2 * 3 * 3 * 4
    block, given = Attending().to("meta"), torch.rand(2, 3, 8, device="meta")
    found = moves(lambda: block(given))
    assert [move for move in found if move[0] not in ("clone", "addmm", "add")] == sorted([
        ("mul", tokens, tokens),  # queries by the root of the scale
        ("mul", tokens, tokens),  # and keys
        ("bmm", 2 * tokens, scores),
        ("_safe_softmax", scores, scores),
        ("bmm", scores + tokens, tokens),
        ("native_layer_norm", tokens + 2 * 8 * 4, tokens + 2 * 6 * 4),
    ])  # fmt: skip


def test_a_training_step_of_an_mlp_in_bfloat16_by_hand() -> None:
    """8 rows of 8 to 32 and back, 2 bytes an element: 128 and 512 bytes; weights 512 each."""
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)).to(BF16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    rows = torch.ones(8, 8, dtype=BF16)
    narrow, wide, weight, bias_wide, bias_narrow = 128, 512, 512, 64, 16

    def step() -> None:
        model(rows).sum().backward()
        optimizer.step()

    assert moves(step) == sorted([
        ("addmm", narrow + weight + bias_wide, wide),
        ("gelu", wide, wide),
        ("addmm", wide + weight + bias_narrow, narrow),
        ("sum", narrow, 2),
        ("ones_like", 0, 2),
        # the sum's gradient is one number, seen from all places
        ("mm", 2 + weight, wide),
        ("mm", 2 + wide, weight),
        ("sum", 2, bias_narrow),
        ("gelu_backward", 2 * wide, wide),
        ("mm", wide + narrow, weight),  # the rows need no gradient
        ("sum", wide, bias_wide),
        # p ← p − lr·g
        *[("add_", 2 * size, size) for size in (weight, weight, bias_wide, bias_narrow)],
    ])  # fmt: skip
