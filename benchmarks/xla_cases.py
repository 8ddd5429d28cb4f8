"""Operators of XLA's table as torch programs on meta, with what explains XLA's figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.xla_reasons import (
    COMPARISONS,
    CUSTOM_CALL,
    INTEGERS,
    PAIRS,
    Term,
    complex_numbers,
    loop,
    padded,
    plus,
    sort,
    transform,
    windows,
)

Shape = tuple[int, ...]

FEATURES: tuple[Shape, ...] = (32, 64), (8, 128, 256)
IMAGES: tuple[Shape, ...] = (2, 16, 14, 14), (4, 8, 32, 32)
HEADS: tuple[Shape, ...] = (2, 4, 64, 32), (1, 8, 128, 64)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table, by its operator and shape: our program, and the terms to XLA's FLOPs."""

    op: str
    shape: str
    program: Callable[[], Any]
    terms: tuple[Term, ...] = ()


def made(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor on meta."""
    return torch.empty(shape, dtype=dtype, device="meta")


def cases() -> Iterator[Case]:
    """Each row of the table that has an explanation."""
    for shape in FEATURES:
        yield from elementwise(shape)
        yield from activations(shape)
        yield from lines(shape)
        yield from scans_and_moves(shape)
    for shape in IMAGES:
        yield from images(shape)
    yield from convolutions((2, 16, 14, 14), 32, 3)
    yield from convolutions((1, 8, 32, 32), 16, 5)
    yield from products()
    for shape in HEADS:
        yield from attention(shape)
    yield from transforms()
    yield from types()
    yield from programs()


def elementwise(shape: Shape) -> Iterator[Case]:
    """Operators of each element by itself."""
    case = partial(Case, shape=str(shape))
    x, y, n = made(*shape), made(*shape), prod(shape)
    for op in ("add", "mul", "div", "pow"):
        yield case(op, program=partial(getattr(torch, op), x, y))
    for op in ("exp", "log", "log1p", "expm1", "tanh", "sin", "tan", "erf", "sqrt", "rsqrt"):
        yield case(op, program=partial(getattr(torch, op), x))
    for op in ("neg", "abs", "sign", "floor", "relu"):
        yield case(op, program=partial(getattr(torch, op), x), terms=(COMPARISONS,))
    yield case("max", program=lambda: torch.maximum(x, y), terms=(COMPARISONS,))
    yield case(
        "clamp",
        program=lambda: x.clamp(-1, 1),
        terms=(COMPARISONS, plus("scalars", 2, "two bounds are cast")),
    )
    yield case("eq", program=lambda: x == y, terms=(plus("selections", n),))
    yield case(
        "where",
        program=lambda: torch.where(x > 0, x, y),
        terms=(plus("selections", 2 * n, "comparing and choosing"),),
    )
    remainder = COMPARISONS, plus("remainder", n - 4 * n)
    yield case("fmod", program=lambda: torch.fmod(x, y), terms=remainder)
    repair = "a sign other than the divisor's is repaired: 4 comparisons, and, +, choosing"
    yield case(
        "rem",
        program=lambda: torch.remainder(x, y),
        terms=(*remainder, plus("other form", 7 * n, repair)),
    )
    yield case("integer_pow2 x*x", program=lambda: x * x)
    yield case("x**3", program=lambda: x**3)
    yield case("cast_bf16", program=lambda: x.to(torch.bfloat16), terms=(plus("casts", n),))


def activations(shape: Shape) -> Iterator[Case]:
    """Activation functions, as jax.nn writes them."""
    case = partial(Case, shape=str(shape))
    x, n = made(*shape), prod(shape)
    softplus = plus("other form", 5 * n, "max(x, 0) + log1p(exp(-|x|)), chosen unless x is NaN")
    yield case("sigmoid(logistic)", program=x.sigmoid, terms=(COMPARISONS,))
    yield case(
        "silu",
        program=lambda: functional.silu(x),
        terms=(COMPARISONS, plus("other form", n, "x·σ(x) for x / (1 + exp(-x))")),
    )
    yield case("gelu_tanh", program=lambda: functional.gelu(x, approximate="tanh"))
    yield case(
        "leaky_relu",
        program=lambda: functional.leaky_relu(x),
        terms=(COMPARISONS, plus("selections", n)),
    )
    yield case(
        "elu",
        program=lambda: functional.elu(x),
        terms=(COMPARISONS, plus("selections", 3 * n, "compared and chosen before expm1 too")),
    )
    yield case("softplus", program=lambda: functional.softplus(x), terms=(COMPARISONS, softplus))
    yield case("mish", program=lambda: functional.mish(x), terms=(COMPARISONS, softplus))
    yield case("hard_swish", program=lambda: functional.hardswish(x), terms=(COMPARISONS,))


def lines(shape: Shape) -> Iterator[Case]:
    """Operators that reduce or normalize the last dimension."""
    case = partial(Case, shape=str(shape))
    x, n, length = made(*shape), prod(shape), shape[-1]
    rows, weight = n // length, made(shape[-1])
    maximum = plus("row's maximum", rows)
    yield case("softmax", program=lambda: x.softmax(-1), terms=(COMPARISONS, maximum))
    yield case("log_softmax", program=lambda: x.log_softmax(-1), terms=(COMPARISONS, maximum))
    yield case(
        "logsumexp",
        program=lambda: x.logsumexp(-1),
        terms=(COMPARISONS, maximum, plus("guards", 3 * rows)),
    )
    twice = plus("other form", n, "x - mean is computed for the variance and again for the result")
    yield case(
        "layernorm affine",
        terms=(twice,),
        program=lambda: functional.layer_norm(x, (length,), weight, weight),
    )
    yield case("rmsnorm", program=lambda: functional.rms_norm(x, (length,), weight))
    for op in ("sum", "mean", "prod"):
        yield case(f"{op} dim=-1", program=partial(getattr(x, op), -1))
    for op in ("var", "std"):
        checked = (
            plus("selections", rows, "NaN where too few elements"),
            plus("scalars", 3, "N, cast, less the correction, compared with 0"),
        )
        yield case(f"{op} dim=-1", program=partial(getattr(x, op), -1), terms=checked)
    for op in ("max", "min"):
        yield case(
            f"{op} dim=-1", program=partial(getattr(torch, f"a{op}"), x, -1), terms=(COMPARISONS,)
        )
    for op in ("argmax", "argmin"):
        yield case(f"{op} dim=-1", program=partial(getattr(x, op), -1), terms=(COMPARISONS, PAIRS))
    yield case(
        "any dim=-1",
        program=lambda: x.any(-1),
        terms=(plus("selections", n + n - rows, "to bool, then `or`"),),
    )
    yield case("sum all", program=x.sum)
    yield case("norm L2 -1", program=lambda: torch.linalg.vector_norm(x, dim=-1))


def scans_and_moves(shape: Shape) -> Iterator[Case]:
    """Operators that keep the elements' number: scans, sorts, moves."""
    case = partial(Case, shape=str(shape))
    x, n, length = made(*shape), prod(shape), shape[-1]
    yield case("cumsum -1", program=lambda: x.cumsum(-1), terms=(windows(length),))
    yield case("cumprod -1", program=lambda: x.cumprod(-1), terms=(windows(length),))
    yield case("cummax -1", program=lambda: x.cummax(-1), terms=(COMPARISONS, windows(length)))
    yield case("sort -1", program=lambda: x.sort(-1), terms=(COMPARISONS, sort(n)))
    yield case("argsort -1", program=lambda: x.argsort(-1), terms=(COMPARISONS, sort(n)))
    yield case("topk 4", program=lambda: x.topk(4), terms=(COMPARISONS, CUSTOM_CALL))
    yield case("transpose", program=lambda: x.transpose(-1, -2))
    yield case("concat", program=lambda: torch.cat([x, x]))


def images(shape: Shape) -> Iterator[Case]:
    """Pooling, and normalization over channels."""
    case = partial(Case, shape=str(shape))
    x, n, c = made(*shape), prod(shape), shape[1]
    channels = made(c)

    def normalized(mean: Tensor | None, var: Tensor | None) -> Tensor:
        return functional.batch_norm(x, mean, var, channels, channels, training=mean is None)

    # jax: - mean, · rstd, · weight, + bias for each element, and epsilon for each channel.
    theirs = 4 * n + c
    folded = plus("other form", theirs - (2 * n + 4 * c), "ours: one scale, one shift a channel")
    centred = plus(
        "other form", theirs - (2 * n + 2 * c), "ours: one scale a channel, x - mean once"
    )
    yield case("batchnorm eval", program=lambda: normalized(channels, channels), terms=(folded,))
    yield case("batchnorm train", program=lambda: normalized(None, None), terms=(centred,))
    for kernel, stride in ((2, 2), (3, 2), (3, 1)):
        name = f"k{kernel}s{stride} valid"
        yield case(
            f"maxpool {name}",
            terms=(COMPARISONS,),
            program=partial(functional.max_pool2d, x, kernel, stride),
        )
        yield case(f"avgpool {name}", program=partial(functional.avg_pool2d, x, kernel, stride))
    yield case(
        "maxpool k3s2 SAME",
        program=partial(functional.max_pool2d, x, 3, 2, 1),
        terms=(COMPARISONS,),
    )
    yield case("global avgpool", program=lambda: functional.adaptive_avg_pool2d(x, 1))


def convolutions(shape: Shape, out: int, k: int) -> Iterator[Case]:
    """Convolutions of an image to `out` channels by a kernel of width k."""
    batch, c, *sizes = shape
    case = partial(Case, shape=f"{shape}->{out}")
    x, p = made(*shape), k // 2
    conv = functional.conv2d
    channels = batch * c * out
    same = padded(channels, tuple(sizes), k, 1, p)
    strided = padded(channels, tuple(sizes), k, 2, p)
    weight = made(out, c, k, k)
    yield case(f"conv k{k} valid", program=lambda: conv(x, weight))
    yield case(f"conv k{k} same pad{p}", program=lambda: conv(x, weight, padding=p), terms=(same,))
    yield case(
        f"conv k{k} s2 pad{p}",
        terms=(strided,),
        program=lambda: conv(x, weight, stride=2, padding=p),
    )
    yield case("conv 1x1", program=lambda: conv(x, made(out, c, 1, 1)))
    yield case(
        f"conv k{k} grouped4 valid", program=lambda: conv(x, made(out, c // 4, k, k), groups=4)
    )
    yield Case(
        f"conv depthwise k{k} valid", f"{shape}->{c}", lambda: conv(x, made(c, 1, k, k), groups=c)
    )
    yield case("conv k3 dilated2 valid", program=lambda: conv(x, made(out, c, 3, 3), dilation=2))
    yield case(
        f"conv_transpose k{k} s2 (lhs_dilation2, pad K-1)",
        program=lambda: functional.conv_transpose2d(x, made(c, out, k, k), stride=2),
    )


def products() -> Iterator[Case]:
    """Products of matrices and vectors, and convolutions of other ranks."""
    for m, k, n in ((64, 128, 32), (1, 512, 1000), (256, 256, 256)):
        left, right, weight, bias = made(m, k), made(k, n), made(n, k), made(n)
        yield Case("matmul", f"{m}x{k}@{k}x{n}", partial(torch.matmul, left, right))
        yield Case("linear+bias", f"{m}x{k}->{n}", partial(functional.linear, left, weight, bias))
    yield Case("bmm", "8x64x32@8x32x48", lambda: made(8, 64, 32) @ made(8, 32, 48))
    yield Case("matvec", "128x64@64", lambda: made(128, 64) @ made(64))
    yield Case("dot", "1000.1000", lambda: made(1000) @ made(1000))
    yield Case("outer", "64x48", lambda: torch.outer(made(64), made(48)))
    yield Case(
        "bf16 matmul",
        "64^3",
        lambda: torch.mm(made(64, 64, dtype=torch.bfloat16), made(64, 64, dtype=torch.bfloat16)),
    )
    yield Case(
        "conv1d same",
        "(4,32,100)->64 k3",
        lambda: functional.conv1d(made(4, 32, 100), made(64, 32, 3), padding=1),
        (padded(4 * 32 * 64, (100,), 3, 1, 1),),
    )
    yield Case(
        "conv3d valid",
        "(1,4,8,8,8)->8 k3",
        lambda: functional.conv3d(made(1, 4, 8, 8, 8), made(8, 4, 3, 3, 3)),
    )
    yield Case("add_bcast", "(32,64)+(64,)", lambda: made(32, 64) + made(64))


def attention(shape: Shape) -> Iterator[Case]:
    """Scaled dot-product attention of as many keys as queries."""
    x, t = made(*shape), shape[2]
    attend = functional.scaled_dot_product_attention
    maximum = plus("row's maximum", prod(shape[:3]))
    yield Case("attention", str(shape), lambda: attend(x, x, x), (COMPARISONS, maximum))
    mask = plus("selections", 2 * t * t, "making the mask")
    yield Case(
        "attention causal",
        str(shape),
        lambda: attend(x, x, x, is_causal=True),
        (COMPARISONS, maximum, mask),
    )


def transforms() -> Iterator[Case]:
    """Fourier transforms."""
    for n in (64, 1000, 1024):
        x = made(n)
        yield Case(
            "fft c2c (f32 in)",
            str(n),
            partial(torch.fft.fft, x),
            (transform(n, n), plus("casts", n)),
        )
        yield Case("rfft", str(n), partial(torch.fft.rfft, x), (transform(n, n),))
    table = made(8, 256, dtype=torch.complex64)
    yield Case(
        "fft c2c complex", "(8,256)", lambda: torch.fft.fft(table), (transform(8 * 256, 256),)
    )
    yield Case("ifft", "(8,256)", lambda: torch.fft.ifft(table), (transform(8 * 256, 256),))
    yield Case(
        "fft2",
        "(4,32,32)",
        lambda: torch.fft.fft2(made(4, 32, 32, dtype=torch.complex64)),
        (transform(4 * 32 * 32, 32, 32),),
    )
    yield Case(
        "irfft",
        "(8,129)",
        lambda: torch.fft.irfft(made(8, 129, dtype=torch.complex64)),
        (transform(8 * 129, 256),),
    )


def types() -> Iterator[Case]:
    """Complex numbers and integers."""
    z, m = made(1024, dtype=torch.complex64), made(32, 32, dtype=torch.complex64)
    i, j = made(1024, dtype=torch.int32), made(32, 32, dtype=torch.int8)
    yield Case("complex mul", "(1024,)", lambda: z * z, (complex_numbers(6),))
    yield Case("complex add", "(1024,)", lambda: z + z, (complex_numbers(2),))
    yield Case("complex matmul", "32^3", lambda: m @ m, (complex_numbers(4),))
    yield Case("int add", "(1024,)", lambda: i + i, (INTEGERS,))
    yield Case("int matmul", "32^3 int8->int32", lambda: torch._int_mm(j, j), (INTEGERS,))


def programs() -> Iterator[Case]:
    """A few operators together."""
    rows, n = 32, 32 * 100
    labels = made(32, dtype=torch.long)
    one_hot = 3 * n + (n - 1) + 2 - (rows + rows)
    note = "log-probabilities · one-hot labels, all summed, for the gathered row by row"
    yield Case(
        "cross_entropy",
        "(32,100)",
        lambda: functional.cross_entropy(made(32, 100), labels),
        (COMPARISONS, plus("row's maximum", rows), plus("other form", one_hot, note)),
    )
    yield Case(
        "embedding",
        "(1000,64)[(8,16)]",
        lambda: functional.embedding(made(8, 16, dtype=torch.long), made(1000, 64)),
        (plus("indices", 3 * 8 * 16),),
    )
    yield Case(
        "scatter_add",
        "(100,16)+=(32,16)",
        lambda: made(100, 16).index_add(0, labels, made(32, 16)),
        (plus("indices", 3 * 32),),
    )
    yield Case("scan matmul x10", "32x32", ten_products, (loop(10),))
    yield Case("fori matmul x10", "32x32", ten_products, (loop(10),))
    unused = 2 * 64 * 128 * 32 + 64 * 32 - 1
    yield Case(
        "grad linear sum",
        "(64,128)@(128,32)",
        gradient,
        (plus("unused", -unused, "the product and its sum"),),
    )


def ten_products() -> None:
    """A matrix times another, ten times over."""
    x = made(32, 32)
    for _ in range(10):
        x = x @ made(32, 32)


def gradient() -> None:
    """The gradient of a product's sum for its right factor."""
    weight = made(128, 32).requires_grad_()
    (made(64, 128) @ weight).sum().backward()
