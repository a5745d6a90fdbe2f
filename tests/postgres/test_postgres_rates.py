"""The specifications of prices by value, which stand in `tests/rating`, on PostgreSQL."""

from __future__ import annotations

import pytest
from followed_account import api, stripe
from test_amounts import (
    make_following_kit,
    rating_kit,
    test_a_correction_takes_back_what_it_cost,
    test_a_rate_stays_when_the_table_changes,
    test_five_hundred_models_to_the_cent,
    test_fractions_of_millionths_are_not_lost,
    test_retention,
    test_two_kits_rate_the_usage_of_one_company,
    test_units_are_not_reported,
    test_what_has_no_price_is_named,
)
from test_lines import (
    lines_kit,
    test_a_line_for_each_value,
    test_a_period_without_an_invoice,
    test_reports_are_repeated,
    test_usage_without_a_subscription_is_named,
    test_what_comes_too_late,
)
from test_rerate import test_it_is_billed_once, test_it_is_taken_back, wrong

__all__ = [  # what pytest is to find here
    "api",
    "lines_kit",
    "make_following_kit",
    "rating_kit",
    "stripe",
    "test_a_correction_takes_back_what_it_cost",
    "test_a_line_for_each_value",
    "test_a_period_without_an_invoice",
    "test_a_rate_stays_when_the_table_changes",
    "test_five_hundred_models_to_the_cent",
    "test_fractions_of_millionths_are_not_lost",
    "test_it_is_billed_once",
    "test_it_is_taken_back",
    "test_reports_are_repeated",
    "test_retention",
    "test_two_kits_rate_the_usage_of_one_company",
    "test_units_are_not_reported",
    "test_usage_without_a_subscription_is_named",
    "test_what_comes_too_late",
    "test_what_has_no_price_is_named",
    "wrong",
]

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]


@pytest.fixture
def ledger(postgres_url):
    """Where it is kept."""
    return postgres_url
