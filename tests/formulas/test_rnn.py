from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.formulas.rnn import rules
from flopdispatch.rules import Price
from flopdispatch.spec import OpCall, TensorSpec, signature, spec
from tests import oracles_rnn as loop
from tests.dispatched import Dispatched
from tests.oracles import Tally
from tests.pricing import price, scaled

aten = torch.ops.aten
f64 = torch.float64
RELU, TANH, LSTM, GRU = range(4)
EVERYTHING = [True, True, True, True]


def module(mode: int, *args: int, **options: Any) -> torch.nn.RNNBase:
    """The layer of a mode."""
    if mode in (RELU, TANH):
        return torch.nn.RNN(*args, nonlinearity=("relu", "tanh")[mode], **options)
    return (torch.nn.LSTM if mode == LSTM else torch.nn.GRU)(*args, **options)


def specs(*tensors: torch.Tensor) -> tuple[TensorSpec, ...]:
    return tuple(spec(*t.shape, dtype=t.dtype) for t in tensors)


def whole(op: Any, layer: torch.nn.RNNBase, x: torch.Tensor, **given: Any) -> Price:
    """The price of a kernel that runs all of the layer, on specs: no CPU has one."""
    rows, directions = x.shape[:-1].numel(), 2 if layer.bidirectional else 1
    batch = x.shape[1] if x.ndim == 3 else given["batch_sizes"][0]
    width = layer.proj_size or layer.hidden_size
    weight = specs(*layer.parameters())
    state = spec(directions * layer.num_layers, batch, width)
    cell = spec(directions * layer.num_layers, batch, layer.hidden_size)
    output = spec(*x.shape[:-1], width * directions)
    values = {
        "input": specs(x)[0],
        "weight": weight,
        "weight_stride0": len(weight) // directions // layer.num_layers,
        "weight_buf": spec(sum(w.numel for w in weight)),
        "hx": state,
        "cx": cell if isinstance(layer, torch.nn.LSTM) else None,
        "hidden_size": layer.hidden_size,
        "proj_size": layer.proj_size,
        "num_layers": layer.num_layers,
        "batch_first": False,
        "dropout": layer.dropout,
        "train": True,
        "bidirectional": layer.bidirectional,
        "batch_sizes": (),
        "dropout_state": None,
        "output": output,
        "grad_output": output,
        "grad_hy": None,
        "grad_cy": None,
        "reserve": TensorSpec((rows,), torch.uint8, (1,)),
        "output_mask": tuple(EVERYTHING),
    } | given
    names, _ = signature(op)
    if "output" in names:
        result: Any = (specs(x)[0], state, values["cx"], weight)
    else:
        result = (output, state, values["cx"], values["reserve"], values["weight_buf"])
    call = OpCall(op, tuple(values[name] for name in names), (), result)
    return default_registry().price(call)


def operations(priced: Price) -> Cost:
    assert priced.state == "counted"
    assert priced.family == "rnn"
    return priced.cost.moving(0, 0)


CUDNN, CUDNN_BACKWARD = aten._cudnn_rnn.default, aten._cudnn_rnn_backward.default
MIOPEN, MIOPEN_BACKWARD = aten.miopen_rnn.default, aten.miopen_rnn_backward.default
X = torch.ones(5, 3, 8)  # 15 rows

