"""ptflops 0.7.5: what it calls MACs, in `macs`.

Its engine "pytorch" counts by modules and by functions that it patches. Products have their
MACs, and one for each element that a bias is added to; normalization, activations, softmax,
pooling and resizing one or two for each element of their input or output. `+`, `*` and all else
are nothing, and so is a backward but for its products.

What it counts once as a module and once more as the function that the module calls (ReLU, PReLU,
ELU, GELU, poolings, Upsample) is so counted twice. A recording doesn't tell modules from functions,
so `registry()` takes them for modules; `rules_in` says what holds in which module.

Where operators stand for a module only as long as it is known, as the products and element-wise
operators of an LSTM do, `registry()` counts the products and their biases.

What it gets wrong isn't copied: sizes of fractional scale factors, attention whose keys are not
as wide as its queries, the additions of `torch.add(a, b)` but not of `a + b`. Its engine "aten"
counts products alone, by the dispatcher: `products()`.
"""

from __future__ import annotations

from functools import cache

from torch import nn

from flopdispatch.conventions import PRODUCTS
from flopdispatch.conventions import ptflops_formulas as formulas
from flopdispatch.conventions.ptflops_formulas import Formula, twice, with_bias
from flopdispatch.formulas import default_registry
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.rules import Rule

Module = type[nn.Module]

# Products to which a kernel adds a bias, or what else it is given.
BIASED = (
    "convolution.default", "_convolution.default", "convolution_overrideable.default",
    "mkldnn_convolution.default", "miopen_convolution.default",
    "miopen_depthwise_convolution.default", "miopen_convolution_transpose.default",
    "_mps_convolution.default", "_nnpack_spatial_convolution.default",
    "slow_conv3d_forward.default", "slow_conv_dilated2d.default", "slow_conv_dilated3d.default",
    "slow_conv_transpose2d.default", "slow_conv_transpose3d.default",
    "_slow_conv2d_forward.default", "_conv_depthwise2d.default", "conv_depthwise3d.default",
    "addmm.default", "addmm.dtype", "baddbmm.default", "baddbmm.dtype",
    "linear.default", "mkldnn_linear.default",
)  # fmt: skip

BATCH_NORMS = (
    "native_batch_norm.default", "_native_batch_norm_legit.default",
    "_native_batch_norm_legit.no_stats", "_native_batch_norm_legit_functional.default",
    "_native_batch_norm_legit_no_training.default", "_batch_norm_with_update.default",
    "_batch_norm_with_update_functional.default", "_batch_norm_no_update.default",
    "cudnn_batch_norm.default", "miopen_batch_norm.default",
)  # fmt: skip

# One for each element of the output.
ACTIVATIONS = (
    "leaky_relu.default", "silu.default", "_softmax.default", "_safe_softmax.default",
    "_masked_softmax.default",
)  # fmt: skip

# The same, counted as a module and as the function that it calls.
ACTIVATIONS_TWICE = ("relu.default", "_prelu_kernel.default", "gelu.default")
RESIZES_TWICE = tuple(
    f"{name}.default"
    for name in (
        "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
        "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
        "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa",
    )
)  # fmt: skip

# One for each element of the input, likewise twice.
POOLS_TWICE = (
    "avg_pool2d.default", "avg_pool3d.default", "_adaptive_avg_pool2d.default",
    "_adaptive_avg_pool3d.default", "mkldnn_adaptive_avg_pool2d.default",
    "max_pool2d_with_indices.default", "max_pool3d_with_indices.default",
    "mkldnn_max_pool2d.default", "mkldnn_max_pool3d.default", "adaptive_max_pool2d.default",
    "adaptive_max_pool3d.default",
)  # fmt: skip

