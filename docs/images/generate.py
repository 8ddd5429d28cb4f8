"""Take docs/images/report.png anew: the HTML report of a training step of ResNet-50."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torchvision
from playwright.sync_api import sync_playwright

from flopdispatch import count, on_meta

PICTURE = Path(__file__).with_name("report.png")


def main() -> None:
    """Open the page in Chromium and take its first screen."""
    profile = count(on_meta(torchvision.models.resnet50), (32, 3, 224, 224), backward=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        profile.save(page)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1280, "height": 1180}, color_scheme="light")
        view.goto(page.as_uri())
        view.get_by_role("treeitem", name="layer3, ").hover()
        view.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