# (why, in words; mode; layer's arguments; forward; backward)
WHOLE = [
    (
        "15 rows by 16 units: h·(8 + 16) MACs, two biases; a + b and max. Back: twice the MACs, "
        "14 adds a bias, the gradient of max, one add where gradients meet",
        RELU,
        ((8, 16), {}),
        Cost(macs=15 * 16 * 24, adds=240 * (2 + 1), comparisons=240),
        Cost(macs=2 * 15 * 16 * 24, adds=14 * 2 * 16 + 240, comparisons=240),
    ),
    (
        "tanh instead; back g·(1 - y·y)",
        TANH,
        ((8, 16), {}),
        Cost(macs=15 * 16 * 24, adds=240 * (2 + 1), transcendentals=240),
        Cost(macs=2 * 15 * 16 * 24, adds=14 * 2 * 16 + 240 * 2, muls=240 * 2),
    ),
    (
        "4 gates: 8 bias adds, 4 of products, 3 sigmoids of add, div, exp, sign, 2 tanh, 3 muls "
        "1 add. Back: 3 sigmoids, 2 tanh of 2 muls 1 add, 6 muls, 1 add, and one where they meet",
        LSTM,
        ((8, 16), {}),
        Cost(
            macs=15 * 64 * 24,
            adds=240 * (8 + 4 + 3 + 1),
            muls=240 * 3,
            divs=240 * 3,
            transcendentals=240 * 5,
            comparisons=240 * 3,
        ),
        Cost(
            macs=2 * 15 * 64 * 24,
            adds=14 * 2 * 64 + 240 * (3 + 2 + 1 + 1),
            muls=240 * (6 + 4 + 6),
        ),
    ),
    (
        "3 gates: 6 bias adds, 3 of products, 2 sigmoids, 1 tanh, 2 muls 2 adds. Back: 2 sigmoids "
        "and 1 tanh, 4 muls, 1 add, and two where they meet",
        GRU,
        ((8, 16), {}),
        Cost(
            macs=15 * 48 * 24,
            adds=240 * (6 + 3 + 2 + 2),
            muls=240 * 2,
            divs=240 * 2,
            transcendentals=240 * 3,
            comparisons=240 * 2,
        ),
        Cost(
            macs=2 * 15 * 48 * 24,
            adds=14 * 2 * 48 + 240 * (2 + 1 + 1 + 2),
            muls=240 * (4 + 2 + 4),
        ),
    ),
    (
        "two layers of two directions, no bias: 8 then 32 inputs; back, two directions' input "
        "gradients are added: 15 rows of 8 and of 32",
        TANH,
        ((8, 16, 2), {"bidirectional": True, "bias": False}),
        Cost(
            macs=2 * 15 * 16 * (8 + 16) + 2 * 15 * 16 * (32 + 16),
            adds=4 * 240,
            transcendentals=4 * 240,
        ),
        Cost(
            macs=2 * (2 * 15 * 16 * (8 + 16) + 2 * 15 * 16 * (32 + 16)),
            adds=4 * 240 * 2 + 15 * (8 + 32),
            muls=4 * 240 * 2,
        ),
    ),
    (
        "outputs projected from 16 to 4: 4·16 MACs more, 4 and not 16 recurrent inputs, and "
        "gradients meet at 4 outputs",
        LSTM,
        ((8, 16), {"proj_size": 4, "bias": False}),
        Cost(
            macs=15 * (64 * (8 + 4) + 4 * 16),
            adds=240 * (4 + 3 + 1),
            muls=240 * 3,
            divs=240 * 3,
            transcendentals=240 * 5,
            comparisons=240 * 3,
        ),
        Cost(
            macs=2 * 15 * (64 * (8 + 4) + 4 * 16),
            adds=240 * (3 + 2 + 1) + 15 * 4,
            muls=240 * (6 + 4 + 6),
        ),
    ),
    (
        "dropout between two layers: output·mask·scale, and its gradient",
        RELU,
        ((16, 16, 2), {"dropout": 0.5, "bias": False}),
        Cost(macs=15 * 16 * 32, adds=240, comparisons=240),
        Cost(macs=2 * 15 * 16 * 32, adds=240, comparisons=240),
    ),
]


@pytest.mark.parametrize(("why", "mode", "layer", "forth", "back"), WHOLE)
def test_hand_arithmetic_of_whole_layers(
    why: str, mode: int, layer: tuple[Any, Any], forth: Cost, back: Cost
) -> None:
    args, options = layer
    net = module(mode, *args, **options)
    x = torch.ones(5, 3, args[0])
    if "dropout" in options:
        masks = Cost(muls=240 * 2)
        forth, back = scaled(forth, 2) + masks, scaled(back, 2) + masks
    for op in (CUDNN, MIOPEN) if not net.proj_size else (CUDNN,):
        assert operations(whole(op, net, x, mode=mode)) == forth, why
    for op in (CUDNN_BACKWARD, MIOPEN_BACKWARD) if not net.proj_size else (CUDNN_BACKWARD,):
        assert operations(whole(op, net, x, mode=mode)) == back, why


def test_dropout_is_for_training() -> None:
    net = module(GRU, 8, 16, 2, dropout=0.5)
    plain = module(GRU, 8, 16, 2)
    for op in (CUDNN, CUDNN_BACKWARD):
        asleep = operations(whole(op, net, X, mode=GRU, train=False))
        assert asleep == operations(whole(op, plain, X, mode=GRU))


