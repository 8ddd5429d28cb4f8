"""What other tools count as zero without a word: the right figure, and why.

A count stands in FLOPs if it is written as FLOPs, in MACs otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
import torchvision
from torch import nn
from torch.utils.mkldnn import to_mkldnn

from tests.programs import counted

# Fused layers: an LSTM of 8 to 16 on 5 steps of 3 sequences, attention of 2 heads on 2 sequences of
# 10 by 16, and a feed-forward of 32.


def test_a_fused_lstm_is_its_gates() -> None:
    """15 rows by 4·16 gates of 8 + 16 columns: 46,080 FLOPs; each product has two gradients."""
    layer, data = nn.LSTM(8, 16), torch.randn(5, 3, 8, requires_grad=True)
    assert counted(layer, data).comparable_flops == 46_080
    profile = counted(lambda: layer(data)[0].sum().backward())
    assert profile.comparable_flops == 138_240


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_of_attention_is_the_slow_one(fast: bool) -> None:
    """4 projections of 20 rows by 16·16, and two products of 2·10·10 scores by 16: 53,760 FLOPs."""
    layer, data = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.randn(2, 10, 16)
    with torch.set_grad_enabled(not fast):
        assert counted(layer, data, data, data, need_weights=False).comparable_flops == 53_760


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_of_an_encoder_layer_is_the_slow_one(fast: bool) -> None:
    """The attention, and 20 rows through 16·32 twice: 94,720 FLOPs."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    with torch.set_grad_enabled(not fast):
        assert counted(layer, torch.randn(2, 10, 16)).comparable_flops == 94_720


def test_a_vision_transformer_in_eval_on_the_cpu_is_whole() -> None:
    model = torchvision.models.vit_b_16(weights=None).eval()
    with torch.no_grad():
        profile = counted(model, torch.randn(1, 3, 224, 224))
    assert round(profile.comparable_flops / 2e9, 2) == 17.56


# Products: a is 4 by 5, b 5 by 6, v of 5, w of 4, batches of 3.

A, B, V, W = torch.randn(4, 5), torch.randn(5, 6), torch.randn(5), torch.randn(4)
A3, B3 = torch.randn(3, 4, 5), torch.randn(3, 5, 6)
SLOW: Any = getattr(torch._C._nn, "slow_conv3d")  # noqa: B009 (no stub has it)
C, C3 = torch.randn(4, 6), torch.randn(3, 4, 6)

PRODUCTS: list[tuple[str, Callable[[], Any], int]] = [
    ("mv", lambda: A.mv(V), 20),
    ("dot", lambda: V.dot(V), 5),
    ("vdot", lambda: torch.vdot(V, V), 5),
    ("addmv", lambda: torch.addmv(W, A, V), 20),
    ("addbmm: batches are summed", lambda: torch.addbmm(C, A3, B3), 360),
    ("in place", lambda: C.clone().addmm_(A, B), 120),
    ("in place, in batches", lambda: C3.clone().baddbmm_(A3, B3), 360),
    ("with an activation", lambda: torch._addmm_activation(torch.randn(6), A, B), 120),
    ("bilinear: 2 rows, 3 outputs of 4 by 5", lambda: nn.Bilinear(4, 5, 3)(
        torch.randn(2, 4), torch.randn(2, 5)), 2 * 3 * (4 * 5 + 5)),
    ("an operator", lambda: A @ B, 120),
    ("einsum", lambda: torch.einsum("ab,bc->ac", A, B), 120),
    ("a convolution over time: 5 steps, 2 batches, 3 taps of 4 by 6",
     lambda: torch.conv_tbc(torch.randn(7, 2, 4), torch.randn(3, 4, 6), torch.randn(6)),
     5 * 2 * 3 * 4 * 6),
    ("a convolution without a fused kernel: 2·2·2 positions, 8 taps of 3 by 4",
     lambda: SLOW(
         torch.randn(1, 3, 3, 3, 3), torch.randn(4, 3, 2, 2, 2), (2, 2, 2)), 8 * 8 * 12),
    ("a deformable one: 4 positions, 4 taps of 3 by 2, and 4 taps to sample each",
     lambda: torchvision.ops.deform_conv2d(
         torch.randn(1, 3, 3, 3), torch.randn(1, 8, 2, 2), torch.randn(2, 3, 2, 2)),
     4 * (4 * 3 * 2) + 4 * (4 * 3 * 4)),
    ("embeddings in bags are sums, no products", lambda: F.embedding_bag(
        torch.tensor([[0, 1, 2]]), torch.randn(4, 8), mode="sum"), 0),
]  # fmt: skip


