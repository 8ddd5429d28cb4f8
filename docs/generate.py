"""Write the pages that are made from the code: `make docs`; `--check` says if they are current."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from flopdispatch.cli.main import parser as command_line
from flopdispatch.formulas import FAMILIES
from flopdispatch.registry import Registry
from flopdispatch.rules import Rule, name_of

FORMULAS_HEAD = """\
# Formulas

Every operator overload that has a rule, by family, with what it counts and how. Made by
`make docs` from the registry; the text is the formulas' own. In-place, `out=`, `_copy` and
`_foreach_*` variants follow their functional operator and are not listed. An operator that
isn't here and is no such variant shows as *uncounted* in every report.

FLOPs = 2·MACs + adds + muls + divs. Transcendentals and comparisons are reported beside.
"""

COMMANDS_HEAD = """\
# Commands

Every command of `flopdispatch`, with all that it takes. Made by `make docs` from what `--help`
says; [the command line](command-line.md) shows them at work.
"""


def formulas() -> str:
    """The page of formulas, from the registry."""
    return "\n\n".join([FORMULAS_HEAD.rstrip(), *(family_section(name) for name in FAMILIES)])


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


def commands() -> str:
    """The page of commands, from the parsers that `--help` prints."""
    whole = command_line()
    codes = inspect.cleandoc((whole.epilog or "").partition("\n\n")[0])
    parts = [COMMANDS_HEAD.rstrip(), f"```text\n{codes}\n```"]
    (below,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in below.choices.items():
        parts += [f"## {name}", escaped(parser.description or ""), *options(parser)]
        if parser.epilog:
            parts.append(f"```text\n{parser.epilog.strip()}\n```")
    return "\n\n".join(parts)


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of what a command takes."""
    lines = ["| argument | what it is |", "|---|---|"]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        value = "" if action.nargs == 0 else value_of(action)
        names = [f"{option} {value}".rstrip() for option in action.option_strings] or [value]
        about = (action.help or "") % {**vars(parser), **vars(action), "prog": parser.prog}
        cells = f"| `{', '.join(names)}` | {escaped(about)} |"
        lines.append(cells.replace(" | `", " | `"))
    yield "\n".join(lines)


def value_of(action: argparse.Action) -> str:
    """What stands for an argument's value, as `--help` writes it."""
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def escaped(text: str) -> str:
    """Plain text as Markdown: what is in backquotes stays, the rest has no markup."""
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([<>*_|])", r"\\\1", part) for part in parts
    )


PAGES = {"formulas.md": formulas, "commands.md": commands}


def main() -> int:
    """Write the pages, or say whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is out of date")
    check, code = parser.parse_args().check, 0
    for name, make in PAGES.items():
        page, text = Path(__file__).with_name(name), make() + "\n"
        if check:
            code |= int(page.read_text(encoding="utf-8") != text)
        else:
            page.write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
