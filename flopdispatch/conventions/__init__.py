"""Conventions: registries by name, each pricing the same recording its own way.

CONVENTIONS is the table; a new convention is one file here that has a `registry()`, and its name
in the table. Those of other tools give the tool's own figure: thop, ptflops, fvcore and torchstat
count in `macs` whatever they count, torch in `flops`.
"""

from __future__ import annotations

from importlib import import_module

from flopdispatch.errors import ArgumentError
from flopdispatch.formulas import default_registry
from flopdispatch.registry import Registry

CONVENTIONS = (
    "flopdispatch", "torch", "fvcore", "ptflops", "thop", "torchstat", "causal", "valid",
)  # fmt: skip

# The families that other tools count, of which these count multiply-accumulates only. Fused
# recurrent kernels are among them because the matrix products that they stand for are.
PRODUCTS = dict.fromkeys(("matmul", "convolution", "attention", "rnn"), ("macs",))


def convention(given: str | Registry | None) -> Registry:
    """The registry that prices: the default for None, one by name, or the given one itself.

    Raises: ArgumentError for an unknown name or another type.
    """
    if given is None or given == "flopdispatch":
        return default_registry()
    if isinstance(given, Registry):
        return given
    if not isinstance(given, str) or given not in CONVENTIONS:
        raise ArgumentError(
            f"convention= takes a Registry or one of {', '.join(CONVENTIONS)}, got {given!r}"
        )
    found: Registry = import_module(f"flopdispatch.conventions.{given}").registry()
    return found
