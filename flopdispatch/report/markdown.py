"""Markdown: the table of modules for an issue, a pull request or a paper's appendix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from flopdispatch.profile import Profile
from flopdispatch.report.markup import visible
from flopdispatch.report.table import WORDS, alignment, footer, headers, lines

TREE = re.compile("^[│ ]*[├└]─ ")
SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&#])")


def render(
    profile: Profile, depth: int | None = None, sort: str | None = None, by: str = "modules"
) -> str:
    """The rows of the table and its footer as GitHub's Markdown; the options as there.

    Names are code spans, so that nothing in them is read as Markdown, HTML or a mention.

    Raises: ArgumentError for another `depth`, `sort` or `by`.
    """
    return written(headers(by), lines(profile, depth, sort, by), footer(profile))


def written(headers: Sequence[str], cells: list[list[str]], notes: list[str]) -> str:
    """A table of cells, the total last, with notes as a list below it."""
    *rows, total = cells
    types = 1 if headers[1] in WORDS else 0
    text = tabulate(
        [
            *([_label(row[0]), *map(code, row[1 : 1 + types]), *row[1 + types :]] for row in rows),
            [f"**{total[0]}**", *total[1:]],
        ],
        headers=headers,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=alignment(headers),
        preserve_whitespace=True,
    )
    return "\n".join([text, "", *map(_item, notes)])


def code(text: str) -> str:
    """A text as code in a cell of a table, `""` if it is empty.

    Example:

        >>> print(code("a|b"), code("``"))
        `a\\|b` ``` `` ```
    """
    if not text:
        return ""
    runs = re.findall("`+", text)
    fence = "`" * (1 + max(map(len, runs), default=0))
    pad = " " if text.strip() and (text[0] in "` " or text[-1] in "` ") else ""
    return f"{fence}{pad}{visible(text)}{pad}{fence}".replace("|", "\\|")


def _label(label: str) -> str:
    name = TREE.sub("", label)
    drawn = label[: len(label) - len(name)]
    return drawn.replace(" ", "\N{NO-BREAK SPACE}") + code(name)


def _item(line: str) -> str:
    """A line of the footer as an item of a list; what goes on from the line above, below it."""
    indent = "  " if line.startswith(" ") else ""
    escaped = SPECIAL.sub(r"\\\1", visible(line.strip()))
    return f"{indent}- {escaped}"
