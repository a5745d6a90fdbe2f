"""The check of what Stripe is asked finds what is wrong with it."""

from __future__ import annotations

import pytest
from stripe_types import complaints

EVENT = {"event_name": "calls", "payload": {"stripe_customer_id": "cus_1", "value": "2"}, "timestamp": "1772366400"}
METER = {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}


@pytest.mark.parametrize(
    ("request_line", "params", "complaint"),
    [
        ("POST /v1/billing/meter_events", EVENT, None),
        ("POST /v1/billing/meter_events", {**EVENT, "timestamp": "now"}, "timestamp is 'now', no int"),
        ("POST /v1/billing/meter_events", {**EVENT, "meter": "calls"}, "meter is unknown"),
        ("POST /v1/billing/meter_events", {"event_name": "calls"}, "payload is missing"),
        ("POST /v1/billing/meters", METER, None),
        ("POST /v1/billing/meters", {**METER, "default_aggregation": {"formula": "median"}}, "formula is 'median'"),
        ("POST /v1/subscriptions", {"customer": "cus_1", "items": [{"price": "p", "deleted": "yes"}]}, "items"),
        ("POST /v1/subscriptions", {"customer": "cus_1", "items": {"price": "p"}}, "items is not a list"),
        ("GET /v1/prices/price_1", {"expand": ["tiers"]}, None),
        ("POST /v1/made_up", {}, "is not among the known operations"),
    ],
)
def test_what_is_wrong_is_named(request_line, params, complaint):
    """A parameter that there is not, one that is missing, and values of another form."""
    found = complaints(*request_line.split(" "), params)

    assert [] == found if complaint is None else complaint in "; ".join(found)
