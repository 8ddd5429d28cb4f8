"""YOLO's summary at the true size, beside thop itself and hand arithmetic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import thop
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from flopdispatch import ArgumentError
from flopdispatch.compat.yolo import get_flops, model_info

# YOLOv5s, 80 classes. Its activation is one module, shared by all.


class Conv(nn.Module):
    act = nn.SiLU()

    def __init__(self, c: int, n: int, k: int = 1, s: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, n, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(n)
        self.act = Conv.act

    def forward(self, x: Tensor) -> Any:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c), Conv(c, c, 3), add

    def forward(self, x: Tensor) -> Any:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C3(nn.Module):
    def __init__(self, c: int, n: int, times: int, add: bool = True) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(c, n // 2), Conv(c, n // 2), Conv(n, n)
        self.m = nn.Sequential(*(Bottleneck(n // 2, add) for _ in range(times)))

    def forward(self, x: Tensor) -> Any:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c // 2), Conv(2 * c, c)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Any:
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(self.m(pooled[-1]))
        return self.cv2(torch.cat(pooled, 1))


class Concat(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.cat(xs, 1)


class Detect(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(c, 255, 1) for c in (128, 256, 512))

    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.cat([m(x).sigmoid().flatten(2) for m, x in zip(self.m, xs)], 2)


class YOLOv5s(nn.Module):
    yaml_file = "models/yolov5s.yaml"

    def __init__(self) -> None:
        super().__init__()
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.model = nn.Sequential(
            Conv(3, 32, 6, 2, 2), Conv(32, 64, 3, 2), C3(64, 64, 1),
            Conv(64, 128, 3, 2), C3(128, 128, 2), Conv(128, 256, 3, 2), C3(256, 256, 3),
            Conv(256, 512, 3, 2), C3(512, 512, 1), SPPF(512),
            Conv(512, 256), nn.Upsample(None, 2), Concat(), C3(512, 256, 1, False),
            Conv(256, 128), nn.Upsample(None, 2), Concat(), C3(256, 128, 1, False),
            Conv(128, 128, 3, 2), Concat(), C3(256, 256, 1, False),
            Conv(256, 256, 3, 2), Concat(), C3(512, 512, 1, False), Detect(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Any:
        kept: list[Any] = []
        other = {12: 6, 16: 4, 19: 14, 22: 10}
        for i, layer in enumerate(self.model):
            if i == 24:
                return layer([kept[17], kept[20], kept[23]])
            x = layer([x, kept[other[i]]]) if i in other else layer(x)
            kept.append(x)
        return x


@pytest.fixture(scope="module")
def yolo() -> YOLOv5s:
    return YOLOv5s()


def thops(model: nn.Module, *size: int) -> float:
    """thop's own GFLOPs at a size, as the tools print them."""
    image = torch.zeros(1, 3, *size)
    return float(thop.profile(copy.deepcopy(model), inputs=(image,), verbose=False)[0] / 1e9 * 2)


def extrapolated(at_32: float) -> float:
    """What the tools make of a stride's GFLOPs for 640 x 640."""
    return at_32 * 640 / 32 * 640 / 32


def test_the_line_of_yolov5s(yolo: YOLOv5s, capsys: pytest.CaptureFixture[str]) -> None:
    """The layers and the parameters that YOLOv5 publishes."""
    found = model_info(yolo)
    assert capsys.readouterr().out == (
        "YOLOv5s summary: 214 layers, 7,235,389 parameters, 7,235,389 gradients, 16.6 GFLOPs\n"
    )
    assert found == (214, 7_235_389, 7_235_389, get_flops(yolo))


def test_gflops_are_thops_where_it_sees_the_whole_model(yolo: YOLOv5s) -> None:
    assert get_flops(yolo, 64) == thops(yolo, 64, 64)
    assert get_flops(yolo, [64, 96]) == thops(yolo, 64, 96)
    assert get_flops(yolo) == pytest.approx(extrapolated(thops(yolo, 32, 32)), rel=1e-12)
    resnet = torchvision.models.resnet18()
    assert get_flops(resnet, 64) == thops(resnet, 64, 64)


