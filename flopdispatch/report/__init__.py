"""Reports: a profile as something to read. One reporter a file; REPORTERS lists them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report import csv, folded, html, json, markdown, speedscope, table


class Reporter(NamedTuple):
    """How a profile is written: `render(profile, **options)` gives the text.

    What options it has, its keyword parameters say. `suffixes` are those of its files, `about` one
    line for people.
    """

    render: Callable[..., str]
    suffixes: tuple[str, ...]
    about: str

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        return tuple(inspect.signature(self.render).parameters)[1:]


REPORTERS = {
    "table": Reporter(table.render, (".txt",), "the tree of modules as text"),
    "markdown": Reporter(markdown.render, (".md",), "the same for an issue or a pull request"),
    "html": Reporter(html.render, (".html", ".htm"), "a page to look at and to search"),
    "json": Reporter(json.render, (".json",), "all of it, to query and to read back"),
    "csv": Reporter(csv.render, (".csv",), "exact integers, a line a module"),
    "folded": Reporter(folded.render, (".folded",), "stacks for a flame graph tool"),
    "speedscope": Reporter(
        speedscope.render, (".speedscope.json",), "flame graphs for speedscope.app"
    ),
}


def render(profile: Profile, name: str, **options: Any) -> str:
    """A profile written by the reporter of that name; an option that is None isn't given.

    Raises: ArgumentError for an unknown name, or an option that this reporter doesn't have.
    """
    given = {option: value for option, value in options.items() if value is not None}
    check_options(name, given)
    return REPORTERS[name].render(profile, **given)


def check_options(name: str, given: Iterable[str]) -> None:
    """Raises: ArgumentError for an unknown reporter, or an option that it doesn't have."""
    if name not in REPORTERS:
        raise ArgumentError(f"expected a format of {', '.join(REPORTERS)}, got {name!r}")
    for option in given:
        if option not in REPORTERS[name].options:
            having = [other for other, reporter in REPORTERS.items() if option in reporter.options]
            raise ArgumentError(
                f"the format {name} has no option {option!r}: leave it out, or take one of the "
                f"formats that have it: {', '.join(having) or 'none has'}"
            )


def by_suffix(path: str | Path) -> str:
    """The name of the reporter whose files end as `path` does.

    Raises: ArgumentError if none does.
    """
    endings = {suffix: name for name, made in REPORTERS.items() for suffix in made.suffixes}
    found = [suffix for suffix in endings if str(path).lower().endswith(suffix)]
    if found:
        return endings[max(found, key=len)]  # .speedscope.json is more than .json
    known = ", ".join(endings)
    raise ArgumentError(f"the file {path} has none of the known endings {known}: name its format")