# Its modules. Of these, the ones that call a function it counts as well.
TWICE: tuple[Module, ...] = (
    nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.Upsample,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
ONCE: tuple[Module, ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear, nn.LeakyReLU, nn.ReLU6, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm,
    nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.MultiheadAttention,
)  # fmt: skip

ONCE_BY_NAME = (
    "torchvision.ops.deform_conv.DeformConv2d", "timm.models.vision_transformer.Attention",
    "timm.layers.attention.Attention",
)  # fmt: skip

# The element-wise operators of modules that count them: a bias that is added by an operator of its
# own, as it is to a product whose input is not in a row; the scale of the queries; a recurrent
# cell's, ptflops' ten to a hidden unit of an LSTM standing for its 3 products, 5 sums and 2 tanh.
Elementwise = tuple[tuple[str, Formula], ...]
ADD, SUB, MUL, TANH = (
    (name, formulas.each_output)
    for name in ("add.Tensor", "sub.Tensor", "mul.Tensor", "tanh.default")
)
BIAS = ("add.Tensor", formulas.bias)
ELEMENTWISE: dict[Module, Elementwise] = {
    nn.Linear: (BIAS,),
    nn.MultiheadAttention: (BIAS, MUL),
    nn.RNN: (ADD,),
    nn.RNNCell: (ADD,),
    nn.GRU: (ADD, SUB, MUL),
    nn.GRUCell: (ADD, SUB, MUL),
    nn.LSTM: (ADD, MUL, TANH),
    nn.LSTMCell: (ADD, MUL, TANH),
}


@cache
def registry() -> Registry:
    """The rules of its engine "pytorch", frozen; what may be a module is one."""
    once = functions()
    rules = once.overlay("ptflops")
    for name in (*ACTIVATIONS_TWICE, *RESIZES_TWICE, *POOLS_TWICE, "elu.default", "mean.dim"):
        for overload in overloads(name):
            known = once.rule(overload)
            if known is not None and known.formula is not None:
                register(rules, twice(known.formula), name)
    return rules.freeze()


@cache
def functions() -> Registry:
    """The same, of functions: nothing is counted twice."""
    rules = products().overlay("ptflops", "MACs as ptflops counts them: element-wise ones too")
    register(rules, formulas.each_output, *ACTIVATIONS, *ACTIVATIONS_TWICE, *RESIZES_TWICE)
    register(rules, formulas.each_input, *POOLS_TWICE)
    register(rules, formulas.batch_norm, *BATCH_NORMS)
    register(rules, formulas.layer_norm, "native_layer_norm.default")
    register(rules, formulas.group_norm, "native_group_norm.default")
    register(rules, formulas.elu, "elu.default")
    register(rules, formulas.hardtanh, "hardtanh.default")
    register(rules, formulas.mean, "mean.dim")
    register(rules, formulas.scale, "mul.Scalar")
    register(
        rules,
        formulas.attention,
        "_scaled_dot_product_flash_attention.default",
        "_scaled_dot_product_flash_attention_for_cpu.default",
        "_scaled_dot_product_efficient_attention.default",
        "_scaled_dot_product_cudnn_attention.default",
        "_scaled_dot_product_fused_attention_overrideable.default",
    )
    register(
        rules,
        formulas.multi_head,
        "_native_multi_head_attention.default",
        "_triton_multi_head_attention.default",
    )
    register(rules, formulas.encoder_layer, "_transformer_encoder_layer_fwd.default")
    register(rules, formulas.rnn_layer, "mkldnn_rnn_layer.default")
    register(rules, formulas.rnn, "_cudnn_rnn.default", "miopen_rnn.default")
    register(rules, formulas.lstm_cell, "_thnn_fused_lstm_cell.default")
    register(rules, formulas.gru_cell, "_thnn_fused_gru_cell.default")
    rules.formula("torchvision::deform_conv2d.default", family="convolution")(
        formulas.deform_conv2d
    )
    return rules.freeze()


@cache
def products() -> Registry:
    """The rules of its engine "aten", frozen: products, and the bias added to them."""
    rules = default_registry().overlay(
        "ptflops (aten)", "MACs of products, and their biases", PRODUCTS
    )
    for name in BIASED:
        for known in found(name):
            if known.formula is not None:
                register(rules, with_bias(known.formula), name)
    return rules.freeze()


def rules_in(kind: Module, patched: bool = True) -> Registry:
    """What holds for operators that run in a module of this very class, its children apart.

    Without `patched`, functions aren't counted, and so nothing twice.
    """
    if kind in TWICE and patched:
        return registry()
    return with_elementwise(ELEMENTWISE[kind]) if kind in ELEMENTWISE else functions()


@cache
def with_elementwise(operators: Elementwise) -> Registry:
    """The rules of functions, and these operators."""
    rules = functions().overlay("ptflops")
    for name, formula in operators:
        register(rules, formula, name)
    rules.zero(*overloads("relu.default"), family="pointwise")  # nn.RNN's: no function is called
    return rules.freeze()


def is_counted(kind: Module) -> bool:
    """Whether ptflops has a formula for modules of this very class."""
    name = f"{kind.__module__}.{kind.__name__}"
    return kind in TWICE or kind in ONCE or name in ONCE_BY_NAME


def register(rules: Registry, formula: Formula, *names: str) -> None:
    """Another formula for these operators; all else stays as the default rule has it."""
    for name in names:
        for known in found(name):
            rules.adopt(known, formula, typed=True)


def found(name: str) -> list[Rule]:
    """The default rule of an operator, if this torch has it."""
    known = [default_registry().rule(overload) for overload in overloads(name)]
    return [rule for rule in known if rule is not None]
