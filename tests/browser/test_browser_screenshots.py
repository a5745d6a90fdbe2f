"""The images in the docs are what the browser shows; METERKIT_SCREENSHOTS=docs/images renews them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from business import trade

README = Path(__file__).parents[2] / "README.md"

DIRECTORY = os.environ.get("METERKIT_SCREENSHOTS")
"""Where they go; before a test removes the variable."""


@pytest.mark.parametrize("framework", ["flask"], indirect=True)
def test_the_screenshots(visit, framework, stripe, tmp_path):
    """The customer's page and the team's overview, after three months of business."""
    directory = Path(DIRECTORY or tmp_path / "images")
    directory.mkdir(parents=True, exist_ok=True)
    trade(stripe, tmp_path, months=3)
    visit.log_in(company="acme", staff="yes")
    for name, path, said in (
        ("customer", "/billing/", "In good standing"),
        ("team", "/billing/team", "Companies with usage 4"),
    ):
        visit.until(path, said)
        visit.page.set_viewport_size({"width": 900, "height": 1000})
        visit.page.screenshot(path=directory / f"{name}-page.png")

        assert (directory / f"{name}-page.png").stat().st_size > 10_000
        assert f"docs/images/{name}-page.png" in README.read_text()