def test_a_packed_sequence_costs_its_rows() -> None:
    for mode in (TANH, LSTM, GRU):
        net = module(mode, 8, 16, 2, bidirectional=True)
        for op in (CUDNN, CUDNN_BACKWARD):
            padded = operations(whole(op, net, X, mode=mode))
            full = whole(op, net, torch.ones(15, 8), mode=mode, batch_sizes=(3, 3, 3, 3, 3))
            ragged = whole(op, net, torch.ones(15, 8), mode=mode, batch_sizes=(9, 5, 1))
            assert operations(full) == operations(ragged) == padded


def test_what_the_mask_leaves_out_is_not_computed() -> None:
    net = module(LSTM, 8, 16, 2, bidirectional=True)
    every = operations(whole(CUDNN_BACKWARD, net, X, mode=LSTM))
    no_input = whole(CUDNN_BACKWARD, net, X, mode=LSTM, output_mask=(False, True, True, True))
    no_weights = whole(CUDNN_BACKWARD, net, X, mode=LSTM, output_mask=(True, True, True, False))
    # the first layer's product with both directions' (64, 8), and their sum
    assert every == operations(no_input) + Cost(macs=15 * 2 * 64 * 8, adds=15 * 8)
    matrices = 2 * 64 * (8 + 16) + 2 * 64 * (32 + 16)
    assert every == operations(no_weights) + Cost(macs=15 * matrices, adds=14 * 4 * 2 * 64)


def test_metal_costs_what_cuda_costs() -> None:
    net = module(LSTM, 8, 16, 2, bidirectional=True, dropout=0.5)
    state, params = (spec(4, 3, 16), spec(4, 3, 16)), specs(*net.parameters())
    given = {
        "input": spec(5, 3, 8),
        "hx": state,
        "params": params,
        "has_biases": True,
        "num_layers": 2,
        "dropout": 0.5,
        "train": True,
        "bidirectional": True,
        "batch_first": False,
    }
    output = spec(5, 3, 32)
    forth = OpCall(aten._lstm_mps.default, (), tuple(given.items()), (output, *state))
    back = OpCall(aten.lstm_mps_backward.default, (), tuple(given.items()), (spec(5, 3, 8),))
    cuda = [operations(whole(op, net, X, mode=LSTM)) for op in (CUDNN, CUDNN_BACKWARD)]
    assert operations(default_registry().price(forth)) == cuda[0]
    assert operations(default_registry().price(back)) == cuda[1]


def test_the_weights_buffer_is_read_once() -> None:
    net = module(GRU, 8, 16)
    weights = 48 * (8 + 16 + 2) * 4
    forth = whole(CUDNN, net, X, mode=GRU).cost
    assert forth.bytes_read == 15 * 8 * 4 + weights + 3 * 16 * 4
    assert forth.bytes_written == 15 * 16 * 4 + 3 * 16 * 4 + 15
    back = whole(CUDNN_BACKWARD, net, X, mode=GRU).cost
    assert back.bytes_read == 15 * 8 * 4 + weights + 3 * 16 * 4 + 2 * 15 * 16 * 4 + 15
    assert back.bytes_written == 15 * 8 * 4 + 3 * 16 * 4 + weights


# Loops


shape = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))


def since(tally: Tally, before: dict[str, int]) -> Cost:
    """What has been tallied after `before`."""
    return Cost(**{name: times - before.get(name, 0) for name, times in tally.counts.items()})


