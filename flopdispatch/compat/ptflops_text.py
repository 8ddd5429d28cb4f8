"""What `flopdispatch.compat.ptflops` prints, in ptflops' form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from torch import nn

from flopdispatch.compat.ptflops_counts import Count

MAC_UNITS = {"GMac": 10**9, "MMac": 10**6, "KMac": 10**3}
PARAM_UNITS = {"B": 10**9, "M": 10**6, "K": 10**3}


def flops_to_string(flops: float, units: str | None = None, precision: int = 2) -> str:
    """MACs in "GMac", "MMac" or "KMac", rounded; in full for any other name; None chooses.

    Example:

        >>> flops_to_string(4_134_484_968), flops_to_string(999), flops_to_string(999, "KMac")
        ('4.13 GMac', '999 Mac', '1.0 KMac')
    """
    if units is None:
        units = next((unit for unit, size in MAC_UNITS.items() if flops // size > 0), "Mac")
    size = MAC_UNITS.get(units)
    return f"{flops} Mac" if size is None else f"{round(flops / size, precision)} {units}"


def params_to_string(params_num: float, units: str | None = None, precision: int = 2) -> str:
    """Parameters in "B", "M" or "K", rounded; in full for any other name.

    None chooses "M", "k" or nothing.

    Example:

        >>> params_to_string(25_557_032), params_to_string(9_408), params_to_string(64)
        ('25.56 M', '9.41 k', '64')
    """
    if units is None:
        size = next((size for size in (10**6, 10**3) if params_num // size > 0), None)
        shown = {10**6: "M", 10**3: "k"}.get(size or 0, "")
    else:
        size, shown = PARAM_UNITS.get(units), units
    return f"{params_num}" if size is None else f"{round(params_num / size, precision)} {shown}"


def trainable(module: nn.Module) -> int:
    """Elements of a module's distinct parameters that require gradients."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def print_layers(
    model: nn.Module,
    count: Count,
    ost: TextIO,
    units: tuple[str | None, str | None],
    precision: int,
) -> None:
    """The model as it prints, with parameters and MACs in front of what each module says."""
    own, all_macs, all_params = count.own(), max(count.total, 1), max(trainable(model), 1)

    def line(module: nn.Module) -> str:
        macs, params = float(sum(own.get(id(m), 0) for m in module.modules())), trainable(module)
        return ", ".join(
            [
                params_to_string(params, units[1], precision),
                f"{params / all_params:.3%} Params",
                flops_to_string(macs, units[0], precision),
                f"{macs / all_macs:.3%} MACs",
                module.extra_repr(),
            ]
        )

    print(repr(shown_with(model, line)), file=ost)


def shown_with(model: nn.Module, line: Callable[[nn.Module], str]) -> nn.Module:
    """A stand-in for a model that prints as it does, but for these lines; no module is changed.

    It shares everything with the model but the dicts that its attributes and modules are in.
    """
    made: dict[int, nn.Module] = {}

    def stand_in(module: nn.Module) -> nn.Module:
        if id(module) not in made:
            copy = made[id(module)] = object.__new__(type(module))
            vars(copy).update(vars(module))
            vars(copy)["extra_repr"] = lambda: line(module)
            below = [(name, child) for name, child in module._modules.items()]
            vars(copy)["_modules"] = {n: None if c is None else stand_in(c) for n, c in below}
        return made[id(module)]

    return stand_in(model)


def print_zero_layers(model: nn.Module, count: Count, ost: TextIO) -> None:
    """Name the classes of which no module counted anything, containers of torch's apart."""
    own = count.own()
    counts: dict[type, bool] = {}
    for module in model.modules():
        something = any(own.get(id(inner)) for inner in module.modules())
        counts[type(module)] = counts.get(type(module), False) or something
    for kind, something in counts.items():
        if not something and kind not in (nn.Sequential, nn.ModuleList, *count.left_out):
            print(f"Warning: module {kind.__name__} is treated as a zero-op.", file=ost)


def print_operators(count: Count, ost: TextIO, units: str | None, precision: int) -> None:
    """MACs by operator: of the model, and of each of its children that counted any."""
    print(f"Total:{flops_to_string(count.total, units, precision)}", file=ost)
    children = dict.fromkeys(part.child for part in count.parts if part.child and part.macs)
    for name, child in [("Global", None), *((child, child) for child in children)]:
        print("Module: ", name, file=ost)
        for operator, macs in count.by_operator(child).items():
            if macs:
                text = flops_to_string(whole(macs), units, precision)
                print(f"{operator}: {text}", file=ost)
        print(file=ost)


def whole(macs: float) -> float:
    """A number of MACs without a fraction as an integer."""
    return int(macs) if macs == int(macs) else macs


def print_zero_operators(count: Count, ost: TextIO) -> None:
    """Name the operators that counted nothing."""
    for operator, macs in count.by_operator().items():
        if not macs:
            print(f"Warning: {operator} operation is treated as a zero-op", file=ost)


def print_ignored(count: Count, ost: TextIO) -> None:
    """Name the operators that were to be ignored."""
    operators: list[Any] = [kind for kind in count.ignored if not isinstance(kind, type)]
    for operator in sorted(operators, key=str):
        print(f"Warning: {operator} operation is ignored", file=ost)
