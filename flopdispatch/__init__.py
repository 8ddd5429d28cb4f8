"""An operator-level FLOP counter for PyTorch: right, complete and unobtrusive."""

from flopdispatch.assumptions import Assume, Assumption
from flopdispatch.building import on_meta
from flopdispatch.capture.module_calls import scope
from flopdispatch.cost import Cost
from flopdispatch.counter import FlopCounter, count
from flopdispatch.errors import (
    ArgumentError,
    CounterStateError,
    DataDependentError,
    FlopDispatchError,
    FormulaError,
    RegistryError,
    UncountedOperatorError,
    UncountedOperatorWarning,
)
from flopdispatch.formulas import default_registry
from flopdispatch.mfu import MfuMeter
from flopdispatch.profile import Profile, ScopeNode
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec, spec

__all__ = [
    "ArgumentError",
    "Assume",
    "Assumption",
    "Cost",
    "CounterStateError",
    "DataDependentError",
    "FlopCounter",
    "FlopDispatchError",
    "FormulaError",
    "MfuMeter",
    "Profile",
    "Registry",
    "RegistryError",
    "ScopeNode",
    "TensorSpec",
    "UncountedOperatorError",
    "UncountedOperatorWarning",
    "count",
    "default_registry",
    "on_meta",
    "scope",
    "spec",
]