def looped(
    net: torch.nn.RNNBase, mode: int, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[Cost, Cost, torch.Tensor, list[torch.Tensor]]:
    """The loops' costs forward and back, their output, and gradients of x and the weights."""
    tally = Tally()
    states = zip(loop.nested(tally, h), loop.nested(tally, c))
    weights = [[loop.nested(tally, w) for w in group] for group in net.all_weights]
    ways = [
        loop.Direction(mode, group, net.bidirectional and at % 2 == 1, *state)
        for at, (group, state) in enumerate(zip(weights, states))
    ]
    directions = 2 if net.bidirectional else 1
    layers = [ways[at : at + directions] for at in range(0, len(ways), directions)]
    output = loop.values(loop.forward(tally, layers, loop.nested(tally, x)))
    forth, before = tally.cost, dict(tally.counts)
    dx, dweights = loop.backward(tally, layers, loop.nested(tally, slope(output)))
    gradients = [loop.values(dx), *map(loop.values, dweights)]
    return forth, since(tally, before), output, gradients


def slope(output: torch.Tensor) -> torch.Tensor:
    """A gradient of the output that differs from element to element."""
    return torch.linspace(-1, 1, output.numel(), dtype=f64).view(output.shape)


def check(
    mode: int, sizes: tuple[int, int, int, int], options: dict[str, Any], seed: int
) -> tuple[Cost, Cost, torch.nn.RNNBase, tuple[torch.Tensor, ...]]:
    """The loops' costs, once their values agree with torch's in float64."""
    steps, batch, features, hidden = sizes
    torch.manual_seed(seed)
    net = module(mode, features, hidden, dtype=f64, **options)
    x = torch.randn(steps, batch, features, dtype=f64, requires_grad=True)
    stacked = net.num_layers * (2 if net.bidirectional else 1)
    h = torch.randn(stacked, batch, net.proj_size or hidden, dtype=f64)
    c = torch.randn(stacked, batch, hidden, dtype=f64)
    out, _ = net(x, (h, c) if mode == LSTM else h)
    forth, back, value, gradients = looped(net, mode, x.detach(), h, c)
    torch.testing.assert_close(value, out.detach())
    expected = torch.autograd.grad(out, [x, *net.parameters()], slope(out))
    for got, want in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, want)
    return forth, back, net, (x.detach(), h, c)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(max_examples=25)
@given(
    mode=st.sampled_from([RELU, TANH, LSTM, GRU]),
    sizes=shape,
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    projected=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_whole_layer_is_the_loop_through_time(
    *,
    mode: int,
    sizes: tuple[int, int, int, int],
    layers: int,
    bidirectional: bool,
    bias: bool,
    projected: bool,
    seed: int,
) -> None:
    options: dict[str, Any] = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias}
    if projected and mode == LSTM:
        sizes = (*sizes[:3], 3)
        options["proj_size"] = 2
    forth, back, net, (x, _, _) = check(mode, sizes, options, seed)
    assert operations(whole(CUDNN, net, x, mode=mode)) == forth
    assert operations(whole(CUDNN_BACKWARD, net, x, mode=mode)) == back
    if not net.proj_size:
        assert operations(whole(MIOPEN, net, x, mode=mode)) == forth
        assert operations(whole(MIOPEN_BACKWARD, net, x, mode=mode)) == back


@settings(max_examples=10)
@given(sizes=shape, bias=st.booleans(), seed=st.integers(0, 99))
def test_a_onednn_layer_is_the_loop_through_time(
    sizes: tuple[int, int, int, int], bias: bool, seed: int
) -> None:
    forth, back, net, (x, h, c) = check(LSTM, sizes, {"bias": bias}, seed)
    net, x = net.float(), x.float().requires_grad_()
    with Dispatched() as calls:
        out, _ = net(x, (h.float(), c.float()))
        out.sum().backward()
    assert calls.total("mkldnn_rnn_layer") == forth
    assert calls.total("mkldnn_rnn_layer_backward") == back


def test_an_lstm_without_biases_passes_matrices_that_are_not_read() -> None:
    moved = []
    for bias in (True, False):
        net, x = module(LSTM, 8, 16, bias=bias), X.clone().requires_grad_()
        with Dispatched() as calls:
            net(x)[0].sum().backward()
        prices = {str(op): priced.cost for op, priced in calls.prices}
        moved.append([prices[f"aten.mkldnn_rnn_layer{end}.default"] for end in ("", "_backward")])
    for with_biases, without in zip(*moved):
        assert with_biases.bytes_read == without.bytes_read + 2 * 64 * 4


def test_an_lstm_kernel_reads_and_writes_everything_once() -> None:
    net = module(LSTM, 8, 16)
    with Dispatched() as calls, torch.no_grad():
        net(X)
    (moved,) = (p.cost for op, p in calls.prices if op is aten.mkldnn_rnn_layer.default)
    assert moved.bytes_read == 4 * (15 * 8 + 64 * (8 + 16 + 2) + 2 * 3 * 16)
    assert moved.bytes_written >= 4 * (15 * 16 + 2 * 3 * 16)


