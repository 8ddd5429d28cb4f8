"""ptflops' own figures of single layers beside ours under its convention."""

from __future__ import annotations

from typing import Any

import ptflops
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch import Cost, FlopCounter, default_registry
from flopdispatch.conventions.ptflops import functions, is_counted, products, registry, rules_in
from flopdispatch.spec import OpCall, spec
from tests.pricing import overload_of

aten = torch.ops.aten


def theirs(model: nn.Module, *shape: int, **options: Any) -> int:
    """The tool's figure of one input of this shape."""
    macs, _ = ptflops.get_model_complexity_info(
        model, shape, as_strings=False, print_per_layer_stat=False, **options
    )
    assert isinstance(macs, int), "ptflops failed"
    return macs


def macs(run: Any, convention: Any = "ptflops") -> int:
    with FlopCounter(display=False, convention=convention) as counter, torch.no_grad():
        run()
    assert not counter.profile.uncounted
    return counter.macs


IMAGE, ROW, CUBE = (4, 8, 8), (4, 9), (4, 4, 6, 6)

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3), ROW),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE),
    (nn.Conv2d(4, 8, 3, groups=2, bias=False), IMAGE),
    (nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), IMAGE),
    (nn.Conv3d(4, 6, 3, dilation=(1, 2, 2)), CUBE),
    (nn.ConvTranspose1d(4, 6, 3), ROW),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), IMAGE),
    (nn.ConvTranspose3d(4, 6, 3, bias=False), CUBE),
    (nn.Linear(8, 5), IMAGE),
    (nn.Linear(8, 5, bias=False), (8,)),
    (nn.BatchNorm1d(4), ROW),
    (nn.BatchNorm2d(4), IMAGE),
    (nn.BatchNorm3d(4, affine=False), CUBE),
    (nn.InstanceNorm1d(4), ROW),
    (nn.InstanceNorm2d(4, affine=True), IMAGE),
    (nn.GroupNorm(2, 4), IMAGE),
    (nn.GroupNorm(2, 4, affine=False), IMAGE),
    (nn.LayerNorm(8), IMAGE),
    *((layer, IMAGE) for layer in (
        nn.ReLU(), nn.ReLU(inplace=True), nn.PReLU(), nn.PReLU(4), nn.ELU(), nn.LeakyReLU(),
        nn.ReLU6(), nn.ReLU6(inplace=True), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
        nn.Softmax(-1), nn.SELU(), nn.Hardtanh(), nn.Hardswish(), nn.Sigmoid(), nn.Tanh(),
        nn.LogSoftmax(-1), nn.Dropout(), nn.Identity(), nn.PixelShuffle(2), nn.Flatten(),
    )),
    *((getattr(nn, f"{kind}Pool{dims}d")(2), (4, *[8] * dims))
      for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for dims in (1, 2, 3)),
    *((getattr(nn, f"Adaptive{kind}Pool{dims}d")(1), (4, *[8] * dims))
      for kind in ("Max", "Avg") for dims in (1, 2, 3)),
    (nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), IMAGE),
    (nn.Upsample(scale_factor=2), ROW),
    (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    (nn.Upsample(size=(5, 7), mode="bicubic"), IMAGE),
    (nn.Upsample(scale_factor=2, mode="trilinear"), CUBE),
    *((kind(6, 5, batch_first=True, **options), (7, 6))
      for kind in (nn.LSTM, nn.GRU, nn.RNN)
      for options in ({}, {"bias": False}, {"num_layers": 2, "bidirectional": True})),
    (nn.RNN(6, 5, nonlinearity="relu", batch_first=True), (7, 6)),
    *((kind(6, 5), (6,)) for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)),
]  # fmt: skip

