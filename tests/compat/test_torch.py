"""FlopCounterMode beside torch's own: the same calls, names, counts and table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import flop_counter as theirs

from flopdispatch import CounterStateError, RegistryError, UncountedOperatorWarning
from flopdispatch.compat.torch import FlopCounterMode, flop_registry, register_flop_formula

aten = torch.ops.aten


@torch.library.custom_op("flopdispatch_compat::scaled", mutates_args=())
def scaled(x: Tensor, factor: float = 2.0) -> Tensor:
    """x times a factor."""
    return x * factor


MINE = torch.ops.flopdispatch_compat.scaled


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Formulas registered in a test are gone after it."""
    yield
    flop_registry.clear()
    theirs.flop_registry.pop(MINE, None)


class Blocks(nn.Module):
    """Modules in modules, a function, something outside of the inner ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.conv = nn.Conv1d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.first(x))
        return y @ y.transpose(1, 2)


def both(run: Callable[[], Any], **options: Any) -> tuple[Any, FlopCounterMode]:
    """torch's counter and ours after the same run."""
    with theirs.FlopCounterMode(display=False, **options) as theirs_:
        run()
    with FlopCounterMode(display=False, **options) as ours:
        run()
    return theirs_, ours


def forward() -> Tensor:
    out: Tensor = Blocks()(torch.ones(2, 3, 8))
    return out


# Those that only run in inference have no gradients to be wrong about.
MODELS = [
    "alexnet", "vgg11", "vgg13_bn", "resnet18", "resnet34", "resnet50", "wide_resnet50_2",
    "resnext50_32x4d", "densenet121", "googlenet", "inception_v3", "mobilenet_v2",
    "mobilenet_v3_small", "shufflenet_v2_x1_0", "squeezenet1_0", "mnasnet0_5", "efficientnet_b0",
    "mnasnet1_0", "convnext_tiny", "swin_t", "vit_b_32",
]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_models_counts_are_torchs(name: str) -> None:
    size = {"inception_v3": 75, "vit_b_32": 224}.get(name, 64)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options).eval()
        one, ours = both(lambda: model(torch.ones(1, 3, size, size)))
    assert ours.get_total_flops() == one.get_total_flops() > 0
    assert ours.get_flop_counts() == one.get_flop_counts()


def test_training_is_torchs_where_no_convolution_is_grouped() -> None:
    def run() -> None:
        forward().sum().backward()

    one, ours = both(run)
    assert ours.get_flop_counts()["Global"] == one.get_flop_counts()["Global"]


@pytest.mark.parametrize("depth", [0, 1, 2, 3, None])
def test_the_table_is_torchs(depth: int | None) -> None:
    one, ours = both(forward, depth=depth)
    assert ours.get_table() == one.get_table()
    assert ours.get_table(1) == one.get_table(1)


def test_what_is_outside_of_modules_has_a_row() -> None:
    def run() -> None:
        out = forward()
        out @ out

    one, ours = both(run)
    assert "Global" in ours.get_table()
    assert ours.get_table() == one.get_table()


def test_nothing_is_a_table_too() -> None:
    one, ours = both(lambda: torch.ones(3) + 1)
    assert ours.get_table() == one.get_table()
    assert ours.get_flop_counts() == {}
    assert FlopCounterMode().get_total_flops() == 0
    assert FlopCounterMode().flop_counts == {}
    with pytest.raises(CounterStateError, match="enter"):
        FlopCounterMode().profile  # noqa: B018


def test_the_table_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with FlopCounterMode() as mode:
        forward()
    assert capsys.readouterr().out == mode.get_table() + "\n"
    mode = FlopCounterMode()

    def fails() -> None:
        with mode:
            forward()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert capsys.readouterr().out == ""
    assert mode.get_total_flops() > 0


def test_a_second_block_begins_at_nothing_and_totals_are_live() -> None:
    mode = FlopCounterMode(display=False)
    for _ in range(2):
        with mode:
            forward()
            inside = mode.get_total_flops()
        assert inside == mode.get_total_flops() == 2 * (2 * 3 * 8 * 16 * 2 + 2 * 8 * 4 * 9 + 256)


# Formulas of one's own


