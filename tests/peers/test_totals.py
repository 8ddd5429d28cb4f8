"""Totals that other tools get wrong: the right figure, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flopdispatch import count
from tests.programs import counted

# torch.utils.flop_counter


def test_a_grouped_convolutions_backward_is_divided_by_its_groups() -> None:
    """2·16·10·10 outputs of 2 channels by 9 taps: 57,600 MACs, thrice; torch's: 691,200 FLOPs."""
    layer = nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False)
    data = torch.randn(2, 8, 10, 10, requires_grad=True)
    profile = counted(lambda: layer(data).sum().backward())
    assert profile.comparable_flops == 345_600


def test_training_of_a_depthwise_model_is_three_forwards() -> None:
    """Less the gradient of the image, which nothing needs: 1.783 G; torch's says 12.28 G."""
    name, flops = "mobilenet_v2", 1_783_000_000
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
        image = torch.empty(1, 3, 224, 224)
    profile = counted(lambda: model.train()(image).sum().backward())
    assert round(profile.comparable_flops, -6) == flops


def test_complex_and_integer_products_have_arithmetic_of_their_own() -> None:
    # 4·5·6 = 120 complex MACs of 4 real ones each; torch's counter says 240 for either.
    a, b = torch.randn(4, 5, dtype=torch.complex64), torch.randn(5, 6, dtype=torch.complex64)
    assert counted(lambda: a @ b).flops == 960
    i, j = torch.ones(4, 5, dtype=torch.int64), torch.ones(5, 6, dtype=torch.int64)
    profile = counted(lambda: i @ j)
    assert profile.flops == 0
    assert profile.total.int_macs == 120


def test_a_sparse_product_counts_the_elements_that_are_there() -> None:
    """3 of 64 entries, each with a row of 5; torch's counter counts all 64."""
    sparse = torch.zeros(8, 8)
    sparse[0, 1] = sparse[3, 2] = sparse[7, 7] = 1.0
    dense = torch.randn(8, 5)
    for layout in (torch.sparse_coo, torch.sparse_csr):
        operand = sparse.to_sparse(layout=layout)
        assert counted(lambda: operand @ dense).macs == 3 * 5  # noqa: B023


def test_a_grouped_product_counts_each_row_once() -> None:
    """12 rows, each through the one expert that it goes to: 16 by 32."""
    rows, experts = (
        torch.randn(12, 16, dtype=torch.bfloat16),
        torch.randn(3, 16, 32, dtype=torch.bfloat16),
    )
    ends = torch.tensor([4, 6, 12], dtype=torch.int32)
    assert counted(lambda: torch._grouped_mm(rows, experts, offs=ends)).macs == 12 * 16 * 32


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_costs_the_same_on_every_device(device: str) -> None:
    """Two products and their four gradients; torch's says 3.5 times the forward on the CPU."""
    q = torch.empty(1, 2, 8, 4, device=device, requires_grad=True)
    one = 2 * 8 * 8 * 4
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(backend):
            run = lambda: F.scaled_dot_product_attention(q, q, q).sum().backward()  # noqa: E731
            assert counted(run).macs == 6 * one


# thop


def test_a_transposed_convolution_counts_its_inputs_positions() -> None:
    """1·8·10·10 inputs, each to 16 channels by 9 taps: 115,200; thop says 508,032."""
    layer = nn.ConvTranspose2d(8, 16, 3, stride=2, bias=False)
    assert count(layer, (1, 8, 10, 10)).macs == 115_200


# GMACs that torchvision publishes, and thop's figure for the same
PUBLISHED = [("vit_b_16", 17.56, 11.29), ("r3d_18", 40.70, 1.59), ("swin_t", 4.49, 2.98)]


@pytest.mark.parametrize(("name", "published", "theirs"), PUBLISHED)
def test_models_have_the_published_figure(name: str, published: float, theirs: float) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
    shape = (1, 3, 16, 112, 112) if name == "r3d_18" else (1, 3, 224, 224)
    profile = count(model, shape)
    assert round(profile.comparable_flops / 2e9, 2) == published != theirs
    if name == "vit_b_16":
        assert round(profile.params / 1e6, 2) == 86.57


# ptflops