# Where extrapolation goes wrong


class Resizes(nn.Module):
    """An interpolation to a fixed size, and a convolution of that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return self.conv(functional.interpolate(x, size=(160, 160)))


class Pools(nn.Module):
    """A convolution that is pooled to one cell, and a 1x1 convolution of that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 20_000, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(functional.adaptive_avg_pool2d(self.conv(x), 1))


class Attends(nn.Module):
    """Patches of 16 x 16 to 8 features; each patch attends to every other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).mT
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)


EXTRAPOLATED = [
    # 160² outputs of 8·27 MACs, 3·160² elements interpolated by nearest neighbour, at either size
    (Resizes, 160**2 * (8 * 27 + 3), 160**2 * (8 * 27 + 3), 400.0),
    # each pixel: 2·3 MACs, and 2 that are pooled; 2 means; 20,000·2 MACs
    (Pools, 640**2 * (6 + 2) + 2 + 40_000, 32**2 * (6 + 2) + 2 + 40_000, 5.812),
    # t² patches: 8·768 MACs each; scores and their use, 8 MACs each; a softmax of n: 3n - 1
    (
        Attends,
        1600 * 8 * 768 + 1600**2 * 16 + 1600 * (3 * 1600 - 1),
        4 * 8 * 768 + 4**2 * 16 + 4 * (3 * 4 - 1),
        0.170,
    ),
]


@pytest.mark.parametrize(("kind", "at_640", "at_32", "off"), EXTRAPOLATED)
def test_the_true_size_is_counted(
    kind: type[nn.Module], at_640: int, at_32: int, off: float
) -> None:
    """By hand; a stride's figure times the area is `off` times as much."""
    model = kind()
    assert get_flops(model) == 2 * at_640 / 1e9
    assert get_flops(model, 32) == 2 * at_32 / 1e9
    assert extrapolated(get_flops(model, 32)) / get_flops(model) == pytest.approx(off, abs=1e-3)


# Models of any kind


