"""``meterkit dashboard`` in a real browser: the team's pages, for who has its address."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from guard import GUARD
from served_shop import environment_of_shop
from visit import Visit


@pytest.fixture
def address(stripe, tmp_path):
    """What the command prints: where it serves, and the token."""
    command = [sys.executable, "-m", "meterkit", "dashboard", "shop:kit"]
    environment = {**environment_of_shop(stripe, tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1\S+", line)))
        finally:
            process.terminate()
            process.wait(GUARD)


def test_the_dashboard(chromium, address):
    """It opens with its token, which does not stay in the address, and has no barrier or error."""
    with Visit(chromium, address.partition("?")[0]) as visit:
        visit.page.goto(address)

        assert "Overview" in visit.page.get_by_role("heading", level=1).inner_text()
        assert address != visit.page.url
        visit.inspect()
