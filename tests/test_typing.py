"""What type checkers say to users: the types of the public API are a contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_the_types_of_the_public_api():
    """What users may write passes mypy in its strict mode, and what they may not does not."""
    contract = str(ROOT / "tests" / "typing_contract" / "api.py")

    report, errors, status = api.run(["--strict", "--config-file", str(ROOT / "pyproject.toml"), contract])

    assert (0, "") == (status, errors), report
