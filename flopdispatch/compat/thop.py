"""thop's `profile` and `clever_format`: change the import, keep the line.

    from flopdispatch.compat.thop import clever_format, profile

    macs, params = profile(torchvision.models.resnet50(), inputs=(torch.randn(1, 3, 224, 224),))
    clever_format([macs, params], "%.3f")  # ('4.134G', '25.557M')

The figures are thop 0.1.1's wherever it sees the whole model. What differs, by name:

- *Operators, not modules.* thop knows a module by its exact class: functional calls, attention and
  classes derived from a layer are zero to it. Here they count: vit_b_16 is 17.60 G for 11.29 G,
  r3d_18, whose convolutions are of a derived class, 40.78 G for 1.59 G.
- *Parameters.* All of the model's, each once: bare ones, and those of modules that didn't run or
  have no rule. vit_b_16 has 86.57 M, not 58.07 M; a layer profiled by itself has its own, not 0.
- *Shared modules* count once for each call. To thop, one that two parents share is twice there.
- *Formulas that are wrong* are put right: `flopdispatch.conventions.thop` lists them.
- *Recurrent layers* have thop's formula by module. Sequences without a batch, and packed ones,
  count the steps that they have; an LSTM's projection counts.
- *The run* is on meta, in eval mode, without gradients; on the model's own device only if it asks
  for values of data. thop leaves `total_ops` in the `state_dict`, and hooks and eval mode behind
  when a forward raises; here the model is as it was.
- *`custom_ops`*: a rule for the model itself replaces what is inside of it, as any other does
  (thop adds what is inside). A rule for a Sequential or ModuleList is added to it, as in thop.
- *`verbose`* prints the rules that there are for modules: yours, and those of recurrent layers.
  `report_missing` prints operators without a formula, which are also warned of.
- *Wrappers* (DataParallel, `torch.compile`) are looked through: the tree is the inner model's.
- `stride=` and `min_cells=` of ultralytics' fork are taken and not needed: it computes a large
  image from a few small ones, which goes wrong where work isn't proportional to the area; on meta
  the true size runs. Figures are not the fork's where its formulas are others (average pooling).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from flopdispatch.capture.wrappers import children, unwrapped
from flopdispatch.compat.running import profiled
from flopdispatch.compat.thop_rules import BUILT_IN, Hook, ModuleRules, count_recurrent, name_of
from flopdispatch.conventions import convention as find_convention
from flopdispatch.conventions.thop import registry as thop_registry
from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import is_shape
from flopdispatch.profile import Profile, ScopeNode
from flopdispatch.registry import Registry
from flopdispatch.rules import name_of as operator_name

Layers = dict[str, tuple[float, float, Any]]

RED, PLAIN = "\033[91m", "\033[00m"

UNITS = (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")


def profile(
    model: nn.Module,
    inputs: Iterable[Any] | Mapping[str, Any],
    custom_ops: Mapping[Any, Hook] | None = None,
    verbose: bool = True,
    ret_layer_info: bool = False,
    report_missing: bool = False,
    stride: object = None,
    min_cells: object = 1,
    *,
    kwargs: Mapping[str, Any] | None = None,
    convention: str | Registry | None = "thop",
) -> tuple[Any, ...]:
    """MACs and parameters of a forward, as floats; the third is the tree with `ret_layer_info`.

    `inputs` are the model's arguments, tensors or shapes; a dict is keyword arguments, and so is
    `kwargs` beside a tuple. The tree is `{name: (macs, params, {...})}`, a module's MACs those of
    all below it and of what it calls itself.

    `custom_ops` has hooks `fn(module, inputs, output)` by class. What a hook adds to
    `module.total_ops`, a float64 tensor of one element as thop's, replaces all that is counted
    inside the module. It is there while the hook runs only.

    `convention` prices: thop's figure by default, "flopdispatch" or any other, or a Registry.

    Raises: ArgumentError for arguments that can't be used; what the model or a hook raises.

    Example:

        >>> import torch
        >>> profile(nn.Linear(8, 4), inputs=(torch.ones(2, 8),), verbose=False)
        (64.0, 36.0)
    """
    args, keywords = arguments(model, inputs, kwargs)
    inside = unwrapped(model) or model
    prices = find_convention(convention)
    own = dict(custom_ops_given(custom_ops))
    built_in: dict[type, Hook] = dict.fromkeys(BUILT_IN, count_recurrent) if by_thop(prices) else {}
    rules = ModuleRules(inside, {**built_in, **own})
    if verbose or report_missing:
        print_rules(rules, own)
    with rules.watching():
        found = profiled(inside, args, keywords, convention=prices, shapes=True)
    if report_missing:
        print_missing(found)
    macs, layers = figures(found, inside, rules)
    params = float(found.params)
    return (macs, params, layers) if ret_layer_info else (macs, params)


def clever_format(nums: Any, format: str = "%.2f") -> str | tuple[str, ...]:
    """Numbers with a unit: T, G, M, K, or B for less. A str for one, else a tuple of them.

    As in thop a unit begins above its power of ten: exactly 1e9 is `1000.00M`, 1000 is `1000.00B`;
    a negative number is always in B.

    Raises: ArgumentError for what is no number, or a format that takes none.

    Example:

        >>> clever_format([4133742592.0, 25557032.0], "%.3f")
        ('4.134G', '25.557M')
    """
    several = isinstance(nums, Iterable) and getattr(nums, "ndim", 1) != 0
    several &= not isinstance(nums, str)
    texts = [with_unit(number, format) for number in (nums if several else [nums])]
    return texts[0] if len(texts) == 1 else tuple(texts)


def with_unit(number: Any, format: str) -> str:
    """One number as `clever_format` writes it."""
    try:
        scaled, unit = next(((number / n, unit) for n, unit in UNITS if number > n), (number, "B"))
        return str.__mod__(format, scaled) + unit
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "clever_format takes a number or several, and a format for one such as '%.2f', got "
            f"{number!r} and {format!r}"
        ) from error


# Arguments


def arguments(
    model: Any, inputs: Any, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the model is called with, in order and by name.

    Raises: ArgumentError if that can't be told.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"profile() takes a module as its model, got {type(model).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ArgumentError(f"kwargs= takes arguments by name, got {kwargs!r}")
    keywords = dict(kwargs or {})
    if isinstance(inputs, Mapping):
        return (), {**inputs, **keywords}
    if isinstance(inputs, Tensor | str) or is_shape(inputs) or not isinstance(inputs, Iterable):
        got = f"a tensor of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else inputs
        raise ArgumentError(
            "inputs= takes the arguments that the model is called with in a tuple, such as (x,) "
            f"or ((1, 3, 224, 224),), or a dict of them by name, got {got}"
        )
    return tuple(inputs), keywords


def custom_ops_given(custom_ops: Any) -> Mapping[type, Hook]:
    """The user's hooks by class.

    Raises: ArgumentError if they are something else.
    """
    given = {} if custom_ops is None else custom_ops
    if not isinstance(given, Mapping):
        raise ArgumentError(f"custom_ops= takes a dict of hooks by class, got {given!r}")
    for kind, hook in given.items():
        if not isinstance(kind, type) or not callable(hook):
            raise ArgumentError(
                "custom_ops= takes hooks fn(module, inputs, output) by the class of the modules "
                f"that they count, such as {{nn.Linear: fn}}, got {kind!r}: {hook!r}"
            )
    return given


def by_thop(prices: Registry | None) -> bool:
    """Whether a registry counts as thop does, or is on top of one that does."""
    while prices is not None and prices is not thop_registry():
        prices = prices.parent
    return prices is not None


# Results


def figures(found: Profile, model: nn.Module | None, rules: ModuleRules) -> tuple[float, Layers]:
    """MACs of the whole run, and the tree of the model's modules."""
    macs, layers = float(found.root.own.macs), {}
    for node in found.root.children:
        inside, _, below = figures_of(node, model, rules)
        macs += inside
        layers.update(below)
    return macs, layers


def figures_of(
    node: ScopeNode, module: nn.Module | None, rules: ModuleRules
) -> tuple[float, float, Layers]:
    """MACs, parameters and tree of one module."""
    if rules.replaces(module):
        return rules.take(module), float(node.params), {}
    modules = dict(children(module)) if module is not None else {}
    layers = {
        child.name: figures_of(child, modules.get(child.name), rules) for child in node.children
    }
    macs = sum((below for below, _, _ in layers.values()), float(node.own.macs))
    return macs + rules.take(module), float(node.params), layers


def print_rules(rules: ModuleRules, own: Mapping[type, Hook]) -> None:
    """The classes that have a rule, in thop's words."""
    for kind in dict.fromkeys(type(module) for module in rules.hooks):
        if kind in own:
            print(f"[INFO] Customize rule {name_of(own[kind])}() {kind}.")
        else:
            print(f"[INFO] Register {BUILT_IN[kind]}() for {kind}.")


def print_missing(found: Profile) -> None:
    """The operators without a formula, in thop's words and its red."""
    for overload in found.uncounted:
        name = operator_name(overload)
        print(f"{RED}[WARN] Cannot find rule for {name}. Treat it as zero Macs.\n{PLAIN}", end="")
