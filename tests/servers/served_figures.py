"""What is measured and not asserted: for the command that holds measurements to their budgets."""

from __future__ import annotations

import json
import os

# Read once: the tests' own environment has no METERKIT_ variables.
FIGURES = os.environ.get("METERKIT_TEST_FIGURES")


def note_figure(name: str, **values: object) -> None:
    """Append one line of JSON to the file that ``METERKIT_TEST_FIGURES`` names; without it, do nothing."""
    if FIGURES:
        line = json.dumps({"name": name, **values}) + "\n"
        descriptor = os.open(FIGURES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # in one piece, as other processes write here too
        finally:
            os.close(descriptor)
