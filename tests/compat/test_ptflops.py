"""The face of ptflops: its arguments, its strings, and models left as they were."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ptflops
import pytest
import torch
import torchvision
from torch import Tensor, nn

from flopdispatch import ArgumentError, FlopCounter
from flopdispatch.compat.ptflops import (
    FLOPS_BACKEND,
    flops_to_string,
    get_model_complexity_info,
    params_to_string,
)

aten = torch.ops.aten


def numbers(model: nn.Module, shape: Any, **options: Any) -> tuple[Any, Any]:
    return get_model_complexity_info(
        model, shape, as_strings=False, print_per_layer_stat=False, **options
    )


def macs(model: nn.Module, shape: Any, **options: Any) -> Any:
    return numbers(model, shape, **options)[0]


def test_resnet50_is_the_documented_figure() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet50()
    found = get_model_complexity_info(model, (3, 224, 224), print_per_layer_stat=False)
    assert found == ("4.13 GMac", "25.56 M")
    assert numbers(model, (3, 224, 224)) == (4_132_436_968, 25_557_032)


# Strings


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 999_999, 10**6, 25_557_032, 10**9, 4.5e12])
@pytest.mark.parametrize("precision", [0, 2, 4])
def test_numbers_are_written_as_the_tool_does(number: float, precision: int) -> None:
    for unit in (None, "GMac", "MMac", "KMac", "Mac", "TMac"):
        ours = flops_to_string(number, unit, precision)
        assert ours == ptflops.flops_to_string(number, unit, precision)
    for unit in (None, "B", "M", "K", "k", ""):
        ours = params_to_string(number, unit, precision)
        assert ours == ptflops.params_to_string(number, unit, precision)


def test_units_and_precision() -> None:
    """The figure of a layer of 8,000 products and 8 biases."""
    model = nn.Linear(1000, 8)
    found = get_model_complexity_info(
        model, (1000,), print_per_layer_stat=False, flops_units="MMac", param_units="K",
        output_precision=3,
    )  # fmt: skip
    assert found == ("0.008 MMac", "8.008 K")


# The printout


class Net(nn.Module):
    """A function, a parameter of its own, a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.layer = nn.Linear(4, 4, bias=False)
        self.active = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.active(self.layer(x))
        out: Tensor = self.layer(x) @ x.T * self.scale[0]
        return out


PRINTED = """\
Net(
  20, 100.000% Params, 44.0 Mac, 100.000% MACs, 
  (layer): Linear(16, 80.000% Params, 32.0 Mac, 72.727% MACs, in_features=4, out_features=4, bias=False)
  (active): ReLU(0, 0.000% Params, 8.0 Mac, 18.182% MACs, )
  (same): Linear(16, 80.000% Params, 32.0 Mac, 72.727% MACs, in_features=4, out_features=4, bias=False)
)
"""  # noqa: E501, W291  as ptflops has it


def shared() -> Net:
    """The layer by another name as well."""
    model = Net()
    model.add_module("same", model.layer)
    return model


def test_the_printout_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """2·16 products of the layer, 8 for 4 elements of ReLU, 4 products in the module itself."""
    assert get_model_complexity_info(shared(), (4,)) == ("44 Mac", "20")
    assert capsys.readouterr().out == PRINTED
    stream = io.StringIO()
    get_model_complexity_info(shared(), (4,), ost=stream)
    assert stream.getvalue() == PRINTED
    assert capsys.readouterr().out == ""


def test_nothing_is_printed_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    macs(Net(), (4,))
    assert capsys.readouterr() == ("", "")


def test_verbose_names_what_counts_as_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Sequential(nn.Tanh()), Net())
    stream = io.StringIO()
    macs(model, (4,), verbose=True, ost=stream)
    assert stream.getvalue().splitlines() == [
        f"Warning: module {name} is treated as a zero-op." for name in ("Dropout", "Tanh")
    ]


def test_classes_that_print_themselves_do() -> None:
    class Own(nn.Linear):
        def __repr__(self) -> str:
            return f"Own of {self.in_features}"

    stream = io.StringIO()
    get_model_complexity_info(nn.Sequential(Own(4, 2)), (4,), ost=stream)
    assert "(0): Own of 4\n" in stream.getvalue()


def test_the_other_engine_by_name_or_enum() -> None:
    """Products and biases only: a linear layer twice, and the functional product."""
    for backend in ("aten", FLOPS_BACKEND.ATEN, ptflops.FLOPS_BACKEND.ATEN):
        assert macs(Net(), (4,), backend=backend) == 32 + 4
    for backend in ("pytorch", FLOPS_BACKEND.PYTORCH, ptflops.FLOPS_BACKEND.PYTORCH):
        assert macs(Net(), (4,), backend=backend) == 44


def test_the_other_engine_names_operators() -> None:
    stream = io.StringIO()
    get_model_complexity_info(
        Net(), (4,), backend="aten", ost=stream, verbose=True, ignore_modules=[aten.relu]
    )
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Warning: aten.relu operation is ignored"
    assert "Warning: aten.mul operation is treated as a zero-op" in lines
    assert lines[lines.index("Total:36 Mac") :] == [
        "Total:36 Mac", "Module:  Global", "aten.mm: 36 Mac", "",
        "Module:  layer", "aten.mm: 32 Mac", "",
    ]  # fmt: skip


