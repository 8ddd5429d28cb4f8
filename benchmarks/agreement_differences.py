"""Where torch's FlopCounterMode is wrong, call by call, and by how much.

For each operator in FAULTS, what its call costs follows here from the shapes alone, without
flopdispatch; what FlopCounterMode says of the same call, its own formula says, and 0 where it
has none. The difference of the two, summed over the calls of a program, is what our total must
be away from theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.comparison import meetings

aten = torch.ops.aten

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that FlopCounterMode has wrong.

    `flops` gives, by operator, the right figure of a call from its arguments and its result.
    """

    name: str
    reason: str
    flops: dict[Any, Callable[[Arguments, Any], int]]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is right less what FlopCounterMode says, summed over so many calls."""

    flops: int = 0
    calls: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(self.flops + other.flops, self.calls + other.calls)


def convolution_backward(args: Arguments, out: Any) -> int:
    """The forward's products once for each of the two gradients that are asked for."""
    grad, x, weight, transposed, mask = *args[:3], args[7], args[10]
    return int(2 * meetings(x if transposed else grad, weight) * sum(mask[:2]))


def attention_backward(args: Arguments, out: Any) -> int:
    """Four products over queries x keys: of scores' and values' gradients, queries', keys'."""
    query, key, value = args[1:4]
    (b, h, s, d), t, e = query.shape, key.shape[-2], value.shape[-1]
    return int(2 * b * h * s * t * (2 * d + 2 * e))


def grouped_product(args: Arguments, out: Any) -> int:
    """Each row, or each column, meets the matrix of its group alone."""
    left, right = args[:2]
    groups = left.shape[0] if left.dim() == 3 and right.dim() == 2 else 1
    return int(2 * left.numel() * right.shape[-1] // groups)


def recurrent_layer(args: Arguments, out: Any) -> int:
    """Each step of each sequence meets both weights of the gates once."""
    x, input_weight, hidden_weight = args[:3]
    return int(2 * x.shape[:2].numel() * (input_weight.numel() + hidden_weight.numel()))


def recurrent_backward(args: Arguments, out: Any) -> int:
    """The forward's products once for the gradients of their inputs and once for the weights'."""
    return 2 * recurrent_layer(args, out)


FAULTS = (
    Fault(
        "grouped convolution",
        "it multiplies the weight's gradient of a grouped convolution by the number of groups",
        {aten.convolution_backward.default: convolution_backward},
    ),
    Fault(
        "fifth product",
        "it counts 5 products in the backward of CPU's fused attention: the kernel's recomputing "
        "of the scores too, which isn't the model's; on meta the same attention has 4",
        {aten._scaled_dot_product_flash_attention_for_cpu_backward.default: attention_backward},
    ),
    Fault(
        "grouped product",
        "it has no formula for _grouped_mm, the experts' products: 0",
        {aten._grouped_mm.default: grouped_product},
    ),
    Fault(
        "recurrent layer",
        "it has no formula for mkldnn_rnn_layer, an LSTM on CPU, nor for its backward: 0",
        {
            aten.mkldnn_rnn_layer.default: recurrent_layer,
            aten.mkldnn_rnn_layer_backward.default: recurrent_backward,
        },
    ),
)

FAULT_OF = {overload: fault for fault in FAULTS for overload in fault.flops}


def said(overload: Any, args: Arguments, kwargs: dict[str, Any], out: Any) -> int:
    """What FlopCounterMode counts for one call."""
    formula = flop_registry.get(overload._overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


class Differences(TorchDispatchMode):
    """Adds up what is right less what FlopCounterMode says, by the fault's name.

    It is to be entered outside of FlopCounterMode, so that it sees what that one lets through.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, Difference] = {}

    @property
    def total(self) -> int:
        """What must be added to FlopCounterMode's total."""
        return sum(difference.flops for difference in self.found.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        fault = FAULT_OF.get(func)
        if fault is not None:
            flops = fault.flops[func](args, out) - said(func, args, kwargs, out)
            if flops:
                known = self.found.get(fault.name, Difference())
                self.found[fault.name] = known + Difference(flops, 1)
        return out
