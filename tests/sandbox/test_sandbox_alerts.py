"""Billing alerts: lines 49 and 50 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import DAY, START, refused, streamed

pytestmark = pytest.mark.long

TRIGGERED = "billing.alert.triggered"


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


def alert(shop, meter, gte=100, customer=None):
    """An alert on a meter, for one customer or for each."""
    threshold = {"meter": meter.id, "gte": gte, "recurrence": "one_time"}
    if customer is not None:
        threshold["filters"] = [{"type": "customer", "customer": customer.id}]
    return shop.v1.billing.alerts.create(
        {"alert_type": "usage_threshold", "title": "Much", "usage_threshold": threshold}
    )


def triggered(shop):
    """Whom alerts have told of, in order: customer and value."""
    events = shop.v1.events.list({"type": TRIGGERED}).data
    return [(event.data.object.customer, event.data.object.value) for event in reversed(events)]


def test_line_50_an_alert_says_what_it_watches(shop, meter, customer):
    """Active from the start."""
    answer = alert(shop, meter, customer=customer).to_dict()

    assert answer.pop("id").startswith("alrt_")
    assert answer == {
        "object": "billing.alert",
        "alert_type": "usage_threshold",
        "livemode": False,
        "status": "active",
        "title": "Much",
        "usage_threshold": {
            "filters": [{"customer": customer.id, "type": "customer"}],
            "gte": 100,
            "meter": meter.id,
            "recurrence": "one_time",
        },
    }


def test_line_49_the_event_has_a_snapshot(shop, meter, customer):
    """Alert, customer and value, in the account's API version."""
    one = alert(shop, meter)
    shop.send(customer, "100.5")

    (event,) = shop.v1.events.list({"type": TRIGGERED}).data
    assert event.api_version == "2026-10-28.endive"
    assert event.data.object.to_dict() == {
        "object": "billing.alert_triggered",
        "alert": one.to_dict(),
        "created": START,
        "customer": customer.id,
        "livemode": False,
        "value": 100,
    }


def test_line_50_it_fires_once_per_customer_for_ever(shop, sandbox, meter, customer):
    """Not per period, not per crossing, and not again when it is reactivated."""
    one, other = alert(shop, meter), shop.customer()
    for value in (99, 1, 1):
        shop.send(customer, value)
    shop.send(customer, -50)
    sandbox.advance(seconds=40 * DAY)
    shop.send(customer, 500)
    shop.v1.billing.alerts.deactivate(one.id)
    shop.v1.billing.alerts.activate(one.id)
    shop.send(customer, 500)
    shop.send(other, 300)

    assert triggered(shop) == [(customer.id, 100), (other.id, 300)]


def test_line_50_it_needs_usage_after_its_creation_and_counts_what_was_before(shop, meter, customer):
    """A threshold that was passed already is told of with the next event."""
    shop.send(customer, 150)
    alert(shop, meter)
    assert triggered(shop) == []
    shop.send(customer, 1)

    assert triggered(shop) == [(customer.id, 151)]


@pytest.mark.parametrize("how", ["v2", "stream"])
def test_line_50_usage_of_v2_counts(shop, meter, customer, how):
    """However it came."""
    alert(shop, meter)
    if how == "v2":
        shop.send_v2(customer, "100")
    else:
        shop.stream(streamed(customer, "60"), streamed(customer, "60"))

    assert [name for name, _ in triggered(shop)] == [customer.id]


def test_line_50_usage_counts_when_summaries_see_it(make_shop):
    """After the processing lag."""
    shop = make_shop(event_lag=30)
    meter, customer = shop.meter(), shop.customer()
    alert(shop, meter)
    shop.send(customer, 60)
    shop.sandbox.advance(seconds=29)
    shop.send(customer, 60)
    shop.sandbox.advance(seconds=29)
    assert triggered(shop) == []
    shop.sandbox.advance(seconds=1)

    assert triggered(shop) == [(customer.id, 120)]


def test_line_50_a_filter_names_one_customer(shop, meter, customer):
    """Others pass unseen, and so do other meters."""
    rows = shop.meter("rows")
    alert(shop, meter, customer=customer)
    shop.send(shop.customer(), 200)
    shop.send(customer, 200, event_name=rows.event_name)
    assert triggered(shop) == []
    shop.send(customer, 200)

    assert triggered(shop) == [(customer.id, 200)]


def test_line_50_an_inactive_alert_is_silent(shop, meter, customer):
    """Until it is active again and usage comes."""
    one = alert(shop, meter)
    assert shop.v1.billing.alerts.deactivate(one.id).status == "inactive"
    shop.send(customer, 200)
    assert shop.v1.billing.alerts.activate(one.id).status == "active"
    assert triggered(shop) == []
    shop.send(customer, 1)

    assert triggered(shop) == [(customer.id, 201)]
    assert "already active" in refused(shop.v1.billing.alerts.activate, one.id).user_message


def test_line_50_an_archived_alert_is_gone(shop, meter, customer):
    """From lists and from the API, for ever."""
    one, other = alert(shop, meter), alert(shop, meter)
    assert shop.v1.billing.alerts.archive(one.id).status == "archived"
    shop.send(customer, 200)

    assert [each.id for each in shop.v1.billing.alerts.list().data] == [other.id]
    assert len(triggered(shop)) == 1
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.billing.alerts.retrieve(one.id)
    assert caught.value.http_status == 404


def test_line_50_alerts_are_listed_by_meter(shop, meter):
    """Newest first."""
    first, _, third = alert(shop, meter), alert(shop, shop.meter("rows")), alert(shop, meter)

    assert [each.id for each in shop.v1.billing.alerts.list({"meter": meter.id}).data] == [third.id, first.id]
    assert shop.v1.billing.alerts.retrieve(first.id).to_dict() == first.to_dict()


def test_line_50_25_alerts_look_at_a_customer_and_meter(shop, meter, customer):
    """Those for everybody are among them; another customer's and archived ones are not."""
    for _ in range(20):
        alert(shop, meter)
    own = [alert(shop, meter, customer=customer) for _ in range(5)]

    assert "maximum of 25" in refused(alert, shop, meter, customer=customer).user_message
    refused(alert, shop, meter)
    alert(shop, meter, customer=shop.customer())
    shop.v1.billing.alerts.archive(own[0].id)
    alert(shop, meter, customer=customer)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"meter": "mtr_none"}, "usage_threshold[meter]"),
        ({"gte": 0}, "usage_threshold[gte]"),
        ({"recurrence": "monthly"}, "usage_threshold[recurrence]"),
        ({"filters": [{"type": "customer", "customer": "cus_1"}]}, "usage_threshold[filters][0][customer]"),
        ({"filters": [{"type": "customer"}] * 2}, "usage_threshold[filters]"),
    ],
)
def test_line_50_what_makes_no_alert(shop, meter, change, param):
    """With the parameter at fault."""
    threshold = {"meter": meter.id, "gte": 1, "recurrence": "one_time", **change}
    params = {"alert_type": "usage_threshold", "title": "Much", "usage_threshold": threshold}

    assert refused(shop.v1.billing.alerts.create, params).param == param
