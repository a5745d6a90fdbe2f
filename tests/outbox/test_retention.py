"""A ledger that lets go of what is old: nothing is billed again, and what is not settled stays."""

from __future__ import annotations

import json
import threading

import pytest
from guard import GUARD
from stripe_account import api

from meterkit import ConfigurationError, Meter
from meterkit.wsgi import MeterMiddleware

pytestmark = pytest.mark.usefixtures("impatient")

DAY = 24 * 3600


@pytest.fixture
def ledger(tmp_path):
    """Where it is kept."""
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def kit(make_kit, stripe, ledger):
    """A kit that keeps usage for 70 days."""
    return make_kit(Meter("calls"), ledger=ledger, stripe_key=stripe.api_key, stripe_base=stripe.url, keep_days=70)


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def test_what_is_old_goes_and_is_not_billed_again(kit, stripe, customer, clock):
    """Of many users and customers, in more than one portion; with its reports."""
    customers = [api(stripe).customers.create({}).id for _ in range(3)]
    for each in customers:
        for user in range(250):
            kit.record("calls", each, 2, user=f"user {user}")
    clock.advance(2 * DAY)
    kit.record("calls", customer, 5)
    clock.advance(3600)
    kit.report()
    clock.advance(69 * DAY)
    kit.report()

    assert [(customer, 5)] == [(row.company, row.quantity) for row in kit.usage()]
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
    clock.advance(2 * DAY)
    kit.report()
    kit.report()
    assert ([], {"balanced": True}) == (kit.usage(), books(kit))
    assert 4 == len(stripe.meter_events)
    assert [500, 500, 500, 5] == [stripe.usage("calls", each) for each in (*customers, customer)]


def test_what_is_not_settled_stays(kit, stripe, customer, clock):
    """What Stripe refuses, what may be there or not, and what nobody pays for; and all that was used beside it."""
    kit.link("acme", customer)
    kit.record("calls", "cus_gone", 3)
    kit.record("calls", "unlinked", 7)
    kit.record("calls", "acme", 11, user="ada")
    clock.advance(3600)
    stripe.fail("reset_before", path="/v1/billing/meter_events", times=8)
    kit.report()
    stripe.heal()
    stripe.fail("502", path="/v1/billing/meters", times=10_000)
    before = books(kit)
    for _ in range(3):
        clock.advance(40 * DAY)
        kit.report()

    assert before["counted"] == books(kit)["counted"] == 21
    assert books(kit)["balanced"]
    assert {"cus_gone": 3, "unlinked": 7, "acme": 11} == {row.company: row.quantity for row in kit.usage()}


def test_what_is_added_to_meanwhile_stays(make_kit, kit, stripe, customer, ledger, clock):
    """Usage that comes late for an old hour is a further report of it, and not the first one once more."""
    sleepy = make_kit(Meter("calls"), ledger=ledger)
    sleepy.record("calls", customer, 2, user="bert")
    kit.record("calls", customer, 5, user="ada")
    clock.advance(3600)
    kit.report()
    clock.advance(71 * DAY)
    kit.record("calls", customer, 1)
    clock.advance(3600)
    kit.flush()
    held = stripe.fail("slow", path="/v1/billing/meter_events")
    report = threading.Thread(target=kit.report)
    report.start()
    assert held.wait(GUARD)
    sleepy.flush()
    held.release()
    report.join()
    kit.report()

    attempts = [request.params for request in stripe.requests if request.path == "/v1/billing/meter_events"]
    assert ["5", "1", "2"] == [params["payload"]["value"] for params in attempts]
    assert {"ada": 5, "bert": 2, None: 1} == {row.user: row.quantity for row in kit.usage()}


def test_what_was_used_is_told_as_before(make_kit, stripe, customer, ledger, clock):
    """Sums by day are kept: a customer sees the twelve months."""
    kit = make_kit(
        Meter("calls", path="/calls"),
        ledger=ledger,
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
        keep_days=70,
        customer_page="/usage",
        identify=lambda _: customer,
    )
    kit.record("calls", customer, 9)
    clock.advance(3600)
    kit.report()
    before = months(kit)
    clock.advance(100 * DAY)
    kit.report()

    assert [] == kit.usage()
    assert [9] == [used for used in before if used]
    assert [9] == [used for used in months(kit) if used]


def months(kit):
    page = MeterMiddleware(lambda *_: [], kit)({"REQUEST_METHOD": "GET", "PATH_INFO": "/usage"}, lambda *_: None)
    return [month["used"]["calls"] for month in json.loads(b"".join(page))["months"]]


def test_without_being_told_it_keeps_everything(make_kit, stripe, customer, clock):
    """For ever."""
    kit = make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.record("calls", customer, 9)
    clock.advance(3600)
    kit.report()
    clock.advance(1000 * DAY)
    kit.report()

    assert [9] == [row.quantity for row in kit.usage()]


@pytest.mark.parametrize("days", [0, 69, -1, 70.5, "70", True])
def test_a_time_that_is_too_short(make_kit, days):
    """It fails while building."""
    with pytest.raises(ConfigurationError, match="keep_days= must be a whole number of days, at least 70"):
        make_kit(keep_days=days)
