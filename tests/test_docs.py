from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.versions import TORCH

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.skipif(TORCH != (2, 15), reason="the page lists the operators of torch 2.15")
def test_the_page_of_formulas_is_what_the_registry_says() -> None:
    made = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert made is not None
    assert made.loader is not None
    generate = module_from_spec(made)
    made.loader.exec_module(generate)
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