def of_shapes(x: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """7 for each element, and what else is given."""
    assert not isinstance(out_shape, Tensor)
    return 7 * int(torch.Size(x).numel()) + sum(map(int, args))


def of_tensors(x: Tensor, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return 5 * x.numel() + int(out_val.numel()) + sum(map(int, args))


of_tensors.__dict__["_get_raw"] = True


@pytest.mark.parametrize("formula", [of_shapes, of_tensors])
def test_a_mapping_is_called_as_torch_calls_it(formula: Any) -> None:
    def run() -> None:
        MINE(torch.ones(3))
        MINE(torch.ones(3), 4.0)

    one, ours = both(run, custom_mapping={MINE: formula})
    expected = {of_shapes: 2 * 7 * 3 + 4, of_tensors: 2 * 6 * 3 + 4}[formula]
    assert ours.get_total_flops() == one.get_total_flops() == expected
    assert ours.get_flop_counts() == one.get_flop_counts()
    assert ours.get_unsupported_ops() == {}


def test_formulas_are_not_part_of_the_program() -> None:
    """Making tensors for one inside of the block counts nothing."""
    with FlopCounterMode(display=False, custom_mapping={MINE: of_tensors}) as mode:
        MINE(torch.ones(3))
        totals = [mode.get_total_flops() for _ in range(3)]
    assert totals == [18, 18, 18] == [mode.get_total_flops()] * 3
    names = {str(call.overload) for call in mode.profile.calls}
    assert names == {"aten.ones.default", "flopdispatch_compat.scaled.default"}


def test_a_built_in_formula_can_be_replaced() -> None:
    mapping = {aten.mm: lambda a, b, out_shape=None, **kwargs: a[0]}
    one, ours = both(lambda: torch.ones(5, 2) @ torch.ones(2, 3), custom_mapping=mapping)
    assert ours.get_total_flops() == one.get_total_flops() == 5


@pytest.mark.parametrize("get_raw", [False, True])
def test_registered_formulas_hold_for_all(get_raw: bool) -> None:
    formula = of_tensors if get_raw else of_shapes
    assert register_flop_formula(MINE, get_raw=get_raw)(formula) is formula
    with FlopCounterMode(display=False) as mode:
        MINE(torch.ones(3))
    assert mode.get_total_flops() == (18 if get_raw else 21)
    with pytest.raises(RegistryError, match="already"):
        register_flop_formula([MINE])(formula)


def test_formulas_that_a_library_registered_with_torch_hold_too() -> None:
    theirs.register_flop_formula(MINE)(of_shapes)
    with FlopCounterMode(display=False) as mode:
        MINE(torch.ones(3))
    assert mode.get_total_flops() == 21


def test_what_nobody_knows_is_listed() -> None:
    mode = FlopCounterMode(display=False)

    def run() -> None:
        with mode:
            MINE(torch.ones(3))
            MINE(torch.ones(3))

    with pytest.warns(UncountedOperatorWarning, match="scaled"):
        run()
    assert mode.get_unsupported_ops() == {"flopdispatch_compat::scaled.default": 2}


def test_what_is_no_operator_has_no_formula() -> None:
    with pytest.raises(RegistryError, match="my_op"):
        FlopCounterMode(custom_mapping={"mm": of_shapes})
    with pytest.raises(ValueError, match="my_op"):
        register_flop_formula(len)(of_shapes)


# What torch's counter gets wrong


def test_the_wrong_module_and_the_wrong_branch() -> None:
    """Three projections that share an input have a third each; a cond runs one branch."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.q(x) + self.k(x) + self.v(x)
            return out

    with FlopCounterMode(display=False) as mode:
        Heads()(torch.ones(4, 8, requires_grad=True)).sum().backward()
        torch.cond(torch.tensor(False), lambda x: x @ x, lambda x: x + 1, (torch.ones(4, 4),))
    counts = {name: sum(found.values()) for name, found in mode.get_flop_counts().items()}
    each = 3 * 2 * 4 * 8 * 8
    assert counts == {
        "Global": 3 * each, "Heads": 3 * each, "Heads.q": each, "Heads.k": each, "Heads.v": each,
    }  # fmt: skip


def test_interpolation_is_no_product() -> None:
    with FlopCounterMode(display=False) as mode:
        functional.interpolate(torch.ones(20, 3, 10, 10), scale_factor=2, mode="bilinear")
    assert mode.get_total_flops() == 0
    with FlopCounterMode(display=False, convention="flopdispatch") as mode:
        functional.interpolate(torch.ones(20, 3, 10, 10), scale_factor=2, mode="bilinear")
    assert mode.profile.macs == 4 * 20 * 3 * 20 * 20


def test_options_that_need_nothing_are_taken() -> None:
    with pytest.warns(UserWarning, match="mods"):
        mode = FlopCounterMode(Blocks(), skip_unsupported=True, display=False)
    with mode:
        forward()
    assert mode.get_total_flops() > 0
