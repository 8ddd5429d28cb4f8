"""What PyTorch holds its own counter and its module tracker to, as behaviours of ours."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name all of torch uses)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flopdispatch import Cost, FlopCounter, TensorSpec, default_registry
from tests.programs import Square, counted, macs_by_scope, state_of_torch

ONE = 512  # MACs of 8 rows through a linear layer of 8 by 8; as many for each of its gradients


def x(grad: bool = True) -> Tensor:
    return torch.randn(8, 8, requires_grad=grad)


# Autograd functions, TorchScript, pytrees, custom operators


def test_a_custom_function_is_counted_by_what_it_calls() -> None:
    data = x()
    assert counted(lambda: Square.apply(data)).macs == ONE
    assert counted(lambda: Square.apply(data).sum().backward()).macs == 3 * ONE


def test_scripted_functions_and_modules_are_counted() -> None:
    @torch.jit.script
    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b).relu()

    scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()))
    traced = torch.jit.trace(nn.Linear(8, 8, bias=False), x(grad=False))
    for function in (lambda data: product(data, data), scripted, traced):
        for _ in range(3):  # the third call is of an optimized graph
            expected = function(x())
            found: list[Tensor] = []
            data = x()
            profile = counted(lambda: found.append(function(data)))  # noqa: B023
            assert profile.macs == ONE
            assert found[0].shape == expected.shape


def test_a_model_that_is_optimized_for_inference_is_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    with torch.no_grad():
        frozen = torch.jit.optimize_for_inference(torch.jit.trace(model, torch.randn(1, 3, 8, 8)))
        data = torch.randn(1, 3, 8, 8)
        expected = frozen(data)
        found: list[Tensor] = []
        profile = counted(lambda: found.append(frozen(data)))
    assert torch.equal(found[0], expected)
    # TorchScript runs the convolution itself: it can't be counted, and isn't passed over.
    assert profile.macs == 0
    assert tuple(map(str, profile.assumptions)) == (
        "the scripted Sequential has operators that TorchScript runs itself, which are not seen "
        "and not counted: prim::mkldnn_convolution x1",
    )


def test_where_a_scripted_model_may_be_fused_the_report_says_so() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()))
    before = torch._C._jit_can_fuse_on_cpu()
    torch._C._jit_override_can_fuse_on_cpu(True)
    try:
        profile = counted(scripted, x(grad=False))
    finally:
        torch._C._jit_override_can_fuse_on_cpu(before)
    (assumption,) = profile.assumptions
    assert assumption.text.startswith(
        "TorchScript may fuse operators of the scripted Sequential on cpu"
    )
    assert profile.macs == ONE
    assert counted(scripted, x(grad=False)).assumptions == ()


Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda out: out,
        lambda out: (out,),
        lambda out: [out, None],
        lambda out: {"out": out, "n": 3},
        lambda out: {"deep": [({"out": out},)]},
        lambda out: Pair(out, "text"),
        lambda out: (item for item in [out]),
        lambda out: None,
    ],
    ids=["tensor", "tuple", "list", "dict", "deep", "namedtuple", "generator", "nothing"],
)
def test_a_module_may_return_anything(wrap: Any) -> None:
    class Wraps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8, bias=False)

        def forward(self, input: Any) -> Any:
            self.kept = self.linear(input["x"])
            return wrap(self.kept)

    model = Wraps()

    def run() -> None:
        model({"x": x(), "other": [1, "two"]})
        model.kept.sum().backward()

    assert macs_by_scope(counted(run)) == {"Wraps.linear": 3 * ONE}


def test_a_custom_operator_is_listed_until_it_has_a_formula() -> None:
    with torch.library._scoped_library("flopdispatch_test", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
        operator = torch.ops.flopdispatch_test.twice.default
        with pytest.warns(UserWarning, match=r"flopdispatch_test::twice\.default ran 2 times"):
            profile = counted(lambda: (operator(x()), operator(x())))
        assert profile.uncounted == {operator: 2}
        rules = default_registry().overlay("mine")

        @rules.formula(operator)
        def twice(x: TensorSpec) -> Cost:
            return Cost(muls=x.numel)

        assert profile.reprice(rules).total.muls == 2 * 64
        assert profile.reprice(rules).uncounted == {}


# Registration of hooks and patches, inference mode


def test_nothing_is_registered_that_the_block_does_not_take_away_again() -> None:
    before = state_of_torch()
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    with FlopCounter(display=False):
        model(x()).sum().backward()
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks
            assert not module._backward_pre_hooks
    assert state_of_torch() == before


@pytest.mark.parametrize("shape", ["mm", "linear", "conv", "attention"])
def test_inference_mode_counts_as_no_grad_does(shape: str) -> None:
    q = torch.randn(2, 4, 16, 8)
    programs = {
        "mm": (lambda: torch.randn(4, 5) @ torch.randn(5, 6), 120),
        "linear": (lambda: F.linear(torch.randn(2, 3, 5), torch.randn(6, 5)), 2 * 3 * 5 * 6),
        "conv": (
            lambda: F.conv2d(torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)),
            2 * 16 * 4 * 27,
        ),
        # q k' and a v: 16 · 16 · 8 each, for 2 · 4 heads.
        "attention": (lambda: F.scaled_dot_product_attention(q, q, q), 2 * 8 * 16 * 16 * 8),
    }
    program, expected = programs[shape]
    for mode in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
        with mode:
            assert counted(program).macs == expected


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_attention_costs_the_same_by_each_kernel(backend: SDPBackend) -> None:
    q, k, v = (torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3))
    one = 2 * 4 * 16 * 16 * 8  # one product of all heads

    def run(backward: bool) -> None:
        out = F.scaled_dot_product_attention(q, k, v)
        if backward:
            out.sum().backward()

    # Two products have four gradients. A kernel that keeps no scores computes them again, which
    # isn't counted: what a model costs would depend on the device.
    with sdpa_kernel(backend):
        assert counted(run, False).macs == 2 * one
        assert counted(run, True).macs == 6 * one


# Convolutions


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_convolutions_against_a_loop(stride: int, padding: int, dims: int) -> None:
    """Each element of the input goes to every tap of every output channel, padding or not."""
    layer = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims](
        2, 3, 3, stride=stride, padding=padding, bias=False
    )
    data = torch.randn(2, 2, *[4] * dims, requires_grad=True)
    macs = 0
    for _ in range(2):  # images
        for _ in range(4**dims):  # positions of the input
            for _ in range(2 * 3):  # its channels by the output's
                macs += 3**dims
    assert counted(layer, data).macs == macs
    assert counted(lambda: layer(data).sum().backward()).macs == 3 * macs


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("needs", ["image", "weight", "both"])
def test_a_convolutions_backward_is_a_convolution_for_each_gradient(
    groups: int, needs: str
) -> None:
    data = torch.randn(2, 4, 6, 6, requires_grad=needs != "weight")
    weight = torch.randn(8, 4 // groups, 3, 3, requires_grad=needs != "image")
    forward = 2 * 8 * 16 * (4 // groups) * 9
    gradients = 2 if needs == "both" else 1
    profile = counted(lambda: F.conv2d(data, weight, groups=groups).sum().backward())
    assert profile.macs == (1 + gradients) * forward
    assert profile.by_phase()["backward"].macs == gradients * forward


# The tracker: hierarchy, one that confuses, the backward


class Net(nn.Module):
    """A layer of its own, and a block that has one too."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        out: Tensor = x if self.inner is None else self.inner(x)
        return out


