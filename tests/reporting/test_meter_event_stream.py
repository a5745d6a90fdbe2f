"""Reports in Stripe's stream: a hundred at once, each counted once, whatever becomes of the answers."""

from __future__ import annotations

import pytest
from stripe_account import api

from meterkit import ConfigurationError, Meter
from meterkit.outbox.outbox import Outbox

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

HOUR = 3600
STREAM = "/v2/billing/meter_event_stream"
SESSION = "/v2/billing/meter_event_session"


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that reports in the stream."""
    return make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url, report_via="stream")


@pytest.fixture
def used(kit, stripe, clock):
    """A function that lets so many customers use 1, 2, 3, ... in an hour that then ends; answers them."""

    def used(number):
        made = api(stripe).customers
        customers = [made.create({}).id for _ in range(number)]
        for quantity, customer in enumerate(customers, 1):
            kit.record("calls", customer, quantity)
        clock.advance(HOUR)
        return customers

    return used


def posts(stripe, path=STREAM):
    return [len(request.params.get("events", ())) for request in stripe.requests if request.path == path]


def totals(stripe, customers):
    return [stripe.usage("calls", customer) for customer in customers]


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def test_a_hundred_at_once(kit, stripe, used):
    """In one session; nothing else leaves than in the first version."""
    customers = used(205)
    summary = kit.report()

    assert [*range(1, 206)] == totals(stripe, customers)
    assert ([100, 100, 5], 1) == (posts(stripe), len(posts(stripe, SESSION)))
    assert (205, 0, "") == (summary.sent, summary.postponed, summary.error)
    (event, *_) = [request.params["events"][0] for request in stripe.requests if request.path == STREAM]
    assert {"event_name", "identifier", "payload", "timestamp"} == set(event)
    assert {"stripe_customer_id", "value"} == set(event["payload"])


def test_a_session_that_has_expired(kit, stripe, used, clock):
    """Another is opened, and the same is sent again."""
    first = used(1)
    kit.report()
    second = used(1)
    kit.report()

    assert ([1, 1], 2) == (totals(stripe, [*first, *second]), len(posts(stripe, SESSION)))


@pytest.mark.parametrize("fault", ["reset_after", "reset_before", "502_after", "500_after", "timeout_before", "429"])
@pytest.mark.parametrize("times", [1, 4])
def test_an_answer_that_is_lost(kit, stripe, used, clock, fault, times):
    """All of them are sent again under their identifiers, in this report or the next, and each counts once."""
    customers = used(3)
    stripe.fail(fault, path=STREAM, times=times)
    kit.report()
    stripe.heal()
    clock.advance(HOUR)
    kit.report()

    assert [1, 2, 3] == totals(stripe, customers)
    assert {"counted": 6, "sent": 6, "balanced": True} == books(kit)


@pytest.mark.parametrize("fault", ["reset_after", "reset_before"])
def test_an_answer_that_is_lost_for_a_day(kit, stripe, used, clock, fault):
    """Stripe's sums tell what it has."""
    customers = used(3)
    stripe.fail(fault, path=STREAM, times=4)
    kit.report()
    stripe.heal()
    clock.advance(25 * HOUR)
    for _ in range(2):
        kit.report()

    assert [1, 2, 3] == totals(stripe, customers)
    assert {"counted": 6, "sent": 6, "balanced": True} == books(kit)


def test_no_session_can_be_had(kit, stripe, used):
    """Nothing is sent, and the events wait; they are surely not there."""
    used(2)
    stripe.fail("429", path=SESSION, times=4)
    summary = kit.report()

    assert (2, 0, []) == (summary.postponed, summary.sent, posts(stripe))
    assert [None, None] == [
        report.unknown_since for report in Outbox(kit.process().database(), clock=kit.clock).reports()
    ]
    kit.report()
    assert {"counted": 3, "sent": 3, "balanced": True} == books(kit)


def test_a_way_that_is_none(make_kit):
    """It fails while building."""
    with pytest.raises(ConfigurationError, match="'v1' or 'stream'"):
        make_kit(report_via="v2")


@pytest.mark.parametrize("via", ["v1", "stream"])
def test_a_meter_with_other_payload_keys(make_kit, stripe, clock, via):
    """Stripe finds customer and quantity under them; the other meter's are its own."""
    api(stripe).billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "customer_id"},
            "value_settings": {"event_payload_key": "amount"},
        }
    )
    customer = api(stripe).customers.create({}).id
    tokens = Meter("tokens", customer_key="customer_id", value_key="amount")
    kit = make_kit(tokens, Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url, report_via=via)
    kit.record("tokens", customer, 50)
    kit.record("calls", customer, 3)
    clock.advance(HOUR)

    assert 2 == kit.report().sent
    assert [50, 3] == [stripe.usage(name, customer) for name in ("tokens", "calls")]
