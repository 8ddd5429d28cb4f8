"""Models whose reports are looked at, and what is read of a page."""

from __future__ import annotations

from typing import Any

import torch
from playwright.sync_api import Locator, Page
from torch import Tensor, nn

from flopdispatch import Profile, count


class Net(nn.Module):
    """A residual body, a head and a module that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x) + x)
        return out


def net() -> Profile:
    """Five rows of four: FLOPS has what each module costs, worked out by hand."""
    with torch.no_grad():
        return count(Net(), (5, 4))


# 2 x MACs, and a bias that is added to each output element
FLOPS = {
    "Net.body.0": 2 * 5 * 4 * 8 + 5 * 8,
    "Net.body.1": 0,
    "Net.body.2": 2 * 5 * 8 * 4 + 5 * 4,
    "Net.body": 360 + 340,
    "Net.head": 2 * 5 * 4 * 2 + 5 * 2,
    "Net": 360 + 340 + 90 + 20,  # and 20 for the residual
}
MACS = {
    "Net": 360, "Net.body": 320, "Net.body.0": 160, "Net.body.1": 0, "Net.body.2": 160,
    "Net.head": 40,
}  # fmt: skip
PARAMS = {
    "Net": 98, "Net.body": 76, "Net.body.0": 40, "Net.body.1": 0, "Net.body.2": 36, "Net.head": 10,
    "Net.unused": 12,
}  # fmt: skip


def rows(page: Page) -> Locator:
    """The rows of modules that are on the page."""
    return page.locator("#tree tbody tr:not(.gap)")


def paths(page: Page) -> list[str]:
    """The paths of the modules whose rows are on the page."""
    found: list[str] = rows(page).locator("th").evaluate_all("cells => cells.map(c => c.title)")
    return found


def exact(text: str) -> int:
    """The number that was written in full."""
    return int(text.replace(",", ""))


def figures(page: Page, column: str) -> dict[str, int]:
    """A column of the rows on the page, in full; what never ran has none."""
    heads: list[str] = page.locator("#tree thead th").all_inner_texts()
    place = [head.split(" ")[0] for head in heads].index(column)
    cells: list[list[str]] = rows(page).evaluate_all(
        "(rows, i) => rows.map(row => [row.cells[0].title, row.cells[i].title])", place
    )
    return {path: exact(text) for path, text in cells if text}


def bars(page: Page) -> dict[str, dict[str, Any]]:
    """The bars of the icicle by what is read out of them up to the comma."""
    found: list[dict[str, Any]] = page.locator("#icicle [role=treeitem]").evaluate_all(
        """bars => bars.map(bar => {
            const { left, right, top, width } = bar.getBoundingClientRect();
            return { label: bar.getAttribute("aria-label"), left, right, top, width };
        })"""
    )
    return {bar["label"].split(",")[0]: bar for bar in found}


def focused(page: Page) -> str:
    """What the element with the focus is called."""
    found: str = page.evaluate(
        """() => {
            const element = document.activeElement;
            return element.getAttribute("aria-label") ?? element.cells?.[0].title ?? element.id;
        }"""
    )
    return found
