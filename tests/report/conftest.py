"""Fixtures of the reports' tests."""

from tests.browser import browser, opens

__all__ = ["browser", "opens"]