def test_a_onednn_backward_reads_what_the_forward_has_kept() -> None:
    weights = [torch.ones(64, 8), torch.ones(64, 16), torch.ones(64), torch.ones(64)]
    state, options = torch.ones(3, 16), (LSTM, 16, 1, True)
    out, hy, cy, workspace = aten.mkldnn_rnn_layer(
        X, *weights, state, state, False, [], *options, False, False, True
    )
    moved = price(
        aten.mkldnn_rnn_layer_backward.default,
        *(X, *weights, state, state, out, hy, cy, torch.ones_like(out), None, None),
        *(False, *options, True, False, [], False, workspace),
    ).cost
    kept = workspace.numel() * workspace.itemsize
    matrices_and_biases = 64 * (8 + 16 + 2)
    assert moved.bytes_read == 4 * (15 * 8 + matrices_and_biases + 4 * 3 * 16 + 2 * 15 * 16) + kept
    assert moved.bytes_written == 4 * (15 * 8 + matrices_and_biases + 2 * 3 * 16)


# Devices


def test_the_published_lstm() -> None:
    """LSTM(8, 16) on (5, 3, 8): 46,080 FLOPs in products forward, 138,240 with backward."""
    net, x = module(LSTM, 8, 16), X.clone().requires_grad_()
    with Dispatched() as calls:
        net(x)[0].sum().backward()
    forward = 2 * calls.total("mkldnn_rnn_layer").macs
    assert forward == 2 * 5 * 3 * (4 * 16 * 8 + 4 * 16 * 16) == 46_080
    assert forward + 2 * calls.total("mkldnn_rnn_layer_backward").macs == 138_240


def runs(
    mode: int, device: str, options: dict[str, Any]
) -> tuple[torch.nn.RNNBase, tuple[Cost, Cost]]:
    """The costs forward and back on a device, with every gradient asked for."""
    net = module(mode, 8, 16, device=device, **options)
    stacked = net.num_layers * (2 if net.bidirectional else 1)

    def tensor(*sizes: int) -> torch.Tensor:
        return torch.ones(*sizes, device=device, requires_grad=True)

    h, c = tensor(stacked, 3, net.proj_size or 16), tensor(stacked, 3, 16)
    with Dispatched() as forth:
        out = net(tensor(5, 3, 8), (h, c) if mode == LSTM else h)[0]
    with Dispatched() as back:
        out.backward(torch.ones_like(out))
    return net, (forth.total(), back.total())


@pytest.mark.parametrize("mode", [RELU, TANH, LSTM, GRU])
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}],
    ids=["plain", "no bias", "two layers and directions"],
)
def test_all_devices_agree(mode: int, options: dict[str, Any]) -> None:
    net, (cpu, cpu_back) = runs(mode, "cpu", options)
    _, (meta, meta_back) = runs(mode, "meta", options)
    cuda = operations(whole(CUDNN, net, X, mode=mode))
    cuda_back = operations(whole(CUDNN_BACKWARD, net, X, mode=mode))
    assert cpu == meta == cuda
    assert cpu_back.macs == meta_back.macs == cuda_back.macs == 2 * cuda.macs
    assert meta_back.muls == cpu_back.muls == cuda_back.muls


@pytest.mark.parametrize("mode", [RELU, TANH, LSTM, GRU])
def test_grad_mode_does_not_matter(mode: int) -> None:
    net, totals = module(mode, 8, 16, 2), []
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context(), Dispatched() as calls:
            net(X)
        totals.append(calls.total())
    assert totals[0] == totals[1] == totals[2]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projected_outputs_agree_on_all_devices() -> None:
    net, (cpu, cpu_back) = runs(LSTM, "cpu", {"proj_size": 4})
    _, (meta, meta_back) = runs(LSTM, "meta", {"proj_size": 4})
    assert cpu == meta == operations(whole(CUDNN, net, X, mode=LSTM))
    cuda_back = operations(whole(CUDNN_BACKWARD, net, X, mode=LSTM))
    assert cpu_back.macs == meta_back.macs == cuda_back.macs


def test_every_operator_of_the_family_has_a_rule() -> None:
    names = [
        "mkldnn_rnn_layer.default",
        "mkldnn_rnn_layer_backward.default",
        "_cudnn_rnn.default",
        "_cudnn_rnn_backward.default",
        "miopen_rnn.default",
        "miopen_rnn_backward.default",
        "_lstm_mps.default",
        "lstm_mps_backward.default",
        "_thnn_fused_lstm_cell.default",
        "_thnn_fused_lstm_cell_backward_impl.default",
        "_thnn_fused_gru_cell.default",
        "_thnn_fused_gru_cell_backward.default",
    ]
    assert {rule.overload for rule in rules} == set(overloads(*names))