# Layers that come apart on the CPU: what is left of them is known by their scope only, in the face.
SCOPED = (nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


@pytest.mark.parametrize(
    ("layer", "shape"), [pytest.param(*row, id=f"{i}: {row[0]}") for i, row in enumerate(LAYERS)]
)
def test_a_layer_is_the_tools_to_the_digit(layer: nn.Module, shape: tuple[int, ...]) -> None:
    if isinstance(layer, SCOPED):
        convention: Any = rules_in(type(layer))
    else:
        convention = "ptflops"
    layer.eval()
    expected = theirs(layer, *shape)
    assert macs(lambda: layer(torch.zeros(1, *shape)), convention) == expected
    assert (expected > 0) == (is_counted(type(layer)) or type(layer) in (nn.SiLU, nn.Softmax))


class Calls(nn.Module):
    """A model that is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    "call",
    [
        functional.relu, functional.relu6, functional.elu, functional.gelu, functional.silu,
        lambda x: functional.relu(x, inplace=True),
        lambda x: functional.prelu(x, torch.ones(1)),
        lambda x: functional.softmax(x, -1),
        lambda x: functional.avg_pool2d(x, 2),
        lambda x: functional.max_pool2d(x, 2),
        lambda x: functional.max_pool1d(x[0], 2),
        lambda x: functional.adaptive_avg_pool2d(x, 1),
        lambda x: functional.adaptive_avg_pool2d(x, 3),
        lambda x: functional.adaptive_max_pool2d(x, 3),
        lambda x: functional.interpolate(x, scale_factor=2),
        lambda x: functional.interpolate(x, size=5, mode="bilinear", antialias=True),
        lambda x: torch.matmul(x, x),
        lambda x: torch.bmm(x[0], x[0]),
        lambda x: x[0, 0].mm(x[0, 0]),
        lambda x: torch.addmm(x[0, 0], x[0, 1], x[0, 2]),
        lambda x: torch.addmm(x[0, 0], x[0, 1], x[0, 2], beta=0),
        lambda x: torch.baddbmm(x[0], x[0], x[0]),
        lambda x: x.mean((2, 3)) + x.sigmoid().sum() * 2,
    ],
)  # fmt: skip
def test_a_function_is_the_tools_and_counts_once(call: Any) -> None:
    def late(x: Tensor) -> Any:
        """The tool patches functions where they are looked up when a model calls them."""
        return getattr(functional, call.__name__)(x)

    found = call if call.__name__ == "<lambda>" else late
    expected = theirs(Calls(found), *IMAGE)
    assert macs(lambda: call(torch.zeros(1, *IMAGE)), functions()) == expected


def test_what_may_be_a_module_counts_twice() -> None:
    """A ReLU of 24 elements: once as a module, once more as the function it calls."""
    x = torch.zeros(2, 3, 4)
    assert macs(lambda: functional.relu(x)) == 2 * 24 == theirs(nn.ReLU(), 2, 3, 4)
    assert macs(lambda: functional.relu(x), functions()) == 24


@pytest.mark.parametrize(
    ("run", "expected", "why"),
    [
        (lambda x: x + x * 2, 0, "`+` and `*` aren't patched"),
        (lambda x: x.mean((-2, -1)), 0, "a mean is no pooling"),
        (functional.selu, 0, "SELU is ELU with a scale"),
        (functional.hardtanh, 0, "only ReLU6's bounds count"),
        (lambda x: x @ x, 6 * 6 * 6, "products all count"),
        (lambda x: torch.einsum("ij,kj->ik", x, x), 6 * 6 * 6, "the same"),
        (lambda x: functional.linear(x, x, x[0]), 6 * 6 * 6 + 36, "products and biases"),
        (lambda x: functional.layer_norm(x, (6,)), 36, "one an element"),
    ],
)
def test_what_is_nothing_and_what_it_cannot_see(run: Any, expected: int, why: str) -> None:
    assert macs(lambda: run(torch.zeros(6, 6))) == expected, why


# Kernels that run a layer whole, by what the layer's own parts are.


def test_fused_attention() -> None:
    """2 heads, 3 queries, 5 keys of 4: 30·4 and 30·4 MACs, 30 softmax, 24 scaled."""

    def attend(device: str) -> Any:
        q, k = torch.zeros(1, 2, 3, 4, device=device), torch.zeros(1, 2, 5, 4, device=device)
        return functional.scaled_dot_product_attention(q, k, k)

    for convention in ("ptflops", functions()):
        for device in ("cpu", "meta"):
            found = macs(lambda: attend(device), convention)  # noqa: B023
            assert found == 30 * 4 + 30 * 4 + 30 + 24


def test_attention_on_meta_whose_queries_are_as_many_as_their_size_is_wide() -> None:
    """16 queries of 16: the keys' factor isn't taken for the queries'."""
    q = torch.zeros(1, 1, 16, 16, device="meta")
    expected = 2 * 16**3 + 256 + 256
    assert macs(lambda: functional.scaled_dot_product_attention(q, q, q)) == expected


def test_multi_head_attention_is_the_tools_fast_or_not() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            return self.attention(x, x, x, need_weights=False)

    net = Net().eval()
    expected = theirs(net, 5, 16)
    projected, scores = 4 * 5 * 16 * 17, 4 * 25
    assert expected == projected + scores * (2 * 4 + 1) + 5 * 16
    x = torch.zeros(1, 5, 16)
    with FlopCounter(display=False, convention="ptflops") as counter, torch.no_grad():
        net(x)
    assert aten._native_multi_head_attention.default in counter.profile.by_op()
    assert counter.macs == macs(lambda: net.to("meta")(x.to("meta"))) == expected


def test_an_encoder_layer_is_the_sum_of_its_parts() -> None:
    """5 positions of 16, 4 heads, 32 hidden; the activation is a function."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.zeros(1, 5, 16)
    attention = 4 * 5 * 16 * 17 + 4 * 25 * (2 * 4 + 1) + 5 * 16
    feed_forward = 5 * 32 * 17 + 5 * 32 + 5 * 16 * 33
    expected = attention + feed_forward + 2 * 5 * 16
    assert macs(lambda: layer(x)) == expected
    assert macs(lambda: layer.to("meta")(x.to("meta")), functions()) == expected


@pytest.mark.parametrize("mask", [False, True])
def test_deformable_convolution_is_the_tools(mask: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torchvision.ops.DeformConv2d(4, 6, 3, padding=1, groups=2)

        def forward(self, x: Tensor) -> Any:
            n, _, h, w = x.shape
            given = [x.new_zeros(n, 18, h, w), x.new_zeros(n, 9, h, w)]
            return self.layer(x, *given[: 1 + mask])

    net = Net()
    assert macs(lambda: net(torch.zeros(1, *IMAGE))) == theirs(net, *IMAGE)


@pytest.mark.parametrize(
    ("mode", "each"), [(2, 10), (3, 7), (0, 1), (1, 1)], ids=["LSTM", "GRU", "relu", "tanh"]
)
@pytest.mark.parametrize("biased", [False, True])
def test_a_recurrent_layer_by_cudnn(mode: int, each: int, biased: bool) -> None:
    """2 steps of 3, from 6 to 5, g gates: 6 rows of g·5·(6 + 5), 2·g·5 biases, 5 units."""
    gates = {2: 4, 3: 3}.get(mode, 1) * 5
    weights = [spec(gates, 6), spec(gates, 5), *[spec(gates)] * (2 * biased)]
    result = (spec(2, 3, 5), *[spec(1, 3, 5)] * 2, spec(0), spec(0))
    arguments = (spec(2, 3, 6), tuple(weights), 2 + 2 * biased, None, spec(1, 3, 5), None)
    call = OpCall(
        overload_of("_cudnn_rnn.default"),
        (*arguments, mode, 5, 0, 1, False, 0.0, False, False, (), None),
        (),
        result,
    )
    expected = 6 * gates * 11 + biased * 6 * 2 * gates + 6 * 5 * each
    assert registry().price(call).cost.macs == expected


@pytest.mark.parametrize(("name", "each"), [("lstm", 10), ("gru", 7)])
def test_a_fused_cell(name: str, each: int) -> None:
    """2 rows of 5 units; the products are operators of their own."""
    gates = spec(2, 20 if name == "lstm" else 15)
    biases = [spec(gates.shape[1])] * 2
    overload = overload_of(f"_thnn_fused_{name}_cell.default")
    call = OpCall(overload, (gates, gates, spec(2, 5), *biases), (), (spec(2, 5),) * 3)
    assert registry().price(call).cost.macs == 2 * 5 * each + 2 * 2 * gates.shape[1]


# The registry


def test_the_other_engine_counts_products_and_their_biases() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3)).eval()
    expected = 6 * 36 * 36 + 6 * 36 + 216 * 3 + 3
    assert theirs(net, *IMAGE, backend="aten") == expected
    assert macs(lambda: net(torch.zeros(1, *IMAGE)), products()) == expected


def test_a_backward_is_its_products() -> None:
    """y = x·Wᵀ + b, (2, 4) by (3, 4): 24 MACs and 6; the weight's gradient, 24."""
    layer = nn.Linear(4, 3)
    with FlopCounter(display=False, convention="ptflops") as counter:
        layer(torch.ones(2, 4)).relu().sum().backward()
    assert {
        phase: cost.macs for phase, cost in counter.profile.by_phase().items() if cost.macs
    } == {
        "forward": 24 + 6,
        "other": 2 * 6,
        "backward": 24,
    }


def test_only_macs_are_counted_and_bytes_stay() -> None:
    x = spec(1, 4, 8, 8)
    given: tuple[Any, ...] = (x, spec(4), spec(4), spec(4), spec(4), False, 0.1, 1e-5)
    call = OpCall(aten.native_batch_norm.default, given, (), (x, spec(0), spec(0)))
    price, default = registry().price(call), default_registry().price(call)
    assert price.cost.moving(0, 0) == Cost(macs=512)
    assert price.cost.nbytes == default.cost.nbytes
    assert price.family == default.family


def test_a_recording_is_priced_again() -> None:
    with FlopCounter(display=False) as counter, torch.no_grad():
        torchvision.models.squeezenet1_1().eval()(torch.zeros(1, 3, 64, 64))
    again = counter.profile.reprice("ptflops")
    assert again.convention == "ptflops"
    assert again.macs == theirs(torchvision.models.squeezenet1_1(), 3, 64, 64)