# Inputs


def test_the_constructor_is_given_the_resolution_and_makes_keywords() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(10, 4)
            self.image = nn.Linear(3, 4)

        def forward(self, image: Tensor, *, words: Tensor) -> dict[str, Tensor]:
            return {"out": self.image(image) @ self.words(words).transpose(1, 2)}

    seen: list[Any] = []

    def given(shape: tuple[int, ...]) -> dict[str, Tensor]:
        seen.append(shape)
        return {"image": torch.zeros(2, *shape), "words": torch.ones(2, 6, dtype=torch.long)}

    # 2·5 rows of 3·4 products and 4 biases, then 2·5·6·4 products; no batch is known of keywords.
    expected = 10 * (12 + 4) + 240
    assert numbers(Several(), (5, 3), input_constructor=given) == (expected, 40 + 16)
    assert seen == [(5, 3)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.zeros(6, 4), 20),
        ([torch.zeros(4), torch.zeros(4)], 20),
        ((torch.zeros(6, 4), torch.zeros(1)), 6 * 20),
        ({"x": torch.zeros(6, 4)}, 6 * 20),
    ],
    ids=["a batch", "a list of images", "a tuple", "keywords"],
)
def test_what_is_divided_by_the_batch(given: Any, expected: int) -> None:
    class Any_(nn.Module):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            if isinstance(x, list):
                return [self.layer(one) for one in x]
            return self.layer(x if isinstance(x, Tensor) else x[0])

    assert macs(Any_(), (4,), input_constructor=lambda _: given) == expected


def test_frozen_tied_and_bare_parameters() -> None:
    """As in the tool: distinct ones that require gradients."""
    model = Net()
    model.layer.weight.requires_grad_(False)
    tool = ptflops.get_model_complexity_info(
        model, (4,), as_strings=False, print_per_layer_stat=False
    )
    assert numbers(model, (4,))[1] == tool[1] == 4


def test_a_leaf_a_wrapped_model_and_one_without_parameters() -> None:
    assert numbers(nn.Linear(3, 2), (3,)) == (8, 8)
    assert numbers(nn.DataParallel(Net()), (4,)) == (44, 20)
    assert numbers(nn.Tanh(), (3,)) == (0, 0)


def test_half_precision_and_models_that_look_at_values() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, dtype=torch.bfloat16)

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype is torch.bfloat16
            out: Tensor = x if x.sum().item() > 0 else self.layer(x)
            return out

    assert numbers(Looks(), (4,)) == (20, 20)


# Conventions


def test_another_convention() -> None:
    model = torchvision.models.squeezenet1_1()
    for name in ("flopdispatch", "torch"):
        with FlopCounter(display=False, convention=name) as counter, torch.no_grad():
            model.eval()(torch.zeros(1, 3, 64, 64))
        assert macs(model, (3, 64, 64), convention=name) == counter.macs
    assert macs(model, (3, 64, 64), convention="ptflops") == macs(model, (3, 64, 64))


# Arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": len}, "takes a torch.nn.Module, got builtin_function_or_method"),
        ({"input_res": ()}, "input_res= takes the sizes of one input .* got ()"),
        ({"input_res": 224}, "got 224"),
        ({"input_res": (3, "a")}, "got \\(3, 'a'\\)"),
        ({"input_res": (3, -1)}, "got \\(3, -1\\)"),
        ({"backend": "jax"}, "backend= takes 'pytorch' or 'aten', got 'jax'"),
        ({"ost": "out.txt"}, "ost= takes a stream .* got 'out.txt'"),
        ({"output_precision": 2.0}, "output_precision= takes a number of decimals, got 2.0"),
        ({"ignore_modules": nn.ReLU}, "ignore_modules= takes a list"),
        ({"ignore_modules": [nn.ReLU()]}, "ignore_modules= .* pass type\\(module\\)"),
        ({"custom_modules_hooks": [nn.ReLU]}, "custom_modules_hooks= takes a dict"),
        ({"custom_modules_hooks": {"ReLU": print}}, "custom_modules_hooks= .* got 'ReLU'"),
        ({"custom_modules_hooks": {nn.ReLU: 3}}, "takes a function for .*ReLU.*, got 3"),
        ({"backend_specific_config": {"fast": 1}}, "takes {'count_functional': True} or False"),
        ({"convention": "deepspeed"}, "convention= takes a Registry or one of"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, Any], words: str) -> None:
    call: Callable[..., Any] = get_model_complexity_info
    with pytest.raises(ArgumentError, match=words):
        call(**{"model": nn.ReLU(), "input_res": (4,), **options})


def test_what_a_constructor_reads_is_its_own_matter() -> None:
    made = macs(nn.Linear(4, 4), ("small",), input_constructor=lambda _: torch.zeros(1, 4))
    assert made == 20
