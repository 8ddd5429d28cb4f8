"""Write docs/formulas.md from the registry: `make docs`, or `--check` to see if it is current."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

from flopdispatch.formulas import FAMILIES
from flopdispatch.registry import Registry
from flopdispatch.rules import Rule, name_of

PAGE = Path(__file__).with_name("formulas.md")

HEAD = """\
# Formulas

Every operator overload that has a rule, by family, with what it counts and how. Made by
`make docs` from the registry; the text is the formulas' own. In-place, `out=`, `_copy` and
`_foreach_*` variants follow their functional operator and are not listed. An operator that
isn't here and is no such variant shows as *uncounted* in every report.

FLOPs = 2·MACs + adds + muls + divs. Transcendentals and comparisons are reported beside.
"""


def family_section(name: str) -> str:
    """One family: its file's introduction, its formulas, its declared zeros."""
    module = import_module(f"flopdispatch.formulas.{name}")
    rules: Registry = module.rules
    parts = [f"## {name}", inspect.cleandoc(module.__doc__ or "")]
    formulas: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.formula is not None:
            text = inspect.cleandoc(rule.formula.__doc__ or "")
            formulas.setdefault(text, []).append(rule)
    for text, counted in formulas.items():
        operators = ", ".join(f"`{short(rule)}`" for rule in counted)
        estimates = {rule.estimate for rule in counted if rule.estimate}
        notes = [f"*Estimate: {estimate}.*" for estimate in sorted(estimates)]
        lines = [re.sub(r"(?<!\n)\n(?=[A-Z]\w+: )", "  \n", text), *notes]
        parts.append(f"**{operators}**  \n" + "  \n".join(lines))
    zeros = sorted(short(rule) for rule in rules if rule.formula is None)
    if zeros:
        parts.append("Declared zero: " + ", ".join(f"`{zero}`" for zero in zeros) + ".")
    return "\n\n".join(parts)


def short(rule: Rule) -> str:
    """An overload's name without what goes without saying: aten and `.default`."""
    return name_of(rule.overload).removeprefix("aten::").removesuffix(".default")


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.rstrip(), *(family_section(name) for name in FAMILIES)]) + "\n"


def main() -> int:
    """Write the page, or say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