def test_a_hierarchy_has_a_row_for_each_level() -> None:
    model = Net(Net(Net()))
    profile = counted(lambda: model(x()).sum().backward())
    assert macs_by_scope(profile) == {
        "Net.layer": 3 * ONE, "Net.inner.layer": 3 * ONE, "Net.inner.inner.layer": 3 * ONE,
    }  # fmt: skip
    assert macs_by_scope(profile, own=False) == {
        "": 9 * ONE,
        "Net": 9 * ONE,
        "Net.layer": 3 * ONE,
        "Net.inner": 6 * ONE,
        "Net.inner.layer": 3 * ONE,
        "Net.inner.inner": 3 * ONE,
        "Net.inner.inner.layer": 3 * ONE,
    }


def test_a_hierarchy_that_confuses_is_read_as_it_is_called() -> None:
    """The root holds the inner module too, and calls its child past it."""

    class Confusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Net(Net())
            self.again = self.outer.inner

        def forward(self, x: Tensor) -> Tensor:
            inner: Any = self.outer.inner
            x = self.outer(x)  # outer.layer, outer.inner, outer.inner.layer
            x = inner.layer(x)  # inner's child from the root
            out: Tensor = inner(x)  # inner itself from the root
            return out

    model = Confusing()
    profile = counted(lambda: model(x()).sum().backward())
    assert profile.macs == 12 * ONE
    by_scope = macs_by_scope(profile)
    assert sum(by_scope.values()) == 12 * ONE
    assert by_scope["Confusing.outer.layer"] == 3 * ONE
    assert by_scope["Confusing.outer.inner.layer"] == 3 * ONE
    # From the root, `again` is the shorter way to the inner module and to its child.
    assert by_scope["Confusing.again.layer"] == 6 * ONE
    calls = {m.scope: m.calls for m in profile.modules}
    assert calls["Confusing.outer.inner"] == calls["Confusing.again"] == 1


def test_the_backward_is_told_from_the_forward_wherever_it_runs() -> None:
    model, seen = Net(Net()), []

    class Reports(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x @ x.detach()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            seen.append(torch._C._current_graph_task_id())
            return grads[0] @ grads[0]

    def run() -> None:
        out = Reports.apply(model(x()))
        for _ in range(2):
            out.sum().backward(retain_graph=True)

    profile = counted(run)
    assert len(seen) == 2
    phases = {phase: cost.macs for phase, cost in profile.by_phase().items()}
    assert phases == {"forward": 2 * ONE, "backward": 2 * 5 * ONE, "other": ONE}


def test_operators_on_meta_count_as_on_the_cpu() -> None:
    for device in ("cpu", "meta"):
        a, b = torch.randn(4, 5, device=device), torch.randn(5, 6, device=device)
        assert counted(lambda: a @ b).macs == 120  # noqa: B023
        assert counted(lambda: torch.einsum("ab,bc->ac", a, b)).macs == 120  # noqa: B023
        assert counted(lambda: torch.addmm(a @ b, a, b)).macs == 240  # noqa: B023
        assert counted(lambda: torch.bmm(a[None], b[None])).macs == 120  # noqa: B023