@pytest.mark.parametrize(("why", "run", "macs"), PRODUCTS, ids=[row[0] for row in PRODUCTS])
def test_products_are_counted(why: str, run: Any, macs: int) -> None:
    profile = counted(run)
    assert profile.uncounted == {}
    assert profile.macs == macs, why


def test_outer_products_are_products_without_a_sum() -> None:
    assert counted(torch.outer, V, W).total.muls == 20
    # β·c + v ⊗ w: a product and a sum each.
    total = counted(torch.addr, torch.randn(5, 4), V, W).total
    assert (total.muls, total.adds) == (20, 20)


def test_products_of_integers_are_integer_products() -> None:
    a, b = torch.ones(17, 16, dtype=torch.int8), torch.ones(16, 24, dtype=torch.int8)
    total = counted(torch._int_mm, a, b).total
    assert (total.int_macs, total.flops) == (17 * 16 * 24, 0)


def test_weights_of_integers_with_floating_inputs_are_floating() -> None:
    x = torch.randn(4, 32, dtype=torch.bfloat16)
    weight, scales = torch.ones(16, 32, dtype=torch.int8), torch.ones(16, dtype=torch.bfloat16)
    assert counted(torch._weight_int8pack_mm, x, weight, scales).macs == 4 * 16 * 32


def test_a_quantized_layer_is_counted() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear})
    profile = counted(model, torch.randn(3, 8))
    assert profile.uncounted == {}
    assert profile.total.macs + profile.total.int_macs == 3 * 8 * 4


def test_mkldnn_layers_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()).eval()
    packed = to_mkldnn(model)
    with torch.no_grad():
        profile = counted(packed, torch.randn(1, 3, 8, 8).to_mkldnn())
    assert profile.uncounted == {}
    assert profile.macs == 36 * 4 * 27


# Linear algebra by LAPACK's counts, FFT by n log n: FLOPs

S = torch.randn(6, 6) + 6 * torch.eye(6)
SPD = S @ S.t()

FACTORED: list[tuple[str, Callable[[], Any], int]] = [
    ("Cholesky: n³/3 + n²/2 + n/6 less the roots", lambda: torch.linalg.cholesky(SPD), 91),
    ("LU: 2n³/3 - n²/2 + 5n/6", lambda: torch.linalg.lu_factor(S), 131),
    ("solving: LU and k(2n² - n)", lambda: torch.linalg.solve(S, torch.ones(6, 2)), 131 + 132),
    ("FFT: 5·8·3", lambda: torch.fft.fft(torch.ones(8, dtype=torch.complex64)), 120),
    ("real FFT: half", lambda: torch.fft.rfft(torch.ones(8)), 60),
    ("FFT of two dimensions: 5·32·5", lambda: torch.fft.fft2(
        torch.ones(4, 8, dtype=torch.complex64)), 800),
]  # fmt: skip


@pytest.mark.parametrize(("why", "run", "flops"), FACTORED, ids=[row[0] for row in FACTORED])
def test_factorizations_and_transforms_are_counted(why: str, run: Any, flops: int) -> None:
    profile = counted(run)
    assert profile.uncounted == {}
    assert profile.flops == flops, why


