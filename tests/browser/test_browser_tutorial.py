"""The images of the tutorial are what its reader sees in a browser; METERKIT_SCREENSHOTS=docs/images renews them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tutorial_steps import Reader, steps

DIRECTORY = os.environ.get("METERKIT_SCREENSHOTS")
"""Where they go; before a test removes the variable."""

DASHBOARD = "meterkit dashboard"
SHOWN = {
    "tutorial-team": ("", "", "Cost of usage so far 4,205.00 USD"),
    "tutorial-invoice": ("/company?id=acme", "a[href*='invoice?']", "4,200.00 USD"),
}
"""By image: the page below the team's, the link that is followed there, and what is then said."""


def test_the_tutorials_images(chromium, tmp_path):
    """A reader who opens the dashboard sees the usage of the month, and then the invoice that is paid."""
    directory = Path(DIRECTORY or tmp_path / "images")
    directory.mkdir(parents=True, exist_ok=True)
    seen = []
    window = chromium.new_context(viewport={"width": 900, "height": 760}).new_page()
    project = tmp_path / "project"
    project.mkdir()
    with Reader(project) as reader:
        for step in steps():
            reader.do(step)
            if step.kind != "image":
                continue
            address = re.search(r"http://\S+", reader.said(DASHBOARD))[0]
            path, link, said = SHOWN[step.text]
            window.goto(address)
            window.goto(address.split("?")[0] + path)
            if link:
                window.locator(link).first.click()
            assert said in " ".join(window.inner_text("body").split())
            window.screenshot(path=directory / f"{step.text}.png")
            seen.append(step.text)

    assert list(SHOWN) == seen
