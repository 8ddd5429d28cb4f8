"""Imports point up one list only, and the core needs torch and tabulate alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flopdispatch

PACKAGE = Path(flopdispatch.__file__).parent

# Each may import those before it (and its own kind), never those after it.
ORDER = (
    "errors",
    "assumptions",
    "units",
    "terminal",
    "cost",
    "spec",
    "variants",
    "traffic",
    "promotion",
    "rules",
    "registry",
    "catalogue",
    "formulas",
    "conventions",
    "capture",
    "codec",
    "saved",
    "profile",
    "activations",
    "hardware",
    "roofline",
    "inputs",
    "training",
    "building",
    "counter",
    "compat",
    "difference",
    "report",
    "amounts",
    "budget",
    "mfu",
    "integrations",
    "pytest_plugin",
    "cli",
    "__init__",
    "__main__",
)
CORE = {"torch", "tabulate", "flopdispatch"}
EXTRA: dict[str, set[str]] = {
    "integrations/lightning.py": {"lightning"},
    "integrations/transformers.py": {"transformers"},
}

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The absolute names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            if node.module == "flopdispatch":
                yield from (f"flopdispatch.{alias.name}" for alias in node.names)
            else:
                yield node.module


def part_of(path: Path) -> str:
    """The entry of ORDER that a file belongs to."""
    return path.parts[0].removesuffix(".py")


def test_every_file_has_its_place_in_the_order() -> None:
    assert {part_of(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_up(path: Path) -> None:
    mine = ORDER.index(part_of(path))
    for name in imported(path):
        if name.split(".")[0] == "flopdispatch":
            other = (*name.split("."), "__init__")[1]
            place = ORDER.index(other if other in ORDER else "__init__")  # a public name
            assert place <= mine, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_torch_and_tabulate_are_needed(path: Path) -> None:
    allowed = CORE | EXTRA.get(str(path), set())
    for name in imported(path):
        package = name.split(".")[0]
        assert package in allowed or package in sys.stdlib_module_names, f"{path} imports {name}"


def test_private_parts_of_torch_are_named_in_known_places() -> None:
    """`torch._C` is written where its absence is dealt with."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "_C":
                found.add(str(path))
    assert found == {"capture/private.py", "catalogue.py"}


def test_no_formula_file_imports_a_later_family_in_a_circle() -> None:
    """Families may build on each other, as long as there is an order among them."""
    below = {
        path.stem: {
            name.split(".")[2] for name in imported(path) if name.count(".") >= 2
            and name.startswith("flopdispatch.formulas.")
        }
        for path in FILES
        if part_of(path) == "formulas" and path.name != "__init__.py"
    }  # fmt: skip
    placed: set[str] = set()
    while below:
        ready = {name for name, needs in below.items() if needs <= placed | {"operators"}}
        assert ready, f"these import each other in a circle: {sorted(below)}"
        placed |= ready
        below = {name: needs for name, needs in below.items() if name not in ready}
