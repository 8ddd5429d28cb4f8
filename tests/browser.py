"""A real browser for the tests of pages: the installed Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

Opens = Callable[..., Page]

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a file's tests; where none is installed they are skipped, in CI they fail.

    Playwright's event loop runs as long as it: other files' tests have to be without.
    """
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium is installed: apt-get install chromium"
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]  # as root, in a container
        found = playwright.chromium.launch(executable_path=path, args=arguments)
        yield found
        found.close()


@pytest.fixture
def opens(browser: Browser, tmp_path: Path) -> Iterator[Opens]:
    """Opens a page from a file, and sees that it loads nothing else and reports no error."""
    trouble: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(text: str, size: tuple[int, int] = DESKTOP, **options: Any) -> Page:
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15000)
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        requests: list[str] = []
        page.goto(path.as_uri())
        assert requests == [path.as_uri()]
        page.on("request", lambda request: trouble.append(f"request: {request.url}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
