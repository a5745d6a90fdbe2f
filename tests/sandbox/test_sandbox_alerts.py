"""Billing alerts: line 50 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe


@pytest.fixture
def v1(sandbox):
    return stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


@pytest.fixture
def meter(v1):
    return v1.billing.meters.create(
        {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    ).id


@pytest.fixture
def alert(v1, meter):
    """A function that makes an alert."""

    def alert(gte=100, **threshold):
        usage_threshold = {"meter": meter, "gte": gte, "recurrence": "one_time", **threshold}
        return v1.billing.alerts.create(
            {"alert_type": "usage_threshold", "title": "much", "usage_threshold": usage_threshold}
        ).id

    return alert


def use(v1, customer, quantity):
    payload = {"stripe_customer_id": customer, "value": str(quantity)}
    v1.billing.meter_events.create({"event_name": "calls", "payload": payload})


def told(v1):
    events = v1.events.list({"type": "billing.alert.triggered"}).data
    return [(event.data.object.alert.id, event.data.object.customer, event.data.object.value) for event in events[::-1]]


def test_line_50_it_fires_once_for_a_customer(v1, meter, alert):
    """When its usage reaches the threshold; never again."""
    acme, globex = v1.customers.create({}).id, v1.customers.create({}).id
    made = alert()
    for customer, quantity in [(acme, 60), (globex, 99), (acme, 39), (acme, 1), (acme, 500), (globex, 1)]:
        use(v1, customer, quantity)

    assert [(made, acme, 100), (made, globex, 100)] == told(v1)


def test_line_50_earlier_usage_counts_and_new_usage_is_needed(v1, meter, alert):
    """What was used before the alert was made does not fire it by itself."""
    acme = v1.customers.create({}).id
    use(v1, acme, 500)
    made = alert()
    before = told(v1)
    use(v1, acme, 1)

    assert ([], [(made, acme, 501)]) == (before, told(v1))


def test_an_alert_for_one_customer(v1, meter, alert):
    """Others do not fire it."""
    acme, globex = v1.customers.create({}).id, v1.customers.create({}).id
    made = alert(filters=[{"type": "customer", "customer": globex}])
    use(v1, acme, 500)
    use(v1, globex, 500)

    assert [(made, globex, 500)] == told(v1)


def test_an_alert_that_is_not_active(v1, meter, alert):
    """It is silent until it is activated; archived, for ever."""
    acme = v1.customers.create({}).id
    made = alert()
    v1.billing.alerts.deactivate(made)
    use(v1, acme, 500)
    silent = told(v1)
    v1.billing.alerts.activate(made)
    use(v1, acme, 1)
    v1.billing.alerts.archive(made)

    assert ([], [(made, acme, 501)]) == (silent, told(v1))
    assert "archived" == v1.billing.alerts.retrieve(made).status
    with pytest.raises(stripe.InvalidRequestError):
        v1.billing.alerts.activate(made)


def test_at_most_25(v1, meter, alert):
    """For one meter and customer."""
    for _ in range(25):
        alert()

    with pytest.raises(stripe.InvalidRequestError):
        alert()
    assert 25 == len(list(v1.billing.alerts.list({"meter": meter}).auto_paging_iter()))
