"""Reports: a profile as something to read. One reporter a file; REPORTERS lists them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile
from flopdispatch.report import csv, folded, html, json, markdown, roofline, speedscope, table
from flopdispatch.roofline import Roofline

HARDWARE = "hardware"  # the option that names a machine, or gives its Hardware or a Roofline


class Reporter(NamedTuple):
    """How a profile is written: `render(profile, **options)` gives the text.

    What options it has, its keyword parameters say. `suffixes` are those of its files, `about` one
    line for people. `bounded(roofline, **options)` writes it with the least times on a machine,
    where the option `hardware` is given; None of a format that has no place for them.
    """

    render: Callable[..., str]
    suffixes: tuple[str, ...]
    about: str
    bounded: Callable[..., str] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        own = tuple(inspect.signature(self.render).parameters)[1:]
        return own if self.bounded is None else (*own, HARDWARE)


REPORTERS = {
    "table": Reporter(table.render, (".txt",), "the tree of modules as text", roofline.as_table),
    "markdown": Reporter(
        markdown.render, (".md",), "the same for an issue or a pull request", roofline.as_markdown
    ),
    "html": Reporter(
        html.render, (".html", ".htm"), "a page to look at and to search", roofline.as_html
    ),
    "json": Reporter(
        json.render, (".json",), "all of it, to query and to read back", roofline.as_json
    ),
    "csv": Reporter(csv.render, (".csv",), "exact integers, a line a module", roofline.as_csv),
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
    machine = given.pop(HARDWARE, None)
    reporter = REPORTERS[name]
    if machine is None or reporter.bounded is None:
        return reporter.render(profile, **given)
    found = machine if isinstance(machine, Roofline) else profile.roofline(machine)
    return reporter.bounded(found, **given)


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
