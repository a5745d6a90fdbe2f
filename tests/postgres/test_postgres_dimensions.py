"""The specification of usage by values, which stands in `test_usage_by_values`, on PostgreSQL."""

from __future__ import annotations

import pytest
from test_usage_by_values import (
    kit,
    test_a_correction_names_the_values,
    test_stripe_gets_one_sum,
    test_the_sums_are_those_of_the_meter,
    test_two_kits_fold_the_same_company_and_values,
    test_usage_from_before_has_no_values,
    test_values_go_with_the_usage,
)

__all__ = [  # what pytest is to find here
    "kit",
    "test_a_correction_names_the_values",
    "test_stripe_gets_one_sum",
    "test_the_sums_are_those_of_the_meter",
    "test_two_kits_fold_the_same_company_and_values",
    "test_usage_from_before_has_no_values",
    "test_values_go_with_the_usage",
]

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]


@pytest.fixture
def ledger(postgres_url):
    """Where it is kept."""
    return postgres_url
