"""The specification of what is let go of, which stands in `test_retention`, on PostgreSQL."""

from __future__ import annotations

import pytest
from test_retention import kit, test_what_is_not_settled_stays, test_what_is_old_goes_and_is_not_billed_again

__all__ = [  # what pytest is to find here
    "kit",
    "test_what_is_not_settled_stays",
    "test_what_is_old_goes_and_is_not_billed_again",
]

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]


@pytest.fixture
def ledger(postgres_url):
    """Where it is kept."""
    return postgres_url