class Net(nn.Module):
    """A frozen and a bare parameter, a layer called twice, a dict returned."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1, bias=False)
        self.frozen = nn.Conv2d(4, 2, 1).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm2d(4)
        self.fails = fails

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.fails:
            raise KeyError("no")
        return {"out": self.frozen(self.conv(self.norm(self.conv(x))) * self.scale.sum())}


def test_shared_frozen_and_bare_parameters() -> None:
    """8² pixels: twice 16 MACs, 8, and 4 operations a normalized element. Layers with the root."""
    assert model_info(Net(), verbose=False, imgsz=8) == (
        4, 16 + 10 + 3 + 8, 16 + 3 + 8, 2 * 64 * (2 * 16 + 8 + 4 * 4) / 1e9,
    )  # fmt: skip


def test_a_layer_by_itself_and_one_without_convolutions() -> None:
    assert get_flops(nn.Conv2d(5, 2, 1), [3, 4]) == 2 * 12 * 10 / 1e9
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7))
    assert get_flops(linear, (4, 4)) == 2 * 48 * 7 / 1e9


def state(model: nn.Module) -> Any:
    return (
        [(name, value.tolist()) for name, value in model.state_dict().items()],
        [(type(m), m.training, sorted(vars(m)), len(m._forward_hooks)) for m in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_as_it_was(fails: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = Net(fails)
    model.norm.eval()
    before = state(model)
    if fails:
        with pytest.raises(KeyError, match="no"):
            model_info(model, imgsz=8)
    else:
        model_info(model, True, imgsz=8)
    assert state(model) == before
    assert bool(capsys.readouterr().out) is not fails


def test_other_dtypes_and_devices() -> None:
    expected = get_flops(Net(), 8)
    for model in (Net().half(), Net().double(), Net().to("meta")):
        assert get_flops(model, 8) == expected


def test_channels_are_the_yamls() -> None:
    """A space-to-depth before the first convolution, whose channels aren't the image's."""

    class Focus(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(12, 1, 1, bias=False)
            self.yaml = {"ch": 3}

        def forward(self, x: Tensor) -> Any:
            return self.conv(functional.pixel_unshuffle(x, 2))

    assert get_flops(Focus(), 8) == 2 * 16 * 12 / 1e9
    model = Focus()
    model.yaml = {"channels": 12, "ch": 3}  # as a later ultralytics says it
    with pytest.raises(RuntimeError, match="channels"):
        get_flops(model, 8)


def line(model: nn.Module, capsys: pytest.CaptureFixture[str]) -> str:
    model_info(model, imgsz=8)
    return capsys.readouterr().out


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = Net()
    assert line(model, capsys).startswith(
        "Net summary: 4 layers, 37 parameters, 27 gradients, 0.0 "
    )
    assert line(nn.DataParallel(model), capsys) == line(model, capsys)
    assert line(torch.compile(model), capsys) == line(model, capsys)  # type: ignore[arg-type]
    model.yaml = {"yaml_file": "cfg/yolov8n-seg.yaml", "ch": 4}
    assert line(model, capsys).startswith("YOLOv8n-seg summary: ")
    model.yaml_file = "mine.yaml"
    model.is_fused = lambda: True
    assert line(model, capsys).startswith("mine summary (fused): 4 layers, ")


def test_nothing_is_printed_unless_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_info(Net(), True, verbose=False, imgsz=8)[0] == 4
    assert not capsys.readouterr().out


def test_details(capsys: pytest.CaptureFixture[str]) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module_list = nn.ModuleList([nn.Conv2d(1, 2, 1)])
            self.one = nn.Parameter(torch.tensor([0.25]), requires_grad=False)
            self.none = nn.Parameter(torch.zeros(0))

        def forward(self, x: Tensor) -> Any:
            return self.module_list[0](x) * self.one

    model = Two()
    with torch.no_grad():
        model.module_list[0].weight.copy_(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))  # type: ignore[operator]
        model.module_list[0].bias.zero_()  # type: ignore[operator]
    model_info(model, detailed=True, imgsz=2)
    lines = [text.split() for text in capsys.readouterr().out.splitlines()]
    assert lines[:5] == [
        ["layer", "name", "gradient", "parameters", "shape", "mu", "sigma"],
        ["0", "one", "False", "1", "[1]", "0.25", "-"],
        ["1", "none", "True", "0", "[0]", "-", "-"],
        ["2", "0.weight", "True", "2", "[2,", "1,", "1,", "1]", "2", "1.41"],
        ["3", "0.bias", "True", "2", "[2]", "0", "0"],
    ]
    model_info(model.to("meta"), detailed=True, imgsz=2)
    assert capsys.readouterr().out.splitlines()[3].split()[-2:] == ["-", "-"]


def test_conventions_of_macs_are_doubled_and_of_flops_are_not() -> None:
    """A 1x1 convolution of 8² pixels, 4 to 4 channels: 1,024 MACs, 256 biases."""
    model = nn.Conv2d(4, 4, 1)
    found = {
        name: get_flops(model, 8, convention=name) * 1e9
        for name in ("thop", "fvcore", "torchstat", "torch", "flopdispatch")
    }
    assert found == {
        "thop": 2048, "fvcore": 2048, "torchstat": 2 * (1024 + 256), "torch": 2048,
        "flopdispatch": 2048 + 256,
    }  # fmt: skip
    assert model_info(model, False, False, 8, convention="flopdispatch")[3] == 2304 / 1e9


@pytest.mark.parametrize("imgsz", [0, -1, 1.5, "640", [640], (1, 2, 3), [640, 0.5], True, None])
def test_a_size_that_is_none_is_said(imgsz: Any) -> None:
    with pytest.raises(ArgumentError, match=r"imgsz= takes an integer >= 1 or \[height, width\]"):
        get_flops(Net(), imgsz)


def test_a_model_that_is_none_is_said() -> None:
    with pytest.raises(ArgumentError, match="takes a module as its model, got str"):
        get_flops("yolov5s.pt")  # type: ignore[arg-type]
