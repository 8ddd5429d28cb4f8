"""All exceptions and warnings of the package.

FlopDispatchError
├── ArgumentError            (ValueError)    a bad argument of `count`, `spec`, a report, ...
├── RegistryError            (ValueError)    a rule that can't be registered
├── CounterStateError        (RuntimeError)  a counter entered, paused or resumed at a wrong time
├── FormulaError             (RuntimeError)  a formula raised while a call was priced
├── DataDependentError       (RuntimeError)  a value was asked for that isn't known on meta
└── UncountedOperatorError   (RuntimeError)  strict=True and operators without a formula
UncountedOperatorWarning     (UserWarning)   the same news, without strict
"""


class FlopDispatchError(Exception):
    """Base of every exception that flopdispatch raises on its own account."""


class ArgumentError(FlopDispatchError, ValueError):
    """An argument is not what was expected; the message says what to give instead."""


class RegistryError(FlopDispatchError, ValueError):
    """A rule is a duplicate, names an argument that the schema lacks, or has no operator."""


class CounterStateError(FlopDispatchError, RuntimeError):
    """A counter can't do this now: it counts already, or is paused, or is not in its block."""


class FormulaError(FlopDispatchError, RuntimeError):
    """A formula raised; the message names the operator and its argument specs."""


class DataDependentError(FlopDispatchError, RuntimeError):
    """A program asked for a value that depends on data; the message names its source line."""


class UncountedOperatorError(FlopDispatchError, RuntimeError):
    """Operators without a formula ran under `strict=True`."""


class UncountedOperatorWarning(UserWarning):
    """Operators without a formula ran; their cost is missing from the totals."""
