"""Every example of README, of the documentation's pages and of the docstrings is true."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import flopdispatch
from tests.examples import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [
    page
    for page in PAGES
    if re.search(r"^```(python|console)", page.read_text(encoding="utf-8"), re.MULTILINE)
]


def source(module: str) -> str:
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")


MODULES = [
    module
    for _, module, _ in pkgutil.walk_packages(flopdispatch.__path__, "flopdispatch.")
    if ">>> " in source(module)
]
# Made by the package, never by its users: what they are for, the docstring of their maker says.
NEEDS_NONE = {"Assumption", "ScopeNode"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_the_examples_of_a_page_are_true(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = page.read_text(encoding="utf-8")
    for stands, should in run(page):
        if request.config.getoption("--overwrite"):
            text = text.replace(stands, should)
        else:
            assert stands == should, "look at it, then pytest --overwrite writes it anew"
    if request.config.getoption("--overwrite"):
        page.write_text(text, encoding="utf-8")


def test_the_pages_that_teach_have_examples() -> None:
    taught = {"README.md", "quickstart.md", "guide.md", "command-line.md", "on-meta.md"}
    assert taught <= {page.name for page in WITH_EXAMPLES}


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_are_true(module: str) -> None:
    failed, tried = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


@pytest.mark.parametrize("name", sorted(set(flopdispatch.__all__) - NEEDS_NONE))
def test_what_users_call_has_an_example(name: str) -> None:
    public = getattr(flopdispatch, name)
    if not (inspect.isclass(public) and issubclass(public, Exception)):
        assert ">>> " in (inspect.getdoc(public) or "")