ITERATED: dict[str, Callable[[], Any]] = {
    "svd": lambda: torch.linalg.svd(S),
    "qr": lambda: torch.linalg.qr(S),
    "eigh": lambda: torch.linalg.eigh(SPD),
    "eig": lambda: torch.linalg.eig(S),
    "inv": lambda: torch.linalg.inv(S),
    "lstsq": lambda: torch.linalg.lstsq(S, torch.ones(6, 1)),
    "pinv": lambda: torch.linalg.pinv(S),
    "matrix_exp": lambda: torch.linalg.matrix_exp(S),
    "det": lambda: torch.linalg.det(S),
    "triangular": lambda: torch.linalg.solve_triangular(S, torch.ones(6, 1), upper=True),
}


@pytest.mark.parametrize("name", ITERATED)
def test_no_decomposition_is_zero(name: str) -> None:
    profile = counted(ITERATED[name])
    assert profile.uncounted == {}
    # None of a matrix of 6 by 6 is done in less than one operation for each pair of its numbers.
    assert profile.flops >= 36 // 2
    if name in ("svd", "eigh", "eig"):
        assert profile.estimates, "how often it iterates depends on the numbers"
    if name in ("qr", "inv", "det", "triangular"):
        assert not profile.estimates


# Everything else: counted, and nothing uncounted. x is 2 by 4 by 8 by 8.

X = torch.randn(2, 4, 8, 8)
N = X.numel()

OTHERS: list[tuple[str, Callable[[], Any], dict[str, int]]] = [
    ("a sum of two", lambda: X + X, {"adds": N}),
    ("exp", X.exp, {"transcendentals": N}),
    ("softmax: max, difference, exp, sum, quotient for each row of 8", lambda: X.softmax(-1),
     {"adds": N + N // 8 * 7, "divs": N, "transcendentals": N, "comparisons": N // 8 * 7}),
    ("pooling of 2 by 2: three sums and a quotient", lambda: F.avg_pool2d(X, 2),
     {"adds": N // 4 * 3, "divs": N // 4}),
    ("pooling by the largest: three comparisons", lambda: F.max_pool2d(X, 2),
     {"comparisons": N // 4 * 3}),
    ("a loss: difference, square, sum and quotient", lambda: F.mse_loss(X, X + 0),
     {"muls": N, "adds": N + N + (N - 1), "divs": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("why", "run", "fields"), OTHERS, ids=[row[0] for row in OTHERS])
def test_element_wise_operators_are_counted(why: str, run: Any, fields: dict[str, int]) -> None:
    profile = counted(run)
    assert profile.uncounted == {}
    counts = ("macs", "adds", "muls", "divs", "transcendentals", "comparisons")
    found = {name: getattr(profile.total, name) for name in counts}
    assert {name: number for name, number in found.items() if number} == fields


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(2, 4), nn.RMSNorm(8), nn.LayerNorm(8), nn.BatchNorm2d(4), nn.InstanceNorm2d(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_norms_are_counted(layer: nn.Module) -> None:
    profile = counted(layer, X)
    assert profile.uncounted == {}
    # Each element is squared, summed and scaled at the least.
    assert profile.flops >= 3 * N


def test_samples_distances_and_bags_are_counted() -> None:
    grid = torch.rand(2, 8, 8, 2) * 2 - 1
    # Each of 2·4·8·8 samples is a sum of four taps.
    assert counted(F.grid_sample, X, grid, align_corners=False).macs == 4 * N
    # 5·6 distances of 3 coordinates: difference, square, sum; a root.
    total = counted(
        torch.cdist, torch.randn(5, 3), torch.randn(6, 3), 2.0, "donot_use_mm_for_euclid_dist"
    ).total
    assert total.transcendentals == 30
    # 2 bags of 3 rows of 8: two sums each.
    bag = nn.EmbeddingBag(10, 8, mode="sum")
    assert counted(bag, torch.zeros(2, 3, dtype=torch.long)).total.adds == 2 * 2 * 8
