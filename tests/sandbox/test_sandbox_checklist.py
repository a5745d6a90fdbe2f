"""The fidelity checklist has 50 lines, and each has a test that is named after it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_line_has_a_test():
    """Somewhere: most stand here, what is about deliveries with the webhooks."""
    texts = (path.read_text() for path in TESTS.rglob("test_*.py"))
    lines = {
        int(number)
        for text in texts
        for number in re.findall(r"^ *(?:async )?def test_line_(\d\d)_", text, re.MULTILINE)
    }

    assert set(range(1, 51)) == lines