def test_nothing_is_divided_by_the_batch_or_the_length() -> None:
    for batch in (1, 8):
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
        profile = count(model, (batch, 4))
        assert profile.macs == batch * 16
        assert profile.total.comparisons == batch * 4, "a ReLU counts once"
    # Gates of 4·4 rows by 3 + 4 columns, for each of 5 steps of 2 sequences.
    assert count(nn.LSTM(3, 4), (5, 2, 3)).macs == 5 * 2 * 16 * 7


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inference_mode_is_not_zero(mode: Any) -> None:
    with mode():
        assert counted(nn.Linear(4, 4, bias=False), torch.ones(2, 4)).macs == 32


# YOLOv5's extrapolation from one size to another


def test_a_count_is_of_the_size_that_it_is_asked_for() -> None:
    """What doesn't grow with the image (a fixed interpolation, a global pool) isn't counted so."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(x, size=(8, 8), mode="bilinear")
            out: Tensor = self.conv(x).mean((2, 3))
            return out

    def macs(side: int) -> int:
        return count(Fixed(), (1, 3, side, side)).macs

    # 3·64 points of 4 taps, and 64 positions of 4 by 3 channels.
    assert macs(32) == macs(640) == 3 * 64 * 4 + 64 * 12


# fvcore


def test_attention_same_padding_and_recurrence_are_counted() -> None:
    q = (1, 2, 8, 4)
    attention = lambda x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
    assert count(attention, q).macs == 2 * 2 * 8 * 8 * 4
    assert count(nn.Conv2d(3, 4, 3, padding="same", bias=False), (1, 3, 8, 8)).macs == 64 * 4 * 27
    with torch.device("meta"):
        model = torchvision.models.resnet18(weights=None)
    assert count(model, (1, 3, 224, 224)).macs > 1_800_000_000


# DeepSpeed, torchinfo


def test_counts_after_an_exception_are_the_same() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    before = count(model, (2, 4)).macs
    for _ in range(3):
        with pytest.raises(RuntimeError):
            count(model, (2, 5))
    assert count(model, (2, 4)).macs == before == 32


def test_a_linear_layer_counts_all_rows_and_tied_parameters_once() -> None:
    assert count(nn.Linear(8, 8, bias=False), (2, 5, 8)).macs == 2 * 5 * 64
    one, other = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    other.weight = one.weight
    assert count(nn.Sequential(one, other), (1, 8)).params == 64


# Interpolation: output elements by taps, however the size is given


def taps(mode: str, **size: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return F.interpolate(x, mode=mode, **size)

    return run


INTERPOLATED = [
    ("bilinear", {"scale_factor": 2}, (2000, 3, 10, 10), 4 * 2_400_000),
    ("bilinear", {"scale_factor": [2, 2]}, (2000, 3, 10, 10), 4 * 2_400_000),
    ("bilinear", {"size": (20, 20)}, (2000, 3, 10, 10), 4 * 2_400_000),
    ("bilinear", {"scale_factor": (1.5, 1.5)}, (2000, 3, 10, 10), 4 * 1_350_000),
    ("bilinear", {"scale_factor": (0.5, 0.5)}, (2000, 3, 10, 10), 4 * 150_000),
    ("bilinear", {"scale_factor": 1.7}, (1, 3, 7, 7), 4 * 363),
    ("nearest", {"scale_factor": 2}, (2000, 3, 10, 10), 0),
    ("bicubic", {"scale_factor": 2}, (1, 3, 10, 10), 16 * 1_200),
    # Width first: 446 taps for each of 224 rows, then as many for each of 112 columns.
    ("bilinear", {"size": (112, 112), "antialias": True}, (1, 1, 224, 224), 446 * (224 + 112)),
    ("bicubic", {"size": (112, 112), "antialias": True}, (1, 1, 224, 224), 888 * (224 + 112)),
]


@pytest.mark.parametrize(("mode", "size", "shape", "macs"), INTERPOLATED)
@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_an_interpolation_is_a_sum_of_taps(
    mode: str, size: dict[str, Any], shape: Any, macs: int, grad: Any
) -> None:
    with grad():
        assert counted(taps(mode, **size), torch.empty(shape, device="meta")).macs == macs
