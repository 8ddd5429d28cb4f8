"""Tell what is known of one operator: its state, its formula and where that is.

OVERLOAD is written as torch does in any of its ways: aten::add.Tensor, aten.add.Tensor,
torch.ops.aten.add.Tensor, or just add. In-place, out= and _foreach variants go by the formula of
their functional operator, which is named. A convention that counts the operator in another way is
listed with what it counts.

examples:
  flopdispatch explain mm
  flopdispatch explain aten::_foreach_add_.Scalar
  flopdispatch explain --import torchvision torchvision::nms
"""

from __future__ import annotations

import ast
import inspect
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from flopdispatch.catalogue import catalogue, find
from flopdispatch.cli import terminal
from flopdispatch.cli.ops import add_import
from flopdispatch.cli.targets.python import module_of
from flopdispatch.conventions import CONVENTIONS, convention
from flopdispatch.cost import Cost
from flopdispatch.formulas import default_registry
from flopdispatch.registry import Registry
from flopdispatch.rules import COUNTED, DECOMPOSED, DENSE, LAYOUTS, UNCOUNTED, ZERO, Rule, name_of
from flopdispatch.units import some

STATES = {
    COUNTED: "a formula says what a call costs",
    ZERO: "declared to compute nothing; its bytes are counted",
    DECOMPOSED: "runs as other operators, which are counted",
    UNCOUNTED: "no formula: reports list its calls, and totals lack their cost",
}
PACKAGE = Path(__file__).parents[2]
MOST = 12  # other overloads named


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("overload", metavar="OVERLOAD", help="an operator's name")
    add_import(parser)


def run(arguments: Namespace) -> int:
    for name in arguments.modules:
        module_of(name)
    registry = default_registry()
    known = catalogue(registry)
    name, *others = find(arguments.overload, known)
    text = "\n".join(explained(known[name], registry))
    if others:
        text += f"\n\nAlso called so: {some(others, MOST)}"
    terminal.write(text, None)
    return 0


def explained(overload: Any, registry: Registry) -> Iterator[str]:
    """What is known of an operator, line by line."""
    found = registry.explain(overload)
    schema = getattr(overload, "_schema", None)
    stands_for = "" if found.stands_for is None else name_of(found.stands_for)
    yield name_of(overload)
    for label, text in (
        ("schema", "" if schema is None else str(schema)),
        ("state", f"{found.state}: {STATES[found.state]}"),
        ("family", found.family),
        ("counted as", stands_for),
        ("estimate", found.estimate),
        ("layouts", ", ".join(found.layouts)),
    ):
        if text:
            yield f"  {label:<10}  {text}"
    operator = overload if found.stands_for is None else found.stands_for
    told: list[Callable[..., Cost]] = []
    for layout in LAYOUTS:
        rule = registry.rule(operator, layout)
        if rule is not None and rule.formula is not None and rule.formula not in told:
            yield ""
            yield from formula_text(
                rule.formula, "" if layout == DENSE else f"of {layout} tensors, "
            )
            told.append(rule.formula)
    yield from other_conventions(registry.rule(operator))


def formula_text(function: Callable[..., Cost], which: str = "") -> Iterator[str]:
    """A formula's own words, where it is, its code and what the code was given."""
    code = function.__code__
    yield f"Formula {which}{where(function)}"
    yield indent(inspect.getdoc(function) or "", "  ")
    yield ""
    yield indent(without_docstring(dedent(inspect.getsource(code))), "    ")
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        yield f"    where {name} = {shown(cell.cell_contents)}"


def where(function: Callable[..., Any]) -> str:
    """The file of a function, from the package on, and its first line."""
    code = function.__code__
    return f"{Path(code.co_filename).relative_to(PACKAGE).as_posix()}:{code.co_firstlineno}"


def without_docstring(source: str) -> str:
    """A function's source without its docstring."""
    function = ast.parse(source).body[0]
    lines = source.rstrip().split("\n")
    if isinstance(function, ast.FunctionDef) and ast.get_docstring(function) is not None:
        first = function.body[0]
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """What a formula was given, as it is written in code."""
    if isinstance(value, Cost):
        return f"Cost({', '.join(f'{name}={n}' for name, n in value.to_dict().items())})"
    return f"{value.__name__}, {where(value)}" if inspect.isfunction(value) else repr(value)


def other_conventions(rule: Rule | None) -> Iterator[str]:
    """What the other conventions count of an operator with this rule."""
    if rule is None or rule.state == ZERO:
        return
    counted: dict[str, list[str]] = {}
    for name in CONVENTIONS:
        other = convention(name).rule(rule.overload)
        if other is not None and other != rule:
            counted.setdefault(counted_of_it(other, rule), []).append(name)
    if counted:
        yield from ("", "What other conventions count of it")
    for what, names in counted.items():
        yield f"  {', '.join(names)}: {what}"


def counted_of_it(other: Rule, rule: Rule) -> str:
    """What a convention's rule counts where ours is `rule`."""
    if other.formula is None or other.state == ZERO:
        return "nothing"
    if other.formula is rule.formula:
        return ", ".join(other.keeps or ())
    words = (inspect.getdoc(other.formula) or "a formula of its own").partition("\n")[0]
    return f"{words.rstrip('.')} ({where(other.formula)})"
