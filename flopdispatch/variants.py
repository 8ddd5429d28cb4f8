"""Which functional operator a variant stands for: in-place, `out=`, `_copy` and `_foreach_*`.

Found from the schemas, so that a rule is written once, for the functional overload.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from flopdispatch.spec import OpCall, TensorSpec, signature, tensors


@cache
def functional_twin(overload: Any) -> Any | None:
    """The functional overload that takes the same arguments, None for an operator of its own.

    Example: `aten.add_.Tensor` and `aten.add.out` both stand for `aten.add.Tensor`.
    """
    if not isinstance(overload, torch._ops.OpOverload):
        return None
    name = overload._schema.name.split("::")[1]
    wanted = _inputs(overload)
    for twin_name in _functional_names(name, overload._schema.is_mutable):
        packet = getattr(getattr(torch.ops, overload.namespace), twin_name, None)
        for candidate in _overloads(packet):
            if candidate is not overload and not candidate._schema.is_mutable:
                if _inputs(candidate) == wanted:
                    return candidate
    return None


@cache
def element_twin(overload: Any) -> Any | None:
    """The operator on one tensor that a `_foreach_*` overload applies to each of its lists.

    In-place ones resolve to the functional operator: `aten._foreach_add_.List` is
    `aten.add.Tensor`, element by element.
    """
    if not isinstance(overload, torch._ops.OpOverload):
        return None
    name = overload._schema.name.split("::")[1]
    if not name.startswith("_foreach_"):
        return None
    base = name.removeprefix("_foreach_").rstrip("_")
    wanted = [_element_kind(kind) for _, kind in _inputs(overload)]
    for twin_name in (base, base + "_"):
        for candidate in _overloads(getattr(torch.ops.aten, twin_name, None)):
            kinds = [kind for _, kind in _inputs(candidate)]
            needed = [a for a in candidate._schema.arguments if not a.has_default_value()]
            if kinds[: len(wanted)] == wanted and len(needed) <= len(wanted):
                return candidate
    return None


def elements(call: OpCall, twin: Any) -> list[OpCall]:
    """A `_foreach_*` call as one call of `twin` per tensor; arguments go by position."""
    names, _ = signature(twin)
    values = list(call.arguments().values())
    lists = [value for value in values if any(tensors(value))]
    if not lists:
        return []
    out = outcome(call)
    out = out if isinstance(out, tuple) else lists[0]
    return [
        replace(
            call,
            overload=twin,
            args=(),
            kwargs=tuple((name, _item(value, i)) for name, value in zip(names, values)),
            result=out[i],
        )
        for i in range(len(lists[0]))
    ]


def _item(value: Any, i: int) -> Any:
    """Element `i` of an argument that is a list per tensor, else the argument itself."""
    return value[i] if isinstance(value, tuple) else value


def _element_kind(kind: str) -> str:
    """The type of a list's elements; any other type as it is."""
    return kind[len("List[") : -1] if kind.startswith("List[") else kind


def _functional_names(name: str, mutable: bool) -> list[str]:
    names = [name] if mutable else []  # the overload beside an `out=`
    if name.endswith("_") and not name.endswith("__"):
        names.append(name[:-1])
    if name.endswith("_copy"):
        names.append(name.removesuffix("_copy"))
    return names


def _overloads(packet: Any) -> list[Any]:
    return [getattr(packet, name) for name in packet.overloads()] if packet is not None else []


def _inputs(overload: Any) -> list[tuple[str, str]]:
    """Names and types of the arguments that are not pure outputs (`out=`)."""
    return [
        (argument.name, str(argument.type))
        for argument in overload._schema.arguments
        if not is_out(argument)
    ]


def inputs(call: OpCall) -> list[TensorSpec]:
    """The tensors that a call is given to read, in order: all but pure outputs."""
    outputs = _out_names(call.overload)
    if not outputs:
        return tensors((call.args, [value for _, value in call.kwargs]))
    given = [*zip(signature(call.overload)[0], call.args), *call.kwargs]
    return tensors([value for name, value in given if name not in outputs])


def outcome(call: OpCall) -> Any:
    """What a call gives: its result, or its `out=` tensors if it returns nothing."""
    names = _out_names(call.overload) if call.result is None else ()
    outputs = tuple(value for name, value in call.kwargs if name in names)
    return outputs[0] if len(outputs) == 1 else outputs or call.result


@cache
def _out_names(overload: Any) -> frozenset[str]:
    """Names of the arguments that are pure outputs; none of a higher-order operator."""
    schema = getattr(overload, "_schema", None)
    return frozenset(a.name for a in schema.arguments if is_out(a)) if schema else frozenset()


def is_out(argument: Any) -> bool:
    """Whether a schema argument is an `out=` tensor, by name or place: written, never read."""
    written = argument.alias_info is not None and argument.alias_info.is_write
    return bool(written and (argument.kwarg_only or argument.name == "out"))


def decomposes(overload: Any) -> bool:
    """Whether torch knows other operators that an overload runs as."""
    try:
        return bool(overload._can_decompose())
    except (AttributeError, RuntimeError):  # a higher-order operator; one of TorchScript's own
        return False
