"""Registry: which formula prices which operator overload.

An overload is in one of three states: *counted* (it has a formula), *zero* (declared to
compute nothing), or *uncounted* (nobody said anything, so it is reported).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch

from flopdispatch.cost import Cost
from flopdispatch.errors import FormulaError, RegistryError
from flopdispatch.promotion import compute_dtype
from flopdispatch.rules import (
    COUNTED,
    DECOMPOSED,
    DENSE,
    LAYOUTS,
    NESTED,
    SPARSE,
    TAKERS,
    UNCOUNTED,
    ZERO,
    Explanation,
    Price,
    Rule,
    Traffic,
    name_of,
    parameters,
)
from flopdispatch.spec import OpCall, signature
from flopdispatch.traffic import traffic
from flopdispatch.variants import (
    decomposes,
    element_twin,
    elements,
    functional_twin,
    inputs,
    outcome,
)

_OPERATORS = torch._ops.OpOverload | torch._ops.HigherOrderOperator
_NAME = re.compile(r"\w+::\w+\.\w+|higher_order::\w+")

_NOTHING = Cost()
_UNSOUGHT: Any = object()  # in place of a rule that hasn't been looked for

Formula = TypeVar("Formula", bound=Callable[..., Cost])


class Known(Protocol):
    """What stands for one distinct call for as long as the process knows it."""

    @property
    def call(self) -> OpCall:
        """The call itself."""


class Registry:
    """Rules by overload, on top of a `parent`'s.

    `name` and `description` say by which convention the rules count; reports print them. `keeps`
    names the families that the convention counts by the parent's rules, and for each the fields of
    a Cost that it counts; by None it counts everything.

    Example:

        >>> rules = Registry("mine", "with my kernel")
        >>> @rules.formula("mylib::my_op.default", family="mine")
        ... def my_op(x: TensorSpec, result: TensorSpec) -> Cost:
        ...     return Cost(muls=x.numel)
        >>> from flopdispatch.spec import spec
        >>> my_op(spec(2, 3), spec(2, 3)).muls
        6
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        parent: Registry | None = None,
        keeps: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.parent = parent
        self.keeps = keeps
        self._rules: dict[tuple[Any, str], Rule] = {}
        self._found: dict[tuple[Any, str], Rule | None] = {}
        self._prices: WeakKeyDictionary[Known, Price] = WeakKeyDictionary()
        self._seen = Registry._changes
        self._frozen = False

    _changes = 0  # how often a rule was added to any registry, this one's parents among them

    def overlay(
        self,
        name: str,
        description: str = "",
        keeps: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Registry:
        """A registry that falls back on this one, for rules of your own.

        Example: `keeps={"matmul": ("macs",), "convolution": ("macs",)}` counts the MACs of these
        two families, and nothing else but what your rules say.
        """
        return Registry(name, description or self.description, parent=self, keeps=keeps)

    def freeze(self) -> Registry:
        """Refuse further rules, so that nothing global changes after import."""
        self._frozen = True
        return self

    # Registration

    def formula(
        self,
        *overloads: Any,
        family: str | None = None,
        estimate: str = "",
        estimated_if: Callable[..., bool] | None = None,
        typed: bool = True,
        nbytes: Traffic | None = None,
        layout: str = DENSE,
        takes: Callable[..., tuple[int, ...]] | None = None,
        override: bool = False,
    ) -> Callable[[Formula], Formula]:
        """Register the decorated function for these overloads and return it unchanged.

        An overload may be given by name (`"torchvision::nms.default"`), for an operator of a
        library that may be loaded later or not at all; what the formula asks for isn't checked.

        Its parameters are named after the schema arguments it wants, tensors as TensorSpec;
        `result` is the output, `taken` what `takes` took. It returns a Cost, from integers only.
        `nbytes` and `estimated_if` name their arguments likewise. The fields of Rule say what
        each is.

        Raises: RegistryError for a duplicate (unless `override`), a parameter that the
        schema lacks, or what is no OpOverload.
        """

        def register(function: Formula) -> Formula:
            for overload in overloads:
                about = estimate, estimated_if, typed, nbytes, layout, takes
                self._add(Rule(overload, family or self.name, function, *about), override)
            return function

        return register

    def zero(
        self,
        *overloads: Any,
        family: str | None = None,
        nbytes: Traffic | None = None,
        override: bool = False,
    ) -> None:
        """Declare that these overloads compute nothing, whatever the layout.

        Raises: RegistryError as `formula` does.
        """
        for overload in overloads:
            self._add(Rule(overload, family or self.name, nbytes=nbytes), override)

    def adopt(self, known: Rule, formula: Callable[..., Cost], typed: bool | None = None) -> None:
        """Take over a rule of another registry with another formula; what else it says stays.

        Raises: RegistryError as `formula` does.
        """
        typed = known.typed if typed is None else typed
        self._add(replace(known, formula=formula, typed=typed), override=False)

    def include(self, other: Registry) -> None:
        """Take over the rules of `other`: how families become one registry."""
        for rule in other._rules.values():
            self._add(rule, override=False)

    def _add(self, rule: Rule, override: bool) -> None:
        overload = rule.overload
        if self._frozen:
            raise RegistryError(
                f"the registry {self.name!r} is shared and can't be changed; "
                "register on default_registry().overlay('name') and pass it as convention="
            )
        named = isinstance(overload, str) and _NAME.fullmatch(overload)
        if not named and not isinstance(overload, _OPERATORS):
            raise RegistryError(
                f"a rule is registered for an operator overload such as "
                f"torch.ops.aten.mm.default, or its name 'aten::mm.default', got {overload!r}"
            )
        if rule.layout not in LAYOUTS:
            raise RegistryError(f"layout= takes one of {', '.join(LAYOUTS)}, got {rule.layout!r}")
        if (overload, rule.layout) in self._rules and not override:
            raise RegistryError(
                f"{overload} has a rule in the registry {self.name!r} already; "
                "pass override=True to replace it"
            )
        if not named:
            for function in (rule.formula, rule.nbytes, rule.estimated_if):
                self._check_parameters(overload, function, {"result", "taken"})
            self._check_parameters(overload, rule.takes, set())
        if rule.takes is not None:
            TAKERS[name_of(overload), rule.layout] = rule.takes
        self._rules[overload, rule.layout] = rule
        Registry._changes += 1

    @staticmethod
    def _check_parameters(
        overload: Any, function: Callable[..., Any] | None, more: set[str]
    ) -> None:
        if function is None:
            return
        known = {*signature(overload)[0], *more}
        for name in inspect.signature(function).parameters:
            if name not in known:
                raise RegistryError(
                    f"{function.__name__}() asks for {name!r}, which {overload} has not: "
                    f"its arguments are {', '.join(sorted(known))}"
                )

    # Look-up

    def __iter__(self) -> Iterator[Rule]:
        """All rules, the overlay's own first, each overload once a layout."""
        yield from self._rules.values()
        for rule in self.parent or ():
            if (rule.overload, rule.layout) not in self._rules:
                yield self._kept(rule)

    def rule(self, overload: Any, layout: str = DENSE) -> Rule | None:
        """The rule of an overload, or of the functional one that it is a variant of."""
        self._forget_what_changed()
        found: Rule | None = self._found.get((overload, layout), _UNSOUGHT)
        if found is _UNSOUGHT:
            found, twin = self._own(overload, layout), functional_twin(overload)
            while found is None and twin is not None:  # view_copy.out, view_copy, view
                found, twin = self._own(twin, layout), functional_twin(twin)
            self._found[overload, layout] = found
        return found

    def explain(self, overload: Any) -> Explanation:
        """What this registry says of any overload; `print` it to read the formula's text.

        Example: `default_registry().explain(torch.ops.aten.add_.Tensor)` says that it is counted
        as `aten::add.Tensor`, in the family `pointwise`.
        """
        rule, stands_for = self.rule(overload), None
        if rule is None:
            twin = element_twin(overload)
            rule = self.rule(twin) if twin is not None else None
        layouts = [layout for layout in LAYOUTS if self.rule(overload, layout) is not None]
        if rule is None and decomposes(overload):
            return Explanation(overload, DECOMPOSED, layouts=tuple(layouts))
        if rule is None and layouts:
            rule = self.rule(overload, layouts[0])
        if rule is None:
            return Explanation(overload, UNCOUNTED)
        if name_of(rule.overload) != name_of(overload):
            stands_for = rule.overload
        text = inspect.getdoc(rule.formula) or "" if rule.formula is not None else ""
        about = rule.state, rule.family, stands_for, rule.estimate, tuple(layouts), text
        return Explanation(overload, *about)

    def _own(self, overload: Any, layout: str) -> Rule | None:
        found = self._ruled(overload, layout)
        if found is None and layout != DENSE:
            # Nothing is nothing in any layout; nested tensors' elements are all there, in a row.
            found = self._ruled(overload, DENSE)
            if found is not None and layout == SPARSE and found.state == COUNTED:
                found = None
        if found is not None:
            return found
        found = self.parent._own(overload, layout) if self.parent is not None else None
        return self._kept(found) if found is not None else None

    def _kept(self, rule: Rule) -> Rule:
        """A rule of the parent's as this registry counts it."""
        return rule if self.keeps is None else rule.keeping(self.keeps.get(rule.family, ()))

    def _ruled(self, overload: Any, layout: str) -> Rule | None:
        found = self._rules.get((overload, layout))
        return self._rules.get((name_of(overload), layout)) if found is None else found

    def _forget_what_changed(self) -> None:
        if self._seen != Registry._changes:
            self._found.clear()
            self._prices.clear()
            self._seen = Registry._changes

    # Pricing

    def price_known(self, known: Known) -> Price:
        """`price_or_error` of a call that many recordings share, worked out once."""
        self._forget_what_changed()
        found = self._prices.get(known)
        if found is None:
            found = self._prices[known] = self.price_or_error(known.call)
        return found

    def price_or_error(self, call: OpCall) -> Price:
        """The price of one call; that of an uncounted one, with the error, if a formula fails."""
        try:
            return self.price(call)
        except FormulaError as error:
            return replace(_uncounted(call), error=str(error))

    def price(self, call: OpCall) -> Price:
        """Price one call.

        Raises: FormulaError if the formula raises or returns something else than a Cost.
        """
        dtype, layout = compute_dtype(call), layout_of(call)
        rule = self.rule(call.overload, layout)
        parts = [(call, dtype)]
        if rule is None:
            twin = element_twin(call.overload)
            rule = self.rule(twin, layout) if twin is not None else None
            if rule is None:
                return _uncounted(call)
            parts = [(part, compute_dtype(part)) for part in elements(call, twin)]
        costs = [_evaluate(rule, *part) for part in parts]
        cost = costs[0] if len(costs) == 1 else sum(costs, _NOTHING)
        moved = _moved(rule.nbytes, [p for p, _ in parts]) if rule.nbytes else traffic(call)
        estimated = rule.estimated_if is None or _apply(rule.estimated_if, call)
        estimate = rule.estimate if estimated and rule.state == COUNTED else ""
        return Price(cost.moving(*moved), rule.family, rule.state, dtype, estimate)


def _uncounted(call: OpCall) -> Price:
    return Price(_NOTHING.moving(*traffic(call)), UNCOUNTED, UNCOUNTED, compute_dtype(call))


def layout_of(call: OpCall) -> str:
    """The layout of a call's operands: formulas say what dense ones cost unless they say more."""
    operands = inputs(call)
    if any(t.nnz is not None for t in operands):
        return SPARSE
    return NESTED if any(t.parts is not None for t in operands) else DENSE


def _evaluate(rule: Rule, call: OpCall, dtype: torch.dtype | None) -> Cost:
    """The formula's counts as real operations of the compute dtype, without bytes."""
    if rule.formula is None or rule.state == ZERO:
        return _NOTHING
    cost = _apply(rule.formula, call)
    if not isinstance(cost, Cost):
        raise FormulaError(f"the formula of {call.overload} returned {cost!r}, not a Cost")
    cost = cost.in_dtype(dtype) if rule.typed else cost
    return cost if rule.keeps is None else cost.only(rule.keeps)


def _moved(nbytes: Traffic, parts: list[OpCall]) -> tuple[int, int]:
    """What the rule says that the calls read and write."""
    moved = [_apply(nbytes, part) for part in parts]
    return sum(read for read, _ in moved), sum(written for _, written in moved)


def _apply(function: Callable[..., Any], call: OpCall) -> Any:
    """Call a formula with the arguments that it names."""
    values = call.arguments()
    values["result"], values["taken"] = outcome(call), call.taken
    try:
        return function(**{name: values.get(name) for name in parameters(function)})
    except Exception as error:
        raise FormulaError(
            f"the formula of {call.overload} raised {type(error).__name__}: {error}; "
            f"its arguments were {call.args} {dict(call.kwargs)}, its result {call.result}"
        ) from error
