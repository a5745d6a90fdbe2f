"""Shadow mode on PostgreSQL: one host in it beside one that bills, and the sums that are compared."""

from __future__ import annotations

import pytest
from postgres_account import make_customers
from stripe_account import api

pytestmark = pytest.mark.long


def test_hosts_that_are_deployed_one_after_the_other(make_reporting_kit, stripe, clock):
    """Each unit is billed once, by the biller of the host that counted it; keys and the books hold."""
    customers = make_customers(stripe, ["acme"])
    shadow, billing = make_reporting_kit(shadow=True, keep_days=70), make_reporting_kit(keep_days=70)
    shadow.link("acme", customers["acme"])
    for _ in range(3):
        shadow.record("calls", "acme", 7)
        payload = {"stripe_customer_id": customers["acme"], "value": "7"}
        event = {"event_name": "calls", "payload": payload, "timestamp": int(clock.now)}
        api(stripe).billing.meter_events.create(event)
        billing.record("calls", "acme", 10)
        clock.advance(1800)
        shadow.report()
        billing.report()
    clock.advance(3600)
    shadow.flush()
    billing.report()
    books = billing.health()["books"]["calls"]

    assert 51 == stripe.usage("calls", customers["acme"])
    assert (51, 51, True) == (books["counted"], books["sent"], books["balanced"])
    assert [True] == [each.agree for each in billing.reconcile()]
    assert [True] == [each.agrees() for each in shadow.compare()]
    clock.advance(75 * 24 * 3600)
    billing.report()
    assert [] == billing.usage()
    assert billing.health()["books"]["calls"]["balanced"]
