"""Every operator that this process knows, by name: torch's, the libraries' and the rules' own."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch

from flopdispatch.errors import ArgumentError
from flopdispatch.registry import Registry
from flopdispatch.rules import name_of

# Without these names a torch lists the operators that have rules, and no others.
_all_names: Any = getattr(torch._C, "_dispatch_get_all_op_names", tuple)
_higher_order: dict[str, Any] = getattr(torch._ops, "_higher_order_ops", {})


def catalogue(registry: Registry) -> dict[str, Any]:
    """Each overload by its full name, sorted; one whose library isn't loaded is its name."""
    found: dict[str, Any] = {}
    for name in _all_names():
        namespace, _, rest = name.partition("::")
        operator, _, overload = rest.partition(".")
        packet = getattr(getattr(torch.ops, namespace), operator)
        known = getattr(packet, overload or "default")
        found[name_of(known)] = known
    found |= {name_of(operator): operator for operator in _higher_order.values()}
    for rule in registry:
        found.setdefault(name_of(rule.overload), rule.overload)
    return dict(sorted(found.items()))


def matching(pattern: str, known: dict[str, Any]) -> list[str]:
    """The names that a pattern fits: one with `*`, `?` or `[` whole, any other as a part.

    A whole one may leave out the namespace. Case makes no difference.

    Raises: ArgumentError if none does.
    """
    wanted = pattern.lower()
    if any(c in wanted for c in "*?["):
        found = [
            name
            for name in known
            if fnmatchcase(name.lower(), wanted) or fnmatchcase(_short(name).lower(), wanted)
        ]
    else:
        found = [name for name in known if wanted in name.lower()]
    if not found:
        raise ArgumentError(f"no operator fits {pattern!r}{_hint(pattern, known)}")
    return found


def find(text: str, known: dict[str, Any]) -> list[str]:
    """The names that a person's way of writing an operator means, the likeliest first.

    `aten::mm.default`, `aten.mm.default`, `torch.ops.aten.mm.default`, `aten::mm`, `mm.default`
    and `mm` all mean the first. What is left out is taken to be `aten` and `default`, or `Tensor`,
    or else the first by name.

    Raises: ArgumentError if there is none.
    """
    wanted = text.removeprefix("torch.ops.")
    namespace = wanted.partition(".")[0]
    if "::" not in wanted and any(name.startswith(f"{namespace}::") for name in known):
        wanted = wanted.replace(".", "::", 1)
    found = [name for name in known if wanted in _spellings(name)]
    if not found:
        raise ArgumentError(f"no operator is called {text!r}{_hint(wanted, known)}")
    return sorted(found, key=lambda name: _likeliness(name, known[name]))


def _short(name: str) -> str:
    """A name without its namespace."""
    return name.partition("::")[2]


def _spellings(name: str) -> tuple[str, ...]:
    """A name in full, and without overload, namespace or both."""
    bare = name.rpartition(".")[0] or name
    return name, bare, _short(name), _short(bare)


def _likeliness(name: str, overload: Any) -> tuple[Any, ...]:
    """The key by which the likeliest meaning sorts first."""
    schema = getattr(overload, "_schema", None)
    writes = schema is not None and schema.is_mutable
    kind = name.rpartition(".")[2]
    return not name.startswith("aten::"), kind != "default", writes, kind != "Tensor", name


def _hint(text: str, known: dict[str, Any]) -> str:
    """What might have been meant, and what else may be the reason."""
    spellings = {spelling: name for name in reversed(known) for spelling in _spellings(name)}
    close = dict.fromkeys(spellings[near] for near in get_close_matches(text, spellings, n=5))
    near = f"; close are {', '.join(close)}" if close else ""
    return f"{near}. Those of a library are known once it is loaded: --import MODULE"
